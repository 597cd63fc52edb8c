package engineio_test

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// beginPost sends the beginning of a POST body.
func (p *poller) beginPost(announced, sent int) net.Conn {
	p.s.t.Helper()
	conn, err := p.s.dial()
	require.NoError(p.s.t, err)
	p.s.t.Cleanup(func() { _ = conn.Close() })
	_, err = fmt.Fprintf(conn, "POST /?%s HTTP/1.1\r\nHost: engine.test\r\nContent-Length: %d\r\n\r\n4%s", p.query(), announced, large(sent-1))
	require.NoError(p.s.t, err)
	return conn
}

// A POST whose body never ends is over when its session ends, and its memory is no
// longer counted.
func TestPost_BodyEndsWithItsSession(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		for name, end := range map[string]func(p *poller){
			"ping timeout": func(p *poller) { p.h.PingNow(); p.h.PingNow() },
			"second POST":  func(p *poller) { p.post("4x") },
			"close": func(p *poller) {
				p.h.Close(engineio.ReasonForcedClose)
				p.expectGone()
			},
		} {
			p := s.polling()
			conn := p.beginPost(900_000, 100_000)
			testkit.Eventually(t, "the body was not read", func() bool { return s.Incoming() >= 100_000 })
			end(p)
			require.NoError(t, conn.SetReadDeadline(time.Now().Add(patience)))
			resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
			require.NoError(t, err, name)
			require.Equal(t, http.StatusBadRequest, resp.StatusCode, name)
			_, err = io.Copy(io.Discard, conn)
			require.NoError(t, err, name)
			require.Zero(t, s.Incoming(), name)
		}
	})
}

// Incomplete bodies and messages share one limit. The oldest ones are dropped to admit
// new ones.
func TestIncoming_IsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const limit = 4_000_000
		var limited atomic.Int64
		s := start(t, c, func(set *setup) {
			set.engine.MaxIncomingBytes = limit
			set.engine.Limited = func(_ engineio.Handler, e engineio.Exceeded) {
				if e.Limit == engineio.LimitIncomingBytes {
					limited.Add(1)
				}
			}
		})
		const n = 20
		hs := make([]*handler, 0, 2*n)
		for range n {
			p, ws := s.polling(), s.websocket()
			hs = append(hs, p.h, ws.h)
			p.beginPost(900_000, 500_000)
			ws.write(frameBytes(0x80|opBinary, large(900_000))[:500_000])
			require.LessOrEqual(t, s.Incoming(), limit)
		}
		testkit.Eventually(t, "not all was read", func() bool { return limited.Load() > n })
		testkit.Eventually(t, "those that were ended are still known", func() bool { return s.Len()+int(limited.Load()) == 2*n })
		require.LessOrEqual(t, s.Incoming(), limit)
		require.Greater(t, s.Len(), 2)
		require.Equal(t, engineio.ReasonTransportError, hs[0].ended(t))
		require.Equal(t, engineio.ReasonTransportError, hs[1].ended(t))
		require.Empty(t, hs[2*n-1].closed)
		require.Empty(t, hs[2*n-2].closed)

		// Other clients are not affected.
		p, ws := s.polling(), s.websocket()
		p.postOK("4" + large(900_000))
		p.expect("4" + large(900_000))
		ws.send("4" + large(900_000))
		ws.expect("4" + large(900_000))
	})
}

// Unknown sessions make room before clients that the layer above knows, and have half of the
// memory: however many of them send halves of messages, the known ones are not ended.
func TestSession_SetKnown(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const limit = 4_000_000
		s := start(t, c, func(set *setup) { set.engine.MaxIncomingBytes = limit })
		begin := func(known bool) *wsClient {
			ws := s.websocket()
			if known {
				ws.h.SetKnown(true)
			}
			ws.write(frameBytes(0x80|opBinary, large(900_000))[:500_000])
			return ws
		}
		late := begin(false)
		testkit.Eventually(t, "not counted", func() bool { return s.Incoming() >= 500_000 })
		late.h.SetKnown(true) // what it holds goes with it
		late.h.SetKnown(true)
		known := []*wsClient{late, begin(true)}
		testkit.Eventually(t, "not counted", func() bool { return s.Incoming() >= 1_000_000 })
		const held = 2 * 700_000 // the buffers may be larger than what they hold, and still grow
		var unknown []*wsClient
		for range 20 {
			unknown = append(unknown, begin(false))
			require.LessOrEqual(t, s.Incoming(), held+limit/2)
		}
		for _, ws := range unknown[:10] {
			require.Equal(t, engineio.ReasonTransportError, ws.h.ended(t))
		}
		for range 20 { // now they need the room themselves
			known = append(known, begin(true))
		}
		require.Equal(t, engineio.ReasonTransportError, known[0].h.ended(t), "the oldest of them")
		for _, ws := range unknown {
			testkit.Eventually(t, "an unknown session holds memory that others need", func() bool { return !s.Has(ws.sid) })
		}
		require.LessOrEqual(t, s.Incoming(), limit)
		require.Empty(t, known[len(known)-1].h.closed)
		require.Empty(t, known[len(known)-2].h.closed)
	})
}

// Complete, dropped and small messages are not counted.
func TestIncoming_IsReleased(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		frame := frameBytes(0x80|opText, "4"+large(900_000))
		ws.write(frame[:3000])
		time.Sleep(5 * time.Millisecond)
		require.Zero(t, s.Incoming())
		ws.write(frame[3000:500_000])
		testkit.Eventually(t, "not counted", func() bool { return s.Incoming() >= 500_000 })
		ws.write(frame[500_000:])
		ws.expect("4" + large(900_000))
		testkit.Eventually(t, "still counted", func() bool { return s.Incoming() == 0 })

		ws.write(fragments(opText, "4"+large(900_000), 10, nil)[:500_000])
		testkit.Eventually(t, "fragments are not counted", func() bool { return s.Incoming() >= 450_000 })
		ws.h.PingNow()
		ws.h.PingNow()
		require.Equal(t, engineio.ReasonPingTimeout, ws.h.ended(t))
		testkit.Eventually(t, "counted for a session that has ended", func() bool { return s.Incoming() == 0 })

		// A websocket whose upgrade is not complete may not send a large packet.
		p := s.polling()
		probe := p.probe()
		_, _ = probe.conn.Write(frame[:500_000]) // fails once the connection is closed
		testkit.Eventually(t, "the upgrade is not abandoned", func() bool { return !p.h.Probing() })
		require.Zero(t, s.Incoming())
		p.postOK("4a")
		p.expect("4a")
	})
}
