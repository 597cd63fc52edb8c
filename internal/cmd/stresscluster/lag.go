//go:build unix

// The lag of the machine: by how much it delays everything, which extends all bounds.

package main

import (
	"sync"
	"time"
)

// lagStep is how often the lag is measured, and lagMemory how long measurements are kept.
const (
	lagStep   = 20 * time.Millisecond
	lagMemory = 2 * time.Minute
)

// delay is one measurement.
type delay struct {
	at   time.Time
	held time.Duration
}

// longestOf returns the longest delay of a period.
func longestOf(all []delay, from, to time.Time) (longest time.Duration) {
	for _, d := range all {
		if !d.at.Before(from) && !d.at.Add(-d.held).After(to) {
			longest = max(longest, d.held)
		}
	}
	return longest
}

// lag measures by how much longer than asked the program sleeps. All methods may be called
// concurrently.
type lag struct {
	stop  chan struct{}
	ended sync.WaitGroup

	mu   sync.Mutex // guards past
	past []delay    // the notable ones
	most time.Duration
}

func newLag() *lag {
	l := &lag{stop: make(chan struct{})}
	l.ended.Go(func() {
		for {
			began := time.Now()
			select {
			case <-time.After(lagStep):
			case <-l.stop:
				return
			}
			l.add(time.Now(), time.Since(began)-lagStep)
		}
	})
	return l
}

func (l *lag) close() {
	close(l.stop)
	l.ended.Wait()
}

func (l *lag) add(at time.Time, held time.Duration) {
	if held < 5*time.Millisecond {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	for len(l.past) > 0 && at.Sub(l.past[0].at) > lagMemory {
		l.past = l.past[1:]
	}
	l.past = append(l.past, delay{at, held})
	l.most = max(l.most, held)
}

// since returns by how much a bound is extended that began then: ten times the longest lag,
// because what is waited for takes several turns of several processes.
func (l *lag) since(began time.Time) time.Duration { return l.between(began, time.Now()) }

// between returns by how much a bound is extended that began then, and is asked for at its end.
func (l *lag) between(began, end time.Time) time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return 10 * longestOf(l.past, began, end)
}

// longest returns the longest lag of all.
func (l *lag) longest() time.Duration {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.most
}
