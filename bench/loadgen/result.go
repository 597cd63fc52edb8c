// What a run found, and the window over which it was measured.

package main

import (
	"fmt"
	"io"
	"slices"
	"strconv"
)

type metric struct {
	key  string
	val  float64
	unit string
}

// A result is what a run found; ok turns false when anything was lost, doubled,
// misrouted, out of order or dropped.
type result struct {
	metrics []metric
	ok      bool
	notes   []string
}

func (r *result) add(key string, val float64, unit string) {
	r.metrics = append(r.metrics, metric{key, val, unit})
}

func (r *result) note(format string, args ...any) {
	r.notes = append(r.notes, fmt.Sprintf(format, args...))
}

func (r *result) bad(format string, args ...any) {
	r.ok = false
	r.note(format, args...)
}

// usage adds who used how much of the machine.
func (r *result) usage(prefix string, s span) {
	if s.wall <= 0 {
		return
	}
	r.add(prefix+"server_core_pct", 100*s.cpu/s.wall, "%")
	r.add(prefix+"generator_core_pct", 100*s.self/s.wall, "%")
	r.add(prefix+"noise_pct", s.noise, "%")
	if s.user+s.sys > 0 {
		r.add(prefix+"server_sys_share_pct", 100*s.sys/(s.user+s.sys), "%")
	}
}

func (r *result) print(w io.Writer) {
	for _, m := range r.metrics {
		fmt.Fprintf(w, "  %-32s %14s %s\n", m.key, number3(m.val), m.unit)
	}
	for _, n := range r.notes {
		fmt.Fprintln(w, "  note:", n)
	}
	if r.ok {
		fmt.Fprintln(w, "  OK")
	} else {
		fmt.Fprintln(w, "  NOT OK")
	}
}

// number3 shows about three digits that matter.
func number3(v float64) string {
	switch a := max(v, -v); {
	case a == 0:
		return "0"
	case a >= 1000:
		return strconv.FormatFloat(v, 'f', 0, 64)
	case a >= 10:
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	return strconv.FormatFloat(v, 'f', 3, 64)
}

// A window is the state of all clocks at the start of a measurement.
type window struct {
	at, cpu, self, in int64
	user, sys         float64
	machine           machine
}

// A span is what passed since.
type span struct {
	wall, cpu, self float64 // seconds
	user, sys       float64 // seconds
	in              int64   // bytes
	noise           float64 // share of the machine that neither side used, in percent
}

func (b *bench) begin() window {
	user, sys := cpuShares(b.pids)
	return window{at: nanos(), cpu: cpuNanos(b.pids), self: selfCPU(), in: b.l.bytesIn, user: user, sys: sys, machine: machineNow()}
}

func (b *bench) end(w window) span {
	cpu := cpuNanos(b.pids) - w.cpu
	self := selfCPU() - w.self
	wall := nanos() - w.at
	user, sys := cpuShares(b.pids)
	s := span{
		wall: seconds(wall), cpu: seconds(cpu), self: seconds(self),
		user: user - w.user, sys: sys - w.sys, in: b.l.bytesIn - w.in,
	}
	now := machineNow()
	if total := now.total - w.machine.total; total > 0 {
		others := now.busy - w.machine.busy - s.cpu - s.self
		s.noise = 100 * max(0, others+now.steal-w.machine.steal) / total
	}
	return s
}

// plus adds two spans up; the noise is the greater one.
func (s span) plus(t span) span {
	return span{
		wall: s.wall + t.wall, cpu: s.cpu + t.cpu, self: s.self + t.self,
		user: s.user + t.user, sys: s.sys + t.sys, in: s.in + t.in, noise: max(s.noise, t.noise),
	}
}

func seconds(ns int64) float64 { return float64(ns) / 1e9 }

// quantile sorts nanoseconds and returns the q-quantile in milliseconds.
func quantile(ns []int64, q float64) float64 {
	if len(ns) == 0 {
		return 0
	}
	slices.Sort(ns)
	return float64(ns[min(int(q*float64(len(ns))), len(ns)-1)]) / 1e6
}

// latencies adds the usual quantiles.
func (r *result) latencies(prefix string, ns []int64) {
	for _, q := range []struct {
		name string
		q    float64
	}{{"p50_ms", .5}, {"p99_ms", .99}, {"p999_ms", .999}, {"max_ms", 1}} {
		r.add(prefix+q.name, quantile(ns, q.q), "ms")
	}
}

// per divides what may be by nothing.
func per(v float64, n int64) float64 { return v / float64(max(1, n)) }
