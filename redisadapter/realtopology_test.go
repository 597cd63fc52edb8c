//go:build e2e

// A real cluster whose slots move and whose master fails, a real Sentinel that replaces the
// master, and servers that start without Redis, all under load.

package redisadapter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisadapter"
)

// both returns the URL for both servers of a flow.
func both(url string) [2]string { return [2]string{url, url} }

// TestRealCluster_SlotMovesAndMasterFails: first the slot of the namespace's channels moves to
// another master, then that one is killed and its replica takes over.
func TestRealCluster_SlotMovesAndMasterFails(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	slot := redisadapter.Slot("socket.io#/drivers#")
	flows := map[string]*flow{}
	for _, protocol := range protocols {
		f := startFlow(t, both(c.URL()), func(o *redisadapter.Options) { o.Sharded = protocol == "sharded" })
		f.crosses(t)
		flows[protocol] = f
	}
	c.Move(t, slot)
	for _, f := range flows {
		f.heals(t)
	}
	c.AddReplica(t, slot)
	c.KillMaster(t, slot)
	c.AwaitTakeover(t, slot)
	for _, f := range flows {
		f.heals(t)
	}
	for _, f := range flows {
		f.goesOnHere(t)
		f.check(t)
	}
}

// TestRealSentinel_ReplacesTheMaster: one that was killed, and one that was stopped and
// continues later as if nothing had happened.
func TestRealSentinel_ReplacesTheMaster(t *testing.T) {
	t.Parallel()
	for name, fail := range map[string]func(*testing.T, *redistest.Sentinel) (back func() error){
		"killed": func(_ *testing.T, s *redistest.Sentinel) func() error { s.Master.Kill(); return s.Master.Start },
		"stopped": func(t *testing.T, s *redistest.Sentinel) func() error {
			require.NoError(t, s.Master.Pause())
			return s.Master.Resume
		},
	} {
		for _, protocol := range protocols {
			t.Run(name+", "+protocol, func(t *testing.T) {
				t.Parallel()
				s := redistest.StartSentinel(t)
				f := startFlow(t, both(s.URL()), func(o *redisadapter.Options) { o.Sharded = protocol == "sharded" })
				f.crosses(t)
				back := fail(t, s)
				f.goesOnHere(t)
				s.AwaitFailover(t)
				f.heals(t)
				require.NoError(t, back())
				s.AwaitDemoted(t)
				f.heals(t)
				f.check(t)
			})
		}
	}
}

// TestRealRedis_AwayAtTheStart: a server does not start without Redis unless it may start alone;
// then it serves its own clients and joins later.
func TestRealRedis_AwayAtTheStart(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			r.Kill()
			o := redisadapter.Options{URL: r.URL(), Sharded: protocol == "sharded"}
			require.ErrorContains(t, newAdapter(t, o).Start(t.Context(), &recorder{}), "redisadapter: ")
			f := startFlow(t, both(r.URL()), func(o *redisadapter.Options) { o.StartAlone, o.Sharded = true, protocol == "sharded" })
			f.goesOnHere(t)
			require.False(t, f.nodes[0].healthy(t))
			require.NoError(t, r.Start())
			f.heals(t)
			f.check(t)
		})
	}
}
