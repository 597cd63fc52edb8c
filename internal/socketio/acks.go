// The acks that a socket awaits for its emits.

package socketio

import "context"

// Reply is a client's answer to an emit with ack. Err is ErrClosed if the socket closed
// first.
type Reply struct {
	Args        [][]byte
	Attachments [][]byte
	Err         error
}

// pendingAck is an ack that has not come. waited says that a caller waits for it: then reading does
// not pause, see backlog.
type pendingAck struct {
	f      func(Reply)
	waited bool
}

// Expect registers f for the ack with an id of Namespace.NextID. f is called once, on any
// goroutine, unless Forget unregisters it first. It must not block. Expect returns
// ErrClosed or ErrTooManyAcks if it does not register f; then the event must not be sent.
func (s *Socket) Expect(id int64, f func(Reply)) error {
	err := s.expect(id, pendingAck{f, true})
	if err == ErrTooManyAcks { //nolint:errorlint // expect wraps none
		s.conn.limited(s, LimitPendingAcks)
	}
	return err
}

func (s *Socket) expect(id int64, a pendingAck) error {
	s.mu.Lock()
	switch {
	case s.Closed():
		s.mu.Unlock()
		return ErrClosed
	case len(s.acks) >= s.conn.srv.cfg.PendingAcks:
		s.mu.Unlock()
		return ErrTooManyAcks
	}
	if s.acks == nil {
		s.acks = map[int64]pendingAck{}
	}
	s.acks[id] = a
	unsettled := a.waited && s.conn.countAwaited(1)
	s.mu.Unlock()
	if unsettled {
		s.conn.settle()
	}
	return nil
}

// Forget stops awaiting an ack.
func (s *Socket) Forget(id int64) { s.takeAck(id) }

// takeAck unregisters and returns the function that awaits an ack, or nil.
func (s *Socket) takeAck(id int64) func(Reply) {
	s.mu.Lock()
	a, ok := s.acks[id]
	unsettled := false
	if ok {
		delete(s.acks, id)
		unsettled = a.waited && s.conn.countAwaited(-1)
	}
	s.mu.Unlock()
	if unsettled {
		s.conn.settle()
	}
	return a.f
}

// handleAck handles a client's ack, which is an Event without a name.
func (s *Socket) handleAck(e *Event) {
	if f := s.takeAck(e.id); f != nil { // otherwise it is late, or the client made it up
		s.callReply(f, Reply{Args: e.Args, Attachments: e.Attachments})
	}
}

func (s *Socket) callReply(f func(Reply), r Reply) {
	defer s.ns.recoverPanic(s)
	f(r)
}

// Ask waits until ctx ends for the ack of an event, which send sends with that id. send
// reports false if the socket is closed.
func (s *Socket) Ask(ctx context.Context, send func(id int64) bool) (Reply, error) {
	id := s.ns.NextID()
	answer := make(chan Reply, 1)
	if err := s.Expect(id, func(r Reply) { answer <- r }); err != nil {
		return Reply{}, err
	}
	if !send(id) {
		s.Forget(id)
		return Reply{}, ErrClosed
	}
	select {
	case r := <-answer:
		return r, r.Err
	case <-ctx.Done():
		s.Forget(id)
		return Reply{}, ctx.Err()
	}
}

// waited returns the number of acks that a caller waits for.
func waited(acks map[int64]pendingAck) (n int) {
	for _, a := range acks {
		if a.waited {
			n++
		}
	}
	return n
}
