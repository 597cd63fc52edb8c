// Command stress runs hundreds of clients that behave as clients in production do. They
// connect by each transport, upgrade, lose their network, stop reading, send too much, lose
// their sessions and reconnect, while trips run on two nodes that share a bus. An oracle
// knows who must receive which events, and in which order.
//
//	go run ./internal/cmd/stress -seed 1 -for 60s
//
// It is a breach if a client receives an event of others, an event twice, an event out of
// the order of its trip, or any event after its session ended; if a connected client misses
// an event, is disconnected without a cause, or receives no ack or two; if the server logs
// an error, does not shut down in time, or leaks goroutines or memory. After a breach the
// exit status is 1.
//
// Most clients that lose their connection come back with their pid, to the same or the other node, some
// while the server has not noticed the loss. If hello says that one has recovered, it is a breach if
// anything is lost, doubled or out of order over all its connections, or comes behind hello that was
// handled before; otherwise it is one if anything that was missed is sent again. A pid must not serve
// two devices, a stranger, or somebody who may not connect.
//
// Offers are made to drivers who are connected, cut, silent or absent, and who answer, answer twice, or
// not at all. It is a breach if a device that can be reached does not receive its offer, or anybody
// receives one of others or one that has ended; if the bus hears a receipt that was none, none although
// there was one, or anything twice; if the host is asked twice for one answer.
//
// Meanwhile faults happen, which -trouble switches on and off: services of the host hang or
// panic, the bus delivers events again and out of order, messages between the nodes are
// lost, crowds of strangers connect. The faults have users and trips of their own. It is a
// breach if they affect other clients: if a heartbeat, an acknowledgment or a ban is late, or
// a login takes too long; if a user is in the room of a trip that has ended, or not in the
// room of a running one; if the log does not name a panic, or the log or the heap grows
// without bound. The program measures the lag of the machine, and extends each time limit by
// several times that.
//
// At the end a server with ten thousand idle sockets shuts down. Each client must receive
// server:drain before its connection closes, within ten seconds.
//
// All random choices come from the seed; each actor has a stream of its own. The scheduling
// of goroutines does not depend on the seed.
package main

import (
	"flag"
	"fmt"
	"os"
	"time"
)

// grace is how much longer than -for a run may take.
const grace = 18 * time.Second

func main() {
	cfg := config{out: os.Stdout, troubles: troubles{}}
	_ = cfg.troubles.Set("all") // they exist
	flag.Uint64Var(&cfg.seed, "seed", 1, "seed of all random choices; with an odd one the bus delivers each event to one node, with an even one to all nodes")
	flag.DurationVar(&cfg.length, "for", time.Minute, fmt.Sprintf("how long the clients run; the program ends at most %v later", grace))
	flag.IntVar(&cfg.clients, "clients", 300, "number of clients")
	flag.Var(cfg.troubles, "trouble", "kinds of faults, separated by commas: hang, redeliver, reorder, lose, panic, strangers; all or none")
	flag.IntVar(&cfg.crowd, "crowd", 4500, "number of drivers whose events wait for a hanging service at the same time")
	flag.IntVar(&cfg.addresses, "addresses", 300, "number of addresses that a stranger uses at the same time")
	flag.StringVar(&cfg.stranger, "stranger", "", "kind of strangers, as a part of its name in the counts; empty: all")
	flag.IntVar(&cfg.heap, "heap", 150, "MiB by which the heap may grow, besides what the oracle records and goroutines that have ended")
	flag.IntVar(&cfg.offers, "offers", 40, "number of offers that are made at the same time")
	flag.BoolVar(&cfg.recovery, "recovery", true, "servers with recovery, to which most clients come back with their pid")
	sockets := flag.Int("drain", 10_000, "number of sockets of the server that is shut down at the end; 0: none")
	flag.BoolVar(&cfg.verbose, "v", false, "print the goroutines that are left")
	flag.Parse()
	if flag.NArg() > 0 || cfg.length <= 0 || cfg.clients < 4 || cfg.offers < 0 || *sockets < 0 {
		fmt.Fprintln(os.Stderr, "stress: -for must be positive, -clients 4 or more, -offers and -drain 0 or more, and there are no arguments")
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
