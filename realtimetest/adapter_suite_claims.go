// The conformance suite for adapters: claims.

package realtimetest

import (
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Of the nodes that claim a key one is first, until it is forgotten. The test passes for an adapter that
// is no Claimer.
func testAdapterClaim(t *testing.T, c *cluster) {
	claim := func(key string, d time.Duration) (first int) {
		var all sync.WaitGroup
		var mu sync.Mutex // guards first
		for i := range 4 * len(c.adapters) {
			claimer, ok := c.adapters[i%len(c.adapters)].(realtime.Claimer)
			if !ok {
				return 1
			}
			all.Go(func() {
				won, err := claimer.Claim(t.Context(), key, d)
				if err != nil {
					t.Errorf("Claim: %v", err)
				}
				mu.Lock()
				defer mu.Unlock()
				if won {
					first++
				}
			})
		}
		all.Wait()
		return first
	}
	for i := range 3 {
		key := fmt.Sprint("/drivers key ", i)
		if n := claim(key, time.Minute); n != 1 {
			t.Fatalf("%d nodes were first, want 1", n)
		}
		if claimer, ok := c.adapters[i].(realtime.Claimer); ok {
			if n := claim(key, time.Minute); n != 0 {
				t.Fatalf("%d nodes were first with a key that is taken", n)
			}
			if err := claimer.Unclaim(t.Context(), key); err != nil {
				t.Fatalf("Unclaim: %v", err)
			}
		}
		if n := claim(key, time.Minute); n != 1 {
			t.Fatalf("%d nodes were first after Unclaim, want 1", n)
		}
	}
	if claim("short", 50*time.Millisecond) == 1 {
		eventually(t, "a claim is forgotten", func() bool { return claim("short", time.Minute) == 1 })
	}
}
