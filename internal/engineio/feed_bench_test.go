package engineio

import (
	"bytes"
	"testing"
)

// BenchmarkFeed parses a frame and hands its message on, without a network.
func BenchmarkFeed(b *testing.B) {
	s := newServer(b)
	ss := &Session{srv: s, handler: ignore{}}
	c := &wsConn{s: ss, link: &log{}}
	ss.ws = c
	payload := append([]byte("4"), bytes.Repeat([]byte("position "), 20)...)
	frame := append([]byte{0x81, 0x80 | 126, 0, byte(len(payload)), 0, 0, 0, 0}, payload...)
	read := readers.Get().(*reader)
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if more, _ := c.feed(read, frame); !more { // the mask of zeros leaves it as it is
			b.Fatal("refused")
		}
	}
}
