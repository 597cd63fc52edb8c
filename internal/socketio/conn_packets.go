// The packets of a connection, from the engine to the socket that they are for. Binary packets
// arrive in parts.

package socketio

import (
	"bytes"
	"errors"

	"github.com/rodando/realtime/internal/engineio"
)

// partialPacket is a binary packet whose attachments are still arriving. Nothing is kept of one
// whose event exceeds a limit.
type partialPacket struct {
	packet   Packet
	event    *Event
	arrived  int  // number of attachments that have arrived
	bytes    int  // of the attachments that have arrived
	reserved int  // bytes reserved in the engine for incomplete messages
	ignored  bool // the client has left the namespace, or it is an ack that exceeds a limit: nothing is kept
}

var (
	errBinary      = errors.New("binary data that nothing announced")
	errExpected    = errors.New("text where an attachment is due")
	errNamespaceUp = errors.New("second connect of a namespace")
	errNotJoined   = errors.New("packet for a namespace never joined")
	errIncoming    = errors.New("too much of incomplete packets")
	errNamespaces  = errors.New("too many namespaces")
	errMalformed   = errors.New("a malformed packet or frame")
)

// Message implements engineio.Handler.
func (c *Conn) Message(data []byte, binary bool) error {
	err := c.message(data, binary)
	if err != nil {
		broken := err
		switch {
		case limitOf(err) != 0:
			broken, err = nil, engineio.ErrTooBig // the limit is reported
		case errors.Is(err, errIncoming):
			broken = nil // likewise
		}
		c.fail(broken)
	}
	return err
}

func (c *Conn) message(data []byte, binary bool) error {
	if binary {
		return c.handleAttachment(data)
	}
	if c.partial != nil {
		return errExpected
	}
	e := &Event{}
	p := Packet{Args: e.argsBuf[:0]}
	limits := c.srv.cfg.Limits
	if c.isEIO3() {
		limits.Namespace += c.srv.cfg.EIO3Query
	}
	// The event outlives data, which belongs to the engine.
	packet := bytes.Clone(data)
	if err := p.Parse(packet, limits); err != nil {
		if l := limitOf(err); l != 0 {
			c.limited(nil, l)
		}
		over := p.overLimit(err)
		if over == 0 {
			return err
		}
		p.exceed(over, e, string(p.Name))
	} else {
		e.id, e.Args, e.Name = p.ID, p.Args, string(p.Name)
		e.size = sizeOf(e, packet)
	}
	if p.Attachments == 0 {
		return c.dispatch(&p, e)
	}
	_, stale, err := c.receiver(&p)
	if err != nil {
		return err // before anything is kept for a client that has not logged in
	}
	in := &partialPacket{packet: p, event: e, ignored: stale || e.Over != 0 && p.Type == PacketBinaryAck}
	c.partial = in
	if in.ignored {
		in.packet, in.event = Packet{Attachments: p.Attachments}, nil
		return nil
	}
	c.countPartial(e.size)
	return c.reserve(in)
}

// reserve has the engine count what is kept of an incomplete packet.
func (c *Conn) reserve(in *partialPacket) error {
	n := engineio.CountedSize(in.event.size)
	added := n - in.reserved
	in.reserved = n
	if added != 0 && !c.session.Reserve(added) {
		return errIncoming
	}
	return nil
}

// handleAttachment handles a binary message: the next attachment of the incomplete packet.
func (c *Conn) handleAttachment(data []byte) error {
	in := c.partial
	if in == nil {
		return errBinary
	}
	if in.bytes += len(data); in.bytes > c.srv.cfg.AttachmentBytes && !in.ignored && in.event.Over == 0 {
		c.limited(nil, LimitAttachmentBytes)
		c.exceed(in)
	}
	in.arrived++
	complete := in.arrived == in.packet.Attachments
	if complete {
		c.partial = nil
	}
	if in.ignored {
		return nil
	}
	added := 0
	if in.event.Over == 0 {
		added = in.event.attach(bytes.Clone(data))
	}
	if !complete {
		c.countPartial(added)
		return c.reserve(in)
	}
	if in.reserved > 0 {
		c.session.Reserve(-in.reserved)
	}
	c.countPartial(added - in.event.size) // from now on it counts as a queued event
	return c.dispatch(&in.packet, in.event)
}

// exceed drops what p contains, and makes e its event, because it exceeds a limit. e.size counts
// the bytes that they still refer to.
func (p *Packet) exceed(over Limit, e *Event, name string) {
	namespace := bytes.Clone(p.Namespace)
	*p = Packet{Type: p.Type, Namespace: namespace, ID: p.ID, Attachments: p.Attachments}
	*e = Event{id: p.ID, Name: name, Over: over}
	e.size = sizeOf(e, namespace)
}

// exceed drops what is kept of an incomplete packet, whose attachments are too large together.
// Its event is refused when all of them have arrived.
func (c *Conn) exceed(in *partialPacket) {
	if in.reserved > 0 {
		c.session.Reserve(-in.reserved)
		in.reserved = 0
	}
	e := &Event{}
	in.packet.exceed(LimitAttachmentBytes, e, in.event.Name)
	c.countPartial(e.size - in.event.size)
	in.event = e
	in.ignored = in.packet.Type == PacketBinaryAck
	if in.ignored {
		c.countPartial(-e.size)
	}
}

// dispatch handles a complete packet. Its arguments and attachments are in e.
func (c *Conn) dispatch(p *Packet, e *Event) error {
	if p.Type == PacketConnect {
		if c.isEIO3() {
			return c.connectEIO3(p)
		}
		return c.connect(string(p.Namespace), p.Data)
	}
	s, stale, err := c.receiver(p)
	if stale || err != nil {
		return err
	}
	switch p.Type {
	case PacketDisconnect:
		s.end(ReasonClient)
	case PacketEvent, PacketBinaryEvent:
		e.socket = s
		s.enqueue(e)
	case PacketAck, PacketBinaryAck:
		if e.Over == 0 { // otherwise the query ends as if there were no ack
			s.handleAck(e)
		}
	default: // CONNECT was handled above, and Parse accepts no CONNECT_ERROR
	}
	return nil
}

// receiver returns the socket that a packet is for. stale says that the packet is
// ignored: the client has left the namespace, or the connection is closed.
func (c *Conn) receiver(p *Packet) (s *Socket, stale bool, err error) {
	c.mu.Lock()
	s = c.socketLocked(p.Namespace)
	stale = c.closed || s == nil && (c.wasInLocked(p.Namespace) || c.isEIO3() && isRoot(p.Namespace))
	c.mu.Unlock()
	switch {
	case stale:
		return nil, true, nil
	case s == nil, s.handshaking() && p.Type != PacketDisconnect:
		return nil, false, errNotJoined
	}
	return s, false, nil
}
