package engineio_test

import (
	"bufio"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// shakeHands sends a handshake in which lines replace some of its headers, and returns the
// answer. A websocket that is open works.
func (s *server) shakeHands(query, old, lines string) *http.Response {
	s.t.Helper()
	conn, err := s.dial()
	require.NoError(s.t, err)
	s.t.Cleanup(func() { _ = conn.Close() })
	_, err = io.WriteString(conn, strings.Replace(handshake(query), old, lines, 1))
	require.NoError(s.t, err)
	c := &wsClient{t: s.t, conn: conn, in: bufio.NewReader(conn)}
	resp, err := http.ReadResponse(c.in, nil)
	require.NoError(s.t, err)
	if resp.StatusCode == http.StatusSwitchingProtocols {
		parseOpen(s.t, c.text())
		c.send("4a")
		c.expect("4a")
	}
	return resp
}

// Proxies and clients put what belongs to Connection and Upgrade on several lines, or into one
// list.
func TestServer_HandshakeHeadersThatAreLists(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		const connection, upgrade = "Connection: Upgrade\r\n", "Upgrade: websocket\r\n"
		for _, tc := range []struct {
			old, lines string
			ok         bool
		}{
			{connection, "Connection: keep-alive\r\nConnection: Upgrade\r\n", true},
			{connection, "Connection: Upgrade\r\nConnection: keep-alive\r\n", true},
			{connection, "Connection: \r\nConnection: te, UPGRADE\r\n", true},
			{connection, "Connection: keep-alive, Upgrade\r\n", true},
			{connection, "Connection: keep-alive\r\nConnection: te\r\n", false},
			{connection, "Connection: keep-alive\r\nConnection: upgraded\r\n", false},
			{upgrade, "Upgrade: h2c\r\nUpgrade: WebSocket\r\n", true},
			{upgrade, "Upgrade: websocket, h2c\r\n", true},
			{upgrade, "Upgrade: h2c\r\nUpgrade: websockets\r\n", false},
		} {
			resp := s.shakeHands("EIO=4&transport=websocket", tc.old, tc.lines)
			require.Equal(t, tc.ok, resp.StatusCode == http.StatusSwitchingProtocols, "%q: %s", tc.lines, resp.Status)
		}
	})
}

// A client that asks for subprotocols, as with the option protocols of socket.io-client, closes
// the connection if the answer names none.
func TestServer_Subprotocols(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		const version = "Sec-WebSocket-Version: 13\r\n"
		for _, tc := range []struct{ lines, want string }{
			{"", ""},
			{"Sec-WebSocket-Protocol: dispatch-v1\r\n", "dispatch-v1"},
			{"Sec-WebSocket-Protocol: b, a\r\n", "b"},
			{"Sec-WebSocket-Protocol: \r\nsec-websocket-protocol: ,\tb.1 ,a\r\n", "b.1"},
			{"Sec-WebSocket-Protocol: no/token, a\r\n", ""},
			{"Sec-WebSocket-Protocol: ünï\r\n", ""},
			{"Sec-WebSocket-Protocol:\r\n", ""},
			{"Connection: keep-alive\r\nSec-WebSocket-Protocol: a\r\n", "a"},
		} {
			resp := s.shakeHands("EIO=4&transport=websocket", version, version+tc.lines)
			require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode, tc.lines)
			require.Equal(t, tc.want, resp.Header.Get("Sec-WebSocket-Protocol"), tc.lines)
			require.LessOrEqual(t, len(resp.Header["Sec-Websocket-Protocol"]), 1, tc.lines)
		}
		// Of an upgrade too.
		p := s.polling()
		conn, err := s.dial()
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		_, err = io.WriteString(conn, strings.Replace(handshake("EIO=4&transport=websocket&sid="+p.sid), version, version+"Sec-WebSocket-Protocol: v2\r\n", 1))
		require.NoError(t, err)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusSwitchingProtocols, resp.StatusCode)
		require.Equal(t, "v2", resp.Header.Get("Sec-WebSocket-Protocol"))
	})
}

// The protocol that a middleware of the host's has named is the only one.
func TestServer_SubprotocolOfTheHost(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) {
		set.wrap = func(w http.ResponseWriter) http.ResponseWriter {
			w.Header().Set("Sec-WebSocket-Protocol", "b")
			return w
		}
	})
	const version = "Sec-WebSocket-Version: 13\r\n"
	resp := s.shakeHands("EIO=4&transport=websocket", version, version+"Sec-WebSocket-Protocol: a, b\r\n")
	require.Equal(t, []string{"b"}, resp.Header["Sec-Websocket-Protocol"])
}
