// Parts: what the log of a node lacks for a client, because the node has begun lately or had a gap, another
// one has.

package eventlog

import (
	"maps"
	"slices"
	"strings"
	"time"
)

// Part is what one node has of the events that a client has missed, for another node that lacks some.
type Part[M any] struct {
	Rooms  []string // in which the client is now
	Events []M
	Load   Load   // of the events
	Upto   string // a label: whoever has the events has all up to here
}

// PartOf returns the Part for a socket that is now in those rooms. by is the node that asks: it has its own
// events, if this one does not have them all. ok is false if this log lacks events too, or they are too
// many.
func (l *Log[M]) PartOf(a *Away, now []string, by Emitter) (p Part[M], ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.trimLocked(l.cfg.Now())
	s, ok := l.seenLocked(a, nil)
	a.seen = s
	whole := l.completeLocked(a, s)
	if !ok || !whole && (l.lacksLocked(a, s, by) || l.maybeMoreLocked(a, s)) {
		return p, false
	}
	missed, ok := l.missedLocked(a, s, now, Load{})
	var without map[*emitter]uint64
	if asks := l.emitterLocked(by); asks != nil && !whole {
		missed = slices.DeleteFunc(missed, func(e *entry[M]) bool { return e.emitter == asks })
		without = map[*emitter]uint64{asks: 1}
	}
	p = Part[M]{Events: eventsOf(missed), Upto: string(l.appendLabelLocked(nil, l.head, without))}
	return p, ok && !strings.HasSuffix(p.Upto, Incomplete)
}

// Lacks reports whether a socket that was taken needs the Part of another node, and returns the record
// with which that one makes it. ok is false if the record would name too many nodes, or the other nodes lack
// events. unshared is the last time when an event did not reach them, or zero.
func (l *Log[M]) Lacks(a *Away, unshared time.Time) (r Record, lacks, ok bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.completeLocked(a, a.seen) {
		return r, false, true
	}
	if !l.sharedLocked(a.seen, unshared) {
		return r, true, false
	}
	r = l.Record(a)
	node := l.nodeOf(a)
	r.Node, r.Since, r.Least, r.Beyond, r.After = string(node[:]), l.textLocked(a.seen), "", "", ""
	return r, true, r.Since != ""
}

// sharedLocked reports whether a client has received every event that this node has emitted until a time, so that
// it does not matter which of them other nodes lack.
func (l *Log[M]) sharedLocked(s Seen, unshared time.Time) bool {
	own := l.self.kept
	later, _ := slices.BinarySearchFunc(own, unshared, func(at uint64, t time.Time) int {
		if l.entryLocked(at).at.After(t) {
			return 1
		}
		return -1
	})
	if later == 0 {
		return true
	}
	e := l.entryLocked(own[later-1])
	return s.covers(e.pos, e.Origin.Mark)
}

// fits reports whether the part is of the rooms in which a client is now, and says what the client has
// received with it. No part fits too.
func (p *Part[M]) fits(a *Away, s Seen, now []string) bool {
	if p == nil {
		return true
	}
	then := byName(a.Rooms)
	return !s.partial && maps.Equal(then.and(p.Rooms), then.and(now))
}

func (p *Part[M]) load() (of Load) {
	if p == nil {
		return of
	}
	return p.Load
}
