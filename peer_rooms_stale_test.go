// Rooms of other nodes: what is old, and nodes that are wrong about each other.

package realtime_test

import (
	"context"
	"fmt"
	"regexp"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// After a gap a list of rooms may be older than what was lost: it counts only if it answers a
// request that was made after the gap.
func TestPeerRooms_ListOlderThanAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		hub.SetOnlyPeers(true)
		link, other := hub.Node(), hub.Node()
		sent := &sentCounter{Adapter: link, sent: map[string]int{}}
		srv := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = sent })
		var seen statesSeen
		require.NoError(t, other.Start(t.Context(), &seen))
		t.Cleanup(func() { require.NoError(t, other.Close(context.Background())) })
		number := 0
		list := func(more string) {
			number++
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON(fmt.Appendf(nil, `{"rooms":{"n":%d,"first":true,"last":true%s}}`, number, more)))
			require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{
				Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: realtime.NamespacePassengers, State: s,
			}))
			synctest.Wait()
		}
		published := func() int {
			sent.take()
			require.NoError(t, srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Volatile().EmitRaw("test", realtime.Raw{}))
			synctest.Wait()
			return sent.take()[`"test"`]
		}
		soon()
		list("")
		require.Zero(t, published(), "nobody has the room")
		link.Cut()
		link.Heal()
		soon()
		require.Equal(t, 1, published(), "something was lost")
		list("")
		require.Equal(t, 1, published(), "that list may have been sent before")
		list(`,"answers":["somebody else's request"]`)
		require.Equal(t, 1, published())
		asked := regexp.MustCompile(`"roomsOf":{"id":"([^"]+)"}`).FindAllStringSubmatch(seen.take(), -1)
		require.NotEmpty(t, asked)
		list(fmt.Sprintf(`,"answers":["x",%q]`, asked[len(asked)-1][1]))
		require.Zero(t, published())
	})
}

// nodeKeeper keeps the node that its adapter was started with.
type nodeKeeper struct {
	realtime.Adapter
	node realtime.Node
}

func (k *nodeKeeper) Start(ctx context.Context, n realtime.Node) error {
	k.node = n
	return k.Adapter.Start(ctx, n)
}

// A node that takes its only peer for dead, wrongly, still announces its rooms to it.
func TestPeerRooms_PeerThatIsTakenForDead(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		hub.SetOnlyPeers(true)
		alive := hub.Node()
		wrong := &nodeKeeper{Adapter: hub.Node()}
		a := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = wrong })
		b := realtimetest.NewServer(t, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = alive })
		soon()
		wrong.node.PeerLost(alive.Peer(), true)
		client := a.Driver(t, "d1")
		announce()
		require.NoError(t, b.Realtime.Drivers().To(realtime.DriverRoom("d1")).Volatile().EmitRaw("test", realtime.Raw{}))
		_, err := client.NextRaw(t.Context(), "test")
		require.NoError(t, err)
		wrong.node.PeerJoined(alive.Peer())
		soon()
		require.NoError(t, b.Realtime.Drivers().To(realtime.DriverRoom("d1")).Volatile().EmitRaw("test", realtime.Raw{}))
		_, err = client.NextRaw(t.Context(), "test")
		require.NoError(t, err)
	})
}
