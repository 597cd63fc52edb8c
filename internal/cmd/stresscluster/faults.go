//go:build unix

// Faults: what happens to the nodes, to Redis and to the paths between them in a storm, and how
// it is repaired.

package main

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// The kinds of faults.
const (
	killNode   = "kill"    // a node's process is killed, and started again later
	stopNode   = "stop"    // a node's process does not run for a while
	leaveNode  = "leave"   // a node shuts down, and is started again
	killRedis  = "redis"   // Redis is killed, and started again later
	pauseRedis = "pause"   // Redis does not run for a while
	silence    = "silence" // a node's path to Redis carries nothing
	cutPath    = "cut"     // a node's connections to Redis break, and it gets no new ones
	resetPath  = "reset"   // a node's connections to Redis break
	delayPath  = "delay"   // a node's path to Redis is slow
)

// faultSet is a set of kinds of faults, and a flag.Value.
type faultSet map[string]bool

func allFaults() faultSet {
	return faultSet{
		killNode: true, stopNode: true, leaveNode: true, killRedis: true, pauseRedis: true,
		silence: true, cutPath: true, resetPath: true, delayPath: true,
	}
}

// String implements flag.Value.
func (s *faultSet) String() string { return strings.Join(s.names(), ",") }

func (s *faultSet) names() []string { return slices.Sorted(maps.Keys(*s)) }

// Set implements flag.Value.
func (s *faultSet) Set(text string) error {
	set := faultSet{}
	for name := range strings.SplitSeq(text, ",") {
		if name = strings.TrimSpace(name); !allFaults()[name] {
			all := allFaults()
			return fmt.Errorf("%q is none of %v", name, &all)
		}
		set[name] = true
	}
	*s = set
	return nil
}

// storm is a period with faults.
type storm struct {
	w     *world
	parts sync.WaitGroup

	mu      sync.Mutex // guards the rest
	busy    map[string]bool
	touched map[string]bool // places whose process was touched: never all of them in one storm
}

// storm lets faults happen for a while, and returns when everything was repaired.
func (w *world) storm(ctx context.Context, number int, length time.Duration) {
	rng := w.rng(stormStream, number)
	ctx, cancel := context.WithTimeout(ctx, length)
	defer cancel()
	s := &storm{w: w, busy: map[string]bool{}, touched: map[string]bool{}}
	names := w.config.faults.names()
	for n := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 500*time.Millisecond, 9*time.Second)); n++ {
		kind, at := names[rng.IntN(len(names))], w.places[rng.IntN(nodes)]
		of := w.rng(faultStream, number<<12|n)
		s.parts.Go(func() { s.fault(ctx, of, kind, at) })
	}
	s.parts.Wait()
}

// take reserves something for a fault, and reports whether it was free.
func (s *storm) take(what string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.busy[what] {
		return false
	}
	s.busy[what] = true
	return true
}

// takeProcess reserves a place's process.
func (s *storm) takeProcess(p *place) bool {
	s.mu.Lock()
	s.touched[p.name] = true
	ok := len(s.touched) < nodes
	if !ok {
		delete(s.touched, p.name)
	}
	s.mu.Unlock()
	return ok && s.take("process of "+p.name)
}

func (s *storm) free(what string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.busy, what)
}

// fault makes one fault happen, unless what it needs is in trouble already, and repairs it after
// a while, or when ctx ends.
func (s *storm) fault(ctx context.Context, rng *rand.Rand, kind string, p *place) {
	switch kind {
	case killNode, stopNode, leaveNode:
		if s.takeProcess(p) {
			defer s.free("process of " + p.name)
			s.process(ctx, rng, kind, p)
		}
	case killRedis, pauseRedis:
		if s.take("redis") {
			defer s.free("redis")
			s.redis(ctx, rng, kind)
		}
	default:
		if s.take("path of " + p.name) {
			defer s.free("path of " + p.name)
			s.path(ctx, rng, kind, p)
		}
	}
}

// process is a fault of a node's process.
func (s *storm) process(ctx context.Context, rng *rand.Rand, kind string, p *place) {
	w, l := s.w, p.current()
	if l == nil {
		return
	}
	w.count.Add("faults: "+kind, 1)
	switch kind {
	case stopNode:
		d := stresskit.Between(rng, 500*time.Millisecond, 13*time.Second)
		over := w.oracle.trouble(l, kind)
		w.notef("%s is stopped for %v", l.name, d)
		l.signal(syscall.SIGSTOP)
		stresskit.Sleep(ctx, d)
		l.signal(syscall.SIGCONT)
		w.notef("%s goes on", l.name)
		over()
		return
	case killNode:
		over := w.oracle.trouble(l, kind)
		w.notef("%s is killed", l.name)
		w.oracle.killing(l)
		l.signal(syscall.SIGKILL)
		<-l.ended
		defer over()
	default:
		over := w.oracle.trouble(l, kind)
		w.notef("%s shuts down", l.name)
		w.leave(l)
		defer over()
	}
	stresskit.Sleep(ctx, stresskit.Between(rng, 0, 8*time.Second))
	w.notef("%s is started again", p.name)
	next, err := w.launch(p)
	if err != nil {
		w.oracle.breachf("node %s can't be started again: %v", p.name, err)
		return
	}
	select {
	case <-next.ready:
	case <-time.After(startTime):
		w.oracle.breachf("node %s is not ready after %v", next.name, startTime)
	}
}

// leaveTime is how long a node may take to end after SIGTERM.
const leaveTime = nodeShutdown + nodeLeak + 3*time.Second

// leave shuts a node down, and kills it if that takes too long.
func (w *world) leave(l *life) {
	began := time.Now()
	w.oracle.leaves(l)
	l.signal(syscall.SIGTERM)
	select {
	case <-l.ended:
		w.count.Most("slowest shutdown of a node, ms", int(time.Since(began).Milliseconds()))
	case <-time.After(leaveTime + w.lag.since(began)):
		w.oracle.breachf("node %s has not ended %v after SIGTERM", l.name, leaveTime)
		l.signal(syscall.SIGQUIT) // it prints its goroutines
		<-l.ended
	}
}

// redis is a fault of Redis.
func (s *storm) redis(ctx context.Context, rng *rand.Rand, kind string) {
	w := s.w
	w.count.Add("faults: "+kind, 1)
	over := w.oracle.trouble(nil, kind)
	defer over()
	if kind == pauseRedis {
		d := stresskit.Between(rng, 500*time.Millisecond, 10*time.Second)
		w.notef("Redis is stopped for %v", d)
		if err := w.redis.Pause(); err != nil {
			w.oracle.breachf("Redis can't be stopped: %v", err)
		}
		stresskit.Sleep(ctx, d)
		if err := w.redis.Resume(); err != nil {
			w.oracle.breachf("Redis does not go on: %v", err)
		}
		w.notef("Redis goes on")
		return
	}
	w.notef("Redis is killed")
	w.redis.Kill()
	stresskit.Sleep(ctx, stresskit.Between(rng, 0, 8*time.Second))
	if err := w.redis.Start(); err != nil {
		w.oracle.breachf("Redis can't be started again: %v", err)
	}
	w.notef("Redis is started again")
}

// path is a fault of a node's path to Redis.
func (s *storm) path(ctx context.Context, rng *rand.Rand, kind string, p *place) {
	w, l := s.w, p.current()
	if l == nil {
		return
	}
	w.count.Add("faults: "+kind, 1)
	over := w.oracle.troubleAt(p, kind)
	defer over()
	d := stresskit.Between(rng, 300*time.Millisecond, 11*time.Second)
	w.notef("the path of %s: %s for %v", p.name, kind, d)
	switch kind {
	case silence:
		p.path.Silence(true)
		stresskit.Sleep(ctx, d)
		p.path.Silence(false)
	case cutPath:
		p.path.Refuse(true)
		stresskit.Sleep(ctx, d)
		p.path.Refuse(false)
	case resetPath:
		p.path.Reset()
	case delayPath:
		p.path.Delay(stresskit.Between(rng, 10*time.Millisecond, maxDelay))
		stresskit.Sleep(ctx, d)
		p.path.Delay(0)
	}
	w.notef("the path of %s works again", p.name)
}

// maxDelay is the longest delay of a slow path, in each direction.
const maxDelay = 150 * time.Millisecond

// notef records what happened, for breaches.
func (w *world) notef(format string, args ...any) {
	text := w.oracle.note(fmt.Sprintf(format, args...))
	if w.config.verbose {
		fmt.Fprintln(w.config.out, text)
	}
}
