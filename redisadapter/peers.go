// Peers: the other Go nodes, known by their heartbeats.

package redisadapter

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// The operations of a notice.
const (
	opHello  = "hello"  // the node has started, or receives again; the others send a heartbeat
	opBeat   = "beat"   // a heartbeat
	opBye    = "bye"    // the node has closed
	opLost   = "lost"   // messages of the node were not published
	opCancel = "cancel" // the node no longer waits for answers to request ID
)

// notice is a message on the channel of the Go nodes.
type notice struct {
	Version int    `json:"v"`
	UID     string `json:"uid"`
	Process string `json:"process,omitempty"` // see twins
	Name    string `json:"name,omitempty"`
	Op      string `json:"op"`
	ID      string `json:"id,omitempty"`
	Ago     int64  `json:"ago,omitempty"` // ns; with opLost: when the first message was lost; with opHello: since when the node may have lost messages
}

// The version and limits of notices, and the maximum number of peers.
const (
	noticeVersion = 1
	noticeBytes   = 1 << 10
	nameBytes     = 128
	maxPeers      = 4096
)

// peers holds the Go nodes whose last heartbeat is recent.
type peers struct {
	mu   sync.Mutex // guards the rest, and every peer
	seen map[string]*peer
	dead map[string]time.Time // nodes that stopped without opBye, and when that was detected
}

type peer struct {
	realtime.Peer
	last time.Time
}

// seenNow records a heartbeat, and reports whether the node is new.
func (p *peers) seenNow(who realtime.Peer, now time.Time) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.seen[who.ID]; known != nil {
		known.last = now
		return false
	}
	if len(p.seen) >= maxPeers {
		return false
	}
	if p.seen == nil {
		p.seen, p.dead = map[string]*peer{}, map[string]time.Time{}
	}
	delete(p.dead, who.ID)
	p.seen[who.ID] = &peer{who, now}
	return true
}

// forget removes a node, and reports whether it was known.
func (p *peers) forget(uid string) (who realtime.Peer, known bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if seen := p.seen[uid]; seen != nil {
		who, known = seen.Peer, true
	}
	delete(p.seen, uid)
	delete(p.dead, uid)
	return who, known
}

// countedTime is how long Redis may still count a dead node as a subscriber: its
// tcp-keepalive is 300 s.
const countedTime = 10 * time.Minute

// deadButCounted returns the number of dead nodes that Redis may still count as
// subscribers.
func (p *peers) deadButCounted(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetDeadLocked(now)
	return len(p.dead)
}

func (p *peers) forgetDeadLocked(now time.Time) {
	for id, since := range p.dead {
		if now.Sub(since) > countedTime {
			delete(p.dead, id)
		}
	}
}

// silent removes and returns the nodes without a heartbeat since that time.
func (p *peers) silent(since, now time.Time) (removed []realtime.Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.forgetDeadLocked(now)
	for id, known := range p.seen {
		if known.last.Before(since) {
			removed = append(removed, known.Peer)
			delete(p.seen, id)
			if len(p.dead) < maxPeers {
				p.dead[id] = now
			}
		}
	}
	return removed
}

// refresh treats all nodes as seen now, after a time in which this node could not receive
// heartbeats.
func (p *peers) refresh(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.seen {
		known.last = now
	}
}

func (p *peers) list() []realtime.Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]realtime.Peer, 0, len(p.seen))
	for _, known := range p.seen {
		all = append(all, known.Peer)
	}
	slices.SortFunc(all, func(a, b realtime.Peer) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Peers returns the other Go nodes, sorted by id. A node that was killed stays in the list
// for up to ten seconds. Node servers send no heartbeats and are not in the list.
func (a *Adapter) Peers() []realtime.Peer { return a.peers.list() }

// notify publishes a notice.
func (a *Adapter) notify(n notice) {
	n.Version, n.UID, n.Name, n.Process = noticeVersion, a.uid, a.opts.Name, a.twins.mark(time.Now(), a.timing.beat)
	payload, err := json.Marshal(n)
	if err != nil {
		panic(err) // cannot happen: strings and numbers marshal
	}
	_ = a.publisher.push(outgoing{channel: nodesChannel(a.opts.Key), payload: payload}) // the next notice may succeed
}

// receiveNotice is called by a reader with a notice that reached Redis at since or later.
func (a *Adapter) receiveNotice(_, msg string, since time.Time) {
	var n notice
	if len(msg) > noticeBytes || json.Unmarshal([]byte(msg), &n) != nil || n.Version != noticeVersion || !isUID(n.UID) {
		a.malformed("", errNotice)
		return
	}
	if n.UID == a.uid {
		if !a.twins.isMark(n.Process) {
			a.twinFound(time.Now())
		}
		return
	}
	if len(n.Name) > nameBytes {
		n.Name = n.Name[:nameBytes]
	}
	if n.Op == opBye {
		if who, known := a.peers.forget(n.UID); known {
			a.nodeLeft(n.UID, since)
			a.signal(func() { a.node.PeerLost(who, false) })
		}
		return
	}
	now := time.Now()
	if who := (realtime.Peer{ID: n.UID, Name: strings.ToValidUTF8(n.Name, "")}); a.peers.seenNow(who, now) {
		a.signal(func() { a.node.PeerJoined(who) })
	}
	switch n.Op {
	case opHello:
		a.notify(notice{Op: opBeat})
		if n.Ago > 0 {
			a.heardAgain(n.UID, since.Add(-time.Duration(n.Ago)))
		}
	case opLost:
		a.gap(realtime.Gap{Since: since.Add(-max(time.Duration(n.Ago), 0)), Until: now, Peer: n.UID, Reason: "the node could not publish"})
	case opCancel:
		a.answering.cancel(n.UID + " " + n.ID)
	}
}

// nodeLeft makes all requests stop waiting for a node, once the answers are handled that have arrived
// from it before.
func (a *Adapter) nodeLeft(uid string, since time.Time) {
	a.namespaces.Range(func(_, value any) bool {
		ns := value.(*namespace) //nolint:errcheck,forcetypeassert // namespaces holds nothing else
		ns.push(incoming{from: fromNodes, msg: uid}, since)
		return true
	})
}

// exchangeHeartbeats sends this node's heartbeats, and removes the nodes that have stopped
// sending theirs.
func (a *Adapter) exchangeHeartbeats() {
	tick := time.NewTicker(a.timing.beat / 2)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-a.closing:
			return
		case <-tick.C:
		}
		if n%2 == 0 {
			a.notify(notice{Op: opBeat})
		}
		now := time.Now()
		a.checkDelays(now)
		a.twinEnded(now)
		if a.connected() != nil {
			a.peers.refresh(now)
			continue
		}
		// Not until now: after this process was stopped, heartbeats have yet to be read.
		received := a.links.receivedUntil()
		for _, dead := range a.peers.silent(received.Add(-a.timing.forget), now) {
			a.log.Warn("redisadapter: a node stopped sending heartbeats", "node", dead.String())
			a.nodeLeft(dead.ID, now)
			a.signal(func() { a.node.PeerLost(dead, true) })
		}
	}
}
