// Recovery on a node that lacks something, because it has begun lately or had a gap: it asks the others for
// the socket of a client, and for the events that the client has missed.

package realtime

import (
	"context"
	"encoding/json"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/socketio"
)

const (
	// partTime is how long a node waits for the events of another one, and partTries is how many it asks.
	partTime  = time.Second
	partTries = 3
	// partEvents and partBytes are the maximum number and size of the events in one message. A part has at
	// most partMessages.
	partEvents   = 256
	partBytes    = 256 << 10
	partMessages = 256
	// settleTime is how long it takes at most until every node has told of its sockets.
	settleTime  = answerEvery + 500*time.Millisecond
	settlePause = 10 * time.Millisecond
)

// socketFind asks for a socket that the sender does not know.
type socketFind struct {
	Find   string `json:"find"` // an id for the answer
	ID     string `json:"id"`
	Socket string `json:"socket"`
}

// socketFound answers a socketFind.
type socketFound struct {
	Find string `json:"find"`
	knownSocket
}

// knownSocket is what a node knows of a socket of another one.
type knownSocket struct {
	Peer   string          `json:"peer,omitempty"`   // the id of that node as a Peer; empty: the sender itself
	Socket json.RawMessage `json:"socket"`           // a sharedSocket
	AgoMS  int64           `json:"agoMs,omitempty"`  // how long ago that was made, in milliseconds
	Lost   bool            `json:"lost,omitempty"`   // its node is
	LeftMS *int64          `json:"leftMs,omitempty"` // how long ago the client or the node was lost, in milliseconds; nil: it was not
	// HeardMS is how long ago the node was there for sure, with the client, if it was lost then, in milliseconds.
	HeardMS *int64 `json:"heardMs,omitempty"`
}

// share describes the socket for other nodes.
func (s *peerSocket) share(window time.Duration) knownSocket {
	k := knownSocket{Peer: s.peer, Socket: s.record, AgoMS: time.Since(s.made).Milliseconds(), Lost: !s.lost.IsZero()}
	if !s.until.IsZero() {
		left := time.Since(s.until.Add(-window)).Milliseconds()
		k.LeftMS = &left
	}
	if !s.heard.IsZero() {
		heard := time.Since(s.heard).Milliseconds()
		k.HeardMS = &heard
	}
	return k
}

// known returns the socket and its id. ok is false if it is malformed.
func (k knownSocket) known(ns *Namespace, window time.Duration) (id socketio.RecoveryID, s peerSocket, ok bool) {
	var of sharedSocket
	if json.Unmarshal(k.Socket, &of) != nil {
		return id, s, false
	}
	if id, ok = ns.inner.CheckRecord(&of.Record); !ok || len(k.Peer) > maxID {
		return id, s, false
	}
	s = peerSocket{peer: k.Peer, turn: of.Turn, record: slices.Clone(k.Socket), made: time.Now().Add(-milliseconds(k.AgoMS))}
	if k.LeftMS != nil {
		left := time.Now().Add(-milliseconds(*k.LeftMS))
		s.until = left.Add(window)
		if k.Lost {
			s.lost = left
		}
	}
	if k.HeardMS != nil {
		s.heard = time.Now().Add(-milliseconds(*k.HeardMS))
	}
	return id, s, true
}

// partRequest asks a node for the events that a client has missed.
type partRequest struct {
	Part    string          `json:"part"` // an id for the answers
	Node    string          `json:"node"` // who is asked
	By      string          `json:"by"`   // who asks
	Socket  socketio.Record `json:"socket"`
	Rooms   []string        `json:"rooms"`   // in which the client is now
	HeardMS int64           `json:"heardMs"` // how long ago its former node was heard, in milliseconds
}

// partAnswer is one of the answers to a partRequest. The last one has Upto; without it, that node does not
// have the events.
type partAnswer struct {
	Part   string `json:"part"`
	N      int    `json:"n"`                // how many came before it
	Events []Raw  `json:"events,omitempty"` // as packEvent makes them
	Last   bool   `json:"last,omitempty"`
	Upto   string `json:"upto,omitempty"` // a label
}

// nodeKey is a peer in a namespace.
type nodeKey struct{ namespace, peer string }

// namedNode is the name that the log of a peer has in records.
type namedNode struct {
	name    string
	told    time.Time // when the peer last began to tell of all its sockets
	telling time.Time // when the newest message of these came, and there are more; zero: it has told of all
}

// questions are what a node has asked the others. Its methods may be called concurrently.
type questions[A any] struct {
	mu   sync.Mutex
	sent map[string]chan A // guarded by mu
}

// open begins a question, which the caller ends with done. At most n answers wait to be read.
func (q *questions[A]) open(n int) (id string, answers <-chan A, done func()) {
	c := make(chan A, n)
	id = uuid.NewString()
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.sent == nil {
		q.sent = map[string]chan A{}
	}
	q.sent[id] = c
	return id, c, func() {
		q.mu.Lock()
		defer q.mu.Unlock()
		delete(q.sent, id)
	}
}

// answered passes on an answer of another node. It reports whether the id is valid.
func (q *questions[A]) answered(id string, a A) bool {
	if !validID(id) {
		return false
	}
	q.mu.Lock()
	defer q.mu.Unlock()
	select {
	case q.sent[id] <- a: // not if it is nil
	default:
	}
	return true
}

// serve answers a question of another node, unless it has to answer too many.
func (p *peerSockets) serve(answer func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.running == servedAtOnce {
		return // the other node takes this one for dead
	}
	p.running++
	go func() {
		defer func() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.running--
		}()
		answer()
	}()
}

// lookUp returns what is known of a socket of another node.
func (p *peerSockets) lookUp(ns *Namespace, id socketio.RecoveryID) (k peerSocket, ok bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if s := p.known[socketKey{ns.name, id}]; s != nil {
		return *s, true
	}
	return k, false
}

// find asks the other nodes for a socket that this one does not know, if it may not know all.
func (p *peerSockets) find(ctx context.Context, ns *Namespace, pid socketio.PID) (k peerSocket, ok bool) {
	if p.knowsAll(ns) {
		return k, false
	}
	id, answers, done := p.finds.open(1)
	defer done()
	ask := func() {
		p.rt.shareState(ns.name, stateContent{Find: &socketFind{id, pid.ID().String(), pid.Socket()}})
	}
	ask()
	timer, again := time.NewTimer(claimSign), time.NewTicker(claimAgain)
	defer timer.Stop()
	defer again.Stop()
	for {
		select {
		case a := <-answers:
			id, k, ok := a.known(ns, p.rt.opts.Recovery.Window)
			return k, ok && id == pid.ID()
		case <-again.C:
			ask() // a message may have been lost
		case <-timer.C:
			return k, false
		case <-ctx.Done():
			return k, false
		}
	}
}

// knowsAll reports whether this node has lost nothing lately, and no other one is telling of all its sockets.
func (p *peerSockets) knowsAll(ns *Namespace) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if time.Since(p.lacks) < p.rt.opts.Recovery.Window {
		return false
	}
	for key, node := range p.nodes {
		if key.namespace == ns.name && time.Since(node.telling) < settleTime {
			return false
		}
	}
	return true
}

// milliseconds returns a period that another node has sent.
func milliseconds(n int64) time.Duration {
	return time.Duration(min(max(0, n), maxTimeout.Milliseconds())) * time.Millisecond
}

// finding answers a socketFind, if the node knows the socket. It reports whether the question is valid.
func (p *peerSockets) finding(ns *Namespace, f *socketFind) bool {
	id, ok := socketio.ParseRecoveryID(f.ID)
	if !ok || !validID(f.Find) || len(f.Socket) > maxID {
		return false
	}
	if !ns.inner.Keeps() {
		return true
	}
	p.serve(func() {
		if a := p.findHere(ns, id, f.Socket); a != nil {
			a.Find = f.Find
			p.rt.shareState(ns.name, stateContent{Found: a})
		}
	})
	return true
}

// findHere returns a socket of this node, or of another one that this one knows, or nil. Its own is newer: a
// client may have come from the other one.
func (p *peerSockets) findHere(ns *Namespace, id socketio.RecoveryID, socket string) *socketFound {
	if own := ns.ownSocket(p.rt.ctx, id, socket); own != nil {
		return &socketFound{knownSocket: knownSocket{Socket: encodeSocket(own)}}
	}
	if k, ok := p.lookUp(ns, id); ok {
		return &socketFound{knownSocket: k.share(p.rt.opts.Recovery.Window)}
	}
	return nil
}

// ownSocket returns a socket of this node that its client may recover, or nil.
func (ns *Namespace) ownSocket(ctx context.Context, id socketio.RecoveryID, socket string) *sharedSocket {
	if inner := ns.inner.ConnectedAs(id, socket); inner != nil {
		s, known := socketOf(inner)
		if r, ok := inner.Record(); ok && known {
			return &sharedSocket{Record: r, Identity: s.Identity()}
		}
	}
	a := ns.inner.Away(ctx, id, socket)
	if a == nil {
		return nil
	}
	owner, known := a.Owner.(Identity)
	r, ok := ns.inner.RecordOf(a)
	if !ok || !known {
		return nil
	}
	return &sharedSocket{Record: r, Identity: owner}
}

// part returns the events that the client of a resumed socket, which is about to join rooms, has missed and this
// node lacks, or nil if it lacks none. ok is false if no other node has them.
func (p *peerSockets) part(ctx context.Context, s *Socket, former *socketio.Away, join []Room) (part *socketio.Part, ok bool) {
	var nodes []string
	if p.claimer != nil {
		nodes = p.settled(ctx, s.ns) // after a gap this node does not know yet what it lacks
	}
	r, rooms, lacks, ok := s.inner.Lacks(p.lostAt())
	rooms = append(rooms, names(join)...)
	if !lacks || !ok {
		return nil, ok
	}
	if len(rooms) > socketio.MaxRooms {
		return nil, false
	}
	heard := s.ns.lostFor(former)
	for tries, node := range nodes {
		if tries == partTries {
			break
		}
		q := partRequest{Node: node, By: s.ns.inner.Node(), Socket: r, Rooms: rooms, HeardMS: heard.Milliseconds()}
		if part := p.askPart(ctx, s.ns, &q); part != nil {
			return part, true
		}
	}
	return nil, false
}

// settled returns the nodes that have told of their sockets. It waits until all have.
func (p *peerSockets) settled(ctx context.Context, ns *Namespace) (nodes []string) {
	for {
		nodes = nodes[:0]
		p.mu.Lock()
		ready := time.Since(p.lacks) > settleTime
		for peer := range p.peers { // in any order, so that nobody is asked by all
			if node, ok := p.nodes[nodeKey{ns.name, peer}]; ok && !node.told.Before(p.lacks) {
				nodes = append(nodes, node.name)
			}
		}
		ready = ready || len(nodes) == len(p.peers)
		p.mu.Unlock()
		if ready || !pauseIn(ctx, settlePause) {
			return nodes
		}
	}
}

// askPart asks one node for a part. It returns nil if that node does not have it.
func (p *peerSockets) askPart(ctx context.Context, ns *Namespace, q *partRequest) *socketio.Part {
	var answers <-chan *partAnswer
	var done func()
	q.Part, answers, done = p.parts.open(partMessages)
	defer done()
	p.rt.shareState(ns.name, stateContent{PartOf: q})
	timer := time.NewTimer(partTime)
	defer timer.Stop()
	var events []socketio.Replayed
	for n := 0; ; n++ {
		select {
		case a := <-answers:
			more, ok := ns.replayed(a.Events)
			if events = append(events, more...); !ok || a.N != n || a.Last && a.Upto == "" {
				return nil
			}
			if a.Last {
				return ns.inner.Part(events, q.Rooms, a.Upto)
			}
		case <-timer.C:
			return nil
		case <-ctx.Done():
			return nil
		}
	}
}

// replayed returns events of another node. ok is false if one cannot be sent.
func (ns *Namespace) replayed(raws []Raw) (events []socketio.Replayed, ok bool) {
	for _, raw := range raws {
		name, args, ok := unpackEvent(&raw)
		if !ok || checkRaw(name, raw) != nil || sendable(ns.rt, name, args, raw.Attachments) != nil {
			return nil, false
		}
		events = append(events, socketio.Replayed{Name: name, Args: args, Attachments: raw.Attachments})
	}
	return events, true
}

// partOf answers a partRequest, if this node is asked. It reports whether the question is valid.
func (p *peerSockets) partOf(ns *Namespace, q *partRequest) bool {
	if !validID(q.Part) || len(q.Rooms) > socketio.MaxRooms {
		return false
	}
	if ns.inner.Keeps() && ns.inner.IsNode(q.Node) {
		p.serve(func() { p.sendPart(ns, q) })
	}
	return true
}

// sendPart sends the events of a part, in messages of a bounded size.
func (p *peerSockets) sendPart(ns *Namespace, q *partRequest) {
	a := &partAnswer{Part: q.Part}
	send := func() {
		p.rt.shareState(ns.name, stateContent{Part: a})
		a = &partAnswer{Part: q.Part, N: a.N + 1}
	}
	events, upto, ok := ns.inner.PartFor(q.Socket, time.Now().Add(-milliseconds(q.HeardMS)), q.Rooms, q.By)
	size := 0
	for _, e := range events {
		if ok = ok && a.N < partMessages-1; !ok {
			break
		}
		a.Events = append(a.Events, *packEvent(e.Name, e.Args, e.Attachments))
		size += e.Size()
		if len(a.Events) == partEvents || size >= partBytes {
			send()
			size = 0
		}
	}
	a.Last = true
	if ok {
		a.Upto = upto
	}
	send()
}
