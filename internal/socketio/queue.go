// A socket's queue: the events that wait for their handler, one at a time and in
// order, and the Disconnect hook behind the last of them.

package socketio

// enqueue puts an event behind those that wait.
func (s *Socket) enqueue(e *Event) {
	s.mu.Lock()
	if s.Closed() || s.abandoned {
		s.mu.Unlock()
		return
	}
	took, unsettled := s.conn.queued(s, e.size, !s.running)
	if took {
		if s.first == nil {
			s.first = e
		} else {
			s.last.next = e
		}
		s.last = e
		s.running = true
	}
	s.mu.Unlock()
	if !took {
		s.refuse(e)
	}
	if unsettled {
		s.conn.settle()
	}
}

// refuse hands an event that is one too many to the Overflow hook.
func (s *Socket) refuse(e *Event) {
	if f := s.ns.hooks.Overflow; f != nil {
		defer s.ns.guard(s)
		f(s, e)
	}
}

// run handles events until none waits.
func (s *Socket) run() {
	s.mu.Lock()
	abandoned := s.abandoned
	s.mu.Unlock()
	s.runAs(abandoned)
}

// runAs is run for one who was there before or after Abandon.
func (s *Socket) runAs(abandoned bool) {
	over := false
	defer func() {
		if !over { // a hook has ended this goroutine
			go s.runAs(abandoned)
		}
	}()
	over = s.runUntil(abandoned)
}

// runUntil returns true when nothing waits any more, or it was abandoned.
func (s *Socket) runUntil(abandoned bool) bool {
	for {
		s.mu.Lock()
		if s.abandoned && !abandoned {
			s.mu.Unlock() // somebody else goes on, or has
			s.conn.srv.running.Done()
			return true
		}
		e, unsettled := s.takeLocked()
		gone := s.gone
		if e == nil {
			s.running = gone // once gone, nothing runs any more
		}
		s.mu.Unlock()
		if unsettled {
			s.conn.settle()
		}
		switch {
		case e != nil:
			s.handle(e)
		case gone:
			s.disconnected()
			return true
		default:
			return true
		}
	}
}

// Abandon gives up the Event hook, or the function of OpenThen, that runs now and
// may never return: what waits behind it is dropped, and nothing more is taken. The
// Disconnect hook does not wait for it; Server.Wait does.
func (s *Socket) Abandon() {
	s.mu.Lock()
	if !s.running || s.abandoned {
		s.mu.Unlock()
		return
	}
	s.abandoned = true
	s.conn.srv.running.Add(1) // of whom runAs lets go
	unsettled := s.dropLocked()
	if s.gone {
		go s.run()
	}
	s.mu.Unlock()
	if unsettled {
		s.conn.settle()
	}
}

// takeLocked takes the first event off the queue, nil when none waits. Unsettled
// says that Conn.settle is to be called, without the lock.
func (s *Socket) takeLocked() (e *Event, unsettled bool) {
	e = s.first
	if e == nil {
		return nil, false
	}
	if s.first, e.next = e.next, nil; s.first == nil {
		s.last = nil
	}
	return e, s.conn.taken(e.size)
}

// dropLocked drops all events that wait.
func (s *Socket) dropLocked() (unsettled bool) {
	for {
		e, u := s.takeLocked()
		if e == nil {
			return unsettled
		}
		unsettled = unsettled || u
	}
}

func (s *Socket) handle(e *Event) {
	defer s.ns.guard(s)
	s.ns.hooks.Event(s, e)
}

func (s *Socket) disconnected() {
	defer s.conn.srv.running.Done()
	defer s.forgetRooms()
	defer s.ns.guard(s)
	s.ns.hooks.Disconnect(s, s.reason)
}

// forgetRooms drops the names of the rooms that an ended socket was in.
func (s *Socket) forgetRooms() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = nil
}

// Event is an event that a client sent.
type Event struct {
	Name        string
	Args        [][]byte // raw JSON
	Attachments [][]byte // what the placeholders in Args stand for

	socket *Socket
	id     int64
	size   int
	next   *Event    // in the socket's queue
	room   [3][]byte // for the usual number of arguments
}

// WantsAck reports whether the client waits for an answer.
func (e *Event) WantsAck() bool { return e.id != NoID }

// Ack answers the event. It does nothing when no answer is wanted; calling it
// twice is a mistake.
func (e *Event) Ack(attachments [][]byte, args ...[]byte) {
	if e.id == NoID {
		return
	}
	m := ackMessage(e.socket.ns.name, e.id, len(attachments), args)
	if len(attachments) == 0 {
		e.socket.Send(m)
		return
	}
	e.socket.Send(withAttachments(m, attachments)...)
}
