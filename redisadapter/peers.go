// Peers: the other Go nodes, known by their heartbeats.

package redisadapter

import (
	"encoding/json"
	"slices"
	"strings"
	"sync"
	"time"
)

// Peer is another Go node.
type Peer struct {
	ID   string // new with each start
	Name string // its Options.Name
}

func (p Peer) String() string {
	if p.Name == "" {
		return p.ID
	}
	return p.Name + " (" + p.ID + ")"
}

// What nodes tell each other about themselves.
const (
	opHello  = "hello"  // it has started, and wants to know who is there
	opBeat   = "beat"   // it is there
	opBye    = "bye"    // it has closed
	opLost   = "lost"   // messages of its own did not get through
	opCancel = "cancel" // it does not wait for the answers to request ID any more
)

// notice is a message of the nodes' channel.
type notice struct {
	Version int    `json:"v"`
	UID     string `json:"uid"`
	Name    string `json:"name,omitempty"`
	Op      string `json:"op"`
	ID      string `json:"id,omitempty"`
	Ago     int64  `json:"ago,omitempty"` // ns; of lost: since when
}

const (
	noticeVersion = 1
	noticeBytes   = 1 << 10
	nameBytes     = 128
	maxPeers      = 4096
)

// peers are the nodes that were heard lately.
type peers struct {
	mu   sync.Mutex // guards the rest
	seen map[string]*peer
	dead map[string]time.Time // since when a node is silent that has not said goodbye
}

type peer struct {
	Peer
	last time.Time
}

// heard notes a sign of life.
func (p *peers) heard(who Peer, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if known := p.seen[who.ID]; known != nil {
		known.last = now
		return
	}
	if len(p.seen) >= maxPeers {
		return
	}
	if p.seen == nil {
		p.seen, p.dead = map[string]*peer{}, map[string]time.Time{}
	}
	delete(p.dead, who.ID)
	p.seen[who.ID] = &peer{who, now}
}

// forget reports whether the node was known.
func (p *peers) forget(uid string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, known := p.seen[uid]
	delete(p.seen, uid)
	delete(p.dead, uid)
	return known
}

// ghostTime is how long Redis may count a connection that nobody holds: its
// tcp-keepalive is 300 s.
const ghostTime = 10 * time.Minute

// ghosts is how many nodes have died without their connection being closed, for
// all that is known.
func (p *peers) ghosts(now time.Time) int {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, since := range p.dead {
		if now.Sub(since) > ghostTime {
			delete(p.dead, id)
		}
	}
	return len(p.dead)
}

// silent takes out those that were not heard since then.
func (p *peers) silent(since, now time.Time) (gone []Peer) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for id, known := range p.seen {
		if known.last.Before(since) {
			gone = append(gone, known.Peer)
			delete(p.seen, id)
			p.dead[id] = now
		}
	}
	return gone
}

// refresh gives everybody their time anew: nobody could be heard.
func (p *peers) refresh(now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, known := range p.seen {
		known.last = now
	}
}

func (p *peers) list() []Peer {
	p.mu.Lock()
	defer p.mu.Unlock()
	all := make([]Peer, 0, len(p.seen))
	for _, known := range p.seen {
		all = append(all, known.Peer)
	}
	slices.SortFunc(all, func(a, b Peer) int { return strings.Compare(a.ID, b.ID) })
	return all
}

// Peers returns the other Go nodes, by id. One that was killed is among them for
// up to ten seconds. Node servers do not say that they are there.
func (a *Adapter) Peers() []Peer { return a.peers.list() }

// tell publishes a notice.
func (a *Adapter) tell(n notice) {
	n.Version, n.UID, n.Name = noticeVersion, a.uid, a.opts.Name
	payload, err := json.Marshal(n)
	if err != nil {
		panic(err) // strings
	}
	_ = a.publisher.push(outgoing{channel: nodesChannel(a.opts.Key), payload: payload}) // the next one may get through
}

// hearNotice is called by a reader.
func (a *Adapter) hearNotice(_, msg string) {
	var n notice
	if len(msg) > noticeBytes || json.Unmarshal([]byte(msg), &n) != nil || n.Version != noticeVersion || !isUID(n.UID) {
		a.malformed("", errNotice)
		return
	}
	if n.UID == a.uid {
		return
	}
	if len(n.Name) > nameBytes {
		n.Name = n.Name[:nameBytes]
	}
	if n.Op == opBye {
		if a.peers.forget(n.UID) {
			a.requests.left(n.UID)
		}
		return
	}
	now := time.Now()
	a.peers.heard(Peer{n.UID, strings.ToValidUTF8(n.Name, "")}, now)
	switch n.Op {
	case opHello:
		a.tell(notice{Op: opBeat})
	case opLost:
		a.gap(Gap{Since: now.Add(-max(time.Duration(n.Ago), 0)), Until: now, Node: n.UID, Reason: "the node could not publish"})
	case opCancel:
		a.answering.cancel(n.UID + " " + n.ID)
	}
}

// beat says that the node is there, and finds out who is not.
func (a *Adapter) beat() {
	tick := time.NewTicker(a.timing.beat / 2)
	defer tick.Stop()
	for n := 1; ; n++ {
		select {
		case <-a.closing:
			return
		case <-tick.C:
		}
		if n%2 == 0 {
			a.tell(notice{Op: opBeat})
		}
		now := time.Now()
		if a.Check(a.ctx) != nil {
			a.peers.refresh(now)
			continue
		}
		for _, gone := range a.peers.silent(now.Add(-a.timing.forget), now) {
			a.log.Warn("redisadapter: a node is gone without a word", "node", gone.String())
			a.requests.left(gone.ID)
		}
	}
}
