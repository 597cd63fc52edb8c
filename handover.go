// Handing over: a node that shuts down makes sure that another one publishes those of its users who
// do not come back, and knows the trips whose events it has handled.

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
	// handOverPause is the time between the first two attempts. It doubles, up to handOverTry.
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

// takeOver records users of nodes that have left, leave or have died, whom this node would publish if
// it did not shut down. It reports whether any are new.
func (p *presence) takeOver() (more bool) {
	if !p.publishes {
		return false
	}
	all := p.rt.peerUsers.roster.AllOrphans()
	p.mu.Lock()
	defer p.mu.Unlock()
	before := len(p.orphans)
	for _, o := range all {
		key := presenceKey{p.rt.lookup(o.Namespace), o.ID}
		if _, here := p.users[key]; !here && key.ns != nil {
			p.orphans[key] = UserType(o.Type)
		}
	}
	return len(p.orphans) > before
}

// handOver makes sure, within ctx, that another node knows the users of this one, whom it publishes
// as disconnected if they do not come back, and the last events of trips that this one has handled: it
// may have missed them while messages were lost. If no other node answers, this one publishes its
// users itself, now, except those who are known to be on another node. It returns an error if that is
// not possible.
func (rt *Server) handOver(ctx context.Context) error {
	if !rt.clustered {
		return nil
	}
	p := &rt.presence
	p.takeOver()
	users := p.publishes && len(p.all()) > 0
	if !users && !rt.publisher.exchange.hasRecent() {
		return nil
	}
	waiting, cancel := context.WithTimeout(ctx, handOverTime)
	defer cancel()
	if step(waiting, halfOf, rt.awaitConfirmed) == nil || !users {
		return nil
	}
	p.publishOrphans()
	return p.publishQueued(ctx)
}

// awaitConfirmed sends users and trips to the other nodes until one of them answers that does not shut
// down too. It returns an error if none does before ctx ends, or if there is none.
func (rt *Server) awaitConfirmed(ctx context.Context) error {
	for wait := handOverPause; ; wait = min(2*wait, handOverTry) {
		receiving := rt.cluster.receiving()
		if receiving && !rt.peerUsers.roster.Others() {
			rt.presence.takeOver()
			return ErrUnavailable
		}
		if receiving && rt.confirmed(ctx) {
			return nil
		}
		if !pauseIn(ctx, wait) {
			return ctx.Err()
		}
	}
}

// confirmed sends users and trips to the other nodes, and reports whether one of them has answered a
// request that was sent after that.
func (rt *Server) confirmed(ctx context.Context) (ok bool) {
	if rt.presence.publishes {
		rt.presence.takeOver()
		rt.peerUsers.send(ctx, rt.presence.all(), true, true)
	}
	rt.publisher.exchange.handOver()
	ns := rt.lookup(everyShareNamespace)
	m := ns.To(ownRoom(ns.name, rt.peerUsers.id)).message(ClusterMessage{Op: OpCount}) // nobody is in that room
	ctx, cancel := context.WithTimeout(ctx, handOverTry)
	defer cancel()
	_ = rt.clusterRequest(ctx, m, func(ClusterAnswer) { ok = true }) // some nodes may answer, others not
	return ok && rt.peerUsers.roster.Others() && !rt.presence.takeOver()
}

// publishOrphans queues the disconnects of all users, of whom no other node knows, however many they
// are.
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
