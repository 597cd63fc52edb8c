// The conformance suite for event buses whose nodes share the events, as processes with
// one consumer group do.

package realtimetest

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// BusNode is one node's bus, for TestEventBusNodes.
type BusNode struct {
	realtime.EventBus
	// Crash makes the node lose its connections for good, as when its process was killed
	// or its cable cut. It returns at once.
	Crash func()
}

// TestEventBusNodes checks what a bus has to do, besides what TestEventBus checks, if
// each event is handled by one of several nodes: no event is lost with a node, and those
// of a key keep their order and are handled one at a time whichever node handles them.
// newNodes returns n nodes that share their events and receive no others, and closes
// them with t.Cleanup. The tests run in parallel. An event may be handled again after a
// node has left or crashed, and only then.
func TestEventBusNodes(t *testing.T, newNodes func(t *testing.T, n int) []BusNode) { //nolint:tparallel // the caller decides whether it is parallel
	t.Helper()
	for name, test := range map[string]func(t *testing.T, nodes []BusNode){
		"one node handles each event, and all nodes share the work": testNodesShare,
		"events wait while no node subscribes":                      testNodesWait,
		"a key keeps its order while nodes come and go":             testNodesComeAndGo,
		"an event whose node crashes is handled by another":         testNodesRedeliver,
		"a key keeps its order when a node crashes":                 testNodesTakeOver,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t, newNodes(t, 3))
		})
	}
}

// handling is an event that a node has handled.
type handling struct {
	node int
	key  string
	n    int
}

// nodesRecorder records what the handlers of several nodes do.
type nodesRecorder struct {
	t *testing.T

	mu      sync.Mutex // guards the fields below
	log     []handling
	running map[string]int // handlers, by key
}

// handler returns the handler of a node.
func (r *nodesRecorder) handler(node int) func(context.Context, realtime.Envelope) error {
	return func(_ context.Context, e realtime.Envelope) error {
		h := handling{node: node, key: e.Key}
		if _, err := fmt.Sscanf(e.ID, e.Key+"/%d", &h.n); err != nil {
			r.t.Errorf("node %d got %q, which was not published", node, e.ID)
			return nil
		}
		if want := event(h.key, h.n); e.Name != want.Name || !e.At.Equal(want.At) || !bytes.Equal(e.Data, want.Data) {
			r.t.Errorf("node %d got\n%q, want\n%q", node, clipped(e), clipped(want))
		}
		r.begin(e.Key)
		defer r.end(h)
		if h.n%10 == 0 {
			time.Sleep(time.Millisecond)
		}
		return nil
	}
}

func (r *nodesRecorder) begin(key string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.running == nil {
		r.running = map[string]int{}
	}
	if r.running[key]++; r.running[key] > 1 {
		r.t.Errorf("two events of the key %s at once", key)
	}
}

func (r *nodesRecorder) end(h handling) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.running[h.key]--
	r.log = append(r.log, h)
}

func (r *nodesRecorder) all() []handling {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.log)
}

// events returns how many different events were handled.
func (r *nodesRecorder) events() int {
	seen := map[handling]bool{}
	for _, h := range r.all() {
		h.node = 0
		seen[h] = true
	}
	return len(seen)
}

// checkOrder checks that each key's events were handled in order, from zero. One that
// was handled before may be handled again, but only by another node than before, and
// none may be left out.
func (r *nodesRecorder) checkOrder() {
	last := map[string]handling{}
	for _, h := range r.all() {
		before, ok := last[h.key]
		switch {
		case !ok && h.n != 0:
			r.t.Errorf("the key %s begins with %d, at node %d", h.key, h.n, h.node)
		case ok && h.n > before.n+1:
			r.t.Errorf("node %d got %s/%d after %d: something was left out", h.node, h.key, h.n, before.n)
		case ok && h.n <= before.n && h.node == before.node:
			r.t.Errorf("node %d got %s/%d after %d", h.node, h.key, h.n, before.n)
		}
		last[h.key] = h
	}
}

// publishKeys publishes a number of events of each key, in order. One node publishes all
// events of a key.
func publishKeys(t *testing.T, nodes []BusNode, keys []string, each int, pause time.Duration) {
	t.Helper()
	var publishing sync.WaitGroup
	for i, key := range keys {
		publishing.Go(func() {
			for n := range each {
				if err := nodes[i%len(nodes)].Publish(t.Context(), event(key, n)); err != nil {
					t.Errorf("Publish: %v", err)
				}
				time.Sleep(pause)
			}
		})
	}
	publishing.Wait()
}

// someKeys returns n keys.
func someKeys(prefix string, n int) (keys []string) {
	for i := range n {
		keys = append(keys, prefix+strconv.Itoa(i))
	}
	return keys
}

// settle publishes until each node from the first on has handled an event of the last round.
func settle(t *testing.T, r *nodesRecorder, nodes []BusNode, subscribed int) {
	t.Helper()
	round := 0
	eventually(t, "all nodes share the work", func() bool {
		before, known := len(r.all()), r.events()
		keys := someKeys(fmt.Sprintf("%s round %d key ", t.Name()[len(t.Name())-4:], round), 40)
		round++
		publishKeys(t, nodes, keys, 1, 0)
		eventually(t, "the events are handled", func() bool { return r.events() == known+len(keys) })
		busy := map[int]bool{}
		for _, h := range r.all()[before:] {
			busy[h.node] = true
		}
		return len(busy) == subscribed
	})
}

func testNodesShare(t *testing.T, nodes []BusNode) {
	r := &nodesRecorder{t: t}
	for i, node := range nodes {
		subscribe(t, node, r.handler(i))
	}
	settle(t, r, nodes, len(nodes))
	before, known := len(r.all()), r.events()
	keys := someKeys("key ", 40)
	publishKeys(t, nodes, keys, 20, 0)
	eventually(t, "every event is handled", func() bool { return r.events() == known+20*len(keys) })
	time.Sleep(settling)
	if extra := len(r.all()) - before - 20*len(keys); extra > 0 {
		t.Errorf("%d events were handled twice, although all nodes work", extra)
	}
	r.checkOrder()
}

func testNodesWait(t *testing.T, nodes []BusNode) {
	r := &nodesRecorder{t: t}
	cancel := subscribe(t, nodes[0], r.handler(0))
	publish(t, nodes[1], event("a", 0))
	eventually(t, "the first event is handled", func() bool { return len(r.all()) == 1 })
	cancel()
	publish(t, nodes[1], event("a", 1), event("b", 0))
	time.Sleep(settling)
	if got := len(r.all()); got != 1 {
		t.Fatalf("%d events were handled without a subscription", got-1)
	}
	subscribe(t, nodes[2], r.handler(2))
	eventually(t, "a node that subscribes later gets what has waited", func() bool { return r.events() == 3 })
	r.checkOrder()
}

func testNodesComeAndGo(t *testing.T, nodes []BusNode) {
	r := &nodesRecorder{t: t}
	const each = 100
	keys := someKeys("key ", 20)
	cancel := make([]func(), len(nodes))
	come := func(i int) { cancel[i] = subscribe(t, nodes[i], r.handler(i)) }
	come(0)
	published := make(chan struct{})
	go func() {
		defer close(published)
		publishKeys(t, nodes, keys, each, 10*time.Millisecond)
	}()
	working := func(i int) {
		since := len(r.all())
		eventually(t, "node "+strconv.Itoa(i)+" works", func() bool {
			return r.events() == each*len(keys) || slices.ContainsFunc(r.all()[since:], func(h handling) bool { return h.node == i })
		})
	}
	for _, change := range []struct{ comes, leaves int }{{1, 0}, {2, 1}, {0, 2}} {
		come(change.comes)
		working(change.comes)
		cancel[change.leaves]()
		working(change.comes)
	}
	<-published
	eventually(t, "every event is handled", func() bool { return r.events() == each*len(keys) })
	r.checkOrder()
}

func testNodesRedeliver(t *testing.T, nodes []BusNode) {
	r := &nodesRecorder{t: t}
	stuck, release := make(chan struct{}), make(chan struct{})
	defer close(release)
	first := r.handler(0)
	subscribe(t, nodes[0], func(ctx context.Context, e realtime.Envelope) error {
		if e.ID == "a/1" {
			close(stuck)
			<-release // the process ends here
			return nil
		}
		return first(ctx, e)
	})
	publish(t, nodes[2], event("a", 0), event("a", 1), event("a", 2), event("a", 3))
	select {
	case <-stuck:
	case <-time.After(patience):
		t.Fatal("the event is not handled")
	}
	subscribe(t, nodes[1], r.handler(1))
	time.Sleep(settling)
	if got := len(r.all()); got != 1 {
		t.Errorf("%d events overtook one that is being handled", got-1)
	}
	nodes[0].Crash()
	eventually(t, "another node handles the events", func() bool { return r.events() == 4 })
	r.checkOrder()
}

func testNodesTakeOver(t *testing.T, nodes []BusNode) {
	r := &nodesRecorder{t: t}
	for i := range 2 {
		subscribe(t, nodes[i], r.handler(i))
	}
	settle(t, r, nodes[2:], 2)
	const each = 100
	keys := someKeys("key ", 20)
	published := make(chan struct{})
	before, known := len(r.all()), r.events()
	go func() {
		defer close(published)
		publishKeys(t, nodes[2:], keys, each, 5*time.Millisecond)
	}()
	eventually(t, "the nodes are at work", func() bool { return len(r.all()) > before+each*len(keys)/4 })
	working := len(r.all())
	nodes[0].Crash()
	crashed := len(r.all())
	<-published
	eventually(t, "no event is lost", func() bool { return r.events() == known+each*len(keys) })
	r.checkOrder()
	log := r.all()
	handled := map[handling]bool{}
	for _, h := range log[before:working] { // the nodes may still divide the keys anew
		h.node = 0
		if handled[h] {
			t.Errorf("%s/%d was handled again, although all nodes worked", h.key, h.n)
		}
		handled[h] = true
	}
	took := map[string]bool{}
	for _, h := range log[crashed:] { // the crashed node can no longer take a key over
		if h.node == 1 {
			took[h.key] = true
		} else if took[h.key] {
			t.Errorf("the crashed node handled %s/%d after the other had taken over", h.key, h.n)
		}
	}
	for _, key := range keys {
		if !took[key] {
			t.Errorf("the key %s was not taken over", key)
		}
	}
}
