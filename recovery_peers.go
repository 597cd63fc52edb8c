// Recovery across nodes: which nodes run, when one is lost or back, and when messages of others may be missing.

package realtime

import (
	"maps"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

// silenceNoticed is how long it takes at most until an adapter notices that nothing arrives.
const silenceNoticed = 15 * time.Second

// lost records that another node has left or died.
func (p *peerSockets) lost(peer string) {
	p.eachNode(peer, (*socketio.Namespace).Lost)
	p.forgetPeer(peer, time.Now())
	p.rt.each(p.allTold) // it may be the last one that had not told
}

// forgetPeer records that a peer was lost.
func (p *peerSockets) forgetPeer(peer string, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for other, at := range p.gone {
		if now.Sub(at) > p.rt.opts.Recovery.Window {
			delete(p.gone, other)
			maps.DeleteFunc(p.nodes, func(k nodeKey, _ namedNode) bool { return k.peer == other })
		}
	}
	p.gone[peer] = now
	delete(p.peers, peer)
	p.stopLogsLocked(peer)
	for _, s := range p.known {
		if s.peer == peer {
			p.losesNodeLocked(s, now)
		}
	}
}

// allTold tells the log of a namespace which nodes run, if all have told of their sockets since the last gap. A node
// of which only others have told may have ended before this one began.
func (p *peerSockets) allTold(ns *Namespace) {
	if !ns.inner.Keeps() {
		return
	}
	if nodes, at, ok := p.runningNodes(ns); ok {
		ns.inner.Running(nodes, at.Add(-settleTime))
	}
}

// runningNodes returns the nodes that run, and when. ok is false if some have not told of their sockets since the last gap.
func (p *peerSockets) runningNodes(ns *Namespace) (nodes []string, at time.Time, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for peer := range p.peers {
		if p.nodes[nodeKey{ns.name, peer}].told.Before(p.lacks) {
			return nil, at, false
		}
	}
	for k, node := range p.nodes {
		if _, gone := p.gone[k.peer]; !gone && k.namespace == ns.name {
			nodes = append(nodes, node.name)
		}
	}
	return nodes, time.Now(), true
}

// eachNode calls f for each namespace with recovery, with the name that the log of a peer has there, or an
// empty text if that is unknown.
func (p *peerSockets) eachNode(peer string, f func(ns *socketio.Namespace, node string)) {
	p.rt.each(func(ns *Namespace) {
		if !ns.inner.Recovers() {
			return
		}
		p.mu.Lock()
		node := p.nodes[nodeKey{ns.name, peer}].name
		p.mu.Unlock()
		f(ns.inner, node)
	})
}

// losesNodeLocked records that the node of a socket was lost at a time.
func (p *peerSockets) losesNodeLocked(s *peerSocket, at time.Time) {
	if !s.lost.IsZero() {
		return
	}
	s.lost = at
	if s.until.IsZero() {
		s.until, s.heard = at.Add(p.rt.opts.Recovery.Window), p.surelyHeardLocked(s, at)
	}
}

// surelyHeard returns a time when the node of a socket was there for sure, if it does not answer now.
func (p *peerSockets) surelyHeard(s *peerSocket, now time.Time) time.Time {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.surelyHeardLocked(s, now)
}

func (p *peerSockets) surelyHeardLocked(s *peerSocket, now time.Time) time.Time {
	latest := now.Add(-unheard)
	if latest.Before(s.made) || !p.lacks.Before(latest) || !p.rt.hearsAll() { // after a gap a node is waited for again
		return s.made
	}
	return latest
}

// joined records that another node is connected, and sends it the sockets of this one.
func (p *peerSockets) joined(peer string) {
	p.eachNode(peer, (*socketio.Namespace).Returned)
	p.mu.Lock()
	delete(p.gone, peer)
	p.peers[peer] = struct{}{}
	p.mu.Unlock()
	p.shareAll()
}

// missed is called after messages of other nodes may have been lost. A gap is reported again if a node has not
// received what this one asked since; then nothing more was lost.
func (p *peerSockets) missed(g Gap) {
	p.mu.Lock()
	again := g.repeats(p.gap)
	if p.lacks = time.Now(); !again {
		p.gap = g
	}
	p.mu.Unlock()
	if !again {
		p.eachNode(g.Peer, func(ns *socketio.Namespace, node string) { ns.Gap(node, g.Since) })
	}
	p.request()
}

// receiving records that messages of other nodes arrive, or that the adapter has noticed that they do not.
func (p *peerSockets) receiving(ok bool) {
	var silent time.Time
	if !ok {
		silent = time.Now().Add(-silenceNoticed)
	}
	p.rt.each(func(ns *Namespace) {
		if ns.inner.Keeps() {
			ns.inner.Silence(silent)
		}
	})
	if ok {
		p.shareAll()
	}
}

// repeats reports whether a gap is an earlier one, or a part of it.
func (g *Gap) repeats(earlier Gap) bool {
	return !g.Until.IsZero() && g.Since.Equal(earlier.Since) && g.Until.Equal(earlier.Until) && (earlier.Peer == "" || earlier.Peer == g.Peer)
}
