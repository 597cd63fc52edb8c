// fanout: broadcasts to one room, one by one and in bursts. unicast: emits to
// many rooms of one socket each.

package main

import (
	"bytes"
	"strconv"
	"time"
)

const (
	fanoutRoom  = "admin:all"
	fanoutLimit = 20 * time.Second
)

// An audience counts what reaches a room, or rooms.
type audience struct {
	b       *bench
	nsp     string
	rooms   []string
	members []*conn
	posts   *conn

	got      int64
	disorder int64
	dropped  int
	size     int   // bytes of the last event's data
	emitted  int64 // ns: when the broadcast under way began; 0: not timed
	lat      []int64
	clocked  bool // the events say when they were emitted
}

func (b *bench) newAudience(nsp string, rooms []string, members []*conn) *audience {
	a := &audience{b: b, nsp: nsp, rooms: rooms, members: members}
	b.l.h = handler{event: a.event, closed: func(_ *conn, why string) {
		a.dropped++
		b.l.failures[why]++
	}}
	return a
}

func (a *audience) event(c *conn, name string, data []byte) {
	if name != evTrip {
		return
	}
	a.got++
	a.size = len(data)
	seq := sequence(data)
	if seq != c.lastSeq+1 {
		a.disorder++
	}
	c.lastSeq = seq
	switch {
	case a.clocked:
		a.lat = append(a.lat, a.b.l.now+sinceBoot-clockOf(data))
	case a.emitted > 0:
		a.lat = append(a.lat, a.b.l.now-a.emitted)
	}
}

// sequence reads the number that the server gave the event, -1 for none.
func sequence(data []byte) int {
	i := bytes.Index(data, []byte(`"seq":`))
	if i < 0 {
		return -1
	}
	n, _ := number(data[i+6:])
	return n
}

// emit sends n events to each room and reports whether every member got them.
func (a *audience) emit(n int) bool {
	for _, c := range a.members {
		c.lastSeq = -1
	}
	a.got = 0
	want := int64(n * len(a.members))
	return a.b.emit(&a.posts, a.nsp, n, a.rooms, fanoutLimit, func() bool { return a.got >= want })
}

// paced sends n broadcasts, each when the last has arrived everywhere, adds the
// latency of each copy to a.lat, and returns how many copies came.
func (a *audience) paced(n int) (got int64) {
	for range n {
		a.emitted = nanos()
		ok := a.emit(1)
		got += a.got
		if !ok {
			break
		}
	}
	a.emitted = 0
	return got
}

// verify notes what is missing or out of order.
func (a *audience) verify(what string, got, want int64) {
	a.b.spin(100 * time.Millisecond) // for what should not come
	if got != want || a.disorder > 0 || a.dropped > 0 {
		a.b.res.bad("%s: got %d of %d, out of order %d, dropped %d %v", what, got, want, a.disorder, a.dropped, a.b.l.failures)
	}
	a.disorder = 0
}

func (b *bench) fanout() {
	list := b.crowd(adminRole(), b.cfg.conns)
	if !b.res.ok {
		return
	}
	a := b.newAudience("/admin", []string{fanoutRoom}, list)
	if got, want := a.paced(10), int64(10*len(list)); got != want {
		a.verify("warm-up", got, want)
		return
	}
	b.spin(200 * time.Millisecond)

	a.lat = make([]int64, 0, b.cfg.n*len(list))
	w := b.begin()
	got := a.paced(b.cfg.n)
	s := b.end(w)
	b.res.add("paced_deliveries_per_s", float64(got)/s.wall, "/s")
	b.res.add("paced_cpu_us_per_delivery", per(s.cpu*1e6, got), "us")
	b.res.latencies("delivery_", a.lat)
	b.res.add("bytes_per_delivery", per(float64(s.in), got), "B")
	b.res.add("payload_bytes", float64(a.size), "B")
	b.res.usage("paced_", s)
	a.verify("paced", got, int64(b.cfg.n*len(list)))

	if b.cfg.burst > 0 {
		w, got = b.begin(), 0
		for range b.cfg.bursts {
			a.emit(b.cfg.burst)
			got += a.got
		}
		s = b.end(w)
		b.res.add("burst_deliveries_per_s", float64(got)/s.wall, "/s")
		b.res.add("burst_cpu_us_per_delivery", per(s.cpu*1e6, got), "us")
		b.res.add("burst_bytes_per_delivery", per(float64(s.in), got), "B")
		b.res.usage("burst_", s)
		a.verify("burst", got, int64(b.cfg.bursts*b.cfg.burst*len(list)))
	}
	b.killAll(list)
}

func (b *bench) unicast() {
	r := passengerRole()
	list := b.crowd(r, b.cfg.conns)
	if !b.res.ok {
		return
	}
	var rooms []string
	for _, c := range list {
		rooms = append(rooms, "passenger:"+r.sub(c.user))
	}
	a := b.newAudience(r.nsp, rooms, list)
	a.emit(2)
	a.verify("warm-up", a.got, int64(2*len(list)))
	b.spin(200 * time.Millisecond)

	w := b.begin()
	a.emit(b.cfg.n)
	s := b.end(w)
	b.res.add("emits_per_s", float64(a.got)/s.wall, "/s")
	b.res.add("cpu_us_per_emit", per(s.cpu*1e6, a.got), "us")
	b.res.add("bytes_per_emit", per(float64(s.in), a.got), "B")
	b.res.usage("", s)
	a.verify("emits of "+strconv.Itoa(b.cfg.n), a.got, int64(b.cfg.n*len(list)))
	b.killAll(list)
}
