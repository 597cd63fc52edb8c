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

// Phases of a close. In all of them input is read: frames and bodies are parsed, messages
// dropped. A close by the client ends every phase but the first and, on a websocket, the last.
const (
	phaseDeliver = iota // what is queued is being sent
	phaseSettle         // all was sent; for settleTime the client can read it before it finds the end
	phaseAwait          // all was sent, a DISCONNECT last; for lingerTime the client may close by itself
	phaseEnd            // the close frame, or the last answer to a poll, is being sent
	phaseDiscard        // the client can read the end; for lingerTime input is discarded until the client closes
)

// What a client is to do after a close. Stock clients differ in what they make of the end of
// a websocket: after a close frame 1000 some come back late or never, and some read the end of
// the stream before the data in front of it.
const (
	endComeBack = iota // it reconnects by itself: no close frame, but phaseSettle
	endStayAway        // it has got a DISCONNECT: phaseAwait, then a close frame
	endNow             // it has closed, or broken the protocol: the close frame is in the outbox
)

const (
	settleTime = 200 * time.Millisecond
	lingerTime = time.Second // or CloseTimeout, if that is shorter
)

// pollGrace is how long the handling of a close packet waits for a poll that the client
// sent at the same time.
const pollGrace = 25 * time.Millisecond

// Close closes the session if it is open, so that a stock client reconnects by itself. Queued
// messages are still delivered, until the close timeout. Handler.Closed is called before Close
// returns.
func (s *Session) Close(reason Reason) {
	s.mu.Lock()
	s.closeAndUnlock(reason, endComeBack)
}

// Dismiss is Close for a client that has got a DISCONNECT, which is queued, and is to stay
// away. The client may close the connection itself.
func (s *Session) Dismiss(reason Reason) {
	s.mu.Lock()
	s.closeAndUnlock(reason, endStayAway)
}

// closeByClient closes a websocket session because of what its client has sent, with the
// status of the close frame. discard drops the queued messages, for a client that no longer
// reads. If the session is closing already, the close frame ends the wait for the client.
func (s *Session) closeByClient(reason Reason, status ws.StatusCode, discard bool) {
	s.mu.Lock()
	if s.state == stateClosing {
		s.sendCloseFrameAndUnlock(status)
		return
	}
	if s.state == stateOpen {
		if discard {
			s.out.clear()
		}
		s.out.push(closeFrame(status))
	}
	s.closeAndUnlock(reason, endNow)
}

// closeAndUnlock begins the close of an open session. It unlocks s.mu.
func (s *Session) closeAndUnlock(reason Reason, ending uint8) {
	if s.state != stateOpen {
		s.mu.Unlock()
		return
	}
	s.state, s.phase, s.ending = stateClosing, phaseDeliver, ending
	s.receipts = nil // pongs are dropped from now on
	wait := s.srv.cfg.CloseTimeout
	// Not for those who have never logged in: nothing limits how many such sessions close.
	if s.ws == nil && s.wasKnown && (s.poll != nil || time.Since(s.pollSeen) < s.srv.cfg.PingTimeout) {
		wait = max(wait, s.srv.cfg.PingTimeout) // it polls, or an answer is on its way to it
	}
	s.srv.cfg.Wheel.Arm(&s.timer, wait)
	s.unblockLocked()
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

// sendCloseFrameAndUnlock ends the wait for the client of a closing websocket session with a
// close frame. It unlocks s.mu.
func (s *Session) sendCloseFrameAndUnlock(status ws.StatusCode) {
	switch {
	case s.ws == nil || s.ending == endNow || s.phase >= phaseEnd:
		s.mu.Unlock()
		return
	case s.phase > phaseDeliver:
		s.phase = phaseEnd
		s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
	}
	s.ending = endNow
	s.out.push(closeFrame(status))
	s.unlockAndWake()
}

// flushedLocked is called when everything that was queued on a websocket has been written.
// It begins the next phase of a close, and reports whether the write direction is to be
// closed now.
func (s *Session) flushedLocked() (finish bool) {
	switch {
	case s.state != stateClosing || s.phase == phaseDiscard:
	case s.ending == endNow:
		s.phase = phaseDiscard
		s.srv.cfg.Wheel.Arm(&s.timer, s.lingerTime())
		return true
	case s.phase == phaseDeliver:
		s.sentLocked()
	}
	return false
}

// sentLocked begins the phase after phaseDeliver.
func (s *Session) sentLocked() {
	if s.ending == endComeBack {
		s.phase = phaseSettle
		s.srv.cfg.Wheel.Arm(&s.timer, settleTime)
		return
	}
	s.phase = phaseAwait
	s.srv.cfg.Wheel.Arm(&s.timer, s.lingerTime())
}

// canReadEnd reports whether nothing is left to do for the session but to discard input.
func (s *Session) canReadEnd() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateClosed || s.phase == phaseDiscard
}

// closeFrameSent reports whether the client of a closing session has got a close frame.
func (s *Session) closeFrameSent() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ending == endNow
}

func (s *Session) lingerTime() time.Duration { return min(lingerTime, s.srv.cfg.CloseTimeout) }

// phaseEndedAndUnlock is onTimer for a session that is not open. It unlocks s.mu.
func (s *Session) phaseEndedAndUnlock() {
	if s.state == stateClosing {
		switch {
		case s.ws == nil && (s.phase == phaseSettle || s.phase == phaseAwait): // a poll is open
			s.phase = phaseEnd
			s.srv.cfg.Wheel.Arm(&s.timer, s.srv.cfg.CloseTimeout)
			s.wakePollLocked()
			s.mu.Unlock()
			return
		case s.ws == nil:
		case s.phase == phaseSettle:
			s.phase = phaseDiscard
			s.srv.cfg.Wheel.Arm(&s.timer, s.lingerTime())
			link := s.ws.link
			s.mu.Unlock()
			go link.finish() // it may block
			return
		case s.phase == phaseAwait:
			s.sendCloseFrameAndUnlock(ws.StatusNormalClosure)
			return
		}
	}
	s.countCutLocked()
	s.abortSoonLocked(ReasonForcedClose)
	s.mu.Unlock()
}

// polledLast is called when the last answer to a poll was written. The client may still send: it
// has not read that answer yet, or is Python's; see breakOff.
func (s *Session) polledLast() {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.state == stateClosing && s.ws == nil {
		s.phase = phaseDiscard
		s.srv.cfg.Wheel.Arm(&s.timer, s.lingerTime())
	}
}

// closeFromClient handles the close packet of a client. It ends the session and drops the
// messages that are still queued, unless the session is closing already; only a websocket gets a close frame. An open poll
// returns. A polling client sends its poll and its close packet on two connections at the
// same time, so the poll may arrive later. Therefore closeFromClient, and with it the
// answer to the POST, waits for the poll, at most for pollGrace.
func (s *Session) closeFromClient() {
	s.mu.Lock()
	if s.ws != nil {
		s.mu.Unlock()
		s.closeByClient(ReasonTransportClose, ws.StatusNormalClosure, true)
		return
	}
	s.clientClosed = true
	if s.poll == nil && s.state != stateClosed {
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
		unsent = s.phase == phaseDeliver
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

// Abort closes the session at once: what is queued is not sent.
func (s *Session) Abort(reason Reason) { s.abortSoon(reason) }

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
	s.state, s.receipts = stateClosed, nil
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
