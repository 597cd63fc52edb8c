package main

import (
	"math"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestSample(t *testing.T) {
	for _, c := range []struct {
		s    sample
		want string
	}{
		{nil, ""},
		{sample{23.74}, "23.7"},
		{sample{3, 1, 2}, "2.00 [1.00–3.00]"},
		{sample{4, 1}, "2.50 [1.00–4.00]"},
		{sample{1234567}, "1,234,567"},
		{sample{-12345}, "-12,345"},
		{sample{999.6}, "1000"},
	} {
		if got := c.s.String(); got != c.want {
			t.Errorf("%v: %q, want %q", []float64(c.s), got, c.want)
		}
	}
	if !math.IsNaN(sample(nil).median()) || !math.IsNaN(sample{1}.over(nil)) || !math.IsNaN(sample{1}.over(sample{0})) {
		t.Error("what was not measured has a value")
	}
}

func TestPlan(t *testing.T) {
	labels := map[string]bool{}
	for _, m := range modes {
		labels[m.label] = true
	}
	named := map[string]bool{}
	for _, p := range peers {
		named[p.name] = true
		for _, l := range p.modes {
			if !labels[l] {
				t.Errorf("%s has no mode %q to run in", p.name, l)
			}
		}
	}
	for _, m := range modes {
		if len(m.args) == 0 || !slices.ContainsFunc(peers, func(p peer) bool { return slices.Contains(p.modes, m.label) }) {
			t.Errorf("nobody runs in mode %q", m.label)
		}
	}
	for _, f := range figures {
		if !labels[f.label] || !named[f.base] || !named[f.server] {
			t.Errorf("%q compares what is not measured", f.name)
		}
	}
}

func TestReport(t *testing.T) {
	rs := results{
		{Name: node, Label: "pings", OK: true, V: map[string]float64{"cpu_us_per_ack": 60, "noise_pct": 1}},
		{Name: node, Label: "pings", OK: true, V: map[string]float64{"cpu_us_per_ack": 50, "noise_pct": 3}},
		{Name: ours, Label: "pings", OK: true, V: map[string]float64{"cpu_us_per_ack": 11, "noise_pct": 2}},
		{Name: ours, Label: "fanout", OK: false, Notes: []string{"got 1 of 2"}, V: map[string]float64{"paced_cpu_us_per_delivery": 9}},
		{Name: ours, Label: "polling", OK: true, V: map[string]float64{"cpu_us_per_ack": 12}},
		{Name: node, Label: "polling", OK: true, V: map[string]float64{"cpu_us_per_ack": 10}},
		{Name: node, Label: "fanout", OK: true, V: map[string]float64{"paced_cpu_us_per_delivery": 10}},
		{Name: keeps, Label: "drops", OK: true, V: map[string]float64{"lost": 0, "doubled": 2, "offers_received_pct": 99.8, "offers_told_p99_ms": 3050}},
		{Name: keeps, Label: "drops-nodes", OK: true, V: map[string]float64{"out_of_order": 0, "offers_accepted_twice": 1}},
		{Name: keeps, Label: "drops-faults", OK: true, V: map[string]float64{"offers_accepted_twice": 0}},
		{Name: keeps, Label: "idle", OK: true, V: map[string]float64{"heap_per_socket_after_gc": 1460}},
		{Name: ours, Label: "idle", OK: true, V: map[string]float64{"heap_per_socket_after_gc": 1400}},
		{Name: keeps, Label: "fanout", OK: true, V: map[string]float64{"burst_cpu_us_per_delivery": .3}},
		{Name: ours, Label: "slow", OK: true, V: map[string]float64{"p99_ratio": 1.1, "slow_heap_peak_mib": 3, "slow_dropped": 0}},
		{Name: ours, Label: "churn", OK: true, V: map[string]float64{"heap_before": 100, "heap_after3": 104, "goroutines_before": 4, "goroutines_after3": 5}},
	}
	text := report{results: rs, machine: []string{"a machine"}, pinned: true, at: time.Unix(0, 0)}.markdown("\nby hand\n")
	for _, want := range []string{
		"| ping: room emit and ack, CPU µs | 55.0 [50.0–60.0] | 11.0 | ×0.2 | ≤ 0.36 | yes |",
		"| broadcast to 2,000, paced, CPU µs per delivery | 10.0 |  | – | ≤ 0.65 | not measured |",
		"| ping over long-polling, CPU µs | 10.0 | 12.0 | ×1.2 | ≤ 1.00 | **no** |",
		"| emit to 2,000 rooms of one, CPU µs per emit |  |  | – | ≤ 0.18 | not measured |",
		"| a slow reader's memory, MiB, until it is dropped | 3.00 MiB, never dropped | ≤ 4 | **no** |",
		"| heap after the churn to before | ×1.04 | ≤ 1.05 | yes |",
		"| goroutines after the churn to before | ×1.25 | ≤ 1 | **no** |",
		"| events lost with recovery, drops only | 0 | ≤ 0 | yes |",
		"| events delivered twice with recovery, drops only | 2 | ≤ 0 | **no** |",
		"| offers not received within their time, drops only, % | 0.2 % | ≤ 0.1 | **no** |",
		"| from an offer to the report that nobody has received it, drops only, s, p99 | 3.05 s | ≤ 3.1 | yes |",
		"| offers accepted twice, also with a restart and a kill | 1 | ≤ 0 | **no** |",
		"| with recovery to without: delivery, bursts of 50 | – | ≤ 1.1 | not measured |",
		"| bytes of heap that an idle socket takes more with recovery | 60 B | ≤ 64 | yes |",
		"| events out of order with recovery, two servers, a restart and a kill | 0 | ≤ 0 | yes |",
		"7 of 13 measured goals are met",
		"- fanout realtime: got 1 of 2\n",
		"at most 3.0 %",
		"- a machine\n",
		handStart + "\n\nby hand\n" + handEnd,
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the report lacks %q:\n%s", want, text)
		}
	}
}

func TestScalingIsWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "scaling.md")
	r := report{at: time.Unix(0, 0), machine: []string{"a machine"}, results: results{
		{Name: node, Label: "cluster", OK: true, V: map[string]float64{"rate_sender_cpu_us": 50, "rate_noise_pct": 3}},
		{Name: ours, Label: "cluster", OK: true, V: map[string]float64{"rate_sender_cpu_us": 10}},
		{Name: ours, Label: "scale", OK: true, V: map[string]float64{"sockets": 95000, "back_last_s": 7}},
		{Name: ours, Label: "scale-spread", OK: false, Notes: []string{"got 1 of 2"}, V: map[string]float64{"sockets": 75000}},
	}}
	if r.writeScaling(file) == nil {
		t.Error("a file that is not there was written")
	}
	if err := os.WriteFile(file, []byte("before\n"+scalingStart+"\nold\n"+scalingEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the marks stay
		if err := r.writeScaling(file); err != nil {
			t.Fatal(err)
		}
	}
	text, _ := os.ReadFile(file)
	for _, want := range []string{
		"before\n" + scalingStart + "\n\nOn 1 January 1970, on a machine.", scalingEnd + "\nafter\n", "at most 3.0 %",
		"sender, CPU µs per emit | 50.0 | 10.0 | ×0.2 | ≤ 0.35 | yes |",
		"| sockets | 95,000 |  |", "| the last one | 7.00 |  |", "scale-spread realtime: got 1 of 2",
	} {
		if !strings.Contains(string(text), want) {
			t.Errorf("the section lacks %q:\n%s", want, text)
		}
	}
	if strings.Contains(string(text), "old") {
		t.Error("what was measured before is still there")
	}
	if err := os.WriteFile(file, []byte("no marks"), 0o600); err != nil || r.writeScaling(file) == nil {
		t.Error("a file without the marks was written")
	}
}

func TestByHandIsKept(t *testing.T) {
	r := report{at: time.Unix(0, 0)}
	const own = "\n## Where each microsecond goes\n\nMostly into write.\n\n"
	if got := byHand(r.markdown(own)); got != own {
		t.Errorf("got %q", got)
	}
	if byHand("") != handDefault || byHand(handStart+"\ncut off") != handDefault {
		t.Error("no default for a report without the section")
	}
}

func TestChoose(t *testing.T) {
	name := func(p peer) string { return p.name }
	got, err := choose(peers, "realtime,node", name)
	if err != nil || names(got, name) != "node realtime" {
		t.Errorf("got %s, %v", names(got, name), err)
	}
	if _, err := choose(peers, "nodes", name); err == nil {
		t.Error("an unknown name passed")
	}
	if got, _ := choose(peers, "", name); !slices.EqualFunc(got, peers, func(a, b peer) bool { return a.name == b.name }) {
		t.Error("nothing chosen is not all")
	}
}

func TestDropsAreWritten(t *testing.T) {
	file := filepath.Join(t.TempDir(), "benchmarks.md")
	r := report{at: time.Unix(0, 0), machine: []string{"a machine"}, results: results{
		{Name: node, Label: "drops", OK: true, V: map[string]float64{"delivered_pct": 99.999, "lost_cut_seen": 1, "published": 6000, "caught_up_pct": 50, "caught_up_p50_ms": 7}},
		{Name: node, Label: "drops", OK: true, V: map[string]float64{"delivered_pct": 98, "lost_cut_seen": 3, "lost_though_recovered": 2, "doubled": 4, "published": 6000, "caught_up_pct": 50, "caught_up_p50_ms": 8}},
		{Name: ours, Label: "drops", OK: true, V: map[string]float64{
			"delivered_pct": 100, "published": 6000, "caught_up_pct": 100, "clients": 500, "seconds": 20,
			"offers": 1200, "offers_received_pct": 99.91, "offers_only_synced": 1, "offers_p50_ms": 250.3, "offers_p99_ms": 7100, "offers_away_p50_ms": 2500,
			"offers_away_p99_ms": 9000, "offers_receipts_ack": 600, "offers_receipts_heartbeat": 590, "offers_false_receipts": 0, "offers_told_count": 300,
			"offers_told_p50_ms": 3010, "offers_told_p99_ms": 3050, "offers_told_max_ms": 3060, "offers_untold": 2, "offers_acceptances": 610, "offers_accepted_twice": 0,
		}},
		{Name: ours, Label: "drops-nodes", OK: true, V: map[string]float64{"delivered_pct": 100}},
		{Name: ours, Label: "storm", OK: true, V: map[string]float64{"killed_sockets": 10000, "all_back_s": 7.5}},
		{Name: ours, Label: "storm-spread", OK: false, Notes: []string{"got 1 of 2"}, V: map[string]float64{"all_back_s": 3}},
	}}
	if err := os.WriteFile(file, []byte("before\n"+dropsStart+"\nold\n"+dropsEnd+"\nafter\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 { // the marks stay
		if err := r.writeDrops(file); err != nil {
			t.Fatal(err)
		}
	}
	b, _ := os.ReadFile(file)
	whole := r.markdown("")
	for _, want := range []string{
		"500 clients, each", "For 20 s 100 events",
		"| realtime | drops only | 1,200 | 99.91 % | 1 | 250 | 7.10 | 2.50 | 9.00 | 600 / 590 | 0 | 300 | 3.01 | 3.05 | 3.06 | 2 | 610 | 0 |",
		"| node | 98.99 % [98.00–99.99] |  |  |", "| realtime | 100 % |  | 100 % |",
		"| node | drops only | 6,000 | 1–3 |  |  |  | 2 | 4 |", "| 50.00 % | 7.50 [7.00–8.00] |",
		"| realtime | started again | 10,000 |  |  |  | 7.50 |", "storm-spread realtime: got 1 of 2",
	} {
		if !strings.Contains(string(b), want) || !strings.Contains(whole, want) {
			t.Errorf("%q is lacking in\n%s", want, b)
		}
	}
	if text := string(b); strings.Contains(text, "old") || !strings.HasPrefix(text, "before\n") || !strings.HasSuffix(text, dropsEnd+"\nafter\n") {
		t.Errorf("what is not between the marks is not kept:\n%s", text)
	}
	if r.writeDrops(filepath.Join(t.TempDir(), "none")) == nil {
		t.Error("a file that is not there was written")
	}
}
