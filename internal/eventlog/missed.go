// What a socket that is away has missed, and whether the log has all of it.

package eventlog

import (
	"slices"
)

// missedLocked returns the events that a socket has missed which is now in those rooms, as far as they are
// in the log. Other events come with them, of a load.
func (l *Log[M]) missedLocked(a *Away, s Seen, now []string, load Load) (missed []*entry[M], ok bool) {
	then := byName(a.Rooms)
	both := then.and(now)
	positions, keyed := l.positionsLocked(a, both, s.At)
	for _, at := range positions {
		e := l.entryLocked(at)
		if e == nil {
			e = keyed[at]
		}
		switch {
		case e.excepts(then), !e.to(both, false):
			continue
		case e.Origin.Here && a.Turn == 0 && e.emitter.Emitter != l.nodeOf(a):
			continue
		case e.Key == "" && s.covers(at, e.Origin.Mark):
			if !a.Here() && slices.ContainsFunc(missed, func(m *entry[M]) bool { return s.lacked(m.emitter.Emitter, e.at.Sub(m.at)) }) {
				return nil, false
			}
			continue
		case e.Origin.Here && a.Turn > 0 && (!a.Here() || e.emitter != l.self || at <= a.Base): // was the socket there?
			return nil, false
		case e.Origin.Unknown && !a.Here(), slices.Contains(s.unsure, e.emitter.Emitter):
			return nil, false
		case e.mayExcept(a), !e.to(both, true), !a.Here() && l.mayBeLaterLocked(e, s):
			return nil, false
		}
		load = load.And(e.Load)
		missed = append(missed, e)
		if !load.within(l.cfg.Catch) {
			return nil, false
		}
	}
	return missed, load.within(l.cfg.Catch)
}

// mayBeLaterLocked reports whether a client may have received an event that came after this one, and that the log lacks.
func (l *Log[M]) mayBeLaterLocked(e *entry[M], s Seen) bool {
	return slices.ContainsFunc(l.others, func(o *emitter) bool {
		return s.from(o.Emitter) > o.loss.after && e.at.Before(o.loss.before)
	})
}

func (l *Log[M]) nodeOf(a *Away) Emitter {
	if a.Here() {
		return l.cfg.Emitter
	}
	return a.Node
}

// completeLocked reports whether the log has every event that the client has not received.
func (l *Log[M]) completeLocked(a *Away, s Seen) bool {
	switch {
	case s.At > 0 && s.At >= max(l.trimmed, l.gap):
		return true
	case a.Here() && (s.At < l.trimmed || !l.cfg.Everything):
		return false
	}
	return !l.lacksLocked(a, s, Emitter{}) && !l.maybeMoreLocked(a, s)
}

// maybeMoreLocked reports whether a node, of which the client has received events, may have emitted more before
// this one began.
func (l *Log[M]) maybeMoreLocked(a *Away, s Seen) bool {
	return l.began.After(l.received(a)) && slices.ContainsFunc(s.From, func(m Mark) bool { return l.emitterLocked(m.Emitter) == nil })
}

// lacksLocked reports whether the log may not have every event that the client has not received, of the
// nodes that it knows. It does not count one of them.
func (l *Log[M]) lacksLocked(a *Away, s Seen, butOf Emitter) bool {
	received, silent := l.received(a), l.silentSince()
	if l.unmarked && s.At < l.deaf.at && l.deaf.when.After(received) {
		return true
	}
	return slices.ContainsFunc(append(slices.Clip(l.others), l.self), func(e *emitter) bool {
		switch {
		case e.Emitter == butOf, e == l.self && s.At > 0 && s.At >= l.trimmed:
			return false
		case !e.deafened.IsZero() && (e.gone.IsZero() && !e.deafened.Before(silent) || e.gone.After(received)):
			return true
		}
		return s.from(e.Emitter) < e.floor && e.floorAt.After(received)
	})
}

// positionsLocked returns the positions of the events of rooms after one, in order, and those events among them that have
// a key: only a socket of this node gets these, if they came when it had left.
func (l *Log[M]) positionsLocked(a *Away, rooms roomsByName, after uint64) (found []uint64, withKey map[uint64]*entry[M]) {
	withKey = map[uint64]*entry[M]{}
	of := func(name string) {
		list := l.rooms[name]
		first, exact := slices.BinarySearch(list, after)
		if exact {
			first++
		}
		found = append(found, list[first:]...)
		if !a.Here() {
			return
		}
		for _, one := range l.keyed.rooms[name] {
			if at := one.Value.pos; at > max(after, a.at) {
				found = append(found, at)
				withKey[at] = &one.Value
			}
		}
	}
	for name := range rooms {
		of(name)
	}
	if _, ok := rooms[""]; !ok {
		of("")
	}
	slices.Sort(found)
	return slices.Compact(found), withKey
}

// roomsByName are the rooms of a socket.
type roomsByName map[string]*Room

func byName(rooms []Room) roomsByName {
	all := make(roomsByName, len(rooms))
	for i := range rooms {
		all[rooms[i].Name] = &rooms[i]
	}
	return all
}

// and returns those rooms that are among the names.
func (r roomsByName) and(names []string) roomsByName {
	both := roomsByName{}
	for _, name := range names {
		if room := r[name]; room != nil {
			both[name] = room
		}
	}
	return both
}

// to reports whether an event went to any of the rooms after the socket had joined it. Unless surely is set,
// it counts if it may be so, because the socket was in the room twice.
func (e *entry[M]) to(rooms roomsByName, surely bool) bool {
	return e.To.Rooms == nil || slices.ContainsFunc(e.To.Rooms, func(name string) bool {
		r := rooms[name]
		return r != nil && (!r.Since.covers(e.pos, e.Origin.Mark) || r.Again && !surely)
	})
}

// excepts reports whether an event was not for a socket of those rooms.
func (e *entry[M]) excepts(rooms roomsByName) bool {
	return slices.ContainsFunc(e.To.Except, func(name string) bool {
		r := rooms[name]
		return r != nil && !r.Since.covers(e.pos, e.Origin.Mark)
	})
}

// mayExcept reports whether an event may not have been for the socket, because of a room that it has
// left.
func (e *entry[M]) mayExcept(a *Away) bool {
	return slices.ContainsFunc(e.To.Except, func(name string) bool { return slices.Contains(a.Former, name) })
}

func names(rooms []Room) []string {
	all := make([]string, 0, len(rooms)+1)
	for _, r := range rooms {
		all = append(all, r.Name)
	}
	return all
}
