// A run: who takes part, for how long, and what must be left afterwards.

package main

import (
	"context"
	"fmt"
	"io"
	"runtime"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

const (
	// windUp is how long clients have, after the run, to make sure of what they were
	// told; shutDown is how long the servers have then. With leakTime twice they
	// are less than grace.
	windUp   = 3500 * time.Millisecond
	shutDown = 3500 * time.Millisecond
	// leakTime is how long clients have to notice the end, and then goroutines to
	// be gone.
	leakTime = 1200 * time.Millisecond
	// heapGrowth is how many bytes of garbage-free heap a run may leave behind.
	heapGrowth = 32 << 20
)

// config is what a run is given.
type config struct {
	seed    uint64
	length  time.Duration
	clients int
	out     io.Writer                                     // of the summary
	verbose bool                                          // with goroutines that are left
	meddle  func(e realtime.Envelope) []realtime.Envelope // for tests: makes the bus go wrong
}

// run does it all, prints a summary and returns the number of breaches.
func run(cfg config) (breaches int) {
	before := runtime.NumGoroutine()
	heapBefore := heap()
	began := time.Now()
	w, err := newWorld(cfg)
	if err != nil {
		fmt.Fprintln(cfg.out, "the servers can't be started:", err)
		return 1
	}
	peak := watchPeak()
	w.live(cfg)
	most := peak()
	w.leaks(cfg, before)
	n, first := w.oracle.verdict()
	w.oracle.forget()
	if grown := heap() - heapBefore; grown > heapGrowth {
		n++
		first = append(first, fmt.Sprintf("the heap has grown by %d MiB", grown>>20))
	}

	fmt.Fprintf(cfg.out, "seed %d, %d clients for %v; took %v\n\n", cfg.seed, cfg.clients, cfg.length, time.Since(began).Round(time.Millisecond))
	w.count.print(cfg.out)
	fmt.Fprintf(cfg.out, "\ngoroutines %d before, %d at most, %d after; heap %.1f MiB before, %.1f at most, %.1f after\n",
		before, most.goroutines, runtime.NumGoroutine(), mib(heapBefore), mib(most.heap), mib(heap()))
	fmt.Fprintf(cfg.out, "breaches %d\n", n)
	for _, b := range first {
		fmt.Fprintln(cfg.out, "breach:", b)
	}
	return n
}

// live lets everybody act until the time is up, and takes the servers down.
func (w *world) live(cfg config) {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.length)
	defer cancel()
	actors := w.cast(cfg.clients)
	var acting, settled, dispatching sync.WaitGroup
	settled.Add(len(actors))
	for _, a := range actors {
		a.settled = sync.OnceFunc(settled.Done)
		acting.Go(func() { a.run(ctx) })
	}
	for i := range max(1, cfg.clients/6) {
		dispatching.Go(func() { w.dispatch(ctx, i) })
	}
	<-ctx.Done()
	within(windUp, func() { dispatching.Wait(); settled.Wait() })
	w.oracle.drain()
	stopping, stopped := context.WithTimeout(context.Background(), shutDown)
	defer stopped()
	if err := w.stop(stopping); err != nil {
		w.oracle.breach("shutting down: %v", err)
	}
	if !within(leakTime, acting.Wait) {
		w.oracle.breach("clients are still there after the shutdown")
	}
}

// cast is who takes part: a few admins, and passengers and drivers, some of whom
// have two devices, and some of whom send too much.
func (w *world) cast(clients int) []*actor {
	var actors []*actor
	device := func(namespace, user string, typ realtime.UserType) *actor {
		a := &actor{
			w: w, rng: w.rng(actorStream, len(actors)), namespace: namespace, user: user, typ: typ,
			alone: true, logins: 100_000 * len(actors), epoch: 100_000 * len(actors), // no two devices have the same
		}
		w.users.Set(realtime.User{ID: user, Type: typ, Active: true})
		actors = append(actors, a)
		return a
	}
	for i := range min(6, 1+clients/40) {
		device(realtime.NamespaceAdmin, fmt.Sprint("a", i), realtime.UserAdmin).alone = false // others would not hear
	}
	for i := 0; len(actors) < clients; i++ {
		namespace, user, typ, free := realtime.NamespacePassengers, fmt.Sprint("p", i/2), realtime.UserPassenger, &w.passengers
		if i%2 == 1 {
			namespace, user, typ, free = realtime.NamespaceDrivers, fmt.Sprint("d", i/2), realtime.UserDriver, &w.drivers
		}
		free.give(user)
		a := device(namespace, user, typ)
		switch i / 2 % 8 {
		case 3:
			a.floods = true
		case 5:
			a.alone = false
			if len(actors) < clients {
				device(namespace, user, typ).alone = false
			}
		}
	}
	return actors
}

// leaks waits until no more goroutines are there than before.
func (w *world) leaks(cfg config, before int) {
	deadline := time.Now().Add(leakTime)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		w.oracle.breach("%d goroutines are left over", n-before)
		if cfg.verbose {
			_ = pprof.Lookup("goroutine").WriteTo(cfg.out, 1) // what can't be written can't be read
		}
	}
}

// within reports whether f returned in time. It goes on if it did not.
func within(d time.Duration, f func()) bool {
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	select {
	case <-done:
		return true
	case <-time.After(d):
		return false
	}
}

// extent is how large the process was.
type extent struct {
	goroutines int
	heap       int64
}

// watchPeak begins to watch; what it returns ends that.
func watchPeak() func() extent {
	var most extent
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			var m runtime.MemStats
			runtime.ReadMemStats(&m)
			most = extent{max(most.goroutines, runtime.NumGoroutine()), max(most.heap, int64(m.HeapAlloc))}
			select {
			case <-tick.C:
			case <-stop:
				return
			}
		}
	}()
	return func() extent {
		close(stop)
		<-stopped
		return most
	}
}

// heap returns the bytes in use after a collection.
func heap() int64 {
	runtime.GC()
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	return int64(m.HeapAlloc)
}

func mib(n int64) float64 { return float64(n) / (1 << 20) }
