// Text and close frames, and what a server must make of them, by the sections of RFC 6455.

package engineio_test

import (
	"fmt"
	"strings"
)

// textCases are those of sections 5.6 and 8.1: text is UTF-8, as a whole.
func textCases() (all []frameCase) {
	mixed := "κόσμε ñ ☃ \U0001d11e"
	valid := []string{
		mixed, "\x00", "\x7f", "\u0080", "\u07ff", "\u0800", "\ud7ff", "\ue000", "\ufeff", "\ufffd", "\ufffe", "\uffff", "\ufdd0", "\ufdef",
		"\U00010000", "\U0001f600", "\U0010ffff", "e\u0301", "\u202e", "\r\n\t",
	}
	for plane := rune(1); plane <= 16; plane++ {
		valid = append(valid, string([]rune{plane<<16 | 0xfffe, plane<<16 | 0xffff})) // noncharacters are characters here
	}
	for _, s := range valid {
		all = append(all, echo("8.1 text "+spell(s), opText, "4"+s))
	}
	bytewise := echo("5.6 text, byte by byte", opText, "4"+mixed)
	bytewise.split = 1
	pieces := echo("5.6 text in fragments of a byte", opText, "4"+mixed, fragments(opText, "4"+mixed, len(mixed)+1, nil))
	all = append(all, bytewise, pieces)
	for cut := 2; cut < 5; cut++ { // within a character of four bytes
		s := "4\U0001f600"
		all = append(all, echo(fmt.Sprintf("5.6 a character in two fragments, %d", cut), opText, s, frameBytes(opText, s[:cut]), frameBytes(0x80, s[cut:])))
	}
	character := echo("5.6 a character around a ping", opText, "4☃", frameBytes(opText, "4\xe2"), frameBytes(0x80|opPing, "p"), frameBytes(0x80, "\x98\x83"))
	character.replies = []reply{{opPong, "p"}, textReply("4☃")}
	all = append(all, character)

	for _, s := range invalidTexts() {
		all = append(all, broken("8.1 text "+spell(s), invalidData, frameBytes(0x80|opText, "4"+s)))
	}
	const surrogate = "\xed\xa0\x80"
	surrogates := "4κόσμε" + surrogate + "edited"
	invalidBytewise := broken("8.1 invalid text, byte by byte", invalidData, frameBytes(0x80|opText, surrogates))
	invalidBytewise.split = 1
	return append(all, invalidBytewise,
		broken("8.1 invalid text in three fragments", invalidData, frameBytes(opText, "4κόσμε"), frameBytes(0, surrogate), frameBytes(0x80, "edited")),
		broken("8.1 invalid text in fragments of a byte", invalidData, fragments(opText, surrogates, len(surrogates), nil)),
		broken("8.1 a character that its last fragment does not end", invalidData, frameBytes(opText, "4\xf0\x9f"), frameBytes(0x80, "\x98")),
		broken("8.1 a character that no fragment ends", invalidData, frameBytes(opText, "4\xf0"), frameBytes(0x80, "")),
		broken("8.1 a character in two messages", invalidData, frameBytes(0x80|opText, "4\xe2\x98"), frameBytes(0x80|opText, "\x83")),
		broken("8.1 invalid before the end, then too long a character", invalidData, fragments(opText, "4abc\xff\xffdef", 5, nil)),
		echo("5.6 binary that is no text", opBinary, "\xff\xfe\xed\xa0\x80\xc3\x28\x00"),
		echo("5.6 binary that is no text, in fragments", opBinary, "\xff\xfe\xed\xa0\x80", fragments(opBinary, "\xff\xfe\xed\xa0\x80", 5, nil)),
		frameCase{name: "5.5.2 ping that is no text", sends: frameBytes(0x80|opPing, "\xff\xed\xa0\x80"), replies: []reply{{opPong, "\xff\xed\xa0\x80"}}},
	)
}

// invalidTexts returns what is no UTF-8.
func invalidTexts() []string {
	all := []string{
		// Bytes that begin nothing.
		"\x80", "\xbf", "\x80\xbf", "\x80\xbf\x80", "\x80\xbf\x80\xbf", "\xfe", "\xff", "\xfe\xfe\xff\xff", "a\x80b",
		// Beginnings of sequences of two, three and four bytes, of which the rest is missing.
		"\xc2", "\xdf", "\xe0\xa0", "\xe2\x98", "\xef\xbf", "\xf0\x90\x80", "\xf0\x9f\x98", "\xf4\x8f\xbf", "\xe2", "\xf0\x9f", "\xf0",
		"\xc3\x28", "\xe2\x28\xa1", "\xe2\x98\x28", "\xf0\x28\x8c\xbc", "\xf0\x9f\x28\xbc", "\xf0\x9f\x98\x28", "\xc2\xc2\x80", "\xe2\x98\xe2\x98\x83",
		// More bytes than a character needs.
		"\xc0\x80", "\xc0\xaf", "\xc1\xbf", "\xe0\x80\x80", "\xe0\x80\xaf", "\xe0\x9f\xbf", "\xf0\x80\x80\x80", "\xf0\x80\x80\xaf", "\xf0\x8f\xbf\xbf",
		// Forms of five and six bytes, and what is above the last character.
		"\xf8\x88\x80\x80\x80", "\xf8\x80\x80\x80\xaf", "\xfb\xbf\xbf\xbf\xbf", "\xfc\x84\x80\x80\x80\x80", "\xfc\x80\x80\x80\x80\xaf", "\xfd\xbf\xbf\xbf\xbf\xbf",
		"\xf4\x90\x80\x80", "\xf5\x80\x80\x80", "\xf7\xbf\xbf\xbf",
		// The Java form of NUL, and of a character beyond the first 65,536.
		"a\xc0\x80b", "\xed\xa0\xbd\xed\xb8\x80",
	}
	for _, lone := range []string{"\xa0\x80", "\xad\xbf", "\xae\x80", "\xaf\xbf", "\xb0\x80", "\xbe\x80", "\xbf\xbf"} { // halves of surrogate pairs
		all = append(all, "\xed"+lone)
	}
	return all
}

// closeCases are those of sections 5.5.1, 7.1 and 7.4.
func closeCases() (all []frameCase) {
	goodbye := func(payload string) []byte { return frameBytes(0x80|opClose, payload) }
	for name, payload := range map[string]string{
		"empty": "", "with a status": closePayload(normal, ""), "with a reason": closePayload(normal, "Hello, world!"),
		"with a reason of 123 bytes": closePayload(normal, large(123)), "with a reason of all kinds": closePayload(1001, "κόσμε ☃ \U0001f600"),
	} {
		fc := broken("5.5.1 close "+name, normal, goodbye(payload))
		all = append(all, fc)
		fc.name, fc.split = fc.name+", byte by byte", 1
		all = append(all, fc)
	}
	for _, status := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
		all = append(all, broken(fmt.Sprint("7.4 status ", status), normal, goodbye(closePayload(status, ""))))
	}
	for _, status := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 1999, 2000, 2999, 5000, 65535} {
		all = append(all,
			broken(fmt.Sprint("7.4 reserved status ", status), protocolError, goodbye(closePayload(status, ""))),
			broken(fmt.Sprintf("7.4 reserved status %d with a reason", status), protocolError, goodbye(closePayload(status, "reason"))))
	}
	for _, reason := range []string{"\xff", "\xe2\x98", "κόσμε\xed\xa0\x80edited", "\xc0\x80", strings.Repeat("a", 122) + "\xc3"} {
		all = append(all, broken("5.5.1 reason "+spell(reason[max(0, len(reason)-8):]), invalidData, goodbye(closePayload(normal, reason))))
	}
	after := func(name string, status uint16, sends ...[]byte) {
		all = append(all, broken("5.5.1 "+name, status, sends...))
	}
	end := goodbye(closePayload(normal, ""))
	after("payload of one byte", protocolError, goodbye("\x03"))
	after("reserved status and a reason that is no text", protocolError, goodbye(closePayload(1005, "\xff")))
	after("two closes", normal, end, goodbye(""))
	after("close, then an invalid one", normal, end, goodbye("\x03"))
	after("close, then a ping", normal, end, frameBytes(0x80|opPing, "p"))
	after("close, then a message", normal, end, frameBytes(0x80|opText, "4a"))
	after("close, then garbage", normal, end, []byte("\xff\xff\xff\xff\xff\xff\xff\xff"))
	after("close, then 200 kB", normal, end, frameBytes(0x80|opText, "4"+large(200_000)))
	after("close within a message", normal, frameBytes(opText, "4a"), end, frameBytes(0x80, "b"))
	after("close within a message that is no text", normal, frameBytes(opText, "4\xff"), end)
	for i := range all {
		all[i].apart = true
	}
	return all
}
