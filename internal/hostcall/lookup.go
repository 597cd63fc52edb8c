// Lookups of rows that many want at once: equal ones collapse, a row answers for a
// moment more, and only so many are asked for at once.

package hostcall

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// LookupConfig says what a Lookup asks, and for how long an answer counts.
type LookupConfig[T any] struct {
	Find      func(ctx context.Context, id string) (T, error)
	Cacheable func(row T) bool // whether a row may answer others too
	Cache     time.Duration    // for how long it does; not positive: not at all
	Limits    Limits           // of Find
	Wheel     *timingwheel.Wheel
}

// Lookup asks a repository. What Find returns after a Reset was asked for after it,
// which golang.org/x/sync/singleflight has no notion of: a revocation must never be
// answered with what was known before it. Its methods may be called concurrently.
type Lookup[T any] struct {
	cfg   LookupConfig[T]
	kind  *Kind
	seed  maphash.Seed
	epoch time.Time

	mu         sync.Mutex // guards what follows, and the flights
	flights    map[string]*flight[T]
	cache      []cached[T]       // by a hash of the id; nil while nobody has asked for long
	generation uint64            // of the rows that count: how often there was a Reset
	last       time.Duration     // when a row was cached last, since epoch
	evictTimer timingwheel.Timer // armed while there is a cache
}

// flight is a call that several may wait for. Its ctx ends with the last of them.
type flight[T any] struct {
	call[T]
	waiting int
}

// cachedRows is how many rows are cached at most. A node that restarts is asked for
// more within a second; then a row gives way to another one, sooner than it has to,
// instead of tens of thousands being held.
const cachedRows = 2048

type cached[T any] struct {
	id         string
	row        T
	at         time.Duration // since epoch
	generation uint64
}

// NewLookup returns a Lookup that has asked for nothing yet.
func NewLookup[T any](cfg LookupConfig[T]) *Lookup[T] {
	l := &Lookup[T]{cfg: cfg, kind: NewKind(cfg.Limits), seed: maphash.MakeSeed(), epoch: time.Now()}
	l.generation = 1 // an empty place is of generation 0
	l.evictTimer.F = l.evict
	return l
}

// Reset forgets every row, and keeps calls that are running from answering those who
// ask from now on.
func (l *Lookup[T]) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flights = nil
	l.generation++
}

// Find returns a row, or an error of Do. It waits no longer than ctx; a call that
// nobody waits for any more has its ctx ended.
func (l *Lookup[T]) Find(ctx context.Context, id string) (row T, err error) {
	if err := ctx.Err(); err != nil {
		return row, err
	}
	l.mu.Lock()
	if row, ok := l.cachedLocked(id); ok {
		l.mu.Unlock()
		return row, nil
	}
	f := l.flights[id]
	if f == nil {
		f = l.beginLocked(ctx, id)
	}
	f.waiting++
	l.mu.Unlock()
	select {
	case <-f.done:
		return f.v, f.err
	case <-ctx.Done():
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	if f.waiting--; f.waiting == 0 {
		f.cancel()
		if l.flights[id] == f {
			delete(l.flights, id)
		}
	}
	return row, ctx.Err()
}

// FindFresh asks for a row now, past the cache, and for nobody else.
func (l *Lookup[T]) FindFresh(ctx context.Context, id string) (T, error) {
	return Do(ctx, l.kind, nil, func(ctx context.Context) (T, error) { return l.cfg.Find(ctx, id) })
}

// Abandoned returns how many calls are abandoned now.
func (l *Lookup[T]) Abandoned() int { return l.kind.Abandoned() }

func (l *Lookup[T]) cachedLocked(id string) (row T, ok bool) {
	if l.cache == nil {
		return row, false
	}
	c := l.placeLocked(id)
	if c.id != id || c.generation != l.generation || time.Since(l.epoch)-c.at >= l.cfg.Cache {
		return row, false
	}
	return c.row, true
}

func (l *Lookup[T]) placeLocked(id string) *cached[T] {
	return &l.cache[maphash.String(l.seed, id)%cachedRows]
}

// beginLocked begins a call for all who wait, with the values of the first one's ctx.
func (l *Lookup[T]) beginLocked(ctx context.Context, id string) *flight[T] {
	f := &flight[T]{}
	f.kind = l.kind
	f.f = func(ctx context.Context) (T, error) { return l.cfg.Find(ctx, id) }
	f.then = func(row T, err error) { l.end(id, f, row, err) }
	if l.flights == nil {
		l.flights = map[string]*flight[T]{}
	}
	l.flights[id] = f
	f.start(context.WithoutCancel(ctx), nil)
	return f
}

// end is called when a call is over, before those who wait get its row, which is
// cached unless it was asked for before a Reset.
func (l *Lookup[T]) end(id string, f *flight[T], row T, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flights[id] != f {
		return
	}
	delete(l.flights, id)
	if err != nil || l.cfg.Cache <= 0 || !l.cfg.Cacheable(row) {
		return
	}
	if l.cache == nil {
		l.cache = make([]cached[T], cachedRows)
		l.cfg.Wheel.Arm(&l.evictTimer, l.cfg.Cache)
	}
	l.last = time.Since(l.epoch)
	*l.placeLocked(id) = cached[T]{id, row, l.last, l.generation}
}

// evict drops the cache when no row in it is young enough to answer.
func (l *Lookup[T]) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.cfg.Cache - (time.Since(l.epoch) - l.last); left > 0 {
		l.cfg.Wheel.Arm(&l.evictTimer, left)
		return
	}
	l.cache = nil
}
