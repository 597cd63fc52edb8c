// Conversion of arguments: from JSON texts with placeholders for binary values to
// MessagePack, which contains the binary values, and back.

package wire

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strconv"

	"github.com/rodando/realtime/internal/jsonscan"
)

// appendArgs writes the arguments as a MessagePack array.
func appendArgs(b []byte, a Args, l Limits) ([]byte, error) {
	e := encoder{b: appendArrayHead(b, len(a.Values)), attachments: a.Attachments}
	for _, v := range a.Values {
		if err := checkValue(v, len(a.Attachments), l); err != nil {
			return nil, err
		}
		e.json = v
		e.i = 0
		e.value()
	}
	return e.b, nil
}

func checkValue(v json.RawMessage, attachments int, l Limits) error {
	switch err := jsonscan.Valid(v, l.Depth); {
	case errors.Is(err, jsonscan.ErrDepth):
		return ErrTooDeep
	case err != nil:
		return fmt.Errorf("%w: %w", ErrMalformed, err)
	}
	if attachments > 0 {
		if _, err := jsonscan.Placeholders(v, attachments); err != nil {
			return ErrPlaceholder
		}
	}
	return nil
}

// validValues checks arguments that arrived as JSON.
func validValues(values []json.RawMessage, l Limits) ([]json.RawMessage, error) {
	for _, v := range values {
		if err := checkValue(v, 0, l); err != nil {
			return nil, err
		}
	}
	return values, nil
}

// encoder turns JSON that jsonscan has accepted into MessagePack.
type encoder struct {
	b           []byte
	json        []byte
	i           int
	attachments [][]byte
}

func (e *encoder) space() {
	for e.i < len(e.json) && e.json[e.i] <= ' ' {
		e.i++
	}
}

// next returns the next byte that is not white space.
func (e *encoder) next() byte {
	e.space()
	return e.json[e.i]
}

func (e *encoder) value() {
	switch c := e.next(); c {
	case '{':
		e.object()
	case '[':
		e.array()
	case '"':
		e.b = appendString(e.b, e.string())
	case 't':
		e.i += len("true")
		e.b = appendBool(e.b, true)
	case 'f':
		e.i += len("false")
		e.b = appendBool(e.b, false)
	case 'n':
		e.i += len("null")
		e.b = appendNil(e.b)
	default:
		e.number()
	}
}

func (e *encoder) array() {
	at, n := len(e.b), 0
	e.b = append(e.b, 0)
	e.i++
	for e.next() != ']' {
		e.value()
		n++
		if e.next() == ',' {
			e.i++
		}
	}
	e.i++
	e.b = closeHead(e.b, at, 0x90, 0xdc, n)
}

func (e *encoder) object() {
	at, n := len(e.b), 0
	placeholder, num := false, -1
	e.b = append(e.b, 0)
	e.i++
	for e.next() != '}' {
		key := e.string()
		e.b = appendString(e.b, key)
		e.space()
		e.i++ // the colon
		first := e.next()
		start := e.i
		e.value()
		n++
		if len(e.attachments) > 0 {
			switch string(key) {
			case "_placeholder":
				placeholder = first == 't'
			case "num":
				num = -1
				if v, err := strconv.Atoi(string(e.json[start:e.i])); err == nil {
					num = v
				}
			}
		}
		if e.next() == ',' {
			e.i++
		}
	}
	e.i++
	if placeholder && num >= 0 && num < len(e.attachments) {
		e.b = appendBinary(e.b[:at], e.attachments[num])
		return
	}
	e.b = closeHead(e.b, at, 0x80, 0xde, n)
}

// string reads a string and returns its content.
func (e *encoder) string() []byte {
	e.space()
	start := e.i
	if end := jsonscan.Plain(e.json, start+1); e.json[end] == '"' {
		e.i = end + 1
		return e.json[start+1 : end]
	}
	for e.i++; e.json[e.i] != '"'; e.i++ {
		if e.json[e.i] == '\\' {
			e.i++
		}
	}
	e.i++
	s, _ := jsonscan.String(e.json[start:e.i])
	return s
}

func (e *encoder) number() {
	start, integer := e.i, true
scan:
	for ; e.i < len(e.json); e.i++ {
		switch c := e.json[e.i]; {
		case c >= '0' && c <= '9', c == '-':
		case c == '.', c == 'e', c == 'E', c == '+':
			integer = false
		default:
			break scan
		}
	}
	text := string(e.json[start:e.i])
	if integer {
		if v, err := strconv.ParseInt(text, 10, 64); err == nil {
			e.b = appendInt(e.b, v)
			return
		}
		if v, err := strconv.ParseUint(text, 10, 64); err == nil {
			e.b = appendUint(e.b, v)
			return
		}
	}
	f, _ := strconv.ParseFloat(text, 64)
	if math.IsInf(f, 0) { // as JSON.stringify does
		e.b = appendNil(e.b)
		return
	}
	e.b = appendNumber(e.b, f)
}

// decodeArgs decodes s, an array of arguments.
func decodeArgs(s string, l Limits) (Args, error) {
	r := &reader{s: s}
	head := r.token()
	if r.err == nil && head.kind != kindArray {
		return Args{}, ErrMalformed
	}
	// JSON takes more room than MessagePack: quotes, commas, and the digits of numbers.
	d := decoder{r: r, l: l, b: make([]byte, 0, len(s)+len(s)/4+16)}
	values := make([]json.RawMessage, 0, min(head.n, 16))
	for range head.n {
		v := d.text()
		if r.err != nil {
			return Args{}, r.err
		}
		values = append(values, v)
	}
	return d.args(values)
}

// decodeArg decodes s, one argument.
func decodeArg(s string, l Limits) (Args, error) {
	d := decoder{r: &reader{s: s}, l: l}
	return d.args([]json.RawMessage{d.text()})
}

// decoder turns MessagePack into JSON texts and attachments.
type decoder struct {
	r           *reader
	l           Limits
	b           []byte
	attachments [][]byte
	suspicious  bool // an object has a member _placeholder
	buffers     bool // write binary values as JSON.stringify writes a Buffer
}

func (d *decoder) args(values []json.RawMessage) (Args, error) {
	switch err := d.r.done(); {
	case err != nil:
		return Args{}, err
	case d.suspicious && len(d.attachments) > 0:
		return Args{}, ErrPlaceholder
	}
	return Args{Values: values, Attachments: d.attachments}, nil
}

// text converts one value. The result has no spare capacity, so appending to it copies.
func (d *decoder) text() json.RawMessage {
	start := len(d.b)
	d.value(d.l.Depth)
	return json.RawMessage(d.b[start:len(d.b):len(d.b)])
}

func (d *decoder) value(depth int) {
	t := d.r.token()
	switch t.kind {
	case kindNil, kindUndefined, kindNoDate:
		d.b = append(d.b, "null"...)
	case kindBool:
		d.b = strconv.AppendBool(d.b, t.n == 1)
	case kindInt:
		d.b = strconv.AppendInt(d.b, int64(t.u), 10)
	case kindUint:
		d.b = strconv.AppendUint(d.b, t.u, 10)
	case kindFloat:
		d.b = appendFloat(d.b, math.Float64frombits(t.u))
	case kindString:
		d.b = appendJSONString(d.b, t.s)
	case kindBinary:
		d.binary(t.s)
	case kindDate:
		d.b = appendDate(d.b, int64(t.u))
	case kindExt:
		d.b = append(d.b, '[')
		d.b = strconv.AppendInt(d.b, int64(t.n), 10)
		d.b = append(d.b, ',')
		d.binary(t.s)
		d.b = append(d.b, ']')
	case kindArray:
		d.array(t.n, depth-1)
	case kindMap:
		d.object(t.n, depth-1)
	}
}

func (d *decoder) binary(s string) {
	if d.buffers {
		d.b = append(d.b, `{"type":"Buffer","data":[`...)
		for i := range len(s) {
			if i > 0 {
				d.b = append(d.b, ',')
			}
			d.b = strconv.AppendUint(d.b, uint64(s[i]), 10)
		}
		d.b = append(d.b, "]}"...)
		return
	}
	if len(d.attachments) >= d.l.Attachments {
		d.r.fail(ErrTooLarge)
		return
	}
	d.b = append(d.b, `{"_placeholder":true,"num":`...)
	d.b = strconv.AppendInt(d.b, int64(len(d.attachments)), 10)
	d.b = append(d.b, '}')
	d.attachments = append(d.attachments, []byte(s))
}

func (d *decoder) array(n, depth int) {
	if depth < 0 {
		d.r.fail(ErrTooDeep)
		return
	}
	d.b = append(d.b, '[')
	for i := range n {
		if d.r.err != nil {
			return
		}
		if i > 0 {
			d.b = append(d.b, ',')
		}
		d.value(depth)
	}
	d.b = append(d.b, ']')
}

func (d *decoder) object(n, depth int) {
	if depth < 0 {
		d.r.fail(ErrTooDeep)
		return
	}
	d.b = append(d.b, '{')
	comma := false
	for range n {
		key, ok := d.r.key()
		if !ok {
			return
		}
		if key == "_placeholder" {
			d.suspicious = true
		}
		if d.undefined() { // JSON.stringify omits it
			continue
		}
		if comma {
			d.b = append(d.b, ',')
		}
		comma = true
		d.b = append(appendJSONString(d.b, key), ':')
		d.value(depth)
	}
	d.b = append(d.b, '}')
}

// undefined skips the next value if it is the undefined of notepack 2.x, and reports
// whether it was.
func (d *decoder) undefined() bool {
	const undefined = "\xd4\x00"
	if d.r.rest() < len(undefined)+1 || d.r.s[d.r.i:d.r.i+len(undefined)] != undefined {
		return false
	}
	d.r.token()
	return true
}
