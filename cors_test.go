package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// corsServer returns a handler for a set of origins, and its log.
func corsServer(t *testing.T, o realtime.Options) (http.Handler, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.Tokens, o.Users, o.Sessions = emptyHost{}, emptyHost{}, emptyHost{}
	rt, err := realtime.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rt.Shutdown(context.Background())) })
	return rt, &log
}

func TestOrigins_AnyHasNoCredentials(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{Origins: realtime.Origins{Allowed: []string{"*"}}})
	r := httptest.NewRequest(http.MethodGet, "http://api.example.com/socket.io/?EIO=4&transport=polling", nil)
	r.Header.Set("Origin", "https://anywhere.example")
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))

	r.Header.Set("Origin", "null")
	w = httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
}

// A listed page is named in the answer as it has named itself, whatever entry admits it.
func TestOrigins_WebViews(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{Origins: realtime.Origins{Allowed: append(realtime.WebViewOrigins(), "https://*.example.com", "http://localhost:*")}})
	for page, status := range map[string]int{
		"capacitor://localhost": http.StatusOK, "ionic://localhost": http.StatusOK, "app://localhost": http.StatusOK, "file://": http.StatusOK,
		"https://localhost": http.StatusOK, "http://localhost": http.StatusOK, "http://localhost:8100": http.StatusOK, "https://ops.example.com": http.StatusOK,
		"null": http.StatusForbidden, "https://a.ops.example.com": http.StatusForbidden, "capacitor://evil": http.StatusForbidden, "https://localhost:8100": http.StatusForbidden,
	} {
		r := httptest.NewRequest(http.MethodGet, "http://api.example.com/socket.io/?EIO=4&transport=polling", nil)
		r.Header.Set("Origin", page)
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, page)
		if status == http.StatusOK {
			require.Equal(t, page, w.Header().Get("Access-Control-Allow-Origin"))
		}
	}
}

// The server's own host is what a trusted proxy calls it, and nobody else.
func TestOrigins_BehindAProxy(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{TrustedProxies: []netip.Prefix{netip.MustParsePrefix("192.0.2.1/32")}})
	for from, status := range map[string]int{"192.0.2.1:4000": http.StatusOK, "192.0.2.2:4000": http.StatusForbidden} {
		r := httptest.NewRequest(http.MethodGet, "http://10.0.0.7:3000/socket.io/?EIO=4&transport=polling", nil)
		r.RemoteAddr = from
		r.Header.Set("Origin", "https://api.example.com")
		r.Header.Set("X-Forwarded-Host", "api.example.com")
		r.Header.Set("X-Forwarded-Proto", "https")
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		require.Equal(t, status, w.Code, from)
	}
}

func TestOrigins_NoneCanBeRefused(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{Origins: realtime.Origins{Required: true}})
	r := httptest.NewRequest(http.MethodGet, "http://api.example.com/socket.io/?EIO=4&transport=polling", nil)
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code)

	r.Header.Set("Origin", "http://api.example.com")
	w = httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
}

// Swift's client waits for the end of the connection when its websocket is refused.
func TestOrigins_RefusedWebSocketEnds(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{})
	for transport, connection := range map[string]string{"websocket": "close", "polling": ""} {
		r := httptest.NewRequest(http.MethodGet, "http://api.example.com/socket.io/?EIO=4&transport="+transport, nil)
		r.Header.Set("Origin", "https://elsewhere.example.com")
		if transport == "websocket" {
			r.Header.Set("Connection", "Upgrade")
			r.Header.Set("Upgrade", "websocket")
		}
		w := httptest.NewRecorder()
		rt.ServeHTTP(w, r)
		require.Equal(t, http.StatusForbidden, w.Code)
		require.Equal(t, connection, w.Header().Get("Connection"), transport)
	}
}
