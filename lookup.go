// Look-ups of users and sessions for handshakes: equal ones collapse, a row
// answers for a moment more, and only so many are asked at once. A node that
// restarts gets all of its clients back within seconds.

package realtime

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/wheel"
)

// maxLost is how many questions, as a multiple of Options.RepoConcurrency, may
// have been given up and be still under way.
const maxLost = 16

// finder asks a repository. A revocation must never be answered with what was
// known before it, so reset both empties the cache and cuts off the look-ups
// under way, which golang.org/x/sync/singleflight has no notion of.
//
// finder.mu guards everything below it and the flights.
type finder[T any] struct {
	rt    *Server
	ask   func(ctx context.Context, id string) (T, error)
	good  func(row T) bool // whether it may be kept: one that refuses is asked for anew
	slots chan struct{}    // holds one for each question under way

	mu      sync.Mutex
	flights map[string]*flight[T]
	kept    []kept[T]     // by a hash of the id; nil while nobody has asked for long
	era     uint64        // of the rows that count: how often there was a reset
	last    time.Duration // when a row was kept last, since epoch
	turn    wheel.Timer   // looks whether kept is needed; armed while there is one
	lost    int           // questions given up that still run
	seed    maphash.Seed
	epoch   time.Time
}

// flight is a look-up under way.
type flight[T any] struct {
	timer wheel.Timer
	done  chan struct{} // closed when it is over; nil when nobody waits
	over  bool
	lost  bool // given up, its slot is free
	row   T
	err   error
}

// keptRows is how many rows are remembered at most. A node that restarts is asked
// for more within a second; then a row gives way to another one, sooner than it has
// to, instead of tens of thousands being held.
const keptRows = 2048

type kept[T any] struct {
	id  string
	row T
	at  time.Duration // since epoch
	era uint64
}

func newFinder[T any](rt *Server, ask func(ctx context.Context, id string) (T, error), good func(row T) bool) *finder[T] {
	f := &finder[T]{rt: rt, ask: ask, good: good, slots: make(chan struct{}, rt.opts.RepoConcurrency)}
	f.turn.F = f.turned
	f.seed, f.epoch, f.era = maphash.MakeSeed(), time.Now(), 1 // an empty place is of era 0
	return f
}

// reset forgets every row: what find returns from now on was asked for from now
// on.
func (f *finder[T]) reset() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.flights = nil
	f.era++
}

// find returns a row. It waits no longer than ctx, unless it is the one who asks.
func (f *finder[T]) find(ctx context.Context, id string) (row T, err error) {
	f.mu.Lock()
	if row, ok := f.cachedLocked(id); ok {
		f.mu.Unlock()
		return row, nil
	}
	fl := f.flights[id]
	if fl == nil {
		fl = &flight[T]{}
		if f.flights == nil {
			f.flights = map[string]*flight[T]{}
		}
		f.flights[id] = fl
		f.mu.Unlock()
		return f.lead(ctx, id, fl)
	}
	if fl.done == nil {
		fl.done = make(chan struct{})
	}
	done := fl.done
	f.mu.Unlock()
	select {
	case <-done:
		return fl.row, fl.err
	case <-ctx.Done():
		return row, ctx.Err()
	}
}

// anew is find for who knows that the row may just have changed: it is asked for
// now, and for nobody else.
func (f *finder[T]) anew(ctx context.Context, id string) (row T, err error) {
	return f.lead(ctx, id, &flight[T]{})
}

func (f *finder[T]) cachedLocked(id string) (row T, ok bool) {
	if f.kept == nil {
		return row, false
	}
	k := f.placeLocked(id)
	if k.id != id || k.era != f.era || time.Since(f.epoch)-k.at >= f.rt.opts.RepoCache {
		return row, false
	}
	return k.row, true
}

func (f *finder[T]) placeLocked(id string) *kept[T] {
	return &f.kept[maphash.String(f.seed, id)%keptRows]
}

// lead asks, for all who wait.
func (f *finder[T]) lead(ctx context.Context, id string, fl *flight[T]) (row T, err error) {
	select {
	case f.slots <- struct{}{}:
	default:
		select {
		case f.slots <- struct{}{}:
		case <-ctx.Done():
			f.mu.Lock()
			defer f.mu.Unlock()
			f.endLocked(id, fl, row, ctx.Err())
			return row, ctx.Err()
		}
	}
	fl.timer.F = func() { f.giveUp(id, fl) }
	f.rt.wheel.Arm(&fl.timer, f.rt.opts.RepoTimeout)
	row, err = f.question(ctx, id)
	f.rt.wheel.Stop(&fl.timer)

	f.mu.Lock()
	defer f.mu.Unlock()
	f.endLocked(id, fl, row, err)
	if fl.lost {
		f.lost--
	} else {
		<-f.slots
	}
	return row, err
}

// question asks the host, whose panic is an error.
func (f *finder[T]) question(ctx context.Context, id string) (row T, err error) {
	defer caught(&err)
	return f.ask(ctx, id)
}

// giveUp lets those who wait go when a repository does not heed its context, and
// has somebody else ask, up to a number: beyond that the repository is taken to
// be gone, and find fails until it answers.
func (f *finder[T]) giveUp(id string, fl *flight[T]) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if fl.over {
		return
	}
	var none T
	f.endLocked(id, fl, none, errRepoTimeout)
	if f.lost < maxLost*cap(f.slots) {
		f.lost++
		fl.lost = true
		<-f.slots
	}
}

// endLocked tells those who wait; the first end counts. A good row is kept unless
// it was asked for before a reset.
func (f *finder[T]) endLocked(id string, fl *flight[T], row T, err error) {
	if fl.over {
		return
	}
	fl.over, fl.row, fl.err = true, row, err
	if fl.done != nil {
		close(fl.done)
	}
	if f.flights[id] != fl {
		return
	}
	delete(f.flights, id)
	if err != nil || f.rt.opts.RepoCache < 0 || !f.good(row) {
		return
	}
	if f.kept == nil {
		f.kept = make([]kept[T], keptRows)
		f.rt.wheel.Arm(&f.turn, f.rt.opts.RepoCache)
	}
	f.last = time.Since(f.epoch)
	*f.placeLocked(id) = kept[T]{id, row, f.last, f.era}
}

// turned gives the memory back when no row is young enough to answer.
func (f *finder[T]) turned() {
	f.mu.Lock()
	defer f.mu.Unlock()
	if left := f.rt.opts.RepoCache - (time.Since(f.epoch) - f.last); left > 0 {
		f.rt.wheel.Arm(&f.turn, left)
		return
	}
	f.kept = nil
}
