// When the bus has handled everything.

package main

import (
	"context"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// A server publishes an event again whose publishing took too long, under the same id.
func TestBus_SettlesWhenAnIDComesTwice(t *testing.T) {
	t.Parallel()
	for name, fanOut := range map[string]bool{"to all nodes": true, "to one node": false} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				b := newBus(&world{config: config{troubles: troubles{}}}, 2, fanOut)
				for node := range 2 {
					_, err := nodeBus{b, node}.Subscribe(func(context.Context, realtime.Envelope) error {
						time.Sleep(time.Second)
						return nil
					})
					require.NoError(t, err)
				}
				for _, id := range []string{"1", "2", "1", "3"} {
					require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: id, Key: "k", Name: "stress"}))
				}
				began := time.Now()
				ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
				defer cancel()
				require.NoError(t, b.settle(ctx))
				require.Equal(t, 4*time.Second, time.Since(began))
				require.Empty(t, b.left)
			})
		})
	}
}

// A key may move while the node that does not have it has yet to look at the event.
func TestBus_DeliversToOneNodeWhileItsKeyMoves(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		b := newBus(&world{config: config{troubles: troubles{}}}, 2, false)
		var handled atomic.Int64
		for node := range 2 {
			_, err := nodeBus{b, node}.Subscribe(func(context.Context, realtime.Envelope) error {
				handled.Add(1)
				b.assignKey("k", 1-node)
				return nil
			})
			require.NoError(t, err)
		}
		for range 200 {
			require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "1", Key: "k", Name: "stress"}))
			synctest.Wait()
		}
		require.EqualValues(t, 200, handled.Load())
	})
}

// What a node sends while it is alone never arrives, so nobody may wait for it.
func TestWire_SettlesAfterMessagesToNobody(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		w := &world{count: &stresskit.Counts{}}
		w.host = newHost(w)
		hub := realtimetest.NewHub()
		ws := newWires(w, hub)
		for i := range ws {
			require.NoError(t, ws[i].Start(t.Context(), idleNode{}))
			require.NoError(t, ws[0].Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: lab}))
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		began := time.Now()
		require.NoError(t, ws[0].settle(ctx))
		require.NoError(t, ws[1].settle(ctx))
		require.Zero(t, time.Since(began))
		require.Equal(t, map[string]int{lab: 1}, ws[0].sent)
		for i := range ws {
			require.NoError(t, ws[i].Close(ctx))
		}
	})
}

// idleNode is a node that does nothing with what it receives.
type idleNode struct{ realtime.Node }

func (idleNode) Deliver(realtime.ClusterMessage) {}
func (idleNode) PeerJoined(realtime.Peer)        {}
func (idleNode) PeerLost(realtime.Peer, bool)    {}
func (idleNode) OnlyPeers(bool)                  {}
