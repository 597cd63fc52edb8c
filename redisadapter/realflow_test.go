//go:build e2e

// A flow: two servers that emit numbered events all the time, while Redis or the path to it
// fails. It knows what each client must have received.

package redisadapter_test

import (
	"context"
	"log/slog"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
)

// flow has two servers, each with a client of the same driver, to whom both servers emit.
type flow struct {
	nodes   [2]*flowNode
	process *redistest.Pulse // of this process: whether it runs at all
	stop    chan struct{}
	running sync.WaitGroup
}

type flowNode struct {
	name    string
	server  *realtimetest.Server
	client  *realtimetest.Client
	log     *testkit.Log
	emitted atomic.Int64 // the last number

	mu   sync.Mutex     // guards the rest
	at   []time.Time    // when the emit of each number began, from 1 on
	done []time.Time    // when it returned
	gaps []realtime.Gap // that were reported to the server
}

// arrival is an event of a server that a client has received.
type arrival struct {
	number int64
	at     time.Time
}

// pause is the time between two emits of a server.
const pause = 10 * time.Millisecond

// startFlow starts two servers with those URLs of Redis, and their emits.
func startFlow(t *testing.T, urls [2]string, change func(*redisadapter.Options)) *flow {
	t.Helper()
	f := &flow{stop: make(chan struct{}), process: redistest.StartOwnPulse(t)}
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
			so.Trace = &realtime.Trace{Gap: n.addGap}
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
		n.mu.Lock()
		n.at = append(n.at, time.Now())
		n.mu.Unlock()
		// An error says that the other nodes miss it, which the test finds out by itself.
		_ = n.server.Realtime.Drivers().To(driver1).EmitRaw("flow", raw(strconv.Quote(n.name), strconv.FormatInt(number, 10)))
		n.mu.Lock()
		n.done = append(n.done, time.Now())
		n.mu.Unlock()
		n.emitted.Store(number)
		select {
		case <-stop:
			return
		case <-time.After(pause):
		}
	}
}

// emittedAt returns when the emit of a number began, and when it returned.
func (n *flowNode) emittedAt(number int64) (began, returned time.Time) {
	n.mu.Lock()
	defer n.mu.Unlock()
	return n.at[number-1], n.done[number-1]
}

func (n *flowNode) addGap(_ context.Context, i realtime.GapInfo) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.gaps = append(n.gaps, i.Gap)
}

// reported returns the gaps that were reported to the server.
func (n *flowNode) reported() []realtime.Gap {
	n.mu.Lock()
	defer n.mu.Unlock()
	return slices.Clone(n.gaps)
}

// gapsOver returns the gaps that cover a time.
func (n *flowNode) gapsOver(at time.Time) []realtime.Gap {
	return slices.DeleteFunc(n.reported(), func(g realtime.Gap) bool { return at.Before(g.Since) || at.After(g.Until) })
}

// received returns a server's events that this server's client has received.
func (n *flowNode) received(t *testing.T, from *flowNode) (all []arrival) {
	t.Helper()
	for _, r := range n.client.Received() {
		if r.Event != "flow" || string(r.Args[0]) != strconv.Quote(from.name) {
			continue
		}
		number, err := strconv.ParseInt(string(r.Args[1]), 10, 64)
		require.NoError(t, err)
		all = append(all, arrival{number, r.At})
	}
	return all
}

func (n *flowNode) last(t *testing.T, from *flowNode) int64 {
	t.Helper()
	if all := n.received(t, from); len(all) > 0 {
		return all[len(all)-1].number
	}
	return 0
}

// missed returns when the events of another server were emitted that this server's client has not
// received. It checks that nothing has come twice or out of order.
func (n *flowNode) missed(t *testing.T, from *flowNode) (lost []time.Time) {
	t.Helper()
	next := int64(1)
	for _, a := range n.received(t, from) {
		require.GreaterOrEqual(t, a.number, next, "of the other server")
		for ; next < a.number; next++ {
			began, _ := from.emittedAt(next)
			lost = append(lost, began)
		}
		next++
	}
	return lost
}

func (n *flowNode) healthy(t *testing.T) bool { return n.server.Realtime.Check(t.Context()) == nil }

// wait waits until a condition holds that is not worth asking every millisecond.
func wait(t *testing.T, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !holds(); time.Sleep(20 * time.Millisecond) {
		require.False(t, time.Now().After(end), "timed out: %s", what)
	}
}

// goesOnHere checks that each server still emits, and that its own client receives that. How soon
// each event arrives is checked in the end, by servesItself.
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
		for _, a := range to.received(t, from) {
			if a.number > after {
				first = a.number
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

// localTime is how long an emit, and its way to a client of the same server, may take at most. They
// take some milliseconds, or if they wait for Redis that fails, seconds.
const localTime = 2 * time.Second

// servesItself checks that no emit of a server has waited, and that the server's own client has
// received each event, in order and soon. The time for which this process did not run does not count.
func (f *flow) servesItself(t *testing.T, n *flowNode) {
	t.Helper()
	wait(t, "the rest arrives here", func() bool { return n.last(t, n) == n.emitted.Load() })
	for i, a := range n.received(t, n) {
		require.Equal(t, int64(i+1), a.number, "of its own server")
		began, returned := n.emittedAt(a.number)
		for what, ended := range map[string]time.Time{"emit": returned, "event": a.at} {
			if took := ended.Sub(began); took > localTime {
				require.Less(t, took, localTime+f.process.Longest(began, ended), "an %s of %s takes too long", what, n.name)
			}
		}
	}
}

// check ends the flow and checks what each client has received: everything of its own server, soon,
// and of the other one nothing twice, nothing out of order, and all that is in no gap. It returns
// when the events were emitted that each client has missed.
func (f *flow) check(t *testing.T) (lost [2][]time.Time) {
	t.Helper()
	f.end()
	for i, n := range f.nodes {
		f.servesItself(t, n)
		other := f.nodes[1-i]
		wait(t, "the rest arrives there", func() bool { return n.last(t, other) == other.emitted.Load() })
		lost[i] = n.missed(t, other)
		uncovered := lost[i]
		testkit.Within(patience, func() bool {
			uncovered = slices.DeleteFunc(slices.Clone(uncovered), func(at time.Time) bool { return len(n.gapsOver(at)) > 0 })
			return len(uncovered) == 0
		})
		require.Empty(t, uncovered, "%s misses events and has no gap over them: %v\n%s", n.name, n.reported(), n.log)
		require.Zero(t, strings.Count(n.log.String(), "panic"), n.log)
	}
	return lost
}

// nothingLost checks that what the clients have missed is the fault of a machine that was too busy
// to answer in time: the gap over each loss has a time without an answer.
func (f *flow) nothingLost(t *testing.T, lost [2][]time.Time, machine *redistest.Pulse) {
	t.Helper()
	for i, n := range f.nodes {
		for _, at := range lost[i] {
			excused := slices.ContainsFunc(n.gapsOver(at), func(g realtime.Gap) bool { return machine.Longest(g.Since, g.Until) >= redistest.TooBusy })
			require.True(t, excused, "%s misses events, and the machine was not busy: %v\n%s", n.name, n.gapsOver(at), n.log)
		}
	}
}

// watch watches what Check of each server says from now on.
func (f *flow) watch(t *testing.T) (watches [2]*redistest.Watch) {
	t.Helper()
	for i, n := range f.nodes {
		watches[i] = redistest.StartWatch(t, n.server.Realtime.Check)
	}
	return watches
}
