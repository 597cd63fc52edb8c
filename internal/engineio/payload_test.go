package engineio_test

import (
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// Python's client, of Engine.IO 3 and of 4, refuses a payload of more than 16 packets.
func TestSession_AtMost16PacketsInAPayload(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, allowEIO3)
	t.Run("EIO4", func(t *testing.T) {
		t.Parallel()
		p := s.polling()
		packets := numbered("4", 40)
		for i, packet := range packets {
			if i == 15 { // an attachment is a packet too
				packets[i] = "bAQ=="
				p.h.Send(engineio.BinaryMessage([]byte{1}))
				continue
			}
			p.h.Send(text(packet[1:]))
		}
		for _, want := range []string{joined(packets[:16]...), joined(packets[16:32]...), joined(packets[32:]...)} {
			status, body := p.poll()
			require.Equal(t, http.StatusOK, status)
			require.Equal(t, want, body)
		}
	})
	t.Run("EIO3", func(t *testing.T) {
		t.Parallel()
		p := s.pollingEIO3("")
		packets := numbered("4", 40)
		for _, packet := range packets {
			p.h.Send(text(packet[1:]))
		}
		for _, want := range []string{lengths(packets[:16]...), lengths(packets[16:32]...), lengths(packets[32:]...)} {
			_, body := p.poll()
			require.Equal(t, want, body)
		}
		for range 17 {
			p.h.Send(engineio.BinaryMessage([]byte{1}))
		}
		for _, n := range []int{16, 1} {
			_, body := p.poll()
			require.Equal(t, strings.Repeat(binaryPayload("\x04\x01"), n), body, fmt.Sprint(n))
		}
	})
}
