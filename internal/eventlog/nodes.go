// Other nodes: what a log knows of them, and which of their events it may lack.

package eventlog

import (
	"slices"
	"time"
)

// maxEmitters is the maximum number of other nodes that a log knows. Those of which it has heard
// nothing for the longest time are forgotten first.
const maxEmitters = 64

// emitter is what a log knows of a node.
type emitter struct {
	Mark               // the newest event that it has emitted
	last     time.Time // when that arrived
	floor    uint64    // its events after this position are all in the log
	floorAt  time.Time // or those that came later than this; zero: always
	loss     loss      // the last one
	deafened time.Time // when it was known that others may have been lost since its last event; zero: it was not
	gone     time.Time // when it was known to have ended; zero: it was not
	relayed  bool      // only other nodes have told of it
	kept     []uint64  // the positions of its events in the ring
}

// loss says that events of a node after a position did not arrive, which came before a time.
type loss struct {
	after  uint64
	before time.Time
}

// gap says that events which other nodes have emitted since a time may be missing before a position.
type gap struct {
	at    uint64
	since time.Time
}

// maxGaps is the maximum number of gaps that a log knows. Of older ones it knows when the first began.
const maxGaps = 32

// deafness is the end of the last gap in which events of all other nodes may have been lost.
type deafness struct {
	at   uint64 // the position
	when time.Time
}

// Hear records an event of another node. It is called between Begin and End, before AppendLabel.
func (l *Log[M]) Hear(s Step) {
	if since, lost := l.hearLocked(s, l.cfg.Now()); lost {
		l.gappedLocked(since)
	}
}

// HearAll records that a node has emitted the events up to a mark. Those that it emits later arrive
// here.
func (l *Log[M]) HearAll(m Mark) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since, lost := l.hearLocked(Step{m, m.At}, l.cfg.Now()); lost {
		l.head++
		l.gappedLocked(since)
	}
	if e := l.emitterLocked(m.Emitter); e != l.self {
		e.gone = time.Time{}
	}
}

// Heard is a node that was heard so long ago.
type Heard struct {
	Mark    // the newest event that it had emitted
	Ago     time.Duration
	Gone    bool          // it has ended
	GoneAgo time.Duration // when that was known
}

// HearOf records that another node has heard of a third one, which may have ended before this one began.
func (l *Log[M]) HearOf(h Heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	e := l.emitterLocked(h.Emitter)
	if e != nil && !e.relayed {
		return
	}
	var deafened time.Time
	if e != nil {
		h.At, deafened = max(h.At, e.At), e.deafened
	}
	now := l.cfg.Now()
	l.hearLocked(Step{h.Mark, h.At}, now.Add(-h.Ago))
	e = l.emitterLocked(h.Emitter)
	if e.relayed = true; h.Gone {
		e.gone = now.Add(-h.GoneAgo)
	} else {
		e.deafened = deafened // whoever tells may not have heard of the gap
	}
}

// Heard returns the other nodes that can be in a label, but for those that may have emitted more before they ended.
func (l *Log[M]) Heard() (all []Heard) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now, silent := l.cfg.Now(), l.silentSince()
	for _, e := range l.others {
		if !e.last.Before(silent) && e.deafened.IsZero() {
			h := Heard{Mark: e.Mark, Ago: now.Sub(e.last), Gone: !e.gone.IsZero()}
			if h.Gone {
				h.GoneAgo = now.Sub(e.gone)
			}
			all = append(all, h)
		}
	}
	return all
}

// hearLocked records a step that was made before a time. It reports whether events since another time were lost
// before it, and no gap was known.
func (l *Log[M]) hearLocked(s Step, before time.Time) (since time.Time, lost bool) {
	if s.Emitter == l.cfg.Emitter {
		return since, false
	}
	e := l.emitterLocked(s.Emitter)
	known := e != nil && !e.relayed && e.deafened.IsZero()
	if e == nil {
		if len(l.others) == maxEmitters {
			l.forgetOldestLocked()
		}
		e = &emitter{Mark: Mark{Emitter: s.Emitter}}
		l.others = append(l.others, e)
	}
	switch {
	case s.Before > e.At:
		since, lost = e.last, known
		if n := len(l.gaps); n > 0 && !e.deafened.IsZero() && !e.relayed { // the gap that is known may have begun too late
			l.gaps[n-1].since = earlier(l.gaps[n-1].since, since)
		}
		e.loss = loss{e.At, before}
		e.floor, e.floorAt = s.Before, before
	case e.relayed && s.Before < e.floor: // from here on the log has them by itself
		e.floor, e.floorAt = s.Before, before
	}
	e.deafened, e.relayed = time.Time{}, false
	e.At, e.last = max(e.At, s.At), later(e.last, before)
	return since, lost
}

// forgetOldestLocked forgets the node of which the log has heard nothing for the longest time, of those that have ended
// if there are any. If it may still matter, nobody knows later how many of its events were lost.
func (l *Log[M]) forgetOldestLocked() {
	oldest := slices.MinFunc(l.others, func(a, b *emitter) int {
		switch ended := !a.gone.IsZero(); {
		case ended == !b.gone.IsZero():
			return a.last.Compare(b.last)
		case ended:
			return -1
		}
		return 1
	})
	if oldest.gone.IsZero() || !oldest.last.Before(l.silentSince()) {
		l.unmarked, l.deaf = true, deafness{max(l.deaf.at, l.gap), later(l.deaf.when, later(oldest.deafened, oldest.floorAt))}
	}
	l.others = slices.DeleteFunc(l.others, func(o *emitter) bool { return o == oldest })
}

func (l *Log[M]) emitterLocked(e Emitter) *emitter {
	if e == l.cfg.Emitter || e == (Emitter{}) {
		return l.self
	}
	if i := slices.IndexFunc(l.others, func(o *emitter) bool { return o.Emitter == e }); i >= 0 {
		return l.others[i]
	}
	return nil
}

// silentSince returns a time before which no event of a log came. A node that is silent since then need
// not be in a label.
func (l *Log[M]) silentSince() time.Time { return l.cfg.Now().Add(-l.cfg.Window - 2*l.cfg.Unnoticed) }

// Gap says that events of a node since a time, or of all others if it is the zero Emitter, may be missing from the
// log. Until each has told which one is its newest, no socket that is away can catch up without the Part of another
// node, and none that has received nothing since.
func (l *Log[M]) Gap(of Emitter, since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.gapLocked(of, since)
}

// Silence says that since a time nothing may arrive from other nodes, or with the zero time that it arrives again. What
// was lost meanwhile is a Gap, but a socket may leave, or its node be lost, before that is known.
func (l *Log[M]) Silence(since time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if since.IsZero() && !l.silence.IsZero() {
		l.head++
		l.gappedLocked(l.silence)
	}
	l.silence = since
}

func (l *Log[M]) gapLocked(of Emitter, since time.Time) {
	if l.emitterLocked(of) == nil && len(l.others) == maxEmitters { // it may have been forgotten
		of = Emitter{}
	}
	now := l.cfg.Now()
	l.head++ // a socket that is away has missed at least this
	l.gappedLocked(since)
	if of == (Emitter{}) {
		l.deaf = deafness{l.head, now}
	}
	for _, e := range l.others {
		if (of == Emitter{} || of == e.Emitter) && (e.gone.IsZero() || !e.gone.Before(since)) {
			e.deafened = now
		}
	}
}

// gappedLocked records that events since a time may be missing, which came before the newest position.
func (l *Log[M]) gappedLocked(since time.Time) {
	l.gap = l.head
	l.gaps = append(l.gaps, gap{l.head, since})
	if len(l.gaps) > maxGaps {
		l.gaps[1].since = earlier(l.gaps[0].since, l.gaps[1].since)
		l.gaps = slices.Delete(l.gaps, 0, 1)
	}
}

// HeardSince returns when something of a node last arrived, if that was after a time.
func (l *Log[M]) HeardSince(e Emitter, at time.Time) time.Time {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.emitterLocked(e); o != nil && o != l.self && !o.relayed {
		return later(at, o.last)
	}
	return at
}

// Lost records that a node has ended: what it has emitted has arrived, unless there was a gap before.
func (l *Log[M]) Lost(e Emitter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.emitterLocked(e); o != nil && o != l.self {
		o.gone = l.cfg.Now()
	}
}

// Running records which other nodes ran at a time: those that were not heard since and are not among them have ended.
// What they have emitted has arrived, unless there was a gap before.
func (l *Log[M]) Running(nodes []Emitter, at time.Time) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.others {
		if e.gone.IsZero() && e.last.Before(at) && !slices.Contains(nodes, e.Emitter) {
			e.gone = l.cfg.Now()
		}
	}
}

// Returned records that a node which was lost has not ended. What it has emitted meanwhile may be missing.
func (l *Log[M]) Returned(e Emitter) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if o := l.emitterLocked(e); o != nil && !o.gone.IsZero() {
		since := o.gone
		o.gone = time.Time{}
		l.gapLocked(e, since)
	}
}

func earlier(a, b time.Time) time.Time {
	if b.Before(a) {
		return b
	}
	return a
}

func later(a, b time.Time) time.Time {
	if b.After(a) {
		return b
	}
	return a
}
