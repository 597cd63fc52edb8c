// Tests of the scanner: tables for the rules; for all other input encoding/json is the
// oracle.
package jsonscan

import (
	"bytes"
	"encoding/json"
	"errors"
	"strings"
	"testing"
	"unicode/utf8"
)

func TestValid(t *testing.T) {
	valid := []string{
		`null`, `true`, `false`, `0`, `-0`, `7`, `-12`, `1.5`, `0.25`, `1e3`, `1E+3`, `-0.1e-10`,
		`""`, `"a"`, `"longer than eight bytes"`, `"\"\\\/\b\f\n\r\t"`, `"\u0041\uABCD\uabcd"`,
		`"\ud800"`, `"\udc00\ud800"`, "\"h\u00e9llo \u4e16 \U0001f600\"", "\"\x7f\"",
		`[]`, `[ ]`, `[1]`, `[1,2]`, `{}`, `{ }`, `{"a":1}`, `{"a":1,"a":2}`, `{"":{"":[]}}`,
		" \t\r\n[ 1 , { \"a\" : null } ]\n",
	}
	for _, s := range valid {
		if err := Valid([]byte(s), 8); err != nil {
			t.Errorf("%s: %v", s, err)
		}
	}
	invalid := []string{
		``, ` `, `nul`, `nulll`, `True`, `tru`, `+1`, `-`, `01`, `-01`, `1.`, `.5`, `1e`, `1e+`, `1.e3`, `0x1`, `NaN`,
		`"`, `"a`, `"\`, `"\x"`, `"\u"`, `"\u12"`, `"\u12g4"`, `"\u123`, `'a'`, "\"\n\"", "\"\x00\"", "\"12345678\x1f\"",
		"\"\xff\"", "\"\xc0\x80\"", "\"\xed\xa0\x80\"", "\"\xf4\x90\x80\x80\"", "\"12345678\xe4\xb8\"",
		`[`, `]`, `[1`, `[1,`, `[1,]`, `[,1]`, `[1 2]`, `[1}`, `{`, `}`, `{"a"`, `{"a":`, `{"a":1`, `{"a":1,`, `{"a":1,}`,
		`{"a" 1}`, `{a:1}`, `{1:1}`, `{"a":1]`, `{,}`, `1 2`, `[] []`, `{}x`, "\ufeff1", "1\x00", "\v1", "\u00a01",
	}
	for _, s := range invalid {
		if err := Valid([]byte(s), 8); !errors.Is(err, ErrSyntax) {
			t.Errorf("%q: %v", s, err)
		}
	}
}

func TestValid_Depth(t *testing.T) {
	nested := func(n int) string {
		return strings.Repeat(`[{"a":`, n/2) + strings.Repeat("[", n%2) + strings.Repeat("]", n%2) +
			strings.Repeat("1", 1-n%2) + strings.Repeat("}]", n/2)
	}
	for _, depth := range []int{0, 1, 2, 7, 32} {
		if err := Valid([]byte(nested(depth)), depth); err != nil {
			t.Errorf("depth %d: %v", depth, err)
		}
		if err := Valid([]byte(nested(depth+1)), depth); !errors.Is(err, ErrDepth) {
			t.Errorf("depth %d in %d: %v", depth+1, depth, err)
		}
	}
	if err := Valid([]byte(`[[],[],[[]],{}]`), 3); err != nil {
		t.Errorf("siblings must not add up: %v", err)
	}
	for _, s := range []string{"[", `{"a":`} {
		bomb := bytes.Repeat([]byte(s), 1_000_000)
		if err := Valid(bomb, 1<<30); !errors.Is(err, ErrDepth) {
			t.Errorf("cap: %v", err)
		}
		if _, err := Array(nil, bomb, 32); err == nil {
			t.Error("bomb accepted")
		}
		if _, err := Placeholders(bomb, 1); !errors.Is(err, ErrSyntax) {
			t.Errorf("placeholders: %v", err)
		}
	}
}

func TestArray(t *testing.T) {
	tests := []struct {
		in   string
		want []string
		err  error
	}{
		{`[]`, nil, nil},
		{" [ ] ", nil, nil},
		{`[1]`, []string{"1"}, nil},
		{" [ \"a,]\" ,\n{ \"b\" : [1, 2] }, null ] ", []string{`"a,]"`, `{ "b" : [1, 2] }`, "null"}, nil},
		{`[[[1]]]`, []string{`[[1]]`}, nil},
		{`[[[[1]]]]`, nil, ErrDepth},
		{`{}`, nil, ErrNotArray},
		{` "[]" `, nil, ErrNotArray},
		{`12`, nil, ErrNotArray},
		{`{"a":[[[]]]}`, nil, ErrDepth},
		{`[1,2`, nil, ErrSyntax},
		{`[1]]`, nil, ErrSyntax},
		{`[1,]`, nil, ErrSyntax},
		{``, nil, ErrSyntax},
		{`x`, nil, ErrSyntax},
	}
	for _, tt := range tests {
		got, err := Array([][]byte{[]byte("kept")}, []byte(tt.in), 3)
		if !errors.Is(err, tt.err) || len(got) != 1+len(tt.want) || string(got[0]) != "kept" {
			t.Errorf("%s: %q, %v", tt.in, got, err)
			continue
		}
		for i, w := range tt.want {
			if g := got[i+1]; string(g) != w || cap(g) != len(g) {
				t.Errorf("%s: element %d is %q with room for %d", tt.in, i, g, cap(g))
			}
		}
	}
	if _, err := Array(nil, []byte("[]"), 0); !errors.Is(err, ErrDepth) {
		t.Errorf("the array itself is a level: %v", err)
	}
}

func TestString(t *testing.T) {
	tests := []struct{ in, want string }{
		{`""`, ""},
		{`"plain"`, "plain"},
		{`"\"\\\/\b\f\n\r\t"`, "\"\\/\b\f\n\r\t"},
		{`"a\u0062c\u00E9"`, "abc\u00e9"},
		{`"\ud83d\ude00!"`, "\U0001f600!"},
		{`"\ud83d"`, "\ufffd"},
		{`"\ude00\ud83d"`, "\ufffd\ufffd"},
		{`"\ud83dx\u0041"`, "\ufffdxA"},
		{`"\ud83d\u0041"`, "\ufffdA"},
		{`"\ud83d\ud83d\ude00"`, "\ufffd\U0001f600"},
		{`"\ud83d\n"`, "\ufffd\n"},
		{`"\u0000"`, "\x00"},
	}
	for _, tt := range tests {
		if s, ok := String([]byte(tt.in)); !ok || string(s) != tt.want {
			t.Errorf("%s: %q, %v", tt.in, s, ok)
		}
	}
	for _, s := range []string{``, `"`, `1`, `null`, `["a"]`, ` "a"`, `"a" `, `"a"b"`, `"\"`, `"\u12"`} {
		if got, ok := String([]byte(s)); ok {
			t.Errorf("%s: %q", s, got)
		}
	}
	in := []byte(`"alias"`)
	s, _ := String(in)
	if &s[0] != &in[1] || cap(s) != len(s) {
		t.Error("a string without escapes must alias the input and not reach beyond it")
	}
}

func TestPlaceholders(t *testing.T) {
	tests := []struct {
		in    string
		found int
		err   error
	}{
		{`[]`, 0, nil},
		{`true`, 0, nil},
		{`"_placeholder"`, 0, nil},
		{`{"_placeholder":true,"num":0}`, 1, nil},
		{` { "num" : 2 , "_placeholder" : true } `, 1, nil},
		{`[{"_placeholder":true,"num":0},{"a":[{"_placeholder":true,"num":1}]}]`, 2, nil},
		{`{"_placeholder":true,"num":0,"x":{"_placeholder":true,"num":1}}`, 2, nil},
		{`{"\u005fplaceholder":true,"n\u0075m":1}`, 1, nil},
		{`{"\u005f\u0070\u006c\u0061\u0063\u0065\u0068\u006f\u006c\u0064\u0065\u0072":true,"num":1}`, 1, nil},
		{`{"_placeholder":false,"num":99}`, 0, nil},
		{`{"_placeholder":"true"}`, 0, nil},
		{`{"_placeholder":1}`, 0, nil},
		{`{"_placeholder":[true]}`, 0, nil},
		{`{"_Placeholder":true}`, 0, nil},
		{`{"_placeholder":true,"num":9,"num":1}`, 1, nil},
		{`{"_placeholder":true,"_placeholder":false}`, 0, nil},
		{`{"a":{"num":1},"num":2,"_placeholder":true}`, 1, nil},
		{`["_placeholder",true]`, 0, nil},

		{`{"_placeholder":true}`, 0, ErrPlaceholder},
		{`{"\u005fplaceholder":true}`, 0, ErrPlaceholder},
		{`{"_placeholder":false,"_placeholder":true}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":1,"num":9}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":1,"num":"1"}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":3}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":-1}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":-0}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":1.5}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":1.0}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":1e0}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":0E1}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":null}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":"length"}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":[0]}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"num":18446744073709551617}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"NUM":1}`, 0, ErrPlaceholder},
		{`{"_placeholder":true,"x":{"num":1}}`, 0, ErrPlaceholder},
		{`[{"num":1},{"_placeholder":true}]`, 0, ErrPlaceholder},
	}
	for _, tt := range tests {
		if err := Valid([]byte(tt.in), 8); err != nil {
			t.Fatalf("%s: %v", tt.in, err)
		}
		if found, err := Placeholders([]byte(tt.in), 3); found != tt.found || !errors.Is(err, tt.err) {
			t.Errorf("%s: %d, %v", tt.in, found, err)
		}
	}
	if _, err := Placeholders([]byte(`{"_placeholder":true,"num":0}`), 0); !errors.Is(err, ErrPlaceholder) {
		t.Errorf("no attachments, but a placeholder: %v", err)
	}
	for _, s := range []string{`]`, `}`, `"a":1`, `{"a":"`, `{"_placeholder":`, `{"num":`, `[`} {
		if _, err := Placeholders([]byte(s), 3); !errors.Is(err, ErrSyntax) {
			t.Errorf("%s: %v", s, err)
		}
	}
}

func TestNoAllocation(t *testing.T) {
	in := []byte(sample)
	bin := []byte(`["a",{"\u005fplaceholder":true,"num":0},{"_placeholder":true,"num":1}]`)
	dst := make([][]byte, 0, 8)
	if n := testing.AllocsPerRun(100, func() {
		_ = Valid(in, 32)
		_, _ = Array(dst, in, 32)
		_, _ = Placeholders(bin, 2)
	}); n != 0 {
		t.Errorf("%v allocations", n)
	}
}

var seeds = []string{
	sample, `null`, ` [1, "a", {"b":[true,false,null]}] `, `"\ud83d\ude00\ud83d\u0041"`, `-1.5e+10`, `[[[[[[[[[]]]]]]]]]`,
	`{"_placeholder":true,"num":0}`, `{"\u005fplaceholder":true,"num":1.0}`, "\"\xff\"", "\"\x00\"", `[1,]`, `{"a":1,"a":{}}`,
	"\"caf\u00e9 \u4e16\u754c padding padding\"", `"\u12"`, `"12345678\"1234567\\"`, `01`, `{"num":0,"_placeholder":true,"_placeholder":1}`,
}

// depthOf returns the deepest nesting of valid JSON.
func depthOf(b []byte) int {
	dec := json.NewDecoder(bytes.NewReader(b))
	deepest, open := 0, 0
	for {
		tok, err := dec.Token()
		if err != nil {
			return deepest
		}
		switch tok {
		case json.Delim('['), json.Delim('{'):
			open++
			deepest = max(deepest, open)
		case json.Delim(']'), json.Delim('}'):
			open--
		}
	}
}

func FuzzValid(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s), uint8(4))
	}
	f.Fuzz(func(t *testing.T, b []byte, limit uint8) {
		depth := int(limit)
		strict := json.Valid(b) && utf8.Valid(b)
		want := strict && depthOf(b) <= depth
		err := Valid(b, depth)
		if (err == nil) != want {
			t.Fatalf("%q to depth %d: %v, want valid %v", b, depth, err, want)
		}
		if strict && !want && !errors.Is(err, ErrDepth) {
			t.Fatalf("%q to depth %d: %v", b, depth, err)
		}
		found, perr := Placeholders(b, 2)
		if err == nil {
			checkPlaceholders(t, b, found, perr)
		}
		s, ok := String(b)
		var want2 string
		if trimmed := bytes.Trim(b, " \t\r\n"); strict && len(trimmed) == len(b) && b[0] == '"' {
			if json.Unmarshal(b, &want2) != nil || !ok || string(s) != want2 {
				t.Fatalf("%q: %q, %v, want %q", b, s, ok, want2)
			}
		} else if ok {
			t.Fatalf("%q: %q is no string", b, s)
		}
	})
}

// checkPlaceholders compares the result of Placeholders with that of a slow
// implementation on encoding/json's token stream.
func checkPlaceholders(t *testing.T, b []byte, found int, err error) {
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.UseNumber()
	want, bad := 0, false
	var value func() json.Token
	value = func() json.Token {
		tok, err := dec.Token()
		if err != nil {
			t.Fatalf("%q: %v", b, err)
		}
		switch tok {
		case json.Delim('['):
			for dec.More() {
				value()
			}
			_, _ = dec.Token()
		case json.Delim('{'):
			members := map[json.Token]json.Token{}
			for dec.More() {
				name := value()
				members[name] = value()
			}
			_, _ = dec.Token()
			if members["_placeholder"] == true {
				want++
				if n := members["num"]; n != json.Number("0") && n != json.Number("1") {
					bad = true
				}
			}
		}
		return tok
	}
	value()
	if bad != errors.Is(err, ErrPlaceholder) || !bad && (err != nil || found != want) {
		t.Fatalf("%q: found %d, %v; want %d, bad %v", b, found, err, want, bad)
	}
}

func FuzzArray(f *testing.F) {
	for _, s := range seeds {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		const depth = 6
		got, err := Array(nil, b, depth)
		if verr := Valid(b, depth); verr != nil {
			if !errors.Is(err, verr) {
				t.Fatalf("%q: %v, but valid says %v", b, err, verr)
			}
			return
		}
		if errors.Is(err, ErrNotArray) != (bytes.TrimLeft(b, " \t\r\n")[0] != '[') {
			t.Fatalf("%q: %v", b, err)
		}
		if err != nil {
			return
		}
		var want []json.RawMessage
		if err := json.Unmarshal(b, &want); err != nil || len(got) != len(want) {
			t.Fatalf("%q: %d elements, want %d (%v)", b, len(got), len(want), err)
		}
		for i := range want {
			if !bytes.Equal(got[i], want[i]) {
				t.Fatalf("%q: element %d is %q, want %q", b, i, got[i], want[i])
			}
		}
	})
}

const sample = `["driver:location:ping",{"lat":23.1136,"lng":-82.3666,"heading":90,"speed":8.3}]`

func BenchmarkValid(b *testing.B) {
	for _, bm := range []struct{ name, in string }{
		{"ping", sample},
		{"ascii", `["chat","` + strings.Repeat("the quick brown fox jumps over the lazy dog ", 24) + `"]`},
		{"cyrillic", `["chat","` + strings.Repeat("Привет мир ", 50) + `"]`},
	} {
		b.Run(bm.name, func(b *testing.B) {
			b.SetBytes(int64(len(bm.in)))
			b.ReportAllocs()
			data := []byte(bm.in)
			for b.Loop() {
				_ = Valid(data, 32)
			}
		})
	}
}

func BenchmarkArray(b *testing.B) {
	b.SetBytes(int64(len(sample)))
	b.ReportAllocs()
	data := []byte(sample)
	var dst [][]byte
	for b.Loop() {
		dst, _ = Array(dst[:0], data, 32)
	}
}

func BenchmarkPlaceholders(b *testing.B) {
	data := []byte(`["photo",{"_placeholder":true,"num":0},{"name":"a.png","thumb":{"_placeholder":true,"num":1}}]`)
	b.SetBytes(int64(len(data)))
	b.ReportAllocs()
	for b.Loop() {
		_, _ = Placeholders(data, 2)
	}
}

func BenchmarkString(b *testing.B) {
	data := []byte(`"driver:location:ping"`)
	b.ReportAllocs()
	for b.Loop() {
		_, _ = String(data)
	}
}
