// What a test measures while something fails: how busy the machine is, and what a check says.

package redistest

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"
)

// TooBusy is a time without an answer after which a machine may be too busy for the nodes: they give
// up a connection that is silent for 2 s, and other tests run beside.
const TooBusy = time.Second

// Intervals of the questions of a Pulse and of the calls of a Watch.
const (
	pulseInterval = 50 * time.Millisecond
	watchInterval = 10 * time.Millisecond
)

// noticing is how long a node may take to report a fault after its cause has ended.
const noticing = 5 * time.Second

// Pulse asks for an answer all the time, and knows for how long there was none. A test that says
// "the machine was too busy" has to show it with a Pulse.
type Pulse struct {
	mu    sync.Mutex  // guards beats
	beats []time.Time // the answers, after the time of the start
}

// StartPulse starts a pulse that ends with the test. ask reports whether there was an answer.
func StartPulse(t testing.TB, ask func() bool) *Pulse {
	t.Helper()
	p := &Pulse{beats: []time.Time{time.Now()}}
	repeat(t, pulseInterval, func(context.Context) {
		if ask() {
			p.mu.Lock()
			defer p.mu.Unlock()
			p.beats = append(p.beats, time.Now())
		}
	})
	return p
}

// StartOwnPulse starts a pulse of this process: whether it runs at all.
func StartOwnPulse(t testing.TB) *Pulse {
	t.Helper()
	return StartPulse(t, func() bool { return true })
}

// Longest returns the longest time between two answers, of those that touch the period.
func (p *Pulse) Longest(from, to time.Time) (longest time.Duration) {
	for _, pause := range p.pauses(from, to) {
		longest = max(longest, pause)
	}
	return longest
}

// InTime fails the test if more than a limit has passed since a time, for which long pauses do not count.
func (p *Pulse) InTime(t testing.TB, since time.Time, limit time.Duration, what string) {
	t.Helper()
	now := time.Now()
	took, paused := now.Sub(since), time.Duration(0)
	for _, pause := range p.pauses(since, now) {
		if pause > 4*pulseInterval {
			paused += pause
		}
	}
	if took > limit+paused {
		t.Fatalf("%s: it took %v, more than %v, with pauses of %v", what, took, limit, paused)
	}
}

// pauses returns the times between two answers that touch the period.
func (p *Pulse) pauses(from, to time.Time) (pauses []time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	last := p.beats[0]
	for _, beat := range append(slices.Clone(p.beats[1:]), time.Now()) {
		if last.Before(to) && beat.After(from) {
			pauses = append(pauses, beat.Sub(last))
		}
		last = beat
	}
	return pauses
}

// Red is a time during which a check returned errors, the first of which is Err.
type Red struct {
	From, To time.Time
	Err      error
}

// Watch calls a check all the time, and knows when it returned an error.
type Watch struct {
	mu   sync.Mutex // guards the rest
	reds []Red
	red  bool // now
}

// StartWatch starts a watch that ends with the test.
func StartWatch(t testing.TB, check func(context.Context) error) *Watch {
	t.Helper()
	w := &Watch{}
	repeat(t, watchInterval, func(ctx context.Context) {
		if err := check(ctx); ctx.Err() == nil {
			w.add(err)
		}
	})
	return w
}

func (w *Watch) add(err error) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if err != nil && !w.red {
		w.reds = append(w.reds, Red{From: time.Now(), Err: err})
	}
	w.red = err != nil
	if w.red {
		w.reds[len(w.reds)-1].To = time.Now()
	}
}

// Reds returns the times during which the check returned errors.
func (w *Watch) Reds() []Red {
	w.mu.Lock()
	defer w.mu.Unlock()
	return slices.Clone(w.reds)
}

// Unexcused returns the Reds that no busy machine excuses: by its pulse it was not, shortly before.
func (w *Watch) Unexcused(machine *Pulse) []Red {
	return slices.DeleteFunc(w.Reds(), func(r Red) bool { return machine.Longest(r.From.Add(-noticing), r.To) >= TooBusy })
}

// repeat calls f again and again until the test ends.
func repeat(t testing.TB, pause time.Duration, f func(ctx context.Context)) {
	ctx, cancel := context.WithCancel(context.Background())
	var running sync.WaitGroup
	running.Go(func() {
		for ctx.Err() == nil {
			f(ctx)
			select {
			case <-time.After(pause):
			case <-ctx.Done():
			}
		}
	})
	t.Cleanup(func() {
		cancel()
		running.Wait()
	})
}
