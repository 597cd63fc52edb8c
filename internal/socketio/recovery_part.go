// Parts: what the log of a node lacks for a client, because the node has begun lately or had a gap, another
// one has.

package socketio

import (
	"encoding/json"
	"time"

	"github.com/rodando/realtime/internal/eventlog"
)

// Part is what another node has of the events that a client has missed.
type Part = eventlog.Part[[]*Message]

// Replayed is an event that a client has missed. Its last argument is the offset.
type Replayed struct {
	Name        string
	Args        []json.RawMessage
	Attachments [][]byte
}

// Size returns about how many bytes the event has.
func (e Replayed) Size() int {
	size := len(e.Name)
	for _, arg := range e.Args {
		size += len(arg)
	}
	for _, a := range e.Attachments {
		size += len(a)
	}
	return size
}

// Lacks reports whether a resumed socket needs a Part. It returns the record and the rooms with which
// another node makes it. ok is false if none can. It is called when the socket has joined the rooms that
// each client joins, before Catch. unshared is as for Received.
func (s *Socket) Lacks(unshared time.Time) (r Record, rooms []string, lacks, ok bool) {
	s.mu.Lock()
	a := s.mem.more.resumed
	rooms = s.roomsLocked()
	s.mu.Unlock()
	r, lacks, ok = s.ns.log.Lacks(a, unshared)
	return r, rooms, lacks, ok
}

// PartFor returns what the client of a record has missed that is in those rooms now, and whose node was
// heard at a time. by is the node that asks: it knows its own events. upto is the label up to which that is complete. ok is false if this node does not have it
// either, or the record is malformed.
func (n *Namespace) PartFor(r Record, heard time.Time, rooms []string, by string) (events []Replayed, upto string, ok bool) {
	a, ok := n.log.OfRecord(r, heard, nil)
	asks, valid := eventlog.ParseEmitter(by)
	if !ok || !valid {
		return nil, "", false
	}
	p, ok := n.log.PartOf(a, rooms, asks)
	if !ok {
		return nil, "", false
	}
	events = make([]Replayed, len(p.Events))
	for i, ms := range p.Events {
		events[i] = replayed(ms)
	}
	return events, p.Upto, true
}

// replayed returns the content of an event of this node's log.
func replayed(ms []*Message) (e Replayed) {
	var p Packet
	text := ms[0].Data()
	n := len(text)
	if p.Parse(text, Limits{Attachments: len(ms), Depth: n, Values: n, EventName: n, Namespace: n}) != nil { // cannot happen: it is encoded here
		return e
	}
	e.Name = string(p.Name)
	for _, arg := range p.Args {
		e.Args = append(e.Args, arg)
	}
	for _, m := range ms[1:] {
		e.Attachments = append(e.Attachments, m.Data())
	}
	return e
}

// Part returns the part of another node, for Catch. It is nil if an event has no offset.
func (n *Namespace) Part(events []Replayed, rooms []string, upto string) *Part {
	p := &Part{Rooms: rooms, Upto: upto}
	for _, e := range events {
		if !n.hasLabel(e) {
			return nil
		}
		ms := EventMessages(n.name, NoID, e.Name, e.Args, e.Attachments)
		p.Events, p.Load = append(p.Events, ms), p.Load.And(loadOf(ms))
	}
	if _, ok := n.log.Seen(upto); !ok {
		return nil
	}
	return p
}

// hasLabel reports whether the last argument of an event is a label.
func (n *Namespace) hasLabel(e Replayed) bool {
	var label string
	if len(e.Args) == 0 || json.Unmarshal(e.Args[len(e.Args)-1], &label) != nil {
		return false
	}
	_, ok := n.log.Seen(label)
	return ok
}
