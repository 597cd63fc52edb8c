package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"net/http"
	"net/http/httptest"
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
	require.Equal(t, http.StatusForbidden, w.Code)
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
