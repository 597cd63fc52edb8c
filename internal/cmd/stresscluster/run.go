//go:build unix

// A run: storms and calms in turn, and what is printed at the end.

package main

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

const (
	// grace is how much longer than -for a run may take.
	grace = time.Minute
	// quiet is how long the clients run before the first storm.
	quiet = 3 * time.Second
	// windUp is how much of the run remains after the last storm, at least.
	windUp = healing + settling + probeTime + strictTime
)

// config is what a run is given.
type config struct {
	seed    uint64
	length  time.Duration
	clients int
	faults  faultSet
	out     io.Writer
	verbose bool
	logs    string

	recovery bool
	offers   int // that are made at the same time
}

// run runs the program, prints a summary and returns the number of breaches.
func run(cfg config) (breaches int) {
	began := time.Now()
	if cfg.logs != "" {
		if err := os.MkdirAll(cfg.logs, 0o755); err != nil {
			fmt.Fprintln(cfg.out, err)
			return 1
		}
	}
	w, err := newWorld(cfg)
	if err != nil {
		fmt.Fprintln(cfg.out, "the cluster can't be started:", err)
		return 1
	}
	overdue := time.AfterFunc(cfg.length+2*grace, func() {
		w.print(began)
		fmt.Fprintf(cfg.out, "breach: the program has not ended %v after %v\n", 2*grace, cfg.length)
		os.Exit(1)
	})
	defer overdue.Stop()
	w.live(cfg)
	w.close()
	http.DefaultClient.CloseIdleConnections()
	return w.print(began)
}

// live runs the clients, the trips and the storms, and shuts everything down.
func (w *world) live(cfg config) {
	end := time.Now().Add(cfg.length)
	ctx, cancel := context.WithCancel(context.Background())
	var acting, dispatching sync.WaitGroup
	for _, a := range w.newActors(cfg.clients) {
		acting.Go(func() { a.run(ctx) })
	}
	dispatched, cease := context.WithCancel(ctx)
	for i := range max(1, cfg.clients/5) {
		dispatching.Go(func() { w.dispatch(dispatched, i) })
	}
	for i := range cfg.offers {
		dispatching.Go(func() { w.playOffers(dispatched, i) })
	}
	stresskit.Sleep(ctx, quiet)
	rng := w.rng(stormStream, -1)
	for n := 0; ; n++ {
		length := stresskit.Between(rng, 12*time.Second, 40*time.Second)
		if left := time.Until(end) - windUp; left < length {
			length = left
		}
		if length > 0 {
			w.storm(ctx, n, length)
		}
		w.calm(ctx, n)
		if time.Until(end) < windUp {
			break
		}
	}
	cease()
	dispatching.Wait()
	cancel()
	acting.Wait()
	var leaving sync.WaitGroup
	for _, p := range w.places {
		if l := p.current(); l != nil {
			leaving.Go(func() { w.leave(l) })
		}
	}
	leaving.Wait()
	w.oracle.judge()
}

// print prints the figures, and returns the number of breaches.
func (w *world) print(began time.Time) int {
	out := w.config.out
	n, first := w.oracle.verdict()
	fmt.Fprintf(out, "seed %d, %d nodes, %d clients for %v; took %v\n\n", w.config.seed, nodes, w.config.clients, w.config.length, time.Since(began).Round(time.Millisecond))
	w.count.Add("presence events", w.online.count())
	w.count.Print(out)
	comeback.Print(out, w.count)
	w.book.Print(out)
	w.oracle.printLatency(out)
	fmt.Fprintf(out, "the machine's longest lag: %v; heap of this process %.1f MiB\n", w.lag.longest().Round(time.Millisecond), float64(heap())/(1<<20))
	fmt.Fprintf(out, "breaches %d\n", n)
	for _, b := range first {
		fmt.Fprintln(out, "breach:", b)
	}
	return n
}

// printLatency prints how long events took from before they were published until they arrived.
func (o *oracle) printLatency(out io.Writer) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for i, when := range []string{"in calms", "in and soon after storms"} {
		all := slices.Sorted(slices.Values(o.latency[i]))
		if len(all) == 0 {
			continue
		}
		at := func(p int) time.Duration { return all[len(all)*p/100].Round(100 * time.Microsecond) }
		fmt.Fprintf(out, "\ntrip events %s: %d deliveries, latency p50 %v, p99 %v, longest %v", when, len(all), at(50), at(99), all[len(all)-1].Round(100*time.Microsecond))
	}
	fmt.Fprintln(out)
}
