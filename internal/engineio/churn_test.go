package engineio_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// visit is the short session of a client, of one of several kinds. Errors are expected.
func (s *server) visit(kind int) {
	conn, err := s.dial()
	if err != nil {
		return
	}
	defer func() { _ = conn.Close() }()
	_ = conn.SetDeadline(time.Now().Add(patience))
	c := &wsClient{t: s.t, conn: conn}
	switch kind % 4 {
	case 0: // with data in the segment of the handshake, then a reset
		_, _ = conn.Write(append([]byte(handshake("EIO=4&transport=websocket")), frameBytes(0x80|opText, "4early")...))
		_, _ = conn.Read(make([]byte, 300))
		_ = c.rawTCP().SetLinger(0)
	case 1: // half a frame
		_, _ = conn.Write([]byte(handshake("EIO=4&transport=websocket")))
		_, _ = conn.Read(make([]byte, 300))
		_, _ = conn.Write(frameBytes(0x80|opText, "4half")[:7])
	case 2: // nonsense
		_, _ = conn.Write(append([]byte(handshake("EIO=4&transport=websocket")), 0xff, 0xff, 0xff))
		_, _ = conn.Read(make([]byte, 300))
	default: // polling that upgrades and disconnects
		_, body, err := s.request(context.Background(), http.MethodGet, "EIO=4&transport=polling", nil)
		if err != nil || !strings.HasPrefix(body, "0") {
			return
		}
		sid := body[len(`0{"sid":"`):][:22]
		_, _ = conn.Write(append([]byte(handshake("EIO=4&transport=websocket&sid="+sid)), frameBytes(0x80|opText, "2probe")...))
		_, _ = conn.Read(make([]byte, 300))
		_, _ = conn.Write(append(frameBytes(0x80|opText, "5"), frameBytes(0x80|opClose, "")...))
	}
}

// Clients connect and disconnect in every way while others exchange messages. The
// others lose nothing, and at the end no session is left.
func TestServer_Churn(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, shortClose)
		var churning, working sync.WaitGroup
		var stop atomic.Bool
		for i := range 4 {
			churning.Go(func() {
				for n := i; !stop.Load(); n++ {
					s.visit(n)
				}
			})
		}
		churning.Go(func() { // broadcasts reach sessions in every state
			var known []*handler
			m := text("to all")
			for !stop.Load() {
				select {
				case h := <-s.sessions:
					if !s.Has(h.ID()) { // not opened yet, or ended
						continue
					}
					known = append(known, h)
				default:
					time.Sleep(100 * time.Microsecond)
				}
				for _, h := range known {
					h.Send(m)
				}
				if n := len(known); n > 20 {
					known[rand.IntN(n)].Close(engineio.ReasonForcedClose)
					known = known[n-10:]
				}
			}
		})
		failed := make(chan error, 4)
		for range 4 {
			conn, err := s.dial()
			require.NoError(t, err)
			ws := &wsClient{t: t, conn: conn}
			ws.write([]byte(handshake("EIO=4&transport=websocket")))
			ws.skipResponse()
			parseOpen(t, ws.text())
			working.Go(func() {
				defer func() { _ = conn.Close() }()
				for i := range 300 {
					want := fmt.Sprint("4", i)
					if _, err := ws.conn.Write(frameBytes(0x80|opText, want)); err != nil {
						failed <- err
						return
					}
					for {
						_, got, err := ws.frame()
						if errors.Is(err, io.EOF) { // one of the clients that the server closed
							return
						}
						if err == nil && bytes.Equal(got, []byte("4to all")) {
							continue
						}
						if err == nil && string(got) == "2" { // on a slow machine
							_, _ = ws.conn.Write(frameBytes(0x80|opText, "3"))
							continue
						}
						if err == nil && string(got) != want {
							err = fmt.Errorf("%q instead of %q", got, want)
						}
						if err != nil {
							failed <- err
							return
						}
						break
					}
				}
			})
		}
		working.Wait()
		stop.Store(true)
		churning.Wait()
		close(failed)
		require.NoError(t, <-failed)
		testkit.Eventually(t, "websockets are left", func() bool { return s.Len() == 0 })
	})
}
