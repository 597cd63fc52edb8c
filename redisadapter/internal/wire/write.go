// Writing MessagePack, as notepack.io writes it.

package wire

import (
	"encoding/binary"
	"math"
)

func appendNil(b []byte) []byte { return append(b, 0xc0) }

func appendBool(b []byte, v bool) []byte {
	if v {
		return append(b, 0xc3)
	}
	return append(b, 0xc2)
}

func appendUint(b []byte, v uint64) []byte {
	switch {
	case v < 0x80:
		return append(b, byte(v))
	case v <= math.MaxUint8:
		return append(b, 0xcc, byte(v))
	case v <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, 0xcd), uint16(v))
	case v <= math.MaxUint32:
		return binary.BigEndian.AppendUint32(append(b, 0xce), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcf), v)
}

func appendInt(b []byte, v int64) []byte {
	switch {
	case v >= 0:
		return appendUint(b, uint64(v))
	case v >= -0x20:
		return append(b, byte(v))
	case v >= math.MinInt8:
		return append(b, 0xd0, byte(v))
	case v >= math.MinInt16:
		return binary.BigEndian.AppendUint16(append(b, 0xd1), uint16(v))
	case v >= math.MinInt32:
		return binary.BigEndian.AppendUint32(append(b, 0xd2), uint32(v))
	}
	return binary.BigEndian.AppendUint64(append(b, 0xd3), uint64(v))
}

// appendNumber writes a float as JavaScript would, where 1.0 is the integer 1.
// An integer of more than 64 bits stays a float, which notepack.io gets wrong.
func appendNumber(b []byte, f float64) []byte {
	const two63 = 1 << 63
	if f == math.Trunc(f) {
		switch {
		case f >= 0 && f < 2*two63:
			return appendUint(b, uint64(f))
		case f < 0 && f >= -two63:
			return appendInt(b, int64(f))
		}
	}
	return binary.BigEndian.AppendUint64(append(b, 0xcb), math.Float64bits(f))
}

func appendString[S string | []byte](b []byte, s S) []byte {
	if n := len(s); n < 0x20 {
		b = append(b, 0xa0|byte(n))
	} else {
		b = appendLength(b, 0xd9, n)
	}
	return append(b, s...)
}

func appendBinary(b, v []byte) []byte {
	return append(appendLength(b, 0xc4, len(v)), v...)
}

// appendLength writes a length of 1, 2 or 4 bytes, after the prefix for that size.
func appendLength(b []byte, prefix byte, n int) []byte {
	switch {
	case n <= math.MaxUint8:
		return append(b, prefix, byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, prefix+1), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, prefix+2), uint32(n))
}

func appendArrayHead(b []byte, n int) []byte { return appendHead(b, 0x90, 0xdc, n) }

func appendMapHead(b []byte, n int) []byte { return appendHead(b, 0x80, 0xde, n) }

func appendHead(b []byte, small, prefix byte, n int) []byte {
	switch {
	case n < 0x10:
		return append(b, small|byte(n))
	case n <= math.MaxUint16:
		return binary.BigEndian.AppendUint16(append(b, prefix), uint16(n))
	}
	return binary.BigEndian.AppendUint32(append(b, prefix+1), uint32(n))
}

// closeHead writes the head of an array or map, whose length was not known before, at the
// byte that was reserved for it. It moves the elements if the head is longer.
func closeHead(b []byte, at int, small, prefix byte, n int) []byte {
	if n < 0x10 {
		b[at] = small | byte(n)
		return b
	}
	var head [5]byte
	h := appendHead(head[:0], small, prefix, n)
	more := len(h) - 1
	b = append(b, h[:more]...) // makes room
	copy(b[at+len(h):], b[at+1:len(b)-more])
	copy(b[at:], h)
	return b
}

func appendNames(b []byte, names []string) []byte {
	b = appendArrayHead(b, len(names))
	for _, n := range names {
		b = appendString(b, n)
	}
	return b
}

func appendMember(b []byte, key, value string) []byte {
	return appendString(appendString(b, key), value)
}
