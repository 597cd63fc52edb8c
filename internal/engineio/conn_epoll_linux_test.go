package engineio

import (
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const flagGet = 3 // F_GETFL

// file returns another descriptor of the connection, as a host does to set a socket
// option: os.File.Fd makes the connection blocking.
func file(t *testing.T, conn *net.TCPConn) *os.File {
	f, err := conn.File()
	require.NoError(t, err)
	t.Cleanup(func() { _ = f.Close() })
	return f
}

func isBlocking(t *testing.T, fd int) bool {
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), flagGet, 0)
	require.Zero(t, errno)
	return flags&syscall.O_NONBLOCK == 0
}

// adopt makes a blocking connection non-blocking; and if the host makes it blocking
// again, no call waits.
func TestAdopt_BlockingDescriptor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	conn, client := pair(t)
	f := file(t, conn)
	require.True(t, isBlocking(t, int(f.Fd())), "the test makes no blocking connection")
	ss, _ := s.newSession(nil, false, false)
	c := s.newConn(conn, ss)
	ss.ws = c
	require.True(t, s.add(ss))
	l := c.link.(*epollLink)
	require.False(t, isBlocking(t, l.fd))

	require.NoError(t, syscall.SetNonblock(int(f.Fd()), false))
	require.True(t, isBlocking(t, l.fd))
	read, wrote := make(chan error, 1), make(chan error, 1)
	go func() {
		_, err := rawRead(l.fd, make([]byte, 10))
		read <- err
	}()
	go func() {
		b := make([]byte, 1<<20)
		for {
			if _, err := rawWrite(l.fd, b); err != nil {
				wrote <- err
				return
			}
		}
	}()
	for _, done := range []chan error{read, wrote} {
		select {
		case err := <-done:
			require.ErrorIs(t, err, syscall.EAGAIN)
		case <-time.After(5 * time.Second):
			_ = client.Close() // unblocks them
			require.Fail(t, "a call waits for the client")
		}
	}
	ss.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}
