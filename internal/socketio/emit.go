// Emitting with offsets: the events of a namespace that recovers.

package socketio

import (
	"bytes"
	"encoding/json"
	"slices"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/eventlog"
)

// Outgoing is an event to emit. Its arguments, which are JSON texts and may refer to attachments, are
// passed beside it: in it the slice would be on the heap, because the key is.
type Outgoing struct {
	Name        string
	Attachments [][]byte
	Volatile    bool
	Key         string // see Message.Key
}

// EmitEvent encodes an event and queues it once on every selected socket. If the namespace
// recovers, the log keeps the event, unless it is volatile. It returns the number of sockets that
// took it, and the size of what most of them get.
func (n *Namespace) EmitEvent(t Target, e *Outgoing, args []json.RawMessage) (receivers, size int) {
	if !t.All && len(t.Rooms) == 0 {
		return 0, 0
	}
	if n.log != nil && !e.Volatile {
		if to := n.targetOf(t); e.Key == "" || n.log.Awaited(to) {
			v := n.append(to, e, args)
			defer n.log.Done(v.at)
			return n.emitVersions(t, v), SizeOf(v.logged)
		}
	}
	var one [1]*Message
	ms := e.encode(one[:0], n.name, n.terminated(args))
	return n.Emit(t, ms...), SizeOf(ms)
}

func (n *Namespace) targetOf(t Target) eventlog.Target {
	to := eventlog.Target{Namespace: n.name, Rooms: t.Rooms, Except: t.Except}
	if t.All {
		to.Rooms = nil
	}
	return to
}

// SizeOf returns the number of bytes of messages.
func SizeOf(ms []*Message) (size int) {
	for _, m := range ms {
		size += m.Size()
	}
	return size
}

// Wanted reports whether a socket of this node, or a client that is away, may receive what is
// emitted to a target.
func (n *Namespace) Wanted(t Target) bool {
	if t.All {
		return n.log != nil || n.Len() > 0
	}
	for {
		moves := n.log.moves()
		switch {
		case slices.ContainsFunc(t.Rooms, n.Has), n.log.awaits(n.targetOf(t)):
			return true
		case moves == n.log.moves():
			return false
		}
		// A socket has left its rooms, or has returned to them, between the two looks.
	}
}

// EmitEvent is EmitEvent of the namespace for one socket. It reports whether the socket took the
// event, and its size.
func (s *Socket) EmitEvent(e *Outgoing, args []json.RawMessage) (took bool, size int) {
	if s.mem == nil || s.Closed() {
		var one [1]*Message
		ms := e.encode(one[:0], s.ns.name, args)
		return s.Send(ms...), SizeOf(ms)
	}
	v := s.ns.append(eventlog.Target{Namespace: s.ns.name, Rooms: []string{s.ID()}}, e, args)
	defer s.ns.log.Done(v.at)
	s.ns.log.Selected(v.at)
	if took = s.Send(v.of(s.mem.offsets)...); !took {
		s.missed(v.at)
	}
	return took, SizeOf(v.logged)
}

// First returns one of the events with which a socket begins, and which the log does not keep. It is
// called when the socket has joined its rooms, after Catch if it was resumed.
func (s *Socket) First(name string, arg json.RawMessage) []*Message {
	e, args := Outgoing{Name: name}, []json.RawMessage{arg}
	if s.mem == nil {
		return e.encode(nil, s.ns.name, args)
	}
	v := &versions{n: s.ns, e: e, args: args, at: s.ns.log.Mark()}
	v.label()
	return v.of(s.offsets())
}

// FirstRequired is First for an event without which the client cannot recover.
func (s *Socket) FirstRequired(name string, arg json.RawMessage) []*Message {
	ms := s.First(name, arg)
	if s.mem != nil {
		s.mu.Lock()
		defer s.mu.Unlock()
		s.mem.least = ms[0].At
	}
	return ms
}

func (s *Socket) offsets() Offsets {
	if s.mem == nil {
		return NoOffsets
	}
	return s.mem.offsets
}

// emitVersions queues the version of each client once on every selected socket, and returns the number of
// sockets that took it.
func (n *Namespace) emitVersions(t Target, v *versions) (receivers int) {
	found := selections.Get().(*[]*Socket) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	*found = n.appendSelected((*found)[:0], t)
	n.log.Selected(v.at)
	for _, s := range *found {
		if s.Send(v.of(s.offsets())...) {
			receivers++
		} else {
			s.missed(v.at)
		}
	}
	clear(*found)
	selections.Put(found)
	return receivers
}

// terminated returns the arguments of an event without an offset. They do not end in a string, which a
// client would take for an offset.
func (n *Namespace) terminated(args []json.RawMessage) []json.RawMessage {
	if n.log != nil && len(args) > 0 && bytes.HasPrefix(args[len(args)-1], []byte{'"'}) {
		return append(slices.Clip(args), json.RawMessage("null"))
	}
	return args
}

// versions are the encodings of one event that has a position.
type versions struct {
	n      *Namespace
	e      Outgoing
	args   []json.RawMessage
	at     uint64
	logged []*Message // with the offset inside, or of an event with a key without one
	plain  []*Message // nil until needed
	behind []*Message // likewise
}

// append adds an event to the log. It copies what it is given, so that without a log nothing of it is on
// the heap.
func (n *Namespace) append(to eventlog.Target, e *Outgoing, args []json.RawMessage) *versions {
	v := &versions{n: n, e: *e, args: slices.Clone(args)}
	var digits []byte
	if e.Key != "" {
		v.logged = e.encode(nil, n.name, n.terminated(v.args))
		v.plain, v.behind = v.logged, v.logged
	} else {
		v.logged, digits = v.encodeInside()
	}
	v.at = n.log.Append(to, e.Key, SizeOf(v.logged), v.logged, digits)
	place(v.logged, v.at)
	return v
}

// place sets the position of messages.
func place(ms []*Message, at uint64) []*Message {
	for _, m := range ms {
		m.At = at
	}
	return ms
}

// encodeInside encodes the event with its offset, and returns where the digits of the position
// belong.
func (v *versions) encodeInside() (ms []*Message, digits []byte) {
	e := &v.e
	b := engineio.TextBuffer(sizeHint(v.n.name, e.Name, v.args) + offsetLength + len(`,""`))
	b = appendEvent(b, v.n.name, NoID, len(e.Attachments), e.Name, v.args)
	b = append(b[:len(b)-1], `,"`...) // without its bracket
	b = append(b, v.n.log.epoch...)
	b = append(b, `00000000000"]`...)
	eventlog.PutPosition(b[len(b)-len(`"]`)-eventlog.Digits:], v.at)
	ms = make([]*Message, 0, 1+len(e.Attachments))
	ms = append(ms, engineio.TextMessage(b))
	for _, a := range e.Attachments {
		ms = append(ms, engineio.BinaryMessage(a))
	}
	end := len(b) - len(`"]`)
	return ms, b[end-eventlog.Digits : end]
}

// label encodes an event that the log does not keep.
func (v *versions) label() {
	v.logged, _ = v.encodeInside()
	place(v.logged, v.at)
}

// of returns the messages for a client.
func (v *versions) of(o Offsets) []*Message {
	if o == OffsetsInside {
		return v.logged
	}
	if v.plain == nil {
		v.plain = place(v.e.encode(nil, v.n.name, v.args), v.at)
	}
	if o == NoOffsets {
		return v.plain
	}
	if v.behind == nil {
		offset := v.n.log.offset(v.at)
		v.behind = append(slices.Clip(v.plain), place([]*Message{EventMessage(v.n.name, NoID, OffsetEvent, JSONString(offset))}, v.at)...)
	}
	return v.behind
}

// encode returns the messages of an event.
func (e *Outgoing) encode(dst []*Message, namespace string, args []json.RawMessage) []*Message {
	ms := AppendEventMessages(dst, namespace, NoID, e.Name, args, e.Attachments)
	for _, m := range ms {
		m.Volatile = e.Volatile
	}
	if len(ms) == 1 {
		ms[0].Key = e.Key
	}
	return ms
}
