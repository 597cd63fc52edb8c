// slow: what a client that does not read does to the others in its room, and how
// much memory the server gives it before it lets go of it.

package main

import "time"

const (
	slowRounds = 3     // with and without the slow one, in turn
	slowFill   = 25    // broadcasts at a time until nothing goes out to it
	slowStep   = 1000  // broadcasts between two looks at the server's memory
	slowMost   = 40000 // broadcasts after which it counts as never dropped
)

func (b *bench) slow() {
	admins := adminRole()
	list := b.crowd(admins, b.cfg.conns)
	if !b.res.ok {
		return
	}
	a := b.newAudience(admins.nsp, []string{fanoutRoom}, list)
	a.paced(10)
	var alone, beside []int64
	a.lat = nil
	want := int64(b.cfg.n * len(list))
	for range slowRounds {
		a.verify("without", a.paced(b.cfg.n), want)
		alone, a.lat = append(alone, a.lat...), nil

		c := b.stalled(a)
		if c == nil {
			return
		}
		a.verify("beside", a.paced(b.cfg.n), want)
		beside, a.lat = append(beside, a.lat...), nil
		if _, up := b.l.sendQueue(c); !up {
			b.res.bad("the slow one was dropped before its outbox was full")
		}
		b.l.kill(c)
		b.spin(300 * time.Millisecond)
	}
	p99, p99Beside := quantile(alone, .99), quantile(beside, .99)
	b.res.add("alone_p50_ms", quantile(alone, .5), "ms")
	b.res.add("beside_p50_ms", quantile(beside, .5), "ms")
	b.res.add("alone_p99_ms", p99, "ms")
	b.res.add("beside_p99_ms", p99Beside, "ms")
	if p99 > 0 {
		b.res.add("p99_ratio", p99Beside/p99, "")
	}
	b.killAll(list)
	b.spin(time.Second)
	b.outbox()
}

// stalled connects a socket to the audience's room, stops reading from it and
// fills what the kernel holds for it, so that all else stays with the server.
func (b *bench) stalled(a *audience) *conn {
	c := b.newConn(newRole(adminRole().nsp, "admin", "adm-slow", "sa-slow"), 0)
	c.narrow = true
	b.toks.prepare(c.role, 1)
	was := b.l.h
	b.l.h.ready = func(*conn) {}
	err := b.l.open(c)
	if err != nil || !b.until(b.cfg.handshake, func() bool { return c.state == stReady || c.state == stClosed }) || c.state == stClosed {
		b.res.bad("the slow one failed to connect: %v %v", err, b.l.failures)
		return nil
	}
	b.l.h = was
	b.l.ignore(c)
	full := int64(-1)
	for range 200 {
		a.emit(slowFill)
		b.spin(10 * time.Millisecond)
		queued, _ := b.l.sendQueue(c)
		if queued > 0 && queued == full {
			return c
		}
		full = queued
	}
	b.res.bad("the slow one's connection never filled")
	return nil
}

// outbox lets one slow socket's queue grow until the server drops it.
func (b *bench) outbox() {
	a := b.newAudience("/admin", []string{fanoutRoom}, nil)
	before := b.stats()
	m0 := memoryOf(b.pids)
	c := b.stalled(a)
	if c == nil {
		return
	}
	defer b.l.kill(c)
	var heap, pss float64
	sent, up := 0, true
	for ; up && sent < slowMost; sent += slowStep {
		a.emit(slowStep)
		now := b.stats()
		pss = max(pss, memoryOf(b.pids).pss-m0.pss)
		if now != nil && before != nil {
			heap = max(heap, now["heap"]-before["heap"])
		}
		_, up = b.l.sendQueue(c)
	}
	b.res.add("slow_heap_peak_mib", heap/(1<<20), "MiB")
	b.res.add("slow_pss_peak_mib", pss/(1<<20), "MiB")
	if up {
		b.res.add("slow_dropped", 0, "")
		b.res.note("the slow one was never dropped")
		return
	}
	b.res.add("slow_dropped", 1, "")
	b.res.add("slow_dropped_after", float64(sent), "broadcasts")
}
