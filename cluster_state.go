// The cluster's state: what the adapter reports of itself and of the other nodes, and what
// the server does after messages may have been lost.

package realtime

import (
	"context"
	"sync"
	"time"
)

// clusterState is what the adapter has reported. Its methods may be called concurrently.
type clusterState struct {
	mu    sync.Mutex // guards the fields below
	deaf  bool       // the adapter does not receive
	since time.Time  // when it stopped
}

// Receiving implements Node.
func (n node) Receiving(err error) {
	c := &n.rt.cluster
	c.mu.Lock()
	changed := c.deaf != (err != nil)
	i := AdapterChangedInfo{Err: err}
	if changed {
		if err != nil {
			c.since = time.Now()
		} else {
			i.Duration = time.Since(c.since)
		}
		c.deaf = err != nil
	}
	c.mu.Unlock()
	if !changed {
		return
	}
	if f := n.rt.opts.Trace.AdapterChanged; f != nil {
		callTrace(n.rt, context.Background(), f, i)
	}
}

// Gap implements Node. It forgets cached rows, has pending handshakes read their rows
// again, and starts a sweep: a revocation may have been lost.
func (n node) Gap(g Gap) {
	rt := n.rt
	if rt.stopping.Load() {
		return
	}
	rt.log.Warn("realtime: messages of other nodes may have been lost; comparing the state", "since", g.Since, "until", g.Until, "peer", g.Peer, "reason", g.Reason)
	if f := rt.opts.Trace.Gap; f != nil {
		callTrace(rt, context.Background(), f, GapInfo{g})
	}
	// In this order: a handshake that does not see the number has read its rows after they
	// were forgotten, or is seen by the sweep.
	rt.forgetRows()
	rt.pending.gaps.Add(1)
	rt.sweep.now()
}

// PeerJoined implements Node.
func (n node) PeerJoined(p Peer) {
	if f := n.rt.opts.Trace.PeerJoined; f != nil {
		callTrace(n.rt, context.Background(), f, PeerInfo{p})
	}
}

// PeerLost implements Node.
func (n node) PeerLost(p Peer, died bool) {
	if f := n.rt.opts.Trace.PeerLost; f != nil {
		callTrace(n.rt, context.Background(), f, PeerLostInfo{p, died})
	}
}
