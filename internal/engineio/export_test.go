package engineio

import (
	"net/http"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// What only tests need.

// ID returns the id of the session.
func (s *Session) ID() string { return s.id }

// Writable reports whether a message sent now is written now.
func (s *Session) Writable() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.state == stateOpen && !s.blockedLocked()
}

// Len returns the number of sessions.
func (s *Server) Len() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	return len(s.sessions)
}

// Polled reports whether a poll is open.
func (s *Session) Polled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poll != nil
}

// Posting reports whether a POST is being handled.
func (s *Session) Posting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.post != nil
}

// Queued returns the number of unsent messages and bytes.
func (s *Session) Queued() (messages, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.len(), s.out.bytes
}

// written reports whether everything that was queued has been written, if the transport is a
// websocket.
func (s *Session) written() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.ws == nil || s.out.len() == 0 && !s.ws.writing
}

// Probing reports whether an upgrade has begun and is not complete.
func (s *Session) Probing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe != nil
}

// FireTimer calls the callback of the session's timer.
func (s *Session) FireTimer() { s.onTimer() }

// PingNow lets the session's timer fire now.
func (s *Session) PingNow() {
	s.srv.cfg.Wheel.Stop(&s.timer)
	s.onTimer()
}

// Has reports whether the server has a session.
func (s *Server) Has(id string) bool { return s.session(id) != nil }

// Incoming returns the bytes reserved for incomplete messages and bodies.
func (s *Server) Incoming() int {
	s.incoming.mu.Lock()
	defer s.incoming.mu.Unlock()
	return s.incoming.unknown.bytes + s.incoming.known.bytes
}

// ignore is a handler that does nothing.
type ignore struct{}

func (ignore) Message([]byte, bool) error { return nil }
func (ignore) Serve()                     {}
func (ignore) Opened()                    {}
func (ignore) Closed(Reason)              {}

// newServer returns a server for internal tests.
func newServer(t testing.TB) *Server {
	w := timingwheel.New(10 * time.Millisecond)
	t.Cleanup(w.Close)
	return NewServer(Config{
		PingInterval: 25 * time.Second, PingTimeout: 20 * time.Second, UpgradeTimeout: 10 * time.Second,
		CloseTimeout: time.Second, WriteTimeout: 10 * time.Second,
		MaxPayload: 100_000, MaxPackets: 1000, MaxOutboxBytes: 8 << 20, MaxOutboxMessages: 10_000,
		Wheel:  w,
		Accept: func(*Session, *http.Request) (Handler, *Busy) { return ignore{}, nil },
	})
}
