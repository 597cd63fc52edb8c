// Presence when a node dies, or when messages about it are lost.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// presenceCluster is a cluster of nodes that can be killed. Each has a bus of its own.
type presenceCluster struct {
	nodes []*realtimetest.Server
	links []*realtimetest.HubNode
	heard *presenceReader
}

func newPresenceCluster(t *testing.T, n int) presenceCluster {
	t.Helper()
	hub := realtimetest.NewHub()
	c := presenceCluster{heard: &presenceReader{}}
	for range n {
		link := hub.Node()
		c.links = append(c.links, link)
		c.nodes = append(c.nodes, realtimetest.NewServer(t, withPresence, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = link }))
	}
	c.heard.servers = c.nodes
	return c
}

func TestPresence_OfADeadNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newPresenceCluster(t, 3)
		c.nodes[0].Driver(t, "d1")
		c.nodes[0].Driver(t, "d2")
		c.nodes[1].Driver(t, "d2") // has a second socket elsewhere
		c.nodes[0].Driver(t, "d3")
		c.nodes[0].Driver(t, "d4").Close() // its grace time runs
		time.Sleep(time.Second)
		require.Len(t, c.heard.take(t), 5)
		c.links[0].Kill()
		c.heard.servers = c.nodes[1:]
		time.Sleep(5 * time.Second)
		c.nodes[2].Driver(t, "d3") // comes back within the grace time
		require.Equal(t, []string{"+/drivers d3"}, c.heard.take(t))
		time.Sleep(grace - 6*time.Second)
		require.Empty(t, c.heard.take(t), "before the grace time is over")
		time.Sleep(2 * time.Second)
		require.ElementsMatch(t, []string{"-/drivers d1 node lost", "-/drivers d4 node lost"}, c.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, c.heard.take(t))
	})
}

// A node that could not publish that its users have left, and dies before it can, has told the
// others who they are.
func TestPresence_OfADeadNodeWhoseBusWasAway(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newPresenceCluster(t, 2)
		gone, back := c.nodes[0].Driver(t, "gone"), c.nodes[0].Driver(t, "back")
		time.Sleep(time.Second)
		require.Len(t, c.heard.take(t), 2)
		c.nodes[0].Bus.Fail(errors.New("away"))
		gone.Close()
		back.Close()
		time.Sleep(2 * grace)
		c.nodes[1].Driver(t, "back")
		c.nodes[0].Driver(t, "came").Close() // whose presence.connected was not published either
		time.Sleep(2 * grace)
		// Once for the connect, and once more because the event that failed may have been accepted.
		require.Equal(t, []string{"+/drivers back", "+/drivers back"}, c.heard.take(t))
		c.links[0].Kill()
		c.heard.servers = c.nodes[1:]
		time.Sleep(grace + time.Second)
		require.ElementsMatch(t, []string{"-/drivers gone node lost", "-/drivers came node lost"}, c.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, c.heard.take(t))
	})
}

// muteAdapter loses what its node publishes, until it is told not to.
type muteAdapter struct {
	realtime.Adapter
	loses *atomic.Bool
}

func (l muteAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if l.loses.Load() {
		return errors.New("away")
	}
	return l.Adapter.Publish(ctx, m)
}

// A node that was cut off tells the others who is here before it publishes them as connected: it may die
// right then.
func TestPresence_OfANodeThatDiesAfterItWasCutOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub, loses := realtimetest.NewHub(), &atomic.Bool{}
		link := hub.Node()
		node := realtimetest.NewServer(t, withPresence, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = muteAdapter{link, loses} })
		other := realtimetest.NewServer(t, withPresence, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		heard := &presenceReader{servers: []*realtimetest.Server{node, other}}
		time.Sleep(2 * time.Second)
		loses.Store(true)
		node.Bus.Fail(errors.New("away"))
		node.Driver(t, "d1")
		left := node.Driver(t, "d2")
		time.Sleep(time.Second)
		left.Close()
		time.Sleep(2 * grace)
		require.Empty(t, heard.take(t))
		loses.Store(false)
		node.Bus.Fail(nil)
		var got []string
		for len(got) < 2 {
			time.Sleep(10 * time.Millisecond)
			got = append(got, heard.take(t)...)
		}
		require.ElementsMatch(t, []string{"+/drivers d1", "-/drivers d2 client namespace disconnect"}, got)
		link.Kill()
		heard.servers = heard.servers[1:]
		time.Sleep(time.Minute)
		require.Equal(t, []string{"-/drivers d1 node lost"}, heard.take(t))
	})
}

// A node that shuts down does not publish its users as disconnected. Another node publishes
// those who do not reconnect.
func TestPresence_OfANodeThatLeaves(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newPresenceCluster(t, 3)
		c.nodes[0].Driver(t, "d1")
		c.nodes[0].Driver(t, "d2")
		time.Sleep(time.Second)
		require.Len(t, c.heard.take(t), 2)
		require.NoError(t, c.nodes[0].Realtime.Shutdown(t.Context()))
		c.nodes[1].Driver(t, "d2")
		require.Equal(t, []string{"+/drivers d2"}, c.heard.take(t))
		time.Sleep(grace + time.Second)
		require.Equal(t, []string{"-/drivers d1 server shutting down"}, c.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, c.heard.take(t))
	})
}

// Of many users each is published once, although all survivors know them, and although one
// of them dies too.
func TestPresence_OfADeadNodeWithManyUsers(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const users = 300
		c := newPresenceCluster(t, 4)
		var want []string
		for n := range users {
			c.nodes[0].Driver(t, fmt.Sprint("d", n))
			want = append(want, fmt.Sprint("-/drivers d", n, " node lost"))
		}
		time.Sleep(time.Second)
		require.Len(t, c.heard.take(t), users)
		c.links[0].Kill()
		time.Sleep(grace - time.Second)
		c.links[3].Cut() // its part is published by the next, though it has not been found dead yet
		c.nodes[3].Bus.Fail(errors.New("cut off"))
		c.heard.servers = c.nodes[1:3]
		time.Sleep(time.Minute)
		got := c.heard.take(t)
		slices.Sort(want)
		slices.Sort(got)
		require.Equal(t, want, got)
		c.nodes[3].Bus.Fail(nil)
		time.Sleep(time.Minute)
	})
}

// A node that starts later knows the users of the others.
func TestPresence_OfANodeThatDiesAfterAnotherStarted(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		first := hub.Node()
		a := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = first })
		a.Driver(t, "d1")
		time.Sleep(time.Minute)
		b := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		time.Sleep(time.Second)
		h := &presenceReader{servers: []*realtimetest.Server{b}}
		first.Kill()
		time.Sleep(grace + time.Second)
		require.Equal(t, []string{"-/drivers d1 node lost"}, h.take(t))
	})
}

// The users of a node that was reported as lost, and then as joined again, are not published.
func TestPresence_OfANodeThatIsFoundAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		link := hub.Node()
		observer := &gappy{Adapter: hub.Node()}
		a := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = link })
		b := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = observer })
		a.Driver(t, "d1")
		time.Sleep(time.Second)
		h := &presenceReader{servers: []*realtimetest.Server{b}}
		observer.node.PeerLost(link.Peer(), true)
		time.Sleep(grace - time.Second)
		observer.node.PeerJoined(link.Peer())
		time.Sleep(30 * time.Minute)
		require.Empty(t, h.take(t))
		observer.node.PeerLost(link.Peer(), true)
		time.Sleep(2 * grace) // its users are asked for, and found: nobody is published
		observer.node.PeerJoined(link.Peer())
		soon()
		require.Empty(t, h.take(t))
		link.Kill() // it dies after all
		time.Sleep(grace + time.Second)
		require.Equal(t, []string{"-/drivers d1 node lost"}, h.take(t))
	})
}

// If a node published a user as disconnected because it had lost another node, which still had
// the user, the other node publishes the correct state after the gap.
func TestGap_Presence(t *testing.T) {
	for name, c := range map[string]struct {
		far  func(t *testing.T, phone *realtimetest.Client, srv *realtimetest.Server) // what happens on the other node in the gap
		want []string                                                                 // published after it
		then []string                                                                 // published later
	}{
		"still there": {func(*testing.T, *realtimetest.Client, *realtimetest.Server) {}, []string{"+/drivers d1"}, nil},
		"within its grace time": {
			func(_ *testing.T, phone *realtimetest.Client, _ *realtimetest.Server) { phone.Close() }, nil, []string{"-/drivers d1 client namespace disconnect"},
		},
		"came later": {func(t *testing.T, phone *realtimetest.Client, srv *realtimetest.Server) {
			phone.Close()
			time.Sleep(2 * grace)
			srv.Driver(t, "d1") // published by its own node, after what the other one said
		}, nil, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newPresenceCluster(t, 2)
				here, there := n.nodes[0].Driver(t, "d1"), n.nodes[1].Driver(t, "d1")
				time.Sleep(time.Second)
				require.Len(t, n.heard.take(t), 2)
				n.links[1].Cut()
				here.Close()
				waitFor(grace)
				require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, n.heard.take(t), "the other node does not answer")
				c.far(t, there, n.nodes[1])
				n.heard.take(t)
				n.links[1].Heal()
				soon()
				require.Equal(t, c.want, n.heard.take(t))
				time.Sleep(30 * time.Minute)
				require.Equal(t, c.then, n.heard.take(t))
				synctest.Wait()
			})
		})
	}
}

// A user whom another node has published as disconnected leaves while the bus has not accepted yet that
// they are here: that event comes last, unless the end of the grace time has its own.
func TestGap_PresenceOfAUserWhoseConnectingIsPublishedLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newPresenceCluster(t, 2)
		here := n.nodes[0].Driver(t, "d1")
		time.Sleep(time.Second)
		require.Len(t, n.heard.take(t), 1)
		n.links[1].Cut()
		_, release := n.nodes[1].Bus.Block()
		there := n.nodes[1].Driver(t, "d1")
		here.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, n.heard.take(t), "the other node does not answer")
		there.Close()
		n.links[1].Heal()
		soon()
		release()
		soon()
		require.Equal(t, []string{"+/drivers d1"}, n.heard.take(t))
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, n.heard.take(t))
		time.Sleep(30 * time.Minute)
		require.Empty(t, n.heard.take(t))
	})
}

// lateGaps reports gaps as if they had begun later, as an adapter does that measures when it
// missed a message and not when the message was sent.
type lateGaps struct {
	realtime.Adapter
	by time.Duration
}

func (l lateGaps) Start(ctx context.Context, n realtime.Node) error {
	return l.Adapter.Start(ctx, lateNode{n, l.by})
}

type lateNode struct {
	realtime.Node
	by time.Duration
}

func (n lateNode) Gap(g realtime.Gap) {
	g.Since = g.Since.Add(n.by)
	n.Node.Gap(g)
}

// A user who was published as disconnected shortly before the gap began is not forgotten: the
// message about them may have been under way.
func TestGap_PresenceShortlyBefore(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		link := hub.Node()
		a := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		b := realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = lateGaps{link, grace + time.Second} })
		h := &presenceReader{servers: []*realtimetest.Server{a, b}}
		here := a.Driver(t, "d1")
		b.Driver(t, "d1")
		time.Sleep(time.Second)
		require.Len(t, h.take(t), 2)
		link.Cut()
		here.Close()
		waitFor(grace)
		require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
		time.Sleep(3 * time.Second)
		link.Heal()
		soon()
		require.Equal(t, []string{"+/drivers d1"}, h.take(t))
	})
}

// deafAdapter is an adapter whose node receives nothing while it is deaf.
type deafAdapter struct {
	realtime.Adapter
	deaf *atomic.Bool
	node realtime.Node
}

func (a *deafAdapter) Start(ctx context.Context, n realtime.Node) error {
	a.node = n
	return a.Adapter.Start(ctx, deafNode{n, a.deaf})
}

// hearAgain ends the gap that began some time ago.
func (a *deafAdapter) hearAgain(ago time.Duration) {
	a.deaf.Store(false)
	a.node.Gap(realtime.Gap{Since: time.Now().Add(-ago), Until: time.Now(), Reason: "deaf"})
}

type deafNode struct {
	realtime.Node
	deaf *atomic.Bool
}

func (n deafNode) Deliver(m realtime.ClusterMessage) {
	if !n.deaf.Load() {
		n.Node.Deliver(m)
	}
}

func (n deafNode) Answer(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) {
	if !n.deaf.Load() {
		n.Node.Answer(ctx, m, answer)
	}
}

// newDeafPair starts two nodes that can be made deaf, and a reader of their presence events.
func newDeafPair(t *testing.T) (adapters []*deafAdapter, heard *presenceReader) {
	t.Helper()
	hub := realtimetest.NewHub()
	heard = &presenceReader{}
	for range 2 {
		a := &deafAdapter{Adapter: hub.Node(), deaf: &atomic.Bool{}}
		adapters = append(adapters, a)
		heard.servers = append(heard.servers, realtimetest.NewServer(t, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = a }))
	}
	return adapters, heard
}

// Two nodes receive nothing, and one of them publishes that a user is disconnected who is
// connected to the other. It is corrected, whichever of them receives again first: the second one
// misses the question of the first.
func TestGap_PresenceOfTwoNodes(t *testing.T) {
	for name, order := range map[string][]int{"the publisher receives first": {0, 1}, "the other one receives first": {1, 0}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				adapters, h := newDeafPair(t)
				here := h.servers[0].Driver(t, "d1")
				h.servers[1].Driver(t, "d1")
				time.Sleep(time.Second)
				require.Len(t, h.take(t), 2)
				for _, a := range adapters {
					a.deaf.Store(true)
				}
				here.Close()
				waitFor(grace)
				require.Equal(t, []string{"-/drivers d1 client namespace disconnect"}, h.take(t))
				for _, i := range order {
					time.Sleep(time.Second)
					adapters[i].hearAgain(grace + 5*time.Second)
				}
				soon()
				require.Equal(t, []string{"+/drivers d1"}, h.take(t))
				time.Sleep(30 * time.Minute)
				require.Empty(t, h.take(t))
			})
		})
	}
}

// stateTimes records when messages of a node about its own state are published.
type stateTimes struct {
	realtime.Adapter
	mu *sync.Mutex // guards at
	at *[]time.Time
}

func (s stateTimes) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if m.Op == realtime.OpState && m.Namespace == realtime.NamespaceDrivers {
		s.mu.Lock()
		*s.at = append(*s.at, time.Now())
		s.mu.Unlock()
	}
	return s.Adapter.Publish(ctx, m)
}

// A node with many users does not send all of them at once: what is published meanwhile, a
// revocation for instance, would wait for them on the other nodes.
func TestPresence_UsersAreSentInPieces(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		sent := stateTimes{hub.Node(), &sync.Mutex{}, &[]time.Time{}}
		a := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = sent })
		for n := range 600 {
			a.Driver(t, fmt.Sprint("d", n))
		}
		time.Sleep(time.Second)
		sent.mu.Lock()
		*sent.at = nil
		sent.mu.Unlock()
		realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		soon()
		sent.mu.Lock()
		defer sent.mu.Unlock()
		times := *sent.at
		require.GreaterOrEqual(t, len(times), 3)
		for i := range times[1:] {
			require.GreaterOrEqual(t, times[i+1].Sub(times[i]), 5*time.Millisecond)
		}
	})
}
