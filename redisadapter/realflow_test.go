//go:build e2e

// A flow: two servers that emit numbered events all the time, while Redis or the path to it
// fails. It knows what each client must have received.

package redisadapter_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// flow has two servers, each with a client of the same driver, to whom both servers emit.
type flow struct {
	nodes   [2]*flowNode
	stop    chan struct{}
	running sync.WaitGroup
}

type flowNode struct {
	name    string
	server  *realtimetest.Server
	client  *realtimetest.Client
	log     *testkit.Log
	emitted atomic.Int64 // the last number
	gaps    atomic.Int64
}

// pause is the time between two emits of a server.
const pause = 10 * time.Millisecond

// startFlow starts two servers with those URLs of Redis, and their emits.
func startFlow(t *testing.T, urls [2]string, change func(*redisadapter.Options)) *flow {
	t.Helper()
	f := &flow{stop: make(chan struct{})}
	for i := range f.nodes {
		n := &flowNode{name: string(rune('a' + i)), log: &testkit.Log{}}
		f.nodes[i] = n
		log := slog.New(slog.NewTextHandler(n.log, nil))
		o := redisadapter.Options{URL: urls[i], Namespaces: []string{ns}, Logger: log}
		if change != nil {
			change(&o)
		}
		n.server = realtimetest.NewServer(t, func(so *realtime.Options) {
			so.Cluster.Adapter, so.Logger = newAdapter(t, o), log
			so.Trace = &realtime.Trace{Gap: func(context.Context, realtime.GapInfo) { n.gaps.Add(1) }}
		})
		n.client = n.server.Driver(t, "1")
	}
	for _, n := range f.nodes {
		f.running.Go(func() { n.emit(f.stop) })
	}
	t.Cleanup(f.end)
	return f
}

func (f *flow) end() {
	select {
	case <-f.stop:
	default:
		close(f.stop)
	}
	f.running.Wait()
}

// emit emits the numbers from 1 on.
func (n *flowNode) emit(stop <-chan struct{}) {
	for number := int64(1); ; number++ {
		// An error says that the other nodes miss it, which the test finds out by itself.
		_ = n.server.Realtime.Drivers().To(driver1).EmitRaw("flow", raw(strconv.Quote(n.name), strconv.FormatInt(number, 10)))
		n.emitted.Store(number)
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// received returns the numbers of a server's events that this server's client has received.
func (n *flowNode) received(t *testing.T, from *flowNode) (numbers []int64) {
	t.Helper()
	for _, r := range n.client.Received() {
		if r.Event != "flow" || string(r.Args[0]) != strconv.Quote(from.name) {
			continue
		}
		var number int64
		require.NoError(t, json.Unmarshal(r.Args[1], &number))
		numbers = append(numbers, number)
	}
	return numbers
}

func (n *flowNode) last(t *testing.T, from *flowNode) int64 {
	t.Helper()
	if all := n.received(t, from); len(all) > 0 {
		return all[len(all)-1]
	}
	return 0
}

func (n *flowNode) healthy(t *testing.T) bool { return n.server.Realtime.Check(t.Context()) == nil }

// wait waits until a condition holds that is not worth asking every millisecond.
func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		require.False(t, time.Now().After(end), "timed out: %s", what)
	}
}

// goesOnHere checks that each server still emits, and that its own client receives that.
func (f *flow) goesOnHere(t *testing.T) {
	t.Helper()
	for _, n := range f.nodes {
		began := n.emitted.Load()
		wait(t, "the emits go on here", func() bool { return n.last(t, n) > began+20 })
	}
}

// crosses checks that each server's client receives what the other server emits from now on, and
// that Check is green afterwards.
func (f *flow) crosses(t *testing.T) {
	t.Helper()
	for i, from := range f.marks() {
		f.reached(t, i, from)
	}
	wait(t, "health is green", func() bool { return f.nodes[0].healthy(t) && f.nodes[1].healthy(t) })
}

// marks returns each server's last number.
func (f *flow) marks() [2]int64 {
	return [2]int64{f.nodes[0].emitted.Load(), f.nodes[1].emitted.Load()}
}

// reached waits until an event of a server after that number has arrived at the other one, and
// returns the first.
func (f *flow) reached(t *testing.T, server int, after int64) (first int64) {
	t.Helper()
	from, to := f.nodes[server], f.nodes[1-server]
	wait(t, "events cross", func() bool {
		for _, number := range to.received(t, from) {
			if number > after {
				first = number
				return true
			}
		}
		return false
	})
	return first
}

// heals is crosses after a fault has ended, and it checks that it took at most 5 s. The servers'
// own emits are the clock, which is as slow as a busy machine makes them.
func (f *flow) heals(t *testing.T) {
	t.Helper()
	marks := f.marks()
	for i, from := range marks {
		missed := f.reached(t, i, from) - from - 1
		t.Logf("heard again after %v", time.Duration(missed)*pause)
		require.Less(t, time.Duration(missed)*pause, 5*time.Second, "deaf for too long")
	}
	f.crosses(t)
}

// check ends the flow and checks what each client has received: everything of its own server, and
// of the other one nothing twice, nothing out of order, and all, unless there was a gap.
func (f *flow) check(t *testing.T, lossless bool) {
	t.Helper()
	f.end()
	for i, n := range f.nodes {
		wait(t, "the rest arrives here", func() bool { return n.last(t, n) == n.emitted.Load() })
		for at, number := range n.received(t, n) {
			require.Equal(t, int64(at+1), number, "of its own server")
		}
		other := f.nodes[1-i]
		wait(t, "the rest arrives there", func() bool { return n.last(t, other) == other.emitted.Load() })
		before, missing := int64(0), int64(0)
		for _, number := range n.received(t, other) {
			require.Greater(t, number, before, "of the other server")
			missing += number - before - 1
			before = number
		}
		if missing > 0 {
			wait(t, "the gap is reported to "+n.name, func() bool { return n.gaps.Load() > 0 })
			if lossless { // only a machine that is too busy to answer in time is an excuse
				require.Regexp(t, "i/o timeout|do not arrive", n.log.String()+other.log.String(), "%s misses events", n.name)
			}
		}
		require.Zero(t, strings.Count(n.log.String(), "panic"), n.log)
	}
}
