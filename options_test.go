package realtime_test

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// emptyHost is a host without users.
type emptyHost struct{}

func (emptyHost) VerifyToken(context.Context, string, string) (realtime.Claims, error) {
	return realtime.Claims{}, realtime.ErrTokenInvalid
}

func (emptyHost) FindUser(context.Context, string) (realtime.User, error) {
	return realtime.User{}, realtime.ErrNotFound
}

func (emptyHost) FindSession(context.Context, string) (realtime.Session, error) {
	return realtime.Session{}, realtime.ErrNotFound
}

func TestServer_ShutdownTwice(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(realtime.Options{Tokens: emptyHost{}, Users: emptyHost{}, Sessions: emptyHost{}})
	require.NoError(t, err)
	require.NoError(t, rt.Shutdown(t.Context()))
	require.NoError(t, rt.Shutdown(t.Context()), "idempotent")
}

func TestServer_NamespaceNames(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(realtime.Options{Tokens: emptyHost{}, Users: emptyHost{}, Sessions: emptyHost{}})
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	for _, name := range []string{"", "support", "/a,b", "/a?b", realtime.NamespaceAdmin} {
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
		Tokens: emptyHost{}, Users: emptyHost{}, Sessions: emptyHost{}, Logger: discarded(),
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
