// The adapters' conformance suite, on a Redis in memory.

package redisadapter_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// quiet discards the logs of tests that cause errors on purpose.
var quiet = slog.New(slog.DiscardHandler)

func newAdapter(t *testing.T, o redisadapter.Options) *redisadapter.Adapter {
	t.Helper()
	if o.Logger == nil {
		o.Logger = quiet
	}
	a, err := redisadapter.New(o)
	require.NoError(t, err)
	return a
}

func startRedis(t *testing.T) *redistest.Server {
	t.Helper()
	s, err := redistest.Start()
	require.NoError(t, err)
	t.Cleanup(s.Stop)
	return s
}

func newCluster(t *testing.T, n int, o redisadapter.Options) (nodes []realtime.Adapter) {
	t.Helper()
	for range n {
		nodes = append(nodes, newAdapter(t, o))
	}
	return nodes
}

func TestAdapter_Conforms(t *testing.T) {
	t.Parallel()
	realtimetest.TestAdapter(t, func(t *testing.T, n int) []realtime.Adapter {
		return newCluster(t, n, redisadapter.Options{URL: startRedis(t).URL()})
	})
}

func TestAdapter_Sharded_Conforms(t *testing.T) {
	t.Parallel()
	realtimetest.TestAdapter(t, func(t *testing.T, n int) []realtime.Adapter {
		return newCluster(t, n, redisadapter.Options{URL: startRedis(t).URL(), Sharded: true})
	})
}
