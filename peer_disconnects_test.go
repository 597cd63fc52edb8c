// Presence after a gap whose missed messages nobody, or not everybody, can repeat.

package realtime_test

import (
	"context"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// unawareAdapter is an adapter whose node does not notice which nodes come and go while unaware is set.
type unawareAdapter struct {
	realtime.Adapter
	unaware atomic.Bool
	node    realtime.Node
}

func (a *unawareAdapter) Start(ctx context.Context, n realtime.Node) error {
	a.node = n
	return a.Adapter.Start(ctx, unawareNode{n, a})
}

type unawareNode struct {
	realtime.Node
	adapter *unawareAdapter
}

func (n unawareNode) PeerJoined(p realtime.Peer) {
	if !n.adapter.unaware.Load() {
		n.Node.PeerJoined(p)
	}
}

func (n unawareNode) PeerLost(p realtime.Peer, died bool) {
	if !n.adapter.unaware.Load() {
		n.Node.PeerLost(p, died)
	}
}

// gapCluster is a cluster of three nodes, the second of which has a gap.
type gapCluster struct {
	hub   *realtimetest.Hub
	nodes []*realtimetest.Server
	links []*realtimetest.HubNode
	gap   *unawareAdapter // of the second
	heard *presenceReader
}

func newGapCluster(t *testing.T) *gapCluster {
	t.Helper()
	c := &gapCluster{hub: realtimetest.NewHub(), heard: &presenceReader{}}
	for range 3 {
		c.add(t)
	}
	return c
}

func (c *gapCluster) add(t *testing.T) *realtimetest.Server {
	t.Helper()
	link := c.hub.Node()
	adapter := realtime.Adapter(link)
	if len(c.links) == 1 {
		c.gap = &unawareAdapter{Adapter: link}
		adapter = c.gap
	}
	srv := realtimetest.NewServer(t, withPresence, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
	c.links, c.nodes = append(c.links, link), append(c.nodes, srv)
	c.heard.servers = c.nodes
	return srv
}

// If the node that has published a user as disconnected cannot be asked after the gap of the node
// that has the user, that node publishes all of its users again: it may be about any of them.
func TestGap_PresenceOfAPublisherThatIsLost(t *testing.T) {
	for name, c := range map[string]struct {
		lose func(t *testing.T, c *gapCluster) // the publisher, while the gap lasts
		then func(c *gapCluster)               // after the gap
	}{
		"killed": {lose: func(_ *testing.T, c *gapCluster) { c.links[0].Kill() }},
		"left":   {lose: func(t *testing.T, c *gapCluster) { require.NoError(t, c.nodes[0].Realtime.Shutdown(t.Context())) }},
		"killed, which is noticed after the gap": {
			func(_ *testing.T, c *gapCluster) {
				c.gap.unaware.Store(true)
				c.links[0].Kill()
			},
			func(c *gapCluster) {
				time.Sleep(7 * time.Second)
				c.gap.node.PeerLost(c.links[0].Peer(), true)
			},
		},
		"does not answer": {
			func(_ *testing.T, c *gapCluster) {
				c.gap.unaware.Store(true)
				c.links[0].Kill()
			},
			func(*gapCluster) { time.Sleep(30 * time.Second) },
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newGapCluster(t)
				here := n.nodes[0].Driver(t, "d1")
				n.nodes[1].Driver(t, "d1")
				n.nodes[1].Driver(t, "d2")
				n.nodes[2].Driver(t, "d3")
				time.Sleep(time.Second)
				require.Len(t, n.heard.take(t), 4)
				n.links[1].Cut()
				here.Close()
				waitFor(grace)
				require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, n.heard.take(t))
				c.lose(t, n)
				time.Sleep(time.Second)
				n.links[1].Heal()
				soon()
				if c.then != nil {
					require.Empty(t, n.heard.take(t))
					c.then(n)
					soon()
				}
				require.ElementsMatch(t, []string{"+/drivers d1", "+/drivers d2"}, n.heard.take(t))
				time.Sleep(30 * time.Minute)
				require.Empty(t, n.heard.take(t))
			})
		})
	}
}

// A node that has come and has died while another one had a gap is not known to that one: a third
// one says that there was such a node.
func TestGap_PresenceOfAPublisherThatIsNotKnown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newGapCluster(t)
		n.nodes[1].Driver(t, "d1")
		time.Sleep(time.Second)
		require.Len(t, n.heard.take(t), 1)
		n.gap.unaware.Store(true)
		n.links[1].Cut()
		n.add(t).Driver(t, "d1").Close()
		waitFor(grace)
		require.Equal(t, []string{"+/drivers d1", "-/drivers d1 client namespace disconnect"}, n.heard.take(t))
		n.links[3].Kill()
		time.Sleep(time.Second)
		n.gap.unaware.Store(false)
		n.links[1].Heal()
		soon()
		require.Equal(t, []string{"+/drivers d1"}, n.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, n.heard.take(t))
	})
}

// A node that dies while the others receive everything makes nobody publish again, and neither
// does a gap about which every peer answers.
func TestGap_PresenceIsNotPublishedWithoutNeed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newGapCluster(t)
		for i := range n.nodes[1:] {
			n.nodes[1+i].Driver(t, "d1")
			n.nodes[1+i].Driver(t, "d2")
		}
		time.Sleep(time.Second)
		require.Len(t, n.heard.take(t), 4)
		n.links[0].Kill()
		time.Sleep(time.Minute)
		for _, link := range n.links[1:] {
			link.Cut()
		}
		time.Sleep(time.Minute)
		for _, link := range n.links[1:] {
			link.Heal()
		}
		time.Sleep(30 * time.Minute)
		require.Empty(t, n.heard.take(t))
	})
}

// A peer that does not receive the question of a node that had a gap is asked again.
func TestGap_PresenceOfAPublisherThatDidNotReceive(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		adapters, h := newDeafPair(t)
		here := h.servers[0].Driver(t, "d1")
		h.servers[1].Driver(t, "d1")
		h.servers[1].Driver(t, "d2")
		time.Sleep(time.Second)
		require.Len(t, h.take(t), 3)
		for _, a := range adapters {
			a.deaf.Store(true)
		}
		here.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
		time.Sleep(time.Second)
		adapters[1].hearAgain(grace + 5*time.Second)
		soon()
		require.Empty(t, h.take(t))
		adapters[0].deaf.Store(false) // it does not know that it has missed anything
		time.Sleep(5 * time.Second)
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, h.take(t))
	})
}

// Of a user whose grace time runs while all users are published again, the next socket is
// published: otherwise what another node has published would stay the last event.
func TestGap_PresenceOfAUserWithinTheirGrace(t *testing.T) {
	for name, back := range map[string]bool{"comes back": true, "stays away": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newGapCluster(t)
				here, there := n.nodes[0].Driver(t, "d1"), n.nodes[1].Driver(t, "d1")
				time.Sleep(time.Second)
				require.Len(t, n.heard.take(t), 2)
				n.links[1].Cut()
				here.Close()
				waitFor(grace)
				require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, n.heard.take(t))
				time.Sleep(time.Second)
				n.links[0].Kill()
				there.Close()
				n.links[1].Heal()
				soon()
				require.Empty(t, n.heard.take(t))
				if back {
					n.nodes[1].Driver(t, "d1")
					require.Equal(t, []string{"+/drivers d1"}, n.heard.take(t))
				}
				time.Sleep(30 * time.Minute)
				last := n.heard.take(t) // by each node that knows the user
				require.Equal(t, back, len(last) == 0)
				for _, event := range last {
					require.Contains(t, event, "-/drivers d1 ")
				}
			})
		})
	}
}
