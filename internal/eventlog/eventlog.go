// Package eventlog keeps the newest events of a namespace that were emitted to rooms, and remembers
// the sockets that have lost their connection, so that a client that reconnects receives what it has
// missed. The package is pure: it knows no sockets, messages or network.
//
// Each event has a position, one higher than the event before it. Between Begin and End an emitter
// keeps its event, selects the sockets that receive it, queues it on them, and hands it to the other
// nodes. So all sockets, and all nodes, get the events of a node in the order of their positions, and
// the position of the last event that a client has received says which others it has.
//
// Each node keeps the events of all nodes. A label has the node's position, and the newest event of each
// other node that came before. So another node knows which of its events a client has not received.
package eventlog

import (
	"cmp"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config bounds a Log. Every field but Everything, First and Now is required.
type Config[M any] struct {
	Emitter    Emitter       // this node
	Window     time.Duration // how long a socket can be away
	Everything bool          // the log gets the events of all other nodes, and their marks
	Unnoticed  time.Duration // how long it takes at most until a node notices that a connection has broken
	Budget     *Budget[M]    // of the events that are kept
	Sockets    int           // the maximum number of sockets that are away
	First      uint64        // the highest position before the first event; those up to it are for Inherit
	Catch      Load          // the maximum of what a socket gets at once
	Now        func() time.Time
}

// Log is a ring of events, with an index by room. Beside it are the events with a key. Its methods may be called concurrently.
type Log[M any] struct {
	cfg   Config[M]
	began time.Time
	none  atomic.Bool   // no socket is away
	moves atomic.Uint64 // how many sockets have left or returned
	first atomic.Int64  // when the oldest event came, in nanoseconds since 1970, or noFirst
	grows atomic.Bool   // Inherit is running

	mu      sync.Mutex // guards the fields below, and the fields of every Away that its comment names
	head    uint64     // the highest position so far
	trimmed uint64     // the highest one whose event is not kept any more
	gap     uint64     // the one of the last gap; 0: there was none
	gaps    []gap      // the last ones, in their order
	deaf    deafness
	silence time.Time // since when nothing may arrive from other nodes; zero: it does
	// unmarked: there are nodes whose events have no marks. Nobody knows how many of them were lost in a gap.
	unmarked bool
	entries  []entry[M]          // in the order of their positions
	skip     int                 // the first entries, which have no events any more
	rooms    map[string][]uint64 // the positions of a room's events; "": of those for every socket
	keyed    keyedEvents[M]
	bytes    int // of memory, of all events
	self     *emitter
	others   []*emitter
	away     map[ID]*Away
	order    []*Away        // those in away, and some that are not any more, in the order in which they left
	awaited  map[string]int // how many sockets in away were in a room
}

// Target says who receives an event: the sockets that are in any of Rooms, or all if Rooms is nil,
// but for those that are in any of Except or have an id in it. The log keeps the slices.
type Target struct{ Rooms, Except []string }

var everybody = []string{""}

// rooms returns the names under which the event is found.
func (t Target) rooms() []string {
	if t.Rooms == nil {
		return everybody
	}
	return t.Rooms
}

// Size returns about how many bytes the names take when they are sent.
func (t Target) Size() (size int) {
	const quotes = len(`"",`)
	for _, names := range [][]string{t.Rooms, t.Except} {
		for _, name := range names {
			size += len(name) + quotes
		}
	}
	return size
}

// Origin says where an event comes from. The zero Origin is this node.
type Origin struct {
	Mark
	// Here: it is only for sockets of the node that has emitted it.
	Here bool
	// Unknown: nobody has marked it. Another node cannot know whether a client has received it.
	Unknown bool
}

// Entry is an event that a log keeps.
type Entry[M any] struct {
	Event  M
	To     Target
	Key    string // an event with a key takes the place of the one before it
	Load   Load
	Origin Origin
}

// Load is what an event takes in the outbox of a socket.
type Load struct{ Messages, Bytes int }

// And returns what two events take.
func (a Load) And(b Load) Load { return Load{a.Messages + b.Messages, a.Bytes + b.Bytes} }

// within reports whether this is not more than a maximum.
func (a Load) within(most Load) bool { return a.Messages <= most.Messages && a.Bytes <= most.Bytes }

// What an event takes in memory, in bytes, beside its messages and names: TestRecovery_Memory of package socketio measures it.
const (
	entryMemory   = 300
	messageMemory = 100
	keyMemory     = 100
	roomMemory    = 100 // with its index
	exceptMemory  = 32
)

// memory returns about how many bytes of memory an event takes in a log.
func (e *Entry[M]) memory() int {
	size := entryMemory + e.Load.Messages*messageMemory + e.Load.Bytes
	if e.Key != "" {
		size += keyMemory + len(e.Key)
	}
	for _, name := range e.To.Rooms {
		size += roomMemory + len(name)
	}
	for _, name := range e.To.Except {
		size += exceptMemory + len(name)
	}
	return size
}

type entry[M any] struct {
	Entry[M]
	pos     uint64
	emitter *emitter
	at      time.Time
}

// New returns an empty log.
func New[M any](c Config[M]) *Log[M] {
	if c.Now == nil {
		c.Now = time.Now
	}
	l := &Log[M]{
		cfg: c, rooms: map[string][]uint64{}, keyed: newKeyedEvents[M](), away: map[ID]*Away{}, awaited: map[string]int{},
		self: &emitter{Mark: Mark{Emitter: c.Emitter}}, head: c.First,
	}
	l.began = c.Now()
	l.none.Store(true)
	l.first.Store(noFirst)
	c.Budget.join(l)
	return l
}

// Awaited reports whether a socket that is away was in any of the rooms.
func (l *Log[M]) Awaited(t Target) bool {
	if l.none.Load() {
		return false
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(t.rooms(), func(name string) bool { return l.awaited[name] > 0 })
}

// Moves returns a number that changes when a socket leaves or returns.
func (l *Log[M]) Moves() uint64 { return l.moves.Load() }

// Begin begins to emit, and returns the position of the event. Until End, no other event is
// emitted, no socket leaves or returns, and only the methods that say so may be called.
func (l *Log[M]) Begin() (at uint64) {
	l.mu.Lock()
	l.head++
	return l.head
}

// Pause is Begin without an event. It returns the position of the newest event.
func (l *Log[M]) Pause() (at uint64) {
	l.mu.Lock()
	return l.head
}

// End ends what Begin or Pause has begun.
func (l *Log[M]) End() { l.mu.Unlock() }

// Mark returns the mark of the event at a position of this node.
func (l *Log[M]) Mark(at uint64) Mark { return Mark{l.cfg.Emitter, at} }

// Newest returns the mark of the newest event that this node has emitted; its position is 0 if there is
// none. It is called between Pause and End.
func (l *Log[M]) Newest() Mark { return l.self.Mark }

// Step returns the step of the event at a position of this node. It is called between Begin and Keep.
func (l *Log[M]) Step(at uint64) Step { return Step{l.Mark(at), l.self.At} }

// AppendLabel appends the label of the position that Begin, or Pause, has returned. It is called before End.
func (l *Log[M]) AppendLabel(b []byte, at uint64) []byte { return l.appendLabelLocked(b, at, nil) }

// Label returns the label of a position: which events were emitted before it.
func (l *Log[M]) Label(at uint64) string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.labelLocked(at)
}

// labelLocked is Label. Of each node whose events come after the position, the label has what came
// before the first one. If the log does not reach back to the position, it has no other nodes.
func (l *Log[M]) labelLocked(at uint64) string {
	if at < max(l.trimmed, l.gap) {
		return l.Mark(at).String()
	}
	later := map[*emitter]uint64{}
	for _, e := range l.others {
		if i, _ := slices.BinarySearch(e.kept, at+1); i < len(e.kept) {
			later[e] = l.entryLocked(e.kept[i]).Origin.At
		}
	}
	return string(l.appendLabelLocked(nil, at, later))
}

func (l *Log[M]) appendLabelLocked(b []byte, at uint64, later map[*emitter]uint64) []byte {
	b = l.Mark(at).Append(b)
	if len(l.others) == 0 {
		return b
	}
	silent, n := l.silentSince(), 0
	for _, e := range l.others {
		m := e.Mark
		if first, ok := later[e]; ok {
			m.At = min(m.At, first-1)
		}
		if !e.deafened.IsZero() {
			m.At |= unsure
		}
		switch {
		case e.last.Before(silent):
		case n == maxMarks:
			return append(b, Incomplete...)
		default:
			b = m.Append(b)
			n++
		}
	}
	return b
}

// Keep adds an event. It is called between Begin and End.
func (l *Log[M]) Keep(e Entry[M]) {
	now, at := l.cfg.Now(), l.head
	by := l.emitterLocked(e.Origin.Emitter)
	if by == nil { // Hear was not called
		by, e.Origin.Unknown = l.self, true
	}
	l.unmarked = l.unmarked || e.Origin.Unknown && e.Key == "" // nobody misses an event with a key
	if by == l.self {
		e.Origin.Mark = l.Mark(at)
		if !e.Origin.Unknown && e.Key == "" {
			l.self.At = at
		}
	}
	if kept := (entry[M]{Entry: e, pos: at, emitter: by, at: now}); e.Key != "" {
		l.keepNewestLocked(kept)
	} else {
		l.appendLocked(kept)
	}
	l.trimLocked(now)
	l.expireLocked(now)
}

// appendLocked adds an event to the ring.
func (l *Log[M]) appendLocked(e entry[M]) {
	l.entries = append(l.entries, e)
	l.countEventLocked(&e, 1)
	if l.lenLocked() == 1 {
		l.first.Store(e.at.UnixNano())
	}
	e.emitter.kept = append(e.emitter.kept, e.pos)
	for _, r := range e.To.rooms() {
		if list := l.rooms[r]; len(list) == 0 || list[len(list)-1] != e.pos { // a room may be named twice
			l.rooms[r] = append(list, e.pos)
		}
	}
}

// keepNewestLocked keeps an event in the place of the one with its key, if there is one.
func (l *Log[M]) keepNewestLocked(e entry[M]) {
	if old := l.keyed.all[e.Key]; old != nil {
		l.countEventLocked(&old.Value, -1)
	}
	l.keyed.add(e)
	l.countEventLocked(&e, 1)
	l.storeFirstLocked()
}

// countEventLocked counts an event that comes or goes, which is 1 or -1.
func (l *Log[M]) countEventLocked(e *entry[M], n int) {
	size := n * e.memory()
	l.bytes += size
	l.cfg.Budget.add(n, size)
}

// Reserve returns the first of two positions of no events, and its label. Events that are emitted later
// have higher ones.
func (l *Log[M]) Reserve() (at uint64, label string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.head += 2
	return l.head - 1, string(l.AppendLabel(nil, l.head-1))
}

// Head returns the highest position so far.
func (l *Log[M]) Head() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.head
}

func (l *Log[M]) lenLocked() int { return len(l.entries) - l.skip + len(l.keyed.all) }

// oldestLocked returns the oldest event, or nil.
func (l *Log[M]) oldestLocked() *entry[M] {
	k := l.keyed.order.Oldest()
	if l.skip < len(l.entries) && (k == nil || l.entries[l.skip].pos < k.Value.pos) {
		return &l.entries[l.skip]
	}
	if k == nil {
		return nil
	}
	return &k.Value
}

// entryLocked returns the event without a key at a position, or nil.
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
	e := l.oldestLocked()
	l.trimmed = e.pos
	l.countEventLocked(e, -1)
	if e.Key != "" {
		l.keyed.remove(l.keyed.order.Oldest())
	} else {
		l.dropLocked(e)
	}
	l.storeFirstLocked()
}

// dropLocked drops the oldest event of the ring.
func (l *Log[M]) dropLocked(e *entry[M]) {
	by := e.emitter
	if e.Origin.At > by.floor {
		by.floor, by.floorAt = e.Origin.At, e.at
	}
	by.kept = by.kept[1:]
	for _, r := range e.To.rooms() {
		switch list := l.rooms[r]; {
		case len(list) == 0 || list[0] != e.pos:
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

// storeFirstLocked records when the oldest event came.
func (l *Log[M]) storeFirstLocked() {
	first := int64(noFirst)
	if e := l.oldestLocked(); e != nil {
		first = e.at.UnixNano()
	}
	l.first.Store(first) // once: Budget.oldest reads it meanwhile
}
