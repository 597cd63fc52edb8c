// The text of a position, which has a fixed length.

package eventlog

import "strings"

// Digits is the length of the text of a position. A digit has 6 bits.
const Digits = 11

const alphabet = "-0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZ_abcdefghijklmnopqrstuvwxyz"

// PutPosition writes the text of a position.
func PutPosition(b []byte, at uint64) {
	for i := Digits - 1; i >= 0; i-- {
		b[i] = alphabet[at&63]
		at >>= 6
	}
}

// Position returns the position of a text. ok is false if there is none.
func Position(text string) (at uint64, ok bool) {
	if len(text) != Digits {
		return 0, false
	}
	for i := range Digits {
		d := strings.IndexByte(alphabet, text[i])
		if d < 0 || i == 0 && d > 15 { // 11 digits have two bits more than a position
			return 0, false
		}
		at = at<<6 | uint64(d)
	}
	return at, true
}
