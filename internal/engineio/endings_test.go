// Tests of how a connection ends on the wire, by what its client is to do then. Stock clients
// that depend on it stand beside each case.

package engineio_test

import (
	"io"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

const (
	settleTime = 200 * time.Millisecond
	lingerTime = time.Second
	slack      = 20 * time.Millisecond // timers may fire a few ticks early
)

// lastWords sends what a client is told before its connection ends, and ends it. It returns
// the time of that.
func lastWords(c *wsClient, end func(engineio.Reason)) time.Time {
	c.t.Helper()
	require.True(c.t, c.h.Send(text("why")))
	began := time.Now()
	end(engineio.ReasonForcedClose)
	c.expect("4why")
	require.Equal(c.t, engineio.ReasonForcedClose, c.h.ended(c.t))
	return began
}

func (c *wsClient) closeWrite() {
	c.t.Helper()
	require.NoError(c.t, c.conn.(interface{ CloseWrite() error }).CloseWrite())
}

// A client that is to come back gets no close frame: the Java client would wait for its ping
// timeout, the C++ one stay away. The end of the stream comes a moment after the data, which
// the Go, Swift and Python clients would overlook otherwise.
func TestSession_CloseToComeBack(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		began := lastWords(ws, ws.h.Close)
		ws.expectEOF()
		require.GreaterOrEqual(t, time.Since(began), settleTime-slack)
		// What the client has sent meanwhile does no harm.
		for range 5 {
			ws.send("42[\"late\"]", "3")
		}
		require.Equal(t, 1, s.Len())
		require.NoError(t, ws.conn.Close())
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.Zero(t, s.Cut())

		// A client that does not close.
		ws = s.websocket()
		began = lastWords(ws, ws.h.Close)
		ws.expectEOF()
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.GreaterOrEqual(t, time.Since(began), settleTime+lingerTime-2*slack)
		require.Zero(t, s.Cut())
	})
}

// A client that is to stay away may close by itself after the DISCONNECT, as the JavaScript,
// Java, Python, Go and Rust clients do; some take a close right behind the DISCONNECT for an
// error of the transport, and come back.
func TestSession_CloseToStayAway(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		began := lastWords(ws, ws.h.Dismiss)
		ws.send("4dropped")
		ws.expectClose(1000)
		require.GreaterOrEqual(t, time.Since(began), lingerTime-slack)
		ws.send("4dropped")
		require.NoError(t, ws.conn.Close())
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.Zero(t, s.Cut())

		// A client that does not even close then.
		ws = s.websocket()
		began = lastWords(ws, ws.h.Dismiss)
		ws.expectClose(1000)
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.GreaterOrEqual(t, time.Since(began), 2*lingerTime-2*slack)
		require.Zero(t, s.Cut())
	})
}

// The close of a client ends the wait for it, and is answered by a close frame.
func TestSession_ClientClosesWhileClosing(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, func(set *setup) { set.engine.CloseTimeout = time.Hour })
		ends := map[string]func(h *handler) func(engineio.Reason){
			"comes back": func(h *handler) func(engineio.Reason) { return h.Close },
			"stays away": func(h *handler) func(engineio.Reason) { return h.Dismiss },
		}
		for name, end := range ends {
			for goodbye, tc := range map[string]struct {
				input  []byte
				status int
			}{
				"close frame":    {frameBytes(0x80|opClose, "\x03\xe8"), 1000},
				"close packet":   {frameBytes(0x80|opText, "1"), 1000},
				"after an event": {append(frameBytes(0x80|opText, "4dropped"), frameBytes(0x80|opText, "1")...), 1000},
				"protocol error": {frameBytes(0xf0|opText, "4a"), 1002},
				"invalid text":   {frameBytes(0x80|opText, "4\xff"), 1007},
				"too large":      {frameBytes(0x80|opText, "4"+large(1_000_000)), 1009},
			} {
				t.Run(name+", "+goodbye, func(t *testing.T) {
					ws := s.websocket()
					lastWords(ws, end(ws.h))
					go func() { _, _ = ws.conn.Write(tc.input) }()
					ws.expectClose(tc.status)
					require.NoError(t, ws.conn.Close())
				})
			}
			t.Run(name+", end of the stream", func(*testing.T) {
				ws := s.websocket()
				lastWords(ws, end(ws.h))
				ws.closeWrite()
				ws.expectCut()
			})
		}
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		require.Zero(t, s.Cut())
	})
}

// A client that has closed its write direction, or has sent its close frame, still gets
// everything that is queued for it.
func TestSession_ClientClosesBeforeAllIsSent(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for name, goodbye := range map[string]func(ws *wsClient){
			"end of the stream": func(ws *wsClient) { ws.closeWrite() },
			"close frame":       func(ws *wsClient) { ws.write(frameBytes(0x80|opClose, "\x03\xe8")) },
			"close packet":      func(ws *wsClient) { ws.send("1") },
		} {
			t.Run(name, func(t *testing.T) {
				s := start(t, c, smallBuffers, func(set *setup) { set.engine.CloseTimeout = time.Hour })
				for _, dismissed := range []bool{false, true} {
					ws := s.websocket()
					many := make([]*engineio.Message, 20)
					want := make([]string, len(many))
					for i := range many {
						many[i], want[i] = text(large(100_000)), "4"+large(100_000)
					}
					require.True(t, ws.h.Send(many...))
					if dismissed {
						ws.h.Dismiss(engineio.ReasonForcedClose)
					} else {
						ws.h.Close(engineio.ReasonForcedClose)
					}
					goodbye(ws)
					time.Sleep(50 * time.Millisecond) // it mostly arrives before the client reads; later is right too
					ws.expect(want...)
					_, err := io.ReadAll(ws.in)
					require.NoError(t, err)
					require.NoError(t, ws.conn.Close())
				}
				testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
				require.Zero(t, s.Cut())
			})
		}
	})
}

// Over polling, what a client is told never shares a payload with the close. A client that
// stays away gets the close packet; the Python client never comes back after it, so one that
// is to come back finds its session unknown.
func TestSession_PollingEndings(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		poll := p.open()
		p.h.Send(text("why"))
		p.h.Close(engineio.ReasonForcedClose)
		require.Equal(t, answer{http.StatusOK, "4why", nil}, receive(t, poll))
		p.postOK("4an event meanwhile")
		p.expectGone()

		p = s.polling()
		poll = p.open()
		p.h.Send(text("why"))
		p.h.Dismiss(engineio.ReasonForcedClose)
		require.Equal(t, answer{http.StatusOK, "4why", nil}, receive(t, poll))
		p.postOK("4an event meanwhile")
		p.expect("1")

		// The client's own close packet ends the wait for its poll.
		for _, end := range []func(h *handler){
			func(h *handler) { h.Close(engineio.ReasonForcedClose) },
			func(h *handler) { h.Dismiss(engineio.ReasonForcedClose) },
		} {
			p = s.polling()
			end(p.h)
			p.postOK("1")
			p.expectUnknown()
		}
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		require.Zero(t, s.Cut())
	})
}

// Clients of protocol 3 come back after a close packet, and would take an unknown session for a
// refusal.
func TestEIO3_PollingEnding(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3)
		p := s.pollingEIO3("")
		p.h.Send(text("why"))
		p.h.Close(engineio.ReasonForcedClose)
		for _, want := range []string{"4:4why", "1:1"} {
			status, body, _ := p.do(http.MethodGet, "", "")
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, want, body)
		}
	})
}

// A slow line: a poll needs most of a heartbeat for its way.
func TestSession_CloseOverASlowPollingLine(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		p.h.SetKnown(true)
		p.h.Send(text("before"))
		p.expect("4before")
		p.h.Send(text("why"))
		p.h.Dismiss(engineio.ReasonForcedClose)
		time.Sleep(pingTimeout - time.Second)
		p.expect("4why")
		p.expect("1")
		require.Zero(t, s.Cut())
	})
}
