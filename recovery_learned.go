// What other nodes tell of their sockets.

package realtime

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

// apply records sockets of another node. It reports whether the message is valid.
func (p *peerSockets) apply(ns *Namespace, peer string, m *sharedSockets) bool {
	if m.size() > socketsBatch || len(m.Heard) > socketsBatch {
		return false
	}
	if peer == "" || !ns.inner.Keeps() {
		return true
	}
	if !ns.inner.Hear(m.Mark, m.Heard) || m.First && !p.named(ns, peer, m.Mark) {
		return false
	}
	moved, valid := p.applyNow(ns, peer, m)
	if m.First {
		p.allTold(ns)
	}
	for _, s := range moved {
		ns.inner.Moved(s.id, s.socket, s.turn)
	}
	return valid
}

// named records the name of a node that tells of all its sockets, with one of its marks. It reports whether that
// has a name.
func (p *peerSockets) named(ns *Namespace, peer, mark string) bool {
	if len(mark) < len(socketio.RecordNode{}) {
		return false
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now()
	p.nodes[nodeKey{ns.name, peer}] = namedNode{name: mark[:len(socketio.RecordNode{})], told: now, telling: now}
	return true
}

// movedSocket is a socket to which its client has come back on another node.
type movedSocket struct {
	id     socketio.RecoveryID
	socket string
	turn   int
}

// applyNow changes what is known, and returns the sockets that have a turn.
func (p *peerSockets) applyNow(ns *Namespace, peer string, m *sharedSockets) (moved []movedSocket, valid bool) {
	valid = true
	now := time.Now()
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, b := range slices.Concat(m.Open, m.Left) {
		var s sharedSocket
		id, ok := socketio.RecoveryID{}, json.Unmarshal(b, &s) == nil
		if ok {
			id, ok = ns.inner.CheckRecord(&s.Record)
		}
		if !ok {
			valid = false
			continue
		}
		of := &peerSocket{peer: peer, turn: s.Turn, record: b, made: now, told: now}
		if i >= len(m.Open) {
			of.until = now.Add(p.rt.opts.Recovery.Window - milliseconds(s.AwayMS))
		}
		if p.learnLocked(socketKey{ns.name, id}, of) && s.Turn > 0 {
			moved = append(moved, movedSocket{id, s.Socket, s.Turn})
		}
	}
	for _, text := range m.Gone {
		if s := p.ofLocked(ns, peer, text); s != nil {
			s.until = now
		}
	}
	p.toldLocked(nodeKey{ns.name, peer}, m, now)
	return moved, valid
}

// learnLocked records what a node has just told of a socket of its own, if there is space. It reports false if it knows something
// newer.
func (p *peerSockets) learnLocked(key socketKey, s *peerSocket) (newer bool) {
	old := p.known[key]
	if old != nil && old.turn > s.turn {
		return false
	}
	if old != nil || p.spaceLocked(s.told) {
		s.record = slices.Clone(s.record)
		p.known[key] = s
		if at, gone := p.gone[s.peer]; gone {
			p.losesNodeLocked(s, at)
		}
	}
	return true
}

// toldLocked is called after a message of a peer was applied. While a peer tells of all its sockets, in messages of which only
// the last one is not full, this node keeps what it knew before. Behind the last one it forgets the open sockets of which the
// peer has not told again. It forgets none if some of the messages may be lost; then the peer tells of all once more.
func (p *peerSockets) toldLocked(key nodeKey, m *sharedSockets, now time.Time) {
	node := p.nodes[key]
	if node.telling.IsZero() {
		return
	}
	node.telling = now
	if m.size() < socketsBatch {
		node.telling = time.Time{}
		if !p.lacks.After(node.told) {
			maps.DeleteFunc(p.known, func(k socketKey, s *peerSocket) bool {
				return k.namespace == key.namespace && s.peer == key.peer && s.untold(&node)
			})
		}
	}
	p.nodes[key] = node
}

// untold reports whether the socket is open as far as is known, and its node has not told of it since it has begun to tell of all.
func (s *peerSocket) untold(node *namedNode) bool {
	return s.until.IsZero() && s.told.Before(node.told)
}

// ofLocked returns the socket of another node with an id, or nil.
func (p *peerSockets) ofLocked(ns *Namespace, peer, text string) *peerSocket {
	id, ok := socketio.ParseRecoveryID(text)
	if !ok {
		return nil
	}
	s := p.known[socketKey{ns.name, id}]
	if s == nil || s.peer != peer {
		return nil
	}
	return s
}

// spaceLocked reports whether one more socket may be known. It forgets those whose clients were away for too
// long. If that is not enough, it also forgets those of which a peer that tells of all its sockets has not told again yet.
func (p *peerSockets) spaceLocked(now time.Time) bool {
	if now.Sub(p.looked) >= expireEvery {
		p.looked = now
		maps.DeleteFunc(p.known, func(_ socketKey, s *peerSocket) bool { return !s.until.IsZero() && now.After(s.until) })
		if len(p.known) >= p.rt.opts.Recovery.Sockets {
			maps.DeleteFunc(p.known, func(key socketKey, s *peerSocket) bool {
				node := p.nodes[nodeKey{key.namespace, s.peer}]
				return !node.telling.IsZero() && s.untold(&node)
			})
		}
	}
	return len(p.known) < p.rt.opts.Recovery.Sockets
}
