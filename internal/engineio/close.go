// The end of a session: closing and aborting.

package engineio

import (
	"time"

	"github.com/gobwas/ws"
)

// States of a session. It is open until Close or abort. While closing it accepts no
// more messages but still delivers the queued ones. A closed session is removed from
// the server.
const (
	stateOpen = iota
	stateClosing
	stateClosed
)

// pollGrace is how long the handling of a close packet waits for a poll that the client
// sent at the same time.
const pollGrace = 25 * time.Millisecond

// Close closes the session if it is open. Queued messages are still delivered, until the
// close timeout. Handler.Closed is called before Close returns.
func (s *Session) Close(reason Reason) { s.closeWith(reason, ws.StatusNormalClosure, false) }

// closeWith is Close with the status of the websocket close frame. discard drops the
// queued messages, for a client that no longer reads.
func (s *Session) closeWith(reason Reason, status ws.StatusCode, discard bool) {
	s.mu.Lock()
	if s.state != stateOpen {
		s.mu.Unlock()
		return
	}
	s.state = stateClosing
	s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
	s.unblockLocked()
	if discard {
		s.out.clear()
	}
	if s.ws != nil {
		s.out.push(closeFrame(status))
	}
	// A client whose probe was answered may read on the new websocket only, so that
	// upgrade continues.
	var probe *wsConn
	if s.probe != nil && !s.probe.probeAnswered {
		probe = s.takeProbeLocked()
	}
	conns := [...]*wsConn{s.ws, s.probe}
	s.unlockAndWake()
	if probe != nil {
		probe.link.close()
	}
	resume(conns[:]) // to discard input: closing a connection with unread input resets it
	s.handler.Closed(reason)
}

// closeFromClient handles the close packet of a client. It ends the session and drops the
// messages that are still queued; only a websocket gets a close frame. An open poll
// returns. A polling client sends its poll and its close packet on two connections at the
// same time, so the poll may arrive later. Therefore closeFromClient, and with it the
// answer to the POST, waits for the poll, at most for pollGrace.
func (s *Session) closeFromClient() {
	s.mu.Lock()
	if s.ws != nil {
		s.mu.Unlock()
		s.closeWith(ReasonTransportClose, ws.StatusNormalClosure, true)
		return
	}
	s.clientClosed = true
	if s.poll == nil && s.state == stateOpen {
		polled := make(chan struct{})
		s.pollArrived = polled
		s.mu.Unlock()
		select {
		case <-polled:
		case <-time.After(pollGrace):
		}
		s.mu.Lock()
		s.pollArrived = nil
	}
	s.mu.Unlock()
	s.abort(ReasonTransportClose)
}

// abort ends the session now; queued messages are lost.
func (s *Session) abort(reason Reason) {
	s.mu.Lock()
	r, ok := s.abortLocked()
	s.mu.Unlock()
	if ok {
		s.tearDown(r, reason)
	}
}

// abortUnless aborts a session whose request ended early. Functions that handle a request
// defer it, because methods of the http.ResponseWriter, which may be the host's, may
// panic.
func (s *Session) abortUnless(done bool) {
	if !done {
		s.abort(ReasonTransportError)
	}
}

// countCutLocked counts a session that is about to be aborted, in Server.Cut, if messages
// that it accepted were not sent.
func (s *Session) countCutLocked() {
	unsent := s.out.len() > 0
	if s.ws != nil {
		unsent = !s.ws.closeSent // it is set after the last message was sent
	}
	if unsent && s.state != stateClosed {
		s.srv.cut.Add(1)
	}
}

// cutOff is abort for Shutdown, whose time is over.
func (s *Session) cutOff() {
	s.mu.Lock()
	s.countCutLocked()
	s.mu.Unlock()
	s.abort(ReasonShuttingDown)
}

// abortSoon is abort for callers that must not call the handler or wait for the
// network. When it returns, the session is closed; another goroutine does the rest.
func (s *Session) abortSoon(reason Reason) {
	s.mu.Lock()
	s.abortSoonLocked(reason)
	s.mu.Unlock()
}

func (s *Session) abortSoonLocked(reason Reason) {
	if r, ok := s.abortLocked(); ok {
		go s.tearDown(r, reason)
	}
}

// teardown is the work that remains for a session whose state is stateClosed.
type teardown struct {
	conns   [2]*wsConn // to be closed; entries may be nil
	post    *post      // to be canceled, or nil
	wasOpen bool       // Handler.Closed was not called yet
	unsent  Exceeded   // the outbox, as it was
}

// abortLocked sets stateClosed. ok is false if the session was closed before.
func (s *Session) abortLocked() (r teardown, ok bool) {
	if s.state == stateClosed {
		return r, false
	}
	r.wasOpen = s.state == stateOpen
	s.state = stateClosed
	s.srv.cfg.Wheel.Stop(&s.timer)
	s.unblockLocked()
	r.unsent = Exceeded{Limit: LimitOutbox, OutboxMessages: s.out.len(), OutboxBytes: s.out.bytes}
	s.out.clear()
	r.conns = [2]*wsConn{s.takeProbeLocked(), s.ws}
	r.post = s.post
	s.wakePollLocked()
	return r, true
}

// tearDown does the work that remains after abortLocked. The session is removed from the
// server last, so that Shutdown waits for Handler.Closed.
func (s *Session) tearDown(r teardown, reason Reason) {
	for _, c := range r.conns {
		if c != nil {
			c.link.close()
			c.dropUnfinished()
		}
	}
	if r.post != nil {
		go r.post.cancel()
	}
	s.srv.incoming.release(s)
	if r.wasOpen {
		if reason == ReasonSlowConsumer && s.srv.cfg.Limited != nil {
			s.srv.cfg.Limited(s.handler, r.unsent)
		}
		s.handler.Closed(reason)
	}
	s.srv.remove(s)
}

// unblockLocked releases the transports that wait in waitResumed.
func (s *Session) unblockLocked() {
	if s.resume != nil {
		close(s.resume)
		s.resume = nil
	}
}
