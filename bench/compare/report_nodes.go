// The part of the report about several nodes: a section of docs/benchmarks.md, and what
// docs/scaling.md has between its two marks.

package main

import (
	"fmt"
	"os"
	"slices"
	"strings"
)

const (
	scalingStart = "<!-- measured: compare -scaling writes what stands between these two lines -->"
	scalingEnd   = "<!-- end of what is measured -->"
)

// writeScaling replaces what a file has between the two marks.
func (r report) writeScaling(file string) error {
	return replace(file, scalingStart, scalingEnd, r.scaling())
}

// replace writes text between two lines of a file.
func replace(file, start, end, text string) error {
	before, after, err := around(file, start, end)
	if err != nil {
		return err
	}
	return os.WriteFile(file, []byte(before+start+"\n"+text+end+after), 0o644)
}

// around returns what a file has before and after the marks.
func around(file, start, end string) (before, after string, err error) {
	old, err := os.ReadFile(file)
	if err != nil {
		return "", "", err
	}
	before, rest, ok := strings.Cut(string(old), start+"\n")
	_, after, closed := strings.Cut(rest, end)
	if !ok || !closed {
		return "", "", fmt.Errorf("%s lacks the marks %q and %q", file, start, end)
	}
	return before, after, nil
}

// scaling is what docs/scaling.md has between its marks.
func (r report) scaling() string {
	var b strings.Builder
	p := printer(func(format string, args ...any) { fmt.Fprintf(&b, format, args...) })
	p("\nOn %s, on %s. ", r.at.UTC().Format("2 January 2006"), strings.Join(r.machine, ", "))
	p("Medians of the repeats, with the least and the greatest in brackets; both sides and all nodes share the machine.\n\n")
	r.noiseOf(p, nil)
	if r.quick {
		p("**A quick run: its figures are rough.**\n\n")
	}
	p("### An emit across nodes\n\n")
	var rows [][]string
	for _, fg := range figures {
		if fg.label == "cluster" {
			rows = append(rows, r.goalRow(fg))
		}
	}
	p.table(goalHeads, rows)
	r.nodesRows(p)
	r.pingsTable(p)
	r.scaleTable(p)
	for _, x := range r.results {
		if !x.OK {
			p("A run went wrong, whose figures do not count: %s %s: %s\n\n", x.Label, x.Name, strings.Join(x.Notes, "; "))
		}
	}
	return b.String()
}

// noiseOf says how much noise there was in some modes, in all for nil.
func (r report) noiseOf(p printer, labels []string) {
	var noise sample
	for _, x := range r.results {
		if x.noise() > 0 && (labels == nil || slices.Contains(labels, x.Label)) {
			noise = append(noise, x.noise())
		}
	}
	if len(noise) > 0 {
		p("Noise, the share of the machine that neither servers, Redis nor generator used: median %.1f %%, at most %.1f %%.\n\n", noise.median(), slices.Max(noise))
	}
}

// nodesTable shows what several nodes and their Redis take for each emit on one of them, and for
// each ping. What full nodes take is in docs/scaling.md.
func (r report) nodesTable(p printer) {
	p("## Several nodes\n\n")
	r.nodesRows(p)
	r.pingsTable(p)
}

func (r report) nodesRows(p printer) {
	p("Three nodes on one core, Redis on the generator's. An emit on the first node reaches one socket, on the second; ")
	p("the third has no socket in the room. At 2,000 a second (two each millisecond), and in bursts of 50, each when the last has arrived. ")
	p("CPU is in µs for each emit, of each process.\n\n")
	var rows [][]string
	for _, pe := range r.measured("cluster") {
		for _, prefix := range []struct{ key, name string }{{"rate_", "2,000/s"}, {"burst_", "bursts"}} {
			row := []string{pe.name, prefix.name}
			for _, key := range []string{"sender_cpu_us", "with_room_cpu_us", "without_room_cpu_us", "redis_cpu_us", "p50_ms", "p99_ms", "emits_per_s"} {
				row = append(row, r.of("cluster", pe.name, prefix.key+key).String())
			}
			rows = append(rows, row)
		}
	}
	p.table([]string{"server", "", "sender", "with the room", "without it", "Redis", "p50 ms", "p99 ms", "emits/s"}, rows)
}

// pingsTable shows drivers on three nodes, with one admin on the first.
func (r report) pingsTable(p printer) {
	p("### Pings on three nodes\n\n600 drivers on three nodes send 2,000 pings a second in all; an admin on the first node receives every position. ")
	p("CPU is in µs of each process, divided by all pings.\n\n")
	var rows [][]string
	for _, pe := range r.measured("cluster-pings") {
		row := []string{pe.name}
		for _, key := range []string{"first_node_cpu_us", "second_node_cpu_us", "third_node_cpu_us", "redis_cpu_us", "p50_ms", "p99_ms"} {
			row = append(row, r.of("cluster-pings", pe.name, key).String())
		}
		rows = append(rows, row)
	}
	p.table([]string{"server", "the admin's node", "second", "third", "Redis", "ack p50 ms", "p99 ms"}, rows)
}

// scaleTable shows five full nodes, one of which is killed.
func (r report) scaleTable(p printer) {
	p("### Five nodes, full\n\nAuthenticated drivers in two rooms each, with heartbeats every 25 s; five nodes on one core, as many generators and Redis on the other. ")
	p("A node is killed: in the first column it is started again a second later, and its sockets come back to it; in the second it is not, and they go to the others. ")
	p("They come back with the delays of a stock client (1 s, doubling up to 5 s, ± half).\n\n")
	rows := [][]string{}
	for _, line := range []struct{ name, key string }{
		{"sockets", "sockets"},
		{"time to take them all in, s", "take_in_s"},
		{"CPU ms for each handshake", "cpu_ms_per_handshake"},
		{"bytes PSS per socket, at once, growth", "pss_per_socket_at_once"},
		{"bytes PSS per socket, the process' own included", "pss_per_socket"},
		{"the same after a collection", "pss_per_socket_after_gc"},
		{"bytes in the kernel per socket, both ends of the connection", "kernel_per_socket_both_ends"},
		{"cores at rest for 100,000 sockets", "rest_cores_per_100k"},
		{"broadcast to all: CPU µs per delivery", "broadcast_cpu_us_per_delivery"},
		{"half of them have it after, ms", "broadcast_p50_ms"},
		{"the last has it after, ms", "broadcast_last_ms"},
		{"sockets of the killed node", "killed_sockets"},
		{"half of them are back after, s", "back_p50_s"},
		{"99 % of them", "back_p99_s"},
		{"the last one", "back_last_s"},
		{"broadcast to all after that: the last has it after, ms", "broadcast_after_last_ms"},
	} {
		a, b := r.of("scale", ours, line.key), r.of("scale-spread", ours, line.key)
		if len(a)+len(b) > 0 {
			rows = append(rows, []string{line.name, a.String(), b.String()})
		}
	}
	p.table([]string{"", "started again", "not started again"}, rows)
}
