// A net.Conn that reads and writes with the calls of this package.

package rawsocket

import (
	"io"
	"net"
	"os"
	"syscall"
)

// conn is a connection over TCP. The runtime's poller waits where a call would block.
type conn struct {
	*net.TCPConn
	raw  syscall.RawConn
	r, w transfer
}

// Conn returns a connection that reads and writes c with the calls of this package. At most one
// goroutine may read from it at a time, and one write to it.
func Conn(c *net.TCPConn) net.Conn {
	raw, err := c.SyscallConn()
	if err != nil {
		return c
	}
	n := &conn{TCPConn: c, raw: raw}
	// The functions are made once, since one that is made for each call is allocated.
	n.r.step, n.w.step = n.r.read, n.w.write
	return n
}

// transfer is a call of Read or Write that is being made.
type transfer struct {
	b    []byte
	n    int
	err  error
	step func(fd uintptr) bool
}

// read reports whether there is nothing to wait for.
func (t *transfer) read(fd uintptr) bool {
	for {
		t.n, t.err = Read(int(fd), t.b)
		if t.err != syscall.EINTR { //nolint:errorlint // Read returns a syscall.Errno
			return t.err != syscall.EAGAIN //nolint:errorlint // as above
		}
	}
}

// write reports whether there is nothing to wait for.
func (t *transfer) write(fd uintptr) bool {
	for t.n < len(t.b) {
		n, err := Write(int(fd), t.b[t.n:])
		t.n += max(n, 0)
		switch {
		case err == syscall.EAGAIN: //nolint:errorlint // Write returns a syscall.Errno
			return false
		case err != nil && err != syscall.EINTR: //nolint:errorlint // as above
			t.err = err
			return true
		}
	}
	return true
}

// Read implements net.Conn.
func (c *conn) Read(b []byte) (int, error) {
	if len(b) == 0 {
		return 0, nil
	}
	t := &c.r
	t.b = b
	err := c.raw.Read(t.step)
	t.b = nil
	switch {
	case err != nil:
		return 0, err // the poller's; t.err is EAGAIN, or of an earlier call
	case t.err != nil:
		return 0, c.failure("read", "recvfrom", t.err)
	case t.n == 0:
		return 0, io.EOF
	}
	return t.n, nil
}

// Write implements net.Conn.
func (c *conn) Write(b []byte) (int, error) {
	t := &c.w
	t.b, t.n, t.err = b, 0, nil
	err := c.raw.Write(t.step)
	t.b = nil
	if err == nil && t.err != nil {
		err = c.failure("write", "sendto", t.err)
	}
	return t.n, err
}

func (c *conn) failure(op, call string, err error) error {
	return &net.OpError{Op: op, Net: "tcp", Source: c.LocalAddr(), Addr: c.RemoteAddr(), Err: os.NewSyscallError(call, err)}
}
