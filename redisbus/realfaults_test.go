//go:build e2e

// A real redis-server that is killed, stopped, slow or full, and a node that is killed.

package redisbus_test

import (
	"context"
	"log/slog"
	"os"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisbus"
)

// childEnv makes the test binary a node that waits to be killed in its handler.
const childEnv = "REDISBUS_CHILD"

func init() { //nolint:gochecknoinits // before TestMain and its leak check
	url := os.Getenv(childEnv)
	if url == "" {
		return
	}
	b, err := redisbus.New(redisbus.Options{URL: url, Name: "the child", Logger: quiet})
	if err == nil {
		_, err = b.Subscribe(func(_ context.Context, e realtime.Envelope) error {
			_, _ = os.Stdout.WriteString(e.ID + "\n")
			if e.ID == "a/1" {
				select {}
			}
			return nil
		})
	}
	if err != nil {
		slog.Error("the child does not start", "error", err)
		os.Exit(1)
	}
	_, _ = os.Stdout.WriteString("ready\n")
	select {}
}

// realBus returns a bus with the default timing.
func realBus(t *testing.T, url string, change func(*redisbus.Options)) *redisbus.Bus {
	t.Helper()
	o := redisbus.Options{URL: url, Name: "test", Logger: quiet}
	if change != nil {
		change(&o)
	}
	b, err := redisbus.New(o)
	require.NoError(t, err)
	t.Cleanup(func() { closeBus(t, b) })
	return b
}

// load publishes events of some keys, and records which are handled. It publishes each event, with
// the same id, until Publish succeeds.
type load struct {
	t    *testing.T
	bus  *redisbus.Bus
	keys int
	each int

	held sync.RWMutex // held by hold, and shared by calls of Publish

	mu      sync.Mutex // guards the rest
	seen    map[string][]int
	stored  int           // events for which Publish has returned nil
	longest time.Duration // of a call of Publish
}

// handle is a handler that records the events' numbers.
func (l *load) handle(_ context.Context, e realtime.Envelope) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	n, err := strconv.Atoi(e.ID[len(e.Key)+1:])
	if err != nil {
		return err
	}
	if l.seen == nil {
		l.seen = map[string][]int{}
	}
	l.seen[e.Key] = append(l.seen[e.Key], n)
	return nil
}

func (l *load) run(pause time.Duration) {
	var publishing sync.WaitGroup
	for key := range l.keys {
		publishing.Go(func() {
			for n := range l.each {
				for {
					began := time.Now()
					l.held.RLock()
					err := l.bus.Publish(context.Background(), event(strconv.Itoa(key), n))
					l.held.RUnlock()
					l.took(time.Since(began), err == nil)
					if err == nil {
						break
					}
					time.Sleep(20 * time.Millisecond)
				}
				time.Sleep(pause)
			}
		})
	}
	publishing.Wait()
}

func (l *load) took(d time.Duration, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.longest = max(l.longest, d)
	if ok {
		l.stored++
	}
}

// hold calls f while nothing is published. A master may have stored what its replica never gets,
// which is all that Redis promises.
func (l *load) hold(f func()) {
	l.held.Lock()
	defer l.held.Unlock()
	f()
}

// goesOn waits until a further event is stored.
func (l *load) goesOn() {
	count := func() int {
		l.mu.Lock()
		defer l.mu.Unlock()
		return l.stored
	}
	before := count()
	waitFor(l.t, "events are stored again", func() bool { return count() > before })
}

// began reports whether an event was handled.
func (l *load) began() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return len(l.seen) > 0
}

// done reports whether the last event of each key was handled.
func (l *load) done() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	for key := range l.keys {
		if !slices.Contains(l.seen[strconv.Itoa(key)], l.each-1) {
			return false
		}
	}
	return true
}

// checkOrder checks that each key's events were handled in order and none was left out. Only the
// last ones, as many as again, may be handled again: Publish was repeated, or a node ended. It
// also checks that no call of Publish, whose ctx has no deadline, hung.
func (l *load) checkOrder(again int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	require.Less(l.t, l.longest, patience, "Publish hangs")
	for key, ns := range l.seen {
		reached := -1
		for _, n := range ns {
			if n > reached+1 || n < reached+1-again {
				l.t.Errorf("the key %s got %d after %d", key, n, reached)
			}
			reached = max(reached, n)
		}
	}
}

// waitFor waits longer than eventually does: Redis needs its time to come back.
func waitFor(t *testing.T, what string, ok func() bool) {
	t.Helper()
	require.Eventually(t, ok, 3*patience, 5*time.Millisecond, what)
}

// With its data on disk Redis forgets nothing that Publish returned nil for.
func TestRealRedis_KilledAndRestarted_NothingIsLost(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t, "--appendonly", "yes", "--appendfsync", "always")
	l := &load{t: t, bus: realBus(t, r.URL(), nil), keys: 20, each: 200}
	nodes := []*redisbus.Bus{realBus(t, r.URL(), nil), realBus(t, r.URL(), nil)}
	for _, b := range nodes {
		subscribe(t, b, l.handle)
	}
	published := make(chan struct{})
	go func() { defer close(published); l.run(20 * time.Millisecond) }()
	for range 2 {
		time.Sleep(time.Second)
		r.Kill()
		time.Sleep(500 * time.Millisecond)
		require.NoError(t, r.Start())
	}
	<-published
	waitFor(t, "everything is handled", l.done)
	l.checkOrder(32)
	eventually(t, "the buses are well", func() bool { return nodes[0].Check(t.Context()) == nil && nodes[1].Check(t.Context()) == nil })
}

// Without its data on disk Redis forgets everything; the bus continues, and reports the gap.
func TestRealRedis_KilledAndEmpty_GoesOn(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	var host hostRecorder
	b, publisher := realBus(t, r.URL(), host.listen), realBus(t, r.URL(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	require.NoError(t, publisher.Publish(t.Context(), event("a", 1)))
	eventually(t, "it is handled", func() bool { return len(got.all()) == 1 })
	r.Kill()
	process, began := redistest.StartOwnPulse(t), time.Now()
	require.Error(t, publisher.Publish(t.Context(), event("a", 2)))
	process.InTime(t, began, 3*time.Second, "Publish fails")
	eventually(t, "the bus is red", func() bool { return b.Check(t.Context()) != nil })
	require.NoError(t, r.Start())
	healed := time.Now()
	publishing(t, publisher, event("a", 3))
	eventually(t, "it is handled", func() bool { return slices.Contains(got.ids(), "a/3") })
	eventually(t, "the bus is green", func() bool { return b.Check(t.Context()) == nil })
	process.InTime(t, healed, 10*time.Second, "the bus works")
	require.Positive(t, host.gapCount())
}

func TestRealRedis_Stopped(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	l := &load{t: t, bus: realBus(t, r.URL(), nil), keys: 20, each: 100}
	nodes := []*redisbus.Bus{realBus(t, r.URL(), nil), realBus(t, r.URL(), nil)}
	for _, b := range nodes {
		subscribe(t, b, l.handle)
	}
	published := make(chan struct{})
	go func() { defer close(published); l.run(20 * time.Millisecond) }()
	time.Sleep(time.Second)
	require.NoError(t, r.Pause())
	process, stopped := redistest.StartOwnPulse(t), time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	require.Error(t, nodes[0].Publish(ctx, event("x", 0)))
	process.InTime(t, stopped, time.Second, "Publish returns with its ctx")
	eventually(t, "the buses are red", func() bool { return nodes[0].Check(t.Context()) != nil && nodes[1].Check(t.Context()) != nil })
	process.InTime(t, stopped, 6*time.Second, "the buses are red")
	time.Sleep(10*time.Second - time.Since(stopped)) // beyond every lease
	require.NoError(t, r.Resume())
	healed := time.Now()
	eventually(t, "the buses are green", func() bool { return nodes[0].Check(t.Context()) == nil && nodes[1].Check(t.Context()) == nil })
	process.InTime(t, healed, 5*time.Second, "the buses are green")
	<-published
	waitFor(t, "everything is handled", l.done)
	l.checkOrder(32)
}

// A node whose path goes silent, without closing anything, loses its partitions to the
// others, and takes its share again.
func TestRealRedis_PathGoesSilent(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	path := redistest.StartPath(t, r.Addr())
	l := &load{t: t, bus: realBus(t, r.URL(), nil), keys: 20, each: 600}
	cut, other := realBus(t, path.URL(), nil), realBus(t, r.URL(), nil)
	var mu sync.Mutex
	last := map[*redisbus.Bus]time.Time{}
	for _, b := range []*redisbus.Bus{cut, other} {
		subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
			mu.Lock()
			last[b] = time.Now()
			mu.Unlock()
			return l.handle(ctx, e)
		})
	}
	lastOf := func(b *redisbus.Bus) time.Time {
		mu.Lock()
		defer mu.Unlock()
		return last[b]
	}
	published := make(chan struct{})
	go func() { defer close(published); l.run(20 * time.Millisecond) }()
	eventually(t, "both work", func() bool { return !lastOf(cut).IsZero() && !lastOf(other).IsZero() })
	path.Silence(true)
	process, silent := redistest.StartOwnPulse(t), time.Now()
	eventually(t, "it is red", func() bool { return cut.Check(t.Context()) != nil })
	require.NoError(t, other.Check(t.Context()))
	time.Sleep(8*time.Second - time.Since(silent))
	handled := lastOf(cut)
	require.Less(t, handled.Sub(silent), 5*time.Second+process.Longest(silent, handled), "it begins nothing after its lease")
	path.Silence(false)
	healed := time.Now()
	eventually(t, "it is green", func() bool { return cut.Check(t.Context()) == nil })
	eventually(t, "it works again", func() bool { return lastOf(cut).After(healed) })
	process.InTime(t, healed, 5*time.Second, "it works again")
	<-published
	waitFor(t, "everything is handled", l.done)
	l.checkOrder(32)
}

// A full memory refuses new events, and nothing else: what waits is handled, also by a
// node that has to take the partitions over, and set aside.
func TestRealRedis_MemoryFull(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t, "--maxmemory-policy", "noeviction")
	publisher := realBus(t, r.URL(), nil)
	first := realBus(t, r.URL(), nil)
	cancel := subscribe(t, first, new(recorder).handle)
	require.NoError(t, publisher.Publish(t.Context(), event("a", 0)))
	cancel()
	for n := 1; n < 10; n++ {
		require.NoError(t, publisher.Publish(t.Context(), event("a", n)))
	}
	garbage := client(t, r.Addr())
	require.NoError(t, garbage.Do(t.Context(), garbage.B().Xadd().Key(publisher.StreamOf("b")).Id("*").FieldValue().FieldValue("no", "event").Build()).Error())
	setMaxMemory(t, r, "1")
	require.ErrorContains(t, publisher.Publish(t.Context(), event("a", 10)), "OOM")
	forgetScripts(t, r.Addr())
	var host hostRecorder
	b := realBus(t, r.URL(), host.listen)
	var got recorder
	subscribe(t, b, got.handle)
	eventually(t, "what waits is handled", func() bool { return slices.Contains(got.ids(), "a/9") })
	eventually(t, "what is no event is set aside", func() bool { return len(host.setAside()) == 1 })
	require.NoError(t, b.Check(t.Context()))
	setMaxMemory(t, r, "0")
	require.NoError(t, publisher.Publish(t.Context(), event("a", 10)))
	eventually(t, "the next is handled", func() bool { return slices.Contains(got.ids(), "a/10") })
}

func setMaxMemory(t *testing.T, r *redistest.Process, bytes string) {
	t.Helper()
	c := client(t, r.Addr())
	require.NoError(t, c.Do(t.Context(), c.B().ConfigSet().ParameterValue().ParameterValue("maxmemory", bytes).Build()).Error())
}

// Handled events are removed, and the number of waiting events is limited, both to whole blocks of
// Redis.
func TestRealRedis_StreamsAreBounded(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	var host hostRecorder
	b := realBus(t, r.URL(), func(o *redisbus.Options) { o.MaxWaiting = 1000; host.listen(o) })
	b.Hurry(quick, long)
	var got recorder
	cancel := subscribe(t, b, got.handle)
	c := client(t, r.Addr())
	length := func() int64 {
		n, err := c.Do(t.Context(), c.B().Xlen().Key(b.StreamOf("a")).Build()).AsInt64()
		require.NoError(t, err)
		return n
	}
	for n := range 900 {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	eventually(t, "all are handled", func() bool { return len(got.all()) == 900 })
	eventually(t, "they are removed", func() bool { return length() <= 200 })
	require.Zero(t, host.gapCount())
	cancel()
	for n := 900; n < 3000; n++ {
		require.NoError(t, b.Publish(t.Context(), event("a", n)))
	}
	require.Less(t, length(), int64(1200))
	subscribe(t, b, got.handle)
	eventually(t, "the newest are handled", func() bool { return slices.Contains(got.ids(), "a/2999") })
	require.Positive(t, host.gapCount())
	require.LessOrEqual(t, host.gapCount(), 2, "one for what was read, one for what was not")
}

// A node that is killed in its handler: another one handles the event, and no later one
// of its key before.
func TestRealRedis_NodeIsKilled(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	publisher := realBus(t, r.URL(), nil)
	child := redistest.StartChild(t, childEnv+"="+r.URL())
	child.Expect(t, "ready\n")
	for n := range 4 {
		require.NoError(t, publisher.Publish(t.Context(), event("a", n)))
	}
	child.Expect(t, "a/0\na/1\n")
	b := realBus(t, r.URL(), nil)
	var got recorder
	subscribe(t, b, got.handle)
	time.Sleep(time.Second)
	require.Empty(t, got.all())
	child.Kill()
	process, killed := redistest.StartOwnPulse(t), time.Now()
	eventually(t, "another node handles the rest", func() bool { return len(got.all()) == 3 })
	process.InTime(t, killed, 10*time.Second, "another node handles the rest")
	require.Equal(t, []string{"a/1", "a/2", "a/3"}, got.ids())
}
