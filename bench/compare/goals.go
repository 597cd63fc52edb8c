// Whether the results reach the goals.

package main

import (
	"fmt"
	"math"
	"slices"
)

// A goal is one comparison with what the project wants.
type goal struct {
	what   string
	got    float64 // NaN: not measured
	most   float64
	detail string // instead of got, where that is no ratio
}

func (g goal) measured() bool { return !math.IsNaN(g.got) }
func (g goal) met() bool      { return g.got <= g.most }

func (g goal) verdict() string {
	switch {
	case !g.measured():
		return "not measured"
	case g.met():
		return "yes"
	}
	return "**no**"
}

func (g goal) value() string {
	switch {
	case g.detail != "":
		return g.detail
	case !g.measured():
		return "–"
	}
	return "×" + fmt.Sprintf("%.3g", g.got)
}

func (fg figure) goalOf(rs results) goal {
	return goal{fg.name, rs.of(fg.label, fg.server, fg.key).over(rs.of(fg.label, fg.base, fg.key)), fg.goal, ""}
}

// slope is how much a cost grows from 100 to 10,000.
func (rs results) slope(s slope, peer string) float64 {
	return rs.of(s.labels[2], peer, s.key).over(rs.of(s.labels[0], peer, s.key))
}

func (s slope) goalOf(rs results) goal {
	return goal{"growth from 100 to 10,000 beside the bare server's: " + s.name, rs.slope(s, ours) / rs.slope(s, epoll), growthGoal, ""}
}

func (fg figure) multicoreGoal(rs results, two string) goal {
	what := "GOMAXPROCS=2 to 1: " + fg.name
	if two == wide {
		what += ", on two cores"
	}
	return goal{what, rs.of(fg.label, two, fg.key).over(rs.of(fg.label, procs1, fg.key)), procsGoal, ""}
}

func (rs results) slowGoals() []goal {
	dropped, peak := rs.of("slow", ours, "slow_dropped").median(), rs.of("slow", ours, "slow_heap_peak_mib").median()
	memory := goal{"a slow reader's memory, MiB, until it is dropped", peak, outboxMiB, ""}
	if memory.measured() {
		memory.detail = fmt.Sprintf("%.2f MiB", peak)
		if dropped != 1 {
			memory.got, memory.detail = math.Inf(1), memory.detail+", never dropped"
		}
	}
	return []goal{
		{"p99 of the healthy beside a slow reader to that without", rs.of("slow", ours, "p99_ratio").median(), slowGoal, ""},
		memory,
	}
}

// churnKeys are the figures that must return to their values from before.
var churnKeys = []string{"heap", "goroutines", "handles"}

func (rs results) churnGoals() (list []goal) {
	for _, key := range churnKeys {
		before, after := rs.of("churn", ours, key+"_before"), rs.of("churn", ours, key+"_after3")
		g := goal{what: key + " after the churn to before", got: after.over(before), most: 1}
		if key == "heap" {
			g.most = heapGoal
		}
		list = append(list, g)
	}
	return list
}

// dropsGoals are that no event is lost, doubled or out of order while clients come and go; on two
// servers also while one is restarted and the other one killed.
func (rs results) dropsGoals() (list []goal) {
	for _, m := range []struct{ label, what string }{{"drops", "drops only"}, {"drops-nodes", "two servers, a restart and a kill"}} {
		for _, c := range []struct{ key, what string }{{"lost", "lost"}, {"doubled", "delivered twice"}, {"out_of_order", "out of order"}} {
			g := goal{"events " + c.what + " with recovery, " + m.what, rs.of(m.label, keeps, c.key).median(), 0, ""}
			if g.measured() {
				g.detail = group(g.got)
			}
			list = append(list, g)
		}
	}
	return list
}

// offerGoals are that offers arrive, that the backend is told in time of those that do not, and that
// none is accepted twice.
func (rs results) offerGoals() []goal {
	missed := 100 - rs.of("drops", keeps, "offers_received_pct").median()
	told := rs.of("drops", keeps, "offers_told_p99_ms").median() / 1e3
	var all sample
	for _, label := range drops {
		all = append(all, rs.of(label, keeps, "offers_accepted_twice")...)
	}
	twice := math.NaN()
	if len(all) > 0 {
		twice = slices.Max(all)
	}
	list := []goal{
		{"offers not received within their time, drops only, %", missed, missedGoal, fmt.Sprintf("%.3g %%", missed)},
		{"from an offer to the report that nobody has received it, drops only, s, p99", told, toldGoal, short3(told) + " s"},
		{"offers accepted twice, also with a restart and a kill", twice, 0, group(twice)},
	}
	for i := range list {
		if !list[i].measured() {
			list[i].detail = ""
		}
	}
	return list
}

// recoveryGoals are what recovery may cost where nothing is to be recovered.
func (rs results) recoveryGoals() []goal {
	const burst, heap = "burst_cpu_us_per_delivery", "heap_per_socket_after_gc"
	more := goal{what: "bytes of heap that an idle socket takes more with recovery", most: socketGoal}
	more.got = rs.of("idle", keeps, heap).median() - rs.of("idle", ours, heap).median()
	if more.measured() {
		more.detail = fmt.Sprintf("%.0f B", more.got)
	}
	return []goal{
		{"with recovery to without: delivery, bursts of 50", rs.of("fanout", keeps, burst).over(rs.of("fanout", ours, burst)), recoveryGoal, ""},
		more,
	}
}

// allGoals are in the order of the report.
func (rs results) allGoals() (list []goal) {
	for _, f := range figures {
		list = append(list, f.goalOf(rs))
	}
	list = append(list, rs.churnGoals()...)
	for _, s := range slopes {
		list = append(list, s.goalOf(rs))
	}
	for _, two := range []string{procs2, wide} {
		for _, f := range multicore {
			list = append(list, f.multicoreGoal(rs, two))
		}
	}
	list = append(list, rs.slowGoals()...)
	list = append(list, rs.dropsGoals()...)
	list = append(list, rs.offerGoals()...)
	return append(list, rs.recoveryGoals()...)
}
