package engineio

import (
	"io"
	"net"
	"syscall"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/testkit"
	"github.com/stretchr/testify/require"
)

// adopted returns a link that the event loop has adopted, and the client's end.
func adopted(t testing.TB, s *Server) (*epollLink, *net.TCPConn) {
	conn, client := pair(t)
	ss, _ := s.newSession(nil, false, false)
	c := s.newConn(hijacked{conn: conn}, ss)
	require.NotNil(t, c)
	ss.ws = c
	require.True(t, s.add(ss))
	l, ok := c.link.(*epollLink)
	require.True(t, ok, "plain TCP is not in the loop")
	return l, client
}

// An event that was reported for a connection before it was closed does not reach the
// next connection in its slot.
func TestEventLoop_LateEventMissesTheNextLink(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	first, _ := adopted(t, s)
	first.start(nil)
	e := &s.loop
	late := syscall.EpollEvent{Events: syscall.EPOLLIN, Fd: first.slot, Pad: e.generations[first.slot]}
	found := make([]*epollLink, 2)
	e.lookup([]syscall.EpollEvent{late}, found)
	require.Same(t, first, found[0])

	first.c.s.abort(ReasonForcedClose)
	testkit.Eventually(t, "the slot is not free", func() bool { e.mu.Lock(); defer e.mu.Unlock(); return len(e.free) == 1 })
	found[0] = first
	e.lookup([]syscall.EpollEvent{late}, found)
	require.Nil(t, found[0])

	second, client := adopted(t, s)
	require.Equal(t, first.slot, second.slot)
	second.start(nil)
	now := late
	now.Pad = e.generations[second.slot]
	e.lookup([]syscall.EpollEvent{late, now}, found)
	require.Nil(t, found[0])
	require.Same(t, second, found[1])

	// What the first link still does has no effect on the second.
	first.ready(syscall.EPOLLIN | syscall.EPOLLOUT | syscall.EPOLLHUP)
	first.resume()
	first.finish()
	first.close()
	first.setInterest(readInterest)
	n, err := first.write([]byte("x"))
	require.Zero(t, n)
	require.ErrorIs(t, err, net.ErrClosed)
	second.c.s.Send(pingMessage)
	b := make([]byte, 3)
	_, err = io.ReadFull(client, b)
	require.NoError(t, err)
	require.Equal(t, "\x81\x012", string(b))
	second.c.s.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}

// The descriptor is closed when the link is closed, started or not, but only after the
// last system call on it has returned.
func TestEpollLink_DescriptorLifetime(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	for _, started := range []bool{false, true} {
		l, client := adopted(t, s)
		if started {
			l.start([]byte("\x81\x82\x00\x00\x00\x004")) // early input, of which the reader keeps a part
			testkit.Eventually(t, "the reader does not wait", func() bool { return l.reading.Load() == readIdle })
		}
		require.True(t, l.acquire())
		l.c.s.abort(ReasonForcedClose)
		l.c.s.abort(ReasonForcedClose)
		require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Millisecond)))
		_, err := client.Read(make([]byte, 1))
		require.ErrorContains(t, err, "timeout", "closed while in use")
		l.release()
		require.NoError(t, client.SetReadDeadline(time.Now().Add(10*time.Second)))
		_, err = client.Read(make([]byte, 1))
		require.Error(t, err)
		require.NotContains(t, err.Error(), "timeout")
		require.False(t, l.acquire())
		l.start(nil) // too late: nothing happens
	}
	require.NoError(t, s.Shutdown(t.Context()))
}

// When the loop is closed, a connection gets a goroutine instead.
func TestEventLoop_ClosedAdoptsNothing(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	s.loop.close()
	conn, _ := pair(t)
	ss, _ := s.newSession(nil, false, false)
	c := s.newConn(hijacked{conn: conn}, ss)
	require.IsType(t, &netLink{}, c.link)
	c.link.close() // never started
	c.link.start(nil)
	c.link.close()
	require.NoError(t, s.Shutdown(t.Context()))
}

// The loop waits for writability only while there is something to write.
func TestEpollLink_WaitsForWritabilityOnlyWhenBlocked(t *testing.T) {
	t.Parallel()
	s := newServer(t)
	l, client := adopted(t, s)
	l.start(nil)
	ss := l.c.s
	blocked := func() bool { ss.mu.Lock(); defer ss.mu.Unlock(); return l.c.blocked }
	big := BinaryMessage(make([]byte, 1<<20))
	for !blocked() {
		require.True(t, ss.Send(big))
		time.Sleep(time.Millisecond)
	}
	require.NotNil(t, l.stall)
	go func() { _, _ = io.Copy(io.Discard, client) }()
	testkit.Eventually(t, "the link is still blocked", func() bool { return !blocked() })
	ss.abort(ReasonForcedClose)
	require.NoError(t, s.Shutdown(t.Context()))
}
