// Writing JSON, as JSON.stringify writes it.

package wire

import (
	"fmt"
	"math"
	"strconv"
	"time"
	"unicode/utf8"
)

// appendFloat writes a number as JSON.stringify does.
func appendFloat(b []byte, f float64) []byte {
	if math.IsNaN(f) || math.IsInf(f, 0) {
		return append(b, "null"...)
	}
	if f == 0 {
		return append(b, '0') // -0 too
	}
	if abs := math.Abs(f); abs >= 1e-6 && abs < 1e21 {
		return strconv.AppendFloat(b, f, 'f', -1, 64)
	}
	b = strconv.AppendFloat(b, f, 'e', -1, 64)
	if n := len(b); n >= 4 && b[n-2] == '0' && (b[n-3] == '-' || b[n-3] == '+') { // 1e-07
		b[n-2] = b[n-1]
		b = b[:n-1]
	}
	return b
}

const hexDigits = "0123456789abcdef"

// appendJSONString writes a string. It replaces invalid UTF-8 by U+FFFD.
func appendJSONString(b []byte, s string) []byte {
	b = append(b, '"')
	start := 0
	for i := 0; i < len(s); {
		if c := s[i]; c < utf8.RuneSelf {
			i++
			if c >= ' ' && c != '"' && c != '\\' {
				continue
			}
			b = append(b, s[start:i-1]...)
			start = i
			switch c {
			case '"', '\\':
				b = append(b, '\\', c)
			case '\n':
				b = append(b, '\\', 'n')
			case '\r':
				b = append(b, '\\', 'r')
			case '\t':
				b = append(b, '\\', 't')
			default:
				b = append(b, '\\', 'u', '0', '0', hexDigits[c>>4], hexDigits[c&15])
			}
			continue
		}
		v, n := utf8.DecodeRuneInString(s[i:])
		if v == utf8.RuneError && n == 1 {
			b = append(append(b, s[start:i]...), "\ufffd"...)
			start = i + n
		}
		i += n
	}
	return append(append(b, s[start:]...), '"')
}

// appendDate writes a date as Date.toJSON does.
func appendDate(b []byte, ms int64) []byte {
	date := time.UnixMilli(ms).UTC()
	b = append(b, '"')
	switch y := date.Year(); {
	case y < 0:
		b = fmt.Appendf(b, "-%06d", -y)
	case y > 9999:
		b = fmt.Appendf(b, "+%06d", y)
	default:
		b = fmt.Appendf(b, "%04d", y)
	}
	b = date.AppendFormat(b, "-01-02T15:04:05.000")
	return append(b, 'Z', '"')
}
