package engineio_test

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// Handlers may wait for anything, even for messages of other clients: however many
// wait, the next messages are read and served.
func TestHandler_ServeMayWaitForOthers(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		var mu sync.Mutex
		var here, clients int
		var all chan struct{}
		late := make(chan struct{}, 100)
		s := start(t, c, recordMessages, func(set *setup) {
			set.serve = func(*handler) {
				mu.Lock()
				gate := all
				if here++; here == clients {
					close(gate)
				}
				mu.Unlock()
				select {
				case <-gate:
				case <-time.After(patience):
					late <- struct{}{}
				}
			}
		})
		conns := make([]*wsClient, 20)
		for i := range conns {
			conns[i] = s.websocket()
		}
		for round := range 60 {
			gate := make(chan struct{})
			mu.Lock()
			here, clients, all = 0, 2+round%(len(conns)-1), gate
			some := conns[:clients]
			mu.Unlock()
			for i, ws := range some {
				if i == len(some)-2 && round%2 == 0 {
					time.Sleep(time.Millisecond) // the other handlers wait by now
				}
				ws.send("4a")
			}
			receive(t, gate)
			require.Empty(t, late)
		}
	})
}

// Clients that send without a break do not make others wait, and are served while they
// send.
func TestServer_FloodsDelayNobody(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		served := make(chan struct{}, 1)
		s := start(t, c, func(set *setup) {
			set.message = func(h *handler, data []byte, binary bool) error {
				if string(data) != "flood" {
					h.echo(data, binary)
				}
				return nil
			}
			set.serve = func(*handler) {
				select {
				case served <- struct{}{}:
				default:
				}
			}
		})
		var flooding sync.WaitGroup
		floods := make([]*wsClient, 2)
		for i := range floods {
			ws := s.websocket()
			floods[i] = ws
			flooding.Go(func() {
				b := bytes.Repeat(append(frameBytes(0x80|opText, "6"), frameBytes(0x80|opText, "4flood")...), 5000)
				for {
					if _, err := ws.conn.Write(b); err != nil {
						return
					}
				}
			})
		}
		other := s.websocket()
		for range 10 {
			receive(t, served)
			other.send("4a")
			other.expect("4a")
		}
		for _, ws := range floods {
			require.Empty(t, ws.h.closed)
			require.NoError(t, ws.conn.Close())
		}
		flooding.Wait()
	})
}
