// Model: a catalog as the code of a client needs it, with an identifier for everything.

package realtimegen

import (
	"bytes"
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"reflect"
	"slices"
	"strings"
	"unicode"

	"github.com/rodando/realtime"
)

// model is a catalog as the code of a client needs it.
type model struct {
	spaces   []space
	types    []goType // of the payloads and of their fields, each once, in the order of their names
	refusals []realtime.RefusalDoc
}

// space is a namespace and its events.
type space struct {
	name   string // such as /drivers
	ident  string // such as Drivers
	calls  []event
	events []event
}

// event is what has one name in one namespace and one direction.
type event struct {
	name    string
	docs    []realtime.EventDoc // more than one when it has several payloads
	untyped bool
}

// goType is a struct, or a string with a list of values, that has a name in the client's code.
type goType struct {
	name   string
	t      reflect.Type
	values []string // of a string; else it is a struct
}

// names are the identifiers of Go's types in the code of a client.
type names struct {
	of       map[reflect.Type]string
	taken    map[string]bool
	reserved map[string]bool // of the language, and of the client's own code
	all      []goType
}

// newModel returns the model of a catalog. No type gets one of the reserved names, which have spaces
// between them, or a name that begins with a namespace's and ends with one of the endings.
func newModel(c realtime.Catalog, reserved string, endings ...string) (*model, *names) {
	n := &names{of: map[reflect.Type]string{}, taken: map[string]bool{}, reserved: map[string]bool{}}
	for name := range strings.FieldsSeq(reserved) {
		n.reserved[name] = true
	}
	m := &model{refusals: c.Refusals}
	idents := map[string]bool{}
	for _, ns := range c.Namespaces {
		s := space{name: ns, ident: unique(cmp.Or(pascal(ns), "Root"), idents)}
		for _, end := range endings {
			n.reserved[s.ident+end] = true
		}
		m.spaces = append(m.spaces, s)
	}
	maps.Copy(n.taken, n.reserved)
	for i, ns := range c.Namespaces {
		s := &m.spaces[i]
		for _, d := range c.Events {
			if d.Namespace != ns {
				continue
			}
			list := &s.events
			if d.FromClient {
				list = &s.calls
			}
			i := slices.IndexFunc(*list, func(e event) bool { return e.name == d.Event })
			if i < 0 {
				i = len(*list)
				*list = append(*list, event{name: d.Event, untyped: d.Untyped})
			}
			(*list)[i].docs = append((*list)[i].docs, d)
			kind := "Payload"
			if d.FromClient {
				kind = "Body"
			}
			n.add(d.Payload, pascal(d.Event)+kind)
			n.add(d.AckData, pascal(d.Event)+"Data")
		}
	}
	m.types = slices.SortedFunc(slices.Values(n.all), func(a, b goType) int { return cmp.Compare(a.name, b.name) })
	return m, n
}

// add names a type and those of its fields. A type without a name in Go gets the other one, and so
// does one whose name is reserved.
func (n *names) add(t reflect.Type, otherwise string) {
	if t == nil {
		return
	}
	d := describe(t)
	named := goType{t: d.Struct}
	if d.Enum != nil {
		named = goType{t: d.Enum, values: d.Values}
	}
	if named.t == nil || n.of[named.t] != "" {
		return
	}
	name := pascal(unqualified(named.t.Name()))
	if name == "" || n.reserved[name] {
		name = otherwise
	}
	named.name = unique(name, n.taken)
	n.of[named.t] = named.name
	n.all = append(n.all, named)
	if named.values != nil {
		return
	}
	for _, f := range Fields(named.t) {
		n.add(cmp.Or(f.Enum, f.Struct), named.name+pascal(f.Name))
	}
}

// scalars are the names of a language for JSON's types.
type scalars map[string]string

// name returns the name of a field's type, without null. list wraps the name of an element.
func (n *names) name(f Field, s scalars, list func(string) string) string {
	base, depth := f.Type, 0
	for strings.HasSuffix(base, "[]") {
		base, depth = strings.TrimSuffix(base, "[]"), depth+1
	}
	name, scalar := s[base]
	switch {
	case f.Enum != nil:
		name = n.of[f.Enum]
	case f.Struct != nil:
		name = n.of[f.Struct]
	case !scalar:
		panic("realtimegen: no name for " + f.Type)
	}
	for range depth {
		name = list(name)
	}
	return name
}

// unique returns the name, with a number if it is taken, and takes it.
func unique(name string, taken map[string]bool) string {
	got := name
	for n := 2; taken[got]; n++ {
		got = fmt.Sprint(name, n)
	}
	taken[got] = true
	return got
}

// unqualified returns the name of a type without the packages of its type arguments.
func unqualified(name string) string {
	var b strings.Builder
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r == '[' || r == ']' || r == ',' || r == ' ' || r == '*' }) {
		part = part[strings.LastIndexByte(part, '/')+1:]
		b.WriteString(part[strings.LastIndexByte(part, '.')+1:] + " ")
	}
	return b.String()
}

// words returns the words of a name: driver:status_update and driverStatusUpdate have three.
func words(name string) []string {
	var all []string
	for part := range strings.FieldsFuncSeq(name, func(r rune) bool { return r > unicode.MaxASCII || !unicode.IsLetter(r) && !unicode.IsDigit(r) }) {
		from := 0
		for i := 1; i < len(part); i++ {
			if unicode.IsUpper(rune(part[i])) && !unicode.IsUpper(rune(part[i-1])) {
				all, from = append(all, part[from:i]), i
			}
		}
		all = append(all, part[from:])
	}
	return all
}

// pascal returns the name as DriverStatusUpdate. It begins with a letter, or is empty.
func pascal(name string) string {
	var b strings.Builder
	for _, w := range words(name) {
		b.WriteString(strings.ToUpper(w[:1]) + w[1:])
	}
	return startsWithLetter(b.String(), "N")
}

// camel returns the name as driverStatusUpdate.
func camel(name string) string {
	var b strings.Builder
	for i, w := range words(name) {
		switch {
		case i > 0:
			b.WriteString(strings.ToUpper(w[:1]) + w[1:])
		case strings.ToUpper(w) == w:
			b.WriteString(strings.ToLower(w))
		default:
			b.WriteString(strings.ToLower(w[:1]) + w[1:])
		}
	}
	return startsWithLetter(b.String(), "n")
}

func startsWithLetter(name, prefix string) string {
	if name != "" && unicode.IsDigit(rune(name[0])) {
		return prefix + name
	}
	return name
}

// about returns what a client's code says of an event.
func about(d realtime.EventDoc) []string {
	lines := []string{oneLine(d.Doc)}
	if d.Audience != "" {
		to := "To: " + oneLine(d.Audience) + "."
		if d.NewestOnly {
			to += " A slow receiver gets the newest only."
		}
		lines = append(lines, to)
	}
	if len(d.Codes) > 0 {
		codes := make([]string, len(d.Codes))
		for i, c := range d.Codes {
			codes[i] = string(c)
		}
		lines = append(lines, "May fail with "+strings.Join(codes, ", ")+".")
	}
	return slices.DeleteFunc(lines, func(l string) bool { return l == "" })
}

// meaning returns what a client's code says of a field, on one line.
func meaning(f Field) string {
	var all []string
	if f.Doc != "" {
		all = append(all, oneLine(f.Doc))
	}
	if f.Null != "" {
		all = append(all, "null: "+oneLine(f.Null))
	}
	return strings.Join(all, "; ")
}

// quoteJSON returns a string literal in double quotes.
func quoteJSON(text string) string {
	var b bytes.Buffer
	encoder := json.NewEncoder(&b)
	encoder.SetEscapeHTML(false)
	if err := encoder.Encode(text); err != nil {
		panic("realtimegen: " + err.Error()) // a string can be encoded
	}
	return strings.TrimSpace(b.String())
}
