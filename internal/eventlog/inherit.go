// Inheritance: a node that begins gets the events that another one keeps, so that it has them when that node
// is gone.

package eventlog

import (
	"cmp"
	"slices"
	"strings"
	"time"
)

// Inherited is an event of another node's log. Its label is in the event.
type Inherited[M any] struct {
	Entry[M]
	Ago time.Duration // how long ago it came
}

// State is what the log of a node knows, apart from its events.
type State struct {
	Age      time.Duration // since when it has been complete
	Known    []Known       // the node itself, too
	Unmarked bool          // see Log
	Deaf     time.Duration // since the last gap of all nodes; 0: there was none
}

// Known is what a log knows of a node.
type Known struct {
	Mark     Mark
	Floor    uint64        // see emitter
	FloorAgo time.Duration // likewise
	Lost     uint64        // events after this position were lost
	LostAgo  time.Duration // and came before; 0: none were
	Ago      time.Duration // since it was heard
	Lacks    bool          // events after Mark may be missing too
	Gone     bool          // it has ended
	GoneAgo  time.Duration // when that was known
}

// Page returns at most n events after a position, of about bytes together with their rooms, and the position from which
// the next page goes on. At the end of the log it returns what the log knows, too.
func (l *Log[M]) Page(after uint64, n, bytes int) (events []Inherited[M], next uint64, end *State) {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.cfg.Now()
	kept := l.entries[l.skip:]
	first, _ := slices.BinarySearchFunc(kept, after+1, func(e entry[M], at uint64) int { return cmp.Compare(e.pos, at) })
	size := 0
	for i := range kept[first:] {
		if len(events) == n || size >= bytes {
			return events, after, nil
		}
		e := &kept[first+i]
		events, after = append(events, Inherited[M]{e.Entry, now.Sub(e.at)}), e.pos
		size += e.Load.Bytes + e.To.Size()
	}
	end = &State{Age: now.Sub(l.began), Unmarked: l.unmarked}
	if !l.deaf.when.IsZero() {
		end.Deaf = max(now.Sub(l.deaf.when), time.Millisecond)
	}
	for _, e := range append(slices.Clip(l.others), l.self) {
		k := Known{Mark: e.Mark, Floor: e.floor, FloorAgo: now.Sub(e.floorAt), Lacks: !e.deafened.IsZero()}
		if !e.loss.before.IsZero() {
			k.Lost, k.LostAgo = e.loss.after, max(now.Sub(e.loss.before), time.Millisecond)
		}
		if e == l.self {
			k.Mark.At = l.head
		} else {
			k.Ago = now.Sub(e.last)
		}
		if k.Gone = !e.gone.IsZero(); k.Gone {
			k.GoneAgo = now.Sub(e.gone)
		}
		end.Known = append(end.Known, k)
	}
	return events, after, end
}

// Heritage is what has come so far of the log of another node. It keeps the newest events, as many as the log may have that
// inherits them: that would drop the others. Only one goroutine uses it.
type Heritage[M any] struct {
	l       *Log[M]
	began   time.Time
	events  []Inherited[M] // with their age when it began
	bytes   int            // of memory
	dropped map[Emitter]dropped
}

// dropped is the newest event of a node that was dropped.
type dropped struct {
	at  uint64
	ago time.Duration // when the heritage began
}

// Heritage returns an empty heritage for this log.
func (l *Log[M]) Heritage() *Heritage[M] {
	return &Heritage[M]{l: l, began: l.cfg.Now(), dropped: map[Emitter]dropped{}}
}

// Add adds the next event.
func (h *Heritage[M]) Add(e Inherited[M]) {
	e.Ago -= h.age()
	h.events, h.bytes = append(h.events, e), h.bytes+e.memory()
	for h.l.cfg.Budget.less(len(h.events), h.bytes) {
		h.drop()
	}
}

func (h *Heritage[M]) age() time.Duration { return h.l.cfg.Now().Sub(h.began) }

// drop drops the oldest event.
func (h *Heritage[M]) drop() {
	e := h.events[0]
	h.events[0], h.events, h.bytes = Inherited[M]{}, h.events[1:], h.bytes-e.memory()
	if m := e.Origin.Mark; h.dropped[m.Emitter].at < m.At {
		h.dropped[m.Emitter] = dropped{m.At, e.Ago}
	}
}

// Inherit adds what has come to the log, with what the other log knows. See Log.Inherit. ok is false, too, if the other log has
// forgotten the node of an event that was dropped.
func (h *Heritage[M]) Inherit(s State, relabel func(e M, label string) M) (ok bool) {
	age := h.age()
	if s, ok = h.without(s, age); !ok {
		return false
	}
	for i := range h.events {
		h.events[i].Ago += age
	}
	return h.l.Inherit(h.events, s, relabel)
}

// without returns what a log knows that does not have the events which were dropped.
func (h *Heritage[M]) without(s State, age time.Duration) (less State, ok bool) {
	s.Known = slices.Clone(s.Known)
	for i := range s.Known {
		k := &s.Known[i]
		if d := h.dropped[k.Mark.Emitter]; d.at > k.Floor {
			k.Floor, k.FloorAgo = d.at, d.ago+age
		}
		delete(h.dropped, k.Mark.Emitter)
	}
	return s, len(h.dropped) == 0
}

// Inherits reports whether the log has a place for the events of another one. After a gap, and when it has dropped events
// itself, it has none any more: they would not come right before its own.
func (l *Log[M]) Inherits() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.inheritsLocked()
}

func (l *Log[M]) inheritsLocked() bool { return l.cfg.First > 0 && l.trimmed == 0 && l.gap == 0 }

// Inherit adds the events of another log, in their order, before those of this one. It is called at most
// once, for a log with Config.First. Whoever replays its events sends the inherited ones first, so the events that
// came meanwhile get new labels: relabel returns an event with another one. ok is false if the events do not
// fit before those of this log.
func (l *Log[M]) Inherit(events []Inherited[M], s State, relabel func(e M, label string) M) (ok bool) {
	l.mu.Lock()
	l.grows.Store(true)
	defer l.grows.Store(false) // when others can lock mu again
	defer l.mu.Unlock()
	now := l.cfg.Now()
	floors := map[Emitter]uint64{} // what this log has by itself begins after these
	for _, e := range l.others {
		if !e.relayed {
			floors[e.Emitter] = e.floor
		}
	}
	events = slices.DeleteFunc(slices.Clone(events), func(e Inherited[M]) bool {
		floor, heard := floors[e.Origin.Emitter]
		return e.Origin.Emitter == l.cfg.Emitter || heard && e.Origin.At > floor && !e.Origin.Unknown
	})
	if uint64(len(events)) >= l.cfg.First || !l.inheritsLocked() {
		return false
	}
	for _, k := range s.Known {
		l.learnLocked(k, now)
	}
	l.unmarked = l.unmarked || s.Unmarked
	if s.Deaf > 0 {
		l.deaf = deafness{l.cfg.First, now.Add(-s.Deaf)}
	}
	l.began = now.Add(-max(s.Age, now.Sub(l.began)))
	l.relabelLocked(relabel, floors)
	l.prependLocked(events, now)
	l.trimLocked(now)
	return true
}

// learnLocked takes over what another log knows of a node.
func (l *Log[M]) learnLocked(k Known, now time.Time) {
	e := l.emitterLocked(k.Mark.Emitter)
	switch {
	case e == l.self, e == nil && len(l.others) == maxEmitters:
		return
	case e == nil:
		e = &emitter{Mark: Mark{Emitter: k.Mark.Emitter}, relayed: true}
		l.others = append(l.others, e)
	}
	if e.relayed {
		if k.Gone {
			e.gone = now.Add(-k.GoneAgo)
		}
		if k.Lacks {
			e.deafened = now
		}
		e.At, e.last, e.relayed = max(e.At, k.Mark.At), now.Add(-k.Ago), false
	}
	if k.Mark.At >= e.floor { // the other log has what was before this one
		e.floor, e.floorAt, e.loss = k.Floor, now.Add(-k.FloorAgo), loss{}
		if k.LostAgo > 0 {
			e.loss = loss{k.Lost, now.Add(-k.LostAgo)}
		}
	}
}

// relabelLocked gives the events that the log has by itself the labels of events that are sent after all inherited ones.
// floors are the newest of them, of the nodes that this log has heard by itself.
func (l *Log[M]) relabelLocked(relabel func(e M, label string) M, floors map[Emitter]uint64) {
	own, later := l.entries[l.skip:], map[*emitter]uint64{} // later is as in labelLocked
	for i := range slices.Backward(own) {
		e := &own[i]
		e.Event = relabel(e.Event, l.labelAfterLocked(e.pos, later, floors))
		if e.emitter != l.self {
			later[e.emitter] = e.Origin.At
		}
	}
}

func (l *Log[M]) labelAfterLocked(at uint64, later map[*emitter]uint64, floors map[Emitter]uint64) string {
	label := string(l.appendLabelLocked(nil, at, later))
	s, _ := l.parse(label)
	b := l.Mark(at).Append(nil)
	for _, m := range s.From {
		m.At = max(m.At, floors[m.Emitter])
		b = m.Append(b)
	}
	if strings.HasSuffix(label, Incomplete) {
		b = append(b, Incomplete...)
	}
	return string(b)
}

// prependLocked adds events before those that are in the log.
func (l *Log[M]) prependLocked(events []Inherited[M], now time.Time) {
	if len(events) > 0 { // before they are too many, so that another log does not take its own events for the oldest ones
		l.first.Store(now.Add(-events[0].Ago).UnixNano())
	}
	at := l.cfg.First - uint64(len(events))
	own := l.entries[l.skip:]
	before := make([]entry[M], 0, len(events)+len(own))
	rooms, kept := map[string][]uint64{}, map[*emitter][]uint64{}
	for _, in := range events {
		e := entry[M]{Entry: in.Entry, pos: at, emitter: l.emitterLocked(in.Origin.Emitter), at: now.Add(-in.Ago)}
		if e.emitter == nil {
			e.emitter, e.Origin.Unknown = l.self, true
		}
		for _, r := range e.To.rooms() {
			if list := rooms[r]; len(list) == 0 || list[len(list)-1] != at {
				rooms[r] = append(list, at)
			}
		}
		kept[e.emitter] = append(kept[e.emitter], at)
		before = append(before, e)
		l.countEventLocked(&e, 1)
		at++
	}
	for r, list := range rooms {
		l.rooms[r] = append(list, l.rooms[r]...)
	}
	for by, list := range kept {
		by.kept = append(list, by.kept...)
	}
	before = append(before, own...)
	l.entries, l.skip = before, 0
	l.storeFirstLocked()
}
