// Fuzzing of the packet parser: it does not panic, and every accepted packet is the
// same after encoding and parsing it again, and for encoding/json.

package socketio

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func FuzzPacketParse(f *testing.F) {
	for _, s := range []string{
		benchPacket, `0`, `0/admin`, `0/admin?x=1,{"token":"t"}`, `1/admin,`, `2["a"]`, `2/admin,["x",{"y":[1,2]}]`,
		`29007199254740991["\ud83d\u0041",null]`, `31[]`, `3/a,7[true, "x" ]`, `4{"message":"no"}`,
		`51-["a",{"_placeholder":true,"num":0}]`, `52-/b,1["a",{"\u005fplaceholder":true,"num":1}]`, `61-1[{"_placeholder":true,"num":0}]`,
		`50-["a"]`, `5999999999999-["a"]`, `51-["a",{"_placeholder":true,"num":"length"}]`, `2[{"toString":"foo"}]`,
		"2[\"\xff\"]", "0/\x00", `2[[[[[[[[[`,
		`51-["a",{"_placeholder":true,"num":-1}]`, `51-["a",{"_placeholder":true,"num":9999}]`, `51-["a",{"_placeholder":true,"num":1.5}]`,
		`2["error"]`, `2["disconnect",1]`, `2["connection"]`, `2["__proto__",{"constructor":1}]`, `510-["a"]`, `56-["a"]`,
		// CVE-2020-36049: prefixes that were concatenated character by character.
		"2" + strings.Repeat("9", 1_000_000), "5" + strings.Repeat("9", 1_000_000), "0/" + strings.Repeat("n", 1_000_000),
	} {
		f.Add([]byte(s))
	}
	lim := Limits{Attachments: 5, Depth: 6, Values: 50, EventName: 24, Namespace: 24}
	f.Fuzz(func(t *testing.T, in []byte) {
		var p Packet
		if err := p.Parse(bytes.Clone(in), lim); err != nil {
			if !errors.Is(err, ErrPacket) {
				t.Fatalf("%q: %v", in, err)
			}
			return
		}
		checkFields(t, in, &p, lim)

		nsp := string(p.Namespace)
		var out []byte
		switch p.Type {
		case PacketConnect:
			out = append(appendHeader(nil, PacketConnect, nsp, NoID, 0), p.Data...)
		case PacketDisconnect:
			out = AppendDisconnect(nil, nsp)
		case PacketEvent, PacketBinaryEvent:
			out = appendEventJSON(nil, nsp, p.ID, p.Attachments, p.Data)
		case PacketAck, PacketBinaryAck:
			out = AppendAck(nil, nsp, p.ID, p.Attachments, p.Args...)
		}
		reparse(t, in, out, &p, p.Type != PacketAck && p.Type != PacketBinaryAck, lim)
		if p.Type == PacketEvent || p.Type == PacketBinaryEvent {
			out = eventPacket(nil, nsp, p.ID, p.Attachments, string(p.Name), p.Args...)
			reparse(t, in, out, &p, false, lim)
		}
	})
}

// checkFields checks p against the rules of its type and against encoding/json.
func checkFields(t *testing.T, in []byte, p *Packet, lim Limits) {
	binary := p.Type == PacketBinaryEvent || p.Type == PacketBinaryAck
	if !utf8.Valid(in) || p.Namespace[0] != '/' || len(p.Namespace) > lim.Namespace || len(p.Name) > lim.EventName ||
		p.ID < NoID || p.ID > maxID || p.Attachments > lim.Attachments || binary != (p.Attachments > 0) || p.Type > PacketBinaryAck {
		t.Fatalf("%q: %+v", in, p)
	}
	switch p.Type {
	case PacketConnect:
		var v map[string]json.RawMessage
		if p.Data != nil && (json.Unmarshal(p.Data, &v) != nil || v == nil) {
			t.Fatalf("%q: connect with %q", in, p.Data)
		}
		return
	case PacketDisconnect:
		if p.Data != nil {
			t.Fatalf("%q: disconnect with %q", in, p.Data)
		}
		return
	}
	var want []json.RawMessage
	if err := json.Unmarshal(p.Data, &want); err != nil {
		t.Fatalf("%q: %v", in, err)
	}
	if p.Type == PacketEvent || p.Type == PacketBinaryEvent {
		var name string
		if len(want) == 0 || json.Unmarshal(want[0], &name) != nil || name != string(p.Name) {
			t.Fatalf("%q: name %q, want %q", in, p.Name, name)
		}
		want = want[1:]
	}
	if len(want) != len(p.Args) {
		t.Fatalf("%q: %d arguments, want %d", in, len(p.Args), len(want))
	}
	for i := range want {
		if !bytes.Equal(want[i], p.Args[i]) {
			t.Fatalf("%q: argument %q, want %q", in, p.Args[i], want[i])
		}
	}
}

// reparse checks that out parses to the same as p. Data may differ in whitespace and in
// the escapes of the name if the encoder composed it.
func reparse(t *testing.T, in, out []byte, p *Packet, sameData bool, lim Limits) {
	var q Packet
	if err := q.Parse(out, lim); err != nil {
		t.Fatalf("%q became %q: %v", in, out, err)
	}
	want, got := flatten(p), flatten(&q)
	if !sameData {
		want.Data, got.Data = "", ""
	}
	if want != got {
		t.Fatalf("%q became %q:\n got %+v\nwant %+v", in, out, got, want)
	}
}

// appendEventJSON is appendEvent with the JSON array of name and arguments.
func appendEventJSON(dst []byte, nsp string, id int64, attachments int, data []byte) []byte {
	dst = appendHeader(dst, PacketEvent, nsp, id, attachments)
	return append(dst, data...)
}
