// Recovery across nodes: nodes tell each other of their sockets, and what is emitted to the sockets of
// one node alone.

package realtime

import (
	"encoding/json"
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
