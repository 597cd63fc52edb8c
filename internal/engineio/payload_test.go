package engineio_test

import (
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync/atomic"
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

// statusSpy calls a function with the status of an answer, before the answer.
type statusSpy struct {
	http.ResponseWriter
	answers func(status int)
}

func (w statusSpy) Unwrap() http.ResponseWriter { return w.ResponseWriter }

func (w statusSpy) WriteHeader(status int) {
	w.answers(status)
	w.ResponseWriter.WriteHeader(status)
}

// A client whose poll ends before it has the answer to its POST does not learn that it was the
// POST, and what was wrong with it.
func TestPost_RefusedBeforeTheSessionEnds(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		type seen struct {
			status int
			has    bool
		}
		var s *server
		var sid atomic.Value
		answers := make(chan seen, 10)
		s = start(t, c, func(set *setup) {
			set.engine.MaxPayload = 1000
			set.wrap = func(w http.ResponseWriter) http.ResponseWriter {
				return statusSpy{w, func(status int) {
					id, _ := sid.Load().(string)
					answers <- seen{status, s.Has(id)}
				}}
			}
		})
		for _, body := range []io.Reader{strings.NewReader(large(1001)), struct{ io.Reader }{strings.NewReader(large(1001))}} {
			p := s.polling()
			sid.Store(p.sid)
			poll := p.open()
			r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://engine.test/?"+p.query(), body)
			require.NoError(t, err)
			resp, err := s.http.Do(r)
			require.NoError(t, err)
			require.NoError(t, resp.Body.Close())
			require.Equal(t, http.StatusRequestEntityTooLarge, resp.StatusCode)
			require.Zero(t, resp.ContentLength)
			require.Equal(t, seen{http.StatusRequestEntityTooLarge, true}, receive(t, answers))
			require.Equal(t, unknownSession, receive(t, poll).body)
			require.Equal(t, http.StatusBadRequest, receive(t, answers).status)
			require.Equal(t, engineio.ReasonTransportError, p.h.ended(t))
		}
	})
}
