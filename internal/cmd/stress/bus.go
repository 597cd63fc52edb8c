// The bus and the wires between the nodes, which tell when what was published has
// been handled: what the oracle may hold the server to begins there.

package main

import (
	"context"
	"errors"
	"hash/fnv"
	"sync"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// bus is a MemoryBus between several nodes. It either hands each key to one node,
// as a partitioned log does, or every event to every node. All methods may be
// called concurrently.
//
// bus.mu guards what is below it.
type bus struct {
	*realtime.MemoryBus
	nodes  int
	fanOut bool
	meddle func(e realtime.Envelope) []realtime.Envelope // what nodes get instead; nil: what was published

	mu      sync.Mutex
	last    uint64            // number of the latest event
	numbers map[string]uint64 // of events that are not handled, by id
	left    map[uint64]int    // nodes that have yet to handle an event, by number
	handled uint64            // everything up to this number is handled
	waiters []waiter
}

type waiter struct {
	until uint64
	done  chan struct{}
}

func newBus(nodes int, fanOut bool) *bus {
	return &bus{
		MemoryBus: realtime.NewMemoryBus(), nodes: nodes, fanOut: fanOut,
		numbers: map[string]uint64{}, left: map[uint64]int{},
	}
}

// nodeBus is the bus as one node has it.
type nodeBus struct {
	*bus
	node int
}

// Subscribe implements realtime.EventBus.
func (b nodeBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	return b.MemoryBus.Subscribe(func(ctx context.Context, e realtime.Envelope) error {
		if !b.fanOut && b.owner(e.Key) != b.node {
			return nil
		}
		defer b.done(e.ID)
		if b.meddle == nil {
			return handler(ctx, e)
		}
		var errs []error
		for _, e := range b.meddle(e) {
			errs = append(errs, handler(ctx, e))
		}
		return errors.Join(errs...)
	})
}

func (b *bus) owner(key string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(key)) // never fails
	return int(h.Sum32() % uint32(b.nodes))
}

// Publish implements realtime.EventBus.
func (b *bus) Publish(ctx context.Context, e realtime.Envelope) error {
	b.mu.Lock()
	b.last++
	n := b.last
	b.numbers[e.ID] = n
	b.left[n] = 1
	if b.fanOut {
		b.left[n] = b.nodes
	}
	b.mu.Unlock()
	err := b.MemoryBus.Publish(ctx, e)
	if err != nil { // nobody will handle it
		b.mu.Lock()
		defer b.mu.Unlock()
		delete(b.numbers, e.ID)
		delete(b.left, n)
		b.advanceLocked()
	}
	return err
}

func (b *bus) done(id string) {
	b.mu.Lock()
	defer b.mu.Unlock()
	n := b.numbers[id]
	if b.left[n]--; b.left[n] > 0 {
		return
	}
	delete(b.left, n)
	delete(b.numbers, id)
	b.advanceLocked()
}

// advanceLocked moves handled on and wakes those who waited for that.
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

// settle returns when everything that was published before has been handled.
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

// wire is the adapter of one of two nodes. A Hub keeps the order between two nodes
// in each namespace, so that counting suffices to know what has arrived.
//
// wire.mu guards what is below it.
type wire struct {
	*realtimetest.HubNode

	mu      sync.Mutex
	sent    map[string]int // messages by namespace
	arrived map[string]int
	changed chan struct{} // closed and replaced when something has arrived
	other   *wire         // set before the first use
}

// newWires returns the adapters of two nodes.
func newWires(hub *realtimetest.Hub) [2]*wire {
	var ws [2]*wire
	for i := range ws {
		ws[i] = &wire{HubNode: hub.Node(), sent: map[string]int{}, arrived: map[string]int{}, changed: make(chan struct{})}
	}
	ws[0].other, ws[1].other = ws[1], ws[0]
	return ws
}

// Start implements realtime.Adapter.
func (w *wire) Start(ctx context.Context, node realtime.Node) error {
	return w.HubNode.Start(ctx, receiver{node, w.other})
}

// Publish implements realtime.Adapter.
func (w *wire) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	// Counted and sent in one step, so that the counts are in the order of the
	// messages.
	w.mu.Lock()
	defer w.mu.Unlock()
	err := w.HubNode.Publish(ctx, m)
	if err == nil {
		w.sent[m.Namespace]++
	}
	return err
}

// receiver is a node that counts what reaches it from the other one.
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

// settle returns when everything that was sent before has arrived.
func (w *wire) settle(ctx context.Context) error {
	w.mu.Lock()
	until := map[string]int{}
	for ns, n := range w.sent {
		until[ns] = n
	}
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
