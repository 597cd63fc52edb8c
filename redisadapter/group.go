// group: like a sync.WaitGroup, but waiting ends with a context.

package redisadapter

import (
	"context"
	"sync"
	"time"
)

// group counts running goroutines. Its wait ends with a context, and goroutines may start
// while another one waits.
type group struct {
	mu   sync.Mutex // guards the rest
	n    int
	idle chan struct{} // closed when n becomes 0; nil: nobody waits
}

func (g *group) begin() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.n++
}

func (g *group) end() {
	g.mu.Lock()
	defer g.mu.Unlock()
	if g.n--; g.n == 0 && g.idle != nil {
		close(g.idle)
		g.idle = nil
	}
}

// start runs f in a goroutine.
func (g *group) start(f func()) {
	g.begin()
	go func() {
		defer g.end()
		f()
	}()
}

// wait waits until no goroutine runs, until ctx ends, or for limit, if it is not zero. It
// reports whether no goroutine runs.
func (g *group) wait(ctx context.Context, limit time.Duration) bool {
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	g.mu.Lock()
	if g.n == 0 {
		g.mu.Unlock()
		return true
	}
	if g.idle == nil {
		g.idle = make(chan struct{})
	}
	idle := g.idle
	g.mu.Unlock()
	select {
	case <-idle:
		return true
	case <-ctx.Done():
		return false
	}
}
