//go:build unix

// Command stresscluster runs three servers, each a process of its own, over a real
// redis-server, and clients that reconnect to another node when theirs fails, while trips run.
// From its seed it kills, stops and restarts the nodes and Redis, and cuts the paths between
// them. An oracle knows who must receive which events, and in which order.
//
//	go run ./internal/cmd/stresscluster -seed 1 -for 60s
//
// A run alternates between storms, in which faults happen, and calms, in which everything has
// been repaired. It is always a breach if a client receives an event of others, an event twice
// or out of the order of its trip, except what a node repeats because another one failed
// with it; if it misses an event that was emitted outside of the gaps that its node reported;
// if a client of a revoked session is still served 10 s after the cluster was whole again; if a
// node loses an event of the bus, ends by itself, leaks goroutines or memory, or panics. In a
// calm it is a breach if a node is not well after 10 s, if anybody is missing from the room of
// their trip or is in that of another one, if a login fails, or if the presence events differ
// from who is connected. A breach names the seed, the time, the node and the client. Then the
// exit status is 1.
//
// Most clients that lose their connection, by themselves or with their node, come back with their pid, to
// their node, another one or the next process. If hello says that one has recovered, it is a breach if
// anything is lost, doubled or out of order over all its connections, or comes behind hello that was
// emitted long before; otherwise it is one if anything is sent again. A pid must not serve two devices, or
// a stranger.
//
// Offers are made to drivers who are connected, cut, silent or absent, and who answer, answer twice, or
// not at all. What becomes of each is judged, also if nodes die or shut down meanwhile: who receives it, and
// that the bus hears one receipt, or none in time, one answer, or the end. After other faults only what must
// not happen at all is judged.
//
// Redis writes each command to its disk (appendfsync always), so a kill loses nothing that the
// bus has accepted.
//
// All random choices come from the seed; when a fault meets what depends on the scheduling of
// processes. The program needs redis-server.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

func main() {
	if settings := os.Getenv(nodeEnv); settings != "" {
		os.Exit(runNode(settings))
	}
	cfg := config{out: os.Stdout, faults: allFaults()}
	flag.Uint64Var(&cfg.seed, "seed", 1, "seed of all random choices; with an odd one the servers have a TripLookup and a PartyLookup")
	flag.DurationVar(&cfg.length, "for", time.Minute, "how long it runs; the program ends at most 60s later")
	flag.IntVar(&cfg.clients, "clients", 90, "number of clients")
	flag.Var(&cfg.faults, "faults", "kinds of faults, separated by commas")
	flag.BoolVar(&cfg.verbose, "v", false, "print the faults and the breaches as they happen")
	flag.StringVar(&cfg.logs, "logs", "", "directory for the logs of the nodes; empty: none are kept")
	flag.BoolVar(&cfg.recovery, "recovery", true, "servers with recovery, to which most clients come back with their pid")
	flag.IntVar(&cfg.offers, "offers", 12, "number of offers that are made at the same time")
	flag.Parse()
	if flag.NArg() > 0 || cfg.length <= 0 || cfg.clients < 12 || cfg.offers < 0 {
		fmt.Fprintln(os.Stderr, "stresscluster: -for must be positive, -clients 12 or more, -offers 0 or more, and there are no arguments")
		os.Exit(2)
	}
	if run(cfg) > 0 {
		os.Exit(1)
	}
}
