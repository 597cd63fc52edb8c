// Recovery across nodes: nodes tell each other of their sockets, and what is emitted to the sockets of
// one node alone.

package realtime

import (
	"encoding/json"
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
// changed.
type sharedSockets struct {
	// Mark is that of the sender's newest event: those that it emits later come after this message.
	Mark  string               `json:"mark"`
	Heard []socketio.HeardNode `json:"heard,omitempty"` // third nodes, which may have ended before the receiver has begun
	First bool                 `json:"first,omitempty"` // the first message with all sockets: the receiver drops those that it knows
	Open  []json.RawMessage    `json:"open,omitempty"`  // each a sharedSocket
	Left  []json.RawMessage    `json:"left,omitempty"`  // the same, and they have lost their connection
	Gone  []string             `json:"gone,omitempty"`  // the ids of those whose clients cannot come back
}

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

// share sends what has changed, or all sockets, until there is nothing to send. All sockets are sent at
// most once in answerEvery.
func (p *peerSockets) share() {
	for p.rt.pause(usersDelay) {
		p.mu.Lock()
		changed, ended, all := p.changed, p.ended, p.all && time.Since(p.listed) >= answerEvery
		if len(changed) == 0 && len(ended) == 0 && !p.all {
			p.sharing = false
			p.mu.Unlock()
			return
		}
		p.changed, p.ended = map[*Socket]struct{}{}, nil
		if all {
			p.all, p.listed = false, time.Now()
		}
		p.mu.Unlock()
		p.rt.each(func(ns *Namespace) {
			if ns.inner.Keeps() {
				p.shareNamespace(ns, changed, ended, all)
			}
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.sharing = false
}

// shareNamespace sends the sockets of a namespace that have changed, or all of them.
func (p *peerSockets) shareNamespace(ns *Namespace, changed map[*Socket]struct{}, ended []endedSocket, all bool) {
	b := &socketBatch{p: p, ns: ns, m: &sharedSockets{First: all, Heard: ns.inner.Heard()}}
	for _, e := range ended {
		switch {
		case e.ns != ns:
		case e.left == nil:
			b.m.Gone = append(b.m.Gone, e.id.String())
			b.added()
		default:
			e.left.AwayMS = time.Since(e.at).Milliseconds()
			b.m.Left = append(b.m.Left, encodeSocket(e.left))
			b.added()
		}
	}
	if !all {
		for s := range changed {
			if s.ns == ns {
				b.open(s)
			}
		}
		if b.n > 0 {
			b.send()
		}
		return
	}
	for _, inner := range ns.inner.Select(socketio.Target{All: true}) {
		if s, ok := socketOf(inner); ok {
			b.open(s)
		}
	}
	for _, a := range ns.inner.AwaySockets() {
		r, ok := ns.inner.RecordOf(a)
		if owner, known := a.Owner.(Identity); ok && known {
			b.m.Left = append(b.m.Left, encodeSocket(&sharedSocket{r, owner, ns.inner.Left(a).Milliseconds()}))
			b.added()
		}
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
	if len(m.Open)+len(m.Left)+len(m.Gone) > socketsBatch || len(m.Heard) > socketsBatch {
		return false
	}
	if peer == "" || !ns.inner.Keeps() {
		return true
	}
	if m.First && !p.named(ns, peer, m.Mark) || !ns.inner.Hear(m.Mark, m.Heard) {
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
	p.nodes[nodeKey{ns.name, peer}] = namedNode{mark[:len(socketio.RecordNode{})], time.Now()}
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
	if m.First {
		for key, s := range p.known {
			if s.peer == peer && key.namespace == ns.name && s.until.IsZero() {
				delete(p.known, key)
			}
		}
	}
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
		key := socketKey{ns.name, id}
		if old := p.known[key]; old != nil && old.turn > s.Turn {
			continue
		}
		if s.Turn > 0 {
			moved = append(moved, movedSocket{id, s.Socket, s.Turn})
		}
		if p.known[key] == nil && !p.spaceLocked(now) {
			continue
		}
		p.known[key] = &peerSocket{peer: peer, turn: s.Turn, record: slices.Clone(b), made: now, told: now}
		if i >= len(m.Open) {
			p.known[key].until = now.Add(p.rt.opts.Recovery.Window - milliseconds(s.AwayMS))
		}
		if at, gone := p.gone[peer]; gone {
			p.losesNodeLocked(p.known[key], at)
		}
	}
	for _, text := range m.Gone {
		if s := p.ofLocked(ns, peer, text); s != nil {
			s.until = now
		}
	}
	return moved, valid
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
// long.
func (p *peerSockets) spaceLocked(now time.Time) bool {
	if now.Sub(p.looked) >= expireEvery {
		p.looked = now
		for key, s := range p.known {
			if !s.until.IsZero() && now.After(s.until) {
				delete(p.known, key)
			}
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
