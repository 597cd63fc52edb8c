// Fields: the members of a JSON object, read off the Go type that it is encoded from.

package realtimegen

import (
	"encoding"
	"encoding/json"
	"fmt"
	"reflect"
	"strings"
	"time"
)

// Field is a member of a JSON object.
type Field struct {
	Name     string
	Type     string       // string, time, number, integer, boolean, object, any, a Go struct's name, or one of these followed by []
	Struct   reflect.Type // of an object whose members are known; of a list: of its elements
	Values   []string     // of a string that takes only these
	Enum     reflect.Type // the type of such a string
	Optional bool         // may be left out
	Nullable bool
	Null     string // when it is null
	Doc      string
}

// Fields returns the members of the object that a struct is encoded as, embedded ones
// included. A type that is not a struct has none.
func Fields(t reflect.Type) []Field {
	t = deref(t)
	if t.Kind() != reflect.Struct {
		return nil
	}
	var fields []Field
	for _, f := range reflect.VisibleFields(t) {
		name, options, _ := strings.Cut(f.Tag.Get("json"), ",")
		if !f.IsExported() || name == "-" || f.Anonymous && name == "" || hidden(t, f) {
			continue
		}
		if name == "" {
			name = f.Name
		}
		d := describe(f.Type)
		d.Name, d.Doc, d.Null = name, f.Tag.Get("doc"), f.Tag.Get("null")
		d.Optional = strings.Contains(options, "omitempty") || strings.Contains(options, "omitzero")
		switch f.Type.Kind() {
		case reflect.Pointer, reflect.Map, reflect.Slice, reflect.Interface:
			d.Nullable = !d.Optional
		default: // a value of these kinds is never null
		}
		if d.Null == neverNull {
			d.Null, d.Nullable = "", false
		}
		d.Nullable = d.Nullable || d.Null != ""
		fields = append(fields, d)
	}
	return fields
}

// neverNull is the tag null of a slice or map that is never nil.
const neverNull = "-"

// hidden reports whether a struct on the way to an embedded field has a name in JSON
// of its own, or is a time, so that the field is not a member of this object.
func hidden(t reflect.Type, f reflect.StructField) bool {
	for n := 1; n < len(f.Index); n++ {
		outer := t.FieldByIndex(f.Index[:n])
		name, _, _ := strings.Cut(outer.Tag.Get("json"), ",")
		if name != "" || !outer.Anonymous || isText(outer.Type) {
			return true
		}
	}
	return false
}

var (
	marshaler = reflect.TypeFor[json.Marshaler]()
	texter    = reflect.TypeFor[encoding.TextMarshaler]()
	goTime    = reflect.TypeFor[time.Time]()
	raw       = reflect.TypeFor[json.RawMessage]()
)

// isText reports whether a type is a time, which is a string in JSON.
func isText(t reflect.Type) bool {
	t = deref(t)
	if t == goTime {
		return true
	}
	if t.Kind() != reflect.Struct || !t.Implements(marshaler) {
		return false
	}
	f, ok := t.FieldByName("Time")
	return ok && f.Anonymous && f.Type == goTime
}

func deref(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer {
		t = t.Elem()
	}
	return t
}

// describe returns the parts of a Field that follow from its Go type alone.
func describe(t reflect.Type) Field {
	t = deref(t)
	if v, ok := reflect.TypeAssert[interface{ Values() []string }](reflect.Zero(t)); ok {
		return Field{Type: "string", Values: v.Values(), Enum: t}
	}
	switch {
	case isText(t):
		return Field{Type: "time"}
	case t == raw:
		return Field{Type: "any"}
	case t.Implements(texter) && !t.Implements(marshaler):
		return Field{Type: "string"}
	}
	switch t.Kind() {
	case reflect.String:
		return Field{Type: "string"}
	case reflect.Bool:
		return Field{Type: "boolean"}
	case reflect.Float32, reflect.Float64:
		return Field{Type: "number"}
	case reflect.Int, reflect.Int8, reflect.Int16, reflect.Int32, reflect.Int64,
		reflect.Uint, reflect.Uint8, reflect.Uint16, reflect.Uint32, reflect.Uint64:
		return Field{Type: "integer"}
	case reflect.Slice, reflect.Array:
		if t.Elem().Kind() == reflect.Uint8 {
			return Field{Type: "string"} // base64
		}
		d := describe(t.Elem())
		d.Type += "[]"
		return d
	case reflect.Struct:
		return Field{Type: t.Name(), Struct: t}
	case reflect.Map:
		return Field{Type: "object"}
	case reflect.Interface:
		return Field{Type: "any"}
	default:
		panic(fmt.Sprintf("realtimegen: %s can't be encoded as JSON", t))
	}
}
