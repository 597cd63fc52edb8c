// Lookups of rows: concurrent lookups of one id share a call, rows are cached for a
// short time, and the number of calls is bounded.

package hostcall

import (
	"context"
	"hash/maphash"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// LookupConfig configures a Lookup.
type LookupConfig[T any] struct {
	Find      func(ctx context.Context, id string) (T, error) // calls the repository
	Cacheable func(row T) bool                                // reports whether a row may be cached; called under a lock
	Cache     time.Duration                                   // how long a row is cached; not positive: no cache
	Limits    Limits                                          // of the calls of Find
	Wheel     *timingwheel.Wheel                              // for the timer that drops the cache
}

// Lookup finds rows in a repository. A Find that begins after a Reset returns only what
// was read after it: a handshake after a revocation must not see the row from before.
// golang.org/x/sync/singleflight cannot promise that. The methods of Lookup may be called
// concurrently.
type Lookup[T any] struct {
	cfg   LookupConfig[T]
	kind  *Kind
	seed  maphash.Seed
	epoch time.Time

	mu         sync.Mutex            // guards the fields below, and waiting of each flight
	flights    map[string]*flight[T] // calls that a Find may join, by id
	cache      []cached[T]           // by a hash of the id; nil when every row in it has expired
	generation uint64                // incremented by Reset; rows of an older generation are ignored
	last       time.Duration         // when the newest row was cached, since epoch
	evictTimer timingwheel.Timer     // armed while cache is not nil
}

// flight is a call that several callers wait for. Its ctx ends when the last of them
// stops waiting.
type flight[T any] struct {
	call[T]
	lookup  *Lookup[T]
	id      string
	waiting int
}

func (f *flight[T]) do(ctx context.Context) (T, error) { return f.lookup.cfg.Find(ctx, f.id) }

func (f *flight[T]) then(row T, err error) { f.lookup.end(f, row, err) }

// cachedRows is the size of the cache. A node that restarts may look up more rows than
// this within a second; then rows replace each other early, which bounds the memory.
const cachedRows = 2048

type cached[T any] struct {
	id         string
	row        T
	at         time.Duration // since epoch
	generation uint64
}

// NewLookup returns a Lookup with an empty cache.
func NewLookup[T any](cfg LookupConfig[T]) *Lookup[T] {
	l := &Lookup[T]{cfg: cfg, kind: NewKind(cfg.Limits), seed: maphash.MakeSeed(), epoch: time.Now()}
	l.generation = 1 // empty entries of the cache are of generation 0
	l.evictTimer.F = l.evict
	return l
}

// Reset drops every cached row. A Find that begins later does not join a call that is
// already running.
func (l *Lookup[T]) Reset() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.flights = nil
	l.generation++
}

// Find returns the row of an id from the cache, from a running call for the same id, or
// from a new call. Its errors are those of Do. It returns when ctx ends; when no caller
// waits for a call any more, the call's ctx ends too.
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

// FindFresh calls the repository: it bypasses the cache, joins no running call, and
// does not share or cache its result.
func (l *Lookup[T]) FindFresh(ctx context.Context, id string) (T, error) {
	return Do(ctx, l.kind, id, func(ctx context.Context) (T, error) { return l.cfg.Find(ctx, id) })
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

// beginLocked starts a call that others may join. The call's ctx has the values of the
// first caller's ctx, but not its cancellation.
func (l *Lookup[T]) beginLocked(ctx context.Context, id string) *flight[T] {
	f := &flight[T]{lookup: l, id: id}
	f.kind, f.work = l.kind, f
	if l.flights == nil {
		l.flights = map[string]*flight[T]{}
	}
	l.flights[id] = f
	f.start(context.WithoutCancel(ctx), id)
	return f
}

// end is called when a call has finished, before its waiters get the row. It caches the
// row, unless there was a Reset since the call started.
func (l *Lookup[T]) end(f *flight[T], row T, err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.flights[f.id] != f {
		return
	}
	delete(l.flights, f.id)
	if err != nil || l.cfg.Cache <= 0 || !l.cfg.Cacheable(row) {
		return
	}
	if l.cache == nil {
		l.cache = make([]cached[T], cachedRows)
		l.cfg.Wheel.Arm(&l.evictTimer, l.cfg.Cache)
	}
	l.last = time.Since(l.epoch)
	*l.placeLocked(f.id) = cached[T]{f.id, row, l.last, l.generation}
}

// evict drops the cache when every row in it has expired.
func (l *Lookup[T]) evict() {
	l.mu.Lock()
	defer l.mu.Unlock()
	if left := l.cfg.Cache - (time.Since(l.epoch) - l.last); left > 0 {
		l.cfg.Wheel.Arm(&l.evictTimer, left)
		return
	}
	l.cache = nil
}
