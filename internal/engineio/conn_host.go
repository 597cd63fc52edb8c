// Calls of the methods of a connection, whose type may be the host's: they may panic or end
// the goroutine.

package engineio

import (
	"bufio"
	"errors"
	"io"
	"net"
	"net/http"
	"os"
	"runtime/debug"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

var (
	errConn      = errors.New("the connection panicked, or ended the goroutine")
	errConnFails = errors.New("the connection failed")
	errConnCount = errors.New("a method of the connection returned an impossible count")
)

// guarded calls methods of the connection. It returns errConn for a panic. With
// runtime.Goexit it does not return, and the link ends.
func (l *netLink) guarded(f func() error) (err error) {
	returned := false
	defer func() {
		if returned {
			return
		}
		err = errConn
		v := recover()
		l.c.s.srv.connPanicked(v)
		if v == nil { // runtime.Goexit: the caller ends too
			go l.c.onConnError(ReasonTransportError)
		}
	}()
	err = plainError(f())
	returned = true
	return err
}

// guardedConn calls a method of a connection that has no link, such as that of a POST. It
// does not return from runtime.Goexit.
func (s *Server) guardedConn(f func() error) {
	returned := false
	defer func() {
		if !returned {
			s.connPanicked(recover())
		}
	}()
	_ = f()
	returned = true
}

// hijacker is an http.ResponseWriter whose connection has already been taken over. It collects
// the response to a websocket's handshake.
type hijacker struct {
	http.ResponseWriter
	conn     net.Conn // nil if Hijack failed
	rw       *bufio.ReadWriter
	err      error
	response collector // of what is written to rw
}

func (h *hijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) { return h.conn, h.rw, h.err }

// take takes over the connection. It reports whether h.response collects what is written to
// h.rw: not if the host has left bytes in its buffer, which must be written first.
func (h *hijacker) take() (collects bool) {
	h.conn, h.rw, h.err = http.NewResponseController(h.ResponseWriter).Hijack()
	switch {
	case h.err != nil:
		h.Header().Set(headerConnection, "close") // of the answer, which refuses the websocket
		return false
	case h.rw.Writer.Buffered() > 0:
		return false
	}
	h.rw.Writer.Reset(&h.response)
	return true
}

// collector is an io.Writer that keeps what is written to it.
type collector []byte

func (c *collector) Write(b []byte) (int, error) {
	*c = append(*c, b...)
	return len(b), nil
}

// writeResponse writes the response to a websocket's handshake to a connection that has no
// link. A method of the connection may panic.
func (s *Server) writeResponse(conn net.Conn, response []byte) error {
	if len(response) == 0 {
		return nil
	}
	_ = conn.SetWriteDeadline(time.Now().Add(s.cfg.WriteTimeout)) // not every connection has deadlines
	if _, err := conn.Write(response); err != nil {
		return err
	}
	return conn.SetWriteDeadline(time.Time{})
}

// connPanicked logs a panic of a method of a connection. v is the recovered value; nil means
// runtime.Goexit.
func (s *Server) connPanicked(v any) {
	s.log().Error("engineio: panic of a connection", "panic", hostcall.PanicText(v), "stack", string(debug.Stack()))
}

// plainError replaces an error, whose methods may be the host's, by one that is safe to
// inspect: io.EOF, os.ErrDeadlineExceeded, errConnCount or errConnFails.
func plainError(err error) error {
	switch {
	case err == nil, err == io.EOF, err == errConnCount: //nolint:errorlint // most errors are one of these; others are inspected below
		return err
	case errors.Is(err, io.EOF), errors.Is(err, io.ErrUnexpectedEOF): // EOF without close_notify, over TLS
		return io.EOF
	case errors.Is(err, os.ErrDeadlineExceeded):
		return os.ErrDeadlineExceeded
	}
	return errConnFails
}

func (l *netLink) connRead(b []byte) (n int, err error) {
	err = l.guarded(func() error {
		got, err := l.conn.Read(b)
		if got < 0 || got > len(b) {
			return errConnCount
		}
		n = got
		return err
	})
	return n, err
}

// connWrite writes within a deadline, which does not remain after a write that succeeds: a
// connection such as that of TLS also writes by itself, within Read, and would fail then.
func (l *netLink) connWrite(b []byte, deadline time.Time) (n int, err error) {
	err = l.guarded(func() error {
		if err := l.conn.SetWriteDeadline(deadline); err != nil {
			return err
		}
		wrote, err := l.conn.Write(b)
		if wrote < 0 || wrote > len(b) || wrote == 0 && err == nil {
			return errConnCount
		}
		n = wrote
		if err == nil && !l.plain {
			_ = l.conn.SetWriteDeadline(time.Time{}) // all of b was written; the next write finds what fails
		}
		return err
	})
	return n, err
}

// closeWrite closes the write direction. It reports false if the connection cannot do that.
func (l *netLink) closeWrite() bool {
	half, ok := l.conn.(interface{ CloseWrite() error })
	return ok && l.guarded(half.CloseWrite) == nil
}

func (l *netLink) setReadDeadline(t time.Time) {
	_ = l.guarded(func() error { return l.conn.SetReadDeadline(t) })
}

// wrapping is a connection over another, as TLS is.
type wrapping interface{ NetConn() net.Conn }

func (l *netLink) closeUnderlying() {
	if over, ok := l.conn.(wrapping); ok {
		_ = l.guarded(func() error { return over.NetConn().Close() })
	}
}

// clearLinger clears SO_LINGER, which may make closing a connection wait for the
// client.
func (l *netLink) clearLinger() {
	_ = l.guarded(func() error {
		conn := l.conn
		for range 8 { // a wrapper may wrap a wrapper; the bound stops a cycle
			if tcp, ok := conn.(*net.TCPConn); ok {
				return tcp.SetLinger(-1) // fails on a connection that has ended
			}
			over, ok := conn.(wrapping)
			if !ok {
				return nil
			}
			conn = over.NetConn()
		}
		return nil
	})
}
