// Who is on no trip.

package rides

import (
	"math/rand/v2"
	"sync"
)

// Pool holds the users who are on no trip. All methods may be called concurrently.
type Pool struct {
	mu   sync.Mutex // guards free
	free []string
}

// Take removes and returns a random user, or "" if there is none.
func (p *Pool) Take(rng *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return ""
	}
	i := rng.IntN(len(p.free))
	user := p.free[i]
	p.free[i] = p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return user
}

// Give returns users to the pool.
func (p *Pool) Give(users ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, users...)
}
