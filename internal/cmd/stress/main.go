// Command stress lets hundreds of clients live through what clients live through:
// they connect, by each transport and from one to the other, vanish, stall, send too
// much, lose their sessions and come back, while trips go on around them, on two
// nodes that share a bus. An oracle knows who has to hear of what, and in which
// order.
//
//	go run ./internal/cmd/stress -seed 1 -for 60s
//
// It is a breach when a client hears of something that is not for it, of something
// twice, out of the order of its trip, or of anything after its session ended; when
// it misses something while connected, is disconnected for no reason or gets no
// answer or two; when the server logs an error, does not shut down in time, or
// leaves goroutines or memory behind. With a breach the exit status is 1.
//
// All choices come from the seed, each actor's from a stream of its own. What the
// scheduler does with them does not.
package main

import (
	"flag"
	"fmt"
	"os"
	"runtime/pprof"
	"time"
)

// grace is how much longer than asked for a run may take.
const grace = 10 * time.Second

func main() {
	cfg := config{out: os.Stdout}
	flag.Uint64Var(&cfg.seed, "seed", 1, "of all choices; an odd one has a bus that hands each event to one node, an even one a bus that all nodes hear")
	flag.DurationVar(&cfg.length, "for", time.Minute, "how long clients act; it ends at most 10s later")
	flag.IntVar(&cfg.clients, "clients", 300, "how many there are")
	flag.BoolVar(&cfg.verbose, "v", false, "show the goroutines that are left over")
	flag.Parse()
	if flag.NArg() > 0 || cfg.length <= 0 || cfg.clients < 4 {
		fmt.Fprintln(os.Stderr, "stress: -for must be positive, -clients 4 or more, and there are no arguments")
		os.Exit(2)
	}
	time.AfterFunc(cfg.length+grace, func() {
		fmt.Println("breach: it has not ended", grace, "after", cfg.length)
		if cfg.verbose {
			_ = pprof.Lookup("goroutine").WriteTo(os.Stdout, 1) // what can't be written can't be read
		}
		os.Exit(1)
	})
	if run(cfg) > 0 {
		os.Exit(1)
	}
}
