// Acknowledging: handled entries are acknowledged to Redis while the next ones are handled. The
// acker knows ids only; session.go has the call to Redis.

package redisbus

import "sync"

// acker acknowledges handled entries in the background. Entries that are added during a call to
// Redis go together into the next call. It has a goroutine only while there are entries to
// acknowledge. Its methods may be called concurrently.
type acker struct {
	send func(ids []string) error

	mu   sync.Mutex    // guards the rest
	ids  []string      // to be acknowledged, without those of the running call
	busy chan struct{} // closed when the goroutine ends; nil if there is none
	err  error         // of the last call; nil when a goroutine starts
}

// add acknowledges an entry, without waiting for it.
func (a *acker) add(id string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.ids = append(a.ids, id)
	a.startLocked()
}

// flush waits until all added entries are acknowledged, or returns the error of the call that
// failed. The entries of that call are kept for the next flush or add.
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
