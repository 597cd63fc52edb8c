// Who publishes while clients come and go and servers are killed: a backend that keeps what is due
// until a server takes it.

package main

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"time"
)

// A publisher publishes an event at a time, to one server until that fails. What is due while
// no server answers waits.
type publisher struct {
	b       *bench
	ledger  *ledger
	role    *role
	servers []*target
	rnd     *rand.Rand
	left    int // events that are not due yet
	due     []int
	made    int
	busy    bool
	pause   int64 // no attempt before that
	posts   *conn
	retries int
}

const publishPause = 100 * time.Millisecond

func newPublisher(b *bench, l *ledger, r *role, n int) *publisher {
	return &publisher{
		b: b, ledger: l, role: r, servers: append([]*target{b.l.first}, b.rest...), left: n,
		rnd: rand.New(rand.NewPCG(b.cfg.seed, 0)),
	}
}

func (p *publisher) done() bool { return p.left == 0 && len(p.due) == 0 && !p.busy }

// step makes what is due by now, in ns from the start, and publishes.
func (p *publisher) step(now int64) {
	for p.left > 0 && seconds(now)*p.b.cfg.rate > float64(p.made) {
		p.due = append(p.due, p.ledger.add(p.rnd.IntN(p.b.cfg.conns)))
		p.made++
		p.left--
	}
	if !p.busy && len(p.due) > 0 && nanos() >= p.pause {
		p.send()
	}
}

func (p *publisher) send() {
	n := p.due[0]
	to := p.servers[0]
	room := "driver:" + p.role.sub(p.ledger.events[n].user)
	path := fmt.Sprintf("/bench/emit?ns=%s&room=%s&event=%s&first=%d", p.role.nsp, room, evTrip, n)
	p.busy = true
	err := p.b.l.request(&p.posts, to, appendPost(nil, to, path, nil), func(status int, _ []byte) { p.answered(n, status) })
	if err != nil {
		p.again()
	}
}

func (p *publisher) answered(n, status int) {
	switch {
	case status == 200 || status == 204:
		p.ledger.published(n, accepted)
		p.due = p.due[1:]
		p.busy = false
		if len(p.due) > 0 {
			p.send()
		}
		return
	case p.posts.request != nil: // it was not sent
	default:
		p.ledger.published(n, unanswered)
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
