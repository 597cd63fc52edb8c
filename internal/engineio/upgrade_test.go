package engineio_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func TestSession_Upgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		poll := p.open()
		ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		ws.send("2probe")
		ws.expect("3probe")
		require.Equal(t, "6", receive(t, poll).body, "the client can't stop polling")
		require.Equal(t, "polling", p.h.Transport())
		p.h.Send(text("queued while neither is open"))
		ws.send("5")
		ws.expect("4queued while neither is open")
		require.Equal(t, "websocket", p.h.Transport())
		ws.send("4a", "4b")
		ws.sendBinary("\x01\x02")
		ws.expect("4a", "4b")
		ws.expectBinary("\x01\x02")

		for _, method := range []string{http.MethodGet, http.MethodPost} {
			status, body, err := s.request(t.Context(), method, p.query(), strings.NewReader("4late"))
			require.NoError(t, err)
			require.Equal(t, http.StatusBadRequest, status)
			require.Equal(t, badRequest, body)
		}
		second, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		require.NotNil(t, second)
		second.expectCut()
		ws.send("4still here")
		ws.expect("4still here")
		require.Equal(t, 1, s.Len())
	})
}

func TestSession_UpgradeAnswersTheOpenPoll(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		ws := p.probe()
		// A poll during an upgrade is answered at once, so that a client that has begun
		// another poll can stop too.
		status, body := p.poll()
		require.Equal(t, http.StatusOK, status)
		require.Equal(t, "6", body)
		ws.send("5", "4a")
		ws.expect("4a")
	})
}

// The stock client polls again if its poll was answered before it knew that the probe was, and
// sends no upgrade packet before that poll is answered: any wait would delay the app's first
// events.
func TestSession_UpgradeDelaysNoPoll(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		began := time.Now()
		ws := p.probe()
		for _, want := range []string{"4data", "6", "6"} {
			if want == "4data" {
				p.h.Send(text("data"))
			}
			_, body := p.poll()
			require.Equal(t, want, body)
		}
		ws.send("5", "4a")
		ws.expect("4a")
		require.Zero(t, time.Since(began))
		require.NoError(t, ws.conn.Close())
	})
}

// While packets flow in both directions, a client upgrades as the stock client does: it
// waits for its poll and its POST before it sends the upgrade packet.
func TestSession_UpgradeLosesAndReordersNothing(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const repetitions, n = 12, 300
		for range repetitions {
			var up []string
			received := make(chan struct{})
			s := start(t, c, func(set *setup) {
				set.message = func(_ *handler, data []byte, _ bool) error {
					if up = append(up, "4"+string(data)); len(up) == n {
						close(received)
					}
					return nil
				}
			})
			p := s.polling()

			var running sync.WaitGroup
			running.Go(func() { // the server's side
				for i := range n {
					if i%7 == 0 {
						p.h.Cork()
					}
					p.h.Send(text(strconv.Itoa(i)))
					if i%7 == 3 {
						p.h.Uncork()
					}
					if i%10 == 0 {
						time.Sleep(time.Duration(rand.IntN(300)) * time.Microsecond)
					}
				}
				p.h.Uncork()
			})

			var down []string
			stopPolling := make(chan struct{})
			polled := make(chan error, 1)
			go func() {
				for {
					select {
					case <-stopPolling:
						polled <- nil
						return
					default:
					}
					status, body, err := s.request(context.Background(), http.MethodGet, p.query(), nil)
					if err == nil && status != http.StatusOK {
						err = fmt.Errorf("poll: %d %s", status, body)
					}
					if err != nil {
						polled <- err
						return
					}
					if body != "6" {
						down = append(down, strings.Split(body, "\x1e")...)
					}
				}
			}()
			sent := 0
			packets := numbered("4", n)
			post := func(k int) {
				k = min(k, n-sent)
				p.postOK(joined(packets[sent : sent+k]...))
				sent += k
			}
			post(1 + rand.IntN(30))
			ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
			ws.send("2probe")
			post(1 + rand.IntN(30))
			ws.expect("3probe")
			close(stopPolling)
			require.NoError(t, receive(t, polled))
			ws.send(append([]string{"5"}, packets[sent:]...)...)
			for len(down) < n {
				down = append(down, ws.text())
			}
			receive(t, received)
			running.Wait()
			require.Equal(t, packets, down)
			require.Equal(t, packets, up)
			ws.send("1")
			ws.expectClose(1000)
		}
	})
}

func TestSession_OneUpgradeAtATime(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		first := p.probe()
		second, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		require.NotNil(t, second)
		second.expectCut()
		first.send("5", "4a")
		first.expect("4a")
	})
}

// A failed upgrade does not affect the session: it continues on polling, and the next
// upgrade may succeed.
func TestSession_FailedUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for name, fail := range map[string]func(c *wsClient){
			"message without a probe": func(c *wsClient) { c.send("4a") },
			"another probe":           func(c *wsClient) { c.send("2prob") },
			"empty packet":            func(c *wsClient) { c.send("") },
			"binary":                  func(c *wsClient) { c.sendBinary("2probe") },
			"close frame":             func(c *wsClient) { c.write(frameBytes(0x80|opClose, "")) },
			"end of the stream":       func(c *wsClient) { _ = c.conn.Close() },
			"reserved bits":           func(c *wsClient) { c.write(frameBytes(0xb0|opText, "2probe")) },
			"reserved opcode":         func(c *wsClient) { c.write(frameBytes(0x80|3, "2probe")) },
			"invalid UTF-8":           func(c *wsClient) { c.write(frameBytes(0x80|opText, "\xff")) },
			"length with the top bit": func(c *wsClient) { c.write([]byte("\x81\xff\x80\x00\x00\x00\x00\x00\x00\x01mask")) },
			"length over the limit":   func(c *wsClient) { c.write([]byte("\x81\xff\x00\x00\x00\x00\x00\x0f\x42\x41mask")) },
			"unmasked":                func(c *wsClient) { c.write([]byte("\x81\x062probe")) },
			"continuation of nothing": func(c *wsClient) { c.write(frameBytes(0x80, "2probe")) },
			"message before the upgrade": func(c *wsClient) {
				c.send("2probe")
				c.expect("3probe")
				c.send("4a")
			},
			"second probe": func(c *wsClient) {
				c.send("2probe")
				c.expect("3probe")
				c.send("2probe")
			},
		} {
			p := s.polling()
			ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
			fail(ws)
			if name != "end of the stream" {
				ws.expectCut()
			}
			testkit.Eventually(t, name, func() bool { return !p.h.Probing() })
			p.postOK("4a")
			p.expect("4a")
			next := p.upgrade()
			next.send("4b")
			next.expect("4b")
			require.Empty(t, p.h.closed, name)
		}
	})
}

func TestSession_PingsDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		ws := p.probe()
		for i := range 50 {
			data := fmt.Sprint(i)
			ws.write(frameBytes(0x80|opPing, data))
			op, payload, err := ws.frame()
			require.NoError(t, err)
			require.EqualValues(t, opPong, op)
			require.Equal(t, data, string(payload))
		}
		ws.write(frameBytes(0x80|opPong, "unasked"))
		ws.send("5", "4a")
		ws.expect("4a")
	})
}

// The probe may come in pieces, or in one segment with everything that follows.
func TestSession_UpgradeInPieces(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		var all []byte
		for _, packet := range []string{"2probe", "5", "4a"} {
			all = append(all, frameBytes(0x80|opText, packet)...)
		}
		p := s.polling()
		ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		for i := range all {
			ws.write(all[i : i+1])
		}
		ws.expect("3probe", "4a")

		p = s.polling()
		ws, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		ws.write(all)
		ws.expect("3probe", "4a")

		// Even in one segment with the handshake.
		p = s.polling()
		conn, err := s.dial()
		require.NoError(t, err)
		defer func() { _ = conn.Close() }()
		early := &wsClient{t: t, conn: conn}
		early.write(append([]byte(handshake("EIO=4&transport=websocket&sid="+p.sid)), all...))
		early.skipResponse()
		early.expect("3probe", "4a")
	})
}

func TestSession_UpgradeTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		for _, probed := range []bool{false, true} {
			p := s.polling()
			began := time.Now()
			ws, _ := s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
			if probed {
				ws.send("2probe")
				ws.expect("3probe")
			}
			_, err := ws.in.ReadByte()
			require.Error(t, err)
			took := time.Since(began)
			require.LessOrEqual(t, took, 10*time.Second)
			require.Greater(t, took, 10*time.Second-100*time.Millisecond)
			require.Empty(t, p.h.closed)
			p.postOK("4a")
			p.expect("4a")
		}
	})
}

// Messages sent while the client changes its transport, and the close after them,
// arrive on the new transport.
func TestSession_CloseDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		ws := p.probe()
		p.h.Send(text("sent first"))
		p.h.Close(engineio.ReasonForcedClose)
		ws.send("5")
		ws.expect("4sent first")
		ws.expectEOF()
		require.NoError(t, ws.conn.Close())
		testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })

		// If the upgrade fails after all, they arrive by polling.
		p = s.polling()
		ws = p.probe()
		p.h.Send(text("sent first"))
		p.h.Close(engineio.ReasonForcedClose)
		p.expect("4sent first")
		p.expectGone()
		ws.expectCut()

		// A websocket without a probe is closed with the session.
		p = s.polling()
		ws, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + p.sid)
		testkit.Eventually(t, "not probing", p.h.Probing)
		p.h.Send(text("sent first"))
		p.h.Close(engineio.ReasonForcedClose)
		ws.expectCut()
		p.expect("4sent first")
		p.expectGone()
	})
}

// The close packet of a client during its upgrade ends both connections.
func TestSession_ClientClosesDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		p := s.polling()
		ws := p.probe()
		p.postOK("1")
		ws.expectCut()
		require.Equal(t, engineio.ReasonTransportClose, p.h.ended(t))
		p.expectUnknown()
	})
}
