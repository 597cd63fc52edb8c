// cluster: what an emit on one node costs there, on a node that has the room, on one that
// has not, and in Redis, and how long it takes from node to client: at a set rate, and in
// bursts, each when the one before has arrived.

package main

import (
	"bytes"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

// clusterParts are the processes whose CPU is told apart, in the order of -pid.
var (
	clusterParts = []string{"sender", "with_room", "without_room", "redis"}
	pingParts    = []string{"first_node", "second_node", "third_node", "redis"}
)

func (b *bench) cluster() {
	if len(b.rest) != 2 {
		b.res.bad("it takes two addresses in -others: of a node with the room and of one without")
		return
	}
	// Each node has a socket in the namespace; the room's are on the second node alone.
	users, bystanders := newRole("/passengers", "passenger", "pas-room", "sp-room"), passengerRole()
	sub, sid := users.sub(0), users.sid(0)
	users.sub, users.sid, users.to = func(int) string { return sub }, func(int) string { return sid }, b.rest[0]
	elsewhere := passengerRole()
	elsewhere.to = b.rest[1]
	receivers := b.crowd(users, b.cfg.conns)
	others := append(b.crowd(bystanders, 1), b.crowd(elsewhere, 1)...)
	if !b.res.ok {
		return
	}
	a := b.newAudience(users.nsp, []string{"passenger:" + sub}, receivers)
	a.stream(int(b.cfg.rate * b.cfg.warm.Seconds()))
	a.lat = nil
	b.spin(200 * time.Millisecond)

	n := max(1, int(b.cfg.rate*b.cfg.dur.Seconds()))
	w, parts := b.begin(), b.cpuParts()
	got := a.stream(n)
	s := b.end(w)
	b.addParts("rate_", clusterParts, parts, n)
	b.res.add("offered_per_s", b.cfg.rate, "/s")
	b.res.add("rate_emits_per_s", float64(n)/s.wall, "/s")
	b.res.latencies("rate_", a.lat)
	b.res.usage("rate_", s)
	a.verify("at a rate", got, int64(n*len(receivers)))
	a.clocked, a.lat = false, nil

	if b.cfg.burst > 0 {
		a.bursts(b.cfg.warm)
		b.spin(200 * time.Millisecond)
		w, parts = b.begin(), b.cpuParts()
		n, got = a.bursts(b.cfg.dur)
		s = b.end(w)
		b.addParts("burst_", clusterParts, parts, n)
		b.res.add("burst_emits_per_s", float64(n)/s.wall, "/s")
		b.res.usage("burst_", s)
		a.verify("bursts", got, int64(n*len(receivers)))
	}
	b.killAll(receivers)
	b.killAll(others)
}

// stream sends n events at the configured rate, adds each one's latency to a.lat, and
// returns how many copies came.
func (a *audience) stream(n int) int64 {
	for _, c := range a.members {
		c.lastSeq = -1
	}
	a.got, a.clocked = 0, true
	want := int64(n * len(a.members))
	limit := fanoutLimit + time.Duration(float64(n)/a.b.cfg.rate*float64(time.Second))
	if n > 0 {
		a.b.stream(&a.posts, a.nsp, a.rooms[0], n, a.b.cfg.rate, limit, func() bool { return a.got >= want })
	}
	return a.got
}

// bursts sends bursts for d, each when the last has arrived.
func (a *audience) bursts(d time.Duration) (sent int, got int64) {
	for end := nanos() + int64(d); sent == 0 || nanos() < end; {
		ok := a.emit(a.b.cfg.burst)
		sent += a.b.cfg.burst
		got += a.got
		if !ok {
			break
		}
	}
	return sent, got
}

func (b *bench) cpuParts() []int64 {
	parts := make([]int64, len(b.pids))
	for i, pid := range b.pids {
		parts[i] = cpuNanos([]int{pid})
	}
	return parts
}

// addParts adds the CPU that each process took for each of n emits since before.
func (b *bench) addParts(prefix string, names []string, before []int64, n int) {
	for i, now := range b.cpuParts() {
		if i < len(names) {
			b.res.add(prefix+names[i]+"_cpu_us", per(float64(now-before[i])/1e3, int64(n)), "us")
		}
	}
}

// sinceBoot is what the system's monotonic clock was at epoch.
var sinceBoot = monotonic() - nanos()

// monotonic reads the clock that all processes of the machine share.
func monotonic() int64 {
	const clockMonotonic = 1
	var ts syscall.Timespec
	syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, clockMonotonic, uintptr(unsafe.Pointer(&ts)), 0)
	return ts.Nano()
}

// clockOf reads when the server emitted the event, by monotonic, or 0.
func clockOf(data []byte) int64 {
	const key = `"clock":`
	i := bytes.Index(data, []byte(key))
	if i < 0 {
		return 0
	}
	n, _ := number(data[i+len(key):])
	return int64(n)
}

// addresses splits a list by comma.
func addresses(list string) []string {
	return strings.FieldsFunc(list, func(r rune) bool { return r == ',' })
}
