// Pings, and the measurement of heartbeats: the time from a ping to its pong.

package engineio

import (
	"context"
	"time"
)

var pingMessage = control(string(packetPing))

// pingAndUnlock sends a ping, in front of what waits: a client closes the connection if no ping
// comes in time, and on a slow line what waits can take longer. It unlocks s.mu.
func (s *Session) pingAndUnlock() {
	if s.out.first() != pingMessage { // another one has not been sent yet
		s.out.pushFirst(pingMessage)
		s.pingQueuedLocked()
	}
	s.unlockAndWake()
}

// pingTime returns the time of a ping that is sent now: microseconds since Server.started, modulo
// 2^32, which is more than an hour. It is four bytes, because each session has one, and 0 if nobody
// wants to know.
func (s *Server) pingTime() uint32 {
	if s.cfg.Heartbeat == nil {
		return 0
	}
	return max(1, uint32(time.Since(s.started).Microseconds()))
}

// ponged handles a pong. It passes the time since the last ping of the heartbeat to Config.Heartbeat,
// once per ping: a client may send any number of pongs. Other packets answer a ping too, but may have
// been sent before it.
func (s *Session) ponged() {
	s.mu.Lock()
	received, ofHeartbeat := s.pongLocked()
	at := uint32(0)
	if ofHeartbeat {
		at, s.pingedAt = s.pingedAt, 0
	}
	s.mu.Unlock()
	if f := s.srv.cfg.Heartbeat; f != nil && at != 0 {
		f(s.handler, time.Duration(s.srv.pingTime()-at)*time.Microsecond)
	}
	if received != nil {
		received()
	}
}

// answerPoll is how often Answers looks whether the client has answered.
const answerPoll = 10 * time.Millisecond

// Answers sends a ping, unless one is unanswered, and reports whether the client answers within
// that time. It blocks that long. If ctx ends before that, it reports true.
func (s *Session) Answers(ctx context.Context, within time.Duration) bool {
	s.mu.Lock()
	if s.state == stateOpen && !s.pinged {
		s.pinged, s.pingedAt = true, s.srv.pingTime()
		s.armLocked(s.srv.cfg.PingTimeout)
		s.pingAndUnlock()
	} else {
		s.mu.Unlock()
	}
	late := time.NewTimer(within)
	defer late.Stop()
	for {
		s.mu.Lock()
		open, answered := s.state == stateOpen, !s.pinged
		s.mu.Unlock()
		if !open || answered {
			return open
		}
		select {
		case <-late.C:
			return false
		case <-ctx.Done():
			return true
		case <-time.After(answerPoll):
		}
	}
}
