// Tests that the program is what the protocols' test suites expect.

package main

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"
)

func start(t *testing.T) (url string) {
	t.Helper()
	t.Parallel()
	s := httptest.NewServer(handler())
	t.Cleanup(s.Close)
	return s.URL
}

// socket is a websocket that answers heartbeats.
type socket struct {
	t    *testing.T
	conn net.Conn
}

// dial opens a websocket and returns the handshake that it got.
func dial(t *testing.T, url, path string) (*socket, string) {
	t.Helper()
	conn, br, _, err := ws.Dial(context.Background(), "ws"+strings.TrimPrefix(url, "http")+path+"?EIO=4&transport=websocket")
	require.NoError(t, err)
	if br != nil {
		conn = &early{conn, io.MultiReader(io.LimitReader(br, int64(br.Buffered())), conn)}
	}
	t.Cleanup(func() { _ = conn.Close() })
	require.NoError(t, conn.SetDeadline(time.Now().Add(30*time.Second)))
	s := &socket{t: t, conn: conn}
	open, binary := s.next()
	require.False(t, binary)
	return s, open
}

// early is a connection of which some bytes came with the handshake.
type early struct {
	net.Conn
	r io.Reader
}

func (e *early) Read(b []byte) (int, error) { return e.r.Read(b) }

func (s *socket) send(text string) {
	s.t.Helper()
	require.NoError(s.t, wsutil.WriteClientText(s.conn, []byte(text)))
}

func (s *socket) sendBinary(data string) {
	s.t.Helper()
	require.NoError(s.t, wsutil.WriteClientBinary(s.conn, []byte(data)))
}

// next returns the next packet but for heartbeats.
func (s *socket) next() (data string, binary bool) {
	s.t.Helper()
	for {
		b, op, err := wsutil.ReadServerData(s.conn)
		require.NoError(s.t, err)
		if string(b) != "2" {
			return string(b), op == ws.OpBinary
		}
		s.send("3")
	}
}

func (s *socket) expect(texts ...string) {
	s.t.Helper()
	for _, want := range texts {
		got, binary := s.next()
		require.False(s.t, binary)
		require.Equal(s.t, want, got)
	}
}

func (s *socket) expectBinary(want string) {
	s.t.Helper()
	got, binary := s.next()
	require.True(s.t, binary)
	require.Equal(s.t, want, got)
}

func request(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	res, err := http.DefaultClient.Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	return string(b)
}

// checkOpen expects the timers and limits that the suites are written for.
func checkOpen(t *testing.T, packet string, upgrades ...any) (sid string) {
	t.Helper()
	data, ok := strings.CutPrefix(packet, "0")
	require.True(t, ok)
	var open map[string]any
	require.NoError(t, json.Unmarshal([]byte(data), &open))
	sid, _ = open["sid"].(string)
	require.NotEmpty(t, sid)
	delete(open, "sid")
	require.Equal(t, map[string]any{
		"upgrades": append([]any{}, upgrades...), "pingInterval": 300.0, "pingTimeout": 200.0, "maxPayload": 1e6,
	}, open)
	return sid
}

func TestEngineEchoPolling(t *testing.T) {
	url := start(t) + "/engine.io/?EIO=4&transport=polling"
	sid := checkOpen(t, request(t, http.MethodGet, url, ""), "websocket")
	url += "&sid=" + sid
	require.Equal(t, "ok", request(t, http.MethodPost, url, "4one\x1e4two\x1ebAQIDBA=="))
	require.Equal(t, "4one\x1e4two\x1ebAQIDBA==", request(t, http.MethodGet, url, ""))
	require.Equal(t, "2", request(t, http.MethodGet, url, ""))
	require.Equal(t, "ok", request(t, http.MethodPost, url, "3\x1e4three"))
	require.Equal(t, "4three", request(t, http.MethodGet, url, ""))
}

func TestEngineEchoWebSocket(t *testing.T) {
	s, open := dial(t, start(t), "/engine.io/")
	checkOpen(t, open)
	s.send("4hello")
	s.expect("4hello")
	s.sendBinary("\x01\x02")
	s.expectBinary("\x01\x02")
}

// Heartbeats come by themselves, and a client that does not answer is closed.
func TestEngineHeartbeat(t *testing.T) {
	s, _ := dial(t, start(t), "/engine.io/")
	for range 2 {
		b, _, err := wsutil.ReadServerData(s.conn)
		require.NoError(t, err)
		require.Equal(t, "2", string(b))
		s.send("3")
	}
	b, _, err := wsutil.ReadServerData(s.conn)
	require.NoError(t, err)
	require.Equal(t, "2", string(b))
	_, _, err = wsutil.ReadServerData(s.conn)
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

// connect enters a namespace and expects what the server makes of the payload.
func (s *socket) connect(prefix, payload, auth string) {
	s.t.Helper()
	s.send("40" + prefix + payload)
	reply, _ := s.next()
	require.Regexp(s.t, `^40`+prefix+`\{"sid":"[^"]+"\}$`, reply)
	s.expect(`42` + prefix + `["auth",` + auth + `]`)
}

func TestSocketConnect(t *testing.T) {
	s, open := dial(t, start(t), "/socket.io/")
	checkOpen(t, open)
	s.connect("", "", `{}`)
	s.connect("/custom,", `{"token":"123"}`, `{"token":"123"}`)
	s.send("40/random")
	s.expect(`44/random,{"message":"Invalid namespace"}`)
	s.send("41/custom,")
	s.send(`42["message","still here"]`)
	s.expect(`42["message-back","still here"]`)
}

func TestSocketMessages(t *testing.T) {
	const one, two = `{"_placeholder":true,"num":0}`, `{"_placeholder":true,"num":1}`
	url := start(t)
	for _, prefix := range []string{"", "/custom,"} {
		s, _ := dial(t, url, "/socket.io/")
		s.connect(prefix, "", `{}`)
		s.send(`42` + prefix + `["message",1,"2",{"3":[true]}]`)
		s.expect(`42` + prefix + `["message-back",1,"2",{"3":[true]}]`)
		s.send(`42` + prefix + `456["message-with-ack",1,"2",{"3":[false]}]`)
		s.expect(`43` + prefix + `456[1,"2",{"3":[false]}]`)

		s.send(`452-` + prefix + `["message",` + one + `,` + two + `]`)
		s.sendBinary("\x01\x02\x03")
		s.sendBinary("\x04")
		s.expect(`452-` + prefix + `["message-back",` + one + `,` + two + `]`)
		s.expectBinary("\x01\x02\x03")
		s.expectBinary("\x04")
		s.send(`451-` + prefix + `789["message-with-ack",` + one + `]`)
		s.sendBinary("\x05")
		s.expect(`461-` + prefix + `789[` + one + `]`)
		s.expectBinary("\x05")
	}
}

// What is no packet closes the connection.
func TestSocketInvalid(t *testing.T) {
	s, _ := dial(t, start(t), "/socket.io/")
	s.connect("", "", `{}`)
	s.send("4abc")
	for {
		b, _, err := wsutil.ReadServerData(s.conn)
		if err != nil {
			require.ErrorAs(t, err, new(wsutil.ClosedError))
			return
		}
		require.Equal(t, "2", string(b))
	}
}
