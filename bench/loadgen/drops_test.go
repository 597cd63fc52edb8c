package main

import (
	"bufio"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"
)

func TestCuts_AreOfTheSeed(t *testing.T) {
	const whole, up, most = time.Minute, 12 * time.Second, 10 * time.Second
	of := func(seed uint64, unseen float64) []cut {
		return cuts(rand.New(rand.NewPCG(seed, 1)), whole, up, most, unseen)
	}
	if !slices.Equal(of(1, .5), of(1, .5)) || slices.Equal(of(1, .5), of(2, .5)) {
		t.Error("they are not of the seed")
	}
	seen, unseen := 0, 0
	for seed := range uint64(200) {
		last := int64(-up)
		for _, c := range of(seed, .5) {
			if d := time.Duration(c.until - c.at); d < most/10 || d > most {
				t.Errorf("a cut of %v", d)
			}
			if c.at < last || time.Duration(c.at) > whole || c.at-last < int64(up/2) && last > 0 {
				t.Errorf("a cut at %v after one until %v", time.Duration(c.at), time.Duration(last))
			}
			if last = c.until; c.unseen {
				unseen++
			} else {
				seen++
			}
		}
	}
	if seen < 300 || unseen < 300 { // about 330 of each
		t.Errorf("%d are seen, %d are not", seen, unseen)
	}
	if slices.ContainsFunc(of(1, 0), func(c cut) bool { return c.unseen }) || slices.ContainsFunc(of(1, 1), func(c cut) bool { return !c.unseen }) {
		t.Error("the share is not kept")
	}
}

// TestServer_DropsWithRecovery: while the server runs, no event is lost, doubled or out of order.
func TestServer_DropsWithRecovery(t *testing.T) {
	url := "http://" + serve(t, build(t), "RECOVERY=1")
	b, err := newBench(config{
		server: url, secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4, seed: 1,
		conns: 10, conc: 8, handshake: 10 * time.Second, dur: 5 * time.Second, rate: 200, up: time.Second, cut: time.Second, unseen: .5,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.dropsTo(io.Discard)
	v := map[string]float64{}
	for _, m := range b.res.metrics {
		v[m.key] = m.val
	}
	if !b.res.ok || v["published"] != 1000 || v["delivered_pct"] != 100 || v["doubled"] != 0 || v["out_of_order"] != 0 || v["caught_up_pct"] != 100 {
		t.Errorf("%v %v", b.res.notes, v)
	}
	if v["absences_cut_seen"] == 0 || v["absences_cut_unseen"] == 0 {
		t.Errorf("nothing happened: %v", v)
	}
}

// TestServer_Drops runs drops, as small as it gets, against the library's server, which is killed
// when the mode asks for it.
func TestServer_Drops(t *testing.T) {
	program := build(t)
	addr := freeAddress(t)
	kill := start(t, program, addr)
	b, err := newBench(config{
		server: "http://" + addr, secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4, seed: 1,
		conns: 10, conc: 8, handshake: 10 * time.Second, dur: 3 * time.Second, rate: 50, up: time.Second, cut: time.Second, unseen: .5, faults: true,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	lines, out := io.Pipe()
	go func() {
		b.dropsTo(out)
		_ = out.Close()
	}()
	var asked []string
	for said := bufio.NewScanner(lines); said.Scan(); {
		asked = append(asked, said.Text())
		kill()
		kill = start(t, program, addr)
	}
	if len(asked) != 2 || !strings.Contains(asked[0], `"restart"`) || !strings.Contains(asked[1], `"kill"`) {
		t.Errorf("it asked for %q", asked)
	}
	v := map[string]float64{}
	for _, m := range b.res.metrics {
		v[m.key] = m.val
	}
	if !b.res.ok {
		t.Error(b.res.notes)
	}
	if v["published"]+v["unanswered"] != 150 || v["lost_unbroken"] != 0 || v["doubled"] != 0 || v["out_of_order"] != 0 {
		t.Errorf("got %v", v)
	}
	if v["absences_ended"] == 0 || v["absences_cut_seen"] == 0 || v["absences_cut_unseen"] == 0 || v["publish_retries"] == 0 || v["delivered_pct"] == 0 {
		t.Errorf("nothing happened: %v", v)
	}
}
