//go:build e2e

// Faults of a real redis-server, which is killed, stopped or cut off, and of a Go node,
// which is killed.

package redisadapter_test

import (
	"context"
	"log/slog"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisadapter"
)

// childEnv makes the test binary run a node until it is killed.
const childEnv = "REDISADAPTER_CHILD"

func init() { //nolint:gochecknoinits // before TestMain and its leak check
	url := os.Getenv(childEnv)
	if url == "" {
		return
	}
	a, err := redisadapter.New(redisadapter.Options{URL: url, Name: "the child", Namespaces: []string{ns}, Logger: quiet})
	if err == nil {
		err = a.Start(context.Background(), &recorder{sockets: []realtime.RemoteSocket{someSocket}})
	}
	if err != nil {
		slog.Error("the child does not start", "error", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	select {}
}

// startOn starts a node with the default timing.
func startOn(t *testing.T, url string, protocol string) *peer {
	t.Helper()
	p := &peer{node: &recorder{sockets: []realtime.RemoteSocket{someSocket}}, log: &testkit.Log{}}
	p.Adapter = newAdapter(t, redisadapter.Options{
		URL: url, Sharded: protocol == "sharded", Namespaces: []string{ns}, Logger: slog.New(slog.NewTextHandler(p.log, nil)),
	})
	require.NoError(t, p.Start(t.Context(), p.node))
	t.Cleanup(func() { p.close(t) })
	return p
}

// healsWithin checks that after a fault has ended both nodes receive again within limit,
// and that the gap is reported.
func healsWithin(t *testing.T, limit time.Duration, a, b *peer) {
	t.Helper()
	healed := time.Now()
	requireReaches(t, a, b)
	requireReaches(t, b, a)
	testkit.Eventually(t, "health is green", func() bool { return a.Check(t.Context()) == nil && b.Check(t.Context()) == nil })
	require.Less(t, time.Since(healed), limit)
	testkit.Eventually(t, "the gap is reported", func() bool { return a.gapCount() > 0 && b.gapCount() > 0 })
}

func TestRealRedis_KilledAndRestarted(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a, b := startOn(t, r.URL(), "classic"), startOn(t, r.URL(), "classic")
	node := startNode(t, r.URL(), "classic")
	node.do("client", fields{"name": "n1", "rooms": []string{room}})
	requireReaches(t, a, b)
	r.Kill()
	testkit.Eventually(t, "health is red", func() bool { return a.Check(t.Context()) != nil && b.Check(t.Context()) != nil })
	for n := range 1000 {
		took := time.Now()
		_ = a.Publish(t.Context(), event(n))
		require.Less(t, time.Since(took), 200*time.Millisecond)
	}
	require.NoError(t, r.Start())
	healsWithin(t, 5*time.Second, a, b)
	before := len(node.receivedBy("n1"))
	testkit.Eventually(t, "Node receives it too", func() bool {
		require.NoError(t, a.Publish(t.Context(), event(-1)))
		return len(node.receivedBy("n1")) > before
	})
}

func TestRealRedis_Stopped(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a, b := startOn(t, r.URL(), "classic"), startOn(t, r.URL(), "classic")
	requireReaches(t, a, b)
	require.NoError(t, r.Pause())
	stopped := time.Now()
	testkit.Eventually(t, "health is red", func() bool { return a.Check(t.Context()) != nil && b.Check(t.Context()) != nil })
	require.Less(t, time.Since(stopped), 5*time.Second)
	time.Sleep(10*time.Second - time.Since(stopped))
	require.NoError(t, r.Resume())
	healsWithin(t, 5*time.Second, a, b)
}

// TestRealRedis_PathGoesSilent: the connections stay open, but nothing arrives.
func TestRealRedis_PathGoesSilent(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	p := redistest.StartPath(t, r.Addr())
	a, b := startOn(t, r.URL(), "classic"), startOn(t, p.URL(), "classic")
	requireReaches(t, a, b)
	p.Silence(true)
	began := time.Now()
	testkit.Eventually(t, "health is red", func() bool { return b.Check(t.Context()) != nil })
	require.Less(t, time.Since(began), 5*time.Second)
	require.NoError(t, a.Check(t.Context()))
	p.Silence(false)
	healed := time.Now()
	requireReaches(t, a, b)
	requireReaches(t, b, a)
	require.Less(t, time.Since(healed), 5*time.Second)
	testkit.Eventually(t, "the gap is reported", func() bool { return b.gapCount() > 0 })
}

func TestRealRedis_SubscribersAreKicked(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			a, b := startOn(t, r.URL(), protocol), startOn(t, r.URL(), protocol)
			requireReaches(t, a, b)
			c := realClient(t, r)
			require.NoError(t, c.Do(t.Context(), c.B().Arbitrary("CLIENT", "KILL", "TYPE", "pubsub").Build()).Error())
			testkit.Eventually(t, "it is noticed", func() bool { return a.log.Times("not receiving") > 0 && b.log.Times("not receiving") > 0 })
			healsWithin(t, 5*time.Second, a, b)
		})
	}
}

func TestRealRedis_NodeIsKilled(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a := startOn(t, r.URL(), "classic")
	child := redistest.StartChild(t, childEnv+"="+r.URL())
	child.Expect(t, "ready\n")
	testkit.Eventually(t, "it is known", func() bool { return len(a.Peers()) == 1 })
	fetch := realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, All: true}
	found := func() (n int, took time.Duration) {
		began := time.Now()
		require.NoError(t, a.Request(t.Context(), fetch, func(realtime.ClusterAnswer) { n++ }))
		return n, time.Since(began)
	}
	n, _ := found()
	require.Equal(t, 1, n)
	child.Kill()
	killed := time.Now()
	n, took := found()
	require.Zero(t, n)
	require.Less(t, took, 2*time.Second, "it is waited for")
	testkit.Eventually(t, "it is forgotten", func() bool { return len(a.Peers()) == 0 })
	require.Less(t, time.Since(killed), 10*time.Second)
}
