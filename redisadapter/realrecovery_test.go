//go:build e2e

// Options.Recovery over a real redis-server whose memory is full.

package redisadapter_test

import (
	"log/slog"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// While Redis takes no claim, a client is a new one on each node, and events arrive. A client that comes back later recovers.
func TestRealRedis_RecoveryWithoutMemory(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t, "--maxmemory-policy", "noeviction")
			log := &testkit.Log{}
			options := redisadapter.Options{URL: r.URL(), Sharded: protocol == "sharded"}
			logged := func(o *realtime.Options) { o.Logger = slog.New(slog.NewTextHandler(log, nil)) }
			here := recovering(t, options, nil, logged)
			there := recovering(t, options, here, logged)
			testkit.Pass(told)
			first, second, third := here.Driver(t, "first"), here.Driver(t, "second"), here.Driver(t, "third")
			testkit.Pass(told)
			leave(t, here, first)
			leave(t, here, second)

			r.Do(t, "CONFIG", "SET", "maxmemory", "1")
			emit(t, there, 1, "first", "second", "third")
			expect(t, third, 1)
			for where, s := range map[string]*realtimetest.Server{"on its node": here, "on another node": there} {
				recovered, _ := comeBack(t, s, first, "first")
				require.False(t, recovered, where)
			}
			require.Positive(t, log.Times("Claimer.Claim"))

			r.Do(t, "CONFIG", "SET", "maxmemory", "0")
			recovered, missed := comeBack(t, there, second, "second")
			require.True(t, recovered)
			require.Equal(t, []int{1}, missed)
		})
	}
}
