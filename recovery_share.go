// Recovery across nodes: nodes tell each other of their sockets, and what is emitted to the sockets of
// one node alone.

package realtime

import (
	"encoding/json"
	"maps"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

const (
	// socketsBatch is the maximum number of sockets in a message.
	socketsBatch = 64
	// expireEvery is the minimum time between two looks for sockets whose clients were away for too
	// long.
	expireEvery = time.Second
)

// sharedSockets are sockets of the sender in the message's namespace, all of them or those that have
// changed. A node that tells of all sends messages of socketsBatch sockets, and then one with fewer, or none.
type sharedSockets struct {
	// Mark is that of the sender's newest event: those that it emits later come after this message.
	Mark  string               `json:"mark"`
	Heard []socketio.HeardNode `json:"heard,omitempty"` // third nodes, which may have ended before the receiver has begun
	First bool                 `json:"first,omitempty"` // the first message with all sockets
	Open  []json.RawMessage    `json:"open,omitempty"`  // each a sharedSocket
	Left  []json.RawMessage    `json:"left,omitempty"`  // the same, and they have lost their connection
	Gone  []string             `json:"gone,omitempty"`  // the ids of those whose clients cannot come back
}

// size returns the number of sockets.
func (m *sharedSockets) size() int { return len(m.Open) + len(m.Left) + len(m.Gone) }

// sharedSocket is a socket for other nodes.
type sharedSocket struct {
	socketio.Record
	Identity Identity `json:"identity"`
	AwayMS   int64    `json:"awayMs,omitempty"` // how long ago its client has left, in milliseconds
}

type endedSocket struct {
	ns   *Namespace
	id   socketio.RecoveryID
	left *sharedSocket // nil: its client cannot come back
	at   time.Time
}

// connected records a socket that was opened or whose rooms have changed.
func (p *peerSockets) connected(s *Socket) {
	if !s.ns.inner.Keeps() {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.changed[s] = struct{}{}
	p.shareLocked()
}

// moved is socketio's Hooks.Moved.
func (ns *Namespace) moved(inner *socketio.Socket) {
	if s, ok := socketOf(inner); ok {
		ns.rt.peerSockets.connected(s)
	}
}

// disconnected records that a socket has ended. left is the socket if its client may come back, or nil.
func (p *peerSockets) disconnected(s *Socket, left *socketio.Away) {
	id, ok := s.inner.RecoveryID()
	if !ok || !s.ns.inner.Keeps() {
		return
	}
	e := endedSocket{ns: s.ns, id: id, at: time.Now()}
	if left != nil {
		if r, ok := s.ns.inner.RecordOf(left); ok {
			e.left = &sharedSocket{Record: r, Identity: s.Identity()}
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.changed, s)
	p.ended = append(p.ended, e)
	p.shareLocked()
}

// request asks the other nodes for their sockets, and sends those of this one.
func (p *peerSockets) request() {
	if p.claimer == nil {
		return
	}
	p.shareAll()
	p.asks.soon(p.rt, usersDelay, answerEvery, func() { p.rt.shareState(everyShareNamespace, stateContent{SocketsOf: true}) })
}

// begin tells the other nodes that this one has emitted nothing yet, so that they know that they get
// everything. Then it begins to inherit.
func (p *peerSockets) begin() {
	if p.claimer == nil {
		return
	}
	p.rt.each(func(ns *Namespace) {
		if ns.inner.Keeps() {
			(&socketBatch{p: p, ns: ns, m: &sharedSockets{First: true}}).send()
			ns.inheriting.Store(true)
			go p.inherit(ns)
		}
	})
}

func (p *peerSockets) shareAll() {
	if p.claimer == nil {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.all = true
	p.shareLocked()
}

func (p *peerSockets) shareLocked() {
	if !p.sharing {
		p.sharing = true
		go p.share()
	}
}

// socketChanges are the sockets of this node that have changed.
type socketChanges struct {
	open  map[*Socket]struct{}
	ended []endedSocket
}

// takeLocked returns what has changed since it was last called.
func (p *peerSockets) takeLocked() socketChanges {
	c := socketChanges{p.changed, p.ended}
	p.changed, p.ended = map[*Socket]struct{}{}, nil
	return c
}

// share sends what has changed, and all sockets if they are to be shared, until there is nothing to send. All sockets are
// sent at most once in answerEvery.
func (p *peerSockets) share() {
	for p.rt.pause(usersDelay) {
		c, all, over := p.toShare()
		if over {
			return
		}
		p.shareChanges(c, nil)
		if all {
			p.rt.each(func(ns *Namespace) {
				if ns.inner.Keeps() {
					p.shareNamespace(ns)
				}
			})
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sharing = false
}

// toShare returns what has changed, and whether all sockets are to be sent now. With over the sharing goroutine ends.
func (p *peerSockets) toShare() (c socketChanges, all, over bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.changed) == 0 && len(p.ended) == 0 && !p.all {
		p.sharing = false
		return c, false, true
	}
	if all = p.all && time.Since(p.listed) >= answerEvery; all {
		p.all, p.listed = false, time.Now()
	}
	return p.takeLocked(), all, false
}

// shareChanges sends what has changed. What is of the namespace of a batch that is being filled, which may be nil, goes there.
func (p *peerSockets) shareChanges(c socketChanges, filled *socketBatch) {
	p.rt.each(func(ns *Namespace) {
		switch {
		case !ns.inner.Keeps():
		case filled != nil && filled.ns == ns:
			filled.changes(c)
		default:
			b := &socketBatch{p: p, ns: ns, m: &sharedSockets{Heard: ns.inner.Heard()}}
			if b.changes(c); b.n > 0 {
				b.send()
			}
		}
	})
}

// shareNamespace sends all sockets of a namespace. What changes meanwhile does not wait for them.
func (p *peerSockets) shareNamespace(ns *Namespace) {
	b := &socketBatch{p: p, ns: ns, m: &sharedSockets{First: true, Heard: ns.inner.Heard()}}
	began := time.Now()
	meanwhile := func() {
		if time.Since(began) < usersDelay {
			return
		}
		began = time.Now()
		p.mu.Lock()
		c := p.takeLocked()
		p.mu.Unlock()
		p.shareChanges(c, b)
	}
	for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
		if s, ok := socketOf(inner); ok {
			b.open(s)
		}
		meanwhile()
	}
	for _, a := range ns.inner.AwaySockets() {
		r, ok := ns.inner.RecordOf(a)
		if owner, known := a.Owner.(Identity); ok && known {
			b.left(&sharedSocket{r, owner, ns.inner.Left(a).Milliseconds()})
		}
		meanwhile()
	}
	b.send()
}

// socketBatch is a message that is being filled. It is sent when it is full.
type socketBatch struct {
	p  *peerSockets
	ns *Namespace
	m  *sharedSockets
	n  int // the sockets in m
}

// changes adds those of the namespace.
func (b *socketBatch) changes(c socketChanges) {
	for _, e := range c.ended {
		switch {
		case e.ns != b.ns:
		case e.left == nil:
			b.m.Gone = append(b.m.Gone, e.id.String())
			b.added()
		default:
			e.left.AwayMS = time.Since(e.at).Milliseconds()
			b.left(e.left)
		}
	}
	for s := range c.open {
		if s.ns == b.ns {
			b.open(s)
		}
	}
}

// left adds a socket whose client is away.
func (b *socketBatch) left(s *sharedSocket) {
	b.m.Left = append(b.m.Left, encodeSocket(s))
	b.added()
}

// open adds an open socket.
func (b *socketBatch) open(s *Socket) {
	if r, ok := s.inner.Record(); ok {
		b.m.Open = append(b.m.Open, encodeSocket(&sharedSocket{Record: r, Identity: s.Identity()}))
		b.added()
	}
}

func (b *socketBatch) added() {
	if b.n++; b.n == socketsBatch {
		b.send()
		b.p.rt.pause(usersPause)
	}
}

// send sends the message, with the mark of the newest event before it.
func (b *socketBatch) send() {
	var then func()
	b.ns.inner.AtHead(func(mark string) {
		b.m.Mark = mark
		then = b.p.rt.clusterHand(ClusterMessage{Op: OpState, Namespace: b.ns.name, State: &NodeState{stateContent{Sockets: b.m}}})
	})
	then()
	b.m, b.n = &sharedSockets{}, 0
}

func encodeSocket(s *sharedSocket) json.RawMessage {
	b, err := json.Marshal(s)
	if err != nil { // cannot happen: it has texts and numbers alone
		return json.RawMessage("{}")
	}
	return b
}

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

// learnLocked records what a node has just told of a socket of its own, if there is space. It reports whether that is not older
// than what is known.
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

// toldLocked is called after a message of a peer was applied. If it is one of those in which that tells of all its sockets, and not
// full, it is the last one. Until then this node goes by what it knew before, and when it has them all it forgets the open
// ones that were not among them. It does not if some of these messages may be lost, or the peer begins anew: then the next ones
// say what is to be forgotten.
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
// long, and if that is not enough those of which their nodes, which are telling of all, may tell no more.
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

// kept returns the message that makes other nodes keep the event of m for clients that come to them.
func (m ClusterMessage) kept() ClusterMessage {
	return ClusterMessage{Op: OpState, Namespace: m.Namespace, State: &NodeState{stateContent{Kept: &m}}}
}

// keep keeps an event that is only for sockets of the node that has emitted it. It reports whether it is
// valid.
func (ns *Namespace) keep(m *ClusterMessage) bool {
	name, args, ok := unpackEvent(m.Event)
	if !ok || m.Mark == "" {
		return false
	}
	b := m.selection(ns)
	if !b.keeps() || b.nobody() || b.fits(name, args, m.Event.Attachments) != nil {
		return !b.nobody()
	}
	out := b.outgoing(name, m.Event.Attachments)
	out.Mark, out.Here = m.Mark, true
	ns.inner.Keep(b.target(), &out, args)
	return true
}
