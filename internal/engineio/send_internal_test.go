// Tests that neither sending nor a timer callback calls the handler on the same
// goroutine.

package engineio

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// locking is a handler with a lock, as real handlers have, that the test holds while it
// calls the session.
type locking struct {
	ignore
	mu     sync.Mutex
	closed chan Reason
}

func (h *locking) Closed(reason Reason) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.closed <- reason
}

func lockedSession(t *testing.T) (*Session, *locking) {
	t.Helper()
	s := newServer(t)
	h := &locking{closed: make(chan Reason, 2)}
	ss := &Session{srv: s, id: newID(), handler: h}
	ss.timer.F = ss.onTimer
	require.True(t, s.add(ss))
	return ss, h
}

// returns fails the test if f blocks.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(20 * time.Second):
		require.Fail(t, what+" hangs")
	}
}

// The caller of Send may hold a lock that the handler's Closed takes: a session with a
// full outbox is closed on another goroutine.
func TestSession_SendThatOverflowsCallsNobody(t *testing.T) {
	t.Parallel()
	ss, h := lockedSession(t)
	m := TextMessage(append(TextBuffer(1), 'x'))
	returns(t, "Send", func() {
		h.mu.Lock()
		defer h.mu.Unlock()
		sent := 0
		for ss.Send(m) {
			sent++
		}
		require.Equal(t, ss.srv.cfg.MaxOutboxMessages, sent)
		require.False(t, ss.Send(m))
	})
	require.Equal(t, ReasonSlowConsumer, <-h.closed)
	ss.abort(ReasonForcedClose) // once is enough
	require.Eventually(t, func() bool { return ss.srv.Len() == 0 }, 20*time.Second, time.Millisecond)
	require.Empty(t, h.closed)
}

// The messages of one Send are queued, dropped or replaced together.
func TestSession_SendVolatileAndKeyedWithAttachments(t *testing.T) {
	t.Parallel()
	event := func(volatile bool, key string) []*Message {
		m := textOf("event")
		m.Volatile, m.Key = volatile, key
		return []*Message{m, BinaryMessage([]byte("attachment"))}
	}
	ss, _ := lockedSession(t)
	ss.pollSeen = time.Now().Add(-2 * pollGap) // not writable
	require.True(t, ss.Send(event(false, "k")[0]))
	require.True(t, ss.Send(event(false, "k")...))
	require.Equal(t, 3, ss.out.len(), "it replaces no message, because its attachment would be lost")
	require.True(t, ss.Send(event(true, "")...))
	require.Equal(t, 3, ss.out.len())

	ss.pollSeen = time.Now()
	ss.srv.cfg.MaxOutboxMessages = 4
	require.True(t, ss.Send(event(true, "")...))
	require.Equal(t, 3, ss.out.len(), "one place is not enough for two messages")
	ss.srv.cfg.MaxOutboxMessages = 5
	require.True(t, ss.Send(event(true, "")...))
	require.Equal(t, 5, ss.out.len())

	ss.srv.cfg.MaxOutboxMessages, ss.srv.cfg.MaxOutboxBytes = 100, ss.out.bytes+10
	require.True(t, ss.Send(event(true, "")...))
	require.Equal(t, 5, ss.out.len(), "there is space for the first of the two")
	ss.abort(ReasonForcedClose)
}

// The pong packet of EIO3 and the pong frame of a websocket do not replace each other.
func TestSession_PongsOfTwoKinds(t *testing.T) {
	t.Parallel()
	ss, _ := lockedSession(t)
	c := &wsConn{s: ss, blocked: true}
	ss.ws, ss.flushPending = c, true
	for range 3 {
		require.True(t, ss.Send(pongEIO3))
		require.True(t, c.answerPingFrame([]byte("ping")))
	}
	require.Equal(t, 2, ss.out.len())
	ss.ws = nil
	ss.abort(ReasonForcedClose)
}

// Nor does a timer callback wait for the handler, because all timers wait for it.
func TestSession_TimerCallsNobody(t *testing.T) {
	t.Parallel()
	for name, prepare := range map[string]func(*Session){
		"pong overdue":   func(ss *Session) { ss.pinged = true },
		"close too long": func(ss *Session) { ss.state = stateClosing },
	} {
		ss, h := lockedSession(t)
		ss.srv.cfg.Wheel.Stop(&ss.timer)
		prepare(ss)
		returns(t, name, func() {
			h.mu.Lock()
			defer h.mu.Unlock()
			ss.onTimer()
			require.Equal(t, stateClosed, int(ss.state), name)
		})
		require.Eventually(t, func() bool { return ss.srv.Len() == 0 }, 20*time.Second, time.Millisecond)
	}
}

// Shutdown returns only after Handler.Closed has returned.
func TestServer_ShutdownWaitsForSlowConsumers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		ss, h := lockedSession(t)
		m := TextMessage(append(TextBuffer(1), 'x'))
		for ss.Send(m) {
			continue
		}
		require.NoError(t, ss.srv.Shutdown(t.Context()))
		require.Equal(t, ReasonSlowConsumer, <-h.closed)
	})
}
