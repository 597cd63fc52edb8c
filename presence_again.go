// Presence that the bus did not accept: the last such event of each user is published again
// later, so that the host knows who is connected after the bus was away.

package realtime

import (
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
