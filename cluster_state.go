// Cluster state: the methods of node with which the adapter reports its connection and the other
// nodes. After messages may have been lost, they make the other parts of the server compare
// their state with the repositories and the other nodes.

package realtime

import (
	"context"
	"sync"
	"time"
)

// clusterState is the state of the adapter's connection to the other nodes.
type clusterState struct {
	mu           sync.Mutex // guards the fields below
	disconnected bool       // the adapter receives no messages
	since        time.Time  // when it stopped receiving
}

func (c *clusterState) receiving() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return !c.disconnected
}

// Receiving implements Node.
func (n node) Receiving(err error) {
	if err != nil {
		n.rt.peerRooms.missed("")
	} else {
		n.rt.peerRooms.await(false)
	}
	c := &n.rt.cluster
	c.mu.Lock()
	changed := c.disconnected != (err != nil)
	i := AdapterChangedInfo{Err: err}
	if changed {
		if err != nil {
			c.since = time.Now()
		} else {
			i.Duration = time.Since(c.since)
		}
		c.disconnected = err != nil
	}
	c.mu.Unlock()
	if !changed {
		return
	}
	n.rt.offers.receiving(err == nil)
	n.rt.peerSockets.receiving(err == nil)
	n.rt.publisher.parties.learning.deaf.Store(err != nil)
	n.rt.publisher.parties.learn()
	if f := n.rt.opts.Trace.AdapterChanged; f != nil {
		callTrace(n.rt, context.Background(), f, i)
	}
}

// Gap implements Node. A revocation may have been lost, so it empties the cache of repository
// rows, makes pending handshakes read their rows again, and starts a sweep. It also compares
// the trips and the users with those of the other nodes.
func (n node) Gap(g Gap) {
	rt := n.rt
	rt.peerRooms.missed(g.Peer)
	rt.peerSockets.missed(g)
	if f := rt.opts.Trace.Gap; f != nil {
		callTrace(rt, context.Background(), f, GapInfo{g})
	}
	about := []any{"since", g.Since, "until", g.Until, "peer", g.Peer, "reason", g.Reason}
	if rt.stopping.Load() {
		rt.log.Warn("realtime: messages of other nodes may have been lost; the server shuts down", about...)
		rt.peerUsers.shareAll()
		return
	}
	rt.log.Warn("realtime: messages of other nodes may have been lost; a sweep starts", about...)
	// The order matters: a handshake that does not see the new number of gaps either reads
	// its rows after the cache was emptied, or has an admitted socket, which the sweep checks.
	rt.forgetRows()
	rt.pending.gaps.Add(1)
	rt.sweep.now()
	rt.publisher.parties.learn()
	rt.publisher.exchange.compare()
	rt.peerUsers.missed(g)
	rt.offers.missed()
	rt.peerRooms.request()
}

// PeerJoined implements Node. The new node is sent the users, the rooms and the offers of this one.
func (n node) PeerJoined(p Peer) {
	n.rt.peerRooms.joined(p.ID)
	n.rt.peerUsers.joined(p.ID)
	n.rt.offers.shareAll()
	n.rt.peerSockets.joined(p.ID)
	if f := n.rt.opts.Trace.PeerJoined; f != nil {
		callTrace(n.rt, context.Background(), f, PeerInfo{p})
	}
}

// PeerLost implements Node.
func (n node) PeerLost(p Peer, died bool) {
	reason := DisconnectShutdown
	if died {
		reason = DisconnectNodeLost
	}
	if died {
		n.rt.peerRooms.died.Store(true)
	}
	n.rt.peerRooms.table.Left(p.ID)
	n.rt.peerUsers.lost(p.ID, reason)
	n.rt.peerSockets.lost(p.ID)
	if f := n.rt.opts.Trace.PeerLost; f != nil {
		callTrace(n.rt, context.Background(), f, PeerLostInfo{p, died})
	}
}

// OnlyPeers implements Node.
func (n node) OnlyPeers(only bool) { n.rt.peerRooms.table.SetOnly(only) }

// pause waits for d, or until the server ends. It reports whether the server still runs.
func (rt *Server) pause(d time.Duration) bool { return pauseIn(rt.ctx, d) }

// pauseIn waits for d, or until ctx ends. It reports whether ctx has not ended.
func pauseIn(ctx context.Context, d time.Duration) bool {
	if d <= 0 {
		return ctx.Err() == nil
	}
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
		return true
	case <-ctx.Done():
		return false
	}
}
