// Tests of how a connection over polling ends, by what its client does meanwhile. Stock clients
// that depend on it stand beside each case.

package engineio_test

import (
	"context"
	"io"
	"net/http"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// The end comes a moment after what the client is told: the Go client takes what it has read
// from a queue, and what ends the connection not.
func TestSession_PollingEndsAMomentAfterTheData(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		for name, tc := range map[string]struct {
			end    func(h *handler)
			wait   time.Duration
			status int
			body   string
		}{
			"comes back": {func(h *handler) { h.Close(engineio.ReasonForcedClose) }, settleTime, http.StatusBadRequest, unknownSession},
			"stays away": {func(h *handler) { h.Dismiss(engineio.ReasonForcedClose) }, lingerTime, http.StatusOK, "1"},
		} {
			p := s.polling()
			p.h.Send(text("why"))
			tc.end(p.h)
			p.expect("4why")
			began := time.Now()
			status, body := p.poll()
			within(t, tc.wait, time.Since(began))
			require.Equal(t, tc.status, status, name)
			require.Equal(t, tc.body, body, name)

			// A client that closes by itself is not kept waiting.
			p = s.polling()
			p.h.Send(text("why"))
			tc.end(p.h)
			p.expect("4why")
			began = time.Now()
			poll := p.open()
			p.postOK("1")
			require.Equal(t, answer{http.StatusOK, "6", nil}, receive(t, poll), name)
			require.Less(t, time.Since(began), settleTime/2, name)
		}
		time.Sleep(time.Minute)
		require.Zero(t, s.Len())
		require.Zero(t, s.Cut())
	})
}

// What the client sends while it learns of the end is no mistake: the Python client would stop for
// good, without a word, if the answer were an error. When it is to come back the answer breaks off,
// which ends its sending.
func TestSession_PollingClientSendsWhileItEnds(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages)
		for name, tc := range map[string]struct {
			end func(h *handler)
			err error
		}{
			"comes back": {func(h *handler) { h.Close(engineio.ReasonForcedClose) }, io.ErrUnexpectedEOF},
			"stays away": {func(h *handler) { h.Dismiss(engineio.ReasonForcedClose) }, nil},
		} {
			p := s.polling()
			p.h.Send(text("why"))
			tc.end(p.h)
			p.expect("4why")
			poll := p.open()
			p.postOK("4dropped")
			receive(t, poll) // the end
			for range 3 {
				status, _, err := s.request(t.Context(), http.MethodPost, p.query(), strings.NewReader("4dropped"))
				require.Equal(t, tc.err, err, name)
				if err == nil {
					require.Equal(t, http.StatusOK, status, name)
				}
				time.Sleep(lingerTime / 4)
			}
			require.Empty(t, p.h.in, name)
			p.expectGone() // it polls once more
			time.Sleep(lingerTime / 2)
			p.expectUnknown()
			require.Zero(t, s.Len(), name)

			// Its own close packet is the end.
			p = s.polling()
			tc.end(p.h)
			p.poll()
			p.postOK("1")
			require.Zero(t, s.Len(), name)
		}
		require.Zero(t, s.Cut())
	})
}

// A connection whose client can read the end is not cut off when the time of Shutdown is over.
func TestServer_ShutdownInTheLastPhase(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		poll := p.open()
		ctx, cancel := context.WithTimeout(t.Context(), settleTime+lingerTime/2)
		defer cancel()
		done := make(chan error, 1)
		go func() { done <- s.Shutdown(ctx) }()
		require.Equal(t, unknownSession, receive(t, poll).body)
		require.NoError(t, receive(t, done))
		require.Zero(t, s.Len())
		require.Zero(t, s.Cut())
	})
}
