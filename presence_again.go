// Presence that is published again: events that the bus did not accept, so that the host knows who
// is connected after the bus was away, and users whom another node has published, or may have
// published, as disconnected.

package realtime

import (
	"cmp"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// presenceAgain is the time until events that failed are published again. It doubles
	// while none succeeds, up to presenceAgainMax.
	presenceAgain    = time.Second
	presenceAgainMax = 15 * time.Second
)

// failedPresence holds the events that the bus did not accept. presence.mu guards it.
type failedPresence struct {
	last  map[presenceKey]failedEvent // the last event of each user, until one of the user's events is published
	timer timingwheel.Timer           // queues them again
	armed bool                        // timer will fire
	pause time.Duration               // until the next time; 0: presenceAgain
}

type failedEvent struct {
	event  DomainEvent
	queued bool // it is in the queue again
}

// keyOfEvent returns the user of a presence event.
func (p *presence) keyOfEvent(e DomainEvent) presenceKey {
	switch e := e.(type) {
	case PresenceConnected:
		return presenceKey{p.rt.lookup(e.Namespace), e.UserID}
	case PresenceDisconnected:
		return presenceKey{p.rt.lookup(e.Namespace), e.UserID}
	}
	return presenceKey{}
}

// succeeded records that an event was published, or need not be: an earlier one of the user is
// outdated. It reports whether one had failed before.
func (p *presence) succeeded(e DomainEvent) (again bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyOfEvent(e)
	_, again = p.failed.last[key]
	delete(p.failed.last, key)
	p.failed.pause = 0
	return again
}

// failedOnce records that the bus did not accept an event, and has it published again later. It
// reports whether this is the first failure of the user.
func (p *presence) failedOnce(e DomainEvent) (first bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	key := p.keyOfEvent(e)
	_, known := p.failed.last[key]
	if p.stopped || !known && len(p.failed.last) >= p.max {
		return true
	}
	if p.failed.last == nil {
		p.failed.last = map[presenceKey]failedEvent{}
		p.failed.timer.F = p.queueFailed
	}
	p.failed.last[key] = failedEvent{event: e}
	if !p.failed.armed {
		p.failed.armed = true
		p.failed.pause = min(max(2*p.failed.pause, presenceAgain), presenceAgainMax)
		p.rt.wheel.Arm(&p.failed.timer, p.failed.pause)
	}
	return !known
}

// queueFailed queues the events that failed again. An event that the user's next one makes
// outdated, which is in the queue, would follow it: it waits for what becomes of that one.
func (p *presence) queueFailed() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.failed.armed = false
	for key, f := range p.failed.last {
		_, leaves := f.event.(PresenceDisconnected)
		if _, here := p.users[key]; !f.queued && leaves != here && len(p.queue) < p.max {
			p.failed.last[key] = failedEvent{f.event, true}
			p.publishLocked(f.event)
		}
	}
}

// tellAgain tells the other nodes of the users whom this one publishes as connected after that had failed:
// what they were told before may be lost too. If this node dies, one of them must know whom to publish as
// disconnected.
func (p *presence) tellAgain(batch []DomainEvent) {
	users := map[presenceKey]userChange{}
	p.mu.Lock()
	for _, e := range batch {
		key := p.keyOfEvent(e)
		_, failed := p.failed.last[key]
		if state, here := p.users[key]; failed && here {
			users[key] = userChange{state.userType, true}
		}
	}
	p.mu.Unlock()
	if p.rt.clustered && len(users) > 0 {
		p.rt.peerUsers.send(p.rt.ctx, users, false, false)
	}
}

// publishAgainLocked publishes that a user is connected, because another node may have
// published that they are disconnected.
func (p *presence) publishAgainLocked(key presenceKey, state presenceState, userType UserType) {
	state.came = time.Now().UnixMicro()
	p.users[key] = state
	p.publishLocked(PresenceConnected{Presence{
		UserID: key.user, UserType: cmp.Or(state.userType, userType), Namespace: key.ns.name, Sockets: 1, At: time.Now().UTC(),
	}})
}

// publishAgain publishes that every user who has a socket here is connected, and after that those
// whose grace time runs and who connect again. It leaves half of the queue to other events: users
// who have no space are published later.
func (p *presence) publishAgain(ns *Namespace) {
	until := time.Now().UnixMicro()
	if all := p.publishSomeAgain(ns, until); !all {
		go func() {
			for !all && p.rt.pause(orphanPause) {
				all = p.publishSomeAgain(ns, until)
			}
		}()
	}
}

// publishSomeAgain is publishAgain for users who were published until then last, as many as
// have space in the queue. It reports whether all have.
func (p *presence) publishSomeAgain(ns *Namespace, until int64) (all bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, state := range p.users {
		switch {
		case p.stopped:
			return true
		case key.ns != ns || state.came > until:
		case state.leave != nil:
			state.again = true
			p.users[key] = state
		case len(p.queue) >= p.max/2:
			return false
		default:
			p.publishAgainLocked(key, state, "")
		}
	}
	return true
}
