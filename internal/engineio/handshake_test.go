package engineio_test

import (
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"math/bits"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func TestServer_OpenPacket(t *testing.T) {
	t.Parallel()
	packet := func(o opened, upgrades string) string {
		return `0{"sid":"` + o.SID + `","upgrades":` + upgrades + `,"pingInterval":25000,"pingTimeout":20000,"maxPayload":1000000}`
	}
	for _, tc := range []struct {
		name        string
		noWebSocket bool
		upgrades    string
	}{
		{"polling with upgrade", false, `["websocket"]`},
		{"polling alone", true, `[]`},
	} {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			s := start(t, tcp, func(set *setup) { set.engine.NoWebSocket = tc.noWebSocket })
			status, body, err := s.request(t.Context(), http.MethodGet, "EIO=4&transport=polling", nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusOK, status)
			o := parseOpen(t, body)
			require.Equal(t, packet(o, tc.upgrades), body)
			require.Equal(t, receive(t, s.sessions).ID(), o.SID)
		})
	}
	t.Run("websocket", func(t *testing.T) {
		t.Parallel()
		s := start(t, tcp, func(set *setup) { set.engine.NoPolling = true })
		c, _ := s.dialWebSocket("EIO=4&transport=websocket")
		body := c.text()
		require.Equal(t, packet(parseOpen(t, body), `[]`), body)
	})
}

// A session id has 128 bits: every bit occurs both set and clear, and no id occurs
// twice.
func TestNewID(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	const n = 64
	seen := map[string]bool{}
	var ones [16]byte
	zeros := ones
	for range n {
		id := s.polling().sid
		b, err := base64.RawURLEncoding.DecodeString(id)
		require.NoError(t, err)
		require.Len(t, b, 16)
		for i := range b {
			ones[i] |= b[i]
			zeros[i] |= ^b[i]
		}
		seen[id] = true
	}
	require.Len(t, seen, n)
	for i := range ones {
		require.Equal(t, 8, bits.OnesCount8(ones[i]))
		require.Equal(t, 8, bits.OnesCount8(zeros[i]))
	}
	require.Equal(t, n, s.Len())
}

func TestServer_Refusals(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) { set.engine.PingInterval = time.Hour })
	sid := s.polling().sid
	const open = "EIO=4&transport="
	cases := []struct {
		name, query string
		body        string
		method      string // "" means GET
	}{
		{name: "no transport", query: "EIO=4", body: unknownTransport},
		{name: "no query", query: "", body: unknownTransport},
		{name: "empty transport", query: open, body: unknownTransport},
		{name: "unknown transport", query: open + "webtransport", body: unknownTransport},
		{name: "transport in upper case", query: open + "Polling", body: unknownTransport},
		{name: "transport repeated", query: open + "polling&transport=polling", body: unknownTransport},
		{name: "transport twice, of two kinds", query: open + "polling&transport=websocket", body: unknownTransport},
		{name: "transport as array", query: "EIO=4&transport[]=polling", body: unknownTransport},
		{name: "broken escape", query: "EIO=4&transport=%zz", body: unknownTransport},
		{name: "unknown sid", query: open + "T&sid=unknown", body: unknownSession},
		{name: "sid repeated", query: open + "T&sid=" + sid + "&sid=" + sid, body: unknownSession},
		{name: "prototype sid", query: open + "T&sid=__proto__", body: unknownSession},
		{name: "no version", query: "transport=T", body: badVersion},
		{name: "version 3", query: "EIO=3&transport=T", body: badVersion},
		{name: "version 5", query: "EIO=5&transport=T", body: badVersion},
		{name: "empty version", query: "EIO=&transport=T", body: badVersion},
		{name: "version repeated", query: "EIO=4&EIO=4&transport=T", body: badVersion},
		{name: "version by another name", query: "eio=4&transport=T", body: badVersion},
		{name: "prototype version", query: "EIO=constructor&transport=T", body: badVersion},
		{name: "POST without sid", query: open + "polling", body: badMethod, method: http.MethodPost},
		{name: "PUT without sid", query: open + "polling", body: badMethod, method: http.MethodPut},
		{name: "DELETE with sid", query: open + "polling&sid=" + sid, body: badMethod, method: http.MethodDelete},
		{name: "HEAD without sid", query: open + "polling", method: http.MethodHead},
		{name: "HEAD with sid", query: open + "polling&sid=" + sid, method: http.MethodHead},
		{name: "websocket that asks for none", query: open + "websocket", body: badRequest},
		{name: "websocket for a sid that asks for none", query: open + "websocket&sid=" + sid, body: badRequest},
		{name: "POST to websocket", query: open + "websocket", body: badMethod, method: http.MethodPost},
	}
	for _, name := range []string{"constructor", "__proto__", "prototype", "toString", "hasOwnProperty", "valueOf", "null", "undefined"} {
		cases = append(cases, struct{ name, query, body, method string }{
			name: "transport " + name, query: open + name, body: unknownTransport})
	}
	for _, tc := range cases {
		t.Run(tc.name, func(t *testing.T) {
			t.Parallel()
			method := tc.method
			if method == "" {
				method = http.MethodGet
			}
			status, body, err := s.request(t.Context(), method, strings.ReplaceAll(tc.query, "transport=T", "transport=polling"), nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, tc.body, body)

			if tc.method != "" || tc.body == badRequest {
				return
			}
			c, resp := s.dialWebSocket(strings.ReplaceAll(tc.query, "transport=T", "transport=websocket"))
			require.Nil(t, c, "the websocket was not refused")
			require.Equal(t, http.StatusBadRequest, resp.StatusCode)
			require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			if !strings.Contains(tc.query, "transport=polling") { // these requests are refused on websockets only
				require.Equal(t, tc.body, string(b))
			}
		})
	}
	t.Run("polling with an upgrade header", func(t *testing.T) {
		t.Parallel()
		for _, query := range []string{"EIO=4&transport=polling", "EIO=4&transport=polling&sid=" + sid} {
			c, resp := s.dialWebSocket(query)
			require.Nil(t, c)
			b, err := io.ReadAll(resp.Body)
			require.NoError(t, err)
			require.Equal(t, badRequest, string(b))
		}
	})
	t.Run("forbidden", func(t *testing.T) {
		t.Parallel()
		w := httptest.NewRecorder()
		engineio.Forbidden(w, httptest.NewRequest(http.MethodGet, "/", nil))
		require.Equal(t, http.StatusForbidden, w.Code)
		require.Equal(t, problem(4, "Forbidden"), w.Body.String())
	})
	t.Cleanup(func() { require.Equal(t, 1, s.Len(), "a refusal left a session") })
}

func TestConfig_NoPollingAndNoWebSocket(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) { set.engine.NoWebSocket = true })
	p := s.polling()
	for _, query := range []string{"EIO=4&transport=websocket", "EIO=4&transport=websocket&sid=" + p.sid} {
		c, resp := s.dialWebSocket(query)
		require.Nil(t, c)
		b, err := io.ReadAll(resp.Body)
		require.NoError(t, err)
		require.Equal(t, unknownTransport, string(b))
	}
	s = start(t, tcp, func(set *setup) { set.engine.NoPolling = true })
	status, body, err := s.request(t.Context(), http.MethodGet, "EIO=4&transport=polling", nil)
	require.NoError(t, err)
	require.Equal(t, http.StatusBadRequest, status)
	require.Equal(t, unknownTransport, body)
	s.websocket()
}

// An invalid websocket handshake makes no session, and junk in headers that the server
// does not use has no effect.
func TestServer_WebSocketHandshakeHeaders(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, func(set *setup) { set.host.MaxHeaderBytes = 1 << 20 })
		good := handshake("EIO=4&transport=websocket")
		for name, request := range map[string]string{
			"no key":      strings.Replace(good, "Sec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n", "", 1),
			"short key":   strings.Replace(good, "dGhlIHNhbXBsZSBub25jZQ==", "abc", 1),
			"version 8":   strings.Replace(good, "Version: 13", "Version: 8", 1),
			"no version":  strings.Replace(good, "Sec-WebSocket-Version: 13\r\n", "", 1),
			"not GET":     strings.Replace(good, "GET", "POST", 1),
			"HTTP/1.0":    strings.Replace(good, "HTTP/1.1", "HTTP/1.0", 1),
			"keep-alive":  strings.Replace(good, "Connection: Upgrade", "Connection: keep-alive", 1),
			"other proto": strings.Replace(good, "Upgrade: websocket", "Upgrade: h2c", 1),
		} {
			conn, err := s.dial()
			require.NoError(t, err)
			_, err = io.WriteString(conn, request)
			require.NoError(t, err)
			b, err := io.ReadAll(io.LimitReader(conn, 12))
			require.NoError(t, err)
			require.Contains(t, []string{"HTTP/1.1 400", "HTTP/1.1 405", "HTTP/1.1 426", "HTTP/1.1 505", "HTTP/1.0 400", "HTTP/1.1 500"}, string(b), name)
			require.NotContains(t, string(b), "101", name)
			require.NoError(t, conn.Close())
		}
		require.Zero(t, s.Len())

		var many strings.Builder
		for i := range 2000 {
			fmt.Fprintf(&many, "X-Junk-%d: %d\r\n", i, i)
		}
		for name, junk := range map[string]string{
			"extensions named like properties": "Sec-WebSocket-Extensions: constructor, __proto__; toString=valueOf, permessage-deflate\r\n",
			"long list of protocols":           "Sec-WebSocket-Protocol: " + strings.Repeat("a,", 32<<10) + "b\r\n",
			"spaces in the protocols":          "Sec-WebSocket-Protocol: " + strings.Repeat(" ", 64<<10) + "b\r\n",
			"2000 headers":                     many.String(),
		} {
			conn, err := s.dial()
			require.NoError(t, err)
			_, err = io.WriteString(conn, strings.Replace(good, "Sec-WebSocket-Key", junk+"Sec-WebSocket-Key", 1))
			require.NoError(t, err)
			b, err := io.ReadAll(io.LimitReader(conn, 12))
			require.NoError(t, err)
			require.Equal(t, "HTTP/1.1 101", string(b), name)
			require.NoError(t, conn.Close())
		}
	})
}

// A ResponseWriter that cannot be hijacked only refuses the websocket.
func TestServer_NoHijacker(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	r := httptest.NewRequest(http.MethodGet, "/?EIO=4&transport=websocket", nil)
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	w := httptest.NewRecorder()
	s.ServeHTTP(w, r)
	require.Equal(t, http.StatusInternalServerError, w.Code)
	require.Zero(t, s.Len())
}

// A recorder takes the place of a host that wraps its ResponseWriter: it has no
// deadlines, and no flushing by http.ResponseController.
func TestServer_PollingWithoutConnection(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	p := s.polling()
	p.h.Send(text("a"))
	w := httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/?"+p.query(), nil))
	require.Equal(t, "4a", w.Body.String())
	w = httptest.NewRecorder()
	s.ServeHTTP(w, httptest.NewRequest(http.MethodPost, "/?"+p.query(), strings.NewReader("4b")))
	require.Equal(t, "ok", w.Body.String())
	p.expect("4b")
}

func TestServer_PollingOverHTTP2(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	ts := httptest.NewUnstartedServer(s)
	ts.EnableHTTP2 = true
	ts.TLS = &tls.Config{}
	ts.StartTLS()
	t.Cleanup(ts.Close)
	do := func(ctx context.Context, method, query, body string) (string, error) {
		r, err := http.NewRequestWithContext(ctx, method, ts.URL+"/?"+query, strings.NewReader(body))
		require.NoError(t, err)
		resp, err := ts.Client().Do(r)
		if err != nil {
			return "", err
		}
		defer func() { _ = resp.Body.Close() }()
		require.Equal(t, 2, resp.ProtoMajor)
		b, err := io.ReadAll(resp.Body)
		return string(b), err
	}
	get := func(query string) string {
		body, err := do(t.Context(), http.MethodGet, query, "")
		require.NoError(t, err)
		return body
	}
	sid := parseOpen(t, get("EIO=4&transport=polling")).SID
	h := receive(t, s.sessions)
	query := "EIO=4&transport=polling&sid=" + sid
	waiting := make(chan string, 1)
	go func() {
		body, err := do(t.Context(), http.MethodGet, query, "")
		if err != nil {
			body = err.Error()
		}
		waiting <- body
	}()
	testkit.Eventually(t, "the poll is not open", h.Polled)
	ok, err := do(t.Context(), http.MethodPost, query, "4über\x1ebAQID")
	require.NoError(t, err)
	require.Equal(t, "ok", ok)
	got := receive(t, waiting)
	if !strings.Contains(got, "\x1e") {
		got += "\x1e" + get(query)
	}
	require.Equal(t, "4über\x1ebAQID", got)
	require.Equal(t, badRequest, get("EIO=4&transport=websocket"))

	ctx, cancel := context.WithCancel(t.Context())
	canceled := make(chan error, 1)
	go func() {
		_, err := do(ctx, http.MethodGet, query, "")
		canceled <- err
	}()
	testkit.Eventually(t, "the poll is not open", h.Polled)
	cancel()
	require.ErrorIs(t, receive(t, canceled), context.Canceled)
	require.Equal(t, engineio.ReasonTransportClose, h.ended(t))
}
