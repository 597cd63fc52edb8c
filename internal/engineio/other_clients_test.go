// Handshakes of clients that are not in JavaScript: what Swift, .NET and Go need.

package engineio_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// plainWriter is a middleware's http.ResponseWriter without Hijack.
type plainWriter struct{ w http.ResponseWriter }

func (p plainWriter) Header() http.Header         { return p.w.Header() }
func (p plainWriter) Write(b []byte) (int, error) { return p.w.Write(b) }
func (p plainWriter) WriteHeader(status int)      { p.w.WriteHeader(status) }

// Swift's client waits for the end of the connection when its websocket is refused, and tries
// again only then. A refused poll does not end its connection.
func TestServer_SwiftRefusedWebSocketEnds(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const open = "EIO=4&transport=websocket"
		busy := func(set *setup) {
			set.admit = func(*http.Request) *engineio.Busy { return &engineio.Busy{Status: http.StatusTooManyRequests} }
		}
		for name, row := range map[string]struct {
			query  string
			setup  func(set *setup)
			before func(s *server)
			status int
		}{
			"unknown session":  {query: open + "&sid=unknown", status: http.StatusBadRequest},
			"version":          {query: "EIO=7&transport=websocket", status: http.StatusBadRequest},
			"unknown kind":     {query: "EIO=4&transport=webtransport", status: http.StatusBadRequest},
			"polling's query":  {query: "EIO=4&transport=polling", status: http.StatusBadRequest},
			"off":              {query: open, setup: func(set *setup) { set.engine.NoWebSocket = true }, status: http.StatusBadRequest},
			"not admitted":     {query: open, setup: busy, status: http.StatusTooManyRequests},
			"shut down":        {query: open, before: func(s *server) { s.Stop() }, status: http.StatusServiceUnavailable},
			"without Hijacker": {query: open, setup: func(set *setup) { set.wrap = func(w http.ResponseWriter) http.ResponseWriter { return plainWriter{w} } }, status: http.StatusInternalServerError},
		} {
			var s *server
			if row.setup != nil {
				s = start(t, c, row.setup)
			} else {
				s = start(t, c)
			}
			if row.before != nil {
				row.before(s)
			}
			conn, err := s.dial()
			require.NoError(t, err)
			t.Cleanup(func() { _ = conn.Close() })
			_, err = io.WriteString(conn, handshake(row.query))
			require.NoError(t, err)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
			in := bufio.NewReader(conn)
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err, name)
			require.Equal(t, row.status, res.StatusCode, name)
			require.True(t, res.Close, "%s: Connection: close", name)
			_, err = io.ReadAll(res.Body)
			require.NoError(t, err, name)
			_, err = in.ReadByte()
			require.ErrorIs(t, err, io.EOF, name)
		}

		s := start(t, c)
		conn, err := s.dial()
		require.NoError(t, err)
		t.Cleanup(func() { _ = conn.Close() })
		in := bufio.NewReader(conn)
		for range 2 { // on one connection
			_, err = io.WriteString(conn, "GET /?EIO=4&transport=polling&sid=unknown HTTP/1.1\r\nHost: engine.test\r\n\r\n")
			require.NoError(t, err)
			res, err := http.ReadResponse(in, nil)
			require.NoError(t, err)
			require.False(t, res.Close)
			_, err = io.ReadAll(res.Body)
			require.NoError(t, err)
		}
	})
}

// .NET's client opens a session over polling, and by default upgrades without a probe.
func TestSession_DotNetUpgradesWithoutProbe(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		p.h.Send(text("queued"))
		ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		ws.send("5")
		ws.expect("4queued")
		ws.send("4a", "4b")
		ws.expect("4a", "4b")
		require.Equal(t, "websocket", p.h.Transport())

		p = s.polling()
		poll := p.open()
		ws, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		ws.send("5", "4a")
		ws.expect("4a")
		require.Equal(t, "6", receive(t, poll).body, "a poll that is open ends")
		second, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		second.expectCut()
		require.Equal(t, 2, s.Len())
	})
}

// zishang520's client for Go sends an empty sid with its first request, as with Node's server.
func TestServer_GoEmptySID(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for _, query := range []string{"EIO=4&transport=polling&sid=", "sid=&EIO=4&transport=polling", "EIO=4&transport=polling&sid"} {
			status, body, err := s.request(t.Context(), http.MethodGet, query, nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status, query)
			require.NotEmpty(t, parseOpen(t, body).SID)
		}
		ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=")
		require.NotNil(t, ws)
		require.NotEmpty(t, parseOpen(t, ws.text()).SID)
		ws.send("4a")
		ws.expect("4a")
		require.Equal(t, 4, s.Len())

		status, body, err := s.request(t.Context(), http.MethodPost, "EIO=4&transport=polling&sid=", strings.NewReader("4a"))
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, badMethod, body)
		status, body, err = s.request(t.Context(), http.MethodGet, "EIO=4&transport=polling&sid=&sid=", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusBadRequest, status)
		require.Equal(t, unknownSession, body)
	})
}
