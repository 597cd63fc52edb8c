package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// corsServer returns a handler for a set of origins, and its log.
func corsServer(t *testing.T, o realtime.Options) (http.Handler, *bytes.Buffer) {
	t.Helper()
	var log bytes.Buffer
	o.Logger = slog.New(slog.NewTextHandler(&log, nil))
	o.Tokens, o.Users, o.Sessions = nobody{}, nobody{}, nobody{}
	rt, err := realtime.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, rt.Shutdown(context.Background())) })
	return rt, &log
}

// TestOriginMatrix asks every kind of request from every kind of origin.
func TestOriginMatrix(t *testing.T) {
	const allowed, refused = true, false
	origins := []struct {
		name    string
		origins []string
		ok      bool
	}{
		{"none, as native apps", nil, allowed},
		{"listed", []string{"https://app.example.com"}, allowed},
		{"listed, upper case", []string{"HTTPS://APP.EXAMPLE.COM"}, allowed},
		{"listed, with the default port", []string{"https://app.example.com:443"}, allowed},
		{"listed with a port", []string{"http://localhost:5173"}, allowed},
		{"listed, punycode", []string{"https://xn--bcher-kva.example"}, allowed},
		{"own host", []string{"http://api.example.com:3000"}, allowed},
		{"own host, other port", []string{"http://api.example.com:3001"}, refused},
		{"own host without its port", []string{"http://api.example.com"}, refused},
		{"other port", []string{"https://app.example.com:8443"}, refused},
		{"other port on localhost", []string{"http://localhost:5174"}, refused},
		{"other scheme", []string{"http://app.example.com"}, refused},
		{"subdomain", []string{"https://evil.app.example.com"}, refused},
		{"parent domain", []string{"https://example.com"}, refused},
		{"suffix", []string{"https://app.example.com.evil.com"}, refused},
		{"prefix", []string{"https://evil-app.example.com"}, refused},
		{"user information", []string{"https://app.example.com@evil.com"}, refused},
		{"user information of the own host", []string{"http://evil.com@api.example.com:3000"}, refused},
		{"trailing dot", []string{"https://app.example.com."}, refused},
		{"path", []string{"https://app.example.com/"}, refused},
		{"null", []string{"null"}, refused},
		{"empty", []string{""}, refused},
		{"no scheme", []string{"app.example.com"}, refused},
		{"homograph", []string{"https://b\u00fccher.example"}, refused},
		{"two headers", []string{"https://app.example.com", "https://app.example.com"}, refused},
		{"two in one header", []string{"https://app.example.com, https://evil.com"}, refused},
	}
	requests := []struct{ name, method, query string }{
		{"polling handshake", "GET", "EIO=4&transport=polling"},
		{"poll", "GET", "EIO=4&transport=polling&sid=x"},
		{"post", "POST", "EIO=4&transport=polling&sid=x"},
		{"preflight", "OPTIONS", "EIO=4&transport=polling"},
		{"websocket", "GET", "EIO=4&transport=websocket"},
		{"upgrade of a session", "GET", "EIO=4&transport=websocket&sid=x"},
	}
	rt, log := corsServer(t, realtime.Options{
		AllowedOrigins:   []string{"https://app.example.com", "http://localhost:5173", "https://xn--bcher-kva.example"},
		AllowCredentials: true,
	})
	for _, o := range origins {
		for _, req := range requests {
			t.Run(o.name+", "+req.name, func(t *testing.T) {
				r := httptest.NewRequest(req.method, "http://api.example.com:3000/socket.io/?"+req.query, strings.NewReader(""))
				for _, origin := range o.origins {
					r.Header.Add("Origin", origin)
				}
				if req.method == "OPTIONS" {
					r.Header.Set("Access-Control-Request-Method", "POST")
					r.Header.Set("Access-Control-Request-Headers", "authorization,content-type")
				}
				if strings.Contains(req.query, "websocket") {
					r.Header.Set("Connection", "Upgrade")
					r.Header.Set("Upgrade", "websocket")
				}
				log.Reset()
				w := httptest.NewRecorder()
				rt.ServeHTTP(w, r)
				require.Contains(t, w.Header().Values("Vary"), "Origin")
				if !o.ok {
					require.Equal(t, http.StatusForbidden, w.Code)
					require.JSONEq(t, `{"code":4,"message":"Forbidden"}`, w.Body.String())
					require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
					require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))
					require.Contains(t, log.String(), "Options.AllowedOrigins", "the log says how to allow it")
					return
				}
				require.NotEqual(t, http.StatusForbidden, w.Code)
				if len(o.origins) > 0 {
					require.Equal(t, o.origins[0], w.Header().Get("Access-Control-Allow-Origin"))
					require.Equal(t, "true", w.Header().Get("Access-Control-Allow-Credentials"))
				} else {
					require.Empty(t, w.Header().Get("Access-Control-Allow-Origin"))
				}
				if req.method == "OPTIONS" {
					require.Equal(t, http.StatusNoContent, w.Code)
					require.Equal(t, "GET, POST", w.Header().Get("Access-Control-Allow-Methods"))
					require.Equal(t, "authorization,content-type", w.Header().Get("Access-Control-Allow-Headers"))
				}
			})
		}
	}
}

func TestAnyOriginHasNoCredentials(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{AllowedOrigins: []string{"*"}})
	r := httptest.NewRequest("GET", "http://api.example.com/socket.io/?EIO=4&transport=polling", nil)
	r.Header.Set("Origin", "https://anywhere.example")
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
	require.Equal(t, "*", w.Header().Get("Access-Control-Allow-Origin"))
	require.Empty(t, w.Header().Get("Access-Control-Allow-Credentials"))

	r.Header.Set("Origin", "null")
	w = httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code)
}

func TestNoOriginCanBeRefused(t *testing.T) {
	t.Parallel()
	rt, _ := corsServer(t, realtime.Options{RequireOrigin: true})
	r := httptest.NewRequest("GET", "http://api.example.com/socket.io/?EIO=4&transport=polling", nil)
	w := httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusForbidden, w.Code)

	r.Header.Set("Origin", "http://api.example.com")
	w = httptest.NewRecorder()
	rt.ServeHTTP(w, r)
	require.Equal(t, http.StatusOK, w.Code)
}
