// Tests of the packet codec: what a client may send, what it may not, and that encoder
// and parser agree.

package socketio

import (
	"encoding/json"
	"errors"
	"slices"
	"strings"
	"testing"
	"time"
)

var testLimits = Limits{Attachments: 10, Depth: 32, Values: 2000, EventName: 64, Namespace: 64}

// flat is a Packet as a comparable literal.
type flat struct {
	Type        PacketType
	Namespace   string
	ID          int64
	Attachments int
	Data        string
	Name        string
	Args        string // one per line
}

func flatten(p *Packet) flat {
	f := flat{Type: p.Type, Namespace: string(p.Namespace), ID: p.ID, Attachments: p.Attachments,
		Data: string(p.Data), Name: string(p.Name)}
	for i, arg := range p.Args {
		if i > 0 {
			f.Args += "\n"
		}
		f.Args += string(arg)
	}
	return f
}

func TestPacket_Parse(t *testing.T) {
	const none = NoID
	tests := []struct {
		in   string
		want flat
	}{
		// CONNECT, with and without namespace, comma, credentials, query.
		{`0`, flat{PacketConnect, "/", none, 0, "", "", ""}},
		{`0/`, flat{PacketConnect, "/", none, 0, "", "", ""}},
		{`0/,`, flat{PacketConnect, "/", none, 0, "", "", ""}},
		{`0{"token":"t"}`, flat{PacketConnect, "/", none, 0, `{"token":"t"}`, "", ""}},
		{`0{}`, flat{PacketConnect, "/", none, 0, `{}`, "", ""}},
		{`0 {} `, flat{PacketConnect, "/", none, 0, ` {} `, "", ""}},
		{`0/admin`, flat{PacketConnect, "/admin", none, 0, "", "", ""}},
		{`0/admin,`, flat{PacketConnect, "/admin", none, 0, "", "", ""}},
		{`0/admin,{}`, flat{PacketConnect, "/admin", none, 0, "{}", "", ""}},
		{`0/admin?a=b`, flat{PacketConnect, "/admin", none, 0, "", "", ""}},
		{`0/admin?a=b&c=d?,{"x":1}`, flat{PacketConnect, "/admin", none, 0, `{"x":1}`, "", ""}},
		{`0/?a=b,`, flat{PacketConnect, "/", none, 0, "", "", ""}},
		{`0/a/b-1`, flat{PacketConnect, "/a/b-1", none, 0, "", "", ""}},
		{`0/caf` + "\u00e9", flat{PacketConnect, "/caf\u00e9", none, 0, "", "", ""}},
		{`0/` + strings.Repeat("n", 63), flat{PacketConnect, "/" + strings.Repeat("n", 63), none, 0, "", "", ""}},
		{`0/` + strings.Repeat("n", 63) + `,`, flat{PacketConnect, "/" + strings.Repeat("n", 63), none, 0, "", "", ""}},

		{`1`, flat{PacketDisconnect, "/", none, 0, "", "", ""}},
		{`1/admin,`, flat{PacketDisconnect, "/admin", none, 0, "", "", ""}},
		{`1/admin`, flat{PacketDisconnect, "/admin", none, 0, "", "", ""}},

		// Events.
		{`2["a"]`, flat{PacketEvent, "/", none, 0, `["a"]`, "a", ""}},
		{`2["a",1,{"b":[2,3]}, null ]`, flat{PacketEvent, "/", none, 0, `["a",1,{"b":[2,3]}, null ]`, "a", "1\n" + `{"b":[2,3]}` + "\nnull"}},
		{`2/admin,["x"]`, flat{PacketEvent, "/admin", none, 0, `["x"]`, "x", ""}},
		{`2/admin?q,7["x","y"]`, flat{PacketEvent, "/admin", 7, 0, `["x","y"]`, "x", `"y"`}},
		{`212["a"]`, flat{PacketEvent, "/", 12, 0, `["a"]`, "a", ""}},
		{`20["a"]`, flat{PacketEvent, "/", 0, 0, `["a"]`, "a", ""}},
		{`29007199254740991["a"]`, flat{PacketEvent, "/", 1<<53 - 1, 0, `["a"]`, "a", ""}},
		{`20000000000000001["a"]`, flat{PacketEvent, "/", 1, 0, `["a"]`, "a", ""}},
		{`2[""]`, flat{PacketEvent, "/", none, 0, `[""]`, "", ""}},
		{`2["error",1]`, flat{PacketEvent, "/", none, 0, `["error",1]`, "error", "1"}},
		{`2["Connect"]`, flat{PacketEvent, "/", none, 0, `["Connect"]`, "Connect", ""}},
		{`2["__proto__"]`, flat{PacketEvent, "/", none, 0, `["__proto__"]`, "__proto__", ""}},
		{`2["\u0061\n\"",2]`, flat{PacketEvent, "/", none, 0, `["\u0061\n\"",2]`, "a\n\"", "2"}},
		{`2["\ud83d","\ude00"]`, flat{PacketEvent, "/", none, 0, `["\ud83d","\ude00"]`, "\ufffd", `"\ude00"`}},
		{`2["\u0000"]`, flat{PacketEvent, "/", none, 0, `["\u0000"]`, "\x00", ""}},
		{`2["` + strings.Repeat("n", 64) + `"]`, flat{PacketEvent, "/", none, 0, `["` + strings.Repeat("n", 64) + `"]`, strings.Repeat("n", 64), ""}},
		{`2["` + strings.Repeat(`\u006e`, 64) + `"]`, flat{PacketEvent, "/", none, 0, `["` + strings.Repeat(`\u006e`, 64) + `"]`, strings.Repeat("n", 64), ""}},
		// It looks like a placeholder, but no attachment is announced.
		{`2["a",{"_placeholder":true,"num":9}]`, flat{PacketEvent, "/", none, 0, `["a",{"_placeholder":true,"num":9}]`, "a", `{"_placeholder":true,"num":9}`}},

		// Acks.
		{`31[]`, flat{PacketAck, "/", 1, 0, `[]`, "", ""}},
		{`31["connect"]`, flat{PacketAck, "/", 1, 0, `["connect"]`, "", `"connect"`}},
		{`3/admin,456[{"ok":true},2]`, flat{PacketAck, "/admin", 456, 0, `[{"ok":true},2]`, "", `{"ok":true}` + "\n2"}},

		// Binary events and acks.
		{`51-["a",{"_placeholder":true,"num":0}]`, flat{PacketBinaryEvent, "/", none, 1, `["a",{"_placeholder":true,"num":0}]`, "a", `{"_placeholder":true,"num":0}`}},
		{`52-/admin,3["a",{"x":[{"num":1,"_placeholder":true}]}]`, flat{PacketBinaryEvent, "/admin", 3, 2, `["a",{"x":[{"num":1,"_placeholder":true}]}]`, "a", `{"x":[{"num":1,"_placeholder":true}]}`}},
		{`510-["a"]`, flat{PacketBinaryEvent, "/", none, 10, `["a"]`, "a", ""}},
		{`5001-["a"]`, flat{PacketBinaryEvent, "/", none, 1, `["a"]`, "a", ""}},
		{`51-["a",{"_placeholder":false,"num":9}]`, flat{PacketBinaryEvent, "/", none, 1, `["a",{"_placeholder":false,"num":9}]`, "a", `{"_placeholder":false,"num":9}`}},
		{`61-4[{"_placeholder":true,"num":0}]`, flat{PacketBinaryAck, "/", 4, 1, `[{"_placeholder":true,"num":0}]`, "", `{"_placeholder":true,"num":0}`}},
		// No attachments announced: complete, and no longer binary.
		{`50-["a",1]`, flat{PacketEvent, "/", none, 0, `["a",1]`, "a", "1"}},
		{`60-4[1]`, flat{PacketAck, "/", 4, 0, `[1]`, "", "1"}},
	}
	var p Packet
	for _, tt := range tests {
		if err := p.Parse([]byte(tt.in), testLimits); err != nil {
			t.Errorf("%s: %v", tt.in, err)
		} else if got := flatten(&p); got != tt.want {
			t.Errorf("%s:\n got %+v\nwant %+v", tt.in, got, tt.want)
		} else if (p.Data == nil) != (tt.want.Data == "") {
			t.Errorf("%s: absent data must be nil", tt.in)
		}
	}
}

func TestPacket_ParseRejects(t *testing.T) {
	long := func(s string) string { return strings.Repeat(s, 1<<20) }
	tests := []struct {
		in   string
		want error
	}{
		{``, errEmpty},
		{`7`, errType}, {`9["a"]`, errType}, {`x`, errType}, {` 2["a"]`, errType}, {`-1`, errType}, {"\x00", errType},
		{"\xff", errType}, {`["a"]`, errType}, {"\ufeff2[\"a\"]", errType}, {`/2["a"]`, errType},
		{`4`, errDirection}, {`4{"message":"x"}`, errDirection}, {`4/admin,{}`, errDirection},

		{`0[]`, errPayload}, {`0null`, errPayload}, {`0"x"`, errPayload}, {`0true`, errPayload}, {`0/admin,[]`, errPayload},
		{`0{`, errJSON}, {`0{}{}`, errJSON}, {`0{}x`, errJSON}, {`0 `, errJSON}, {`0admin`, errJSON}, {`0,{}`, errJSON},
		{`01`, errUnwantedID}, {`01{}`, errUnwantedID}, {`0/admin,1{}`, errUnwantedID},
		{`1{}`, errPayload}, {`1 `, errPayload}, {`1/admin,{}`, errPayload}, {`1x`, errPayload},
		{`15`, errUnwantedID}, {`1/admin,5`, errUnwantedID},

		{`2`, errPayload}, {`2/admin`, errPayload}, {`2/admin,`, errPayload}, {`21`, errPayload},
		{`2[]`, errPayload}, {`2 [ ]`, errPayload}, {`2{}`, errPayload}, {`2{"a":1}`, errPayload}, {`2"a"`, errPayload},
		{`2null`, errPayload}, {`2 1`, errPayload},
		{`2[{"toString":"foo"}]`, errName}, {`2[1]`, errName}, {`2[null,"a"]`, errName}, {`2[["a"]]`, errName}, {`2[true]`, errName},
		{`2[` + strings.Repeat("1", 999) + `]`, errName},
		{`2["connect"]`, errReserved}, {`2["connect_error"]`, errReserved}, {`2["disconnect"]`, errReserved},
		{`2["disconnecting"]`, errReserved}, {`2["newListener"]`, errReserved}, {`2["removeListener"]`, errReserved},
		{`2["c\u006fnnect",1]`, errReserved}, {`51-["disconnect"]`, errReserved},
		{`2["` + strings.Repeat("n", 65) + `"]`, errLongName}, {`2["` + strings.Repeat(`\u006e`, 65) + `"]`, errLongName},
		{`2["` + strings.Repeat("\u00e9", 33) + `"]`, errLongName}, {`2["` + long(`\u006e`) + `"]`, errLongName},
		{`2["a"`, errJSON}, {`2["a",]`, errJSON}, {`2["a"]]`, errJSON}, {`2["a"]["b"]`, errJSON}, {`2["a"]2["a"]`, errJSON},
		{`2["a"]x`, errJSON}, {`2["a"` + "\x00]", errJSON}, {"2[\"a\"]\x00", errJSON}, {"2[\"\x00\"]", errJSON},
		{"2[\"\xff\"]", errJSON}, {"2[\"a\",\"\xc3\x28\"]", errJSON}, {"2[\"a\",\"\xed\xa0\x80\"]", errJSON},
		{`2x["a"]`, errJSON}, {`2,["a"]`, errJSON}, {`21-["a"]`, errJSON}, {`2-1["a"]`, errJSON}, {`2+1["a"]`, errJSON},
		{`21.5["a"]`, errJSON}, {`21e3["a"]`, errJSON}, {`21 2["a"]`, errJSON},
		{`2/admin["x"]`, errPayload}, {`2/admin["x",1]`, errJSON},

		{`29007199254740992["a"]`, errID}, {`29999999999999999["a"]`, errID}, {`200000000000000001["a"]`, errID},
		{`218446744073709551617["a"]`, errID}, {`2` + long("9") + `["a"]`, errID}, {`2` + long("0") + `["a"]`, errID},
		{`3` + long("1"), errID}, {`0` + long("1"), errID},

		{`3`, errNeedsID}, {`3[]`, errNeedsID}, {`3/admin,[1]`, errNeedsID}, {`61-[1]`, errNeedsID}, {`60-[]`, errNeedsID},
		{`31`, errPayload}, {`3/admin,1`, errPayload}, {`31{}`, errPayload}, {`31null`, errPayload}, {`31"a"`, errPayload},
		{`31[`, errJSON}, {`61-1`, errPayload},

		{`5`, errAttachments}, {`5["a"]`, errAttachments}, {`51["a"]`, errAttachments}, {`5-["a"]`, errAttachments},
		{`5/admin,["a"]`, errAttachments}, {`51`, errAttachments}, {`5-1-["a"]`, errAttachments}, {`5+1-["a"]`, errAttachments},
		{`5 1-["a"]`, errAttachments}, {`51.5-["a"]`, errAttachments}, {`51e1-["a"]`, errAttachments}, {`50x1-["a"]`, errAttachments},
		{`50001-["a"]`, errAttachments}, {`6a-1[]`, errAttachments}, {`5999999999999-["a"]`, errAttachments},
		{`5` + long("1"), errAttachments}, {`5` + long("0") + `-["a"]`, errAttachments},
		{`511-["a"]`, errTooMany}, {`5999-["a"]`, errTooMany}, {`611-1[]`, errTooMany},
		{`51-`, errPayload}, {`51-{}`, errPayload}, {`51-[]`, errPayload}, {`50-`, errPayload}, {`51-[1]`, errName},
		{`51-1-["a"]`, errJSON},
		{`51-["a",{"_placeholder":true,"num":"length"}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true,"num":-1}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true,"num":9999}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true,"num":1}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true,"num":1.5}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true,"num":0.0}]`, errPlaceholder},
		{`51-["a",{"_placeholder":true}]`, errPlaceholder},
		{`51-["a",[{"x":{"\u005fplaceholder":true}}]]`, errPlaceholder},
		{`61-1[{"_placeholder":true,"num":1}]`, errPlaceholder},

		{`0/` + strings.Repeat("n", 64), errLongNamespace}, {`0/` + strings.Repeat("n", 64) + `,`, errLongNamespace},
		{`0/a?` + strings.Repeat("q", 64) + `,`, errLongNamespace}, {`0/` + long("n"), errLongNamespace},
		{`2/` + long("n") + `,["a"]`, errLongNamespace},
		{"0/\xff", errNamespace}, {"0/a\x00b,", errNamespace}, {"0/a\x1eb", errNamespace}, {"0/a?\n", errNamespace},
		{"2/\xc3,[\"a\"]", errNamespace},

		{`2["a"` + strings.Repeat(",1", 2000) + `]`, errManyValues}, {`31[` + strings.Repeat("1,", 2000) + `1]`, errManyValues},
		{`0{` + strings.Repeat(`"a":1,`, 2000) + `"a":1}`, errManyValues}, {`2["a",` + strings.Repeat(`{},`, 2000), errManyValues},
		{`2["a",{"x":[` + strings.Repeat(`["",{"y":"\\"}],`, 1100) + `0]}]`, errManyValues}, {`2["` + strings.Repeat(",", 3000), errJSON},
		{`2["a",` + strings.Repeat("[", 32) + strings.Repeat("]", 32) + `]`, errDepth},
		{`2` + strings.Repeat("[", 100_000), errDepth}, {`2["a",` + strings.Repeat(`{"a":`, 100_000), errDepth},
		{`0` + strings.Repeat(`{"a":`, 100_000), errDepth}, {`31` + strings.Repeat("[", 100_000), errDepth},
	}
	var p Packet
	for _, tt := range tests {
		name := tt.in[:min(len(tt.in), 60)]
		err := p.Parse([]byte(tt.in), testLimits)
		if !errors.Is(err, tt.want) {
			t.Errorf("%q: %v, want %v", name, err, tt.want)
		}
		if err != nil && !errors.Is(err, ErrPacket) {
			t.Errorf("%q: %v does not wrap ErrPacket", name, err)
		}
	}
}

// A packet that its header refuses must cost the same however long it is.
func TestPacket_ParseStopsEarly(t *testing.T) {
	for _, head := range []string{"2", "5", "0/", "2/n,"} {
		b := []byte(head + strings.Repeat("1", 8<<20))
		var p Packet
		fastest := time.Hour
		for try := 0; try < 10 && fastest > time.Second/10; try++ { // a busy machine takes longer
			start := time.Now()
			for range 1000 {
				if p.Parse(b, testLimits) == nil {
					t.Fatal("accepted")
				}
			}
			fastest = min(fastest, time.Since(start))
		}
		// Reading all of it would take seconds; not reading it takes microseconds.
		if fastest > time.Second/10 {
			t.Errorf("%s...: %v for 1000 packets", head, fastest)
		}
	}
}

// Only separators of values count, not text.
func TestPacket_ParseCountsValues(t *testing.T) {
	var p Packet
	for _, in := range []string{
		`2["a"` + strings.Repeat(",1", 1999) + `]`,
		`2["a","` + strings.Repeat(`,\"`, 5000) + `"]`,
		`0{"token":"` + strings.Repeat(",", 5000) + `"}`,
	} {
		if err := p.Parse([]byte(in), testLimits); err != nil {
			t.Errorf("%.40s: %v", in, err)
		}
	}
}

func TestPacket_ParseReuse(t *testing.T) {
	var p Packet
	in := []byte(benchPacket)
	if err := p.Parse(in, testLimits); err != nil {
		t.Fatal(err)
	}
	if n := testing.AllocsPerRun(100, func() { _ = p.Parse(in, testLimits) }); n != 0 {
		t.Errorf("%v allocations", n)
	}
	bad := []byte(`2["connect"]`)
	if n := testing.AllocsPerRun(100, func() { _ = p.Parse(bad, testLimits) }); n != 0 {
		t.Errorf("%v allocations for an error", n)
	}
	if err := p.Parse([]byte("0"), testLimits); err != nil || p.Name != nil || p.Data != nil || len(p.Args) != 0 {
		t.Errorf("left over from the packet before: %+v, %v", p, err)
	}

	many := []byte(`31[` + strings.Repeat("1,", 1000) + `1]`)
	if err := p.Parse(many, testLimits); err != nil || len(p.Args) != 1001 {
		t.Fatalf("%d arguments, %v", len(p.Args), err)
	}
	if _ = p.Parse(in, testLimits); cap(p.Args) > keepArgs {
		t.Errorf("room for %d arguments kept", cap(p.Args))
	}
}

// A caller that appends to a part of a packet must not overwrite the next part.
func TestPacket_ParsePartsDoNotOverlap(t *testing.T) {
	var p Packet
	if err := p.Parse([]byte(`2/admin?q,7["x",1,2]`), testLimits); err != nil {
		t.Fatal(err)
	}
	for _, part := range append([][]byte{p.Namespace, p.Data, p.Name, root}, p.Args...) {
		if len(part) != cap(part) {
			t.Errorf("%s has room for %d", part, cap(part))
		}
	}
}

func TestAppend(t *testing.T) {
	args := [][]byte{[]byte(`{"a":1}`), nil, []byte(`2`)}
	tests := []struct {
		got  []byte
		want string
	}{
		{AppendConnect(nil, "/", "s1", ""), `0{"sid":"s1"}`},
		{AppendConnect(nil, "/drivers", `s"1`, ""), `0/drivers,{"sid":"s\"1"}`},
		{AppendConnectError(nil, "/", []byte(`{"message":"no"}`)), `4{"message":"no"}`},
		{AppendConnectError(nil, "/drivers", []byte(`{"message":"no"}`)), `4/drivers,{"message":"no"}`},
		{AppendDisconnect(nil, "/"), `1`},
		{AppendDisconnect(nil, ""), `1`},
		{AppendDisconnect(nil, "/drivers"), `1/drivers,`},
		{eventPacket(nil, "/", NoID, 0, "a"), `2["a"]`},
		{eventPacket(nil, "/", 0, 0, "a", args...), `20["a",{"a":1},null,2]`},
		{eventPacket(nil, "/drivers", 1<<53-1, 0, "a", args[0]), `2/drivers,9007199254740991["a",{"a":1}]`},
		{eventPacket(nil, "/drivers", 12, 2, "a"), `52-/drivers,12["a"]`},
		{appendEventJSON(nil, "/", NoID, 0, []byte(`["a",1]`)), `2["a",1]`},
		{appendEventJSON(nil, "/drivers", 3, 1, []byte(`["a",1]`)), `51-/drivers,3["a",1]`},
		{AppendAck(nil, "/", 4, 0), `34[]`},
		{AppendAck(nil, "/drivers", 4, 0, args...), `3/drivers,4[{"a":1},null,2]`},
		{AppendAck(nil, "/", 4, 1, args[2]), `61-4[2]`},
		{AppendDisconnect([]byte("kept"), "/"), `kept1`},
	}
	for _, tt := range tests {
		if string(tt.got) != tt.want {
			t.Errorf("%s, want %s", tt.got, tt.want)
		}
	}
}

func TestAppendString(t *testing.T) {
	for _, s := range []string{
		"", "a", `"`, `\`, `a"b\c`, "\x00\x01\x1e\x1f\n\r\t\x7f", "h\u00e9llo \u4e16 \U0001f600", "\u2028\ufffd",
		"\xff", "a\xffb\xc3", "\xed\xa0\x80", "\xe4\xb8", strings.Repeat("x\"\xff", 100),
	} {
		b := appendString(nil, s)
		var got string
		if err := json.Unmarshal(b, &got); err != nil {
			t.Errorf("%q: %s: %v", s, b, err)
		}
		// The JSON of encoding/json: the same with U+FFFD for invalid bytes.
		b2, err := json.Marshal(s)
		if err != nil {
			t.Fatal(err)
		}
		var want string
		_ = json.Unmarshal(b2, &want)
		if got != want {
			t.Errorf("%q: %q, want %q", s, got, want)
		}
	}
}

func TestPacket_RoundTrip(t *testing.T) {
	var p Packet
	parse := func(b []byte) flat {
		t.Helper()
		if err := p.Parse(b, testLimits); err != nil {
			t.Fatalf("%s: %v", b, err)
		}
		return flatten(&p)
	}
	names := []string{"a", "", "error", `q"uo\te`, "line\nbreak\x00", "\u4e16\u754c", "bad\xffbyte"}
	argLists := [][]string{nil, {`1`}, {`"x"`, `{"y":[]}`, `null`}}
	for _, nsp := range []string{"/", "/drivers", "/a/b"} {
		for _, id := range []int64{NoID, 0, 12, 1<<53 - 1} {
			for _, attachments := range []int{0, 1, 10} {
				for _, list := range argLists {
					var args [][]byte
					for _, s := range list {
						args = append(args, []byte(s))
					}
					joined := strings.Join(list, "\n")
					for _, name := range names {
						b := eventPacket(nil, nsp, id, attachments, name, args...)
						got := parse(b)
						want := flat{PacketEvent, nsp, id, attachments, got.Data, strings.ToValidUTF8(name, "\ufffd"), joined}
						if attachments > 0 {
							want.Type = PacketBinaryEvent
						}
						if got != want {
							t.Errorf("%s:\n got %+v\nwant %+v", b, got, want)
						}
						if again := appendEventJSON(nil, nsp, id, attachments, p.Data); !slices.Equal(b, again) {
							t.Errorf("%s became %s", b, again)
						}
					}
					if id == NoID {
						continue
					}
					b := AppendAck(nil, nsp, id, attachments, args...)
					got := parse(b)
					want := flat{PacketAck, nsp, id, attachments, got.Data, "", joined}
					if attachments > 0 {
						want.Type = PacketBinaryAck
					}
					if got != want {
						t.Errorf("%s:\n got %+v\nwant %+v", b, got, want)
					}
				}
			}
		}
		if got := parse(AppendConnect(nil, nsp, "x", "")); got != (flat{PacketConnect, nsp, NoID, 0, `{"sid":"x"}`, "", ""}) {
			t.Errorf("connect: %+v", got)
		}
		if got := parse(AppendDisconnect(nil, nsp)); got != (flat{PacketDisconnect, nsp, NoID, 0, "", "", ""}) {
			t.Errorf("disconnect: %+v", got)
		}
	}
}

// eventPacket is appendEvent with the arguments in a row.
func eventPacket(dst []byte, nsp string, id int64, attachments int, name string, args ...[]byte) []byte {
	return appendEvent(dst, nsp, id, attachments, name, args)
}
