// The memory of event ids, and how long an id stays in it.

package realtime

import (
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRecentIDs_Add(t *testing.T) {
	t.Parallel()
	r := recentIDs{size: 3}
	for n, step := range []struct {
		id    string
		fresh bool
	}{
		{"a", true}, {"b", true}, {"a", false}, {"c", true}, {"d", true}, {"b", false}, {"c", false}, {"d", false},
		{"a", true}, {"b", true}, {"c", true}, {"b", false}, {"d", true}, {"", true}, {"", true},
	} {
		require.Equal(t, step.fresh, r.add(step.id), n)
	}
	require.Len(t, r.ids, 3)
	require.Len(t, r.ring, 3)

	none := recentIDs{size: -1}
	require.True(t, none.add("a"))
	require.True(t, none.add("a"))

	// Of many at a time, one is the first.
	same := recentIDs{size: 100}
	var adding sync.WaitGroup
	var mu sync.Mutex
	first := 0
	for range 50 {
		adding.Go(func() {
			if same.add("x") {
				mu.Lock()
				defer mu.Unlock()
				first++
			}
		})
	}
	adding.Wait()
	require.Equal(t, 1, first)
}
