// The link for any net.Conn: TLS, connections of a wrapped listener, in-memory
// pipes, and plain TCP where the system has no event loop here. One goroutine
// reads; one writes, only while there is something to write.

package engineio

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// idleBuffer is what an idle connection holds to read into; more arriving
	// than it takes is read with a pooled buffer.
	idleBuffer = 256
	// stallTime is how long a write is under way before it counts as blocked.
	stallTime = 5 * time.Millisecond
)

// States of a connLink.
const (
	connNew     = iota
	connStarted // there is a reader
	connClosed
)

// connLink calls a connection that may be the host's own, any of whose methods may
// block. So they are called by the link's own goroutines only: the reader, the one
// that flushes, and the one that closes.
type connLink struct {
	c     *wsConn
	conn  net.Conn
	state atomic.Int32
	ends  atomic.Int32 // of two: the reader's, and that of closing
	since atomic.Int64 // when the write under way began, in Unix nanoseconds

	// The reader's own.
	idle []byte
	more bool // input is of interest
}

func (l *connLink) start(early []byte) {
	if l.state.CompareAndSwap(connNew, connStarted) {
		go l.first(early)
	}
}

func (l *connLink) first(early []byte) {
	l.idle, l.more = make([]byte, idleBuffer), true
	if len(early) > 0 {
		r := readers.Get().(*reader)
		l.feed(r, early)
		readers.Put(r)
	}
	l.wait()
}

// wait reads one burst and leaves the next one to a goroutine of its own: what
// waits is then a new stack, and not one grown by decoding and by handlers.
func (l *connLink) wait() {
	n, err := l.conn.Read(l.idle)
	if n > 0 {
		err = l.burst(n, err)
	}
	if err == nil {
		go l.wait()
		return
	}
	reason := ReasonTransportError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // TLS without a goodbye
		reason = ReasonTransportClose
	}
	l.c.gone(reason)
	l.end()
}

// end counts the link out when there is neither a reader nor anything to close.
func (l *connLink) end() {
	if l.ends.Add(1) == 2 {
		l.c.s.srv.running.Done()
	}
}

// burst takes the n bytes that have been read, and what else is there.
func (l *connLink) burst(n int, err error) error {
	r := readers.Get().(*reader)
	defer readers.Put(r)
	l.feed(r, l.idle[:n])
	for full := n == len(l.idle); full && err == nil; full = n == len(r.buf) {
		n, err = l.conn.Read(r.buf[:])
		l.feed(r, r.buf[:n])
	}
	return err
}

// feed hands bytes on while they are of interest; reading goes on in any case,
// so that closing loses nothing that was sent.
func (l *connLink) feed(r *reader, b []byte) {
	if !l.more {
		return
	}
	more, work := l.c.feed(r, b)
	l.more = more
	if work {
		go l.c.s.handler.Serve()
	}
	l.c.s.waitResumed()
}

func (l *connLink) wake()  { go l.c.flush() }
func (l *connLink) flush() { go l.c.flush() }

// write takes all or fails. Each chunk has the time of a write, so that a large
// message does not need a faster client than small ones.
func (l *connLink) write(b []byte) (int, error) {
	defer l.since.Store(0)
	for done := 0; ; {
		now := time.Now()
		l.since.Store(now.UnixNano())
		if err := l.conn.SetWriteDeadline(now.Add(l.c.s.srv.cfg.WriteTimeout)); err != nil {
			return done, err
		}
		n, err := l.conn.Write(b[done:min(done+chunk, len(b))])
		done += n
		if err != nil || done == len(b) {
			return done, err
		}
	}
}

func (l *connLink) notify(bool) {} // write takes all or fails

func (l *connLink) stalled() bool {
	since := l.since.Load()
	return since != 0 && time.Now().UnixNano()-since > int64(stallTime)
}

func (l *connLink) resume() {} // the reader waits in waitResumed

func (l *connLink) finish() {
	// A connection that can't be closed for writing alone is closed by the
	// client or by the deadline.
	if half, ok := l.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(l.c.s.srv.cfg.CloseTimeout))
}

func (l *connLink) close() {
	switch l.state.Swap(connClosed) {
	case connNew:
		l.end() // there is no reader
	case connClosed:
		return
	}
	go l.cut()
}

// cut closes the connection. TLS sends its close_notify on closing, and may wait for
// the client to take that; by now nobody reads it, so what is below goes first.
func (l *connLink) cut() {
	defer l.end()
	if over, ok := l.conn.(interface{ NetConn() net.Conn }); ok {
		_ = over.NetConn().Close()
	}
	_ = l.conn.Close()
}

// newConnLink takes a connection over.
func newConnLink(conn net.Conn, c *wsConn) *connLink {
	clearLinger(conn)
	return &connLink{c: c, conn: conn}
}

// clearLinger undoes what may make closing a connection wait for the client.
func clearLinger(conn net.Conn) {
	for range 8 { // wrappers of wrappers, but not without end
		if tcp, ok := conn.(*net.TCPConn); ok {
			_ = tcp.SetLinger(-1) // fails on a connection that has ended
			return
		}
		over, ok := conn.(interface{ NetConn() net.Conn })
		if !ok {
			return
		}
		conn = over.NetConn()
	}
}
