// A cluster in memory: the adapter that joins the servers of one test.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"sync"

	"github.com/rodando/realtime"
)

// Hub joins servers of one process into a cluster: give each of them a Node as
// its Cluster.Adapter. Messages travel as JSON, so that nodes share no memory;
// for each pair of nodes and namespace they keep their order, and no other
// order is kept. All methods may be called concurrently.
type Hub struct {
	mu      sync.Mutex // guards the rest, and the nodes
	nodes   []*HubNode
	queues  map[route][]parcel // of routes with a goroutine
	pending int
	idle    chan struct{} // closed when nothing is under way; nil while nobody waits
	errs    []error
}

// route is what keeps an order.
type route struct {
	from, to  *HubNode
	namespace string
}

// parcel is a message on its way, or with offer a request.
type parcel struct {
	message []byte
	offer   func(message realtime.ClusterMessage) // takes a request over
	refuse  func()                                // the request cannot be delivered
}

// NewHub returns a Hub without nodes.
func NewHub() *Hub { return &Hub{queues: map[route][]parcel{}} }

// Node returns a new node's adapter.
func (h *Hub) Node() *HubNode { return &HubNode{hub: h} }

// Wait returns when no message is under way, or with ctx's error.
func (h *Hub) Wait(ctx context.Context) error {
	h.mu.Lock()
	if h.pending == 0 {
		h.mu.Unlock()
		return nil
	}
	if h.idle == nil {
		h.idle = make(chan struct{})
	}
	idle := h.idle
	h.mu.Unlock()
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("messages between nodes are under way: %w", ctx.Err())
	}
}

// Err returns an error if a node panicked on a message; the hub goes on.
func (h *Hub) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.errs...)
}

// HubNode is one node's realtime.Adapter. It is also a RoomWatcher, so that
// Rooms can tell what an adapter that subscribes to rooms would know.
type HubNode struct {
	hub *Hub

	// The hub's mutex guards these.
	node    realtime.Node // nil before Start
	closed  bool
	cut     bool
	running sync.WaitGroup // calls of node; grows only while not closed
	ctx     context.Context
	cancel  context.CancelFunc

	watching sync.Mutex
	rooms    map[string]map[string]bool // by namespace; guarded by watching
}

var (
	_ realtime.Adapter     = (*HubNode)(nil)
	_ realtime.RoomWatcher = (*HubNode)(nil)
)

var (
	errNotStarted = errors.New("the adapter was not started")
	errStarted    = errors.New("the adapter was started before")
	errCut        = errors.New("the node is cut off")
)

// Start implements realtime.Adapter.
func (n *HubNode) Start(_ context.Context, node realtime.Node) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	switch {
	case n.closed:
		return realtime.ErrClosed
	case n.node != nil:
		return errStarted
	}
	n.node = node
	n.ctx, n.cancel = context.WithCancel(context.Background())
	n.hub.nodes = append(n.hub.nodes, n)
	return nil
}

// Cut cuts the node off from the others: what they send each other is lost, and
// a request finds it silent. Its own clients stay.
func (n *HubNode) Cut() { n.setCut(true) }

// Heal ends a Cut. What was lost stays lost.
func (n *HubNode) Heal() { n.setCut(false) }

func (n *HubNode) setCut(cut bool) {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	n.cut = cut
}

// stateLocked says why a node cannot send.
func (n *HubNode) stateLocked() error {
	switch {
	case n.closed:
		return realtime.ErrClosed
	case n.node == nil:
		return errNotStarted
	}
	return nil
}

// Publish implements realtime.Adapter. It queues the message for each node.
func (n *HubNode) Publish(_ context.Context, m realtime.ClusterMessage) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding a %s message: %w", m.Op, err)
	}
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.stateLocked(); err != nil {
		return err
	}
	for _, to := range n.hub.nodes {
		if to != n {
			n.hub.sendLocked(route{n, to, m.Namespace}, parcel{message: b})
		}
	}
	return nil
}

// Request implements realtime.Adapter. A node that is cut off is known not to
// answer: the error comes when the others have.
func (n *HubNode) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	b, err := json.Marshal(m)
	if err != nil {
		return fmt.Errorf("encoding a %s request: %w", m.Op, err)
	}
	r := &request{answer: answer, done: make(chan error, 1)}
	asked, cancel := context.WithCancel(context.Background()) // no values travel between nodes
	defer cancel()
	n.hub.mu.Lock()
	if err := n.stateLocked(); err != nil {
		n.hub.mu.Unlock()
		return err
	}
	others := slices.DeleteFunc(slices.Clone(n.hub.nodes), func(o *HubNode) bool { return o == n })
	r.missing = len(others)
	for _, to := range others {
		n.hub.sendLocked(route{n, to, m.Namespace}, parcel{
			message: b,
			offer:   func(m realtime.ClusterMessage) { to.answer(asked, m, r) },
			refuse:  func() { r.finished(errCut) },
		})
	}
	n.hub.mu.Unlock()
	if len(others) == 0 {
		return nil
	}
	select {
	case err := <-r.done:
		return err
	case <-n.ctx.Done():
		err = realtime.ErrClosed
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.abandon()
	return err
}

// request collects answers.
//
// request.mu guards missing, err and over, and is held while answer is called.
type request struct {
	answer func(realtime.ClusterAnswer)
	done   chan error // gets the result when no node is missing

	mu      sync.Mutex
	missing int
	err     error
	over    bool
}

func (r *request) take(b []byte) {
	var a realtime.ClusterAnswer
	err := json.Unmarshal(b, &a)
	r.mu.Lock()
	defer r.mu.Unlock()
	if err != nil {
		r.err = errors.Join(r.err, err)
	} else if !r.over {
		r.answer(a)
	}
}

func (r *request) finished(err error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.err = errors.Join(r.err, err)
	if r.missing--; r.missing == 0 {
		r.done <- r.err
	}
}

// abandon lets no further answer through.
func (r *request) abandon() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.over = true
}

// answer runs a request on its node; it may take long.
func (n *HubNode) answer(ctx context.Context, m realtime.ClusterMessage, r *request) {
	ctx, cancel := context.WithCancel(ctx)
	stop := context.AfterFunc(n.ctx, cancel)
	defer cancel()
	defer stop()
	err := n.hub.guard(m, func() {
		n.node.Answer(ctx, m, func(a realtime.ClusterAnswer) {
			b, err := json.Marshal(a)
			if err != nil {
				panic(err)
			}
			r.take(b)
		})
	})
	r.finished(err)
}

// sendLocked puts a parcel on its way.
func (h *Hub) sendLocked(r route, p parcel) {
	queue, running := h.queues[r]
	h.queues[r] = append(queue, p)
	h.pending++
	if !running {
		go h.run(r)
	}
}

// run delivers the parcels of a route until there are none.
func (h *Hub) run(r route) {
	h.mu.Lock()
	defer h.mu.Unlock()
	for len(h.queues[r]) > 0 {
		p := h.queues[r][0]
		h.queues[r] = h.queues[r][1:]
		deliver := !r.from.cut && !r.to.cut && !r.to.closed
		if deliver {
			r.to.running.Add(1)
		}
		h.mu.Unlock()
		switch {
		case deliver:
			h.deliver(r.to, p)
		case p.refuse != nil:
			p.refuse()
		}
		h.mu.Lock()
		h.doneLocked()
	}
	delete(h.queues, r)
}

func (h *Hub) doneLocked() {
	if h.pending--; h.pending == 0 && h.idle != nil {
		close(h.idle)
		h.idle = nil
	}
}

// deliver hands a parcel to its node. A request goes on beside the messages
// behind it.
func (h *Hub) deliver(to *HubNode, p parcel) {
	var m realtime.ClusterMessage
	if err := json.Unmarshal(p.message, &m); err != nil {
		panic(err) // it was marshalled from one
	}
	if p.offer != nil {
		go func() {
			defer to.running.Done()
			p.offer(m)
		}()
		return
	}
	defer to.running.Done()
	_ = h.guard(m, func() { to.node.Deliver(m) }) // Err tells
}

// guard keeps a node's panic from the others.
func (h *Hub) guard(m realtime.ClusterMessage, f func()) (err error) {
	defer func() {
		if p := recover(); p != nil {
			err = fmt.Errorf("a node panicked on %s: %v\n%s", m.Op, p, debug.Stack())
			h.mu.Lock()
			defer h.mu.Unlock()
			h.errs = append(h.errs, err)
		}
	}()
	f()
	return nil
}

// Close implements realtime.Adapter. It waits for calls of the node that are
// under way, within ctx.
func (n *HubNode) Close(ctx context.Context) error {
	n.hub.mu.Lock()
	n.closed = true
	n.hub.nodes = slices.DeleteFunc(n.hub.nodes, func(o *HubNode) bool { return o == n })
	if n.cancel != nil {
		n.cancel()
	}
	n.hub.mu.Unlock()
	done := make(chan struct{})
	go func() {
		n.running.Wait()
		close(done)
	}()
	select {
	case <-done:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// RoomChanged implements realtime.RoomWatcher.
func (n *HubNode) RoomChanged(namespace, room string) {
	n.hub.mu.Lock()
	node := n.node
	n.hub.mu.Unlock()
	if node == nil {
		return
	}
	// The lock is held over the question, so that the later answer is the one
	// that stays.
	n.watching.Lock()
	defer n.watching.Unlock()
	if !node.HasRoom(namespace, room) {
		delete(n.rooms[namespace], room)
		return
	}
	if n.rooms == nil {
		n.rooms = map[string]map[string]bool{}
	}
	if n.rooms[namespace] == nil {
		n.rooms[namespace] = map[string]bool{}
	}
	n.rooms[namespace][room] = true
}

// Rooms returns the rooms of a namespace that the node has said to have, sorted.
func (n *HubNode) Rooms(namespace string) []string {
	n.watching.Lock()
	defer n.watching.Unlock()
	var names []string
	for name := range n.rooms[namespace] {
		names = append(names, name)
	}
	slices.Sort(names)
	return names
}
