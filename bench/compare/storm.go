// storm: a server with ten thousand sockets is killed, and all of them connect again, to the same
// one when it has been started again, or to another one. How long until all are back and an event
// has reached them, and what does it take of the server that they come to?

package main

import (
	"context"
	"slices"
	"strconv"
	"time"
)

const stormSample = 250 * time.Millisecond

// storm kills the only server and starts it again.
func (r *runner) storm(ctx context.Context, p peer, m mode) (run, error) {
	s := &scaling{again: true}
	return r.scaled(ctx, p, m, s, s.takeIn, s.broadcast, s.back)
}

// stormSpread kills one of two servers, whose sockets the other takes.
func (r *runner) stormSpread(ctx context.Context, p peer, m mode) (run, error) {
	s := &scaling{victim: 1}
	return r.scaled(ctx, p, m, s, s.takeIn, s.broadcast, s.back)
}

// back kills the server, and waits until its sockets are back and an event has reached all.
func (s *scaling) back(ctx context.Context) error {
	began := time.Now()
	if err := s.end(); err != nil {
		return err
	}
	before := 0.0 // of a process that was started meanwhile
	if !s.again {
		before = s.cpu()
	}
	load := s.watch(before)
	err := s.wait()
	if err == nil {
		err = s.broadcast(ctx)
	}
	peak, all := load()
	if err != nil {
		return err
	}
	s.add("all_back_s", time.Since(began).Seconds())
	s.add("peak_core_pct", peak)
	s.add("cpu_s", all)
	s.add("peak_mib", s.peakMemory()/(1<<20))
	return nil
}

// watch measures, until the function that it returns is called, the CPU of the servers that live:
// the most that they used of a core over a quarter of a second, in percent, and what they used
// since before, in seconds.
func (s *scaling) watch(before float64) (end func() (peak, all float64)) {
	pids := slices.Clone(s.living())
	var peak, all float64
	stop, stopped := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(stopped)
		tick := time.NewTicker(stormSample)
		defer tick.Stop()
		last, at := cpuOf(pids), time.Now()
		for {
			select {
			case <-tick.C:
				now := cpuOf(pids)
				peak = max(peak, 100*(now-last)/time.Since(at).Seconds())
				last, at = now, time.Now()
			case <-stop:
				all = cpuOf(pids) - before
				return
			}
		}
	}()
	return func() (float64, float64) {
		close(stop)
		<-stopped
		return peak, all
	}
}

// peakMemory is the most that the servers' processes had in memory, in bytes.
func (s *scaling) peakMemory() (sum float64) {
	for _, pid := range s.living() {
		sum += fieldKiB("/proc/"+strconv.Itoa(pid)+"/status", "VmHWM:")
	}
	return sum
}
