// Collapsed work: what other nodes ask for often, or cause often, is done once for all of them.

package realtime

import (
	"sync"
	"time"
)

const (
	// answerEvery is the minimum time between two full answers of one kind to the other nodes.
	// Whoever can publish as a node can ask as often as they like.
	answerEvery = time.Second
	// againEvery is the minimum time between two publications of all users, which another node asks
	// for when it has forgotten whom it has published as disconnected.
	againEvery = 10 * time.Second
)

// collapsed is work that is done once for several requests. Its methods may be called concurrently
// and do not block.
type collapsed struct {
	mu      sync.Mutex // guards the fields below
	due     bool
	running bool // the goroutine exists
}

// soon calls f after a delay, and at least every after the previous call has ended. Requests until
// then share the call. f is the same at each call of soon.
func (c *collapsed) soon(rt *Server, delay, every time.Duration, f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.due = true
	if !c.running {
		c.running = true
		go c.run(rt, delay, every, f)
	}
}

func (c *collapsed) run(rt *Server, wait, every time.Duration, f func()) {
	for {
		running := rt.pause(wait)
		c.mu.Lock()
		if !running || !c.due {
			c.running = false
			c.mu.Unlock()
			return
		}
		c.due = false
		c.mu.Unlock()
		f()
		wait = every
	}
}
