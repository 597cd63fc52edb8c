// A socket's queue: the events that wait for their handler, one at a time and in
// order, and the Disconnect hook behind the last of them.

package socketio

// enqueue puts an event behind those that wait.
func (s *Socket) enqueue(e *Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Closed() || s.abandoned {
		return
	}
	if s.first == nil {
		s.first = e
	} else {
		s.last.next = e
	}
	s.last = e
	s.conn.queued(s, e.size, !s.running)
	s.running = true
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
	for {
		s.mu.Lock()
		if s.abandoned && !abandoned {
			s.mu.Unlock() // somebody else goes on, or has
			s.conn.srv.running.Done()
			return
		}
		e, gone := s.takeLocked(), s.gone
		if e == nil {
			s.running = gone // once gone, nothing runs any more
		}
		s.mu.Unlock()
		switch {
		case e != nil:
			s.handle(e)
		case gone:
			s.disconnected()
			return
		default:
			return
		}
	}
}

// Abandon gives up the Event hook, or the function of OpenThen, that runs now and
// may never return: what waits behind it is dropped, and nothing more is taken. The
// Disconnect hook does not wait for it; Server.Wait does.
func (s *Socket) Abandon() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !s.running || s.abandoned {
		return
	}
	s.abandoned = true
	s.conn.srv.running.Add(1) // of whom runAs lets go
	for s.takeLocked() != nil {
	}
	if s.gone {
		go s.run()
	}
}

// takeLocked takes the first event off the queue, nil when none waits.
func (s *Socket) takeLocked() *Event {
	e := s.first
	if e == nil {
		return nil
	}
	if s.first, e.next = e.next, nil; s.first == nil {
		s.last = nil
	}
	s.conn.taken(e.size)
	return e
}

func (s *Socket) handle(e *Event) {
	defer s.ns.guard(s)
	s.ns.hooks.Event(s, e)
}

func (s *Socket) disconnected() {
	defer s.conn.srv.running.Done()
	defer s.ns.guard(s)
	s.ns.hooks.Disconnect(s, s.reason)
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
