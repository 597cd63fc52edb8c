// Sockets that are away: they have lost their connection, and their clients may return, to this node
// or to another one.

package eventlog

import (
	"context"
	"slices"
	"strings"
	"time"
)

// ID names a socket that can be recovered. It follows from the secret of its client.
type ID [20]byte

// Room is a room that a socket was in when it left.
type Room struct {
	Name  string
	Since Seen   // before that the socket was not in the room, so that events from then are not missed
	Label string // Since for other nodes
	Again bool   // it was in the room earlier too, so that nobody knows of events from before Since
}

// Away is a socket that is away. Log.mu guards the fields that begin with a small letter; the
// others do not change after Leave, but for Owner.
type Away struct {
	ID     ID
	Socket string // the id of the socket
	Rooms  []Room // also one with the socket's id
	// Former are rooms that it was in before it left.
	Former []string
	// Trail says what was queued on the socket, if it was one of this node. It has begun at Base.
	Trail Trail
	Base  uint64
	// Since is what the client had received when the socket began, and Label is the same for other nodes. If
	// that is empty, the client cannot come to another one.
	Since Seen
	Label string
	// Turn is how often the client has returned.
	Turn int
	// Least is an event without which the client cannot recover. Zero: there is none.
	Least Mark
	// Beyond is what the client has received too, if it has received the event at After, or a later one of
	// the socket's node.
	Beyond string // a label
	After  Mark
	// Doubts are of a socket of another node: one that has returned, or whose node has lost events while it was connected.
	Doubts []Doubt
	// Owner is whoever had the socket: what was passed to Settle, or the caller's.
	Owner any
	// Node is the node of the socket. The zero Emitter is this one; Foreign makes the others.
	Node Emitter
	// Lost is when that node was last heard. It is zero unless Foreign made the socket.
	Lost time.Time

	at      uint64 // the position of the newest event when it left
	gap     uint64 // that of the last gap before
	until   time.Time
	settled chan struct{}
	taken   bool
	seen    Seen // of Take or PartOf: what the client has received
}

// Trail is what is known of the events that were queued on a socket. Whoever queues them calls Queued.
type Trail struct {
	last uint64 // the position of the newest one; 0: none yet
	// The newest one whose next came so late that the log did not keep it any more, and the next.
	before, next uint64
}

// Queued records that an event is queued on a socket. It is called between Begin and End, with the
// position of Begin.
func (l *Log[M]) Queued(t *Trail, at uint64) {
	if t.last != 0 && t.last <= l.trimmed {
		t.before, t.next = t.last, at
	}
	t.last = at
}

// Begin begins a trail after a position: what came before it was not queued.
func (t *Trail) Begin(at uint64) { *t = Trail{last: at} }

// Leave records a socket that is about to leave its rooms. Until Settle it cannot return. It is called
// between Pause and End.
func (l *Log[M]) Leave(a *Away) {
	now := l.cfg.Now()
	a.settled, a.at, a.gap, a.until = make(chan struct{}), l.head, l.gap, now.Add(l.cfg.Window)
	l.expireLocked(now)
	for len(l.away) >= l.cfg.Sockets && len(l.order) > 0 {
		l.forgetLocked(l.order[0])
		l.order = l.order[1:]
	}
	if old := l.away[a.ID]; old != nil {
		l.forgetLocked(old)
	}
	l.away[a.ID] = a
	l.order = append(l.order, a)
	l.countLocked(a, 1)
}

// Settle sets the owner of a socket that is away, and allows it to return. It is called once.
func (l *Log[M]) Settle(a *Away, owner any) {
	a.Owner = owner
	close(a.settled)
}

// Find returns the socket with an id that is away, or nil. It waits, within ctx, until Settle was
// called for it.
func (l *Log[M]) Find(ctx context.Context, id ID) *Away {
	l.mu.Lock()
	a := l.away[id]
	l.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.settled:
		return a
	case <-ctx.Done():
		return nil
	}
}

// Forget ends the absence of a socket whose client has returned to another node for the turn'th time.
func (l *Log[M]) Forget(id ID, turn int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if a := l.away[id]; a != nil && a.Turn < turn {
		l.forgetLocked(a)
	}
}

// Take reserves a socket for the caller, who calls Catch or Return later. offset is the label of the last
// event that the client has received; nil if there is none. It fails if another one has taken the
// socket, or it cannot catch up.
func (l *Log[M]) Take(a *Away, offset *string) (ok, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimLocked(l.cfg.Now()) // a label may lack nodes that are silent for longer
	if a.Here() {
		switch {
		case l.away[a.ID] != a, l.cfg.Now().After(a.until):
			return false, false
		case a.taken:
			return false, true
		}
	}
	if a.seen, ok = l.seenLocked(a, offset); ok {
		if !l.completeLocked(a, a.seen) { // another node may have the rest
			ok = !a.Here() || a.seen.At >= l.trimmed // otherwise only this node knew what else was queued
		} else {
			_, ok = l.missedLocked(a, a.seen.inOrder(a), names(a.Rooms), Load{})
		}
	}
	a.taken = ok
	return ok, false
}

// textLocked returns what a client has received as a label for other nodes, or an empty text if that
// would name too many of them.
func (l *Log[M]) textLocked(s Seen) string {
	own := Seen{}
	if s.At > 0 {
		label := l.labelLocked(s.At)
		if strings.HasSuffix(label, Incomplete) {
			return ""
		}
		own, _ = l.parse(label)
	}
	all := own.and(s)
	if s.partial || len(all.From) > maxMarks {
		return ""
	}
	return string(all.append(l.Mark(s.At).Append(nil)))
}

// seenLocked returns what the client of a socket has received. ok is false if that is unknown, or
// the client cannot recover from there.
func (l *Log[M]) seenLocked(a *Away, offset *string) (s Seen, ok bool) {
	if offset != nil {
		if s, ok = l.parse(*offset); !ok || s.partial || s.At > l.head {
			return s, false
		}
	}
	if !l.reached(s, a.Least) {
		return s, false
	}
	if a.After != (Mark{}) && l.reached(s, a.After) {
		beyond, _ := l.parse(a.Beyond)
		s = s.and(beyond)
	}
	s = s.and(a.Since)
	if a.Here() {
		if since, ok := l.parse(a.Label); ok && !since.partial {
			s = s.and(since)
		}
		// What was not queued may have been lost in a gap.
		if to := a.upTo(s.At); s.At >= a.gap || to < a.gap {
			s.At = to
		}
	}
	return s, true
}

// reached reports whether a client has received an event.
func (l *Log[M]) reached(s Seen, m Mark) bool {
	return s.from(m.Emitter) >= m.At || m.Emitter == l.cfg.Emitter && s.At >= m.At
}

// inOrder returns what the client of a socket has received. On the node of the socket, what the client has missed came
// later, also from a node of which events were lost before.
func (s Seen) inOrder(a *Away) Seen {
	if a.Here() {
		s.unsure = nil
	}
	return s
}

// Here reports whether the socket is one of this node.
func (a *Away) Here() bool { return a.Node == Emitter{} }

// upTo returns the position up to which the client has every event, if the newest one that it has
// received is the one at that position.
func (a *Away) upTo(at uint64) uint64 {
	t := &a.Trail
	switch {
	case at < a.Base:
		return at
	case at >= t.last:
		return a.at
	case at >= t.before && at < t.next:
		return t.next - 1
	}
	return at
}

// Return gives back a socket that was taken: its client may try again. It is called between Pause and
// End.
func (l *Log[M]) Return(a *Away) { a.taken = false }

// Caught is what Catch returns.
type Caught[M any] struct {
	Missed []M    // in the order in which they are to be sent
	Head   uint64 // the position up to which Missed is complete; it and the next one are of no event
	Seen   Seen   // what the client had received before
	Label  string // Seen for other nodes
	// Ahead has the events that the client has received, and that may still arrive here.
	Ahead  []Mark
	Beyond string // see Away
	After  Mark   // likewise
}

// Catch ends the absence of a socket that was taken, and returns the events that went to rooms in
// which it was, and is now, and that its client has not received: those of the part first, if there is one.
// ok is false if some of them are not kept any more, or they are too many. now has the socket's id
// too. Catch is called between Pause and End.
func (l *Log[M]) Catch(a *Away, now []string, p *Part[M]) (c Caught[M], ok bool) {
	l.head += 2 // see Caught.Head
	c = Caught[M]{Head: l.head - 1, Seen: a.seen}
	s := a.seen.inOrder(a)
	var upto Seen
	if p != nil {
		upto, _ = l.parse(p.Upto)
		s = s.and(upto)
		c.Missed, c.Beyond, c.After = p.Events, p.Upto, l.Mark(c.Head)
	}
	complete := l.completeLocked(a, s)
	if p != nil {
		complete = p.fits(a, s, now) && !l.lacksLocked(a, s, Emitter{})
	}
	var kept []*entry[M]
	if ok = complete && (!a.Here() || l.away[a.ID] == a); ok {
		kept, ok = l.missedLocked(a, s, now, p.load())
	}
	if len(c.Missed) > 0 && upto.from(l.cfg.Emitter) == 0 { // nobody knows which of this node's own events came before
		ok = ok && !slices.ContainsFunc(kept, func(e *entry[M]) bool { return e.emitter == l.self && e.Key == "" })
	}
	if p != nil && len(kept) > 0 {
		c.After = l.Mark(kept[0].pos)
	}
	c.Missed = append(slices.Clip(c.Missed), eventsOf(kept)...)
	for _, m := range s.From {
		if e := l.emitterLocked(m.Emitter); e != l.self && (e == nil || e.At < m.At) {
			c.Ahead = append(c.Ahead, m)
		}
	}
	if ok {
		c.Label = l.textLocked(a.seen)
	}
	l.forgetLocked(a)
	return c, ok
}

func eventsOf[M any](entries []*entry[M]) []M {
	events := make([]M, len(entries))
	for i, e := range entries {
		events[i] = e.Event
	}
	return events
}

// forgetLocked ends the absence of a socket.
func (l *Log[M]) forgetLocked(a *Away) {
	if l.away[a.ID] == a {
		delete(l.away, a.ID)
		l.countLocked(a, -1)
	}
}

// expireLocked forgets the sockets that were away for too long.
func (l *Log[M]) expireLocked(now time.Time) {
	n := 0
	for ; n < len(l.order) && (l.away[l.order[n].ID] != l.order[n] || now.After(l.order[n].until) && !l.order[n].taken); n++ {
		l.forgetLocked(l.order[n])
	}
	clear(l.order[:n])
	l.order = l.order[n:]
}

// countLocked counts a socket in the rooms that it was in.
func (l *Log[M]) countLocked(a *Away, n int) {
	l.moves.Add(1)
	for _, name := range append(names(a.Rooms), "") {
		if l.awaited[name] += n; l.awaited[name] == 0 {
			delete(l.awaited, name)
		}
	}
	l.none.Store(len(l.away) == 0)
}

// Len returns the number of events and their size, and the number of sockets that are away.
func (l *Log[M]) Len() (events, bytes, sockets int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lenLocked(), l.bytes, len(l.away)
}
