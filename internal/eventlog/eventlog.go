// Package eventlog keeps the newest events that were emitted to rooms, and remembers the sockets
// that have lost their connection, so that a client that reconnects receives what it has missed.
// The package is pure: it knows no sockets, messages or network.
//
// Each event has a position, one higher than the event before it. An emitter appends an event,
// selects the sockets that receive it, calls Selected, queues the event on each of them, reports
// those on which it could not with Missed, and calls Done. A socket that leaves calls Leave before
// it leaves its rooms, and one that returns joins its rooms before it calls Catch. So an emitter
// that does not find the socket has its event in the log; and an emitter that finds it after
// Catch has an event with a position up to the one that Catch returned, which the socket then
// drops, or with a higher one.
package eventlog

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config bounds a Log. Every field but Now is required.
type Config struct {
	Window      time.Duration // how long a socket can be away
	Events      int           // the maximum number of events that are kept
	Bytes       int           // the maximum size of these events
	Sockets     int           // the maximum number of sockets that are away
	CatchEvents int           // the maximum number of events that a socket gets at once
	CatchBytes  int           // the maximum size of these events
	Now         func() time.Time
}

// keepLonger is how much longer than Config.Window an event is kept: a connection that breaks
// without a sign is noticed only after its heartbeat has timed out.
const keepLonger = time.Minute

// Log is a ring of events, with an index by room. Its methods may be called concurrently.
type Log[M any] struct {
	cfg   Config
	none  atomic.Bool   // no socket is away
	moves atomic.Uint64 // how many sockets have left or returned

	mu      sync.Mutex // guards the fields below, and the fields of every Away that its comment names
	head    uint64     // the highest position so far
	trimmed uint64     // the highest one whose event may not be kept any more
	entries []entry[M] // in the order of their positions
	skip    int        // the first entries, which have no events any more
	bytes   int
	rooms   map[room][]uint64 // the positions of a room's events
	keys    map[string]uint64 // the position of the newest event of a key
	pending []pending         // the events whose emitter has not called Done, in order
	away    map[ID]*Away
	order   []*Away      // those in away, and some that are not any more, in the order in which they left
	awaited map[room]int // how many sockets in away were in a room
}

// pending is an event that is being queued.
type pending struct {
	at       uint64
	selected bool // its receivers are selected
}

// room is a room of a namespace. An empty name stands for every socket of the namespace.
type room struct{ namespace, name string }

// Target says who receives an event: the sockets of a namespace that are in any of Rooms, or all
// if Rooms is nil, but for those that are in any of Except or have an id in it. The log keeps the
// slices.
type Target struct {
	Namespace     string
	Rooms, Except []string
}

// appendRooms appends the rooms of the target.
func (t Target) appendRooms(to []room) []room {
	if t.Rooms == nil {
		return append(to, room{t.Namespace, ""})
	}
	for _, name := range t.Rooms {
		to = append(to, room{t.Namespace, name})
	}
	return to
}

// few is space for the rooms of most targets.
type few [4]room

type entry[M any] struct {
	pos   uint64
	event M
	to    Target
	key   string
	size  int
	at    time.Time
	empty bool // a newer event of the same key has replaced it
}

// New returns an empty log.
func New[M any](c Config) *Log[M] {
	if c.Now == nil {
		c.Now = time.Now
	}
	l := &Log[M]{cfg: c, rooms: map[room][]uint64{}, keys: map[string]uint64{}, away: map[ID]*Away{}, awaited: map[room]int{}}
	l.none.Store(true)
	return l
}

// Awaited reports whether a socket that is away was in any of the rooms.
func (l *Log[M]) Awaited(t Target) bool {
	if l.none.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	var space few
	return slices.ContainsFunc(t.appendRooms(space[:0]), func(r room) bool { return l.awaited[r] > 0 })
}

// Moves returns a number that changes when a socket leaves or returns.
func (l *Log[M]) Moves() uint64 { return l.moves.Load() }

// Append appends an event of a size in bytes, and writes its position into digits, which belong to
// the event, unless they are nil. An event with a key takes the place of the one before it. The
// caller calls Selected and Done later.
func (l *Log[M]) Append(to Target, key string, size int, event M, digits []byte) uint64 {
	now := l.cfg.Now()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head++
	at := l.head
	if digits != nil {
		PutPosition(digits, at)
	}
	l.pending = append(l.pending, pending{at: at})
	if key != "" {
		if old, ok := l.keys[key]; ok {
			e := l.entryLocked(old) // it is kept: evicting removes it from keys
			l.bytes -= e.size
			var none M
			e.event, e.size, e.empty = none, 0, true
		}
		l.keys[key] = at
	}
	l.entries = append(l.entries, entry[M]{pos: at, event: event, to: to, key: key, size: size, at: now})
	l.bytes += size
	var space few
	for _, r := range to.appendRooms(space[:0]) {
		if list := l.rooms[r]; len(list) == 0 || list[len(list)-1] != at { // a room may be named twice
			l.rooms[r] = append(list, at)
		}
	}
	oldest := now.Add(-l.cfg.Window - keepLonger)
	for n := l.lenLocked(); n > 0 && (n > l.cfg.Events || l.bytes > l.cfg.Bytes || l.entries[l.skip].at.Before(oldest)); n-- {
		l.evictLocked()
	}
	l.expireLocked(now)
	return at
}

// Selected says that the receivers of the event at a position are selected.
func (l *Log[M]) Selected(at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.pending[l.pendingLocked(at)].selected = true
}

// Done says that the event at a position is queued on its receivers, or reported as missed.
func (l *Log[M]) Done(at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	i := l.pendingLocked(at)
	l.pending = slices.Delete(l.pending, i, i+1)
}

func (l *Log[M]) pendingLocked(at uint64) int {
	return slices.IndexFunc(l.pending, func(p pending) bool { return p.at == at })
}

// Mark returns a position of no event. Events that are appended later have higher ones.
func (l *Log[M]) Mark() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head++
	return l.head
}

// Head returns the highest position so far.
func (l *Log[M]) Head() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

// Gap says that events are missing from the log: no socket that is away can catch up.
func (l *Log[M]) Gap() {
	l.mu.Lock()
	defer l.mu.Unlock()
	for l.lenLocked() > 0 {
		l.evictLocked()
	}
	l.head++ // a socket that is away has missed at least this
	l.trimmed = l.head
}

func (l *Log[M]) lenLocked() int { return len(l.entries) - l.skip }

// entryLocked returns the event at a position, or nil.
func (l *Log[M]) entryLocked(at uint64) *entry[M] {
	kept := l.entries[l.skip:]
	i, ok := slices.BinarySearchFunc(kept, at, func(e entry[M], at uint64) int { return cmp.Compare(e.pos, at) })
	if !ok {
		return nil
	}
	return &kept[i]
}

// evictLocked drops the oldest event.
func (l *Log[M]) evictLocked() {
	e := &l.entries[l.skip]
	at := e.pos
	l.trimmed = at
	l.bytes -= e.size
	if e.key != "" && l.keys[e.key] == at {
		delete(l.keys, e.key)
	}
	var space few
	for _, r := range e.to.appendRooms(space[:0]) {
		switch list := l.rooms[r]; {
		case len(list) == 0 || list[0] != at:
		case len(list) == 1:
			delete(l.rooms, r)
		default:
			l.rooms[r] = list[1:]
		}
	}
	*e = entry[M]{}
	if l.skip++; l.skip > len(l.entries)/2 && l.skip > 64 || l.skip == len(l.entries) {
		n := copy(l.entries, l.entries[l.skip:])
		clear(l.entries[n:])
		l.entries, l.skip = l.entries[:n], 0
	}
}
