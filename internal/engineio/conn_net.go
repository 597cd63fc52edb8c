// The link for any net.Conn: TLS, connections of a wrapped listener, in-memory pipes,
// and plain TCP where epoll does not exist. One goroutine reads; one writes, only while
// there is something to write.

package engineio

import (
	"errors"
	"io"
	"net"
	"sync/atomic"
	"time"
)

const (
	// idleBuffer is the size of the read buffer of an idle connection. A larger burst
	// is read into a pooled buffer.
	idleBuffer = 256
	// stallTime is how long a write may take before the connection counts as stalled.
	stallTime = 5 * time.Millisecond
)

// States of a netLink.
const (
	connNew     = iota
	connStarted // it has a reader
	connClosed
)

// netLink is a net.Conn. It may be a type of the host's, any of whose methods may
// block, so only the link's own goroutines call them: the reader, the one that flushes,
// and the one that closes.
type netLink struct {
	c          *wsConn
	conn       net.Conn
	state      atomic.Int32
	finished   atomic.Int32 // number of the two parts that have finished: reading and closing
	writeStart atomic.Int64 // start of the current write in Unix nanoseconds; 0 without one

	// Used by the reader only.
	idleBuf []byte
	reading bool // input is still handled; otherwise it is discarded
}

func (l *netLink) start(early []byte) {
	if l.state.CompareAndSwap(connNew, connStarted) {
		go l.readFirst(early)
	}
}

func (l *netLink) readFirst(early []byte) {
	l.idleBuf, l.reading = make([]byte, idleBuffer), true
	if len(early) > 0 {
		r := getFrameReader()
		l.feed(r, early)
		frameReaders.Put(r)
	}
	l.readNext()
}

// readNext reads one burst and starts a new goroutine for the next one. So the
// goroutine that waits has a new, small stack, and not one that decoding and handlers
// have grown.
func (l *netLink) readNext() {
	n, err := l.conn.Read(l.idleBuf)
	if n > 0 {
		err = l.readBurst(n, err)
	}
	if err == nil {
		go l.readNext()
		return
	}
	reason := ReasonTransportError
	if errors.Is(err, io.EOF) || errors.Is(err, io.ErrUnexpectedEOF) { // EOF without close_notify, over TLS
		reason = ReasonTransportClose
	}
	l.c.onConnError(reason)
	l.partFinished()
}

// partFinished counts one of the two parts as finished; after both, the connection no
// longer counts as running.
func (l *netLink) partFinished() {
	if l.finished.Add(1) == 2 {
		l.c.s.srv.running.Done()
	}
}

// readBurst handles the first n bytes and everything else that has arrived.
func (l *netLink) readBurst(n int, err error) error {
	r := getFrameReader()
	defer frameReaders.Put(r)
	l.feed(r, l.idleBuf[:n])
	for full := n == len(l.idleBuf); full && err == nil; full = n == len(r.buf) {
		n, err = l.conn.Read(r.buf[:])
		l.feed(r, r.buf[:n])
	}
	return err
}

// feed passes bytes on as long as the websocket takes input. Reading continues in any
// case: closing a connection with unread input would lose queued messages.
func (l *netLink) feed(r *frameReader, b []byte) {
	if !l.reading {
		return
	}
	res := l.c.readInput(r, b)
	l.reading = res.more
	if res.serve {
		go l.c.s.handler.Serve()
	}
	l.c.s.waitResumed()
}

func (l *netLink) wake()  { go l.c.flush() }
func (l *netLink) flush() { go l.c.flush() }

// write writes all of b or fails. Each chunk has its own WriteTimeout, so that a large
// message does not need a faster client than small ones.
func (l *netLink) write(b []byte) (int, error) {
	defer l.writeStart.Store(0)
	for done := 0; ; {
		now := time.Now()
		l.writeStart.Store(now.UnixNano())
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

func (l *netLink) notifyWritable(bool) {} // write never writes a part without an error

func (l *netLink) stalled() bool {
	since := l.writeStart.Load()
	return since != 0 && time.Now().UnixNano()-since > int64(stallTime)
}

func (l *netLink) resume() {} // the reader waits in waitResumed

func (l *netLink) finish() {
	// A connection without CloseWrite is closed by the client or by the deadline.
	if half, ok := l.conn.(interface{ CloseWrite() error }); ok {
		_ = half.CloseWrite()
	}
	_ = l.conn.SetReadDeadline(time.Now().Add(l.c.s.srv.cfg.CloseTimeout))
}

func (l *netLink) close() {
	switch l.state.Swap(connClosed) {
	case connNew:
		l.partFinished() // there is no reader
	case connClosed:
		return
	}
	go l.closeConn()
}

// closeConn closes the connection. tls.Conn.Close sends close_notify and may block,
// because the client no longer reads; so the underlying connection is closed first.
func (l *netLink) closeConn() {
	defer l.partFinished()
	if over, ok := l.conn.(interface{ NetConn() net.Conn }); ok {
		_ = over.NetConn().Close()
	}
	_ = l.conn.Close()
}

// newNetLink returns a link that takes over a connection.
func newNetLink(conn net.Conn, c *wsConn) *netLink {
	clearLinger(conn)
	return &netLink{c: c, conn: conn}
}

// clearLinger clears SO_LINGER, which may make closing a connection wait for the
// client.
func clearLinger(conn net.Conn) {
	for range 8 { // a wrapper may wrap a wrapper; the bound stops a cycle
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
