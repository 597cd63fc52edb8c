package engineio_test

import (
	"bytes"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

func TestWSConn_BothWays(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		require.Equal(t, "websocket", ws.h.Transport())
		require.True(t, ws.h.Writable())
		ws.send("4", "4a", "6", "4ünï ☃ \U0001f600\x1e\x00")
		ws.sendBinary("")
		ws.sendBinary("\x00\x01\xff")
		ws.expect("4", "4a", "4ünï ☃ \U0001f600\x1e\x00")
		ws.expectBinary("")
		ws.expectBinary("\x00\x01\xff")
	})
}

// Every size at which a header or a buffer changes, up to the maximum.
func TestWSConn_Sizes(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		for _, n := range []int{
			1, 124, 125, 126, 127, 505, 506, 507, 511, 512, 513, 4095, 4096, 4097, 16383, 16384, 16385,
			65534, 65535, 65536, 65537, 131072, 999_998, 999_999,
		} {
			ws.send("4" + large(n))
			ws.expect("4" + large(n))
			ws.sendBinary(large(n + 1))
			ws.expectBinary(large(n + 1))
		}
	})
}

// However the bytes are split, the messages are the same.
func TestWSConn_ArbitrarySegments(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		var all []byte
		var want []string
		for i := range 40 {
			data := "4" + large(rand.IntN(700))
			want = append(want, data)
			if i%3 == 0 {
				all = append(all, fragments(opText, data, 3, frameBytes(0x80|opPong, "between"))...)
			} else {
				all = append(all, frameBytes(0x80|opText, data)...)
			}
		}
		for name, next := range map[string]func(left int) int{
			"all in one":   func(left int) int { return left },
			"byte by byte": func(int) int { return 1 },
			"at random":    func(left int) int { return 1 + rand.IntN(min(left, 2000)) },
		} {
			t.Run(name, func(t *testing.T) {
				ws := s.websocket()
				if tcp, ok := ws.conn.(*net.TCPConn); ok {
					require.NoError(t, tcp.SetNoDelay(true))
				}
				go func() {
					for b := all; len(b) > 0; {
						n := next(len(b))
						if _, err := ws.conn.Write(b[:n]); err != nil {
							return // the reads fail then
						}
						b = b[n:]
					}
				}()
				ws.expect(want...)
				require.Empty(t, ws.h.closed)
			})
		}
	})
}

func TestSession_MalformedPackets(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, func(set *setup) {
			set.message = func(h *handler, data []byte, binary bool) error {
				if string(data) == "refuse me" {
					return errors.New("refused")
				}
				h.echo(data, binary)
				return nil
			}
		})
		for name, packet := range map[string]string{
			"empty":             "",
			"unknown type":      "7",
			"no type":           "abc",
			"open":              "0{}",
			"ping":              "2",
			"upgrade":           "5",
			"malformed base64":  "bAQI",
			"NUL":               "\x00",
			"handler's verdict": "4refuse me",
		} {
			t.Run(name, func(t *testing.T) {
				ws := s.websocket()
				ws.send("4before", packet, "4after")
				ws.expect("4before")
				ws.expectClose(1002)
				require.Equal(t, engineio.ReasonParseError, ws.h.ended(t))
			})
		}
	})
}

func TestWSConn_ClientCloses(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for name, goodbye := range map[string][]byte{
			"close packet":        frameBytes(0x80|opText, "1"),
			"close frame":         frameBytes(0x80|opClose, ""),
			"close frame, status": frameBytes(0x80|opClose, "\x03\xe8"),
			"close frame, reason": frameBytes(0x80|opClose, "\x03\xe9going away, señor"),
		} {
			t.Run(name, func(t *testing.T) {
				ws := s.websocket()
				ws.write(append(goodbye, frameBytes(0x80|opText, "4after")...))
				ws.expectClose(1000)
				require.Equal(t, engineio.ReasonTransportClose, ws.h.ended(t))
				require.NoError(t, ws.conn.Close())
			})
		}
		t.Run("end of the stream", func(t *testing.T) {
			ws := s.websocket()
			ws.send("4a")
			ws.expect("4a")
			require.NoError(t, ws.conn.Close())
			require.Equal(t, engineio.ReasonTransportClose, ws.h.ended(t))
		})
		t.Run("end in the middle of a frame", func(t *testing.T) {
			ws := s.websocket()
			ws.write(frameBytes(0x80|opText, "4a")[:5])
			require.NoError(t, ws.conn.Close())
			require.Equal(t, engineio.ReasonTransportClose, ws.h.ended(t))
		})
		t.Run("half-close", func(t *testing.T) {
			ws := s.websocket()
			half, ok := ws.conn.(interface{ CloseWrite() error })
			require.True(t, ok)
			require.NoError(t, half.CloseWrite())
			require.Equal(t, engineio.ReasonTransportClose, ws.h.ended(t))
			ws.expectCut()
		})
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

// rawTCP returns the TCP connection of a client.
func (c *wsClient) rawTCP() *net.TCPConn {
	if over, ok := c.conn.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn().(*net.TCPConn)
	}
	return c.conn.(*net.TCPConn)
}

// reset resets the connection, as the system of a crashed client does.
func (c *wsClient) reset() {
	c.t.Helper()
	require.NoError(c.t, c.rawTCP().SetLinger(0))
	require.NoError(c.t, c.rawTCP().Close())
}

func TestWSConn_Reset(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, shortClose)
		for name, before := range map[string]func(c *wsClient){
			"idle":              func(*wsClient) {},
			"in a frame":        func(c *wsClient) { c.write(frameBytes(0x80|opText, "4abc")[:4]) },
			"after a breach":    func(c *wsClient) { c.write(frameBytes(0xf0|opText, "4a")) },
			"with much unread":  func(c *wsClient) { c.h.Send(text(large(900_000)), text(large(900_000))) },
			"with input unread": func(c *wsClient) { c.send(numbered("4", 1000)...) },
			"closed by both":    func(c *wsClient) { c.h.Close(engineio.ReasonForcedClose) },
		} {
			for range 5 {
				ws := s.websocket()
				before(ws)
				ws.reset()
				require.Contains(t, []engineio.Reason{
					engineio.ReasonTransportError, engineio.ReasonTransportClose, engineio.ReasonParseError, engineio.ReasonForcedClose,
				}, ws.h.ended(t), name)
			}
		}
		// A handshake that is reset, with and without an upgrade after it.
		for range 20 {
			p := s.polling()
			for _, query := range []string{"EIO=4&transport=websocket", "EIO=4&transport=websocket&sid=" + p.sid, "EIO=4&transport=constructor"} {
				conn, err := s.dial()
				require.NoError(t, err)
				_, err = io.WriteString(conn, handshake(query))
				require.NoError(t, err)
				c := &wsClient{t: t, conn: conn}
				c.reset()
			}
			p.h.Close(engineio.ReasonForcedClose)
		}
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

// A reset at the moment of the upgrade ends the session.
func TestSession_ResetDuringUpgrade(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for range 10 {
			p := s.polling()
			ws := p.probe()
			poll := p.start(t.Context())
			ws.send("5")
			ws.reset()
			a := receive(t, poll)
			require.NoError(t, a.err)
			require.Contains(t, []string{"6", badRequest, unknownSession}, a.body)
			// The reset may arrive before the upgrade; then polling continues.
			if p.h.Transport() == "websocket" {
				require.Contains(t, []engineio.Reason{engineio.ReasonTransportError, engineio.ReasonTransportClose}, p.h.ended(t))
			}
		}
	})
}

// Random frames, most of them invalid, do not affect other sessions.
func TestWSConn_Garbage(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		good := s.websocket()
		for i := range 200 {
			r := rand.New(rand.NewPCG(uint64(i), 1))
			ws := s.websocket()
			b := make([]byte, r.IntN(300))
			for i := range b {
				b[i] = byte(r.Uint32())
			}
			if len(b) > 1 && i%2 == 0 { // more likely to be a valid header
				b[0], b[1] = 0x80|b[0]&0xf, 0x80|b[1]&0x3f
			}
			_, _ = ws.conn.Write(b)
			_ = ws.conn.Close()
		}
		good.send("4still here")
		good.expect("4still here")
		require.NoError(t, good.conn.Close())
		testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 0 })
	})
}

// The pooled buffers never show one connection's data to another.
func TestWSConn_PooledBuffersDoNotLeak(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		const clients = 8
		done := make(chan error, clients)
		for i := range clients {
			ws := s.websocket()
			go func() {
				mine := bytes.Repeat([]byte{byte('a' + i)}, 3000)
				for n := range 100 {
					size := 1 + (n*97+i*31)%len(mine)
					if _, err := ws.conn.Write(frameBytes(0x80|opBinary, string(mine[:size]))); err != nil {
						done <- err
						return
					}
					_, got, err := ws.frame()
					if err == nil && !bytes.Equal(got, mine[:size]) {
						err = errors.New("not what was sent")
					}
					if err != nil {
						done <- err
						return
					}
				}
				done <- nil
			}()
		}
		for range clients {
			require.NoError(t, receive(t, done))
		}
	})
}

// Half a frame delays neither other connections nor the end of its own.
func TestWSConn_Trickle(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for range 50 {
			s.websocket().write([]byte("\x81\xff\x00\x00\x00\x00\x00\x00\xff\xffmask"))
		}
		ws := s.websocket()
		began := time.Now()
		ws.send("4a")
		ws.expect("4a")
		require.Less(t, time.Since(began), patience)
		require.Equal(t, 51, s.Len())
	})
}
