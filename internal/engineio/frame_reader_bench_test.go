package engineio

import (
	"bytes"
	"testing"
)

// BenchmarkWSConn_ReadInput parses a frame and passes its message on, without a
// network.
func BenchmarkWSConn_ReadInput(b *testing.B) {
	s := newServer(b)
	ss := &Session{srv: s, handler: ignore{}}
	c := &wsConn{s: ss, link: &log{}}
	ss.ws = c
	payload := append([]byte("4"), bytes.Repeat([]byte("position "), 20)...)
	frame := append([]byte{0x81, 0x80 | 126, 0, byte(len(payload)), 0, 0, 0, 0}, payload...)
	read := getFrameReader()
	b.SetBytes(int64(len(frame)))
	b.ReportAllocs()
	for b.Loop() {
		if !c.readInput(read, frame).more { // a mask of zeros leaves the frame unchanged, so it can be read again
			b.Fatal("refused")
		}
	}
}
