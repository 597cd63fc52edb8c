//go:build e2e

// The faults of a real redis-server and of the path to it, under load: events are published and
// handled all the time, over a path. docs/redis.md lists them.

package redisbus_test

import (
	"context"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisbus"
)

// scene is what a fault can act on: Redis, and the path to it of the publisher and of the first node.
type scene struct {
	redis *redistest.Process
	path  *redistest.Path
	bus   *redisbus.Bus
	nodes []*redisbus.Bus
}

// aNodeIsRed reports whether Check of a node says that it does not handle its share.
func (s *scene) aNodeIsRed(t *testing.T) bool {
	t.Helper()
	return slices.ContainsFunc(s.nodes, func(b *redisbus.Bus) bool { return b.Check(t.Context()) != nil })
}

// fault is a fault under load.
type fault struct {
	happen func(t *testing.T, s *scene)
	red    [2]time.Duration // for how long at most Check of each node may be red at a time
}

// briefly is longer than the time until the next heartbeat: if one fails, the node is red until then.
const briefly = 2 * time.Second

var realFaults = map[string]fault{
	"cut in the middle of a command": {func(_ *testing.T, s *scene) { tear(s, redistest.ToServer) }, [2]time.Duration{briefly, 0}},
	"cut in the middle of an answer": {func(_ *testing.T, s *scene) { tear(s, redistest.FromServer) }, [2]time.Duration{briefly, 0}},
	"slow": {func(_ *testing.T, s *scene) {
		s.path.Delay(100 * time.Millisecond)
		time.Sleep(3 * time.Second)
		s.path.Delay(0)
	}, [2]time.Duration{}},
	"memory full": {func(t *testing.T, s *scene) {
		s.redis.Do(t, "CONFIG", "SET", "maxmemory", "1")
		require.ErrorContains(t, s.bus.Publish(t.Context(), event("x", 0)), "OOM")
		time.Sleep(2 * time.Second)
		s.redis.Do(t, "CONFIG", "SET", "maxmemory", "0")
	}, [2]time.Duration{}},
	"connections are killed": {func(t *testing.T, s *scene) {
		for range 5 {
			s.redis.Do(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			time.Sleep(200 * time.Millisecond)
		}
	}, [2]time.Duration{briefly, briefly}},
	"garbage in the streams": {func(t *testing.T, s *scene) {
		for range 20 {
			for _, key := range []string{"0", "1", "2", realtime.AccessKey("u")} {
				for _, garbage := range [][]string{{"no", "event"}, {"", ""}, {"id", "\xff\x00", "at", "x"}, {"data", strings.Repeat("{", 1<<16)}} {
					s.redis.Do(t, append([]string{"XADD", s.bus.StreamOf(key), "*"}, garbage...)...)
				}
			}
		}
	}, [2]time.Duration{}},
	"keys of another kind": {func(t *testing.T, s *scene) {
		owner := strings.TrimSuffix(s.bus.StreamOf("0"), "events") + "owner:realtime"
		s.redis.Do(t, "EVAL", "redis.call('DEL', KEYS[1]) return redis.call('RPUSH', KEYS[1], 'no lease')", "1", owner)
		waitFor(t, "a node is red", func() bool { return s.aNodeIsRed(t) })
		time.Sleep(2 * time.Second)
		require.True(t, s.aNodeIsRed(t))
		s.redis.Do(t, "DEL", owner)
	}, [2]time.Duration{time.Hour, time.Hour}},
}

// tear cuts connections of the path some times.
func tear(s *scene, d redistest.Direction) {
	for range 5 {
		s.path.Tear(d)
		time.Sleep(300 * time.Millisecond)
	}
}

func TestRealRedis_Faults(t *testing.T) {
	t.Parallel()
	for name, fault := range realFaults {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := &scene{redis: redistest.StartProcess(t, "--maxmemory-policy", "noeviction")}
			s.path = redistest.StartPath(t, s.redis.Addr())
			s.bus = realBus(t, s.path.URL(), nil)
			s.nodes = []*redisbus.Bus{realBus(t, s.path.URL(), nil), realBus(t, s.redis.URL(), nil)}
			machine := s.redis.Pulse(t)
			var watches []*redistest.Watch
			underLoad(t, s.bus, s.nodes, func(*load) {
				for _, b := range s.nodes {
					watches = append(watches, redistest.StartWatch(t, b.Check))
				}
				fault.happen(t, s)
			})
			for i, w := range watches {
				for _, red := range w.Unexcused(machine) {
					require.Less(t, red.To.Sub(red.From), fault.red[i], "Check of node %d was red: %v", i, red.Err)
				}
			}
		})
	}
}

// underLoad checks that everything that is published meanwhile is handled, in order, and that
// the nodes are well afterwards.
func underLoad(t *testing.T, publisher *redisbus.Bus, nodes []*redisbus.Bus, fault func(l *load)) {
	t.Helper()
	l := &load{t: t, bus: publisher, keys: 20, each: 100}
	for _, b := range nodes {
		subscribe(t, b, l.handle)
	}
	published := make(chan struct{})
	go func() { defer close(published); l.run(20 * time.Millisecond) }()
	waitFor(t, "events are handled", l.began)
	fault(l)
	<-published
	waitFor(t, "everything is handled", l.done)
	l.checkOrder(32)
	for _, b := range nodes {
		waitFor(t, "the bus is well", func() bool { return b.Check(t.Context()) == nil })
	}
}

func TestRealRedis_AwayAtTheStart(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	r.Kill()
	_, err := realBus(t, r.URL(), nil).Subscribe(new(recorder).handle)
	require.ErrorContains(t, err, "redisbus: ")
	b := realBus(t, r.URL(), func(o *redisbus.Options) { o.StartAlone = true })
	var got recorder
	subscribe(t, b, got.handle)
	require.Error(t, b.Publish(t.Context(), event("a", 0)))
	require.Error(t, b.Check(t.Context()))
	require.NoError(t, r.Start())
	publishing(t, b, event("a", 1))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
	eventually(t, "the bus is well", func() bool { return b.Check(t.Context()) == nil })
}

// TestRealCluster_SlotsMoveAndMasterFails: slots of some partitions move to other masters, then
// one of these is killed and its replica takes over.
func TestRealCluster_SlotsMoveAndMasterFails(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	publisher := realBus(t, c.URL(), nil)
	nodes := []*redisbus.Bus{realBus(t, c.URL(), nil), realBus(t, c.URL(), nil)}
	slot := c.SlotOf(t, publisher.StreamOf("0"))
	underLoad(t, publisher, nodes, func(*load) {
		for _, key := range []string{"0", "1", "2"} {
			c.Move(t, c.SlotOf(t, publisher.StreamOf(key)))
			time.Sleep(300 * time.Millisecond)
		}
	})
	c.AddReplica(t, slot)
	more, moreNodes := realBus(t, c.URL(), group("more")), []*redisbus.Bus{realBus(t, c.URL(), group("more")), realBus(t, c.URL(), group("more"))}
	underLoad(t, more, moreNodes, func(l *load) {
		l.hold(func() { c.KillMaster(t, slot) })
		c.AwaitTakeover(t, slot)
	})
}

// group makes a bus one of another group, with keys of its own.
func group(name string) func(*redisbus.Options) {
	return func(o *redisbus.Options) { o.Key, o.Group = name, name }
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
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := redistest.StartSentinel(t)
			nodes := []*redisbus.Bus{realBus(t, s.URL(), nil), realBus(t, s.URL(), nil)}
			underLoad(t, realBus(t, s.URL(), nil), nodes, func(l *load) {
				var back func() error
				l.hold(func() {
					s.AwaitSynced(t)
					back = fail(t, s)
				})
				s.AwaitFailover(t)
				l.goesOn() // on the new master, so the publisher has left the former one
				require.NoError(t, back())
				s.AwaitDemoted(t)
			})
		})
	}
}

// TestRealRedis_NodeIsStopped: a node that is stopped for longer than its lease, and continues
// as if nothing had happened, handles nothing more of what another one has taken over.
func TestRealRedis_NodeIsStopped(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	publisher := realBus(t, r.URL(), nil)
	child := redistest.StartChild(t, childEnv+"="+r.URL())
	child.Expect(t, "ready\n")
	require.NoError(t, publisher.Publish(t.Context(), event("a", 0)))
	child.Expect(t, "a/0\n")
	require.NoError(t, child.Pause())
	for n := 1; n < 5; n++ {
		require.NoError(t, publisher.Publish(t.Context(), event("a", n)))
	}
	b := realBus(t, r.URL(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "another node handles them", func() bool { return slices.Contains(got.ids(), "a/4") })
	ids := got.ids() // perhaps a/0 too: the child may not have acknowledged it
	require.Equal(t, []string{"a/1", "a/2", "a/3", "a/4"}, ids[len(ids)-4:])
	require.NoError(t, child.Resume())
	// It has a share of the partitions again: it handles what is published from now on.
	stop := make(chan struct{})
	var publishing sync.WaitGroup
	defer publishing.Wait()
	defer close(stop)
	publishing.Go(func() {
		for n := 0; ; n++ {
			select {
			case <-stop:
				return
			case <-time.After(5 * time.Millisecond):
			}
			if err := publisher.Publish(context.Background(), event(strconv.Itoa(n%20), n)); err != nil {
				t.Errorf("Publish: %v", err)
			}
		}
	})
	require.NotContains(t, child.Line(t), "a/")
}
