// Recovery across nodes: a client comes back to another node than the one that it was on, which gives its socket
// up or has died. recovery_share.go has what the nodes tell each other before.

package realtime

import (
	"context"
	"encoding/json"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

const (
	// claimAgain is the time after which the node of a socket is asked again, until there is a sign of it.
	claimAgain = 100 * time.Millisecond
	// claimSign is how long a node waits for the first sign of life of a socket's node, and claimTime
	// for its answer. That node may first wait whether the former connection still answers.
	claimSign = 300 * time.Millisecond
	claimTime = 2500 * time.Millisecond
	// livesFor is how long a node is not taken for dead after it has told of the open socket. The answer may
	// take longer than claimSign on a slow path, and a client that has just come to that node would lose it.
	livesFor = 2 * time.Second
	// unheard is how long it takes at most until a node is taken for dead.
	unheard = 15 * time.Second
	// servedAtOnce is the maximum number of questions of other nodes that are being answered.
	servedAtOnce = 1024
)

// socketClaim says that the client of a socket has come to the sender.
type socketClaim struct {
	Claim  string  `json:"claim"` // an id for the answer
	Node   string  `json:"node"`  // of the socket
	ID     string  `json:"id"`
	Socket string  `json:"socket"`
	Offset *string `json:"offset,omitempty"`
}

// socketClaimed answers a socketClaim.
type socketClaimed struct {
	Claim string `json:"claim"`
	// Wait says that the answer follows. Without it and Socket, the claim is refused.
	Wait   bool          `json:"wait,omitempty"`
	Gone   bool          `json:"gone,omitempty"`  // refused, because the client has come to another node
	AgoMS  int64         `json:"agoMs,omitempty"` // how long ago the client has left, in milliseconds
	Socket *sharedSocket `json:"socket,omitempty"`
}

// peerSockets exchanges sockets with the other nodes, unless the adapter is no Claimer. Its methods may
// be called concurrently and do not block, but for claim and part.
type peerSockets struct {
	rt      *Server
	claimer Claimer // nil: clients recover on their own node only

	mu      sync.Mutex // guards the fields below
	known   map[socketKey]*peerSocket
	looked  time.Time // when known was last looked through
	changed map[*Socket]struct{}
	ended   []endedSocket // in the order in which they have ended
	all     bool          // all sockets are to be shared
	sharing bool          // the sharing goroutine exists
	running int           // questions of other nodes that are being answered
	peers   map[string]struct{}
	gone    map[string]time.Time  // when peers were lost; for Recovery.Window
	nodes   map[nodeKey]namedNode // of peers, also those in gone
	lacks   time.Time             // when this node began, or had its last gap
	gap     Gap                   // the last one
	sends   map[nodeKey]sentLog   // by the peer that has asked for it

	unshared atomic.Int64 // when an event was last not taken by the adapter, in nanoseconds since 1970; 0: never

	claims questions[*socketClaimed]
	finds  questions[*socketFound]
	parts  questions[*partAnswer]
	logs   questions[*logPage]

	pace    pace         // of the logs that this node sends
	sending atomic.Int32 // how many these are

	asks   collapsed
	listed time.Time // when all sockets were last shared; only the sharing goroutine uses it
}

type socketKey struct {
	namespace string
	id        socketio.RecoveryID
}

// peerSocket is a socket of another node.
type peerSocket struct {
	peer   string // the id of the Peer
	turn   int
	record json.RawMessage // a sharedSocket
	made   time.Time       // when the record came, or its node had made it
	told   time.Time       // when its node has told of it; zero: another one has
	lost   time.Time       // when its node was lost; zero: it was not
	until  time.Time       // when its client is away for too long; zero: it is not known to be away
	// heard is when its node was there for sure, with the client, if the node was lost then; zero: the client has left before.
	heard time.Time
}

func (p *peerSockets) init(rt *Server) {
	p.rt = rt
	p.peers, p.gone, p.nodes, p.lacks = map[string]struct{}{}, map[string]time.Time{}, map[nodeKey]namedNode{}, time.Now()
	p.known, p.changed, p.sends = map[socketKey]*peerSocket{}, map[*Socket]struct{}{}, map[nodeKey]sentLog{}
	p.claimer = claimerOf(&rt.opts, rt.adapter)
}

// claimerOf returns the adapter if clients recover on all nodes, or nil.
func claimerOf(o *Options, a Adapter) Claimer {
	if !o.Recovery.Enabled || o.Cluster.BusFanOut {
		return nil
	}
	c, _ := a.(Claimer)
	return c
}

// claim returns the socket of a pid that another node has or had, if it was the user's, or nil. stale says
// that what this node knows is out of date.
func (p *peerSockets) claim(ctx context.Context, s *Socket, pid socketio.PID, offset *string) (a *socketio.Away, stale bool) {
	ns := s.ns
	if p.claimer == nil {
		return nil, false
	}
	k, known := p.lookUp(ns, pid.ID())
	if !known {
		k, known = p.find(ctx, ns, pid)
	}
	var of sharedSocket
	switch {
	case !known, !k.until.IsZero() && time.Now().After(k.until), json.Unmarshal(k.record, &of) != nil:
		return nil, false
	case of.Socket != pid.Socket(), !p.rt.recovery.same(of.Identity, s.Identity()):
		return nil, false
	}
	of.Ages(time.Since(k.made))
	heard := k.until.Add(-p.rt.opts.Recovery.Window) // when the client was lost
	if !k.heard.IsZero() {
		heard = ns.inner.HeardSince(of.Node, k.heard)
	}
	if k.lost.IsZero() {
		switch answer, alive := p.ask(ctx, ns, &of, offset, k.sign(time.Now())); {
		case !alive && k.until.IsZero():
			heard = ns.inner.HeardSince(of.Node, p.surelyHeard(&k, time.Now()))
		case !alive:
		case answer.Socket == nil, answer.Socket.ID != of.ID, answer.Socket.Socket != of.Socket, !p.rt.recovery.same(answer.Socket.Identity, s.Identity()):
			return nil, answer.Gone
		default:
			of, heard = *answer.Socket, time.Now().Add(-milliseconds(answer.AgoMS))
		}
	}
	return ns.inner.Foreign(of.Record, heard, of.Identity), false
}

// sign returns how long its node has for the first sign of life.
func (s *peerSocket) sign(now time.Time) time.Duration {
	if !s.until.IsZero() {
		return claimSign
	}
	return max(claimSign, livesFor-now.Sub(s.told))
}

// ask asks the node of a socket to give it up. alive is false if there is no sign of life within a time.
func (p *peerSockets) ask(ctx context.Context, ns *Namespace, of *sharedSocket, offset *string, sign time.Duration) (answer socketClaimed, alive bool) {
	id, answers, done := p.claims.open(2)
	defer done()
	ask := func() {
		p.rt.shareState(ns.name, stateContent{Claim: &socketClaim{id, of.Node, of.ID, of.Socket, offset}})
	}
	ask()
	timer, again := time.NewTimer(sign), time.NewTicker(claimAgain)
	defer timer.Stop()
	defer again.Stop()
	for {
		select {
		case a := <-answers:
			if !a.Wait {
				return *a, true
			}
			alive = true
			timer.Reset(claimTime)
		case <-again.C:
			if !alive {
				ask() // a message may have been lost
			}
		case <-timer.C: // it may have died after a sign
			return socketClaimed{}, false
		case <-ctx.Done():
			return socketClaimed{}, true
		}
	}
}

// claimed answers a claim of another node, if the socket is one of this node. It reports whether the claim is
// valid.
func (p *peerSockets) claimed(ns *Namespace, c *socketClaim) bool {
	id, ok := socketio.ParseRecoveryID(c.ID)
	if !ok || !validID(c.Claim) || len(c.Socket) > maxID {
		return false
	}
	if !ns.inner.Keeps() || !ns.inner.IsNode(c.Node) {
		return true
	}
	answer := func(a socketClaimed) {
		a.Claim = c.Claim
		p.rt.shareState(ns.name, stateContent{Claimed: &a})
	}
	p.serve(func() {
		answer(socketClaimed{Wait: true})
		answer(p.giveUp(ns, id, c))
	})
	return true
}

// giveUp ends a socket whose client has come to another node, and describes it. It refuses if the
// client still answers here, or cannot come back.
func (p *peerSockets) giveUp(ns *Namespace, id socketio.RecoveryID, c *socketClaim) (refused socketClaimed) {
	ctx, cancel := context.WithTimeout(p.rt.ctx, claimTime)
	defer cancel()
	if former := ns.inner.ConnectedAs(id, c.Socket); former != nil && !former.Supersede(ctx) && !former.Closed() {
		return refused
	}
	a := ns.inner.Away(ctx, id, c.Socket)
	if a == nil {
		return socketClaimed{Gone: true}
	}
	owner, ok := a.Owner.(Identity)
	if !ok {
		return refused
	}
	r, ok := ns.inner.Received(a, c.Offset, p.lostAt())
	if !ok {
		return refused
	}
	return socketClaimed{Socket: &sharedSocket{Record: r, Identity: owner}, AgoMS: ns.inner.Left(a).Milliseconds()}
}

// lostMessage records that the adapter has not taken a message: the other nodes do not have every event of
// this one.
func (p *peerSockets) lostMessage() { p.unshared.Store(time.Now().UnixNano()) }

// lostAt returns when lostMessage was last called, or zero.
func (p *peerSockets) lostAt() (t time.Time) {
	if at := p.unshared.Load(); at != 0 {
		t = time.Unix(0, at)
	}
	return t
}

// first reports whether this node is the first one to recover a socket this time.
func (p *peerSockets) first(ctx context.Context, ns *Namespace, a *socketio.Away) bool {
	if p.claimer == nil {
		return true
	}
	first, err := hostcall.Do(ctx, p.rt.host.claims, nil, func(ctx context.Context) (bool, error) {
		return p.claimer.Claim(ctx, claimKey(ns, a), p.rt.opts.Recovery.Window)
	})
	if err != nil {
		p.rt.hostFailed("Claimer.Claim", err, "namespace", ns.name)
		return false
	}
	return first
}

// again allows another claim of a socket.
func (p *peerSockets) again(ns *Namespace, a *socketio.Away) {
	if p.claimer == nil {
		return
	}
	err := hostcall.Run(p.rt.ctx, p.rt.host.claims, func(ctx context.Context) error { return p.claimer.Unclaim(ctx, claimKey(ns, a)) })
	if err != nil {
		p.rt.hostFailed("Claimer.Unclaim", err, "namespace", ns.name)
	}
}

// claimKey returns the key of one return of a client to its socket.
func claimKey(ns *Namespace, a *socketio.Away) string {
	return ns.name + " " + a.ID.String() + " " + strconv.Itoa(a.Turn)
}
