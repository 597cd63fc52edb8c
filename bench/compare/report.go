// The report: docs/benchmarks.md, of which one section is written by hand and kept.

package main

import (
	"fmt"
	"io"
	"math"
	"os"
	"slices"
	"strings"
	"time"
)

// What stands between these lines of the report is kept as it is found.
const (
	handStart = "<!-- by hand: compare keeps what stands between these two lines -->"
	handEnd   = "<!-- end of what is written by hand -->"
)

const handDefault = "\n## Where each microsecond goes\n\nNot written yet.\n\n"

type report struct {
	results
	machine []string
	quick   bool
	pinned  bool
	at      time.Time
}

// write writes the report to a file, or to standard output for "-".
func write(file string, r report) error {
	if file == "-" {
		_, err := io.WriteString(os.Stdout, r.markdown(handDefault))
		return err
	}
	old, err := os.ReadFile(file)
	if err != nil && !os.IsNotExist(err) {
		return err
	}
	return os.WriteFile(file, []byte(r.markdown(byHand(string(old)))), 0o644)
}

// byHand returns what an earlier report has between the two lines.
func byHand(old string) string {
	_, rest, ok := strings.Cut(old, handStart+"\n")
	text, _, closed := strings.Cut(rest, handEnd)
	if !ok || !closed {
		return handDefault
	}
	return text
}

func (r report) markdown(hand string) string {
	var b strings.Builder
	p := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	p("# Benchmarks\n\n")
	p("Written by `cd bench && go run ./compare` on %s; [bench/README.md](../bench/README.md) says what is measured and how. ",
		r.at.UTC().Format("2 January 2006"))
	p("Figures are medians of the repeats, with the least and the greatest in brackets; CPU is the server process's own, user and system. ")
	p("Ratios are between medians of the same run.\n\n")
	if r.quick {
		p("**This was a quick run: few sockets for a short time. Its figures are rough.**\n\n")
	}
	if !r.pinned {
		p("**Server and generator were not held on a core each.**\n\n")
	}
	r.goals(p)
	p("%s\n%s%s\n", handStart, hand, handEnd)
	r.servers(p)
	r.throughput(p)
	r.growthTable(p)
	r.cores(p)
	r.slowTable(p)
	r.churnTable(p)
	r.nodesTable(p)
	r.dropsSection(p)
	r.surroundings(p)
	return b.String()
}

type printer func(format string, args ...any)

// table prints a markdown table, unless it has no rows.
func (p printer) table(heads []string, rows [][]string) {
	if len(rows) == 0 {
		p("Not measured.\n\n")
		return
	}
	p("| %s |\n|%s\n", strings.Join(heads, " | "), strings.Repeat("---|", len(heads)))
	for _, row := range rows {
		p("| %s |\n", strings.Join(row, " | "))
	}
	p("\n")
}

var goalHeads = []string{"", "Node", "this library", "ratio", "goal", "met"}

func (r report) goalRow(fg figure) []string {
	g := fg.goalOf(r.results)
	return []string{
		fg.name + ", " + fg.unit, r.of(fg.label, fg.base, fg.key).String(), r.of(fg.label, fg.server, fg.key).String(),
		g.value(), fmt.Sprintf("≤ %.2f", fg.goal), g.verdict(),
	}
}

func (r report) goals(p printer) {
	met, measured := 0, 0
	var rows [][]string
	for _, fg := range figures {
		rows = append(rows, r.goalRow(fg))
	}
	var rest [][]string
	for i, g := range r.allGoals() {
		if g.measured() {
			measured++
			if g.met() {
				met++
			}
		}
		if i >= len(figures) {
			rest = append(rest, []string{g.what, g.value(), fmt.Sprintf("≤ %.4g", g.most), g.verdict()})
		}
	}
	p("## Goals\n\n%d of %d measured goals are met. Node is socket.io 4.8.4, as a cluster with @socket.io/redis-adapter 8.3.0 and redis 5.12.1; for the handshake it has a KeyObject, without which it is slower.\n\n", met, measured)
	p.table(goalHeads, rows)
	p.table([]string{"", "found", "goal", "met"}, rest)
}

// measured are the peers that have a value in one of the modes.
func (r report) measured(labels ...string) (list []peer) {
	for _, p := range peers {
		if slices.ContainsFunc(r.results, func(x run) bool { return x.Name == p.name && slices.Contains(labels, x.Label) }) {
			list = append(list, p)
		}
	}
	return list
}

func (r report) servers(p printer) {
	p("## All servers\n\n")
	heads := []string{"server"}
	var labels []string
	for _, fg := range figures {
		if fg.server == ours && fg.label != "cluster" {
			heads = append(heads, fg.name+", "+fg.unit)
			labels = append(labels, fg.label)
		}
	}
	var rows [][]string
	for _, pe := range r.measured(labels...) {
		row := []string{pe.name}
		for _, fg := range figures {
			if fg.server != ours || fg.label == "cluster" {
				continue
			}
			s := r.of(fg.label, pe.name, fg.key)
			cell := s.String()
			if q := s.over(r.of(fg.label, fg.base, fg.key)); pe.name != fg.base && !math.IsNaN(q) {
				cell += fmt.Sprintf(" ×%.2f", q)
			}
			row = append(row, cell)
		}
		rows = append(rows, row)
	}
	p.table(heads, rows)
	for _, pe := range r.measured(labels...) {
		p("- `%s`: %s\n", pe.name, pe.about)
	}
	p("\n")
}

func (r report) throughput(p printer) {
	p("## Throughput and latency\n\nOf one core, on the loopback interface; where the generator was the limit, a server could do more. ")
	p("Latencies are under full load, which a closed loop makes of its sockets' number, and at 4,000 pings a second.\n\n")
	columns := []struct{ head, label, key string }{
		{"acks/s", "pings", "acks_per_s"},
		{"p99 ms", "pings", "p99_ms"},
		{"p50 ms at 4,000/s", "pings-rate4000", "p50_ms"},
		{"p99 ms at 4,000/s", "pings-rate4000", "p99_ms"},
		{"deliveries/s, bursts", "fanout", "burst_deliveries_per_s"},
		{"delivery p99 ms, paced", "fanout", "delivery_p99_ms"},
		{"emits/s", "unicast", "emits_per_s"},
		{"handshakes/s", "connect", "handshakes_per_s"},
	}
	heads := []string{"server"}
	for _, c := range columns {
		heads = append(heads, c.head)
	}
	var rows [][]string
	for _, pe := range r.measured("pings", "pings-rate4000", "fanout", "unicast", "connect") {
		row := []string{pe.name}
		for _, c := range columns {
			row = append(row, r.of(c.label, pe.name, c.key).String())
		}
		rows = append(rows, row)
	}
	p.table(heads, rows)
}

func (r report) growthTable(p printer) {
	p("## Growth with the number of sockets\n\n")
	var rows [][]string
	for _, s := range slopes {
		for _, name := range []string{epoll, ours} {
			row := []string{s.name + ", " + s.unit, name}
			seen := false
			for _, label := range s.labels {
				v := r.of(label, name, s.key)
				seen = seen || len(v) > 0
				row = append(row, v.String())
			}
			grown := "–"
			if g := r.slope(s, name); !math.IsNaN(g) {
				grown = fmt.Sprintf("×%.2f", g)
			}
			if seen {
				rows = append(rows, append(row, grown))
			}
		}
	}
	p.table([]string{"", "server", "100", "1,000", "10,000", "growth"}, rows)
}

func (r report) cores(p printer) {
	p("## Cores\n\nOf one operation, at GOMAXPROCS=1 and 2 on one core, and at 2 on two cores of which the generator has one as well.\n\n")
	var rows [][]string
	for _, fg := range multicore {
		row := []string{fg.name + ", " + fg.unit}
		seen := false
		for _, name := range []string{procs1, procs2, wide} {
			s := r.of(fg.label, name, fg.key)
			seen = seen || len(s) > 0
			cell := s.String()
			if q := s.over(r.of(fg.label, procs1, fg.key)); name != procs1 && !math.IsNaN(q) {
				cell += fmt.Sprintf(" ×%.2f", q)
			}
			row = append(row, cell)
		}
		if seen {
			rows = append(rows, row)
		}
	}
	p.table([]string{"", "1", "2", "2, on two cores"}, rows)
}

func (r report) slowTable(p printer) {
	p("## A slow reader among 2,000\n\nOne client in the room stops reading; its connection is full before the others are measured. ")
	p("Then broadcasts go to it alone until the server drops it.\n\n")
	var rows [][]string
	for _, pe := range r.measured("slow") {
		end := "never"
		if r.of("slow", pe.name, "slow_dropped").median() == 1 {
			end = "after " + short3(r.of("slow", pe.name, "slow_dropped_after").median()) + " broadcasts"
		}
		rows = append(rows, []string{
			pe.name, r.of("slow", pe.name, "alone_p99_ms").String(), r.of("slow", pe.name, "beside_p99_ms").String(),
			r.of("slow", pe.name, "p99_ratio").String(), r.of("slow", pe.name, "slow_heap_peak_mib").String(), end,
		})
	}
	p.table([]string{"server", "p99 ms without it", "p99 ms beside it", "ratio", "heap it took, MiB", "dropped"}, rows)
}

func (r report) churnTable(p printer) {
	p("## Churn\n\nSockets connect, stay 20 ms and leave, half of them by RST, in three rounds; heap is in MiB, after a collection.\n\n")
	var rows [][]string
	for _, pe := range r.measured("churn") {
		row := []string{pe.name, r.of("churn", pe.name, "cycles").String(), r.of("churn", pe.name, "cpu_us_per_cycle").String()}
		for _, key := range churnKeys {
			unit := 1.0
			if key == "heap" {
				unit = 1 << 20
			}
			before, after := r.of("churn", pe.name, key+"_before").median(), r.of("churn", pe.name, key+"_after3").median()
			cell := ""
			if !math.IsNaN(before) && !math.IsNaN(after) {
				cell = short3(before/unit) + " → " + short3(after/unit)
			}
			row = append(row, cell)
		}
		rows = append(rows, append(row, short3(r.of("churn", pe.name, "pss_before_mib").median())+" → "+short3(r.of("churn", pe.name, "pss_after3_mib").median())))
	}
	p.table([]string{"server", "sockets", "CPU µs each", "heap", "goroutines", "descriptors", "PSS MiB"}, rows)
}

// surroundings are what one needs to judge the figures and to repeat them.
func (r report) surroundings(p printer) {
	p("## Machine and noise\n\n")
	for _, line := range r.machine {
		p("- %s\n", line)
	}
	var noise sample
	limited := map[string]int{}
	var faults []string
	for _, x := range r.results {
		if len(x.V) > 0 {
			noise = append(noise, x.noise())
		}
		for key := range x.V {
			prefix, ok := strings.CutSuffix(key, "noise_pct")
			if !ok {
				continue
			}
			// At a set rate it never sleeps, and is no limit.
			if x.V[prefix+"generator_core_pct"] > 95 && x.V[prefix+"server_core_pct"] < 90 && x.V["offered_per_s"] == 0 {
				limited[strings.TrimSuffix(x.Label+" "+x.Name+" "+strings.TrimSuffix(prefix, "_"), " ")]++
			}
		}
		if !x.OK { // the exit status says so as well
			faults = append(faults, x.Label+" "+x.Name+": "+strings.Join(x.Notes, "; "))
		}
	}
	if len(noise) > 0 {
		p("- noise, the share of the whole machine that neither server nor generator used: median %.1f %%, at most %.1f %%", noise.median(), slices.Max(noise))
		if !r.quick {
			p("; a run with more than %.0f %% was made again, up to %d times, and the quietest one counts", noiseMost, tries-1)
		}
		p("\n")
	}
	p("\n")
	if len(limited) > 0 {
		list := make([]string, 0, len(limited))
		for k := range limited {
			list = append(list, k)
		}
		slices.Sort(list)
		p("The generator was the limit, so that only the CPU figures count, in: %s.\n\n", strings.Join(list, ", "))
	}
	if len(faults) > 0 {
		p("Runs in which something was lost or went wrong, whose figures do not count:\n\n")
		for _, f := range faults {
			p("- %s\n", f)
		}
	} else {
		p("In no run was anything lost, doubled, misrouted or out of order.\n")
	}
	p("\n## How to repeat it\n\n```sh\ncd bench\ngo run ./compare          # everything, three times\n")
	p("go run ./compare -quick   # does it all work?\ngo run ./compare -h       # single servers and modes\n```\n\n")
	p("It needs Linux, Go, Node with npm, redis-server, and `taskset`; two idle cores, and no more than the loopback interface.\n")
}
