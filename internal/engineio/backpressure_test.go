package engineio_test

import (
	"bytes"
	"math/rand/v2"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// While the handler has asked for a pause a websocket is not read: what the
// client sends fills the way to the server and then stays with the client.
func TestPauseHoldsTheClientBack(t *testing.T) {
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
		eventually(t, "nothing arrived", func() bool { return received.Load() >= 10 })
		time.Sleep(50 * time.Millisecond)
		// No more than was read together with the tenth.
		require.Less(t, received.Load(), int64(50))
		require.Empty(t, written)
		ws.h.Send(text("the other way is open"))
		ws.expect("4the other way is open")
		ws.h.Resume()
		require.NoError(t, receive(t, written))
		eventually(t, "not all arrived", func() bool { return received.Load() == n })
	})
}

// Pauses at any moment lose no message, reorder none, and lose no call of Serve.
func TestPauseAndResume(t *testing.T) {
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

// A pause ends with the session, whichever way that ends.
func TestPauseThenEnd(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for name, end := range map[string]func(c *wsClient){
			"server closes": func(c *wsClient) {
				c.h.Close(engineio.ReasonForcedClose)
				c.expectClose(1000)
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
			eventually(t, name, func() bool { return s.Len() == 0 })
			require.NoError(t, s.Shutdown(t.Context()), name)
		}
	})
}

// A pause that begins while a client upgrades does not keep it from going on
// once the pause is over.
func TestPauseDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for range 5 {
			p := s.polling()
			p.h.Pause()
			ws := p.probe()
			p.h.Send(text("the other way is open"))
			p.expect("4the other way is open")
			ws.send("5")
			time.Sleep(time.Millisecond)
			p.h.Resume()
			ws.send("4a")
			ws.expect("4a")

			p = s.polling()
			p.h.Pause()
			ws = p.probe()
			p.h.Close(engineio.ReasonForcedClose)
			ws.send("5")
			ws.expectClose(1000)
		}
	})
}
