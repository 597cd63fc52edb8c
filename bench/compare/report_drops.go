// The part of the report about connections that end: a section of docs/benchmarks.md between two
// marks, which compare -drops writes alone.

package main

import (
	"fmt"
	"math"
	"slices"
	"strings"
)

const (
	dropsStart = "<!-- measured: compare -drops writes what stands between these two lines -->"
	dropsEnd   = "<!-- end of what is measured about drops -->"
)

// writeDrops replaces what a file has between the two marks.
func (r report) writeDrops(file string) error {
	return replace(file, dropsStart, dropsEnd, r.dropped())
}

// dropped is what the report has between the marks.
func (r report) dropped() string {
	var b strings.Builder
	p := printer(func(format string, args ...any) { fmt.Fprintf(&b, format, args...) })
	p("\nOn %s, on %s.\n\n", r.at.UTC().Format("2 January 2006"), strings.Join(r.machine, ", "))
	if r.quick {
		p("**A quick run, of few clients and for a short time: its figures are rough.**\n\n")
	}
	r.noiseOf(p, slices.Concat(drops, storms))
	r.deliveredTable(p)
	r.caughtUpTable(p)
	r.offersTable(p)
	r.stormTable(p)
	for _, x := range r.results {
		if !x.OK && (slices.Contains(drops, x.Label) || slices.Contains(storms, x.Label)) {
			p("A run went wrong, whose figures do not count: %s %s: %s\n\n", x.Label, x.Name, strings.Join(x.Notes, "; "))
		}
	}
	return b.String()
}

// dropsSection is the section with its marks.
func (r report) dropsSection(p printer) {
	p("## Connections that end\n\n%s\n%s%s\n\n", dropsStart, r.dropped(), dropsEnd)
}

// dropsNames say what the modes are, in the order of drops.
var dropsNames = []string{"drops only", "with a restart and a kill", "the same, two servers and Redis"}

// most is the greatest value of a key in all modes of drops.
func (r report) most(key string, without float64) string {
	var all sample
	for _, label := range drops {
		for _, pe := range r.measured(label) {
			all = append(all, r.of(label, pe.name, key)...)
		}
	}
	if len(all) == 0 {
		return group(without)
	}
	return group(slices.Max(all))
}

func (r report) deliveredTable(p printer) {
	p("### What arrives\n\n%s clients, each of which is connected for 6 to 18 s and then cut for 1 to 10 s, several times, at times that a seed says, ", r.most("clients", 500))
	p("the same for every server. Half of the cuts the server sees; in the other half no packet reaches it any more, as when a phone loses its network. ")
	p("For %s s 100 events a second are published, each to the room of one client. ", r.most("seconds", 60))
	p("With a restart and a kill: after a third of the time the server is restarted in order, after two thirds it is killed, and each time it comes up a second later; ")
	p("what it had in memory is lost. Of two servers one is restarted and the other is killed. What is due while no server answers is published when one does; ")
	p("an event counts when a server said that it took it. Share of them that arrived:\n\n")
	var rows [][]string
	for _, pe := range r.measured(drops...) {
		row := []string{pe.name}
		for _, label := range drops {
			row = append(row, percent(r.of(label, pe.name, "delivered_pct")))
		}
		rows = append(rows, row)
	}
	p.table(slices.Concat([]string{"server"}, dropsNames), rows)
	for _, pe := range r.measured(drops...) {
		p("- `%s`: %s\n", pe.name, pe.about)
	}
	p("\n")
}

// caughtUpTable shows what was lost why, and how long it took until a client had everything.
func (r report) caughtUpTable(p printer) {
	p("Lost events by what their client's connection did: it was cut and the server saw it, or did not; it ended with a server; it did not end. ")
	p("Caught up is a client that is connected again and has everything that was published to it before; ")
	p("how many do, of all times that a client was away, and how long after they could connect again.\n\n")
	var rows [][]string
	for i, label := range drops {
		for _, pe := range r.measured(label) {
			row := []string{pe.name, dropsNames[i]}
			for _, key := range []string{"published", "lost_cut_seen", "lost_cut_unseen", "lost_ended", "lost_unbroken", "lost_though_recovered", "doubled", "out_of_order"} {
				row = append(row, counts(r.of(label, pe.name, key)))
			}
			row = append(row, percent(r.of(label, pe.name, "caught_up_pct")))
			for _, key := range []string{"p50_ms", "p99_ms", "max_ms"} {
				row = append(row, r.of(label, pe.name, "caught_up_"+key).String())
			}
			rows = append(rows, row)
		}
	}
	p.table([]string{
		"server", "", "published", "lost: cut, seen", "cut, unseen", "server ended", "connected", "though recovered", "doubled", "out of order",
		"caught up", "p50 ms", "p99 ms", "max ms",
	}, rows)
}

// offersTable shows what became of the offers.
func (r report) offersTable(p printer) {
	p("### Offers\n\nUnder the same drops %s offers a second are made, which run for 20 s, every other one to a driver who is cut at that time. ", offersASecond)
	p("The apps of half of the drivers acknowledge the event, the others do not, so that the server goes by its ping behind the offer. ")
	p("A quarter of the offers is accepted, and a quarter twice. The backend has a database that a kill leaves behind, and an `Options.Snapshots` that reads it. ")
	p("Received is an offer that was at the driver's app within its time; from offer to receipt, of all and of those to a driver who was cut. ")
	p("`undelivered` is the report that nobody has received an offer, by default after 3 s. Not reported is one that took two seconds longer, or never came, without that report. ")
	p("Where the server that has handled the offer dies, another one reports, 2 s later. Events that a dead server was to handle wait for about 5 s, until another one takes them over. A false receipt is a `delivered` of an offer that the app did not have.\n\n")
	var rows [][]string
	for i, label := range drops {
		for _, pe := range r.measured(label) {
			if !pe.offer {
				continue
			}
			of := func(key string) sample { return r.of(label, pe.name, "offers"+key) }
			ms := func(key string) string { return of(key).times(1e-3).String() }
			rows = append(rows, []string{
				pe.name, dropsNames[i], counts(of("")), percent(of("_received_pct")), counts(of("_only_synced")), of("_p50_ms").String(), ms("_p99_ms"),
				ms("_away_p50_ms"), ms("_away_p99_ms"), counts(of("_receipts_ack")) + " / " + counts(of("_receipts_heartbeat")), counts(of("_false_receipts")),
				counts(of("_told_count")), ms("_told_p50_ms"), ms("_told_p99_ms"), ms("_told_max_ms"), counts(of("_untold")), counts(of("_acceptances")), counts(of("_accepted_twice")),
			})
		}
	}
	p.table([]string{
		"server", "", "offers", "received", "only from the snapshot", "p50 ms", "p99 s", "cut: p50 s", "p99 s", "receipts: ack / ping", "false receipts",
		"undelivered", "p50 s", "p99 s", "max s", "not reported", "accepted", "twice",
	}, rows)
}

var stormNames = []string{"started again", "another one takes its load"}

func (r report) stormTable(p printer) {
	p("### All at once\n\nA server is killed, and its sockets come back with the delays of a stock client (1 s, doubling, ± half, at most 5 s): ")
	p("to the same one, which is started again a second later, or to another one, which has as many sockets of its own and shares a Redis. ")
	p("The time runs from the kill. When all are back, one broadcast is sent: *all have an event* when the last one has it. ")
	p("What they missed before that does not count. Recovery is on only where the server's name ends in `-recovery`. CPU and memory are those of the server that they come to: the most over a quarter of a second, all until the end, ")
	p("and the most that was resident.\n\n")
	var rows [][]string
	for i, label := range storms {
		for _, pe := range r.measured(label) {
			row := []string{pe.name, stormNames[i]}
			for _, key := range []string{"killed_sockets", "back_p50_s", "back_p99_s", "back_last_s", "all_back_s", "peak_core_pct", "cpu_s", "peak_mib"} {
				row = append(row, r.of(label, pe.name, key).String())
			}
			rows = append(rows, row)
		}
	}
	p.table([]string{
		"server", "", "sockets", "half are back, s", "99 %, s", "all, s", "all have an event, s", "peak CPU, % of a core", "CPU s", "peak MiB",
	}, rows)
}

// percent shows a share; it is 100 only where nothing lacks.
func percent(s sample) string {
	if len(s) == 0 {
		return ""
	}
	show := func(v float64) string {
		if v == 100 {
			return "100"
		}
		return fmt.Sprintf("%.2f", math.Floor(v*100)/100)
	}
	if lo, hi := slices.Min(s), slices.Max(s); lo != hi {
		return fmt.Sprintf("%s %% [%s–%s]", show(s.median()), show(lo), show(hi))
	}
	return show(s[0]) + " %"
}

// counts shows whole numbers, the least and the greatest where they differ.
func counts(s sample) string {
	if len(s) == 0 {
		return ""
	}
	if lo, hi := slices.Min(s), slices.Max(s); lo != hi {
		return group(lo) + "–" + group(hi)
	}
	return group(s[0])
}
