// Command compare builds the library's server and its peers, measures all of them
// side by side with loadgen, and writes docs/benchmarks.md:
//
//	cd bench && go run ./compare
//
// Every run has a fresh server, on core 0, with the generator on core 1; peers take
// turns within each mode and repeat, so that whatever else the machine does hits all
// of them alike. Nothing listens or connects beyond the loopback interface. It needs
// Linux, Node with npm, redis-server, and taskset. The exit status is 1 if anything was
// lost or went wrong in a run.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"runtime"
	"slices"
	"strings"
	"syscall"
	"time"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := compare(ctx, os.Args[1:])
	stop()
	if errors.Is(err, flag.ErrHelp) {
		os.Exit(2)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "compare:", err)
		os.Exit(1)
	}
}

func compare(ctx context.Context, args []string) error {
	fs := flag.NewFlagSet("compare", flag.ContinueOnError)
	repeats := fs.Int("repeats", 0, "times that each figure is taken (0: 3, or 1 with -quick)")
	onlyPeers := fs.String("peers", "", "only these, by comma: "+names(peers, func(p peer) string { return p.name }))
	onlyModes := fs.String("modes", "", "only these, by comma: "+names(modes, func(m mode) string { return m.label }))
	quick := fs.Bool("quick", false, "few sockets for a short time: shows that everything works, the figures are rough")
	seed := fs.Uint64("seed", 1, "of drops: who is cut when, for how long and how")
	pin := fs.Bool("pin", true, "server and generator on a core each")
	build := fs.Bool("build", true, "build the servers first")
	keep := fs.Bool("keep", false, "add to the results of the last run instead of starting anew")
	resume := fs.Bool("resume", false, "make only those runs that the results of the last one lack, because it ended early or they went wrong")
	dropsTime := fs.Duration("drops-time", 0, "of drops: how long events are published (0: a minute, or 10 s with -quick)")
	render := fs.Bool("render", false, "measure nothing, write the report of the results that are there")
	scaling := fs.String("scaling", "", "write what several nodes cost into this file, ../docs/scaling.md, between its two marks")
	dropsOut := fs.String("drops", "", "write what became of connections that ended into this file, ../docs/benchmarks.md, between its two marks")
	out := fs.String("out", "", `the report, "-" for standard output (default ../docs/benchmarks.md for a whole run, else "-")`)
	if err := fs.Parse(args); err != nil {
		return err
	}
	if fs.NArg() > 0 {
		return fmt.Errorf("unexpected argument %q", fs.Arg(0))
	}
	root, err := moduleRoot(ctx)
	if err != nil {
		return err
	}
	part := *quick || *onlyPeers != "" || *onlyModes != ""
	switch {
	case *out == "" && part && !*render:
		*out = "-"
	case *out == "":
		*out = filepath.Join(root, "..", "docs", "benchmarks.md")
	}
	if *repeats == 0 {
		*repeats = 3
		if *quick {
			*repeats = 1
		}
	}
	if *pin && runtime.NumCPU() < 2 {
		fmt.Fprintln(os.Stderr, "one core only: server and generator share it")
		*pin = false
	}
	r := &runner{root: root, repeats: *repeats, quick: *quick, pin: *pin, seed: *seed, time: *dropsTime, log: os.Stderr}
	if r.peers, err = choose(peers, *onlyPeers, func(p peer) string { return p.name }); err != nil {
		return err
	}
	if r.modes, err = choose(modes, *onlyModes, func(m mode) string { return m.label }); err != nil {
		return err
	}
	if err := writable(*scaling, *dropsOut); err != nil {
		return err
	}
	if !*render {
		lock, err := r.lock()
		if err != nil {
			return err
		}
		defer lock.Close()
		if *build {
			if err := r.build(ctx); err != nil {
				return err
			}
		}
		if err := r.run(ctx, *keep, *resume); err != nil {
			return err
		}
	}
	res, err := load(r.resultsFile())
	if err != nil {
		return err
	}
	rep := report{results: res, machine: describe(ctx), quick: *quick, pinned: *pin, at: time.Now()}
	switch {
	case *scaling != "":
		err = rep.writeScaling(*scaling)
	case *dropsOut != "":
		err = rep.writeDrops(*dropsOut)
	default:
		err = write(*out, rep)
	}
	if err != nil {
		return err
	}
	return res.failed()
}

// writable finds before anything is measured that a file lacks the marks between which it is written.
func writable(scaling, drops string) error {
	if scaling != "" {
		if _, _, err := around(scaling, scalingStart, scalingEnd); err != nil {
			return err
		}
	}
	if drops != "" {
		if _, _, err := around(drops, dropsStart, dropsEnd); err != nil {
			return err
		}
	}
	return nil
}

// moduleRoot is the folder bench/ itself, wherever in it the command is started.
func moduleRoot(ctx context.Context) (string, error) {
	b, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(b)))
	if _, err := os.Stat(filepath.Join(root, "loadgen")); err != nil {
		return "", errors.New("start it in bench/: cd bench && go run ./compare")
	}
	return root, nil
}

func names[T any](all []T, name func(T) string) string {
	var list []string
	for _, x := range all {
		list = append(list, name(x))
	}
	return strings.Join(list, " ")
}

// choose returns those of a comma-separated list, all for an empty one.
func choose[T any](all []T, list string, name func(T) string) ([]T, error) {
	if list == "" {
		return all, nil
	}
	wanted := strings.Split(list, ",")
	for _, w := range wanted {
		if !slices.ContainsFunc(all, func(x T) bool { return name(x) == w }) {
			return nil, fmt.Errorf("there is no %q; there are %s", w, names(all, name))
		}
	}
	return slices.DeleteFunc(slices.Clone(all), func(x T) bool { return !slices.Contains(wanted, name(x)) }), nil
}
