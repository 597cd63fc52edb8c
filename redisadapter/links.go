// The links of a node: one connection for all topics; in a cluster with sharded pub/sub,
// one for each slot.

package redisadapter

import (
	"sync"
	"time"

	"github.com/redis/rueidis"
)

// linkSet holds the links of a node.
type linkSet struct {
	mu      sync.Mutex               // guards the rest
	open    func(first *topic) *link // nil before start; returns nil if the adapter is closed
	bySlot  bool
	links   map[uint16]*link // by slot; without bySlot only one, at 0
	waiting []*topic         // added before there was a client
}

// start opens the links of the topics that were added before.
func (s *linkSet) start(bySlot bool, open func(first *topic) *link) {
	s.mu.Lock()
	s.open, s.bySlot, s.links = open, bySlot, map[uint16]*link{}
	waiting := s.waiting
	s.waiting = nil
	s.mu.Unlock()
	s.add(waiting)
}

// add subscribes to topics, or stores them until start.
func (s *linkSet) add(topics []*topic) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.open == nil {
		s.waiting = append(s.waiting, topics...)
		return
	}
	for _, t := range topics {
		var at uint16
		if s.bySlot {
			at = slot(t.name)
		}
		l := s.links[at]
		if l == nil {
			if l = s.open(t); l == nil {
				return
			}
			s.links[at] = l
		}
		l.add(t)
	}
}

// probeNow makes all links send a probe.
func (s *linkSet) probeNow() {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, l := range s.links {
		l.probeNow()
	}
}

// receivedUntil returns the time before which messages had to reach Redis to be certain to be
// received, on any link.
func (s *linkSet) receivedUntil() time.Time {
	s.mu.Lock()
	defer s.mu.Unlock()
	first := time.Now()
	for _, l := range s.links {
		if until := l.receivedUntil(); until.Before(first) {
			first = until
		}
	}
	return first
}

// opened reports whether start was called.
func (s *linkSet) opened() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.open != nil
}

// startLinks is called once, when there is a client.
func (a *Adapter) startLinks(client rueidis.Client) {
	bySlot := a.opts.Sharded && client.Mode() == rueidis.ClientModeCluster
	a.links.add([]*topic{newTopic(nodesChannel(a.opts.Key), false, a.receiveNotice)})
	a.links.start(bySlot, a.openLink)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.opened = true
	a.checkJoinedLocked()
}

// openLink starts the link for the topic's slot, unless the adapter is closed.
func (a *Adapter) openLink(first *topic) *link {
	l := newLink()
	l.client, l.renew, l.sharded, l.timing = a.dial, a.renew, a.opts.Sharded, a.timing
	l.probes = probeChannel(first.name, a.uid)
	l.up = func() { a.linkUp(l) }
	l.down = func(err error) { a.linkDown(l, err) }
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.closed {
		return nil
	}
	a.health[l] = nil // a new namespace does not make a healthy node fail Check
	if !a.joined {
		a.health[l] = errConnecting
	}
	a.linking.start(func() { l.run(a.linked) })
	return l
}
