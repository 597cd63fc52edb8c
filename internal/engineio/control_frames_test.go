package engineio_test

import (
	"encoding/binary"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// RFC 6455, section 7.4, says which statuses a close frame may have, and 5.5.1 that its reason
// is text.
func TestWSConn_CloseFrames(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		answers := map[string]int{
			"x":                             1002,
			"\x03\xe8\xff":                  1007,
			"\x03\xe8abc\xed\xa0\x80":       1007, // a surrogate
			"\x03\xe9" + "a reason: \u2603": 1000,
			"\x03\xec\xff":                  1002, // of two faults the first
			"\x03\xe8" + large(123):         1000,
		}
		status := func(n int) string { return string(binary.BigEndian.AppendUint16(nil, uint16(n))) }
		for _, n := range []int{1000, 1001, 1002, 1003, 1007, 1008, 1009, 1010, 1011, 1012, 1013, 1014, 3000, 3999, 4000, 4999} {
			answers[status(n)] = 1000
		}
		for _, n := range []int{0, 1, 999, 1004, 1005, 1006, 1015, 1016, 1100, 2000, 2999, 5000, 65535} {
			answers[status(n)] = 1002
		}
		for payload, want := range answers {
			ws := s.websocket()
			ws.write(append(frameBytes(0x80|opClose, payload), frameBytes(0x80|opText, "4after")...))
			op, answer, err := ws.frame()
			require.NoError(t, err)
			require.EqualValues(t, opClose, op)
			require.EqualValues(t, want, binary.BigEndian.Uint16(answer), "%x", payload)
			ws.expectEOF()
			reason := engineio.ReasonTransportClose
			if want != 1000 {
				reason = engineio.ReasonParseError
			}
			require.Equal(t, reason, ws.h.ended(t), "%x", payload)
		}
	})
}

// While the server waits for the client to close, an invalid close frame is one too.
func TestWSConn_CloseFrameWhileClosing(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		ws.h.Send(text("bye"))
		ws.h.Dismiss(engineio.ReasonForcedClose)
		ws.expect("4bye")
		ws.write(frameBytes(0x80|opClose, "x"))
		ws.expectClose(1002)
	})
}

// A ping that comes while the client does not read, and while not one message more may wait, is
// answered when the client reads again. Of several the last one is.
func TestWSConn_PingWhileTheOutboxIsFull(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const limit = 1000
		s := start(t, c, smallBuffers, recordMessages, func(set *setup) { set.engine.MaxOutboxMessages = limit })
		ws, sent := s.stall()
		for messages, _ := ws.h.Queued(); messages < limit; messages, _ = ws.h.Queued() {
			data := fmt.Sprint("more ", messages)
			require.True(t, ws.h.Send(text(data)))
			sent = append(sent, "4"+data)
		}
		for i := range 3 {
			ws.write(frameBytes(0x80|opPing, fmt.Sprint("ping ", i)))
		}
		ws.send("4x")
		require.Equal(t, message{"x", false}, receive(t, ws.h.in)) // the pings have been read
		ws.expect(sent...)
		op, payload, err := ws.frame()
		require.NoError(t, err)
		require.EqualValues(t, opPong, op)
		require.Equal(t, "ping 2", string(payload))
		require.True(t, ws.h.Send(text("end")))
		ws.expect("4end")
	})
}

// So is the ping packet of an EIO3 client, which would close the connection otherwise.
func TestEIO3_PingWhileTheOutboxIsFull(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, allowEIO3, recordMessages, func(set *setup) { set.engine.MaxOutboxMessages = 16 })
		p := s.pollingEIO3("")
		packets := numbered("4", 16)
		for _, packet := range packets {
			require.True(t, p.h.Send(text(packet[1:])))
		}
		p.postOK(strings.Repeat("1:2", 10))
		for _, want := range []string{lengths(packets...), "1:3"} {
			_, body := p.poll()
			require.Equal(t, want, body)
		}
		testkit.Eventually(t, "the pong is left", func() bool {
			messages, _ := p.h.Queued()
			return messages == 0
		})
	})
}
