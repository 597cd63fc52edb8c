// Acknowledging: what was handled is told to Redis while the next events are handled.

package redisbus

import "sync"

// acker acknowledges entries soon after they were handled, those together that were
// handled while it waited for Redis. It has a goroutine only while it waits.
type acker struct {
	send func(ids []string) error

	mu   sync.Mutex    // guards the rest
	ids  []string      // handled and not acknowledged, apart from those under way
	busy chan struct{} // closed when nothing is under way any more; nil then
	err  error         // of the last send; nil while one is under way
}

// add acknowledges an entry, soon.
func (a *acker) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
	a.startLocked()
}

// flush waits until everything is acknowledged, or returns why it is not.
func (a *acker) flush() error {
	a.mu.Lock()
	if len(a.ids) > 0 {
		a.startLocked()
	}
	busy := a.busy
	a.mu.Unlock()
	if busy == nil {
		return nil
	}
	<-busy
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.err
}

func (a *acker) startLocked() {
	if a.busy == nil {
		a.busy, a.err = make(chan struct{}), nil
		go a.run(a.busy)
	}
}

func (a *acker) run(busy chan struct{}) {
	defer close(busy)
	for {
		a.mu.Lock()
		ids := a.ids
		a.ids = nil
		if len(ids) == 0 || a.err != nil {
			a.ids, a.busy = ids, nil
			a.mu.Unlock()
			return
		}
		a.mu.Unlock()
		err := a.send(ids)
		a.mu.Lock()
		if a.err = err; err != nil {
			a.ids = append(ids, a.ids...)
		}
		a.mu.Unlock()
	}
}
