// Command stress runs hundreds of clients that behave as clients in the field do: they
// connect, by each transport and from one to the other, vanish, stall, send too
// much, lose their sessions and come back, while trips go on around them, on two
// nodes that share a bus. An oracle knows who must receive which events, and in
// which order.
//
//	go run ./internal/cmd/stress -seed 1 -for 60s
//
// It is a breach when a client receives an event that is not for it, an event twice, out
// of the order of its trip, or anything after its session ended; when
// it misses something while connected, is disconnected for no reason or gets no
// answer or two; when the server logs an error, does not shut down in time, or
// leaves goroutines or memory behind. With a breach the exit status is 1.
//
// Around these clients things go wrong, which -trouble switches on and off: services
// of the host that hang or panic, a bus that delivers again and out of order, messages
// between the nodes that are lost, strangers in crowds. What goes wrong belongs to
// users and trips of its own. It is a breach when it affects other clients: when a
// heartbeat, an acknowledgment or a ban comes late, or a login takes too long; when
// somebody is in the room of a trip that is over, or is not in that of one that is
// under way; when a panic is not in the log, or the log or the heap grows without
// bound. The program measures how much the machine holds it up, and grants several
// times that to whatever has to come in time.
//
// In the end a server with ten thousand idle sockets shuts down: each is to be sent
// server:drain before its connection ends, within ten seconds.
//
// All choices come from the seed, each actor's from a stream of its own. What the
// scheduler does with them does not.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// grace is how much longer than asked for a run may take.
const grace = 10 * time.Second

func main() {
	cfg := config{out: os.Stdout, troubles: troubles{}}
	_ = cfg.troubles.Set("all") // they exist
	flag.Uint64Var(&cfg.seed, "seed", 1, "of all choices; an odd one has a bus that hands each event to one node, an even one a bus that all nodes hear")
	flag.DurationVar(&cfg.length, "for", time.Minute, "how long clients act; it ends at most 10s later")
	flag.IntVar(&cfg.clients, "clients", 300, "how many there are")
	flag.Var(cfg.troubles, "trouble", "what goes wrong besides, separated by commas: hang, redeliver, reorder, lose, panic, strangers; all or none")
	flag.IntVar(&cfg.crowd, "crowd", 4500, "how many drivers' events wait for a service that hangs, at once")
	flag.IntVar(&cfg.addresses, "addresses", 300, "how many addresses a stranger comes from at a time")
	flag.StringVar(&cfg.stranger, "stranger", "", "which strangers come, by a part of the name that the counts have; empty: all")
	flag.IntVar(&cfg.heap, "heap", 150, "how many MiB the heap may grow by meanwhile")
	sockets := flag.Int("drain", 10_000, "how many sockets a server has that is shut down afterwards; 0: there is none")
	flag.BoolVar(&cfg.verbose, "v", false, "show the goroutines that are left over")
	flag.Parse()
	if flag.NArg() > 0 || cfg.length <= 0 || cfg.clients < 4 || *sockets < 0 {
		fmt.Fprintln(os.Stderr, "stress: -for must be positive, -clients 4 or more, -drain 0 or more, and there are no arguments")
		os.Exit(2)
	}
	breaches := run(cfg)
	if *sockets > 0 {
		fmt.Fprintln(cfg.out)
		breaches += drain(*sockets, cfg.out)
	}
	if breaches > 0 {
		os.Exit(1)
	}
}
