// Tests that the program behaves as the test suites of the protocols expect.

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

	"github.com/rodando/realtime/internal/testkit"
	"github.com/stretchr/testify/require"
)

// withServer runs a test against the program, without flags, in a synctest bubble.
func withServer(t *testing.T, f func(t *testing.T, s *server)) {
	t.Helper()
	withSettings(t, defaults, f)
}

func withSettings(t *testing.T, set settings, f func(t *testing.T, s *server)) {
	t.Helper()
	testkit.Bubble(t, func(t *testing.T) {
		p := testkit.NewPipeListener()
		s := &server{dial: p.DialContext, web: &http.Client{Transport: &http.Transport{DialContext: p.DialContext}}}
		hs := &httptest.Server{Listener: p, Config: &http.Server{Handler: handler(set)}}
		hs.Start()
		t.Cleanup(func() {
			time.Sleep(time.Second) // sessions whose clients no longer poll end
			s.web.CloseIdleConnections()
			hs.Close()
		})
		f(t, s)
	})
}

// server is the running program.
type server struct {
	dial func(ctx context.Context, network, addr string) (net.Conn, error)
	web  *http.Client
}

// socket is a websocket that answers heartbeats.
type socket struct {
	t  *testing.T
	rw io.ReadWriter
}

// open opens a websocket and returns the open packet.
func (s *server) open(t *testing.T, path string) (*socket, string) {
	t.Helper()
	d := ws.Dialer{NetDial: s.dial}
	if !strings.Contains(path, "?") {
		path += "?"
	}
	conn, br, _, err := d.Dial(t.Context(), "ws://test"+path+"EIO=4&transport=websocket")
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	c := &socket{t, conn}
	if br != nil {
		c.rw = struct {
			io.Reader
			io.Writer
		}{br, conn}
	}
	first, binary := c.next()
	require.False(t, binary)
	return c, first
}

func (s *socket) send(text string) {
	s.t.Helper()
	require.NoError(s.t, wsutil.WriteClientText(s.rw, []byte(text)))
}

func (s *socket) sendBinary(data string) {
	s.t.Helper()
	require.NoError(s.t, wsutil.WriteClientBinary(s.rw, []byte(data)))
}

// next returns the next packet that is not a heartbeat.
func (s *socket) next() (data string, binary bool) {
	s.t.Helper()
	for {
		b, op, err := wsutil.ReadServerData(s.rw)
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

func (s *server) request(t *testing.T, method, url, body string) string {
	t.Helper()
	r, err := http.NewRequestWithContext(t.Context(), method, url, strings.NewReader(body))
	require.NoError(t, err)
	res, err := s.web.Do(r)
	require.NoError(t, err)
	defer func() { _ = res.Body.Close() }()
	b, err := io.ReadAll(res.Body)
	require.NoError(t, err)
	require.Equal(t, http.StatusOK, res.StatusCode)
	return string(b)
}

// checkOpen checks the timers and limits that the test suites assume.
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

func TestHandler_EngineEchoPolling(t *testing.T) {
	withServer(t, func(t *testing.T, s *server) {
		url := "http://test/engine.io/?EIO=4&transport=polling"
		sid := checkOpen(t, s.request(t, http.MethodGet, url, ""), "websocket")
		url += "&sid=" + sid
		get := func() string { return s.request(t, http.MethodGet, url, "") }
		post := func(body string) { require.Equal(t, "ok", s.request(t, http.MethodPost, url, body)) }
		post("4one\x1e4two\x1ebAQIDBA==")
		require.Equal(t, "4one\x1e4two\x1ebAQIDBA==", get())
		require.Equal(t, "2", get())
		post("3\x1e4three")
		require.Equal(t, "4three", get())
	})
}

func TestHandler_EngineEchoWebSocket(t *testing.T) {
	withServer(t, func(t *testing.T, s *server) {
		c, open := s.open(t, "/engine.io/")
		checkOpen(t, open)
		c.send("4hello")
		c.expect("4hello")
		c.sendBinary("\x01\x02")
		c.expectBinary("\x01\x02")
	})
}

// The server sends heartbeats, and closes a client that does not answer them.
func TestHandler_EngineHeartbeat(t *testing.T) {
	withServer(t, func(t *testing.T, s *server) {
		c, _ := s.open(t, "/engine.io/")
		start := time.Now()
		for range 3 {
			b, _, err := wsutil.ReadServerData(c.rw)
			require.NoError(t, err)
			require.Equal(t, "2", string(b))
			require.InDelta(t, 300, time.Since(start).Milliseconds(), 10)
			c.send("3")
			start = time.Now()
		}
		_, _, err := wsutil.ReadServerData(c.rw)
		require.NoError(t, err)
		_, _, err = wsutil.ReadServerData(c.rw)
		require.Error(t, err)
		require.InDelta(t, 500, time.Since(start).Milliseconds(), 20)
	})
}

// connect connects to a namespace and checks that the server sends the payload back.
func (s *socket) connect(prefix, payload, auth string) {
	s.t.Helper()
	s.send("40" + prefix + payload)
	reply, _ := s.next()
	require.Regexp(s.t, `^40`+prefix+`\{"sid":"[^"]+"\}$`, reply)
	s.expect(`42` + prefix + `["auth",` + auth + `]`)
}

func TestHandler_SocketConnect(t *testing.T) {
	withServer(t, func(t *testing.T, s *server) {
		c, open := s.open(t, "/socket.io/")
		checkOpen(t, open)
		c.connect("", "", `{}`)
		c.connect("/custom,", `{"token":"123"}`, `{"token":"123"}`)
		c.send("40/random")
		c.expect(`44/random,{"message":"Invalid namespace"}`)
		c.send("41/custom,")
		c.send(`42["message","still here"]`)
		c.expect(`42["message-back","still here"]`)
	})
}

func TestHandler_SocketMessages(t *testing.T) {
	const one, two = `{"_placeholder":true,"num":0}`, `{"_placeholder":true,"num":1}`
	withServer(t, func(t *testing.T, s *server) {
		for _, prefix := range []string{"", "/custom,"} {
			c, _ := s.open(t, "/socket.io/")
			c.connect(prefix, "", `{}`)
			c.send(`42` + prefix + `["message",1,"2",{"3":[true]}]`)
			c.expect(`42` + prefix + `["message-back",1,"2",{"3":[true]}]`)
			c.send(`42` + prefix + `456["message-with-ack",1,"2",{"3":[false]}]`)
			c.expect(`43` + prefix + `456[1,"2",{"3":[false]}]`)

			c.send(`452-` + prefix + `["message",` + one + `,` + two + `]`)
			c.sendBinary("\x01\x02\x03")
			c.sendBinary("\x04")
			c.expect(`452-` + prefix + `["message-back",` + one + `,` + two + `]`)
			c.expectBinary("\x01\x02\x03")
			c.expectBinary("\x04")
			c.send(`451-` + prefix + `789["message-with-ack",` + one + `]`)
			c.sendBinary("\x05")
			c.expect(`461-` + prefix + `789[` + one + `]`)
			c.expectBinary("\x05")
		}
	})
}

// An invalid packet closes the connection at once.
func TestHandler_SocketInvalid(t *testing.T) {
	withServer(t, func(t *testing.T, s *server) {
		c, _ := s.open(t, "/socket.io/")
		c.connect("", "", `{}`)
		c.send("4abc")
		_, _, err := wsutil.ReadServerData(c.rw)
		require.ErrorAs(t, err, new(wsutil.ClosedError))
	})
}
