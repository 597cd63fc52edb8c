// Who publishes while clients come and go and servers are killed: a backend that keeps what is due
// until a server takes it.

package main

import (
	"slices"
	"time"
)

// A publisher publishes one thing at a time, to one server until that fails. What is due while no
// server answers waits.
type publisher struct {
	b         *bench
	servers   []*target
	rate      float64                            // a second
	left      int                                // how many are not due yet
	next      func(at int64) int                 // returns the number of the next one, which is due at, in ns from the start
	path      func(n int) string                 // of the request
	published func(n int, at int64, how outcome) // the request began at
	due       []int
	made      int
	busy      bool
	pause     int64 // no attempt before that
	posts     *conn
	retries   int
}

const publishPause = 100 * time.Millisecond

func newPublisher(b *bench, rate float64, n int) *publisher {
	return &publisher{b: b, servers: append([]*target{b.l.first}, b.rest...), rate: rate, left: n}
}

func (p *publisher) done() bool { return p.left == 0 && len(p.due) == 0 && !p.busy }

// step makes what is due by now, in ns from the start, and publishes.
func (p *publisher) step(now int64) {
	for p.left > 0 && seconds(now)*p.rate > float64(p.made) {
		p.due = append(p.due, p.next(int64(float64(p.made)/p.rate*1e9)))
		p.made++
		p.left--
	}
	if !p.busy && len(p.due) > 0 && nanos() >= p.pause {
		p.send()
	}
}

func (p *publisher) send() {
	n, to, at := p.due[0], p.servers[0], nanos()
	p.busy = true
	err := p.b.l.request(&p.posts, to, appendPost(nil, to, p.path(n), nil), func(status int, _ []byte) { p.answered(n, at, status) })
	if err != nil {
		p.again()
	}
}

func (p *publisher) answered(n int, at int64, status int) {
	switch {
	case status == 200 || status == 204:
		p.published(n, at, accepted)
		p.due = p.due[1:]
		p.busy = false
		if len(p.due) > 0 {
			p.send()
		}
		return
	case p.posts.request != nil: // it was not sent
	default:
		p.published(n, at, unanswered)
		p.due = p.due[1:]
	}
	p.again()
}

// again goes on with the next server, a little later.
func (p *publisher) again() {
	p.busy = false
	p.retries++
	p.pause = nanos() + int64(publishPause)
	p.posts = nil
	p.servers = append(slices.Clone(p.servers[1:]), p.servers[0])
}
