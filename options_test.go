package realtime_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// nobody is a host without users.
type nobody struct{}

func (nobody) VerifyToken(context.Context, string, string) (realtime.Claims, error) {
	return realtime.Claims{}, realtime.ErrTokenInvalid
}

func (nobody) FindUser(context.Context, string) (realtime.User, error) {
	return realtime.User{}, realtime.ErrNotFound
}

func (nobody) FindSession(context.Context, string) (realtime.Session, error) {
	return realtime.Session{}, realtime.ErrNotFound
}

func TestNewReportsEveryMistakeAtOnce(t *testing.T) {
	t.Parallel()
	_, err := realtime.New(realtime.Options{
		Tokens:     (*realtime.JWTVerifier)(nil), // the error of NewJWTVerifier was not looked at
		Origins:    realtime.Origins{Allowed: []string{"*", "https://app.example.com/path"}, Credentials: true},
		Transports: []realtime.Transport{"webtransport"},
		Timeouts:   realtime.Timeouts{PingInterval: -time.Second},
		UserTypes:  map[string][]realtime.UserType{"/support": {"agent"}},
		Limits:     realtime.Limits{MaxPayload: -1},
	})
	require.Error(t, err)
	for _, part := range []string{
		"Options.Users is required", "Options.Sessions is required", "Options.Tokens is a nil *realtime.JWTVerifier",
		"can't go with Credentials", `no page has the origin "https://app.example.com/path"`,
		`"webtransport" is neither "polling" nor "websocket"`, "PingInterval is negative", `"/support" is not one of`, "Limits.MaxPayload is negative",
	} {
		require.ErrorContains(t, err, part)
	}
}

func TestServer_ShutdownTwice(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(realtime.Options{Tokens: nobody{}, Users: nobody{}, Sessions: nobody{}})
	require.NoError(t, err)
	require.NoError(t, rt.Shutdown(t.Context()))
	require.NoError(t, rt.Shutdown(t.Context()), "idempotent")
}

func TestServer_NamespaceNames(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(realtime.Options{Tokens: nobody{}, Users: nobody{}, Sessions: nobody{}})
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	for _, name := range []string{"", "/", "support", "/a,b", "/a?b", realtime.NamespaceAdmin} {
		_, err := rt.Namespace(name, realtime.NamespaceOptions{})
		require.Error(t, err, name)
	}
	ns, err := rt.Namespace("/support", realtime.NamespaceOptions{})
	require.NoError(t, err)
	require.Equal(t, "/support", ns.Name())
}

func TestServer_ShutdownDeliversWhatWasPublished(t *testing.T) {
	t.Parallel()
	var delivered atomic.Int64
	rt, err := realtime.New(realtime.Options{
		Tokens: nobody{}, Users: nobody{}, Sessions: nobody{}, Logger: discarded(),
		Trace: &realtime.Trace{Delivered: func(context.Context, realtime.DeliveredInfo) { delivered.Add(1) }},
	})
	require.NoError(t, err)
	const n = 2000
	for i := range n {
		require.NoError(t, rt.Publish(t.Context(), realtime.TripStarted{TripID: strconv.Itoa(i % 10)}))
	}
	require.NoError(t, rt.Shutdown(t.Context()))
	require.EqualValues(t, n, delivered.Load())
}
