// Tests with as many waiting handlers as a node may have: they do not affect others.

package engineio_test

import (
	"net/http"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime/internal/testkit"
	"github.com/stretchr/testify/require"
)

// waiting makes handlers wait until a test ends.
type waiting struct {
	inside  atomic.Int64
	release chan struct{}
	once    sync.Once
}

// end releases all of them.
func (w *waiting) end() { w.once.Do(func() { close(w.release) }) }

// serve waits if the session has asked for it.
func (w *waiting) serve(*handler) {
	w.inside.Add(1)
	<-w.release
	w.inside.Add(-1)
}

// fill sends messages, each of which makes a handler wait, until n handlers wait.
func (w *waiting) fill(t *testing.T, conns []*wsClient, n int) {
	t.Helper()
	for want := int64(0); want < int64(n); {
		for _, ws := range conns {
			ws.send("4wait")
		}
		want += int64(len(conns))
		testkit.Eventually(t, "messages are not served", func() bool { return w.inside.Load() >= want })
	}
}

// responsive checks that everything that needs no handler of the host still works.
func responsive(t *testing.T, s *server, old *wsClient) {
	t.Helper()
	fastest := time.Hour
	for try := 0; try < 5 && fastest >= time.Second; try++ { // a busy machine takes longer
		began := time.Now()
		serves(s, old)
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, time.Second)
}

// serves does all that needs no handler of the host.
func serves(s *server, old *wsClient) {
	for range 3 {
		old.h.PingNow() // sends a ping; a second one only if the first was answered
		old.expect("2")
		old.send("3", "4a")
		old.expect("4a")
	}
	fresh := s.websocket()
	fresh.send("4a")
	fresh.expect("4a")
	polling := s.polling()
	polling.postOK("4a")
	polling.expect("4a")
	upgraded := polling.upgrade()
	upgraded.send("4a")
	upgraded.expect("4a")
}

// However many handlers wait, the messages, pongs, acks and handshakes of all other
// clients are read, and messages are sent to them.
func TestHandler_WaitingServesDelayNobody(t *testing.T) {
	for _, c := range []carrier{tcp, hidden} {
		t.Run(c.name, func(t *testing.T) {
			w := &waiting{release: make(chan struct{})}
			s := start(t, c, func(set *setup) {
				set.engine.CloseTimeout = time.Hour // only ctx ends Shutdown
				set.serve = func(h *handler) {
					if len(h.in) > 0 {
						w.serve(h)
					}
				}
				set.message = func(h *handler, data []byte, binary bool) error {
					if string(data) == "wait" {
						return h.record(data, binary)
					}
					h.echo(data, binary)
					return nil
				}
			})
			t.Cleanup(w.end)
			conns := make([]*wsClient, 500)
			for i := range conns {
				conns[i] = s.websocket()
			}
			old := s.websocket()
			w.fill(t, conns, waitingHandlers)
			responsive(t, s, old)
			// Clients whose handlers wait are read as well.
			conns[0].h.PingNow()
			conns[0].expect("2")

			require.Error(t, receive(t, s.shutdown(over(t))), "clients that stay were not cut off")
			require.EqualValues(t, waitingHandlers, w.inside.Load())
			w.end()
			testkit.Eventually(t, "handlers are left", func() bool { return w.inside.Load() == 0 })
			status, _, err := s.request(t.Context(), http.MethodGet, "EIO=4&transport=polling", nil)
			require.NoError(t, err)
			require.Equal(t, http.StatusServiceUnavailable, status)
		})
	}
}
