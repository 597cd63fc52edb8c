// Native: what the languages of phones, which use names of events and classes, have in common.

package realtimegen

import (
	"cmp"
	"fmt"
	"reflect"
	"slices"
	"strings"
	"unicode"
)

// constant is a name of an event, in a client's code.
type constant struct {
	ident, event string
	docs         []string
}

// constants returns the names of a namespace's events: what the app sends, and what the server
// sends. ident makes an identifier of a name, and typeOf names the type of a payload.
func (s space) constants(ident func(string) string, typeOf func(Field) string) (all []constant) {
	taken := map[string]bool{ident("namespace"): true}
	list := func(events []event, from string) {
		for _, e := range events {
			c := constant{ident: unique(ident(e.name), taken), event: e.name, docs: []string{from + carried(e, typeOf)}}
			for _, d := range e.docs {
				c.docs = append(c.docs, about(d)...)
			}
			all = append(all, c)
		}
	}
	list(s.calls, "The app sends it.")
	list(s.events, "The server sends it.")
	return all
}

// carried says of what types an event's payload is, and its ack's data.
func carried(e event, typeOf func(Field) string) string {
	if e.untyped {
		return ""
	}
	name := func(t reflect.Type) string {
		if t == nil {
			return "none"
		}
		return typeOf(describe(t))
	}
	var payloads []string
	for _, d := range e.docs {
		if p := name(d.Payload); !slices.Contains(payloads, p) {
			payloads = append(payloads, p)
		}
	}
	text := " Payload: " + strings.Join(payloads, " or ") + "."
	if e.docs[0].FromClient {
		text += " The ack's data: " + name(e.docs[0].AckData) + "."
	}
	var answers []string
	for _, d := range e.docs {
		if a := name(d.AckData); d.Query && !slices.Contains(answers, a) {
			answers = append(answers, a)
		}
	}
	if len(answers) > 0 {
		text += " The app answers; its ack's argument: " + strings.Join(answers, " or ") + "."
	}
	return text
}

// upper returns the name as DRIVER_STATUS_UPDATE.
func upper(name string) string {
	all := words(name)
	for i, w := range all {
		all[i] = strings.ToUpper(w)
	}
	return startsWithLetter(strings.Join(all, "_"), "N")
}

// safe returns a function that makes an identifier with ident, and changes those that are words of
// the language.
func safe(ident func(string) string, change func(string) string, keywords string) func(string) string {
	reserved := map[string]bool{}
	for w := range strings.FieldsSeq(keywords) {
		reserved[w] = true
	}
	return func(name string) string {
		made := cmp.Or(ident(name), "value")
		if reserved[made] {
			return change(made)
		}
		return made
	}
}

// members returns the fields of a struct with an identifier for each.
func members(t reflect.Type, ident func(string) string) []namedField {
	taken := map[string]bool{}
	var all []namedField
	for _, f := range Fields(t) {
		all = append(all, namedField{f, unique(ident(f.Name), taken)})
	}
	return all
}

type namedField struct {
	Field
	ident string
}

// missing reports whether a value of the field may be null or absent.
func (f namedField) missing() bool { return f.Nullable || f.Optional }

// twice reports whether null and absent are two values of the field. The others have one for both.
func (f namedField) twice() bool { return f.Nullable && f.Optional }

// elementOf returns the type of a list's elements.
func elementOf(f Field) (Field, bool) {
	element, isList := strings.CutSuffix(f.Type, "[]")
	f.Type = element
	return f, isList
}

// quoteText returns a string literal. special are the characters that need a backslash, the quote
// first; format, such as \\u%04x, stands for a character that cannot be seen.
func quoteText(text, special, format string) string {
	var b strings.Builder
	b.WriteString(special[:1])
	for _, r := range text {
		switch {
		case strings.ContainsRune(special, r):
			b.WriteString(`\` + string(r))
		case r > 0xffff || unicode.IsPrint(r):
			b.WriteRune(r)
		default:
			fmt.Fprintf(&b, format, r)
		}
	}
	b.WriteString(special[:1])
	return b.String()
}
