// The bus and the adapters between the nodes. They report when a published event has
// been handled; from then on the oracle judges its effects.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// bus is a MemoryBus between several nodes. It delivers each key to one node, as a
// partitioned log does, or every event to every node. All methods may be called
// concurrently.
type bus struct {
	*realtime.MemoryBus
	w        *world
	nodes    int
	fanOut   bool
	handlers [2]func(ctx context.Context, e realtime.Envelope) error // of the nodes, set before the first event

	mu      sync.Mutex     // guards the fields below
	handed  map[string]int // nodes that keys were handed to
	recent  []realtime.Envelope
	last    uint64         // number of the latest event
	left    map[uint64]int // nodes that have yet to handle an event, by number
	handled uint64         // everything up to this number is handled
	waiters []waiter
}

type waiter struct {
	until uint64
	done  chan struct{}
}

func newBus(w *world, nodes int, fanOut bool) *bus {
	return &bus{
		w: w, MemoryBus: realtime.NewMemoryBus(), nodes: nodes, fanOut: fanOut,
		handed: map[string]int{}, left: map[uint64]int{},
	}
}

// ticketKey is the key of an event's ticket in the context of its handlers.
type ticketKey struct{}

// ticket is what the bus knows of an event.
type ticket struct {
	// number counts the events. Ids are not unique, because a server publishes an event
	// again when the first attempt took too long.
	number uint64
	// node handles the event, without fan-out. It is chosen once: a node that takes the
	// event late must not find that the key is its own by now.
	node int
}

// nodeBus is the bus as one node uses it.
type nodeBus struct {
	*bus
	node int
}

// Subscribe implements realtime.EventBus.
func (b nodeBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	b.handlers[b.node] = handler
	return b.MemoryBus.Subscribe(func(ctx context.Context, e realtime.Envelope) error {
		is := ctx.Value(ticketKey{}).(ticket) //nolint:errcheck,forcetypeassert // Publish sets it
		if !b.fanOut && is.node != b.node {
			return nil
		}
		defer b.done(is.number)
		es := []realtime.Envelope{e}
		if b.w.config.meddle != nil {
			es = b.w.config.meddle(e)
		}
		es = append(es, b.repeat(e)...)
		b.delay(e)
		if b.w.book != nil {
			b.w.book.Handled(e.ID, time.Now())
		}
		var errs []error
		for _, e := range es {
			errs = append(errs, handler(ctx, e))
		}
		b.remember(e)
		return errors.Join(errs...)
	})
}

// Publish implements realtime.EventBus, for the server's own events.
func (b nodeBus) Publish(ctx context.Context, e realtime.Envelope) error {
	if _, hook, _ := strings.Cut(e.Key, "-"); strings.HasPrefix(e.Key, bomb) && hook == "EventBus.Publish" {
		b.w.host.panicIn(hook)
	}
	return b.bus.Publish(ctx, e)
}

// repeats is how many events are remembered that may come again.
const repeats = 100

// repeatable reports whether the bus delivers an event again now and then: none with fan-out, where
// the other node may not have received it yet, and none of scenes, whose keys move between nodes.
func (b nodeBus) repeatable(e realtime.Envelope) bool {
	return b.w.has(redeliver) && !b.fanOut && !strings.HasPrefix(e.Key, sceneTrip)
}

// repeat returns events of this node that the bus delivers again after e, which are e itself or have
// been handled: the server must recognize their ids.
func (b nodeBus) repeat(e realtime.Envelope) []realtime.Envelope {
	if !b.repeatable(e) {
		return nil
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	chosen := hashOf(fmt.Sprint(b.w.seed, e.ID))
	var again []realtime.Envelope
	if chosen%8 == 0 {
		again = append(again, e)
	}
	if chosen%8 == 1 && len(b.recent) == repeats {
		if old := b.recent[int(chosen>>3)%repeats]; b.atLocked(old.Key) == b.node {
			again = append(again, old)
		}
	}
	if len(again) > 0 {
		b.w.count.Add("bus events delivered again", len(again))
	}
	return again
}

// remember records an event that has been handled. One that is still being handled must not come
// again at the same time: no bus hands out two events of a key at once.
func (b nodeBus) remember(e realtime.Envelope) {
	if !b.repeatable(e) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.recent = append(b.recent, e); len(b.recent) > repeats {
		b.recent = b.recent[1:]
	}
}

// delay delays some keys, so that events of other keys overtake them.
func (b nodeBus) delay(e realtime.Envelope) {
	if chosen := hashOf(fmt.Sprint(e.ID, b.w.seed, b.node)); b.w.has(reorder) && chosen%8 == 0 {
		b.w.count.Add("bus events delayed", 1)
		time.Sleep(time.Duration(chosen>>3%30) * time.Millisecond)
	}
}

// redeliver delivers an event to a node again.
func (b *bus) redeliver(ctx context.Context, node int, e realtime.Envelope) {
	b.w.count.Add("bus events delivered again", 1)
	if err := b.handlers[node](ctx, e); err != nil {
		b.w.oracle.breachf("%s was delivered again, and failed: %v", e.Name, err)
	}
}

// assignKey delivers a key's events to a node from now on; -1 means its usual node.
// Earlier events must have been handled.
func (b *bus) assignKey(key string, node int) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if delete(b.handed, key); node >= 0 {
		b.handed[key] = node
	}
}

// at returns the node that receives a key.
func (b *bus) at(key string) int {
	b.mu.Lock()
	defer b.mu.Unlock()
	return b.atLocked(key)
}

func (b *bus) atLocked(key string) int {
	if node, ok := b.handed[key]; ok {
		return node
	}
	return int(hashOf(key) % uint32(b.nodes))
}

// Publish implements realtime.EventBus.
func (b *bus) Publish(ctx context.Context, e realtime.Envelope) error {
	b.mu.Lock()
	b.last++
	n := b.last
	is := ticket{n, b.atLocked(e.Key)}
	b.left[n] = 1
	if b.fanOut {
		b.left[n] = b.nodes
	}
	b.mu.Unlock()
	if b.w.book != nil {
		b.w.book.Heard(e)
	}
	err := b.MemoryBus.Publish(context.WithValue(ctx, ticketKey{}, is), e)
	if err != nil { // nobody will handle it
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.left, n)
		b.advanceLocked()
	}
	return err
}

func (b *bus) done(n uint64) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.left[n]--; b.left[n] > 0 {
		return
	}
	delete(b.left, n)
	b.advanceLocked()
}

// advanceLocked updates handled and wakes the goroutines that wait for it.
func (b *bus) advanceLocked() {
	for b.handled < b.last {
		if _, open := b.left[b.handled+1]; open {
			break
		}
		b.handled++
	}
	rest := b.waiters[:0]
	for _, w := range b.waiters {
		if w.until <= b.handled {
			close(w.done)
		} else {
			rest = append(rest, w)
		}
	}
	clear(b.waiters[len(rest):])
	b.waiters = rest
}

// settle waits until all events that were published before have been handled.
func (b *bus) settle(ctx context.Context) error {
	b.mu.Lock()
	w := waiter{b.last, make(chan struct{})}
	if b.handled >= w.until {
		b.mu.Unlock()
		return nil
	}
	b.waiters = append(b.waiters, w)
	b.mu.Unlock()
	return wait(ctx, w.done)
}

func wait(ctx context.Context, done <-chan struct{}) error {
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// wire is the adapter of one of two nodes. A Hub keeps the order between two nodes in
// each namespace, so a count of the messages tells which have arrived.
type wire struct {
	*realtimetest.HubNode
	w *world

	mu      sync.Mutex     // guards the fields below
	reaches bool           // the other node has started
	sent    map[string]int // messages to the other node, by namespace
	arrived map[string]int
	changed chan struct{} // closed and replaced when something has arrived
	other   *wire         // set before the first use
}

// newWires returns the adapters of two nodes.
func newWires(w *world, hub *realtimetest.Hub) [2]*wire {
	var ws [2]*wire
	for i := range ws {
		ws[i] = &wire{HubNode: hub.Node(), w: w, sent: map[string]int{}, arrived: map[string]int{}, changed: make(chan struct{})}
	}
	ws[0].other, ws[1].other = ws[1], ws[0]
	return ws
}

// Start implements realtime.Adapter.
func (w *wire) Start(ctx context.Context, node realtime.Node) error {
	// In one step for the other node, which counts only what it sends to this one: a
	// server that starts sends messages, also if it is alone.
	w.other.mu.Lock()
	defer w.other.mu.Unlock()
	err := w.HubNode.Start(ctx, receiver{node, w.other})
	w.other.reaches = err == nil
	return err
}

// Publish implements realtime.Adapter.
func (w *wire) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if w.w.host.triggersAdapter(m, "stress:blow-publish") {
		w.w.host.panicIn("Adapter.Publish")
	}
	if w.lost(m) {
		return nil
	}
	// Counted and sent in one step, so that the counts are in the order of the
	// messages.
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.HubNode.Publish(ctx, m)
	if err == nil && w.reaches {
		w.sent[m.Namespace]++
	}
	return err
}

// Request implements realtime.Adapter.
func (w *wire) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	if w.w.host.triggersAdapter(m, "stress:blow-request") {
		w.w.host.panicIn("Adapter.Request")
	}
	return w.HubNode.Request(ctx, m, answer)
}

// lost reports whether a message is dropped: it contains an id whose messages are
// dropped.
func (w *wire) lost(m realtime.ClusterMessage) bool {
	var text string
	lost := w.w.drops.within(func(id string) bool {
		if text == "" {
			b, _ := json.Marshal(m) // a message that cannot be marshaled is the hub's to refuse
			text = string(b)
		}
		return strings.Contains(text, id)
	})
	if lost {
		w.w.count.Add("messages lost between the nodes", 1)
	}
	return lost
}

// receiver is a node that counts the messages from the other one.
type receiver struct {
	realtime.Node
	from *wire
}

// Deliver implements realtime.Node.
func (r receiver) Deliver(m realtime.ClusterMessage) {
	r.Node.Deliver(m)
	w := r.from
	w.mu.Lock()
	defer w.mu.Unlock()
	w.arrived[m.Namespace]++
	close(w.changed)
	w.changed = make(chan struct{})
}

// settle waits until all messages that were sent before have arrived.
func (w *wire) settle(ctx context.Context) error {
	w.mu.Lock()
	until := maps.Clone(w.sent)
	w.mu.Unlock()
	for {
		w.mu.Lock()
		there := true
		for ns, n := range until {
			there = there && w.arrived[ns] >= n
		}
		changed := w.changed
		w.mu.Unlock()
		if there {
			return nil
		}
		if err := wait(ctx, changed); err != nil {
			return err
		}
	}
}
