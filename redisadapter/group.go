// A group of goroutines that may grow while it is waited for.

package redisadapter

import (
	"context"
	"sync"
	"time"
)

// group counts running goroutines. Unlike a sync.WaitGroup's, its wait ends with a
// context, and more may begin meanwhile.
type group struct {
	mu   sync.Mutex // guards the rest
	n    int
	idle chan struct{} // closed when nothing runs; nil while nobody waits
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

// start runs f.
func (g *group) start(f func()) {
	g.begin()
	go func() {
		defer g.end()
		f()
	}()
}

// wait waits until nothing runs, within ctx and, unless it is zero, for a time.
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
