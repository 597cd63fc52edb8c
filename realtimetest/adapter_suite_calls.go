// The conformance suite for adapters: calls with an idempotency key.

package realtimetest

import (
	"bytes"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Of the nodes that claim a key one stores its value, and all nodes see it, until it is replaced, removed
// or forgotten. The test passes for an adapter that is no CallKeeper.
func testAdapterCalls(t *testing.T, c *cluster) {
	var keepers []realtime.CallKeeper
	for _, a := range c.adapters {
		k, ok := a.(realtime.CallKeeper)
		if !ok {
			return
		}
		keepers = append(keepers, k)
	}
	find := func(key, want string) {
		t.Helper()
		for i, k := range keepers {
			switch value, err := k.FindCall(t.Context(), key); {
			case err != nil:
				t.Fatalf("FindCall: %v", err)
			case string(value) != want || (value == nil) != (want == ""):
				t.Fatalf("node %d found %.40q, want %.40q", i, value, want)
			}
		}
	}
	const key, other = "a_-Z09", "a_-Z0"
	find(key, "")
	value := claimAtOnce(t, keepers, key)
	find(key, value)
	find(other, "")

	whole := make([]byte, 8<<10) // every byte, as much as a value may have
	for i := range whole {
		whole[i] = byte(i)
	}
	given := bytes.Clone(whole)
	if err := keepers[1].KeepCall(t.Context(), key, given, time.Minute); err != nil {
		t.Fatalf("KeepCall: %v", err)
	}
	clear(given)
	find(key, string(whole))
	held, err := keepers[2].ClaimCall(t.Context(), key, []byte("new"), time.Minute)
	if err != nil || !bytes.Equal(held, whole) {
		t.Fatalf("ClaimCall of a key that is taken: %.40q, %v", held, err)
	}
	clear(held)
	find(key, string(whole))

	for range 2 { // the second time there is none
		if err := keepers[0].ForgetCall(t.Context(), key); err != nil {
			t.Fatalf("ForgetCall: %v", err)
		}
		find(key, "")
	}
	claimAtOnce(t, keepers, key)
	if err := keepers[0].KeepCall(t.Context(), key, []byte("short"), 50*time.Millisecond); err != nil {
		t.Fatalf("KeepCall: %v", err)
	}
	eventually(t, "a value is forgotten", func() bool {
		held, err := keepers[1].ClaimCall(t.Context(), key, []byte("next"), 50*time.Millisecond)
		return err == nil && held == nil
	})
	eventually(t, "a claim is forgotten", func() bool {
		value, err := keepers[2].FindCall(t.Context(), key)
		return err == nil && value == nil
	})
}

// claimAtOnce claims a key, which has no value, several times on each node at once, and returns the value
// of the one that has stored its own. The others have found that value.
func claimAtOnce(t *testing.T, keepers []realtime.CallKeeper, key string) (value string) {
	t.Helper()
	var all sync.WaitGroup
	var mu sync.Mutex // guards the following
	var stored, found []string
	for i := range 4 * len(keepers) {
		all.Go(func() {
			own := fmt.Sprint("claim ", i)
			held, err := keepers[i%len(keepers)].ClaimCall(t.Context(), key, []byte(own), time.Minute)
			if err != nil {
				t.Errorf("ClaimCall: %v", err)
			}
			mu.Lock()
			defer mu.Unlock()
			if held == nil {
				stored = append(stored, own)
			} else {
				found = append(found, string(held))
			}
		})
	}
	all.Wait()
	if len(stored) != 1 {
		t.Fatalf("%d claims were stored, want 1", len(stored))
	}
	for _, f := range found {
		if f != stored[0] {
			t.Fatalf("a node has found %q, want %q", f, stored[0])
		}
	}
	return stored[0]
}
