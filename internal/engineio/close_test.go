package engineio_test

import (
	"bytes"
	"context"
	"fmt"
	"net/http"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// The messages queued before a close arrive first, then the end of the stream, whether the client reads at once or later.
func TestSession_CloseDeliversFirst(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for _, late := range []time.Duration{0, 100 * time.Millisecond} {
			ws := s.websocket()
			want := numbered("4", 500)
			for _, packet := range want {
				require.True(t, ws.h.Send(text(packet[1:])))
			}
			ws.h.Close(engineio.ReasonForcedClose)
			require.False(t, ws.h.Send(text("too late")))
			ws.h.Close(engineio.ReasonSlowConsumer)
			require.Equal(t, engineio.ReasonForcedClose, ws.h.ended(t))
			time.Sleep(late)
			ws.expect(want...)
			ws.expectEOF()
			require.Empty(t, ws.h.closed)
			require.NoError(t, ws.conn.Close())
		}
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

// Closing a connection with unread input resets it, and the client loses what it has
// not read yet. So the server reads all input, even if its handlers were too slow to
// read anything before.
func TestSession_CloseWithUnreadInput(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for _, paused := range []bool{false, true} {
			s := start(t, c, func(set *setup) {
				set.message = func(h *handler, _ []byte, _ bool) error {
					if paused {
						h.Pause()
					}
					return nil
				}
			})
			for range 5 {
				ws := s.websocket()
				flood := bytes.Repeat(frameBytes(0x80|opText, "4"+large(1000)), 300)
				written := make(chan struct{})
				go func() {
					defer close(written)
					_, _ = ws.conn.Write(flood)
				}()
				time.Sleep(5 * time.Millisecond)
				want := append(numbered("4", 20), "4"+large(100_000))
				for _, packet := range want {
					require.True(t, ws.h.Send(text(packet[1:])))
				}
				ws.h.Close(engineio.ReasonForcedClose)
				receive(t, written)
				ws.expect(want...)
				ws.expectEOF()
				require.NoError(t, ws.conn.Close())
			}
			testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		}
	})
}

// A client that neither closes nor stops sending is disconnected after the close
// timeout, and does not delay Shutdown.
func TestSession_CloseOfAClientThatStays(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const timeout = 300 * time.Millisecond
		s := start(t, c, func(set *setup) { set.engine.CloseTimeout = timeout })
		for _, flood := range []bool{false, true} {
			ws := s.websocket()
			if flood {
				go func() {
					b := bytes.Repeat(frameBytes(0x80|opText, "4"+large(10_000)), 50)
					for {
						if _, err := ws.conn.Write(b); err != nil {
							return
						}
					}
				}()
				go func() {
					for {
						if _, _, err := ws.frame(); err != nil {
							return
						}
					}
				}()
			}
			began := time.Now()
			ws.h.Close(engineio.ReasonForcedClose)
			if !flood {
				ws.expectEOF()
			}
			testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
			require.GreaterOrEqual(t, time.Since(began), 200*time.Millisecond+timeout-20*time.Millisecond)
		}
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// A client that does not read is disconnected after the close timeout as well.
func TestSession_CloseOfAStalledClient(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, smallBuffers, shortClose)
		ws, _ := s.stall()
		ws.h.Send(text("never read"))
		ws.h.Close(engineio.ReasonForcedClose)
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
		require.Equal(t, 1, s.Cut())
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// Cut counts clients that were sent less than was queued for them, however they connect
// and whatever ended the waiting; a client that took all, but does not leave, is none.
func TestServer_Cut(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, shortClose)
		stays := s.websocket()
		stays.h.Send(text("last"))
		stays.h.Close(engineio.ReasonForcedClose)
		stays.expect("4last")
		absent := s.polling()
		absent.h.Send(text("last"))
		absent.h.Close(engineio.ReasonForcedClose)
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
		require.Equal(t, 1, s.Cut(), "nobody polled for it")

		s = start(t, c, smallBuffers, func(set *setup) { set.engine.CloseTimeout = time.Hour })
		_, _ = s.stall()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.Error(t, s.Shutdown(ctx))
		require.Equal(t, 1, s.Cut())
	})
}

// A pipe has no CloseWrite: a client that is to come back finds the end as soon as it can have
// read what was sent first, and one that stays away after the close frame and the close
// timeout.
func TestSession_CloseOverAPipe(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		ws := s.websocket()
		ws.h.Send(text("sent first"))
		ws.h.Close(engineio.ReasonForcedClose)
		ws.expect("4sent first")
		began := time.Now()
		ws.expectEOF()
		within(t, 200*time.Millisecond, time.Since(began))
		synctest.Wait()
		require.Zero(t, s.Len())

		ws = s.websocket()
		ws.h.Send(text("sent first"))
		ws.h.Dismiss(engineio.ReasonForcedClose)
		ws.expect("4sent first")
		began = time.Now()
		ws.expectClose(1000)
		within(t, 2*time.Second, time.Since(began))
		synctest.Wait()
		require.Zero(t, s.Len())
	})
}

// Many goroutines send and close at once: each client receives an unbroken beginning of
// the messages, and then the end of the stream.
func TestSession_CloseRaces(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for i := range 30 {
			ws := s.websocket()
			accepted := make(chan int, 1)
			var racing sync.WaitGroup
			racing.Go(func() {
				n := 0
				for n < 1000 && ws.h.Send(text(fmt.Sprint(n))) {
					n++
				}
				accepted <- n
			})
			racing.Go(func() { ws.h.Cork(); ws.h.Uncork() })
			racing.Go(func() { ws.h.Pause(); ws.h.Resume() })
			racing.Go(func() {
				time.Sleep(time.Duration(i*20) * time.Microsecond)
				ws.h.Close(engineio.ReasonForcedClose)
			})
			racing.Go(func() { ws.h.Close(engineio.ReasonForcedClose) })
			n := receive(t, accepted)
			racing.Wait()
			ws.expect(numbered("4", n)...)
			ws.expectEOF()
			require.Equal(t, engineio.ReasonForcedClose, ws.h.ended(t))
			require.Empty(t, ws.h.closed)
			require.NoError(t, ws.conn.Close())
		}
	})
}

func TestServer_Shutdown(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, recordMessages, shortClose)
		open, posting, probing, away := s.polling(), s.polling(), s.polling(), s.polling()
		poll := open.open()
		posting.h.Pause()
		posted := make(chan answer, 1)
		go func() {
			status, body, err := s.request(context.Background(), http.MethodPost, posting.query(), strings.NewReader("4a"))
			posted <- answer{status, body, err}
		}()
		receive(t, posting.h.in)
		probe, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + probing.sid)
		upgraded := s.polling()
		ws, again := upgraded.upgrade(), s.websocket()
		second, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + upgraded.sid)
		second.expectCut()
		again.h.Send(text("sent first"))
		paused := s.websocket()
		paused.h.Pause()
		paused.send("4a", "4b")

		done := make(chan error, 2)
		for range 2 {
			go func() { done <- s.Shutdown(t.Context()) }()
		}
		require.Equal(t, unknownSession, receive(t, poll).body)
		require.Equal(t, answer{http.StatusOK, "ok", nil}, receive(t, posted))
		probe.expectCut()
		ws.expectEOF()
		again.expect("4sent first")
		again.expectEOF()
		paused.expectEOF()
		for _, c := range []*wsClient{ws, again, paused} {
			require.NoError(t, c.conn.Close())
		}
		status, body, err := s.request(t.Context(), http.MethodGet, "EIO=4&transport=polling", nil)
		require.NoError(t, err)
		require.Equal(t, http.StatusServiceUnavailable, status, body)
		refused, resp := s.dialWebSocket("EIO=4&transport=websocket")
		require.Nil(t, refused)
		require.Equal(t, http.StatusServiceUnavailable, resp.StatusCode)

		require.NoError(t, receive(t, done))
		require.NoError(t, receive(t, done))
		require.Zero(t, s.Len())
		for _, h := range []*handler{open.h, posting.h, probing.h, away.h, ws.h, again.h, paused.h} {
			require.Equal(t, engineio.ReasonShuttingDown, h.ended(t))
			require.Empty(t, h.closed)
		}
		require.NoError(t, s.Shutdown(t.Context()))
	})
}

// When ctx ends, the remaining sessions are aborted.
func TestServer_ShutdownAbortsWhenItsContextEnds(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, smallBuffers, func(set *setup) { set.engine.CloseTimeout = time.Hour })
		p := s.polling()
		ws := s.websocket()
		stalled, _ := s.stall()
		flooding := s.websocket()
		go func() {
			b := bytes.Repeat(frameBytes(0x80|opText, "6"), 1000)
			for {
				if _, err := flooding.conn.Write(b); err != nil {
					return
				}
			}
		}()
		ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
		defer cancel()
		require.ErrorIs(t, s.Shutdown(ctx), context.DeadlineExceeded)
		require.Zero(t, s.Len())
		for _, h := range []*handler{p.h, ws.h, stalled.h, flooding.h} {
			require.Equal(t, engineio.ReasonShuttingDown, h.ended(t))
		}
		ws.expectCut()
	})
}

func TestServer_ShutdownWithoutSessions(t *testing.T) {
	t.Parallel()
	s := start(t, tcp)
	require.NoError(t, s.Shutdown(t.Context()))
	require.NoError(t, s.Shutdown(t.Context()))
}

// Clients that connect during Shutdown are served or refused, and each session ends.
func TestServer_ConnectsDuringShutdown(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for range 3 {
			s := start(t, c, quiet)
			stop := make(chan struct{})
			var connecting sync.WaitGroup
			for i := range 4 {
				connecting.Go(func() {
					for {
						select {
						case <-stop:
							return
						default:
							s.visit(i)
						}
					}
				})
			}
			time.Sleep(20 * time.Millisecond)
			ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
			_ = s.Shutdown(ctx)
			cancel()
			require.Zero(t, s.Len())
			close(stop)
			connecting.Wait()
			require.Zero(t, s.Len())
		}
	})
}
