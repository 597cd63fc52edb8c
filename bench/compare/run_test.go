package main

import (
	"bytes"
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// testRunner has two modes and two peers, of which the second one fails in the second mode.
func testRunner(t *testing.T) (r *runner, said *bytes.Buffer, made *[]string) {
	dir := t.TempDir()
	if err := os.MkdirAll(filepath.Join(dir, "out", "logs"), 0o755); err != nil {
		t.Fatal(err)
	}
	said, made = new(bytes.Buffer), new([]string)
	measure := func(r *runner, _ context.Context, p peer, m mode) (run, error) {
		*made = append(*made, m.label+" "+p.name)
		file := r.path("out/logs/" + p.name + ".log")
		r.logs = []string{file}
		if err := os.WriteFile(file, []byte("line\nlast words of "+p.name+"\n"), 0o600); err != nil {
			return run{}, err
		}
		if m.label == "drops-faults" && p.name == node {
			return run{}, errors.New("it broke")
		}
		return run{Name: p.name, Label: m.label, OK: true, V: map[string]float64{"x": 1}}, nil
	}
	both := []string{"drops", "drops-faults"}
	return &runner{
		root: dir, repeats: 1, log: said,
		modes: []mode{{label: "drops", run: measure}, {label: "drops-faults", run: measure}},
		peers: []peer{{name: node, cmd: []string{"node"}, modes: both}, {name: ours, cmd: server, modes: both}},
	}, said, made
}

func TestRunner_AFailureDoesNotEndTheOthers(t *testing.T) {
	r, said, made := testRunner(t)
	if err := r.run(t.Context(), false, false); err != nil {
		t.Fatal(err)
	}
	res, err := load(r.resultsFile())
	if err != nil || len(res) != 4 || len(*made) != 4 {
		t.Fatalf("made %v, got %v, %v", *made, res, err)
	}
	if err := res.failed(); err == nil || err.Error() != "drops-faults with node: it broke" {
		t.Errorf("failed: %v", err)
	}
	for _, want := range []string{
		"1 of 4: drops           node                  begins\n", "3 of 4: drops-faults    node                    0.0 s, FAILED: it broke; about 0 min left\n",
		"    node.log: last words of node\n", "4 of 4: drops-faults    realtime                0.0 s, ok",
	} {
		if !strings.Contains(said.String(), want) {
			t.Errorf("it did not say %q:\n%s", want, said)
		}
	}
	if strings.Contains(said.String(), "words of "+ours) {
		t.Errorf("it shows the log of a run that is well:\n%s", said)
	}
}

func TestRunner_ResumeMakesWhatIsMissing(t *testing.T) {
	r, _, made := testRunner(t)
	if r.run(t.Context(), false, true) == nil {
		t.Error("nothing was resumed")
	}
	ctx, stop := context.WithCancel(t.Context())
	first := r.modes[0].run
	r.modes[0].run = func(r *runner, ctx context.Context, p peer, m mode) (run, error) {
		if p.name == ours { // the user stops it here
			stop()
		}
		return first(r, ctx, p, m)
	}
	if err := r.run(ctx, false, false); !errors.Is(err, context.Canceled) || !strings.Contains(err.Error(), "-resume") {
		t.Errorf("stopped: %v", err)
	}
	r.modes[0].run, *made = first, nil
	for range 2 { // what failed is made again each time
		if err := r.run(t.Context(), false, true); err != nil {
			t.Fatal(err)
		}
	}
	if got := strings.Join(*made, ", "); got != "drops realtime, drops-faults node, drops-faults realtime, drops-faults node" {
		t.Errorf("it made %s", got)
	}
	if res, err := load(r.resultsFile()); err != nil || len(res) != 4 {
		t.Errorf("got %v, %v", res, err)
	}
}

func TestRunner_WhatCannotBeBuiltIsLeftOut(t *testing.T) {
	r, _, made := testRunner(t)
	r.broken = map[string]error{nodePart: errors.New("npm: not there")}
	if err := r.run(t.Context(), false, false); err != nil {
		t.Fatal(err)
	}
	res, _ := load(r.resultsFile())
	if len(*made) != 2 || len(res) != 4 || res.failed() == nil || !strings.Contains(res.failed().Error(), "drops with node: npm: not there\n") {
		t.Errorf("made %v: %v", *made, res)
	}
}

func TestPeer_Part(t *testing.T) {
	for _, p := range peers {
		want := ownPart
		switch {
		case strings.HasPrefix(p.name, "node"):
			want = nodePart
		case !strings.HasPrefix(p.name, ours):
			want = goPart
		}
		if p.part() != want {
			t.Errorf("%s is built with %s", p.name, p.part())
		}
	}
}

func TestWritable(t *testing.T) {
	file := filepath.Join(t.TempDir(), "report.md")
	if err := os.WriteFile(file, []byte(dropsStart+"\n"+dropsEnd+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := writable("", file); err != nil {
		t.Error(err)
	}
	if writable(file, "") == nil || writable("", file+"x") == nil {
		t.Error("a file without the marks is writable")
	}
}
