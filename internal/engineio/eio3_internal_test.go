package engineio

import (
	"bytes"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestSplitTextPayload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, packet, rest string
		ok               bool
	}{
		{"1:4", "4", "", true},
		{"5:4höö!3:4ab", "4höö!", "3:4ab", true},
		{"3:4😀1:2", "4😀", "1:2", true}, // a surrogate pair counts as two
		{"01:4", "4", "", true},
		{"0:", "", "", true},
		{"2:4😀", "4😀", "", false}, // and is not split
		{in: "4"},
		{in: ":4"},
		{in: ""},
		{in: "1:"},
		{in: "2:4"},
		{in: "-1:4"},
		{in: "1.0:4"},
		{in: " 1:4"},
		{in: "1e1:4123456789"},
		{in: "2:4\xff"},
		{in: "99999999999:4"},
		{in: strings.Repeat("9", 1_000_000)},
		{in: strings.Repeat("0", 11) + "1:4"},
	} {
		p := splitTextPayload([]byte(c.in))
		require.Equal(t, c.ok, p.ok, "%.40q", c.in)
		if p.ok {
			require.Equal(t, c.packet, string(p.data))
			require.Equal(t, c.rest, string(p.rest))
		}
	}
}

func TestSplitBinaryPayload(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		in, packet, rest string
		binary, ok       bool
	}{
		{"\x00\x01\xff4", "4", "", false, true},
		{"\x00\x04\xff4höX", "4hö", "X", false, true}, // counted in bytes
		{"\x01\x01\x00\xff\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff", "\x04\xff\xff\xff\xff\xff\xff\xff\xff\xff", "", true, true},
		{in: ""},
		{in: "\x00"},
		{in: "\x02\x01\xff4"},
		{in: "\x00\xff4"},
		{in: "\x00\x0a\xff4"},
		{in: "\x00\x02\xff4"},
		{in: "\x00\x01\x01"},
		{in: "\x00\x02\xff4\xff"},
		{in: "\x01" + strings.Repeat("\x09", 11) + "\xff"},
		{in: "\x01" + strings.Repeat("\x09", 1_000_000)},
	} {
		p := splitBinaryPayload([]byte(c.in))
		require.Equal(t, c.ok, p.ok, "%.40q", c.in)
		if p.ok {
			require.Equal(t, c.packet, string(p.data))
			require.Equal(t, c.rest, string(p.rest))
			require.Equal(t, c.binary, p.binary)
		}
	}
}

func TestEscapeNonASCII(t *testing.T) {
	t.Parallel()
	require.Equal(t, `42["a","h\u00f6\u2603\ud83d\ude00"]`, string(escapeNonASCII([]byte(`42["a","hö☃😀"]`))))
	require.Equal(t, `42["a\u00e9"]`, string(escapeNonASCII([]byte(`42["a\u00e9"]`))), "an escape stays unchanged")
}

func TestUndoDoubleUTF8(t *testing.T) {
	t.Parallel()
	for twice, once := range map[string]string{
		"4hÃ¶":           "4hö",
		"4â\u0098\u0083": "4☃",
		"4hö":            "4hö", // not valid UTF-8 when taken as bytes
		"4☃":             "4☃",  // not bytes
		"4 plain":        "4 plain",
	} {
		require.Equal(t, once, string(undoDoubleUTF8([]byte(twice))))
	}
}

// FuzzEIO3 receives arbitrary polling bodies of EIO3. A body that is accepted has the
// same effect after it was decoded and encoded again.
func FuzzEIO3(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, false, false)
		f.Add(b, true, false)
	}
	for _, body := range []string{
		"1:4", "5:4höö!3:4ab1:2", "3:4😀", "2:4😀", "6:b4AQID", "6:b4AQI=", "3:b4=", "1:b", "2:b3", "1:1", "1:2", "1:3", "6:2probe", "0:1:4",
		"-1:4", ":", "99999999999999999999:4", strings.Repeat("1:4", 1001), "1:41:11:4", "7:4refuse1:4", "4:4hÃ¶",
	} {
		f.Add([]byte(body), false, false)
		f.Add([]byte(body), false, true)
	}
	for _, body := range []string{"\x00\x01\xff4", "\x01\x02\xff\x04\xff", "\x01\x02\xff\x03\xff", "\x00\x09\x09\x09\x09\xff4", "\x01" + strings.Repeat("\x09", 400), "\x01\xff"} {
		f.Add([]byte(body), true, false)
	}
	s := newServer(f)
	s.cfg.AllowEIO3 = true
	run := func(body []byte, binaryBody, b64 bool) (*Session, []string) {
		ss, _, l := newLogged(s, false, false)
		ss.eio3, ss.b64 = true, b64
		ss.poll = make(chan struct{}, 1) // so that a close does not wait for a poll
		ss.receivePayload(bytes.Clone(body), binaryBody)
		s.cfg.Wheel.Stop(&ss.timer)
		for m := ss.out.first(); m != nil; m = ss.out.first() {
			l.lines = append(l.lines, fmt.Sprintf("queued %q", m.frame))
			ss.out.shift()
		}
		return ss, l.lines
	}
	f.Fuzz(func(t *testing.T, body []byte, binaryBody, b64 bool) {
		ss, lines := run(body, binaryBody, b64)
		if ss.state != stateOpen {
			return
		}
		var again []byte
		for rest, more := body, true; more; {
			p := ss.splitPayloadEIO3(rest, binaryBody)
			require.True(t, p.ok)
			rest, more = p.rest, len(p.rest) > 0
			m := newMessage(append(make([]byte, headroom), p.data...), p.binary)
			if binaryBody {
				again = m.appendOctetsEIO3(again)
			} else {
				again = m.appendTextEIO3(again, false)
			}
		}
		_, second := run(again, binaryBody, b64)
		require.Equal(t, lines, second)
	})
}
