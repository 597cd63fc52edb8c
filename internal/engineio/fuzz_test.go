package engineio

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// log is a handler and a link that records all calls.
type log struct {
	lines []string
}

func (l *log) Message(data []byte, binary bool) error {
	l.lines = append(l.lines, fmt.Sprintf("message %v %q", binary, data))
	if string(data) == "refuse" {
		return net.ErrClosed
	}
	return nil
}
func (l *log) Opened()              {}
func (l *log) Serve()               {}
func (l *log) Closed(reason Reason) { l.lines = append(l.lines, "closed: "+string(reason)) }

func (l *log) start([]byte)        {}
func (l *log) wake()               {}
func (l *log) flush()              {}
func (l *log) notifyWritable(bool) {}
func (l *log) stalled() bool       { return false }
func (l *log) resume()             {}
func (l *log) finish()             {}
func (l *log) close()              { l.lines = append(l.lines, "link closed") }

func (l *log) write(b []byte) (int, error) {
	l.lines = append(l.lines, fmt.Sprintf("written %q", b))
	return len(b), nil
}

// newLogged returns a session that records all calls, on polling or on a websocket.
// With probing the websocket belongs to an upgrade that is not complete.
func newLogged(s *Server, websocket, probing bool) (*Session, *wsConn, *log) {
	l := &log{}
	ss := &Session{srv: s, id: "id", handler: l}
	ss.timer.F = ss.onTimer
	c := &wsConn{s: ss, link: l}
	switch {
	case websocket:
		ss.ws = c
	case probing:
		ss.probe = c
		c.upgradeTimer = &ss.timer
	}
	return ss, c, l
}

// seeds returns inputs that have crashed servers before, each a stream of frames.
func seeds() map[string][]byte {
	frame := func(first byte, payload string) []byte {
		b := []byte{first}
		switch n := len(payload); {
		case n < 126:
			b = append(b, 0x80|byte(n))
		case n <= 0xffff:
			b = binary.BigEndian.AppendUint16(append(b, 0xfe), uint16(n))
		default:
			b = binary.BigEndian.AppendUint64(append(b, 0xff), uint64(n))
		}
		mask := []byte{1, 2, 3, 4}
		b = append(b, mask...)
		for i := range len(payload) {
			b = append(b, payload[i]^mask[i%4])
		}
		return b
	}
	length := func(first byte, n uint64) []byte {
		return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n), 1, 2, 3, 4)
	}
	join := func(parts ...[]byte) []byte { return bytes.Join(parts, nil) }
	return map[string][]byte{
		"messages":                             join(frame(0x81, "4a"), frame(0x82, "\x00\xff"), frame(0x81, "4ü")),
		"frame that takes more room in pieces": frame(0x82, strings.Repeat("a", countThreshold))[:countThreshold-countThreshold/16],
		"upgrade":                              join(frame(0x81, "2probe"), frame(0x81, "5"), frame(0x81, "4a"), frame(0x88, "")),
		"heartbeat":                            join(frame(0x81, "3"), frame(0x89, "ping"), frame(0x8a, "pong"), frame(0x81, "2")),
		"256 MB":                               length(0x82, 256<<20),
		"length MSB":                           length(0x82, 0x8000000000000001),
		"length all ones":                      length(0x82, 1<<64-1),
		"15 bytes with MSB":                    append(length(0x81, 0x8000000000000001), 0),
		"reserved bits":                        frame(0xf1, "4a"),
		"second reserved bit":                  frame(0xa2, "4a"),
		"reserved opcode":                      frame(0x83, "4a"),
		"reserved control":                     frame(0x8f, ""),
		"unmasked":                             {0x81, 2, '4', 'a'},
		"fragments":                            join(frame(0x01, "4a"), frame(0x89, ""), frame(0x00, ""), frame(0x80, "b")),
		"tiny fragments":                       join(frame(0x02, ""), bytes.Repeat(frame(0x00, ""), 50)),
		"unfinished fragment":                  join(frame(0x01, "4a"), frame(0x81, "4b")),
		"continuation":                         frame(0x80, "4a"),
		"long control":                         frame(0x89, strings.Repeat("x", 126)),
		"fragmented control":                   frame(0x08, ""),
		"invalid UTF-8":                        frame(0x81, "4\xff"),
		"digits":                               frame(0x81, "4"+strings.Repeat("9", 3000)),
		"attachments":                          frame(0x81, "45999999999-[]"),
		"prototype":                            frame(0x81, `42[{"toString":"foo"}]`),
		"empty":                                frame(0x81, ""),
		"close":                                join(frame(0x88, "\x03\xe8bye"), frame(0x81, "4a")),
		"refused":                              join(frame(0x81, "4refuse"), frame(0x81, "4a")),
	}
}

// FuzzWebSocketInput feeds a websocket, or one whose upgrade is not complete, the same
// bytes whole and in arbitrary pieces. Both have the same effect, and nothing panics.
func FuzzWebSocketInput(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b, uint64(1), false)
		f.Add(b, uint64(2), true)
	}
	s := newServer(f)
	f.Fuzz(func(t *testing.T, input []byte, split uint64, probing bool) {
		r := rand.New(rand.NewPCG(split, 0))
		run := func(next func(left int) int) (events []string, pend bool) {
			ss, c, l := newLogged(s, !probing, probing)
			defer s.cfg.Wheel.Stop(&ss.timer)
			read := getFrameReader()
			defer frameReaders.Put(read)
			more := true
			for left := bytes.Clone(input); more && len(left) > 0; {
				n := next(len(left))
				piece := bytes.Clone(left[:n])
				more = c.readInput(read, piece).more
				for i := range piece { // no part of it may be kept
					piece[i] = 0xaa
				}
				left = left[n:]
				if p := c.unfinished; p != nil {
					if len(p.raw) > s.cfg.MaxPayload+14 || len(p.message) > s.cfg.MaxPayload || p.frames > maxFragments {
						t.Fatal("more is kept than a message may take")
					}
				}
			}
			for m := ss.out.first(); m != nil; m = ss.out.first() {
				l.lines = append(l.lines, fmt.Sprintf("queued %q", m.frame))
				ss.out.shift()
			}
			return append(l.lines, fmt.Sprint("more: ", more)), c.unfinished != nil
		}
		whole, pend := run(func(left int) int { return left })
		for _, next := range []func(left int) int{
			func(int) int { return 1 },
			func(left int) int { return 1 + r.IntN(left) },
			func(left int) int { return 1 + r.IntN(min(left, 20)) },
		} {
			parts, pendParts := run(next)
			require.Equal(t, whole, parts)
			require.Equal(t, pend, pendParts)
		}
	})
}

// FuzzPollingPayload receives arbitrary polling bodies. A body that is accepted has the
// same effect after it was decoded and encoded again.
func FuzzPollingPayload(f *testing.F) {
	for _, b := range seeds() {
		f.Add(b)
	}
	for _, body := range []string{
		"4", "4a\x1ebAQID\x1e4ü", "1", "4a\x1e1\x1e4b", "3", "2", "2probe", "5", "6", "0{}", "", "\x1e", "4a\x1e",
		"b", "b=", "b====", "bAQ\n==", "4\xff", "bAQID\x1e" + strings.Repeat("4\x1e", 1001), "451-[]", "4refuse",
	} {
		f.Add([]byte(body))
	}
	s := newServer(f)
	f.Fuzz(func(t *testing.T, body []byte) {
		ss, _, l := newLogged(s, false, false)
		ss.poll = make(chan struct{}, 1) // so that a close does not wait for a poll
		ss.receivePayload(bytes.Clone(body), false)
		s.cfg.Wheel.Stop(&ss.timer)
		if ss.state != stateOpen {
			return
		}
		var again []byte
		for i, packet := range bytes.Split(body, []byte{separator}) {
			data, isBinary, ok := decodePolled(packet)
			require.True(t, ok)
			if i > 0 {
				again = append(again, separator)
			}
			if isBinary {
				again = BinaryMessage(data).appendPolled(again)
			} else {
				again = control(string(data)).appendPolled(again)
			}
		}
		second, _, l2 := newLogged(s, false, false)
		second.receivePayload(again, false)
		require.Equal(t, l.lines, l2.lines)
	})
}
