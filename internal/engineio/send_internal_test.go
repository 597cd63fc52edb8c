// Tests that sending, and what the wheel calls, never enter the layer above.

package engineio

import (
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

// locking is a handler that has a lock of its own, as every handler has, which
// others hold while they call the session.
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
	ss.timer.F = ss.timedOut
	require.True(t, s.add(ss))
	return ss, h
}

// returns fails the test when f hangs.
func returns(t *testing.T, what string, f func()) {
	t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
	case <-time.After(5 * time.Second):
		require.Fail(t, what+" hangs")
	}
}

// The caller may hold the lock that the handler's Closed takes: what a session
// that is full does, it does without its caller.
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
	require.Eventually(t, func() bool { return ss.srv.Len() == 0 }, 5*time.Second, time.Millisecond)
	require.Empty(t, h.closed)
}

// Nor does the wheel, on whose goroutine everybody's timeouts run, wait for it.
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
			ss.timedOut()
			require.Equal(t, stateClosed, int(ss.state), name)
		})
		require.Eventually(t, func() bool { return ss.srv.Len() == 0 }, 5*time.Second, time.Millisecond)
	}
}

// Shutdown returns no sooner than the handler has heard of the end.
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
