// The link for any net.Conn: TLS, connections of a wrapped listener, in-memory pipes,
// and plain TCP where epoll does not exist. One goroutine reads; one writes, only while
// there is something to write.

package engineio

import (
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
	// maxEmptyReads is how often in a row a read may return neither data nor an error, as
	// in package bufio. A reader without a limit would use a whole core forever.
	maxEmptyReads = 100
)

// States of a netLink.
const (
	connNew     = iota
	connStarted // it has a reader
	connClosed
)

// Parts of a netLink that finish separately: its reader, and the closing of its connection.
const (
	partReading = 1 << iota
	partClosing
	allParts = partReading | partClosing
)

// netLink is a net.Conn. It may be a type of the host's, any of whose methods may block,
// panic or end the goroutine, so they are called through guarded, and only by the link's
// own goroutines: the reader, the one that flushes, and the one that closes.
type netLink struct {
	c          *wsConn
	conn       net.Conn // called in conn_host.go
	state      atomic.Int32
	finished   atomic.Int32 // the parts that have finished, a bit for each
	writeStart atomic.Int64 // start of the current write in Unix nanoseconds; 0 without one

	// Used by the reader only.
	idleBuf []byte
	reading bool  // input is still handled; otherwise it is discarded
	empty   uint8 // reads in a row that returned nothing

	plain bool // conn is plain TCP, which writes only what it is given
}

// newNetLink returns a link that takes over a connection. It calls no method of it: it
// runs on a goroutine of the host's.
func newNetLink(conn net.Conn, c *wsConn) *netLink {
	_, plain := conn.(*net.TCPConn)
	return &netLink{c: c, conn: conn, plain: plain}
}

func (l *netLink) start(early []byte) {
	if l.state.CompareAndSwap(connNew, connStarted) {
		go l.readFirst(early)
	}
}

// readFirst starts the reader: it handles the bytes that came with the handshake.
func (l *netLink) readFirst(early []byte) {
	l.idleBuf, l.reading = make([]byte, idleBuffer), true
	err := errConn // remains if feed does not return, because of runtime.Goexit
	defer func() { l.burstEnded(err) }()
	if len(early) > 0 {
		r := getFrameReader()
		defer frameReaders.Put(r)
		l.feed(r, early)
	}
	err = nil
}

// readNext reads one burst.
func (l *netLink) readNext() {
	err := errConn // remains if a call does not return, because of runtime.Goexit
	defer func() { l.burstEnded(err) }()
	n, failed := l.connRead(l.idleBuf)
	switch l.empty++; {
	case n > 0:
		l.empty = 0
		failed = l.readBurst(n, failed)
	case failed == nil && l.empty == maxEmptyReads:
		failed = errConnFails
	}
	err = failed
}

// burstEnded starts a new goroutine for the next burst. So the goroutine that waits has
// a new, small stack, and not one that decoding and handlers have grown. After an error
// the reader ends.
func (l *netLink) burstEnded(err error) {
	if err == nil {
		go l.readNext()
		return
	}
	defer l.partFinished(partReading)
	reason := ReasonTransportError
	if err == io.EOF { //nolint:errorlint // connRead wraps none
		reason = ReasonTransportClose
	}
	l.c.onConnError(reason)
}

// partFinished counts a part as finished; after both, the connection no longer counts
// as running.
func (l *netLink) partFinished(part int32) {
	if old := l.finished.Or(part); old != allParts && old|part == allParts {
		l.c.s.srv.running.Done()
	}
}

// readBurst handles the first n bytes and everything else that has arrived.
func (l *netLink) readBurst(n int, err error) error {
	r := getFrameReader()
	defer frameReaders.Put(r)
	l.feed(r, l.idleBuf[:n])
	for full := n == len(l.idleBuf); full && err == nil; full = n == len(r.buf) {
		n, err = l.connRead(r.buf[:])
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
		n, err := l.connWrite(b[done:min(done+chunk, len(b))], now.Add(l.c.s.srv.cfg.WriteTimeout))
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
	if !l.closeWrite() && !l.c.s.closeFrameSent() {
		l.c.onConnError(ReasonTransportClose) // nothing else tells the client to close
		return
	}
	l.setReadDeadline(time.Now().Add(l.c.s.lingerTime()))
}

func (l *netLink) close() {
	switch l.state.Swap(connClosed) {
	case connNew:
		l.partFinished(partReading) // there is no reader
	case connClosed:
		return
	}
	go l.closeConn()
}

// closeConn closes the connection. tls.Conn.Close sends close_notify and may block,
// because the client no longer reads; so the underlying connection is closed first. The
// calls are deferred, because any method may end the goroutine.
func (l *netLink) closeConn() {
	defer l.partFinished(partClosing)
	defer l.closeOver()
	defer l.closeUnderlying()
	l.clearLinger()
}

// closeOver closes the outermost connection. If its Close panics, the reader may wait forever:
// it is woken, and the connection no longer counts as running.
func (l *netLink) closeOver() {
	closed := false
	defer func() {
		if !closed {
			l.abandonReader()
		}
	}()
	closed = l.guarded(l.conn.Close) != errConn //nolint:errorlint // guarded wraps none
}

// abandonReader wakes the reader and counts it as finished, even if it does not return.
func (l *netLink) abandonReader() {
	defer l.partFinished(partReading)
	defer l.setReadDeadline(time.Unix(1, 0))
	l.closeWrite()
}
