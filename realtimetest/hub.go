// An in-memory cluster: the adapter that connects the servers of one test.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"runtime/debug"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// Hub connects servers of one process to a cluster: use a Node as the Cluster.Adapter of
// each. Messages are encoded as JSON, so nodes share no memory. Their order is kept only
// for one sender, one receiver and one namespace. All methods may be called
// concurrently.
type Hub struct {
	mu      sync.Mutex // guards the fields below, and those of nodes that say so
	nodes   []*HubNode
	queues  map[route][]parcel // only of routes with a goroutine
	pending int
	idle    chan struct{} // closed when pending becomes 0; nil while nobody waits for that
	errs    []error
	named   int                  // nodes that were given a name
	lost    map[route]bool       // routes, with an empty namespace, on which messages were lost
	only    bool                 // see SetOnlyPeers
	claims  map[string]time.Time // when they are forgotten, by key
	calls   map[string]hubCall   // by key
}

// route is the path on which messages keep their order.
type route struct {
	from, to  *HubNode
	namespace string
}

// parcel is an element of a queue: a message, a request (a message with offer), or a signal.
type parcel struct {
	message []byte
	signal  func(node realtime.Node)              // a call of the receiver that is never lost
	offer   func(message realtime.ClusterMessage) // handles a request
	refuse  func()                                // called if a request cannot be delivered
}

// NewHub returns a Hub without nodes.
func NewHub() *Hub {
	return &Hub{queues: map[route][]parcel{}, lost: map[route]bool{}, claims: map[string]time.Time{}, calls: map[string]hubCall{}}
}

// Node returns a new node's adapter.
func (h *Hub) Node() *HubNode {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.named++
	return &HubNode{hub: h, peer: realtime.Peer{ID: fmt.Sprint("node-", h.named)}}
}

// Wait waits until every message has been handled. It returns an error that wraps ctx's
// if ctx ends first.
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

// Err returns the panics of nodes in Deliver and Answer, joined; nil if there were none.
func (h *Hub) Err() error {
	h.mu.Lock()
	defer h.mu.Unlock()
	return errors.Join(h.errs...)
}

// HubNode is the realtime.Adapter of one node. It is also a RoomWatcher, so that a test
// can see with Rooms what an adapter that subscribes to rooms would know. All methods
// may be called concurrently.
type HubNode struct {
	hub  *Hub
	peer realtime.Peer

	// hub.mu guards these.
	node    realtime.Node // nil before Start
	closed  bool
	killed  bool
	cut     bool
	since   time.Time      // of the cut
	running sync.WaitGroup // calls of node; grows only while not closed
	ctx     context.Context
	cancel  context.CancelFunc
	asked   context.Context // for what node answers: ends with ctx, and with Kill
	ignore  context.CancelFunc

	watching sync.Mutex                 // guards rooms
	rooms    map[string]map[string]bool // by namespace
}

var (
	_ realtime.Adapter         = (*HubNode)(nil)
	_ realtime.AdapterChecker  = (*HubNode)(nil)
	_ realtime.AdapterReporter = (*HubNode)(nil)
	_ realtime.RoomWatcher     = (*HubNode)(nil)
	_ realtime.Claimer         = (*HubNode)(nil)
	_ realtime.CallKeeper      = (*HubNode)(nil)
)

var (
	errNotStarted = errors.New("the adapter was not started")
	errStarted    = errors.New("the adapter has already been started")
	errCut        = errors.New("the node is cut off")
	errLeft       = errors.New("the node has left")
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
	n.asked, n.ignore = context.WithCancel(n.ctx)
	for _, other := range n.hub.nodes {
		other.signalLocked(func(node realtime.Node) { node.PeerJoined(n.peer) })
		n.signalLocked(func(node realtime.Node) { node.PeerJoined(other.peer) })
	}
	if n.hub.only {
		n.signalLocked(func(node realtime.Node) { node.OnlyPeers(true) })
	}
	n.hub.nodes = append(n.hub.nodes, n)
	return nil
}

// signalLocked queues a call of the node. The calls of a node keep their order.
func (n *HubNode) signalLocked(call func(node realtime.Node)) {
	n.hub.sendLocked(route{from: n, to: n}, parcel{signal: call})
}

// SetOnlyPeers says whether the nodes may rely on knowing all nodes, as in a cluster without
// Node servers. They then publish drivers' positions and volatile broadcasts only for rooms that
// another node has announced, and a test has to wait, for about 0.1 s, until what its clients have
// joined is announced. Defaults to false: they publish everything.
func (h *Hub) SetOnlyPeers(only bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.only = only
	for _, n := range h.nodes {
		n.signalLocked(func(node realtime.Node) { node.OnlyPeers(only) })
	}
}

// Peer returns the node as the others know it.
func (n *HubNode) Peer() realtime.Peer { return n.peer }

// Cut cuts the node off from the others: messages between them are lost, and requests
// fail. Its own clients stay connected. The node is notified that it does not receive.
func (n *HubNode) Cut() {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if n.cut {
		return
	}
	n.cut, n.since = true, time.Now()
	if n.node != nil && !n.closed {
		n.signalLocked(func(node realtime.Node) { node.Receiving(errCut) })
	}
}

// Heal ends a Cut. Lost messages are not sent again: the node is notified of a gap, and so is
// each node to which a message from it was lost.
func (n *HubNode) Heal() {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if !n.cut {
		return
	}
	n.cut = false
	if n.node == nil || n.closed {
		return
	}
	gap := realtime.Gap{Since: n.since, Until: time.Now(), Reason: errCut.Error()}
	n.signalLocked(func(node realtime.Node) {
		node.Receiving(nil)
		node.Gap(gap)
	})
	for _, to := range n.hub.nodes {
		if way := (route{from: n, to: to}); n.hub.lost[way] {
			delete(n.hub.lost, way)
			lost := gap
			lost.Peer = n.peer.ID
			to.signalLocked(func(node realtime.Node) { node.Gap(lost) })
		}
	}
}

// Kill removes the node from the cluster as if its process were killed: nothing that it sends
// or that is sent to it arrives any more, and the hub notifies the other nodes that it has
// died. Its clients stay connected to it.
func (n *HubNode) Kill() {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if n.killed || n.closed {
		return
	}
	n.killed = true
	if n.ignore != nil {
		n.ignore()
	}
	n.leaveLocked(true)
}

// leaveLocked removes the node from the hub and notifies the others.
func (n *HubNode) leaveLocked(died bool) {
	n.hub.nodes = slices.DeleteFunc(n.hub.nodes, func(o *HubNode) bool { return o == n })
	for _, other := range n.hub.nodes {
		other.signalLocked(func(node realtime.Node) { node.PeerLost(n.peer, died) })
	}
}

// stateLocked returns why a node cannot send, or nil.
func (n *HubNode) stateLocked() error {
	switch {
	case n.closed:
		return realtime.ErrClosed
	case n.node == nil:
		return errNotStarted
	}
	return nil
}

// Check implements realtime.AdapterChecker: it fails while the node is cut off.
func (n *HubNode) Check(context.Context) error {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	if err := n.stateLocked(); err != nil || !n.cut {
		return err
	}
	return errCut
}

// AdapterStats implements realtime.AdapterReporter. It reports the nodes alone. A node that was
// cut off keeps its peers.
func (n *HubNode) AdapterStats() realtime.AdapterStats {
	n.hub.mu.Lock()
	defer n.hub.mu.Unlock()
	st := realtime.AdapterStats{Node: n.peer}
	if n.node == nil || n.closed {
		return st
	}
	for _, other := range n.hub.nodes {
		if other != n {
			st.Peers = append(st.Peers, other.peer)
		}
	}
	slices.SortFunc(st.Peers, func(a, b realtime.Peer) int { return strings.Compare(a.ID, b.ID) })
	return st
}

// Publish implements realtime.Adapter. It queues the message for each node.
func (n *HubNode) Publish(_ context.Context, m realtime.ClusterMessage) error {
	b, err := json.Marshal(m) //nolint:musttag // only nodes of this process read it
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

// sendLocked queues a parcel.
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
		deliver := !r.to.closed && (p.signal != nil || !r.from.cut && !r.to.cut && !r.from.killed && !r.to.killed)
		if deliver {
			r.to.running.Add(1)
		} else if !r.to.closed && p.message != nil {
			h.lost[route{from: r.from, to: r.to}] = true
		}
		h.mu.Unlock()
		switch {
		case deliver:
			h.deliver(r, p)
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

// deliver hands a parcel to its node. A request runs on a goroutine of its own, so that
// later messages do not wait for it.
func (h *Hub) deliver(r route, p parcel) {
	to := r.to
	if p.signal != nil {
		defer to.running.Done()
		_ = h.guard(realtime.ClusterMessage{Op: "signal"}, func() { p.signal(to.node) }) // Err returns the error
		return
	}
	var m realtime.ClusterMessage
	if err := json.Unmarshal(p.message, &m); err != nil { //nolint:musttag // only nodes of this process read it
		panic(err) // it was marshaled from a ClusterMessage
	}
	if m.Op == realtime.OpState {
		m.From = r.from.peer.ID
	}
	if p.offer != nil {
		go func() {
			defer to.running.Done()
			p.offer(m)
		}()
		return
	}
	defer to.running.Done()
	_ = h.guard(m, func() { to.node.Deliver(m) }) // Err returns the error
}

// guard calls f, and records and returns a panic of the node.
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

// Close implements realtime.Adapter. It waits for running calls of the node until ctx
// ends.
func (n *HubNode) Close(ctx context.Context) error {
	n.hub.mu.Lock()
	if !n.closed && !n.killed && n.node != nil {
		n.leaveLocked(n.cut) // a Cut node cannot announce that it leaves
	}
	n.closed = true
	for way := range n.hub.lost {
		if way.from == n || way.to == n {
			delete(n.hub.lost, way)
		}
	}
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
	// The lock is held while HasRoom is called, so that the latest answer is kept.
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

// Rooms returns the rooms of a namespace that have sockets on this node, sorted.
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
