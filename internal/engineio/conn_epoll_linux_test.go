package engineio

import (
	"io"
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

// adopt makes a blocking connection non-blocking.
func TestAdopt_BlockingDescriptor(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	conn, _ := pair(t)
	f := file(t, conn)
	require.True(t, isBlocking(t, int(f.Fd())), "the test makes no blocking connection")
	ss, _ := s.newSession(nil, false, false)
	c := s.newConn(hijacked{conn: conn}, ss)
	ss.ws = c
	require.True(t, s.add(ss))
	l := c.link.(*epollLink)
	require.False(t, isBlocking(t, l.fd))

	ss.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}

// Shutdown may write to a connection before its link has started. If that write would block,
// the rest is written once the client reads.
func TestEpollLink_BlockedBeforeStart(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, client := adopted(t, s)
	require.NoError(t, syscall.SetsockoptInt(l.fd, syscall.SOL_SOCKET, syscall.SO_SNDBUF, 4096))
	require.NoError(t, client.SetReadBuffer(4096))
	ss, sent := l.c.s, 0
	blocked := func() bool {
		ss.mu.Lock()
		defer ss.mu.Unlock()
		return l.c.blocked
	}
	m := BinaryMessage(make([]byte, chunk))
	for begun := time.Now(); !blocked(); time.Sleep(time.Millisecond) {
		require.Less(t, time.Since(begun), 5*time.Second)
		require.True(t, ss.Send(m))
		sent += len(m.frame)
	}
	l.start(nil)
	require.NoError(t, client.SetReadDeadline(time.Now().Add(5*time.Second)))
	_, err := io.CopyN(io.Discard, client, int64(sent))
	require.NoError(t, err)

	ss.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}
