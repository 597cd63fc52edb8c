// Pauses of random lengths, and how long events take.

package stresskit

import (
	"context"
	"math/rand/v2"
	"time"
)

// OnItsWay is how long an event takes at most from one node to another, on a machine that does not lag.
const OnItsWay = 100 * time.Millisecond

// Between returns a random time from low up to high.
func Between(rng *rand.Rand, low, high time.Duration) time.Duration {
	return low + time.Duration(rng.Int64N(int64(high-low)))
}

// Sleep returns false if ctx ended first.
func Sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-t.C:
		return ctx.Err() == nil
	case <-ctx.Done():
		return false
	}
}
