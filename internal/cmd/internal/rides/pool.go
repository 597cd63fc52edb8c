// Who is on no trip, and the dispatcher who takes them.

package rides

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
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

// Dispatch runs trips one after another until ctx ends: each has a passenger, and up to three drivers,
// who are on no other trip meanwhile. Between two trips it pauses for up to pause. number is in the ids
// of its trips.
func Dispatch(ctx context.Context, rng *rand.Rand, number int, pause time.Duration, passengers, drivers *Pool,
	trip func(id, passenger string, drivers []string, driverless bool),
) {
	for n := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 0, pause)); n++ {
		passenger := passengers.Take(rng)
		var offered []string
		for range 1 + rng.IntN(3) {
			if d := drivers.Take(rng); d != "" {
				offered = append(offered, d)
			}
		}
		if passenger != "" && len(offered) > 0 {
			trip(fmt.Sprintf("t%d-%d", number, n), passenger, offered, rng.IntN(10) == 0)
		}
		drivers.Give(offered...)
		if passenger != "" {
			passengers.Give(passenger)
		}
	}
}
