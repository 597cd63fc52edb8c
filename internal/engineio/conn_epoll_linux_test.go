package engineio

import (
	"net"
	"os"
	"syscall"
	"testing"

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

// adopt makes a blocking connection non-blocking.
func TestAdopt_BlockingDescriptor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	conn, _ := pair(t)
	f := file(t, conn)
	require.True(t, isBlocking(t, int(f.Fd())), "the test makes no blocking connection")
	ss, _ := s.newSession(nil, false, false)
	c := s.newConn(conn, ss)
	ss.ws = c
	require.True(t, s.add(ss))
	l := c.link.(*epollLink)
	require.False(t, isBlocking(t, l.fd))

	ss.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}
