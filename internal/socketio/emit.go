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
	// Mark is what Share got on the node that has emitted the event, if it was another one. Foreign says that there is none, because
	// the other node marks no events.
	Mark    string
	Foreign bool
	// Here says that the event is only for the sockets of the node that has emitted it.
	Here bool
	// Share hands the event to the other nodes, if it is not nil. It is called once, for an event that the
	// log keeps with its mark, while no other event of the namespace is emitted. So it must not
	// block, nor call the namespace.
	Share func(mark string)
}

// share calls Share.
func (e *Outgoing) share(mark string) {
	if e.Share != nil {
		e.Share(mark)
	}
}

// EmitEvent encodes an event and queues it once on every selected socket. If the namespace
// recovers, the log keeps the event, unless it is volatile. It returns the number of sockets that
// took it, and the size of what most of them get.
func (n *Namespace) EmitEvent(t Target, e *Outgoing, args []json.RawMessage) (receivers, size int) {
	if !t.All && len(t.Rooms) == 0 {
		return 0, 0
	}
	if n.log == nil || e.Volatile || e.Key != "" && !n.log.Awaited(targetOf(t)) {
		var one [1]*Message
		ms := e.encode(one[:0], n.name, n.terminated(args))
		receivers, size = n.Emit(t, ms...), SizeOf(ms)
		e.share("")
		return receivers, size
	}
	v := n.begin(targetOf(t), e, args)
	defer n.log.End()
	receivers = n.emitKept(t, v)
	v.share()
	return receivers, SizeOf(v.kept)
}

func targetOf(t Target) eventlog.Target {
	to := eventlog.Target{Rooms: t.Rooms, Except: t.Except}
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

// loadOf returns what messages take in an outbox.
func loadOf(ms []*Message) (of eventlog.Load) {
	for _, m := range ms {
		of = of.And(eventlog.Load{Messages: 1, Bytes: m.Queued()})
	}
	return of
}

// Wanted reports whether a socket of this node, or a client that is away from it, may receive what is
// emitted to a target.
func (n *Namespace) Wanted(t Target) bool {
	if t.All {
		return n.log != nil || n.Len() > 0
	}
	for {
		moves := n.log.moves()
		switch {
		case slices.ContainsFunc(t.Rooms, n.Has), n.log.awaits(targetOf(t)):
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
	v := s.ns.begin(eventlog.Target{Rooms: []string{s.ID()}}, e, args)
	defer s.ns.log.End()
	took = s.receive(v)
	v.share()
	return took, SizeOf(v.kept)
}

// First returns one of the events with which a socket begins, and which the log does not keep. It is
// called when the socket has joined its rooms, after Catch if it was resumed.
func (s *Socket) First(name string, arg json.RawMessage) []*Message {
	return s.firstAt(name, arg, 0)
}

// FirstRequired is First for the last one of the events without which the client cannot recover.
func (s *Socket) FirstRequired(name string, arg json.RawMessage) []*Message {
	if s.mem != nil {
		s.mem.require(s.ns.log)
	}
	return s.firstAt(name, arg, 1)
}

func (s *Socket) firstAt(name string, arg json.RawMessage, after uint64) []*Message {
	e, args := Outgoing{Name: name}, []json.RawMessage{arg}
	if s.mem == nil {
		return e.encode(nil, s.ns.name, args)
	}
	v := &versions{n: s.ns, e: e, args: args, label: s.ns.log.Label(s.mem.start + after)}
	v.kept = v.inside()
	return v.of(s.mem.offsets)
}

// emitKept queues the version of each client once on every selected socket, and returns the number of
// sockets that took it.
func (n *Namespace) emitKept(t Target, v *versions) (receivers int) {
	found := selections.Get().(*[]*Socket) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	*found = n.appendSelected((*found)[:0], t)
	for _, s := range *found {
		if s.receive(v) {
			receivers++
		}
	}
	clear(*found)
	selections.Put(found)
	return receivers
}

// receive queues the version of a socket's client, between begin and the end of an emit.
func (s *Socket) receive(v *versions) bool {
	if s.mem == nil {
		return s.Send(v.of(NoOffsets)...)
	}
	switch s.mem.receives(v) {
	case caught:
		return true
	case known:
		return false
	}
	return s.Send(v.of(s.mem.offsets)...)
}

// terminated returns the arguments of an event without an offset. They do not end in a string, which a
// client would take for an offset.
func (n *Namespace) terminated(args []json.RawMessage) []json.RawMessage {
	if n.log != nil && len(args) > 0 && bytes.HasPrefix(args[len(args)-1], []byte{'"'}) {
		return append(slices.Clip(args), json.RawMessage("null"))
	}
	return args
}

// versions are the encodings of one event that the log keeps, or that has a label.
type versions struct {
	n      *Namespace
	e      Outgoing
	args   []json.RawMessage
	at     uint64
	origin eventlog.Origin
	step   eventlog.Step // of an event of this node
	label  string        // empty for an event with a key, which has no offset
	kept   []*Message    // with the offset inside, or of an event with a key without one
	plain  []*Message    // nil until needed
	behind []*Message    // likewise
}

// begin begins to emit an event: it encodes it, and adds it to the log. The caller calls log.End. It copies what
// it is given, so that without a log nothing of it is on the heap.
func (n *Namespace) begin(to eventlog.Target, e *Outgoing, args []json.RawMessage) *versions {
	v := &versions{n: n, e: *e, args: slices.Clone(args)}
	v.at = n.log.Begin()
	v.origin = eventlog.Origin{Here: e.Here}
	if step, ok := eventlog.ParseStep(e.Mark); ok {
		n.log.Hear(step)
		v.origin.Mark = step.Mark
	} else {
		v.origin.Unknown = e.Foreign || e.Mark != ""
	}
	v.step = n.log.Step(v.at)
	if e.Key != "" {
		v.kept = e.encode(nil, n.name, n.terminated(v.args))
		v.plain, v.behind = v.kept, v.kept
	} else {
		var space [64]byte
		v.label = string(n.log.AppendLabel(space[:0], v.at))
		v.kept = v.inside()
	}
	n.log.Keep(eventlog.Entry[[]*Message]{Event: v.kept, To: to, Key: e.Key, Load: loadOf(v.kept), Origin: v.origin})
	return v
}

// share hands an event of this node to the others.
func (v *versions) share() {
	mark := ""
	if v.label != "" {
		mark = v.step.String()
	}
	v.e.share(mark)
}

// inside encodes the event with its label as the last argument.
func (v *versions) inside() []*Message {
	e := &v.e
	b := engineio.TextBuffer(sizeHint(v.n.name, e.Name, v.args) + len(v.label) + len(`,""`))
	b = appendEvent(b, v.n.name, NoID, len(e.Attachments), e.Name, v.args)
	b = append(b[:len(b)-1], `,"`...) // without its bracket
	b = append(b, v.label...)
	b = append(b, `"]`...)
	ms := make([]*Message, 0, 1+len(e.Attachments))
	ms = append(ms, engineio.TextMessage(b))
	for _, a := range e.Attachments {
		ms = append(ms, engineio.BinaryMessage(a))
	}
	return ms
}

// of returns the messages for a client.
func (v *versions) of(o Offsets) []*Message {
	if o == OffsetsInside {
		return v.kept
	}
	if v.plain == nil {
		v.plain = v.e.encode(nil, v.n.name, v.args)
	}
	if o == NoOffsets {
		return v.plain
	}
	if v.behind == nil {
		v.behind = append(slices.Clip(v.plain), EventMessage(v.n.name, NoID, OffsetEvent, JSONString(v.label)))
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
