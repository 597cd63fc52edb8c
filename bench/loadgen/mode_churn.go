// churn: sockets come and go, half of them by RST; then memory, goroutines and
// descriptors are compared with the start.

package main

import (
	"fmt"
	"math/rand/v2"
	"time"
)

const churnRounds = 3

// A churn is one round of it.
type churn struct {
	b       *bench
	role    *role
	next    int
	pending int
	total   int64
	failed  int64
	held    []*conn // ready, in the order in which they are to go
	open    map[*conn]bool
}

func (b *bench) churn() {
	r := roleOf(b.cfg.ns)
	b.warmup(r)
	b.spin(2 * time.Second)
	stats0, m0 := b.stats(), memoryOf(b.pids)
	b.res.add("pss_before_mib", m0.pss/(1<<20), "MiB")
	for _, k := range []string{"goroutines", "handles", "heap"} {
		if v, ok := stats0[k]; ok {
			b.res.add(k+"_before", v, "")
		}
	}
	var s span
	var total, failed int64
	var m memory
	for i := range churnRounds {
		w := b.begin()
		c := &churn{b: b, role: r, next: int(total), open: map[*conn]bool{}}
		c.run(b.cfg.dur / churnRounds)
		s = s.plus(b.end(w))
		total += c.total
		failed += c.failed
		b.spin(b.cfg.settle)
		stats := b.stats()
		m = memoryOf(b.pids)
		b.res.add(fmt.Sprintf("pss_after%d_mib", i+1), m.pss/(1<<20), "MiB")
		for _, k := range []string{"goroutines", "handles", "heap"} {
			if v, ok := stats[k]; ok {
				b.res.add(fmt.Sprintf("%s_after%d", k, i+1), v, "")
			}
		}
	}
	b.res.add("fds_before", m0.fds, "")
	b.res.add("fds_after", m.fds, "")
	b.res.add("cycles", float64(total), "")
	b.res.add("cycles_per_s", float64(total)/s.wall, "/s")
	b.res.add("cpu_us_per_cycle", per(s.cpu*1e6, total), "us")
	b.res.add("failed", float64(failed), "")
	b.res.usage("", s)
	if failed > 0 {
		b.res.bad("%d failures: %v", failed, b.l.failures)
	}
	if d := m.fds - m0.fds; d > 2 {
		b.res.bad("%v file descriptors more than before", d)
	}
}

func (c *churn) run(d time.Duration) {
	b := c.b
	b.l.h = handler{ready: c.ready, closed: c.closed}
	end := nanos() + int64(d)
	patience := end + int64(8*time.Second)
	for stop := false; !stop || c.pending > 0 && nanos() < patience; {
		stop = nanos() > end
		for !stop && c.pending < b.cfg.conc && c.start() {
		}
		b.l.poll(2 * time.Millisecond)
		now := nanos()
		for len(c.held) > 0 && (stop || c.held[0].holdTill <= now) {
			c.end(c.held[0])
			c.held = c.held[1:]
		}
	}
	b.l.h = handler{}
	for k := range c.open {
		b.l.failures["never closed after a goodbye"]++
		c.failed++
		b.l.kill(k)
	}
}

// start reports whether it could open a socket.
func (c *churn) start() bool {
	k := c.b.newConn(c.role, c.next%c.b.cfg.conns)
	c.next++
	if err := c.b.l.open(k); err != nil {
		c.b.l.failures["open: "+err.Error()]++
		c.failed++
		return false
	}
	c.pending++
	return true
}

func (c *churn) ready(k *conn) {
	c.total++
	k.holdTill = c.b.l.now + int64(c.b.cfg.hold)
	c.held = append(c.held, k)
	c.open[k] = true
}

func (c *churn) closed(k *conn, why string) {
	c.pending--
	delete(c.open, k)
	if !k.closing {
		c.b.l.failures[why]++
		c.failed++
	}
}

func (c *churn) end(k *conn) {
	if k.state != stReady {
		return
	}
	k.closing = true
	if rand.Float64() < c.b.cfg.abrupt {
		c.b.l.drop(k, "abrupt")
	} else {
		c.b.l.dial.bye(c.b.l, k)
	}
}
