// Package receipts tracks events until their user has received them: to which devices an event was
// sent, which of them have received it, when to send it again, and what to report. It is pure: it
// knows no sockets, messages or bus.
//
// Several nodes may track the same event, each for its own devices, and pass each other what they
// learn. One of them reports at once; each of the others has a delay, after which it reports what
// nobody has reported by then.
package receipts

import (
	"sync"
	"time"

	"github.com/rodando/realtime/internal/chain"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Config configures a Table. K identifies a device, and V is what the layer above knows of an event.
type Config[K comparable, V any] struct {
	Wheel  *timingwheel.Wheel
	Again  time.Duration // until an event is sent again to a device that has not received it
	Within time.Duration // until an event that no device has received is reported
	Max    int           // maximum number of tracked events

	// SendAgain sends an event again to devices. It must not block.
	SendAgain func(v V, devices []K)
	// Report reports an event. The calls for one event come one at a time, in order, and may block.
	Report func(v V, r Report)
	// Ended is called once with the devices to which an event was sent, when it has ended. It must
	// not block.
	Ended func(v V, devices []K)
}

// Kind is what is reported of an event, each at most once.
type Kind uint8

// The kinds.
const (
	Delivered   Kind = iota // the first device has received it; perhaps after Undelivered
	Undelivered             // no device has received it within Config.Within
	Expired                 // it was not ended in time
	kinds
)

// Kinds is the number of kinds.
const Kinds = int(kinds)

// Receipt says which device has received an event, and how.
type Receipt struct {
	Device string
	By     uint8
}

// Report is a report of an event.
type Report struct {
	Kind    Kind
	Receipt               // with Delivered
	At      time.Time     // when it came to that
	Latency time.Duration // with Delivered: since Begin
	Devices bool          // with Undelivered: it was sent to a device
}

// Ref says of which event something is known. Several events may have one ID, one after the other, so what is known of an
// earlier one must not touch a later one. Same and User tell them apart; an empty one fits all.
type Ref struct {
	ID   string
	Same string // what no two events with that ID share
	User string // see Table.Of
}

// Event is an event to track. It has an ID and a Same. Another one with its ID replaces it, unless that began earlier.
type Event[V any] struct {
	Ref
	Group string        // see Table.OfGroup
	Ago   time.Duration // how long ago it began
	Left  time.Duration // until it expires
	Delay time.Duration // this node reports so much later, what no other node has reported by then
	Ended bool          // it has ended before: it is only remembered
	Value V
}

// fits reports whether the event is one of those that the Ref means.
func (e *Event[V]) fits(r Ref) bool {
	return e.ID == r.ID && (r.Same == "" || r.Same == e.Same) && (r.User == "" || r.User == e.User)
}

// refs returns the Refs that mean the event: everybody knows at most one of Same and User.
func (e *Event[V]) refs() [3]Ref {
	return [3]Ref{{ID: e.ID}, {ID: e.ID, Same: e.Same}, {ID: e.ID, User: e.User}}
}

func (e *Event[V]) ref() Ref { return Ref{ID: e.ID, Same: e.Same} }

// An event that has ended is remembered, so that a late message does not begin it again, and other nodes learn of its
// end: for keepExpired after it has expired or would have, and at most for keepEnded. When Config.Max events are tracked,
// one that has ended longer ago than keepCrowded makes room for a new one.
const (
	keepEnded   = 2 * time.Hour
	keepCrowded = 10 * time.Minute
	keepExpired = time.Minute
)

// maxGone bounds how many events that the table does not hold any more are still known as such: half as many of the newest
// ones are in any case.
const maxGone = 1 << 14

// maxHold is how long a node that is to report first that an event has expired waits for the other nodes at most.
const maxHold = 45 * time.Second

// maxEarly is the maximum number of receipts, and of ends, of unknown events that are kept. keepEarly and keepEarlyEnd are how long.
const (
	maxEarly     = 1024
	keepEarly    = 10 * time.Second
	keepEarlyEnd = 2 * time.Second
)

type earlyReceipt struct {
	Receipt
	at time.Time
}

// newest holds the newest values: at most max, and half as many in any case.
type newest[T any] struct {
	max         int
	now, before map[Ref]T
}

func (n *newest[T]) put(r Ref, v T) {
	if n.now == nil || len(n.now) >= n.max/2 {
		n.now, n.before = map[Ref]T{}, n.now
	}
	n.now[r] = v
}

func (n *newest[T]) get(r Ref) (v T, ok bool) {
	if v, ok = n.now[r]; !ok {
		v, ok = n.before[r]
	}
	return v, ok
}

// take is get for a value that is not needed any more.
func (n *newest[T]) take(r Ref) (v T, ok bool) {
	v, ok = n.get(r)
	delete(n.now, r)
	delete(n.before, r)
	return v, ok
}

// Table holds the tracked events. Its methods may be called concurrently.
type Table[K comparable, V any] struct {
	cfg Config[K, V]

	mu      sync.Mutex // guards the fields below, and all entries
	entries map[string]*entry[K, V]
	users   map[string][]*entry[K, V] // of those that have not ended, the oldest first
	groups  map[string][]*entry[K, V] // of all, the oldest first
	ended   chain.List[*entry[K, V]]  // those of entries that have ended, the first one first
	gone    newest[struct{}]          // those that were in entries
	early   newest[earlyReceipt]      // of events that are not known yet
	over    newest[time.Time]         // when End was called for such an event
	held    time.Time                 // see Hold
}

type entry[K comparable, V any] struct {
	Event[V]
	timer     timingwheel.Timer
	begun     time.Time
	expires   time.Time
	devices   map[K]*device
	sent      bool                     // to any device
	ended     time.Time                // zero: not yet
	inEnded   chain.Node[*entry[K, V]] // in Table.ended
	ranOut    bool                     // it has ended because it has expired
	late      bool                     // End was called after that
	sending   int                      // calls of Send that are running
	idle      chan struct{}            // closed when sending is 0; nil unless End waits for that
	first     Receipt
	received  time.Time // when the first receipt came; zero: none
	told      [kinds]bool
	reports   []Report // to be reported
	reporting bool
	local     bool // this node knows something first hand: it reports without a delay, or has a receipt, or has ended it
}

type device struct {
	sent     time.Time
	again    bool // it was sent again
	received bool
}

// New returns an empty table.
func New[K comparable, V any](cfg Config[K, V]) *Table[K, V] {
	return &Table[K, V]{
		cfg: cfg, entries: map[string]*entry[K, V]{}, users: map[string][]*entry[K, V]{}, groups: map[string][]*entry[K, V]{},
		early: newest[earlyReceipt]{max: maxEarly}, over: newest[time.Time]{max: maxEarly}, gone: newest[struct{}]{max: maxGone},
	}
}

// Begin begins to track an event. It returns false if the event is tracked already or has ended, if a later one
// with that ID is or has, or with full if too many are tracked: it must not be sent then, but with full.
func (t *Table[K, V]) Begin(e Event[V]) (ok, full bool) {
	now := time.Now()
	begun := now.Add(-e.Ago)
	t.mu.Lock()
	old := t.entries[e.ID]
	switch {
	case t.knownLocked(e.ref()), old != nil && begun.Before(old.begun):
		t.mu.Unlock()
		return false, false
	case old == nil && !t.hasRoomLocked(now):
		t.mu.Unlock()
		return false, true
	}
	var devices []K
	if old != nil {
		devices = t.endLocked(old, now)
		t.removeLocked(old)
	}
	n := &entry[K, V]{Event: e, begun: begun, expires: now.Add(e.Left), devices: map[K]*device{}, local: e.Delay == 0}
	n.timer.F = func() { go t.due(n) }
	t.entries[e.ID] = n
	if e.Ended {
		t.markEndedLocked(n, now)
	} else {
		t.users[e.User] = append(t.users[e.User], n)
	}
	if e.Group != "" {
		t.groups[e.Group] = append(t.groups[e.Group], n)
	}
	for _, ref := range e.refs() {
		if r, ok := t.early.take(ref); ok && now.Sub(r.at) < keepEarly {
			t.receivedLocked(n, r.Receipt, now)
		}
	}
	t.armLocked(n, now)
	t.mu.Unlock()
	if old != nil {
		t.cfg.Ended(old.Value, devices)
	}
	return !e.Ended, false
}

// hasRoomLocked reports whether one more event can be tracked. It may forget another one for that.
func (t *Table[K, V]) hasRoomLocked(now time.Time) bool {
	if len(t.entries) < t.cfg.Max {
		return true
	}
	first := t.ended.Oldest()
	if first == nil || now.Sub(first.Value.ended) < keepCrowded {
		return false
	}
	t.removeLocked(first.Value)
	return true
}

// Known reports whether the event, of which the Ref has Same, is tracked, or was.
func (t *Table[K, V]) Known(r Ref) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.knownLocked(r)
}

func (t *Table[K, V]) knownLocked(r Ref) bool {
	_, gone := t.gone.get(r)
	return gone || t.findLocked(r) != nil
}

// findLocked returns the event that the Ref means, or nil.
func (t *Table[K, V]) findLocked(r Ref) *entry[K, V] {
	if e := t.entries[r.ID]; e != nil && e.fits(r) {
		return e
	}
	return nil
}

// Of returns the user's events that have not ended, the oldest first.
func (t *Table[K, V]) Of(user string) []Ref {
	t.mu.Lock()
	defer t.mu.Unlock()
	all := t.users[user]
	if len(all) == 0 {
		return nil
	}
	refs := make([]Ref, len(all))
	for i, e := range all {
		refs[i] = e.ref()
	}
	return refs
}

// Value returns an event, also if it has ended lately.
func (t *Table[K, V]) Value(r Ref) (v V, ok bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.findLocked(r)
	if e == nil {
		return v, false
	}
	return e.Value, true
}

// Send calls send unless the event has ended or was sent to the device. End waits for the call,
// which must not block; if it returns false, the device is closed.
func (t *Table[K, V]) Send(r Ref, to K, send func(v V) bool) {
	now := time.Now()
	t.mu.Lock()
	e := t.findLocked(r)
	if e == nil || !e.ended.IsZero() || e.devices[to] != nil {
		t.mu.Unlock()
		return
	}
	d := &device{sent: now}
	e.devices[to] = d
	e.sending++
	t.armLocked(e, now)
	t.mu.Unlock()
	ok := false
	defer func() {
		t.mu.Lock()
		defer t.mu.Unlock()
		if ok {
			e.sent = true
		} else if e.devices[to] == d {
			delete(e.devices, to)
		}
		t.sentLocked(e)
	}()
	ok = send(e.Value)
}

func (t *Table[K, V]) sentLocked(e *entry[K, V]) {
	if e.sending--; e.sending == 0 && e.idle != nil {
		close(e.idle)
		e.idle = nil
	}
}

// Closed records that a device has closed.
func (t *Table[K, V]) Closed(r Ref, d K) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.findLocked(r); e != nil {
		delete(e.devices, d)
	}
}

// Received records that a device of this node has received an event that was sent to it. It reports
// whether that is the device's first receipt.
func (t *Table[K, V]) Received(of Ref, from K, r Receipt) bool {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	e := t.findLocked(of)
	if e == nil {
		return false
	}
	d := e.devices[from]
	if d == nil || d.received {
		return false
	}
	d.received, e.local = true, true
	t.receivedLocked(e, r, now)
	t.armLocked(e, now)
	return true
}

// ReceivedElsewhere records that a device of another node has received an event.
func (t *Table[K, V]) ReceivedElsewhere(of Ref, r Receipt) {
	now := time.Now()
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.findLocked(of); e != nil {
		t.receivedLocked(e, r, now)
		t.armLocked(e, now)
		return
	}
	t.early.put(of, earlyReceipt{r, now})
}

func (t *Table[K, V]) receivedLocked(e *entry[K, V], r Receipt, now time.Time) {
	if !e.received.IsZero() {
		return
	}
	e.first, e.received = r, now
	if e.Delay == 0 {
		t.reportLocked(e, Delivered)
	}
}

// Told records that another node has reported an event.
func (t *Table[K, V]) Told(r Ref, k Kind) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if e := t.findLocked(r); e != nil && k < kinds {
		e.told[k] = true
	}
}

// OfGroup returns the group's events that have not ended, or that have expired and are not reported as expired yet.
func (t *Table[K, V]) OfGroup(group string) (refs []Ref) {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, e := range t.groups[group] {
		if e.ended.IsZero() || e.expiresSoon() {
			refs = append(refs, e.ref())
		}
	}
	return refs
}

// Len returns the number of events that have not ended, or ended lately.
func (t *Table[K, V]) Len() int {
	t.mu.Lock()
	defer t.mu.Unlock()
	return len(t.entries)
}
