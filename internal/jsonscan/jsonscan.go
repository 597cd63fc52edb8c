// Package jsonscan checks and splits JSON text from untrusted peers, and decodes objects
// into a few Go types. The scanner builds no values and allocates nothing. Every inbound
// packet passes through it once, before any other code reads the payload.
//
// It accepts exactly RFC 8259 in valid UTF-8. All functions may be called concurrently.
package jsonscan

import (
	"bytes"
	"errors"
	"unicode/utf16"
	"unicode/utf8"
)

// MaxDepth caps the depth that a caller may ask for. The scanner recurses once per
// level, so a careless limit would let a peer exhaust the stack.
const MaxDepth = 10_000

// The errors of this package. Their texts repeat nothing of the input.
var (
	ErrSyntax      = errors.New("json: invalid syntax")
	ErrDepth       = errors.New("json: nested too deep")
	ErrNotArray    = errors.New("json: not an array")
	ErrPlaceholder = errors.New("json: invalid binary placeholder")
)

// Valid returns nil if b is exactly one JSON text with at most maxDepth arrays and
// objects open at once. The first offense in b decides which error it returns.
func Valid(b []byte, maxDepth int) error {
	return whole(b, value(b, skipSpace(b, 0), min(maxDepth, MaxDepth)))
}

// Array appends the elements of the JSON array b to dst. An element aliases b and has
// no whitespace around it. The array itself is the first level of depth. On error dst
// is returned with its old length.
func Array(dst [][]byte, b []byte, maxDepth int) ([][]byte, error) {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '[' {
		if err := Valid(b, maxDepth); err != nil {
			return dst, err
		}
		return dst, ErrNotArray
	}
	out := dst
	if err := whole(b, array(b, i+1, min(maxDepth, MaxDepth), &out)); err != nil {
		return dst, err
	}
	return out, nil
}

// Crowded reports whether b, valid JSON or not, has more array elements and object
// members than limit. Once split, a megabyte of tiny elements would take many times
// that in memory. Crowded counts commas; it skips those inside strings only when the
// total reaches the limit.
func Crowded(b []byte, limit int) bool {
	if bytes.Count(b, []byte{','}) < limit {
		return false
	}
	commas := 0
	for i := 0; i < len(b); i++ {
		switch b[i] {
		case ',':
			commas++
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
		}
	}
	return commas >= limit
}

// Plain returns the position of the first byte of b, from i on, that does not stand for itself in
// a string of ASCII characters: its closing quote, unless there is an escape or another alphabet.
func Plain(b []byte, i int) int { return skipPlain(b, i) }

// String returns the content of the JSON string b. It aliases b unless there are
// escapes to resolve. An unpaired surrogate becomes U+FFFD. ok is false when b is
// anything else than one string without whitespace around it.
func String(b []byte) (s []byte, ok bool) {
	if len(b) < 2 || b[0] != '"' || str(b, 1) != len(b) {
		return nil, false
	}
	end := len(b) - 1
	raw := b[1:end:end]
	if bytes.IndexByte(raw, '\\') < 0 {
		return raw, true
	}
	return unescape(make([]byte, 0, len(raw)), raw), true
}

const (
	placeholderKey = "_placeholder"
	numKey         = "num"
)

// Flags that Placeholders keeps for an open object.
const (
	isPlaceholder byte = 1 << iota
	hasIndex
)

// Placeholders counts the objects in b that stand for a binary attachment,
// {"_placeholder":true,"num":n}. It returns ErrPlaceholder when one of them has no n in
// [0,count). b must have passed Valid or Array; for other input the result is
// undefined, but there is no panic and the scan ends.
func Placeholders(b []byte, count int) (found int, err error) {
	// The scan goes from token to token with its own stack, so one level of depth costs
	// a byte and not a stack frame. Only objects ever get flags: a string followed by a
	// colon is a member name of the innermost container.
	stack := make([]byte, 0, 64)
	for i := 0; i < len(b); {
		switch b[i] {
		case '{', '[':
			stack = append(stack, 0)
			i++
		case '}', ']':
			top := len(stack) - 1
			if top < 0 {
				return 0, ErrSyntax
			}
			if flags := stack[top]; flags&isPlaceholder != 0 {
				if flags&hasIndex == 0 {
					return 0, ErrPlaceholder
				}
				found++
			}
			stack = stack[:top]
			i++
		case '"':
			end := str(b, i+1)
			if end < 0 {
				return 0, ErrSyntax
			}
			raw := b[i+1 : end-1]
			if i = skipSpace(b, end); i == len(b) || b[i] != ':' {
				continue
			}
			i = skipSpace(b, i+1)
			top := len(stack) - 1
			if top < 0 {
				return 0, ErrSyntax
			}
			// A flag is set or cleared, so that the last of equal names wins.
			switch rest := b[i:]; {
			case named(raw, placeholderKey):
				stack[top] &^= isPlaceholder
				if literal(rest, 0, "true") > 0 {
					stack[top] |= isPlaceholder
				}
			case named(raw, numKey):
				stack[top] &^= hasIndex
				if isIndex(rest, count) {
					stack[top] |= hasIndex
				}
			}
		default:
			i++
		}
	}
	if len(stack) != 0 {
		return 0, ErrSyntax
	}
	return found, nil
}

// named reports whether the raw content of a string equals name once its escapes are
// resolved.
func named(raw []byte, name string) bool {
	const longest = len(`\u0000`) // of the escapes of a letter
	if len(raw) < len(name) || len(raw) > longest*len(name) {
		return false
	}
	if bytes.IndexByte(raw, '\\') < 0 {
		return string(raw) == name
	}
	var buf [longest * len(placeholderKey)]byte // the content of a longer one is allocated
	return string(unescape(buf[:0], raw)) == name
}

// isIndex reports whether b starts with a plain integer below count.
func isIndex(b []byte, count int) bool {
	n, i := int64(0), 0
	for ; i < len(b) && isDigit(b[i]); i++ {
		n = n*10 + int64(b[i]-'0')
		if n >= int64(count) || n >= 1<<53 {
			return false
		}
	}
	return i > 0 && n < int64(count) && (i == len(b) || b[i] != '.' && b[i]|0x20 != 'e')
}

// unescape appends the content of a string that str has accepted. The result is never
// longer than raw: an escape for n bytes takes n bytes or more.
func unescape(dst, raw []byte) []byte {
	for {
		i := bytes.IndexByte(raw, '\\')
		if i < 0 {
			return append(dst, raw...)
		}
		dst = append(dst, raw[:i]...)
		c := raw[i+1]
		if c != 'u' {
			dst = append(dst, simpleEscape(c))
			raw = raw[i+2:]
			continue
		}
		r := hex4(raw[i+2:])
		raw = raw[i+6:]
		if utf16.IsSurrogate(r) {
			// If the second escape does not complete the pair, it stays: it may start a
			// pair itself.
			pair := rune(utf8.RuneError)
			if len(raw) >= 6 && raw[0] == '\\' && raw[1] == 'u' {
				pair = utf16.DecodeRune(r, hex4(raw[2:]))
			}
			if r = pair; r != utf8.RuneError {
				raw = raw[6:]
			}
		}
		dst = utf8.AppendRune(dst, r)
	}
}

func simpleEscape(c byte) byte {
	switch c {
	case 'b':
		return '\b'
	case 'f':
		return '\f'
	case 'n':
		return '\n'
	case 'r':
		return '\r'
	case 't':
		return '\t'
	}
	return c
}
