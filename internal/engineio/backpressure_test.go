package engineio_test

import (
	"bytes"
	"io"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// During a pause the server does not read a websocket. What the client sends fills the
// buffers of the connection, and then the client cannot send more.
func TestSession_PauseHoldsTheClientBack(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		var received atomic.Int64
		s := start(t, c, func(set *setup) {
			set.message = func(h *handler, _ []byte, _ bool) error {
				if received.Add(1) == 10 {
					h.Pause()
				}
				return nil
			}
		})
		ws := s.websocket()
		const n = 30_000
		written := make(chan error, 1)
		go func() {
			_, err := ws.conn.Write(bytes.Repeat(frameBytes(0x80|opText, "4"+large(1000)), n))
			written <- err
		}()
		testkit.Eventually(t, "nothing arrived", func() bool { return received.Load() >= 10 })
		time.Sleep(50 * time.Millisecond)
		// At most the messages that were read together with the tenth.
		require.Less(t, received.Load(), int64(50))
		require.Empty(t, written)
		ws.h.Send(text("the other way is open"))
		ws.expect("4the other way is open")
		ws.h.Resume()
		require.NoError(t, receive(t, written))
		testkit.Eventually(t, "not all arrived", func() bool { return received.Load() == n })
	})
}

// Pauses at any moment lose no message, keep the order, and lose no call of Serve.
func TestSession_PauseAndResume(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const n = 3000
		var mu sync.Mutex
		var next, waiting int
		all := make(chan struct{})
		s := start(t, c, func(set *setup) {
			set.message = func(h *handler, data []byte, _ bool) error {
				mu.Lock()
				defer mu.Unlock()
				if got, err := strconv.Atoi(string(data)); err != nil || got != next {
					t.Errorf("%q instead of %d", data, next)
				}
				next++
				if waiting++; waiting > 5 {
					h.Pause()
				}
				return nil
			}
			set.serve = func(h *handler) {
				if rand.IntN(4) == 0 {
					time.Sleep(time.Duration(rand.IntN(200)) * time.Microsecond)
				}
				mu.Lock()
				waiting = 0
				h.Resume()
				if next == n {
					next++
					close(all)
				}
				mu.Unlock()
			}
		})
		ws := s.websocket()
		for i := 0; i < n; {
			var b []byte
			for range min(1+rand.IntN(20), n-i) {
				b = append(b, frameBytes(0x80|opText, "4"+strconv.Itoa(i))...)
				i++
			}
			ws.write(b)
		}
		receive(t, all)
		require.Empty(t, ws.h.closed)
	})
}

// A pause ends with the session, however the session ends.
func TestSession_PauseEndsWithTheSession(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for name, end := range map[string]func(c *wsClient){
			"server closes": func(c *wsClient) {
				c.h.Close(engineio.ReasonForcedClose)
				c.expectEOF()
				require.NoError(t, c.conn.Close())
			},
			"slow consumer": func(c *wsClient) {
				for c.h.Send(text(large(900_000))) {
				}
			},
			"resumed, then reset": func(c *wsClient) {
				c.h.Resume()
				c.reset()
			},
			"reset, then resumed": func(c *wsClient) {
				c.reset()
				c.h.Resume()
			},
		} {
			s := start(t, c, func(set *setup) {
				set.message = func(h *handler, data []byte, binary bool) error {
					if string(data) == "a" {
						h.Pause()
					}
					return h.record(data, binary)
				}
			})
			ws := s.websocket()
			ws.send("4a", "4b")
			receive(t, ws.h.in)
			ws.send("4c", "4d")
			end(ws)
			testkit.Eventually(t, name, func() bool { return s.Len() == 0 })
			require.NoError(t, s.Shutdown(t.Context()), name)
		}
	})
}

// A pause that begins during an upgrade does not stop the client for longer than the
// pause.
func TestSession_PauseDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for range 5 {
			p := s.polling()
			p.h.Pause()
			ws := p.probe()
			p.h.Send(text("the other way is open"))
			p.expect("4the other way is open")
			ws.send("5")
			time.Sleep(time.Millisecond) // so that it mostly arrives during the pause; later is right too
			p.h.Resume()
			ws.send("4a")
			ws.expect("4a")

			p = s.polling()
			p.h.Pause()
			ws = p.probe()
			p.h.Close(engineio.ReasonForcedClose)
			ws.send("5")
			ws.expectEOF()
		}
	})
}

// pauseOn makes a handler that pauses on the message "pause" and records the others.
func pauseOn(set *setup) {
	set.message = func(h *handler, data []byte, binary bool) error {
		if string(data) == "pause" {
			h.Pause()
			return nil
		}
		return h.record(data, binary)
	}
}

// A client that answers its pings does not time out because the server does not read.
func TestSession_PauseOutlastsTheHeartbeat(t *testing.T) {
	t.Parallel()
	for name, open := range map[string]func(s *server) (c *wsClient, alive string){
		"EIO4": func(s *server) (*wsClient, string) { return s.websocket(), "3" },
		"EIO3": func(s *server) (*wsClient, string) { return s.websocketEIO3(""), "2" },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := startInMemory(t, pauseOn, allowEIO3)
				c, alive := open(s)
				_ = c.conn.SetReadDeadline(time.Time{})
				read := func() { // answers each ping after a second
					frame := make([]byte, 3) // pings and pongs have no more bytes
					for {
						if _, err := io.ReadFull(c.in, frame); err != nil {
							return
						}
						if frame[2] == '2' {
							time.Sleep(time.Second)
							_, _ = c.conn.Write(frameBytes(0x80|opText, alive))
						}
					}
				}
				c.send("4pause")
				go read()
				if alive == "2" {
					go func() { _, _ = c.conn.Write(frameBytes(0x80|opText, alive)) }() // stays unread in the connection
				}
				time.Sleep(5 * time.Minute)
				require.Empty(t, c.h.closed)
				c.h.Resume()
				time.Sleep(pingTimeout + time.Second)
				require.Empty(t, c.h.closed)

				// The same with a pause in every heartbeat timeout.
				for range 20 {
					c.h.Pause()
					time.Sleep(pingTimeout - time.Second)
					c.h.Resume()
					time.Sleep(time.Second)
					if alive == "2" {
						c.send(alive)
					}
				}
				require.Empty(t, c.h.closed)
				require.NoError(t, c.conn.Close())
				require.NotEqual(t, engineio.ReasonPingTimeout, <-c.h.closed)
			})
		})
	}
}

// A client that sends nothing times out after a pause, once the server has read it for
// a whole PingTimeout.
func TestSession_SilentAfterAPause(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, pauseOn)
		c, p := s.websocket(), s.polling()
		c.send("4pause")
		go p.postOK("4pause")
		go func() { _, _ = io.Copy(io.Discard, c.in) }()
		_ = c.conn.SetReadDeadline(time.Time{})
		time.Sleep(5 * time.Minute)
		for _, h := range []*handler{c.h, p.h} {
			require.Empty(t, h.closed)
			began := time.Now()
			h.Resume()
			require.Equal(t, engineio.ReasonPingTimeout, <-h.closed)
			require.Greater(t, time.Since(began), pingTimeout-2*tick)
			require.LessOrEqual(t, time.Since(began), 2*pingTimeout)
		}
	})
}

// A pause also stops the handling of a polling body between two packets; the first part
// is served meanwhile.
func TestSession_PauseInTheMiddleOfABody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		served := make(chan struct{}, 10)
		s := startInMemory(t, pauseOn, func(set *setup) { set.serve = func(*handler) { served <- struct{}{} } })
		p := s.polling()
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			p.postOK(joined("4a", "4pause", "4b", "4c", "4pause"))
		}()
		synctest.Wait()
		require.Len(t, p.h.in, 1)
		<-served
		require.Empty(t, served)
		p.h.Resume()
		synctest.Wait()
		require.Len(t, p.h.in, 3)
		<-served
		require.Empty(t, served)
		select {
		case <-answered:
			t.Error("answered during the pause")
		default:
		}
		p.h.Resume()
		<-answered

		// The end of the session ends the pause, and the rest of the body is dropped.
		go p.post(joined("4pause", "4d"))
		synctest.Wait()
		p.h.Close(engineio.ReasonForcedClose)
		p.expectGone()
		synctest.Wait()
		require.Len(t, p.h.in, 3)
	})
}
