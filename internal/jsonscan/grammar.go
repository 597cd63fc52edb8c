// The grammar: scanning one element of a text, without building a value.

package jsonscan

import (
	"encoding/binary"
	"math/bits"
	"unicode/utf8"
)

// Every function for an element takes the position where it starts and returns the
// position after it, or one of these errors.
const (
	badSyntax = -1
	tooDeep   = -2
)

// whole turns end, the position after the outermost value, into an error unless only
// whitespace follows.
func whole(b []byte, end int) error {
	switch {
	case end == tooDeep:
		return ErrDepth
	case end < 0 || skipSpace(b, end) != len(b):
		return ErrSyntax
	}
	return nil
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && b[i] <= ' ' && (b[i] == ' ' || b[i] == '\n' || b[i] == '\r' || b[i] == '\t') {
		i++
	}
	return i
}

// value scans any value; depth is the number of levels that it may still open.
func value(b []byte, i, depth int) int {
	if i >= len(b) {
		return badSyntax
	}
	switch b[i] {
	case '"':
		return str(b, i+1)
	case '{':
		return object(b, i+1, depth)
	case '[':
		return array(b, i+1, depth, nil)
	case 't':
		return literal(b, i, "true")
	case 'f':
		return literal(b, i, "false")
	case 'n':
		return literal(b, i, "null")
	}
	return number(b, i)
}

// array scans an array from the position after the opening bracket. It appends the
// elements to out unless out is nil.
func array(b []byte, i, depth int, out *[][]byte) int {
	if depth <= 0 {
		return tooDeep
	}
	if i = skipSpace(b, i); i < len(b) && b[i] == ']' {
		return i + 1
	}
	for {
		end := value(b, i, depth-1)
		if end < 0 {
			return end
		}
		if out != nil {
			*out = append(*out, b[i:end:end])
		}
		if i = skipSpace(b, end); i >= len(b) {
			return badSyntax
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case ']':
			return i + 1
		default:
			return badSyntax
		}
	}
}

// object scans an object from the position after the opening brace.
func object(b []byte, i, depth int) int {
	if depth <= 0 {
		return tooDeep
	}
	if i = skipSpace(b, i); i < len(b) && b[i] == '}' {
		return i + 1
	}
	for {
		if i >= len(b) || b[i] != '"' {
			return badSyntax
		}
		if i = str(b, i+1); i < 0 {
			return i
		}
		if i = skipSpace(b, i); i >= len(b) || b[i] != ':' {
			return badSyntax
		}
		if i = value(b, skipSpace(b, i+1), depth-1); i < 0 {
			return i
		}
		if i = skipSpace(b, i); i >= len(b) {
			return badSyntax
		}
		switch b[i] {
		case ',':
			i = skipSpace(b, i+1)
		case '}':
			return i + 1
		default:
			return badSyntax
		}
	}
}

// str scans a string from the position after the opening quote.
func str(b []byte, i int) int {
	for {
		i = skipPlain(b, i)
		if i >= len(b) {
			return badSyntax
		}
		switch c := b[i]; {
		case c == '"':
			return i + 1
		case c == '\\':
			if i = escape(b, i+1); i < 0 {
				return i
			}
		case c < ' ':
			return badSyntax
		default:
			// Letters outside ASCII come in runs.
			for i < len(b) && b[i] >= utf8.RuneSelf {
				_, n := utf8.DecodeRune(b[i:])
				if n == 1 {
					return badSyntax
				}
				i += n
			}
		}
	}
}

// skipPlain skips ASCII characters that stand for themselves inside a string, eight
// bytes at a time.
//
// In each of the four terms the top bit of a byte ends up set when that byte is not
// ASCII, below space, a quote or a backslash. A borrow can spoil only bytes above one
// that is marked already, so the lowest mark is exact.
func skipPlain(b []byte, i int) int {
	const ones, tops = 0x0101010101010101, 0x8080808080808080
	for i+8 <= len(b) {
		w := binary.LittleEndian.Uint64(b[i:])
		stop := (w | (w - ones*' ') | ((w ^ ones*'"') - ones) | ((w ^ ones*'\\') - ones)) & tops
		if stop != 0 {
			return i + bits.TrailingZeros64(stop)/8
		}
		i += 8
	}
	for i < len(b) && b[i] >= ' ' && b[i] < utf8.RuneSelf && b[i] != '"' && b[i] != '\\' {
		i++
	}
	return i
}

// escape scans an escape from the position after the backslash.
func escape(b []byte, i int) int {
	if i >= len(b) {
		return badSyntax
	}
	switch b[i] {
	case '"', '\\', '/', 'b', 'f', 'n', 'r', 't':
		return i + 1
	case 'u':
		if len(b)-i >= 5 && hex4(b[i+1:]) >= 0 {
			return i + 5
		}
	}
	return badSyntax
}

// hex4 reads the four hex digits at the start of b. It returns -1 if they are not hex
// digits.
func hex4(b []byte) rune {
	var r rune
	for _, c := range b[:4] {
		switch {
		case isDigit(c):
			c -= '0'
		case 'a' <= c|0x20 && c|0x20 <= 'f':
			c = (c | 0x20) - 'a' + 10
		default:
			return -1
		}
		r = r<<4 | rune(c)
	}
	return r
}

func literal(b []byte, i int, word string) int {
	if len(b)-i < len(word) || string(b[i:i+len(word)]) != word {
		return badSyntax
	}
	return i + len(word)
}

func number(b []byte, i int) int {
	if b[i] == '-' {
		i++
	}
	if i < len(b) && b[i] == '0' {
		i++
	} else if i = digits(b, i); i < 0 {
		return i
	}
	if i < len(b) && b[i] == '.' {
		if i = digits(b, i+1); i < 0 {
			return i
		}
	}
	if i < len(b) && b[i]|0x20 == 'e' {
		if i++; i < len(b) && (b[i] == '+' || b[i] == '-') {
			i++
		}
		return digits(b, i)
	}
	return i
}

// digits scans one or more digits.
func digits(b []byte, i int) int {
	start := i
	for i < len(b) && isDigit(b[i]) {
		i++
	}
	if i == start {
		return badSyntax
	}
	return i
}

func isDigit(c byte) bool { return c-'0' <= 9 }
