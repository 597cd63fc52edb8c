// Tests of gates: which messages pass, and in which order, whichever call comes first.

package engineio

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func said(text string) *Message { return TextMessage(append(TextBuffer(len(text)), text...)) }

// sent takes the queued messages.
func (s *Session) sent() (texts []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for m := s.out.first(); m != nil; m = s.out.first() {
		texts = append(texts, string(m.payload()[1:]))
		s.out.shift()
	}
	return texts
}

func TestGate_HoldsUntilOpenAndEndsWithClose(t *testing.T) {
	t.Parallel()
	ss, _ := lockedSession(t)
	var g, other Gate
	require.True(t, ss.SendThrough(&g, said("held"), said("held too")))
	require.True(t, ss.Send(said("past it")))
	require.Equal(t, []string{"past it"}, ss.sent())
	ss.OpenGate(&g, said("open"), said("hello"))
	ss.OpenGate(&g, said("again"))
	ss.OpenGate(&other)
	require.True(t, ss.SendThrough(&g, said("a")))
	ss.CloseGate(&g, true, func() {}, said("last"))
	require.False(t, ss.SendThrough(&g, said("late")))
	ss.OpenGate(&g, said("late"))
	ss.CloseGate(&g, true, func() {})
	require.True(t, ss.SendThrough(&other, said("b")))
	require.Equal(t, []string{"open", "hello", "held", "held too", "a", "last", "b"}, ss.sent())
	require.Nil(t, g.held)
}

// If CloseGate comes before OpenGate, the messages of OpenGate are still sent first.
func TestGate_ClosedBeforeItOpens(t *testing.T) {
	t.Parallel()
	for _, opens := range []bool{true, false} {
		ss, h := lockedSession(t)
		var g Gate
		require.True(t, ss.SendThrough(&g, said("held")))
		ss.CloseGate(&g, opens, func() { ss.Dismiss(ReasonForcedClose) }, said("last"))
		require.False(t, ss.SendThrough(&g, said("late")))
		if !opens { // refused
			require.Equal(t, ReasonForcedClose, <-h.closed)
			require.Equal(t, []string{"last"}, ss.sent())
		} else {
			require.Empty(t, h.closed)
			require.Empty(t, ss.sent())
			ss.OpenGate(&g, said("open"))
			require.Equal(t, ReasonForcedClose, <-h.closed)
			require.Equal(t, []string{"open", "last"}, ss.sent())
		}
		ss.abort(ReasonForcedClose)
	}
}
