// Which node owns which partitions.

package redisbus_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

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

// A member or an owner that stays much longer than any node asks for, because the clock of Redis
// was set back or somebody wrote it, keeps no partition from the nodes.
func TestMember_TakesPartitionsOfGhosts(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	hour := float64(time.Now().Add(time.Hour).UnixMilli())
	for n := range 5 {
		_, err := r.ZAdd("{realtime}:members:realtime", hour, fmt.Sprint("ghost-", n))
		require.NoError(t, err)
	}
	require.NoError(t, r.Set("{realtime:0}:owner:realtime", "ghost:1"))
	require.NoError(t, r.Set("{realtime:1}:owner:realtime", "ghost:2"))
	r.SetTTL("{realtime:1}:owner:realtime", time.Hour)
	b := newBus(t, r.url(), nil)
	subscribe(t, b, new(recorder).handle)
	eventually(t, "the node owns all partitions", func() bool {
		return slices.Equal(r.owned(false), []int{4}) && slices.Equal(r.owned(true), []int{2})
	})
}

// Two nodes with one name, as copies of one process have, share the partitions by their leases.
func TestMember_SameNameTwice_EachEventIsHandledOnce(t *testing.T) {
	t.Parallel()
	r := startRedis(t)
	publisher := newBus(t, r.url(), nil)
	var got recorder
	for range 2 {
		b := newBus(t, r.url(), nil)
		b.SetName("twin")
		subscribe(t, b, got.handle)
	}
	eventually(t, "all partitions have owners", func() bool { return len(r.owned(false)) > 0 && len(r.owned(true)) > 0 })
	const each = 30
	for n := range each {
		for key := range 10 {
			require.NoError(t, publisher.Publish(t.Context(), event(string(rune('a'+key)), n)))
		}
	}
	eventually(t, "all are handled", func() bool { return len(got.all()) >= 10*each })
	time.Sleep(5 * quick) // for repeats
	next := map[string]int{}
	for _, e := range got.all() {
		require.Equal(t, event(e.Key, next[e.Key]).ID, e.ID)
		next[e.Key]++
	}
}
