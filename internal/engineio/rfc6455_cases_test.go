// Frames and what a server must make of them, by the sections of RFC 6455: everything but
// text, and close frames.

package engineio_test

import (
	"encoding/binary"
	"fmt"
	"slices"
	"strings"
)

// framingCases are those of section 5.2: every form of the length, in whatever pieces it
// arrives.
func framingCases() (all []frameCase) {
	for _, n := range []int{1, 2, 124, 125, 126, 127, 128, 255, 256, 65534, 65535, 65536, 65537} {
		all = append(all,
			echo(fmt.Sprintf("5.2 text of %d bytes", n), opText, "4"+large(n-1)),
			echo(fmt.Sprintf("5.2 binary of %d bytes", n), opBinary, large(n)))
	}
	all = append(all, echo("5.2 binary without a byte", opBinary, ""))
	for _, n := range []int{125, 126, 65535, 65536} {
		for _, split := range []int{1, 997} {
			if n > 1000 && split == 1 {
				continue
			}
			for op, kind := range kinds {
				fc := echo(fmt.Sprintf("5.2 %s of %d bytes, written by %d", kind, n, split), op, "4"+large(n-1))
				fc.split = split
				all = append(all, fc)
			}
		}
	}
	length := func(first byte, n uint64) []byte {
		return binary.BigEndian.AppendUint64([]byte{first, 0xff}, n)
	}
	mask := [4]byte{1, 2, 3, 4}
	return append(all,
		// Section 5.2 binds the sender; Node's server takes these too.
		echo("5.2 length of 2 in 16 bits", opText, "4a", rawFrame([]byte{0x81, 0xfe, 0, 2}, mask, "4a")),
		echo("5.2 length of 0 in 16 bits", opBinary, "", rawFrame([]byte{0x82, 0xfe, 0, 0}, mask, "")),
		echo("5.2 length of 2 in 64 bits", opText, "4a", rawFrame(length(0x81, 2), mask, "4a")),
		echo("5.2 length of 300 in 64 bits", opBinary, large(300), rawFrame(length(0x82, 300), mask, large(300))),
		broken("5.2 length with the highest bit", protocolError, rawFrame(length(0x82, 1<<63|1), mask, "")),
		broken("5.2 length with the highest bit, of text", protocolError, rawFrame(length(0x81, 1<<63|2), mask, "4a")),
		broken("5.2 length of all ones", protocolError, rawFrame(length(0x82, 1<<64-1), mask, "")),
		broken("5.5 length of a ping in 16 bits", protocolError, rawFrame([]byte{0x89, 0xfe, 0, 2}, mask, "ab")),
		broken("5.5 length of a pong in 64 bits", protocolError, rawFrame(length(0x8a, 2), mask, "ab")),
		broken("5.5 length of a close in 16 bits", protocolError, rawFrame([]byte{0x88, 0xfe, 0, 2}, mask, "\x03\xe8")),
	)
}

// maskingCases are those of section 5.1 and 5.3: a client masks every frame.
func maskingCases() (all []frameCase) {
	for name, mask := range map[string][4]byte{
		"zeros": {}, "ones": {0xff, 0xff, 0xff, 0xff}, "one byte": {0, 0, 0x55, 0}, "of its own": {0x34, 'a', 0xc3, 0x28},
	} {
		for op, kind := range kinds {
			all = append(all, echo("5.3 "+kind+" masked with "+name, op, "4"+large(99), rawFrame([]byte{0x80 | op, 0x80 | 100}, mask, "4"+large(99))))
		}
	}
	parts := slices.Concat(rawFrame([]byte{opText, 0x83}, [4]byte{1, 2, 3, 4}, "4ab"), rawFrame([]byte{0x80, 0x82}, [4]byte{5, 6, 7, 8}, "cd"))
	all = append(all, echo("5.3 each fragment with a mask of its own", opText, "4abcd", parts))
	fc := echo("5.3 mask in pieces", opText, "4"+large(50))
	fc.split = 3
	all = append(all, fc)
	for op, name := range map[byte]string{opText: "text", opBinary: "binary", opClose: "close", opPing: "ping", opPong: "pong"} {
		all = append(all,
			broken("5.1 unmasked "+name, protocolError, []byte{0x80 | op, 2, 3, 0xe8}),
			broken("5.1 unmasked and empty "+name, protocolError, []byte{0x80 | op, 0}))
	}
	return append(all, broken("5.1 unmasked continuation", protocolError, frameBytes(opText, "4a"), []byte{0x80, 1, 'b'}))
}

// reservedBitCases are those of section 5.2 on RSV1 to RSV3: no extension is agreed on.
func reservedBitCases() (all []frameCase) {
	for bits := byte(1); bits < 8; bits++ {
		name := fmt.Sprintf("5.2 reserved bits %03b of ", bits)
		rsv := bits << 4
		all = append(all,
			broken(name+"text", protocolError, frameBytes(0x80|rsv|opText, "4a")),
			broken(name+"binary", protocolError, frameBytes(0x80|rsv|opBinary, "")),
			broken(name+"a first fragment", protocolError, frameBytes(rsv|opText, "4a")),
			broken(name+"a continuation", protocolError, frameBytes(opText, "4a"), frameBytes(0x80|rsv, "b")),
			broken(name+"ping", protocolError, frameBytes(0x80|rsv|opPing, "")),
			broken(name+"pong", protocolError, frameBytes(0x80|rsv|opPong, "a")),
			broken(name+"close", protocolError, frameBytes(0x80|rsv|opClose, "\x03\xe8")))
	}
	return all
}

// opcodeCases are those of section 5.2 on opcodes that have no meaning yet.
func opcodeCases() (all []frameCase) {
	for _, op := range []byte{3, 4, 5, 6, 7, 11, 12, 13, 14, 15} {
		name := fmt.Sprintf("5.2 opcode %d", op)
		all = append(all,
			broken(name+", empty", protocolError, frameBytes(0x80|op, "")),
			broken(name+" with data", protocolError, frameBytes(0x80|op, "4a")),
			broken(name+", not final", protocolError, frameBytes(op, "4a")),
			broken(name+" within a message", protocolError, frameBytes(opText, "4a"), frameBytes(0x80|op, ""), frameBytes(0x80, "b")))
		fc := broken(name+" after a ping", protocolError, frameBytes(0x80|opPing, "p"), frameBytes(0x80|op, "x"), frameBytes(0x80|opPing, "q"))
		fc.replies = []reply{{opPong, "p"}}
		all = append(all, fc)
	}
	return all
}

// pingCases are those of sections 5.5.2 and 5.5.3.
func pingCases() (all []frameCase) {
	ping := func(data string) []byte { return frameBytes(0x80|opPing, data) }
	for name, data := range map[string]string{
		"empty": "", "of text": "Hello, world!", "of bytes": "\x00\xff\xfe\xfd\xfc\xfb\x00\xff", "of 124 bytes": large(124), "of 125 bytes": large(125),
	} {
		all = append(all, frameCase{name: "5.5.2 ping " + name, sends: ping(data), replies: []reply{{opPong, data}}})
	}
	var many []byte
	var pongs []reply
	for i := range 10 {
		data := fmt.Sprint("payload-", i)
		many, pongs = append(many, ping(data)...), append(pongs, reply{opPong, data})
	}
	pong := func(data string) []byte { return frameBytes(0x80|opPong, data) }
	return append(all,
		frameCase{name: "5.5.2 ten pings", sends: many, replies: pongs},
		frameCase{name: "5.5.2 ten pings, byte by byte", sends: many, split: 1, replies: pongs},
		frameCase{name: "5.5.2 ping of 125 bytes, byte by byte", sends: ping(large(125)), split: 1, replies: []reply{{opPong, large(125)}}},
		frameCase{name: "5.5.2 pings around a message", sends: slices.Concat(ping("a"), frameBytes(0x80|opText, "4b"), ping("c")),
			replies: []reply{{opPong, "a"}, textReply("4b"), {opPong, "c"}}},
		frameCase{name: "5.5.3 pong that nobody asked for", sends: pong("unasked")},
		frameCase{name: "5.5.3 empty pong", sends: pong("")},
		frameCase{name: "5.5.3 pong of 125 bytes", sends: pong(large(125))},
		frameCase{name: "5.5.3 pong, then a ping", sends: slices.Concat(pong("unasked"), ping("p")), replies: []reply{{opPong, "p"}}},
		broken("5.5 ping of 126 bytes", protocolError, ping(large(126))),
		broken("5.5 ping of 70000 bytes", protocolError, ping(large(70000))),
		broken("5.5 pong of 126 bytes", protocolError, pong(large(126))),
		broken("5.5 close of 126 bytes", protocolError, frameBytes(0x80|opClose, closePayload(normal, large(124)))),
		broken("5.5 fragmented ping", protocolError, frameBytes(opPing, "a"), frameBytes(0x80, "b")),
		broken("5.5 fragmented pong", protocolError, frameBytes(opPong, "a"), frameBytes(0x80, "b")),
		broken("5.5 fragmented close", protocolError, frameBytes(opClose, "\x03"), frameBytes(0x80, "\xe8")),
	)
}

// fragments splits a message into n frames, each followed by between.
func fragments(op byte, data string, n int, between []byte) []byte {
	var all []byte
	for i := range n {
		first := byte(opContinuation)
		if i == 0 {
			first = op
		}
		if i == n-1 {
			first |= 0x80
		}
		all = append(all, frameBytes(first, data[i*len(data)/n:(i+1)*len(data)/n])...)
		if i < n-1 {
			all = append(all, between...)
		}
	}
	return all
}

// fragmentationCases are those of section 5.4.
func fragmentationCases() (all []frameCase) {
	ping := frameBytes(0x80|opPing, "p")
	pong := reply{opPong, "p"}
	for op, kind := range kinds {
		name := "5.4 " + kind + " "
		first := func(data string) []byte { return frameBytes(op, data) }
		next := func(data string) []byte { return frameBytes(opContinuation, data) }
		last := func(data string) []byte { return frameBytes(0x80|opContinuation, data) }
		whole := frameBytes(0x80|op, "4whole")
		bytewise := echo(name+"in 5 fragments, byte by byte", op, "4abcde", fragments(op, "4abcde", 5, nil))
		bytewise.split = 1
		pinged := echo(name+"with pings between", op, "4abcd", fragments(op, "4abcd", 3, ping))
		pinged.replies = []reply{pong, pong, pinged.replies[0]}
		pingedBytewise := pinged
		pingedBytewise.name, pingedBytewise.split = name+"with pings between, byte by byte", 1
		tenPings := echo(name+"with ten pings between", op, "4ab", first("4a"), slices.Repeat(ping, 10), last("b"))
		tenPings.replies = append(slices.Repeat([]reply{pong}, 10), tenPings.replies...)
		twice := echo(name+"twice in fragments", op, "4abc", fragments(op, "4abc", 2, nil), fragments(op, "4def", 3, nil))
		twice.replies = append(twice.replies, reply{op, "4def"})
		mixed := echo(name+"in fragments, then whole", op, "4abc", fragments(op, "4abc", 2, nil), whole)
		mixed.replies = append(mixed.replies, reply{op, "4whole"})
		after := broken(name+"whole, then a continuation", protocolError, whole, last("a"))
		after.replies = []reply{{op, "4whole"}}
		afterMany := broken(name+"in fragments, then a continuation", protocolError, first("4a"), last("b"), next("c"))
		afterMany.replies = []reply{{op, "4ab"}}
		all = append(all, bytewise, pinged, pingedBytewise, tenPings, twice, mixed, after, afterMany,
			echo(name+"in 2 fragments", op, "4abc", first("4ab"), last("c")),
			echo(name+"in 2 fragments, the last one empty", op, "4abc", first("4abc"), last("")),
			echo(name+"in 2 fragments, the first one empty", op, "4abc", first(""), last("4abc")),
			echo(name+"in 3 fragments, of which one has data", op, "4abc", first(""), next("4abc"), last("")),
			echo(name+"in 100 fragments, most of them empty", op, "4abc", fragments(op, "4abc", 100, nil)),
			echo(name+"in fragments with a pong between", op, "4ab", first("4a"), frameBytes(0x80|opPong, ""), last("b")),
			echo(name+"in fragments of 126 bytes and more", op, "4"+large(200_000), fragments(op, "4"+large(200_000), 7, nil)),
			broken(name+"within a message", protocolError, first("4a"), whole, last("b")),
			broken(name+"within a message, fragmented too", protocolError, first("4a"), first("4b"), last("c")),
			broken(name+"within a message, after a continuation", protocolError, first("4a"), next("b"), whole),
		)
	}
	return append(all,
		echo("5.4 binary in fragments without a byte", opBinary, "", frameBytes(opBinary, ""), frameBytes(0x80, "")),
		broken("5.4 text within a binary message", protocolError, frameBytes(opBinary, "a"), frameBytes(0x80|opText, "4b")),
		broken("5.4 binary within a text message", protocolError, frameBytes(opText, "4a"), frameBytes(0x80|opBinary, "b")),
		broken("5.4 continuation of nothing", protocolError, frameBytes(0x80, "4a")),
		broken("5.4 continuation of nothing, empty", protocolError, frameBytes(0x80, "")),
		broken("5.4 continuation of nothing, not final", protocolError, frameBytes(0, "4a")),
		broken("5.4 continuation of nothing, then text", protocolError, frameBytes(0, "4a"), frameBytes(0x80|opText, "4b")),
		broken("5.4 continuations of nothing", protocolError, slices.Repeat(frameBytes(0, "4"), 3)),
	)
}

// limitCases are those of section 10.4: this server takes 1,000,000 bytes and 4,096 fragments
// in a message.
func limitCases() (all []frameCase) {
	const limit, most = 1_000_000, 4096
	header := func(op byte, n uint64) []byte {
		return rawFrame(binary.BigEndian.AppendUint64([]byte{op, 0xff}, n), [4]byte{}, "")
	}
	for op, kind := range kinds {
		name := "10.4 " + kind
		data := "4" + large(limit-1)
		for _, n := range []int{1 << 18, 1 << 19, limit} {
			all = append(all, echo(fmt.Sprintf("%s of %d bytes", name, n), op, data[:n]))
		}
		for _, size := range []int{256, 1024, 4096, 16384, 65536} {
			all = append(all, echo(fmt.Sprintf("%s of 262144 bytes in fragments of %d", name, size), op, data[:1<<18], fragments(op, data[:1<<18], 1<<18/size, nil)))
		}
		for _, size := range []int{512, 1449, 65537} {
			fc := echo(fmt.Sprintf("%s of 262144 bytes, written by %d", name, size), op, data[:1<<18])
			fc.split = size
			all = append(all, fc)
		}
		all = append(all,
			echo(name+" of the maximum in 1000 fragments", op, data, fragments(op, data, 1000, nil)),
			echo(fmt.Sprintf("%s in %d fragments", name, most), op, data[:9000], fragments(op, data[:9000], most, nil)),
			broken(name+", too long by its header", tooBig, header(0x80|op, limit+1)),
			broken(name+" of 256 MB by its header", tooBig, header(0x80|op, 256<<20)),
			broken(name+", the longest there is", tooBig, header(0x80|op, 1<<63-1)),
			broken(name+", too long as a first fragment", tooBig, header(op, limit+1)),
			broken(name+", too long with its continuation", tooBig, frameBytes(op, "4"), header(0x80, limit)),
			broken(name+", too long in 1000 fragments", tooBig, fragments(op, data+"x", 1000, nil)),
			broken(name+" in too many fragments", tooBig, fragments(op, data[:9000], most+1, nil)),
			broken(name+" in too many fragments, most of them empty", tooBig, fragments(op, strings.Repeat("4", 10), most+1, nil)),
		)
	}
	return all
}
