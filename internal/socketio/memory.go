// Memory: what a socket remembers for recovery. The namespace's log guards it.

package socketio

import (
	"slices"

	"github.com/rodando/realtime/internal/eventlog"
)

// memory is what a socket remembers for recovery. After Admit it changes only while the namespace's log
// emits nothing, but for offsets, which does not change.
type memory struct {
	secret   [20]byte
	offsets  Offsets
	unusual  bool   // more says which events it does not get
	required bool   // the client cannot recover without the event behind start
	start    uint64 // the position of hello; that of the last event without which the client cannot recover is one higher
	trail    eventlog.Trail
	more     *memories
}

// memories is the part of a memory that most sockets of a single node do not have.
type memories struct {
	label   string                   // see eventlog.Away; empty unless the log keeps everything
	joined  map[string]eventlog.Room // the rooms that it has joined since it was opened
	former  []string                 // rooms that it has left
	turn    int                      // see eventlog.Away
	since   eventlog.Seen            // likewise, of a socket that was resumed
	beyond  string                   // likewise
	after   eventlog.Mark            // likewise
	resumed *Away                    // the socket that this one is, until Catch
	left    *Away                    // after the end: the socket itself
	ahead   []eventlog.Mark          // see eventlog.Caught
}

// further returns the part of the memory that is not there at first.
func (m *memory) further() *memories {
	if m.more == nil {
		m.more = &memories{}
	}
	return m.more
}

// What a socket does with an event for which it was selected.
const (
	live   = iota // it gets it
	caught        // Catch returns it
	known         // its client has received it from another node
)

// receives returns what the socket does with an event.
func (m *memory) receives(v *versions) int {
	if m.unusual {
		switch o := m.more; {
		case o.resumed != nil:
			return caught
		case slices.ContainsFunc(o.ahead, func(k eventlog.Mark) bool { return k.Emitter == v.origin.Emitter && k.At >= v.origin.At }):
			return known
		}
	}
	if v.label != "" {
		v.n.log.Queued(&m.trail, v.at)
	}
	return live
}

// require says that the client cannot recover without the event behind start.
func (m *memory) require(l *recoveryLog) {
	l.Pause()
	defer l.End()
	m.required = true
}

// joins records that the socket joins a room after a position. It is called while the log emits
// nothing.
func (s *Socket) joins(room string, at uint64) {
	more := s.mem.further()
	r := eventlog.Room{Name: room, Since: eventlog.Seen{At: at}, Again: slices.Contains(more.former, room)}
	if s.ns.Keeps() {
		r.Label = string(s.ns.log.AppendLabel(nil, at))
	}
	s.keepsRoom(r)
}

// keepsRoom records a room that the socket was in before it was resumed.
func (s *Socket) keepsRoom(r eventlog.Room) {
	more := s.mem.further()
	if more.joined == nil {
		more.joined = map[string]eventlog.Room{}
	}
	more.joined[r.Name] = r
}

// leaves is called after the socket has left a room.
func (s *Socket) leaves(room string) {
	m := s.mem
	if m == nil {
		return
	}
	s.ns.log.Pause()
	defer s.ns.log.End()
	more := m.further()
	delete(more.joined, room)
	if !slices.Contains(more.former, room) {
		if len(more.former) == eventlog.MaxFormer {
			more.former = slices.Delete(more.former, 0, 1)
		}
		more.former = append(more.former, room)
	}
}

// joining is called before the socket joins a room.
func (s *Socket) joining(room string) {
	m := s.mem
	if m == nil {
		return
	}
	at := s.ns.log.Pause()
	defer s.ns.log.End()
	if s.Opened() || m.more != nil && m.more.turn > 0 {
		s.joins(room, at)
	}
}

// roomsLocked returns the names of the rooms, and the socket's id.
func (s *Socket) roomsLocked() []string {
	names := make([]string, 0, len(s.rooms)+1)
	for _, m := range s.rooms {
		names = append(names, m.room.name)
	}
	return append(names, s.id)
}

// away describes the socket, which is in those rooms. It is called while the log emits nothing.
func (s *Socket) away(rooms []string) *Away {
	m := s.mem
	a := &Away{ID: idOf(m.secret), Socket: s.id, Since: eventlog.Seen{At: m.start}, Trail: m.trail, Base: m.start}
	more := m.more
	if more == nil {
		more = &memories{}
	}
	a.Turn, a.Label, a.Former = more.turn, more.label, slices.Clone(more.former)
	if more.turn > 0 {
		a.Since, a.Beyond, a.After = more.since, more.beyond, more.after
	}
	if m.required {
		a.Least = s.ns.log.Mark(m.start + 1)
	}
	for _, name := range rooms {
		r, ok := more.joined[name]
		if !ok {
			r.Name = name
		}
		a.Rooms = append(a.Rooms, r)
	}
	return a
}
