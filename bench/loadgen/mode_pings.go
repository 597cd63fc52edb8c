// pings: drivers report where they are and wait for the ack, in a closed loop
// with one ping in flight per driver, or at a set rate.

package main

import (
	"bytes"
	"time"
)

func (b *bench) pings() {
	r := driverRole()
	r.spread = true // with -others; the admins are on the first node
	drivers := b.crowd(r, b.cfg.conns)
	var admins []*conn
	if b.cfg.admins > 0 {
		admins = b.crowd(adminRole(), b.cfg.admins)
	}
	if !b.res.ok {
		return
	}
	own := make(map[*conn][]byte, len(drivers)) // how each driver's updates name them
	for _, c := range drivers {
		own[c] = []byte(`"` + c.role.sub(c.user) + `"`)
	}
	var sent, acks, badAcks, ownUpdates, foreign, adminUpdates int64
	var lat []int64
	var dropped int
	measuring, again := false, b.cfg.rate == 0
	ping := func(c *conn, at int64) {
		c.sent, c.inFlight = at, true
		sent++
		b.l.dial.ping(b.l, c)
	}
	b.l.h = handler{
		event: func(c *conn, name string, data []byte) {
			sub, isDriver := own[c]
			switch {
			case name != evUpdate:
			case !isDriver:
				adminUpdates++
			case bytes.Contains(data, sub):
				ownUpdates++
			default:
				foreign++
			}
		},
		ack: func(c *conn, id int, data []byte) {
			if id != c.ackID || !c.inFlight || acks&63 == 0 && !bytes.Contains(data, []byte(`"ok":true`)) {
				badAcks++
				return
			}
			acks++
			c.inFlight = false
			if measuring {
				lat = append(lat, b.l.now-c.sent)
			}
			if again {
				ping(c, b.l.now)
			}
		},
		closed: func(_ *conn, why string) { dropped++; b.l.failures[why]++ },
	}

	step := func() { b.l.poll(10 * time.Millisecond) }
	var late int64
	if b.cfg.rate > 0 {
		step = b.offer(drivers, ping, &late)
	} else {
		for _, c := range drivers {
			ping(c, nanos())
		}
	}
	for end := nanos() + int64(b.cfg.warm); nanos() < end; {
		step()
	}
	measuring = true
	before := acks
	w, parts := b.begin(), b.cpuParts()
	// A machine that has no time for either side makes it longer.
	for end := nanos() + int64(b.cfg.dur); nanos() < end || acks == before && nanos() < end+int64(20*time.Second); {
		step()
	}
	s := b.end(w)
	measuring, again = false, false
	n := acks - before
	if len(b.rest) > 0 {
		b.addParts("", pingParts, parts, int(n))
	}
	wantAdmin := func() int64 { return sent * int64(len(admins)) }
	drained := b.until(10*time.Second, func() bool {
		return acks+badAcks >= sent && ownUpdates >= sent && adminUpdates >= wantAdmin()
	})
	b.spin(200 * time.Millisecond) // for what should not come

	b.res.add("acks_per_s", float64(n)/s.wall, "/s")
	b.res.add("cpu_us_per_ack", per(s.cpu*1e6, n), "us")
	b.res.latencies("", lat)
	b.res.add("sent", float64(sent), "")
	b.res.add("acks", float64(acks), "")
	b.res.add("own_updates", float64(ownUpdates), "")
	b.res.add("admin_updates", float64(adminUpdates), "")
	b.res.add("bytes_in_per_ack", per(float64(s.in), n), "B")
	b.res.usage("", s)
	if b.cfg.rate > 0 {
		b.res.add("offered_per_s", b.cfg.rate, "/s")
		b.res.add("late", float64(late), "")
	}
	if !drained || acks != sent || badAcks > 0 || ownUpdates != sent || foreign > 0 || adminUpdates != wantAdmin() || dropped > 0 {
		b.res.bad("sent %d, acks %d, bad acks %d, own updates %d, foreign %d, admin's updates %d (want %d), dropped %d %v",
			sent, acks, badAcks, ownUpdates, foreign, adminUpdates, wantAdmin(), dropped, b.l.failures)
	}
	if n == 0 {
		b.res.bad("no ack in the time that was measured")
	}
	b.killAll(drivers)
	b.killAll(admins)
}

// offer returns a step that sends pings as they are due, each from the next
// driver who has none in flight; the wait for such a driver counts as latency.
func (b *bench) offer(drivers []*conn, ping func(*conn, int64), late *int64) func() {
	began := nanos()
	var done int64
	next := 0
	free := func() *conn {
		for range drivers {
			c := drivers[next%len(drivers)]
			next++
			if !c.inFlight && c.state == stReady {
				return c
			}
		}
		return nil
	}
	return func() {
		b.l.poll(0)
		for due := int64(seconds(nanos()-began) * b.cfg.rate); done < due; done++ {
			c := free()
			if c == nil {
				*late++
				return
			}
			ping(c, began+int64(float64(done)/b.cfg.rate*1e9))
		}
	}
}
