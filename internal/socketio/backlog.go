// The backlog of a connection: the events that wait for their handlers, and the pause
// in reading when there are too many.

package socketio

import "unsafe"

// backlog counts what waits on a connection. Conn.mu guards it.
//
// A client that sends faster than its handlers work is not read: a pause begins when more
// than Config.QueuedEvents or QueuedBytes wait, and ends when half of that is handled. A
// pause also stops the reading of the client's acks. A handler that asks its own client
// would then wait forever: the client's ack comes after events that wait for that
// handler. So there is no pause while an ack is awaited; instead, an event above
// QueuedBytes is refused and passed to the Overflow hook.
type backlog struct {
	events      int  // in all queues of the connection
	bytes       int  // memory of those events and of an incomplete packet
	awaitedAcks int  // acks that the server awaits
	overLimit   bool // a limit was exceeded, and since then the backlog has not fallen to half of both
	refusing    bool // an event was refused since the backlog was last within its limits

	paused   bool // the last call was session.Pause and not Resume
	settling bool // a goroutine is calling the session
}

// addLocked adds events and bytes to the backlog, or subtracts them.
func (c *Conn) addLocked(events, bytes int) {
	b, cfg := &c.backlog, &c.srv.cfg
	b.events += events
	b.bytes += bytes
	switch {
	case b.events == 0, b.events <= cfg.QueuedEvents/2 && b.bytes <= cfg.QueuedBytes/2:
		// No pause without a queued event: the rest of an incomplete packet would never
		// be read, so that nothing would end the pause.
		b.overLimit, b.refusing = false, false
	case b.events > cfg.QueuedEvents, b.bytes > cfg.QueuedBytes:
		b.overLimit = true
	}
}

// unsettled reports whether settle must be called.
func (b *backlog) unsettled() bool {
	return b.paused != (b.overLimit && b.awaitedAcks == 0) && !b.settling
}

// countIn counts an event in, unless it must be refused, and reports whether it did. If
// idle is set, the socket joins the ready list for Serve. If unsettled is true, here and
// below, the caller must call settle once it holds no lock.
func (c *Conn) countIn(s *Socket, size int, idle bool) (took, unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	b := &c.backlog
	if c.draining {
		return false, b.unsettled()
	}
	if b.awaitedAcks > 0 && b.events > 0 && b.bytes+size > c.srv.cfg.QueuedBytes {
		if !b.refusing {
			b.refusing = true
			c.limitedLocked(s, LimitQueuedEvents)
		}
		return false, b.unsettled()
	}
	c.addLocked(1, size)
	if idle {
		s.next, c.ready = c.ready, s
	}
	return true, b.unsettled()
}

// countOut counts an event out.
func (c *Conn) countOut(size int) (unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(-1, -size)
	return c.backlog.unsettled()
}

// countBack counts an event in again, which Socket.Unread has put back.
func (c *Conn) countBack(size int) (unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.addLocked(1, size)
	return c.backlog.unsettled()
}

// countPartial adds bytes of an incomplete packet to the backlog, or subtracts them.
func (c *Conn) countPartial(size int) {
	c.mu.Lock()
	c.addLocked(0, size)
	unsettled := c.backlog.unsettled()
	c.mu.Unlock()
	if unsettled {
		c.settle()
	}
}

// countAwaited adds n to the number of awaited acks.
func (c *Conn) countAwaited(n int) (unsettled bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.backlog.awaitedAcks += n
	return c.backlog.unsettled()
}

// settle pauses or resumes the session. The caller must not hold a lock. One goroutine
// at a time calls the session, so that the last call matches the last state.
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
	// eventSize is the size of an Event, as the allocator rounds it.
	eventSize = (int(unsafe.Sizeof(Event{})) + 15) &^ 15
	sliceSize = int(unsafe.Sizeof([]byte{}))
)

// sizeOf returns the memory of an event without attachments: the Event, its packet, its
// name, and its arguments if they do not fit into Event.argsBuf.
func sizeOf(e *Event, packet []byte) int {
	size := eventSize + cap(packet) + (len(e.Name)+15)&^15
	if cap(e.Args) > len(e.argsBuf) {
		size += cap(e.Args) * sliceSize
	}
	return size
}

// attach appends an attachment to the event, which keeps data, and returns the bytes
// that it adds to the size.
func (e *Event) attach(data []byte) (added int) {
	before := cap(e.Attachments)
	e.Attachments = append(e.Attachments, data)
	added = (cap(e.Attachments)-before)*sliceSize + cap(data)
	e.size += added
	return added
}
