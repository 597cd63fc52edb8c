// A connection's backlog: the events that wait for their handlers, and when the
// client is read no further because of them.

package socketio

import "unsafe"

// backlog is what waits on a connection. Conn.mu guards it.
//
// A client that sends faster than its handlers work is held back: reading pauses
// when more than Config.QueuedEvents or QueuedBytes wait, until half of that is
// done. A pause also keeps the client's acks from being read, so there is none
// while one is awaited, or a handler that asks its own client would wait for what
// stands behind the events that wait for the handler. What bounds the memory then
// is that an event beyond QueuedBytes is refused: the Overflow hook gets it.
type backlog struct {
	events      int // in all queues
	bytes       int // what they hold, and the packet whose attachments are arriving
	awaitedAcks int // acks
	overLimit   bool
	refusing    bool // an event was refused since the backlog was last within its limits

	paused   bool // what the session was told last
	settling bool // somebody is telling it
}

// addLocked counts events in or out, and what they hold.
func (c *Conn) addLocked(events, bytes int) {
	b, cfg := &c.backlog, &c.srv.cfg
	b.events += events
	b.bytes += bytes
	switch {
	case b.events == 0, b.events <= cfg.QueuedEvents/2 && b.bytes <= cfg.QueuedBytes/2:
		// Without an event nobody would end a pause.
		b.overLimit, b.refusing = false, false
	case b.events > cfg.QueuedEvents, b.bytes > cfg.QueuedBytes:
		b.overLimit = true
	}
}

// unsettled reports whether settle has something to do.
func (b *backlog) unsettled() bool {
	return b.paused != (b.overLimit && b.awaitedAcks == 0) && !b.settling
}

// queued counts an event in, unless it is one too many, and reports whether it
// was. An idle socket is put on the list for Serve.
func (c *Conn) countIn(s *Socket, size int, idle bool) (took, unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.backlog
	if b.awaitedAcks > 0 && b.events > 0 && b.bytes+size > c.srv.cfg.QueuedBytes {
		if !b.refusing {
			b.refusing = true
			c.limitedLocked("QueuedEvents")
		}
		return false, b.unsettled()
	}
	c.addLocked(1, size)
	if idle {
		s.next, c.ready = c.ready, s
	}
	return true, b.unsettled()
}

// taken counts an event out.
func (c *Conn) countOut(size int) (unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(-1, -size)
	return c.backlog.unsettled()
}

// collecting counts what a packet holds whose attachments are arriving.
func (c *Conn) countPartial(size int) {
	c.mu.Lock()
	c.addLocked(0, size)
	unsettled := c.backlog.unsettled()
	c.mu.Unlock()
	if unsettled {
		c.settle()
	}
}

// awaiting counts acks that are awaited, or no longer are.
func (c *Conn) countAwaited(n int) (unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backlog.awaitedAcks += n
	return c.backlog.unsettled()
}

// settle makes the session pause or read on. The caller holds no lock. Of several
// callers one does it, so that the session hears last what was decided last.
func (c *Conn) settle() {
	c.mu.Lock()
	for b := &c.backlog; b.unsettled(); {
		b.paused, b.settling = !b.paused, true
		paused := b.paused
		c.mu.Unlock()
		if paused {
			c.session.Pause()
		} else {
			c.session.Resume()
		}
		c.mu.Lock()
		b.settling = false
	}
	c.mu.Unlock()
}

const (
	// eventSize is what an Event takes, as the allocator rounds it.
	eventSize = (int(unsafe.Sizeof(Event{})) + 15) &^ 15
	sliceSize = int(unsafe.Sizeof([]byte{}))
)

// sizeOf returns the memory that an event without attachments holds: itself, its
// packet, and its arguments where they are too many for Event.room.
func sizeOf(e *Event, packet []byte) int {
	size := eventSize + cap(packet) + (len(e.Name)+15)&^15
	if cap(e.Args) > len(e.argsBuf) {
		size += cap(e.Args) * sliceSize
	}
	return size
}

// attach adds an attachment, which is the event's from now on, and returns what
// that has added to its size.
func (e *Event) attach(data []byte) (added int) {
	before := cap(e.Attachments)
	e.Attachments = append(e.Attachments, data)
	added = (cap(e.Attachments)-before)*sliceSize + cap(data)
	e.size += added
	return added
}
