// YAML: as much of its syntax as a document of objects, lists, strings and JSON needs.

package realtimegen

import (
	"encoding/json"
	"fmt"
	"regexp"
	"strings"
)

// object is a YAML mapping, in order.
type object []member

type member struct {
	name  string
	value any // an object, a list, a string, a bool, or a json.RawMessage
}

type list []any

// writeYAML writes a line or more for each member. begun says that the first line has its
// indentation.
func (o object) writeYAML(b *strings.Builder, indent string, begun bool) {
	for i, m := range o {
		if i > 0 || !begun {
			b.WriteString(indent)
		}
		b.WriteString(scalarYAML(m.name) + ":")
		writeValueYAML(b, m.value, indent)
	}
}

// writeValueYAML writes what follows a colon, and ends the line.
func writeValueYAML(b *strings.Builder, value any, indent string) {
	switch v := value.(type) {
	case object:
		if len(v) == 0 {
			b.WriteString(" {}\n")
			return
		}
		b.WriteString("\n")
		v.writeYAML(b, indent+"  ", false)
	case list:
		if len(v) == 0 {
			b.WriteString(" []\n")
			return
		}
		b.WriteString("\n")
		for _, element := range v {
			b.WriteString(indent + "  - ")
			if o, ok := element.(object); ok && len(o) > 0 {
				o.writeYAML(b, indent+"    ", true)
				continue
			}
			b.WriteString(scalarYAML(element) + "\n")
		}
	default:
		b.WriteString(" " + scalarYAML(v) + "\n")
	}
}

// plain matches strings that mean themselves without quotes.
var (
	plain    = regexp.MustCompile(`^[A-Za-z/$][A-Za-z0-9_/$.-]*$`)
	notPlain = regexp.MustCompile(`(?i)^(true|false|null|yes|no|on|off|y|n)$`)
)

// scalarYAML returns a value on one line. JSON is YAML too.
func scalarYAML(value any) string {
	switch v := value.(type) {
	case string:
		if plain.MatchString(v) && !notPlain.MatchString(v) {
			return v
		}
		return quoteJSON(v)
	case json.RawMessage:
		return spaced(v)
	case object:
		return "{}" // it is empty
	default:
		return fmt.Sprint(v) // a bool
	}
}
