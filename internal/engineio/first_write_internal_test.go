// Internal tests of the first write to a websocket, while the server is shut down.

package engineio

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

const response = "HTTP/1.1 101 Switching Protocols\r\n\r\n"

// pair returns both ends of a TCP connection.
func pair(t testing.TB) (server, client *net.TCPConn) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	c, err := net.Dial("tcp", l.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	return s.(*net.TCPConn), c.(*net.TCPConn)
}

// onEachLink runs a test with each kind of link. The connection has a response that is not yet
// written; in returns everything that the client has received when the connection has ended.
func onEachLink(t *testing.T, f func(t *testing.T, s *Server, c *wsConn, client net.Conn)) {
	t.Parallel()
	for name, wrap := range map[string]func(net.Conn) net.Conn{
		"plain TCP": func(c net.Conn) net.Conn { return c },
		"wrapped":   func(c net.Conn) net.Conn { return struct{ net.Conn }{c} },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newServer(t)
			conn, client := pair(t)
			ss, _ := s.newSession(nil, false, false)
			c := s.newConn(hijacked{conn: wrap(conn), response: []byte(response)}, ss)
			require.NoError(t, client.SetReadDeadline(time.Now().Add(20*time.Second)))
			f(t, s, c, client)
		})
	}
}

// A server that closes while a connection is prepared still answers the handshake.
func TestServer_CloseBeforeAWebSocketIsAdded(t *testing.T) {
	onEachLink(t, func(t *testing.T, s *Server, c *wsConn, client net.Conn) {
		s.Stop()
		require.False(t, s.addWebSocket(c))
		c.s.abort(ReasonShuttingDown)
		b, err := io.ReadAll(client)
		require.NoError(t, err)
		require.Equal(t, response, string(b))
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// Shutdown may write before the link has started, as each write may be the first: it begins
// with the response and the open packet.
func TestServer_ShutdownBeforeALinkStarts(t *testing.T) {
	onEachLink(t, func(t *testing.T, s *Server, c *wsConn, client net.Conn) {
		require.True(t, s.addWebSocket(c))
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(t.Context()) }()
		want := response + string(c.s.openMessage(false).frame)
		b := make([]byte, len(want))
		_, err := io.ReadFull(client, b)
		require.NoError(t, err)
		require.Equal(t, want, string(b))
		c.link.start(nil)
		c.link.flush()
		require.NoError(t, client.Close())
		require.NoError(t, <-done)
	})
}

// The first write takes no more than a chunk, so that a long queue is not copied into one
// buffer.
func TestWsConn_ResponseIsJoinedWithWhatFits(t *testing.T) {
	t.Parallel()
	c := &wsConn{s: &Session{}}
	for _, size := range []int{1, chunk - 40, chunk} {
		c.unwritten = []byte(response)
		first := &Message{frame: []byte(strings.Repeat("a", size))}
		second := &Message{frame: []byte("b")}
		c.s.out.push(first)
		c.s.out.push(second)
		var got []byte
		for {
			b, free := c.gatherLocked()
			if b == nil {
				break
			}
			if free != nil {
				require.LessOrEqual(t, len(b), chunk)
				buffers.Put(free)
			}
			got = append(got, b...)
		}
		require.Equal(t, response+string(first.frame)+"b", string(got))
		require.Zero(t, c.s.out.bytes)
	}
}

// What a client that does not read has not taken is written alone: messages that wait stay in
// the outbox, where newer ones can replace them.
func TestWsConn_RestIsWrittenAlone(t *testing.T) {
	t.Parallel()
	c := &wsConn{s: &Session{}, unwritten: []byte("rest"), blocked: true}
	c.s.out.push(&Message{frame: []byte("a")})
	b, free := c.gatherLocked()
	require.Nil(t, free)
	require.Equal(t, "rest", string(b))
	require.Equal(t, 1, c.s.out.len())
}
