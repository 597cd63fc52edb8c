// Which node owns which partitions.

package redisbus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/redisbus"
)

// owned returns how many partitions of a kind each node owns, sorted.
func (r *fakeRedis) owned(access bool) (counts []int) {
	by := map[string]int{}
	for _, key := range r.Keys() {
		if strings.Contains(key, ":owner:") && strings.Contains(key, ":access") == access {
			owner, _ := r.Get(key)
			name, _, _ := strings.Cut(owner, ":")
			by[name]++
		}
	}
	for _, n := range by {
		counts = append(counts, n)
	}
	slices.Sort(counts)
	return counts
}

// Each kind of partition is shared by itself: a node that had access partitions alone
// would do nothing for the trips.
func TestMember_TakesItsShare(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	want := func(ordinary, access []int) {
		t.Helper()
		eventually(t, fmt.Sprint("shares of ", ordinary, access), func() bool {
			return slices.Equal(r.owned(false), ordinary) && slices.Equal(r.owned(true), access)
		})
	}
	var buses []*redisbus.Bus
	var cancels []func()
	for range 3 {
		b := newBus(t, r.url(), nil)
		buses = append(buses, b)
		cancels = append(cancels, subscribe(t, b, new(recorder).handle))
	}
	want([]int{1, 1, 2}, []int{1, 1})
	cancels[0]()
	want([]int{2, 2}, []int{1, 1})
	closeBus(t, buses[1])
	want([]int{4}, []int{2})
	cancels[2]()
	want(nil, nil)
	cancel, err := buses[0].Subscribe(new(recorder).handle)
	require.NoError(t, err)
	want([]int{4}, []int{2})
	cancel()
}
