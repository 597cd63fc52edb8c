// The queue of a socket: the events that wait for their handler, one at a time and in
// order, and the Disconnect hook after the last of them.

package socketio

// enqueue appends an event to the queue. It drops events for a closed or abandoned socket; one
// that a draining connection does not take goes to overflow.
func (s *Socket) enqueue(e *Event) {
	s.mu.Lock()
	if s.Closed() || s.abandoned.Load() {
		s.mu.Unlock()
		return
	}
	took, unsettled := s.conn.countIn(s, e.size, !s.running)
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
		s.overflow(e)
	}
	if unsettled {
		s.conn.settle()
	}
}

// overflow passes an event that is not queued to the Overflow hook.
func (s *Socket) overflow(e *Event) {
	if f := s.ns.hooks.Overflow; f != nil {
		defer s.ns.recoverPanic(s)
		f(s, e)
	}
}

// run handles events until none waits.
func (s *Socket) run() { s.runGuarded(s.abandoned.Load()) }

// runGuarded is run. abandoned says whether the caller started after Abandon; a
// runner from before it stops at the next event.
func (s *Socket) runGuarded(abandoned bool) {
	returned := false
	defer func() {
		if !returned { // a hook has called runtime.Goexit
			go s.runGuarded(abandoned)
		}
	}()
	s.runQueue(abandoned)
	returned = true
}

// rest ends the running of a queue in which nothing waits, and reports whether it did.
func (s *Socket) rest() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.first != nil || s.disconnectDue || s.abandoned.Load() {
		return false
	}
	s.running = false
	return true
}

// runQueue handles events until none waits or Abandon was called meanwhile.
func (s *Socket) runQueue(abandoned bool) {
	for {
		s.mu.Lock()
		if s.abandoned.Load() && !abandoned {
			s.mu.Unlock() // the goroutine that Abandon or finishClose starts does the rest
			s.conn.srv.running.Done()
			return
		}
		e, unsettled := s.takeLocked()
		due, wake := s.disconnectDue, false
		if e == nil {
			wake, s.wakeDue = s.wakeDue, false
			s.running = due || wake // the Disconnect hook is the last one
		}
		s.mu.Unlock()
		if unsettled {
			s.conn.settle()
		}
		switch {
		case e != nil:
			s.handle(e)
		case wake:
			s.wake()
		case due:
			s.runDisconnect()
			return
		default:
			return
		}
	}
}

// Wake has the Wake hook called once the queued events are handled. It does nothing if the socket
// is closed.
func (s *Socket) Wake() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.Closed() || s.abandoned.Load() {
		return
	}
	s.wakeDue = true
	if !s.running {
		s.running = true
		go s.run()
	}
}

// Unread puts an event back, which is then the next one to be handled. Only the Event hook may
// call it, with its event.
func (s *Socket) Unread(e *Event) {
	s.mu.Lock()
	if e.next = s.first; s.first == nil {
		s.last = e
	}
	s.first = e
	unsettled := s.conn.countBack(e.size)
	s.mu.Unlock()
	if unsettled {
		s.conn.settle()
	}
}

// Abandon abandons the running Event hook or function of OpenThen, which may never
// return. The queued events are dropped, and no more are queued. The Disconnect hook
// does not wait for the abandoned call; Server.Wait does.
func (s *Socket) Abandon() {
	s.mu.Lock()
	if !s.running || s.abandoned.Load() {
		s.mu.Unlock()
		return
	}
	s.abandoned.Store(true)
	s.conn.srv.running.Add(1) // counted out by the abandoned goroutine, in runQueue
	unsettled := s.dropLocked()
	if s.disconnectDue {
		go s.run()
	}
	s.mu.Unlock()
	if unsettled {
		s.conn.settle()
	}
}

// takeLocked takes the first event off the queue; e is nil if none waits. If unsettled
// is true, the caller must call Conn.settle after unlocking.
func (s *Socket) takeLocked() (e *Event, unsettled bool) {
	e = s.first
	if e == nil {
		return nil, false
	}
	if s.first, e.next = e.next, nil; s.first == nil {
		s.last = nil
	}
	return e, s.conn.countOut(e.size)
}

// dropLocked drops all queued events, and a call of the Wake hook that is due.
func (s *Socket) dropLocked() (unsettled bool) {
	s.wakeDue = false
	for {
		e, u := s.takeLocked()
		if e == nil {
			return unsettled
		}
		unsettled = unsettled || u
	}
}

func (s *Socket) handle(e *Event) {
	defer s.ns.recoverPanic(s)
	s.ns.hooks.Event(s, e)
}

func (s *Socket) wake() {
	defer s.ns.recoverPanic(s)
	s.ns.hooks.Wake(s)
}

func (s *Socket) runDisconnect() {
	defer s.conn.srv.running.Done()
	defer s.forgetRooms()
	defer s.ns.recoverPanic(s)
	s.ns.hooks.Disconnect(s, s.reason.Value())
}

// forgetRooms drops the names of the rooms that a closed socket was in.
func (s *Socket) forgetRooms() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.rooms = nil
}
