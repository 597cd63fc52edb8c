// Handing presence over: a node that shuts down makes sure that another one publishes those of its
// users who do not come back.

package realtime

import (
	"context"
	"time"

	"github.com/rodando/realtime/internal/roster"
)

const (
	// handOverTime is how long a node that shuts down waits at most for another one to confirm
	// that it knows the users.
	handOverTime = 10 * time.Second
	// handOverTry is how long it waits for an answer until it tries again.
	handOverTry = time.Second
	// handOverPause is the time between two attempts.
	handOverPause = 100 * time.Millisecond
)

// stop waits, within ctx, until the queued events are published. Later events are dropped, and
// so are those of users whose grace time runs: the other nodes publish them.
func (p *presence) stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	for key, state := range p.users {
		if state.leave != nil {
			p.rt.wheel.Stop(&state.leave.timer)
			p.orphanLocked(key, state.userType)
		}
	}
	p.mu.Unlock()
	return p.publishQueued(ctx)
}

// publishQueued waits, within ctx, until the queued events are published.
func (p *presence) publishQueued(ctx context.Context) error {
	p.mu.Lock()
	if p.running && p.idle == nil {
		p.idle = make(chan struct{})
	}
	idle := p.idle
	p.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// orphanLocked records, after stop, that another node has to publish a user who is not here any
// more.
func (p *presence) orphanLocked(key presenceKey, userType UserType) {
	delete(p.users, key)
	if p.publishes {
		p.orphans[key] = userType
	}
}

// takeOver records users of nodes that have left or died, whom this node would have published if it
// did not shut down.
func (p *presence) takeOver(orphans []roster.Orphan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, o := range orphans {
		key := presenceKey{p.rt.lookup(o.Namespace), o.ID}
		if _, here := p.users[key]; !here && key.ns != nil {
			p.orphans[key] = UserType(o.Type)
		}
	}
}

// handOver makes sure, within ctx, that the users of this node who do not come back are published
// as disconnected. The other nodes do that, if at least one of them confirms that it receives
// messages of this node, after it was sent all users: it may have missed some while messages were
// lost. Otherwise this node publishes them itself, now, except those who are known to be on another
// node. It returns an error if neither is possible.
func (rt *Server) handOver(ctx context.Context) error {
	p, u := &rt.presence, &rt.peerUsers
	if !p.publishes || !rt.clustered {
		return nil
	}
	p.takeOver(u.roster.AllOrphans())
	if len(p.all()) == 0 {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if step(waiting, mostOf, u.handOver) == nil {
		return nil
	}
	p.publishOrphans()
	return p.publishQueued(ctx)
}

// handOver sends all users to the other nodes until one of them answers. It returns an error if
// none does before ctx ends, or if there is none.
func (u *peerUsers) handOver(ctx context.Context) error {
	for {
		receiving := u.rt.cluster.receiving()
		if receiving && !u.hasPeers() {
			return ErrUnavailable
		}
		if receiving && u.confirmed(ctx) {
			return nil
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(handOverPause):
		}
	}
}

func (u *peerUsers) hasPeers() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.peers) > 0
}

// confirmed sends all users to the other nodes, and reports whether one of them has answered a
// request that was sent after that.
func (u *peerUsers) confirmed(ctx context.Context) (ok bool) {
	ctx, cancel := context.WithTimeout(ctx, handOverTry)
	defer cancel()
	u.send(u.rt.presence.all(), true)
	ns := u.rt.lookup(everyShareNamespace)
	m := ns.To(ownRoom(ns.name, u.id)).message(ClusterMessage{Op: OpCount}) // nobody is in that room
	err := u.rt.clusterRequest(ctx, m, func(ClusterAnswer) { ok = true })
	return ok || err == nil && u.hasPeers()
}

// publishOrphans queues the disconnects of all users, of whom no other node knows.
func (p *presence) publishOrphans() {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := time.Now().UTC()
	for key, c := range p.allLocked() {
		if p.rt.peerUsers.roster.Elsewhere(roster.User{Namespace: key.ns.name, ID: key.user}) {
			continue
		}
		p.queueLocked(PresenceDisconnected{Presence{
			UserID: key.user, UserType: c.userType, Namespace: key.ns.name, Reason: DisconnectShutdown, At: now,
		}})
	}
}
