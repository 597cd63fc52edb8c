// Sockets that are away: they have lost their connection, and their clients may return.

package eventlog

import (
	"context"
	"slices"
	"time"
)

// ID is the secret by which a client proves that it had a socket.
type ID [20]byte

// Away is a socket that is away. Log.mu guards the fields that begin with a small letter; the
// others do not change after Settle.
type Away struct {
	ID        ID
	Namespace string
	Socket    string   // the id of the socket
	Rooms     []string // those that it was in
	Trail     Trail
	Owner     any // whoever had the socket, for the caller of Find

	at         uint64   // the position of the newest event when it left
	unselected []uint64 // the events whose receivers were not selected then
	unfinished []uint64 // the events that were not queued on all receivers then
	missed     []uint64 // see Log.Missed
	until      time.Time
	settled    chan struct{}
	taken      bool
}

// Trail is what is known of the events that were queued on a socket.
type Trail struct {
	Start   uint64   // the position at which the socket connected
	Recent  []uint64 // the positions of the newest of these events, in the order in which they were queued
	Lates   []Late   // the newest of those that were queued after one with a higher position, in order
	Dropped uint64   // Late.After of the last one that is not in Lates; 0: all are
	Least   uint64   // the position of an event without which the client cannot recover; 0: none
	Joined  uint64   // the position of the newest event when it last joined a room after its connect
}

// Late is an event that was queued after one with a higher position: when After was the highest
// position so far.
type Late struct{ At, After uint64 }

// Leave records a socket that is about to leave its rooms. Until Settle it cannot return.
func (l *Log[M]) Leave(a *Away) {
	now := l.cfg.Now()
	a.settled = make(chan struct{})
	l.mu.Lock()
	defer l.mu.Unlock()
	a.at, a.until = l.head, now.Add(l.cfg.Window)
	for _, p := range l.pending {
		a.unfinished = append(a.unfinished, p.at)
		if !p.selected {
			a.unselected = append(a.unselected, p.at)
		}
	}
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

// Missed says that the event at a position could not be queued on a socket that was selected.
func (l *Log[M]) Missed(a *Away, at uint64) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.missed = append(a.missed, at)
}

// Settle sets the trail and the owner of a socket that is away, and allows it to return. It is
// called once.
func (l *Log[M]) Settle(a *Away, t Trail, owner any) {
	a.Trail, a.Owner = t, owner
	close(a.settled)
}

// unfinishedPause is the time between two looks whether events are queued.
const unfinishedPause = time.Millisecond

// Find returns the socket with an id that is away, or nil. It waits, within ctx, until Settle was
// called for it, and all events are queued that were emitted when it left.
func (l *Log[M]) Find(ctx context.Context, id ID) *Away {
	l.mu.Lock()
	a := l.away[id]
	l.mu.Unlock()
	if a == nil {
		return nil
	}
	select {
	case <-a.settled:
	case <-ctx.Done():
		return nil
	}
	for l.unfinished(a) {
		select {
		case <-time.After(unfinishedPause):
		case <-ctx.Done():
			return nil
		}
	}
	return a
}

func (l *Log[M]) unfinished(a *Away) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.ContainsFunc(a.unfinished, func(at uint64) bool { return l.pendingLocked(at) >= 0 })
}

// Take reserves a socket that Find has returned for the caller, who calls Catch or Return later. It
// fails if another one has taken it, or it cannot catch up from that offset.
func (l *Log[M]) Take(a *Away, offset uint64) (ok, taken bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	switch {
	case l.away[a.ID] != a, l.cfg.Now().After(a.until), offset < a.Trail.Least:
		return false, false
	case a.taken:
		return false, true
	}
	_, a.taken = l.missedLocked(a, a.split(offset), a.Rooms)
	return a.taken, false
}

// Return gives back a socket that was taken. Its client may try again.
func (l *Log[M]) Return(a *Away) {
	l.mu.Lock()
	defer l.mu.Unlock()
	a.taken = false
}

// Event is an event that a socket has missed.
type Event[M any] struct {
	At    uint64
	Event M
}

// Caught is what Catch returns.
type Caught[M any] struct {
	Missed []Event[M] // in the order in which they are to be sent
	Recent []uint64   // the last events that the client has received, as in Trail.Recent
	Head   uint64     // the position up to which Missed is complete
}

// Catch ends the absence of a socket that was taken, and returns the events after an offset that
// went to rooms in which it was, and is now. It returns false if some of them are not kept any
// more, or they are too many.
func (l *Log[M]) Catch(a *Away, offset uint64, now []string) (c Caught[M], ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	s := a.split(offset)
	l.head++ // like Mark
	c.Head, c.Recent = l.head, s.received
	if l.away[a.ID] == a {
		c.Missed, ok = l.missedLocked(a, s, now)
	}
	l.forgetLocked(a)
	return c, ok
}

// missedLocked returns the events that a socket has missed which is now in those rooms.
func (l *Log[M]) missedLocked(a *Away, s split, now []string) (missed []Event[M], ok bool) {
	if !l.canCatchLocked(a, s) {
		return nil, false
	}
	both := slices.DeleteFunc(slices.Clone(a.Rooms), func(name string) bool { return !slices.Contains(now, name) })
	// An event that was queued on the socket was for it, whichever rooms it was in then.
	size := 0
	send := func(at uint64, rooms []string) (fits bool) {
		e := l.entryLocked(at)
		if e == nil || e.empty || !e.to.reaches(a.Namespace, rooms) {
			return true
		}
		size += e.size
		missed = append(missed, Event[M]{at, e.event})
		return len(missed) <= l.cfg.CatchEvents && size <= l.cfg.CatchBytes
	}
	for _, at := range s.queued {
		if !send(at, now) {
			return nil, false
		}
	}
	found := l.positionsLocked(a.Namespace, both, s.after)
	found = append(append(append(found, s.lates...), a.missed...), a.unselected...)
	slices.Sort(found)
	for _, at := range slices.Compact(found) {
		e := l.entryLocked(at)
		if e == nil || e.key != "" && at <= a.at || a.excepted(e.to.Except) || slices.Contains(s.queued, at) {
			continue
		}
		if !send(at, both) {
			return nil, false
		}
	}
	return missed, true
}

// positionsLocked returns the positions of the events of rooms after one.
func (l *Log[M]) positionsLocked(namespace string, names []string, after uint64) (found []uint64) {
	for _, name := range append(slices.Clip(names), "") {
		list := l.rooms[room{namespace, name}]
		first, exact := slices.BinarySearch(list, after)
		if exact {
			first++
		}
		found = append(found, list[first:]...)
	}
	return found
}

// split is what an offset says of the events that were queued on a socket.
type split struct {
	queued   []uint64 // those that the client has not received, in order, if the trail has all of them
	lates    []uint64 // those that it has not received with a position up to after
	after    uint64   // of the further ones it has missed those with a higher position
	received []uint64 // the last ones that it has received, in order
	exact    bool     // the trail has all that it has not received
}

// split divides what was queued on the socket at an offset.
func (a *Away) split(offset uint64) split {
	t := &a.Trail
	offset = max(offset, t.Start) // a lower one is of an earlier socket: the client has received nothing of this one
	if i := lastIndex(t.Recent, offset); i >= 0 {
		return split{queued: t.Recent[i+1:], after: a.at, received: t.Recent[:i+1], exact: true}
	}
	s := split{after: offset, received: []uint64{offset}}
	first := 0
	for i, late := range slices.Backward(t.Lates) {
		if late.At == offset {
			first, s.after, s.received = i+1, late.After, []uint64{late.After, offset}
			break
		}
	}
	for _, late := range t.Lates[first:] {
		if late.After >= s.after && late.At <= s.after {
			s.lates = append(s.lates, late.At)
		}
	}
	return s
}

// canCatchLocked reports whether the log has every event that the socket may have missed.
func (l *Log[M]) canCatchLocked(a *Away, s split) bool {
	gone := func(at uint64) bool { return at <= l.trimmed }
	if s.after > l.head || gone(s.after+1) || slices.ContainsFunc(slices.Concat(s.queued, s.lates, a.missed, a.unselected), gone) {
		return false
	}
	// Otherwise an event that was queued before the socket has joined a room could be taken for a missed one.
	return s.exact || s.after > a.Trail.Dropped && s.after >= a.Trail.Joined
}

func lastIndex(list []uint64, x uint64) int {
	for i, y := range slices.Backward(list) {
		if x == y {
			return i
		}
	}
	return -1
}

// excepted reports whether an event was not for the socket.
func (a *Away) excepted(except []string) bool {
	return slices.ContainsFunc(except, func(name string) bool { return name == a.Socket || slices.Contains(a.Rooms, name) })
}

// reaches reports whether an event went to any of the rooms.
func (t Target) reaches(namespace string, names []string) bool {
	return t.Namespace == namespace && (t.Rooms == nil || slices.ContainsFunc(t.Rooms, func(name string) bool { return slices.Contains(names, name) }))
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
	count := func(name string) {
		r := room{a.Namespace, name}
		if l.awaited[r] += n; l.awaited[r] == 0 {
			delete(l.awaited, r)
		}
	}
	count("")
	for _, name := range a.Rooms {
		count(name)
	}
	l.none.Store(len(l.away) == 0)
}

// Len returns the number of events and their size, and the number of sockets that are away.
func (l *Log[M]) Len() (events, bytes, sockets int) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.lenLocked(), l.bytes, len(l.away)
}
