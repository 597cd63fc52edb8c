package engineio_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

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
