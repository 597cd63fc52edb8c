// An in-memory network: a listener and its connections, without ports or the kernel, so
// that a test can run in a testing/synctest bubble.

package realtimetest

import (
	"context"
	"io"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// Listener is a net.Listener with in-memory connections. An http.Server serves on it,
// and clients reach it with the option Over. Its connections have deadlines, a bounded
// buffer and CloseWrite, as TCP connections do. A goroutine that waits on one is durably
// blocked, in the terms of testing/synctest. All methods may be called concurrently.
type Listener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
	ports  atomic.Int32
}

// NewListener returns a Listener. It starts no goroutine.
func NewListener() *Listener {
	l := &Listener{conns: make(chan net.Conn), closed: make(chan struct{})}
	l.close = sync.OnceFunc(func() { close(l.closed) })
	return l
}

// Accept implements net.Listener.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener. Open connections stay open.
func (l *Listener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener. The address is one reserved for documentation.
func (l *Listener) Addr() net.Addr { return listenAddr }

// DialContext connects to the listener and ignores network and address. It returns when
// the connection has been accepted.
func (l *Listener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	addr := &net.TCPAddr{IP: net.IPv4(192, 0, 2, 2), Port: 1024 + int(l.ports.Add(1))%64000}
	up, down := newStream(), newStream()
	client := &memConn{in: down, out: up, local: addr, remote: listenAddr}
	server := &memConn{in: up, out: down, local: listenAddr, remote: addr}
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}

// listenAddr is in TEST-NET-1, RFC 5737.
var listenAddr = &net.TCPAddr{IP: net.IPv4(192, 0, 2, 1), Port: 80}

// memConn is one end of a connection.
type memConn struct {
	in, out       *stream
	local, remote net.Addr
}

func (c *memConn) Read(b []byte) (int, error)  { return c.in.read(b) }
func (c *memConn) Write(b []byte) (int, error) { return c.out.write(b) }

// CloseWrite makes the other end read io.EOF after the bytes that were written.
func (c *memConn) CloseWrite() error {
	c.out.end()
	return nil
}

// Close implements net.Conn. The other end can still read the bytes that were written.
func (c *memConn) Close() error {
	c.out.end()
	c.in.abandon()
	return nil
}

func (c *memConn) LocalAddr() net.Addr  { return c.local }
func (c *memConn) RemoteAddr() net.Addr { return c.remote }

func (c *memConn) SetDeadline(t time.Time) error {
	c.in.reading.set(c.in, t)
	c.out.writing.set(c.out, t)
	return nil
}

func (c *memConn) SetReadDeadline(t time.Time) error {
	c.in.reading.set(c.in, t)
	return nil
}

func (c *memConn) SetWriteDeadline(t time.Time) error {
	c.out.writing.set(c.out, t)
	return nil
}

// streamSize is the number of unread bytes in one direction at which a write blocks.
const streamSize = 64 << 10

// stream is one direction of a connection.
type stream struct {
	mu               sync.Mutex // guards the fields below
	changed          sync.Cond  // broadcast on any change
	buf              []byte
	writerClosed     bool
	readerClosed     bool
	reading, writing deadline
}

func newStream() *stream {
	s := &stream{}
	s.changed.L = &s.mu
	return s
}

func (s *stream) read(b []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.readerClosed:
			return 0, net.ErrClosed
		case s.reading.passed():
			return 0, os.ErrDeadlineExceeded
		case len(b) == 0:
			return 0, nil
		case len(s.buf) > 0:
			n := copy(b, s.buf)
			if s.buf = s.buf[n:]; len(s.buf) == 0 {
				s.buf = nil
			}
			s.changed.Broadcast()
			return n, nil
		case s.writerClosed:
			return 0, io.EOF
		}
		s.changed.Wait()
	}
}

func (s *stream) write(b []byte) (n int, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for {
		switch {
		case s.writerClosed:
			return n, net.ErrClosed
		case s.readerClosed:
			return n, io.ErrClosedPipe
		case s.writing.passed():
			return n, os.ErrDeadlineExceeded
		case len(b) == 0:
			return n, nil
		}
		if free := min(streamSize-len(s.buf), len(b)); free > 0 {
			s.buf = append(s.buf, b[:free]...)
			b = b[free:]
			n += free
			s.changed.Broadcast()
			continue
		}
		s.changed.Wait()
	}
}

// end closes the writer's side.
func (s *stream) end() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.writerClosed = true
	s.writing.stop()
	s.changed.Broadcast()
}

// abandon closes the reader's side and drops the unread bytes.
func (s *stream) abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.readerClosed, s.buf = true, nil
	s.reading.stop()
	s.changed.Broadcast()
}

// deadline is a read or write deadline.
type deadline struct {
	at    time.Time
	timer *time.Timer
}

func (d *deadline) passed() bool { return !d.at.IsZero() && !time.Now().Before(d.at) }

func (d *deadline) stop() {
	if d.timer != nil {
		d.timer.Stop()
		d.timer = nil
	}
}

func (d *deadline) set(s *stream, t time.Time) {
	s.mu.Lock()
	defer s.mu.Unlock()
	d.stop()
	d.at = t
	if time.Now().Before(t) && !s.writerClosed && !s.readerClosed { // those who wait learn of one in the past below
		d.timer = time.AfterFunc(time.Until(t), func() {
			s.mu.Lock() // otherwise the broadcast could come between a check and its Wait
			defer s.mu.Unlock()
			s.changed.Broadcast()
		})
	}
	s.changed.Broadcast()
}
