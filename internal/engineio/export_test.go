package engineio

import (
	"net/http"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// What only tests need to see.

// Polled reports whether a poll is open.
func (s *Session) Polled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poll != nil
}

// Posting reports whether a POST is under way.
func (s *Session) Posting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.post != nil
}

// Queued returns how much is unsent.
func (s *Session) Queued() (messages, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.len(), s.out.bytes
}

// Probing reports whether a websocket is about to take over.
func (s *Session) Probing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe != nil
}

// FireTimer is what the session's timer calls.
func (s *Session) FireTimer() { s.timedOut() }

// PingNow lets a ping be due.
func (s *Session) PingNow() {
	s.srv.cfg.Wheel.Stop(&s.timer)
	s.timedOut()
}

// Has reports whether a session has begun and not ended.
func (s *Server) Has(id string) bool { return s.session(id) != nil }

// Incoming returns what is held of messages that have not arrived whole.
func (s *Server) Incoming() int {
	s.incoming.mu.Lock()
	defer s.incoming.mu.Unlock()
	return s.incoming.held
}

// ignore is a handler for which nothing matters.
type ignore struct{}

func (ignore) Message([]byte, bool) error { return nil }
func (ignore) Serve()                     {}
func (ignore) Opened()                    {}
func (ignore) Closed(Reason)              {}

// newServer returns a server to be driven from inside.
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
