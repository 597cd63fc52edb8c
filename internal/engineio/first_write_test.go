// Tests of the first write to a websocket: the response to its handshake, together with the
// open packet.

package engineio_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// countingConn counts the calls of Write.
type countingConn struct {
	net.Conn
	writes *atomic.Int32
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

type countingListener struct {
	net.Listener
	writes *atomic.Int32
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return countingConn{c, l.writes}, nil
}

// The response to a websocket's handshake and the open packet leave in one write. A
// response that is followed by no packet leaves at once.
func TestNetLink_HandshakeIsOneWrite(t *testing.T) {
	t.Parallel()
	for _, below := range []carrier{hidden, secure} {
		for _, eio := range []string{"4", "3"} {
			t.Run(below.name+" of EIO "+eio, func(t *testing.T) {
				t.Parallel()
				var writes atomic.Int32
				c := carrier{below.name, func(l net.Listener) net.Listener { return countingListener{below.wrap(l), &writes} }}
				s := start(t, c, func(set *setup) { set.engine.AllowEIO3 = true })
				ws, _ := s.dialWebSocket("EIO=" + eio + "&transport=websocket")
				parseOpen(t, ws.text())
				require.EqualValues(t, 1, writes.Load())

				p := s.polling()
				writes.Store(0)
				ws, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
				require.EqualValues(t, 1, writes.Load())
				ws.send("2probe")
				ws.expect("3probe")
				require.EqualValues(t, 2, writes.Load())
			})
		}
	}
}

// withHeader makes the host's middleware set a header of many bytes, which the response to a
// websocket's handshake has too.
func withHeader(bytes int) func(*setup) {
	return func(set *setup) {
		value := strings.Repeat("x", bytes)
		set.wrap = func(w http.ResponseWriter) http.ResponseWriter { w.Header().Set("X-Large", value); return w }
	}
}

// A response of any size arrives whole and before the open packet, and does not count as a
// message that waits.
func TestServer_HandshakeWithALargeHeader(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for _, size := range []int{1000, 63 << 10, 64 << 10, 500_000} {
			s := start(t, c, withHeader(size), smallBuffers, func(set *setup) { set.engine.MaxOutboxBytes = 1000 })
			ws := s.websocket()
			ws.send("4a")
			ws.expect("4a")
		}
	})
}

// A client that does not read the response to its handshake ends with the write timeout, and
// holds neither a session nor a goroutine of the host's after that.
func TestServer_HandshakeThatIsNotRead(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, withHeader(8<<20), smallBuffers, func(set *setup) {
			set.engine.WriteTimeout = 100 * time.Millisecond
		})
		good := handshake("EIO=4&transport=websocket")
		for _, request := range []string{good, strings.Replace(good, "Version: 13", "Version: 8", 1)} {
			conn, err := s.dial()
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
			if request == good {
				require.Equal(t, engineio.ReasonSlowConsumer, receive(t, s.sessions).ended(t))
			}
			testkit.Eventually(t, "the request is still being handled", func() bool { return s.handling.Load() == 0 })
		}
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// bufferedHijacker is an http.ResponseWriter of the host's whose connection has bytes that are
// not yet written.
type bufferedHijacker struct {
	http.ResponseWriter
	first string
}

func (h bufferedHijacker) Hijack() (net.Conn, *bufio.ReadWriter, error) {
	conn, rw, err := http.NewResponseController(h.ResponseWriter).Hijack()
	if err == nil {
		_, err = rw.WriteString(h.first)
	}
	return conn, rw, err
}

// What the host has left in the buffer of a connection precedes the response.
func TestServer_HandshakeAfterBufferedBytes(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const first = "HTTP/1.1 103 Early Hints\r\n\r\n"
		s := start(t, c, func(set *setup) {
			set.wrap = func(w http.ResponseWriter) http.ResponseWriter { return bufferedHijacker{w, first} }
		})
		for _, query := range []string{"EIO=4&transport=websocket", "EIO=4&transport=websocket&sid=" + s.polling().sid} {
			conn, err := s.dial()
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = io.WriteString(conn, handshake(query))
			require.NoError(t, err)
			b := make([]byte, len(first))
			_, err = io.ReadFull(conn, b)
			require.NoError(t, err)
			require.Equal(t, first, string(b))
			ws := &wsClient{t: t, conn: conn}
			ws.skipResponse()
			if strings.HasSuffix(query, "websocket") {
				parseOpen(t, ws.text())
			}
		}
	})
}

// A handshake during which the server is shut down is answered all the same, and the
// connection ends.
func TestServer_ShutdownDuringAWebSocketHandshake(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		var stop func()
		failures := make(chan engineio.Failure, 1)
		s := start(t, c, func(set *setup) {
			set.admit = func(*http.Request) *engineio.Busy { stop(); return nil }
			set.engine.Failed = func(_ *http.Request, f engineio.Failure) { failures <- f }
		})
		stop = s.Stop
		ws, resp := s.dialWebSocket("EIO=4&transport=websocket")
		require.NotNil(t, ws, resp.Status)
		require.Equal(t, engineio.ReasonShuttingDown, receive(t, s.sessions).ended(t))
		require.Equal(t, engineio.Failure{Reason: engineio.FailedShutdown, Status: http.StatusSwitchingProtocols}, receive(t, failures))
		ws.expectCut()
		require.NoError(t, s.Shutdown(t.Context()))
	})
}
