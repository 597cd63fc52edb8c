// Reading MessagePack, as notepack.io 3.x and 2.x write it.

package wire

import (
	"math"
	"strconv"
	"unicode/utf8"
)

type kind uint8

const (
	kindNil kind = iota + 1
	kindUndefined
	kindBool
	kindInt
	kindUint
	kindFloat
	kindString
	kindBinary
	kindArray
	kindMap
	kindDate
	kindNoDate // a date outside of JavaScript's range
	kindExt
)

// token is a value, or the head of an array or map.
type token struct {
	kind kind
	n    int    // elements of an array, pairs of a map; 1 for true; type of an ext
	u    uint64 // the bits of an int, uint, or float64; of a date the milliseconds since 1970, an int
	s    string // a string's, binary's or ext's content
}

// reader reads MessagePack. After the first error every token is nil and every array or
// map is empty.
type reader struct {
	s   string
	i   int
	err error
}

func (r *reader) fail(err error) token {
	if r.err == nil {
		r.err = err
	}
	r.i = len(r.s)
	return token{kind: kindNil}
}

func (r *reader) rest() int { return len(r.s) - r.i }

// take returns the next n bytes.
func (r *reader) take(n int) (string, bool) {
	if n < 0 || n > r.rest() {
		r.fail(ErrMalformed)
		return "", false
	}
	s := r.s[r.i : r.i+n]
	r.i += n
	return s, true
}

// uint reads n bytes, big endian.
func (r *reader) uint(n int) uint64 {
	s, ok := r.take(n)
	if !ok {
		return 0
	}
	return bigEndian(s)
}

func bigEndian(s string) (v uint64) {
	for i := range len(s) {
		v = v<<8 | uint64(s[i])
	}
	return v
}

// done returns the first error, or ErrMalformed if there is input left.
func (r *reader) done() error {
	if r.err == nil && r.rest() > 0 {
		r.err = ErrMalformed
	}
	return r.err
}

// token reads the next value; of an array or map, only the head.
func (r *reader) token() token {
	if r.err != nil || r.rest() == 0 {
		return r.fail(ErrMalformed)
	}
	c := r.s[r.i]
	r.i++
	switch {
	case c < 0x80:
		return token{kind: kindInt, u: uint64(c)}
	case c < 0x90:
		return r.head(kindMap, int(c&0x0f))
	case c < 0xa0:
		return r.head(kindArray, int(c&0x0f))
	case c < 0xc0:
		return r.content(kindString, int(c&0x1f))
	case c >= 0xe0:
		return token{kind: kindInt, u: uint64(int64(int8(c)))}
	}
	switch c {
	case 0xc0:
		return token{kind: kindNil}
	case 0xc2, 0xc3:
		return token{kind: kindBool, n: int(c & 1)}
	case 0xc4, 0xc5, 0xc6:
		return r.content(kindBinary, r.length(c-0xc4))
	case 0xc7, 0xc8, 0xc9:
		n := r.length(c - 0xc7)
		return r.ext(n, false)
	case 0xca:
		return token{kind: kindFloat, u: math.Float64bits(float64(math.Float32frombits(uint32(r.uint(4)))))}
	case 0xcb:
		return token{kind: kindFloat, u: r.uint(8)}
	case 0xcc, 0xcd, 0xce, 0xcf:
		return token{kind: kindUint, u: r.uint(1 << (c - 0xcc))}
	case 0xd0:
		return token{kind: kindInt, u: uint64(int64(int8(r.uint(1))))}
	case 0xd1:
		return token{kind: kindInt, u: uint64(int64(int16(r.uint(2))))}
	case 0xd2:
		return token{kind: kindInt, u: uint64(int64(int32(r.uint(4))))}
	case 0xd3:
		return token{kind: kindInt, u: r.uint(8)}
	case 0xd4, 0xd5, 0xd6, 0xd7, 0xd8:
		return r.ext(1<<(c-0xd4), true)
	case 0xd9, 0xda, 0xdb:
		return r.content(kindString, r.length(c-0xd9))
	case 0xdc, 0xdd:
		return r.head(kindArray, r.length(c-0xdb))
	case 0xde, 0xdf:
		return r.head(kindMap, r.length(c-0xdd))
	}
	return r.fail(ErrMalformed) // 0xc1 is unused
}

// length reads a length of 1, 2 or 4 bytes. It is at most MaxInt32, so that it is not
// negative where an int has 32 bits.
func (r *reader) length(size byte) int { return int(min(r.uint(1<<size), math.MaxInt32)) }

// head returns an error if there are more elements than bytes left, so that no caller
// loops four billion times.
func (r *reader) head(k kind, n int) token {
	if need := n; r.err != nil || need > r.rest() || k == kindMap && need > r.rest()/2 {
		return r.fail(ErrMalformed)
	}
	return token{kind: k, n: n}
}

func (r *reader) content(k kind, n int) token {
	s, ok := r.take(n)
	if !ok || r.err != nil {
		return r.fail(ErrMalformed)
	}
	return token{kind: k, s: s}
}

const (
	extCustom    = 0  // notepack 2.x: undefined, Date, ArrayBuffer
	extTimestamp = -1 // the standard's timestamp
)

// ext reads the type and content of an extension of n bytes. fixed: the length follows from
// the extension's first byte.
func (r *reader) ext(n int, fixed bool) token {
	typ := int8(r.uint(1))
	s, ok := r.take(n)
	if !ok || r.err != nil {
		return r.fail(ErrMalformed)
	}
	switch {
	case typ == extCustom && fixed && n == 1:
		return token{kind: kindUndefined}
	case typ == extCustom && fixed && n == 8:
		return dateOf(int64(bigEndian(s)), 0)
	case typ == extCustom && !fixed:
		return token{kind: kindBinary, s: s}
	case typ == extTimestamp && fixed && n == 4:
		return dateOf(int64(bigEndian(s))*1000, 0)
	case typ == extTimestamp && fixed && n == 8:
		v := bigEndian(s)
		return dateOf(int64(v&(1<<34-1))*1000, int64(v>>34))
	case typ == extTimestamp && !fixed && n == 12:
		return dateOfSeconds(int64(bigEndian(s[4:])), int64(bigEndian(s[:4])))
	case typ == extTimestamp && (!fixed || n == 4 || n == 8):
		return r.fail(ErrMalformed) // notepack.io would read beyond its end
	}
	return token{kind: kindExt, n: int(typ), s: s}
}

// jsDateRange is the largest distance of a JavaScript Date from 1970, in milliseconds.
const jsDateRange = 8_640_000_000_000_000

func dateOf(ms, ns int64) token {
	ms += ns / 1_000_000
	if ms < -jsDateRange || ms > jsDateRange {
		return token{kind: kindNoDate}
	}
	return token{kind: kindDate, u: uint64(ms)}
}

func dateOfSeconds(s, ns int64) token {
	if s < -jsDateRange/1000-1 || s > jsDateRange/1000 {
		return token{kind: kindNoDate}
	}
	return dateOf(s*1000, ns)
}

// skip skips one value of any depth, without recursion.
func (r *reader) skip() {
	for need := 1; need > 0 && r.err == nil; need-- {
		if r.short() {
			continue
		}
		switch t := r.token(); t.kind {
		case kindArray:
			need += t.n
		case kindMap:
			need += 2 * t.n
		default: // the token is the whole value
		}
	}
}

// short skips one value if it is a small integer or a short string, as most are, and reports
// whether it did.
func (r *reader) short() bool {
	if r.rest() == 0 {
		return false
	}
	n := 1
	switch c := r.s[r.i]; {
	case c < 0x80 || c >= 0xe0:
	case c >= 0xa0 && c < 0xc0:
		n += int(c & 0x1f)
	default:
		return false
	}
	if n > r.rest() {
		return false
	}
	r.i += n
	return true
}

// value skips one value and returns its bytes.
func (r *reader) value() string {
	start := r.i
	r.skip()
	return r.s[start:r.i]
}

// array reads an array of any length and calls f for each element, which f must
// read. null and undefined are an empty array, as `new Set(null)` is.
func (r *reader) array(f func()) {
	t := r.token()
	switch t.kind {
	case kindArray:
		for n := t.n; n > 0 && r.err == nil; n-- {
			f()
		}
	case kindNil, kindUndefined:
	default:
		r.fail(ErrMalformed)
	}
}

// object reads a map and calls f for each value, which f must read. null and
// undefined are an empty object.
func (r *reader) object(f func(key string)) {
	t := r.token()
	switch t.kind {
	case kindMap:
		for n := t.n; n > 0 && r.err == nil; n-- {
			if key, ok := r.key(); ok {
				f(key)
			}
		}
	case kindNil, kindUndefined:
	default:
		r.fail(ErrMalformed)
	}
}

// isMap reports whether the next value is a map. It reads nothing.
func (r *reader) isMap() bool {
	if r.err != nil || r.rest() == 0 {
		return false
	}
	c := r.s[r.i]
	return c >= 0x80 && c < 0x90 || c == 0xde || c == 0xdf
}

// key reads a map's key: a string or a number.
func (r *reader) key() (string, bool) {
	s, ok := r.token().name()
	if !ok {
		r.fail(ErrMalformed)
	}
	return s, ok && r.err == nil
}

// string reads a room's name: a string, or a number, which Node allows.
func (r *reader) string() string {
	s, ok := r.token().name()
	if !ok {
		r.fail(ErrMalformed)
	}
	return s
}

// stringOrEmpty reads any value, and returns it if it is a string, otherwise "".
func (r *reader) stringOrEmpty() string {
	if r.err != nil {
		return ""
	}
	at := r.i
	if t := r.token(); t.kind == kindString {
		return validUTF8(t.s)
	}
	if r.err == nil {
		r.i = at
		r.skip()
	}
	return ""
}

// boolean reads any value, and reports whether it is true.
func (r *reader) boolean() bool {
	if r.err != nil {
		return false
	}
	at := r.i
	if t := r.token(); t.kind == kindBool {
		return t.n == 1
	}
	if r.err == nil {
		r.i = at
		r.skip()
	}
	return false
}

// integer reads an integer.
func (r *reader) integer() int {
	switch t := r.token(); t.kind {
	case kindInt, kindUint:
		return int(t.u)
	default:
		r.fail(ErrMalformed)
		return 0
	}
}

// number reads any value, and returns it if it is a number, otherwise 0.
func (r *reader) number() float64 {
	if r.err != nil {
		return 0
	}
	at := r.i
	switch t := r.token(); t.kind {
	case kindInt:
		return float64(int64(t.u))
	case kindUint:
		return float64(t.u)
	case kindFloat:
		return math.Float64frombits(t.u)
	default: // not a number, or malformed
	}
	if r.err == nil {
		r.i = at
		r.skip()
	}
	return 0
}

// names reads an array of room names.
func (r *reader) names() (names []string) {
	r.array(func() { names = append(names, r.string()) })
	return names
}

// name returns a token as the name of a room or member.
func (t token) name() (string, bool) {
	switch t.kind {
	case kindString:
		return validUTF8(t.s), true
	case kindInt:
		return strconv.FormatInt(int64(t.u), 10), true
	case kindUint:
		return strconv.FormatUint(t.u, 10), true
	case kindFloat:
		return string(appendFloat(nil, math.Float64frombits(t.u))), true
	default:
		return "", false
	}
}

// validUTF8 replaces invalid UTF-8 by U+FFFD, as Node's decoder does.
func validUTF8(s string) string {
	if utf8.ValidString(s) {
		return s
	}
	return string([]rune(s))
}
