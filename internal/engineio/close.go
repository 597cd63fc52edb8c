// How a session ends.

package engineio

import (
	"time"

	"github.com/gobwas/ws"
)

// A session is open until Close or abort. Closing, it takes nothing more but
// still delivers what was queued; closed, it is forgotten.
const (
	stateOpen = iota
	stateClosing
	stateClosed
)

// latePoll is how long a client's close waits for a poll that was sent with it.
const latePoll = 25 * time.Millisecond

// Close ends the session once what was queued has reached the client, or the
// close timeout has passed. The handler's Closed is called at once.
func (s *Session) Close(reason Reason) { s.end(reason, ws.StatusNormalClosure, false) }

// end is Close with what a websocket's close frame says. Discard drops what was
// queued, for a client that has said that it reads no more.
func (s *Session) end(reason Reason, status ws.StatusCode, discard bool) {
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
	// A client whose probe was answered may read on no other connection.
	var probe *wsConn
	if s.probe != nil && !s.probe.probed {
		probe = s.takeProbeLocked()
	}
	conns := [...]*wsConn{s.ws, s.probe}
	s.wakeLocked()
	if probe != nil {
		probe.link.close()
	}
	resume(conns[:]) // to discard what comes: unread, it would make the close a reset
	s.handler.Closed(reason)
}

// closedByClient ends the session on the client's own close packet: an open
// poll is let go, and nothing more is sent. A client sends poll and close on two
// connections at once, so the poll may be the later one to arrive; it gets its
// answer too, as the close is answered no sooner.
func (s *Session) closedByClient() {
	s.mu.Lock()
	if s.ws != nil {
		s.mu.Unlock()
		s.end(ReasonTransportClose, ws.StatusNormalClosure, true)
		return
	}
	s.left = true
	if s.poll == nil && s.state == stateOpen {
		polled := make(chan struct{})
		s.polled = polled
		s.mu.Unlock()
		select {
		case <-polled:
		case <-time.After(latePoll):
		}
		s.mu.Lock()
		s.polled = nil
	}
	s.mu.Unlock()
	s.abort(ReasonTransportClose)
}

// abort ends the session now; what was not written is lost.
func (s *Session) abort(reason Reason) {
	s.mu.Lock()
	r, ok := s.abortLocked()
	s.mu.Unlock()
	if ok {
		s.finish(r, reason)
	}
}

// abortSoon is abort for a caller who must not enter the layer above, nor wait for
// the network: the session has ended when it returns, and the rest follows on a
// goroutine of its own.
func (s *Session) abortSoon(reason Reason) {
	s.mu.Lock()
	s.abortSoonLocked(reason)
	s.mu.Unlock()
}

func (s *Session) abortSoonLocked(reason Reason) {
	if r, ok := s.abortLocked(); ok {
		go s.finish(r, reason)
	}
}

// remains is what is left to do for a session whose state is closed.
type remains struct {
	conns   [2]*wsConn // to be cut; some may be nil
	post    *post      // to be canceled, or nil
	wasOpen bool       // the handler has not heard yet
}

// abortLocked marks the session as closed, unless it is.
func (s *Session) abortLocked() (r remains, ok bool) {
	if s.state == stateClosed {
		return r, false
	}
	r.wasOpen = s.state == stateOpen
	s.state = stateClosed
	s.srv.cfg.Wheel.Stop(&s.timer)
	s.unblockLocked()
	s.out.clear()
	r.conns = [2]*wsConn{s.takeProbeLocked(), s.ws}
	r.post = s.post
	s.wakePollLocked()
	return r, true
}

// finish does what abortLocked has left. The server forgets the session last, so
// that Shutdown waits for the handler's Closed.
func (s *Session) finish(r remains, reason Reason) {
	for _, c := range r.conns {
		if c != nil {
			c.link.close()
			c.forget()
		}
	}
	if r.post != nil {
		go r.post.cancel()
	}
	s.srv.incoming.drop(s)
	if r.wasOpen {
		s.handler.Closed(reason)
	}
	s.srv.remove(s)
}

// unblockLocked lets go of transports that wait for Resume.
func (s *Session) unblockLocked() {
	if s.resume != nil {
		close(s.resume)
		s.resume = nil
	}
}
