package engineio_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"strings"
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

// fragments splits a message into n frames, each followed by between.
func fragments(op byte, data string, n int, between []byte) []byte {
	var all []byte
	for i := range n {
		first := byte(opContinuation)
		if i == 0 {
			first = op
		}
		if i == n-1 {
			first |= 0x80
		}
		all = append(all, frameBytes(first, data[i*len(data)/n:(i+1)*len(data)/n])...)
		if i < n-1 {
			all = append(all, between...)
		}
	}
	return all
}

func TestWSConn_Fragments(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		data := "4" + large(9000) + "é☃" + large(9000)
		for _, n := range []int{2, 3, 100, 4096} {
			ws.write(fragments(opText, data, n, nil))
			ws.expect(data)
			ws.write(fragments(opBinary, data, n, nil))
			ws.expectBinary(data)
		}
		ws.write(fragments(opText, "4a", 50, nil)) // most of them empty
		ws.expect("4a")

		// Control frames may come between fragments, and are answered at once.
		ws.write(fragments(opText, "4abc", 4, append(frameBytes(0x80|opPing, "p"), frameBytes(0x80|opPong, "q")...)))
		for range 3 {
			op, payload, err := ws.frame()
			require.NoError(t, err)
			require.EqualValues(t, opPong, op)
			require.Equal(t, "p", string(payload))
		}
		ws.expect("4abc")
	})
}

func TestWSConn_PingFrames(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		for _, data := range []string{"", "ping", strings.Repeat("x", 125)} {
			ws.write(frameBytes(0x80|opPing, data))
			op, payload, err := ws.frame()
			require.NoError(t, err)
			require.EqualValues(t, opPong, op)
			require.Equal(t, data, string(payload))
		}
		ws.write(frameBytes(0x80|opPong, "unasked"))
		ws.send("4a")
		ws.expect("4a")
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

// A violation of the websocket protocol closes the connection with the status of RFC
// 6455; the messages before it are delivered.
func TestWSConn_InvalidFrames(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		const (
			protocolError = 1002
			invalidData   = 1007
			tooBig        = 1009
		)
		length := func(first byte, n uint64) []byte {
			return append(binary.BigEndian.AppendUint64([]byte{first, 0xff}, n), "mask"...)
		}
		cases := map[string]struct {
			input  []byte
			status int
		}{
			"first reserved bit":       {frameBytes(0xc0|opText, "4a"), protocolError},
			"second reserved bit":      {frameBytes(0xa0|opText, "4a"), protocolError},
			"third reserved bit":       {frameBytes(0x90|opText, "4a"), protocolError},
			"all reserved bits":        {frameBytes(0xf0|opBinary, "4a"), protocolError},
			"reserved bit of a ping":   {frameBytes(0xc0|opPing, ""), protocolError},
			"unmasked":                 {[]byte("\x81\x024a"), protocolError},
			"unmasked and empty":       {[]byte{0x81, 0}, protocolError},
			"unmasked close":           {[]byte{0x88, 0}, protocolError},
			"length MSB":               {length(0x82, 0x8000000000000001), protocolError},
			"length all ones":          {length(0x82, 1<<64-1), protocolError},
			"length MSB, 15 bytes":     {append(length(0x82, 0x8000000000000001), 0), protocolError},
			"largest length":           {length(0x82, 1<<63-1), tooBig},
			"256 MB from header alone": {length(0x82, 256<<20), tooBig},
			"one over from the header": {length(0x82, 1_000_001), tooBig},
			"ping of 126":              {frameBytes(0x80|opPing, large(126)), protocolError},
			"close of 126":             {frameBytes(0x80|opClose, large(126)), protocolError},
			"fragmented ping":          {frameBytes(opPing, "p"), protocolError},
			"fragmented close":         {frameBytes(opClose, ""), protocolError},
			"continuation of nothing":  {frameBytes(0x80|opContinuation, "4a"), protocolError},
			"unfinished continuation":  {frameBytes(opContinuation, "4a"), protocolError},
			"text within a message":    {append(frameBytes(opText, "4a"), frameBytes(0x80|opText, "4b")...), protocolError},
			"binary within a message":  {append(frameBytes(opBinary, "4a"), frameBytes(opBinary, "4b")...), protocolError},
			"invalid UTF-8":            {frameBytes(0x80|opText, "4\xc3\x28"), invalidData},
			"UTF-8 cut short":          {frameBytes(0x80|opText, "4\xe2\x98"), invalidData},
			"UTF-8 surrogate":          {frameBytes(0x80|opText, "4\xed\xa0\x80"), invalidData},
			"invalid over fragments":   {fragments(opText, "4abc\xff\xffdef", 5, nil), invalidData},
			"too many fragments":       {fragments(opText, "4"+large(5000), 4098, nil), tooBig},
			"too many empty fragments": {fragments(opText, "4", 5000, nil), tooBig},
			"too large in fragments":   {fragments(opText, "4"+large(1_000_000), 10, nil), tooBig},
			"too large in a thousand":  {fragments(opBinary, large(1_000_001), 1000, nil), tooBig},
		}
		for op := range byte(16) {
			if op >= 3 && op <= 7 || op >= 11 {
				cases["opcode "+string('a'+rune(op))] = struct {
					input  []byte
					status int
				}{frameBytes(0x80|op, "4a"), protocolError}
			}
		}
		for name, tc := range cases {
			t.Run(name, func(t *testing.T) {
				ws := s.websocket()
				// More input follows: it is discarded, and does not cause a reset.
				go func() {
					_, _ = ws.conn.Write(append(append(frameBytes(0x80|opText, "4before"), tc.input...), frameBytes(0x80|opText, "4after")...))
				}()
				ws.expect("4before")
				ws.expectClose(tc.status)
				require.Equal(t, engineio.ReasonParseError, ws.h.ended(t))
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
