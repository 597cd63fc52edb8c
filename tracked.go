// Tracked events: events of the host's own whose receipts the server reports, as those of offers.

package realtime

import (
	"context"
	"encoding/json"
	"iter"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/jsonscan"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// maxTracked is the maximum number of tracked events of a node whose receipts are awaited.
	maxTracked = 1 << 16
	// maxReceipts is the maximum number of receipts of a tracked event that are kept.
	maxReceipts = 1 << 16
)

// Tracked describes an event that the server sends, and whose receipts it reports.
type Tracked[T any] struct{ name string }

// NewTracked declares a server-to-client event with receipts. T must marshal to JSON. It panics for
// the names for which NewEvent panics.
func NewTracked[T any](name string) Tracked[T] { return Tracked[T]{declared("NewTracked", name)} }

// Name returns the event's name on the wire.
func (e Tracked[T]) Name() string { return e.name }

// Send sends the event to a socket, or once to each of the sockets that a broadcast selects, on all
// nodes, without waiting for the network. A socket whose handshake is in progress does not get it, and
// Volatile and Latest have no effect. The receipts come for Timeouts.Ack.
//
// A socket has received the event when its app acknowledges it, or when its client answers a ping that
// was sent right behind it: its engine has then read the event. Clients of Socket.IO 1 and 2 answer no
// pings. The clients of a Node server in the cluster get the event, and give no receipts. So do those of a node that
// awaits the receipts of 65536 events already; its log says so.
//
// With an error the receipts are nil. Send returns ErrClosed if the socket has closed, ErrTooManyAcks if the receipts of 65536 events
// are awaited already, and an error if the payload does not marshal or exceeds Limits.OutboxBytes by
// itself. It panics if to is nil.
func (e Tracked[T]) Send(to Emitter, payload T) (*Receipts, error) {
	if e.name == "" {
		return nil, errUndeclared
	}
	b, one := to.(Broadcast)
	if s, ok := to.(*Socket); ok && s != nil {
		if s.inner == nil {
			return nil, ErrClosed
		}
		b = Broadcast{ns: s.ns, rooms: []string{s.ID()}, local: true}
	} else if !one {
		panicNoSocket("Send of " + e.name)
	}
	arg, err := json.Marshal(payload)
	if err != nil {
		return nil, errorf("encoding %s: %w", e.name, err)
	}
	if b.nobody() {
		return &Receipts{done: true}, nil
	}
	if err := b.fits(e.name, []json.RawMessage{arg}, nil); err != nil {
		return nil, err
	}
	r := b.ns.rt.tracking.send(b, e.name, arg)
	switch {
	case r == nil:
		return nil, ErrTooManyAcks
	case !one && r.sockets == 0:
		return nil, ErrClosed
	}
	return r, nil
}

// Receipt says that a socket has received a tracked event.
type Receipt struct {
	SocketID string
	UserID   string // empty in an anonymous namespace
	By       ReceivedBy
	After    time.Duration // since Send
}

// Receipts are the receipts of an event that Tracked.Send has sent. All methods may be called
// concurrently.
type Receipts struct {
	begun   time.Time
	sockets int             // of this node, that got the event
	server  <-chan struct{} // closed when the server ends

	mu      sync.Mutex // guards the fields below
	all     []Receipt
	seen    map[string]bool // the ids of the sockets that have received it or closed
	open    int             // sockets of this node without a receipt
	remote  bool            // other nodes may have sockets
	done    bool            // no more receipts come
	changed chan struct{}   // closed with the next change; nil unless somebody waits
}

// All returns the receipts in the order in which they come, those that have come already
// included. The sequence ends with ctx, after Timeouts.Ack, or when every socket has received the event or
// closed, which is known only if the event was not sent to other nodes.
func (r *Receipts) All(ctx context.Context) iter.Seq[Receipt] {
	return func(yield func(Receipt) bool) {
		for n := 0; ; n++ {
			one, ok := r.next(ctx, n)
			if !ok || !yield(one) {
				return
			}
		}
	}
}

// Wait blocks until the first receipt, and returns it. It returns ErrNotReceived if there is none by the
// end of All.
func (r *Receipts) Wait(ctx context.Context) (Receipt, error) {
	if one, ok := r.next(ctx, 0); ok {
		return one, nil
	}
	if err := ctx.Err(); err != nil {
		return Receipt{}, errorf("%w: %w", ErrNotReceived, err)
	}
	return Receipt{}, ErrNotReceived
}

// Sockets returns the number of sockets of this node to which the event was sent.
func (r *Receipts) Sockets() int { return r.sockets }

// next waits for a receipt by its number.
func (r *Receipts) next(ctx context.Context, n int) (one Receipt, ok bool) {
	for {
		r.mu.Lock()
		if n < len(r.all) {
			one = r.all[n]
			r.mu.Unlock()
			return one, true
		}
		if r.done {
			r.mu.Unlock()
			return one, false
		}
		if r.changed == nil {
			r.changed = make(chan struct{})
		}
		changed := r.changed
		r.mu.Unlock()
		select {
		case <-changed:
		case <-ctx.Done():
			return one, false
		case <-r.server:
			return one, false
		}
	}
}

// add adds a receipt, unless there is one of that socket. here says that it is a socket of this node.
func (r *Receipts) add(one Receipt, here bool) (added bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.done || r.seen[one.SocketID] || len(r.all) >= maxReceipts {
		return false
	}
	r.seeLocked(one.SocketID)
	one.After = time.Since(r.begun)
	r.all = append(r.all, one)
	r.changeLocked(here)
	return true
}

// closed records that a socket of this node has closed.
func (r *Receipts) closed(id string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	settled := r.seen[id]
	r.seeLocked(id)
	r.changeLocked(!settled)
}

func (r *Receipts) seeLocked(id string) {
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	r.seen[id] = true
}

// over reports whether no more receipts come.
func (r *Receipts) over() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.done
}

// changeLocked wakes those who wait. here says that a socket of this node is settled.
func (r *Receipts) changeLocked(here bool) {
	if here {
		r.open--
	}
	r.done = r.done || r.open <= 0 && !r.remote
	if r.changed != nil {
		close(r.changed)
		r.changed = nil
	}
}

func (r *Receipts) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.remote, r.open = false, 0
	r.changeLocked(false)
}

// tracking holds the tracked events whose receipts this node awaits. Its methods may be called
// concurrently and do not block.
type tracking struct {
	rt *Server

	mu     sync.Mutex // guards the fields below
	max    int        // maximum number of events
	events map[string]*trackedEvent
}

func (k *tracking) init(rt *Server, most int) {
	k.rt, k.max, k.events = rt, most, map[string]*trackedEvent{}
}

// trackedEvent is an event that this node, or another one, has sent.
type trackedEvent struct {
	id       string
	from     string // the peerUsers.id of the node that has sent it; empty: this one
	ackID    int64
	sockets  []*socketio.Socket
	receipts *Receipts
	timer    timingwheel.Timer
}

// sharedTracked is a tracked event for the sockets of other nodes, in the message's namespace.
type sharedTracked struct {
	ID     string          `json:"id"`
	Node   string          `json:"node"` // the sender's peerUsers.id
	Event  string          `json:"event"`
	Arg    json.RawMessage `json:"arg"`
	All    bool            `json:"all,omitempty"`
	Rooms  []string        `json:"rooms,omitempty"`
	Except []string        `json:"except,omitempty"`
	LeftMS int64           `json:"leftMs"` // how long receipts count, in milliseconds
}

// trackedReceipt is a receipt of a tracked event of another node.
type trackedReceipt struct {
	ID     string     `json:"id"`
	For    string     `json:"for"` // the peerUsers.id of the node that has sent it
	Socket string     `json:"socket"`
	User   string     `json:"user,omitempty"`
	By     ReceivedBy `json:"by"`
}

// trackedMark is the name of no room. A broadcast that excepts it is for nodes of another system, such as
// Node's: those of this library learn of the event in another way, and ignore it.
const trackedMark = "realtime:tracked"

// publishUntracked sends an event that is tracked to the nodes of another system.
func (b Broadcast) publishUntracked(event string, arg json.RawMessage) {
	b.volatile, b.key = false, ""
	b.except = append(slices.Clip(b.except), trackedMark)
	b.publish(ClusterMessage{Op: OpBroadcast, Event: packEvent(event, []json.RawMessage{arg}, nil)})
}

// send sends an event, and returns nil if too many are awaited.
func (k *tracking) send(b Broadcast, event string, arg json.RawMessage) *Receipts {
	id, limit, remote := uuid.NewString(), k.rt.opts.Timeouts.Ack, b.remote()
	e, full := k.begin(b, trackedEvent{id: id, receipts: &Receipts{remote: remote}}, event, arg, limit)
	if full {
		return nil
	}
	if remote {
		k.rt.shareState(b.ns.name, stateContent{Tracked: &sharedTracked{
			ID: id, Node: k.rt.peerUsers.id, Event: event, Arg: arg, All: b.all, Rooms: b.rooms, Except: b.except, LeftMS: max(1, limit.Milliseconds()),
		}})
		b.publishUntracked(event, arg)
	}
	return e.receipts
}

// begin sends an event to the selected sockets of this node and awaits their receipts. It sends nothing if the event's are
// awaited already, or with full if those of too many events are.
func (k *tracking) begin(b Broadcast, made trackedEvent, event string, arg json.RawMessage, limit time.Duration) (e *trackedEvent, full bool) {
	sockets := slices.DeleteFunc(b.selectLocal(), func(s *socketio.Socket) bool { return !s.Opened() })
	e = &made
	e.receipts.begun, e.receipts.server = time.Now(), k.rt.ctx.Done()
	e.ackID, e.sockets, e.receipts.open = b.ns.inner.NextID(), sockets, len(sockets)+1 // one for the sending
	e.timer.F = func() { go k.end(e) }
	if ok, full := k.add(e); !ok {
		return nil, full
	}
	k.rt.wheel.Arm(&e.timer, limit)
	m := encodeReceipted(b.ns, e.ackID, event, arg)
	sent := 0
	for _, s := range sockets {
		if s.Track(e.ackID, func(r socketio.Receipt) { k.received(e, b.ns, s, r) }, m.to(s)) {
			sent++
		} else {
			k.settled(e, s.ID())
		}
	}
	b.traceEmitted(event, sent, m.size())
	e.receipts.sockets = sent
	k.settled(e, "") // the sending
	return e, false
}

// add adds an event, unless there is one with its id, or with full if there are too many.
func (k *tracking) add(e *trackedEvent) (ok, full bool) {
	k.mu.Lock()
	defer k.mu.Unlock()
	switch {
	case k.events[e.id] != nil:
		return false, false
	case len(k.events) >= k.max:
		return false, true
	}
	k.events[e.id] = e
	return true, false
}

// received handles a receipt of a socket of this node.
func (k *tracking) received(e *trackedEvent, ns *Namespace, s *socketio.Socket, r socketio.Receipt) {
	by := ReceivedByAck
	switch r {
	case socketio.ReceiptClosed:
		k.settled(e, s.ID())
		return
	case socketio.ReceiptHeartbeat:
		by = ReceivedByHeartbeat
		s.Forget(e.ackID) // the ack would say nothing new, and a socket may have so many pending
	case socketio.ReceiptAck:
	}
	one := Receipt{SocketID: s.ID(), By: by}
	if outer, ok := socketOf(s); ok {
		one.UserID = outer.Identity().UserID
	}
	added := e.receipts.add(one, true)
	k.endIfOver(e)
	if added && e.from != "" {
		m := &trackedReceipt{ID: e.id, For: e.from, Socket: one.SocketID, User: one.UserID, By: by}
		go k.rt.shareState(ns.name, stateContent{TrackedBy: m}) // the adapter may be slow
	}
}

// settled records that a socket of this node gives no receipt any more.
func (k *tracking) settled(e *trackedEvent, socket string) {
	e.receipts.closed(socket)
	k.endIfOver(e)
}

func (k *tracking) endIfOver(e *trackedEvent) {
	if e.receipts.over() {
		k.rt.wheel.Stop(&e.timer)
		k.end(e)
	}
}

// end ends the waiting for receipts.
func (k *tracking) end(e *trackedEvent) {
	k.mu.Lock()
	delete(k.events, e.id)
	k.mu.Unlock()
	for _, s := range e.sockets {
		s.Forget(e.ackID)
	}
	e.receipts.end()
}

// apply sends an event of another node. It reports whether the message is valid.
func (k *tracking) apply(ns *Namespace, m *sharedTracked) bool {
	if !validID(m.ID) || !validID(m.Node) || m.LeftMS <= 0 || checkEventName(m.Event) != nil || jsonscan.Valid(m.Arg, jsonscan.MaxDepth) != nil {
		return false
	}
	if err := sendable(k.rt, m.Event, [][]byte{m.Arg}, nil); err != nil {
		ns.notEmitted(m.Event, err)
		return true
	}
	b := Broadcast{ns: ns, all: m.All, rooms: m.Rooms, except: m.Except, local: true}
	if b.emptyLocal() {
		return true
	}
	limit := time.Duration(min(m.LeftMS, maxTimeout.Milliseconds())) * time.Millisecond
	if _, full := k.begin(b, trackedEvent{id: m.ID, from: m.Node, receipts: &Receipts{}}, m.Event, m.Arg, limit); full {
		k.rt.log.Warn("realtime: event sent without receipts: those of too many are awaited", "namespace", ns.name, "event", m.Event)
		_, _ = b.send(m.Event, []json.RawMessage{m.Arg}, nil) // it fits
	}
	return true
}

// applyReceipt records a receipt of a socket of another node. It reports whether the message is valid.
func (k *tracking) applyReceipt(m *trackedReceipt) bool {
	if !validID(m.ID) || !validID(m.Socket) || !validIDs(m.User) || m.By != ReceivedByAck && m.By != ReceivedByHeartbeat {
		return false
	}
	if m.For != k.rt.peerUsers.id {
		return true
	}
	k.mu.Lock()
	e := k.events[m.ID]
	k.mu.Unlock()
	if e != nil && e.from == "" {
		e.receipts.add(Receipt{SocketID: m.Socket, UserID: m.User, By: m.By}, false)
	}
	return true
}
