// Handover of events: before the bus gives later events of a trip to another node, all nodes have
// received what this one has emitted, and before this node handles events that another one had, it has
// received what that one has emitted. Otherwise a slow path or a slow node would break a trip's order.

package realtime

import (
	"context"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// busHandoverTime is how long the other nodes have to confirm what they have received.
const busHandoverTime = 5 * time.Second

// busHandover waits for the other nodes, at most once at a time: the bus may give back many partitions
// at once. Its methods may be called concurrently.
type busHandover struct {
	rt *Server

	mu      sync.Mutex    // guards the fields below
	next    chan struct{} // closed at the end of the next confirmation that begins; nil: nobody waits for one
	running bool          // the goroutine exists
}

// register makes the bus call await before it hands events over, and catchUp before it takes them over,
// until the server ends. It does nothing if that is not needed.
func (h *busHandover) register() {
	bus, ok := busAs[HandoverBus](h.rt.opts.Bus)
	if !ok || !h.rt.clustered || h.rt.opts.Cluster.BusFanOut {
		return
	}
	h.cancelAtEnd("BeforeHandover", bus.BeforeHandover(h.await))
	h.cancelAtEnd("BeforeTakeover", bus.BeforeTakeover(h.catchUp))
}

// cancelAtEnd calls cancel, which a method of the host's bus has returned, when the server ends.
func (h *busHandover) cancelAtEnd(method string, cancel func()) {
	context.AfterFunc(h.rt.ctx, func() {
		err := hostcall.Run(context.Background(), h.rt.host.shutdown, func(context.Context) error {
			cancel()
			return nil
		})
		if err != nil {
			h.rt.hostFailed("cancel of HandoverBus."+method, err)
		}
	})
}

// catchUp waits, within ctx, until this node has received everything that others have emitted for the events
// that they have handled. A node that was stopped is taken for dead, so that nobody has waited for it.
func (h *busHandover) catchUp(ctx context.Context) {
	a, ok := h.rt.adapter.(CatchUpAdapter)
	if !ok {
		return
	}
	if err := hostcall.Run(ctx, h.rt.host.catchUp, a.CatchUp); err != nil && ctx.Err() == nil && h.rt.ctx.Err() == nil {
		h.rt.hostFailed("CatchUpAdapter.CatchUp", err) // the events wait no longer
	}
}

// await waits, within ctx, until the other nodes have received everything that this one has emitted for
// the events that it has handled.
func (h *busHandover) await(ctx context.Context) {
	h.mu.Lock()
	if h.next == nil {
		h.next = make(chan struct{})
	}
	next := h.next
	if !h.running {
		h.running = true
		go h.run()
	}
	h.mu.Unlock()
	select {
	case <-next:
	case <-ctx.Done():
	}
}

func (h *busHandover) run() {
	for {
		h.mu.Lock()
		next := h.next
		h.next, h.running = nil, next != nil
		h.mu.Unlock()
		if next == nil {
			return
		}
		h.confirm()
		close(next)
	}
}

// confirm asks the other nodes a question in each namespace. They receive it behind what this node has
// emitted before, and answer when they have handled that. A node that does not answer in time is no
// obstacle: it may have died.
func (h *busHandover) confirm() {
	ctx, cancel := context.WithTimeout(h.rt.ctx, busHandoverTime)
	defer cancel()
	h.rt.publisher.parties.await(ctx)
	var asking sync.WaitGroup
	h.rt.each(func(ns *Namespace) {
		m := ns.To(ownRoom(ns.name, h.rt.peerUsers.id)).message(ClusterMessage{Op: OpCount}) // nobody is in that room
		asking.Go(func() { _ = h.rt.clusterRequest(ctx, m, func(ClusterAnswer) {}) })
	})
	asking.Wait()
}
