// A run: which clients take part, for how long, and what must be left afterwards.

package main

import (
	"context"
	"fmt"
	"io"
	"math"
	"os"
	"runtime"
	"runtime/metrics"
	"runtime/pprof"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

const (
	// windUp is how long clients have, after the run, to make sure of what they have
	// received; shutDown is how long the servers have then, see shutDownTime. With pingTimeout
	// and leakTime twice they are less than grace.
	windUp   = 3500 * time.Millisecond
	shutDown = 3500 * time.Millisecond
	// leakTime is how long clients have to notice the end, and then goroutines to
	// be gone.
	leakTime = 1200 * time.Millisecond
	// shutDownSlack is how much longer than its ctx Shutdown may take.
	shutDownSlack = 500 * time.Millisecond
	// heapGrowth is how many bytes of garbage-free heap a run may leave behind.
	heapGrowth = 32 << 20
	// logHeap is how many more it may leave behind with recovery: the logs of both nodes, which are
	// still referenced. About 35 MiB were seen.
	logHeap = 48 << 20
	// goroutineBytes is what the runtime keeps of a goroutine that has ended, for the next
	// one; it never frees that.
	goroutineBytes = 1 << 10
)

// config is what a run is given.
type config struct {
	seed    uint64
	length  time.Duration
	clients int
	out     io.Writer // of the summary
	verbose bool      // with goroutines that are left

	troubles  troubles
	crowd     int    // drivers whose service hangs, at once
	addresses int    // that one stranger comes from
	stranger  string // a part of the names of those strangers who come; all, when empty
	heap      int    // MiB that it may grow by meanwhile
	recovery  bool   // the servers have it
	offers    int    // that are played at the same time

	// For tests, which make things go wrong.
	meddle func(e realtime.Envelope) []realtime.Envelope // what nodes get instead of an event
	plant  string                                        // something in the world
	deaf   bool                                          // nobody reads the log
	enough []string                                      // breaches after which the run ends
	seen   string                                        // a count that is needed too before the run ends early
	least  time.Duration                                 // how long it lasts even so
	hurry  bool                                          // all bounds are a tenth
}

// run runs the program, prints a summary and returns the number of breaches.
func run(cfg config) (breaches int) {
	before := runtime.NumGoroutine()
	heapBefore := heap()
	began := time.Now()
	w, err := newWorld(cfg)
	if err != nil {
		fmt.Fprintln(cfg.out, "the servers can't be started:", err)
		return 1
	}
	overdue := newDeadline(cfg.length+grace, w.lag, func() { w.endOverdueRun(cfg) })
	peak := watchPeak()
	w.live(cfg)
	most := peak()
	held := w.lag.since(began)
	w.lag.close()
	w.checkGoroutines(cfg, before, excused(leakTime, held))
	overdue.Stop()
	w.host.ledger.judge(w.oracle)
	ended := int64(most.goroutines) * goroutineBytes
	records := heap()
	w.oracle.forget()
	records -= heap()
	if cfg.heap > 0 {
		w.oracle.checkHeap(most.heap-heapBefore-ended-records, int64(cfg.heap)<<20)
	}
	n, first := w.oracle.verdict()
	mayGrow := int64(heapGrowth)
	if cfg.recovery {
		mayGrow += logHeap
	}
	if grown := heap() - heapBefore - ended; grown > mayGrow {
		n++
		first = append(first, fmt.Sprintf("the heap has grown by %d MiB", grown>>20))
	}

	fmt.Fprintf(cfg.out, "seed %d, %d clients for %v; took %v\n\n", cfg.seed, cfg.clients, cfg.length, time.Since(began).Round(time.Millisecond))
	w.count.Print(cfg.out)
	comeback.Print(cfg.out, w.count)
	w.book.Print(cfg.out)
	fmt.Fprintf(cfg.out, "\nthe log's most lines in %v: %d; the machine's longest recent lag: %v", logWindow, w.meter.most, held.Round(time.Millisecond))
	fmt.Fprintf(cfg.out, "\ngoroutines %d before, %d at most, %d after; heap %.1f MiB before, %.1f at most (%.1f of it the oracle's records), %.1f after\n",
		before, most.goroutines, runtime.NumGoroutine(), mib(heapBefore), mib(most.heap), mib(records), mib(heap()))
	fmt.Fprintf(cfg.out, "breaches %d\n", n)
	for _, b := range first {
		fmt.Fprintln(cfg.out, "breach:", b)
	}
	return n
}

// live runs the clients for the configured time, and shuts the servers down.
func (w *world) live(cfg config) {
	ctx, cancel := context.WithTimeout(context.Background(), cfg.length)
	defer cancel()
	if len(cfg.enough) > 0 || cfg.seen != "" {
		go func() {
			for wait := max(cfg.least, 50*time.Millisecond); stresskit.Sleep(ctx, wait); wait = 50 * time.Millisecond {
				if w.oracle.has(cfg.enough) && (cfg.seen == "" || w.count.Of(cfg.seen) > 0) {
					cancel()
				}
			}
		}()
	}
	actors := w.newActors(cfg.clients)
	var acting, settled, dispatching sync.WaitGroup
	settled.Add(len(actors))
	for _, a := range actors {
		a.settled = sync.OnceFunc(settled.Done)
		acting.Go(func() { a.run(ctx) })
	}
	for i := range max(1, cfg.clients/6) {
		dispatching.Go(func() { w.dispatch(ctx, i) })
	}
	quiet, cease := context.WithTimeout(ctx, cfg.length-min(4*time.Second, cfg.length/4))
	defer cease()
	w.trouble(quiet)
	w.playOffers(quiet)
	<-ctx.Done()
	w.within(windUp, func() { dispatching.Wait(); settled.Wait(); w.scenes.Wait() })
	w.oracle.drain()
	w.shutDown()
	if !w.within(leakTime, w.scenes.Wait) {
		w.oracle.breachf("a trouble still runs after the shutdown")
	}
	if !w.within(leakTime, acting.Wait) {
		w.oracle.breachf("clients still run after the shutdown")
	}
}

// trouble starts all troubles that are switched on. They end with ctx.
func (w *world) trouble(ctx context.Context) {
	if len(w.config.troubles) == 0 {
		return
	}
	w.steady(ctx)
	w.scenes.Go(func() { w.queryBehindFullQueue(ctx) })
	for name, begin := range map[string]func(){
		hang:      func() { w.hang(ctx) },
		redeliver: func() { w.play(ctx, againStream, w.deliverAgain) },
		reorder:   func() { w.play(ctx, orderStream, w.outOfOrder) },
		lose:      func() { w.play(ctx, loseStream, w.lost) },
		panics:    func() { w.scenes.Go(func() { w.triggerHooks(ctx) }) },
		strangers: func() { w.flood(ctx) },
	} {
		if w.has(name) {
			begin()
		}
	}
}

// shutDown shuts the servers down. Shutdown must return when its ctx ends, even if a
// service hangs; then, or if the machine is busy, it may return an error.
func (w *world) shutDown() {
	began, most := time.Now(), w.shutDownTime()
	ctx, cancel := context.WithTimeout(context.Background(), most)
	defer cancel()
	err := w.stop(ctx)
	w.oracle.tookTooLong("Shutdown", time.Since(began), most+shutDownSlack, w.lag.since(began))
	if err != nil && w.host.hanging.Load() == 0 && !w.busy(began) {
		w.oracle.breachf("shutting down: %v", err)
	}
	w.host.release()
}

// shutDownTime returns how long the servers have to shut down. The close of a connection over
// polling waits a heartbeat for the client's next poll. If a service hangs, Shutdown takes all its
// time, and its error is no breach.
func (w *world) shutDownTime() time.Duration {
	if w.host.hanging.Load() == 0 && time.Since(time.Unix(0, w.vanishedAt.Load())) < pingInterval+pingTimeout {
		return shutDown + pingTimeout
	}
	return shutDown
}

// vanished records that a client which may have been between two polls has lost its connection. The
// server finds that out by the next heartbeat.
func (w *world) vanished() { w.vanishedAt.Store(time.Now().UnixNano()) }

// endOverdueRun ends a program that takes too long.
func (w *world) endOverdueRun(cfg config) {
	n, first := w.oracle.verdict()
	w.count.Print(cfg.out)
	for _, b := range first {
		fmt.Fprintln(cfg.out, "breach:", b)
	}
	fmt.Fprintf(cfg.out, "the machine's longest recent lag: %v\n", w.lag.since(time.Now().Add(-lagMemory)))
	fmt.Fprintf(cfg.out, "breach: the program has not ended %v after %v; %d breaches before\n", grace, cfg.length, n)
	if cfg.verbose {
		_ = pprof.Lookup("goroutine").WriteTo(cfg.out, 1) // what can't be written can't be read
	}
	os.Exit(1)
}

// newDeadline calls late after bound and the time that lag excuses, unless it is stopped
// before. It uses no goroutine, which would count as leaked.
func newDeadline(bound time.Duration, l *lag, late func()) *time.Timer {
	began := time.Now()
	var t *time.Timer
	t = time.AfterFunc(math.MaxInt64, func() {
		if left := excused(bound, l.since(began)) - time.Since(began); left > 0 {
			t.Reset(left)
			return
		}
		late()
	})
	t.Reset(bound)
	return t
}

// checkHeap records a breach if the heap has grown too much.
func (o *oracle) checkHeap(by, most int64) {
	if by > most {
		o.breachf("the heap grew by %d MiB, but may grow by %d", by>>20, most>>20)
	}
}

// newActors returns the devices of a run: a few admins, and passengers and drivers, some of whom
// have two devices, and some of whom send too much.
func (w *world) newActors(clients int) []*actor {
	var actors []*actor
	device := func(namespace, user string, typ realtime.UserType) *actor {
		a := &actor{
			w: w, rng: w.rng(actorStream, len(actors)), namespace: namespace, user: user, typ: typ,
			address: honest(len(actors)), returns: w.config.recovery && len(actors)%4 != 3, alone: true, logins: 100_000 * len(actors), epoch: 100_000 * len(actors), // no two devices have the same
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
		free.Give(user)
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

// checkGoroutines waits until there are no more goroutines than before the run.
func (w *world) checkGoroutines(cfg config, before int, within time.Duration) {
	deadline := time.Now().Add(within)
	for runtime.NumGoroutine() > before && time.Now().Before(deadline) {
		time.Sleep(20 * time.Millisecond)
	}
	if n := runtime.NumGoroutine(); n > before {
		w.oracle.breachf("%d goroutines are left", n-before)
		if cfg.verbose {
			_ = pprof.Lookup("goroutine").WriteTo(cfg.out, 1) // what can't be written can't be read
		}
	}
}

// extent is the size of the process.
type extent struct {
	goroutines int
	heap       int64
}

// watchPeak starts to record the peak size. The function that it returns stops that.
func watchPeak() func() extent {
	var most extent
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		live := []metrics.Sample{{Name: "/gc/heap/live:bytes"}} // without garbage
		tick := time.NewTicker(200 * time.Millisecond)
		defer tick.Stop()
		for {
			metrics.Read(live)
			most = extent{max(most.goroutines, runtime.NumGoroutine()), max(most.heap, int64(live[0].Value.Uint64()))}
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
