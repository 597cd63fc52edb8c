//go:build e2e

// A Go node that is killed beside others on a real redis-server, and a Node server whose Redis is.

package redisadapter_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"strconv"
	"strings"
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
		err = a.Start(context.Background(), &recorder{sockets: []realtime.RemoteSocket{someSocket}, changed: func(what string) {
			_, _ = os.Stdout.WriteString(what + "\n")
		}, onGap: func(g realtime.Gap) {
			_, _ = fmt.Fprintln(os.Stdout, "gap", g.Since.UnixNano())
		}, deliver: func(m realtime.ClusterMessage) {
			_, _ = os.Stdout.Write(append(m.Event.Args[1], '\n'))
		}})
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

// TestRealRedis_KilledAndRestarted_NodeToo: a Node server receives again as well.
func TestRealRedis_KilledAndRestarted_NodeToo(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a := startOn(t, r.URL(), "classic")
	node := startNode(t, r.URL(), "classic")
	node.do("client", fields{"name": "n1", "rooms": []string{room}})
	r.Kill()
	testkit.Eventually(t, "health is red", func() bool { return a.Check(t.Context()) != nil })
	require.NoError(t, r.Start())
	before := len(node.receivedBy("n1"))
	testkit.Eventually(t, "Node receives", func() bool {
		_ = a.Publish(t.Context(), event(-1)) // it may not be connected yet
		return len(node.receivedBy("n1")) > before
	})
}

func TestRealRedis_NodeIsKilled(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a := startOn(t, r.URL(), "classic")
	child := redistest.StartChild(t, childEnv+"="+r.URL())
	known := child.Line(t) // the order of the two lines is not known
	require.ElementsMatch(t, []string{"ready", "joined " + a.UID()}, []string{known, child.Line(t)})
	testkit.Eventually(t, "it is known", func() bool { return len(a.Peers()) == 1 })
	fetch := realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, All: true}
	found := func() (n int) {
		require.NoError(t, a.Request(t.Context(), fetch, func(realtime.ClusterAnswer) { n++ }))
		return n
	}
	require.Equal(t, 1, found())
	child.Kill()
	process, killed := redistest.StartOwnPulse(t), time.Now()
	require.Zero(t, found())
	process.InTime(t, killed, 2*time.Second, "nobody waits for it")
	testkit.Eventually(t, "it is forgotten", func() bool { return len(a.Peers()) == 0 })
	process.InTime(t, killed, 10*time.Second, "it is forgotten")
}

// TestRealRedis_NodeIsStopped: a node that is stopped until the others have forgotten it, and
// continues as if nothing had happened, is known again, takes nobody for dead, and receives what
// Redis has kept for it.
func TestRealRedis_NodeIsStopped(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	a := startOn(t, r.URL(), "classic")
	child := redistest.StartChild(t, childEnv+"="+r.URL())
	known := child.Line(t)
	require.ElementsMatch(t, []string{"ready", "joined " + a.UID()}, []string{known, child.Line(t)})
	testkit.Eventually(t, "it is known", func() bool { return len(a.Peers()) == 1 })
	require.NoError(t, child.Pause())
	testkit.Eventually(t, "it is forgotten", func() bool { return len(a.Peers()) == 0 })
	require.NoError(t, a.Publish(t.Context(), event(1)))
	require.NoError(t, child.Resume())
	testkit.Eventually(t, "it is known again", func() bool { return len(a.Peers()) == 1 })
	require.NoError(t, a.Publish(t.Context(), event(2)))
	child.Expect(t, "1\n2\n")
}

// TestRealRedis_NodeIsStopped_ItsConnectionBreaks: what Redis had sent to it is lost, from the time
// when it was stopped.
func TestRealRedis_NodeIsStopped_ItsConnectionBreaks(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	path := redistest.StartPath(t, r.Addr())
	child := redistest.StartChild(t, childEnv+"="+path.URL())
	child.Expect(t, "ready\n")
	require.NoError(t, child.Pause())
	paused := time.Now()
	time.Sleep(6 * time.Second) // longer than a node takes to notice that it does not receive
	path.Reset()
	require.NoError(t, child.Resume())
	var since int64
	for { // it may have looked as if it was disconnected before
		text, is := strings.CutPrefix(child.Line(t), "gap ")
		if !is {
			continue
		}
		var err error
		since, err = strconv.ParseInt(text, 10, 64)
		require.NoError(t, err)
		break
	}
	require.LessOrEqual(t, since, paused.UnixNano())
}
