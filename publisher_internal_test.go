// What the server remembers of events and trips, and for how long.

package realtime

import (
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestRecentIDs(t *testing.T) {
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

func TestTripTableKnowsThePeople(t *testing.T) {
	t.Parallel()
	var table tripTable
	require.Equal(t, TripParties{}, table.learn("t1", TripParties{}))
	require.Empty(t, table.trips, "an event that names nobody is nothing to remember")
	require.Equal(t, TripParties{"p1", "offered"}, table.learn("t1", TripParties{"p1", "offered"}))
	require.Equal(t, TripParties{"p1", ""}, table.learn("t1", TripParties{}), "who was offered a trip is not its driver")
	require.Empty(t, table.of(PassengerRoom("p1")), "it has no driver yet")

	table.apply(tripChange{TripID: "t1", DriverID: "d1"})
	require.Equal(t, TripParties{"p1", "d1"}, table.learn("t1", TripParties{}))
	require.Equal(t, []string{"t1"}, table.of(DriverRoom("d1")))
	require.Equal(t, []string{"t1"}, table.of(PassengerRoom("p1")))
	table.apply(tripChange{TripID: "t1", DriverID: "d1", PassengerID: "p1"})
	require.Equal(t, []string{"t1"}, table.of(DriverRoom("d1")), "once")
	table.apply(tripChange{TripID: "t2", DriverID: "d1", PassengerID: "p2"})
	require.ElementsMatch(t, []string{"t1", "t2"}, table.of(DriverRoom("d1")))

	table.apply(tripChange{TripID: "t1", DriverID: "d2"})
	require.Equal(t, []string{"t2"}, table.of(DriverRoom("d1")))
	require.True(t, table.over("t1", "d1"))
	require.False(t, table.over("t1", "d2"))
	require.False(t, table.over("t1", "p1"))
	table.apply(tripChange{TripID: "t1", Unassigned: "d3"})
	require.Equal(t, []string{"t1"}, table.of(DriverRoom("d2")), "it was not d3's")
	table.apply(tripChange{TripID: "t1", Unassigned: "d2"})
	require.Empty(t, table.of(DriverRoom("d2")))
	require.Equal(t, []string{"t1"}, table.of(PassengerRoom("p1")), "the trip runs on")
	require.True(t, table.over("t1", "d2"))
	table.apply(tripChange{TripID: "t1", DriverID: "d2"})
	require.False(t, table.over("t1", "d2"), "his again")

	table.learn("t1", TripParties{PassengerID: "p3"})
	require.Empty(t, table.of(PassengerRoom("p1")))
	require.Equal(t, []string{"t1"}, table.of(PassengerRoom("p3")))

	table.apply(tripChange{TripID: "t1", Ended: true})
	table.apply(tripChange{TripID: "t2", Ended: true})
	table.apply(tripChange{TripID: "never seen", Ended: true})
	require.Empty(t, table.trips)
	require.Empty(t, table.byUser)
	for _, id := range []string{"t1", "t2", "never seen"} {
		require.True(t, table.over(id, "d1"))
	}
}

// That a trip has ended is known for a minute at least, and not for ever.
func TestTripTableForgetsWhatEnded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var table tripTable
		end := func(id string) { table.apply(tripChange{TripID: id, Ended: true}) }
		end("t0")
		for n := 1; n <= 600; n++ { // every ten seconds
			time.Sleep(10 * time.Second)
			end(fmt.Sprint("t", n))
			for k := max(0, n-6); k <= n; k++ {
				require.True(t, table.over(fmt.Sprint("t", k), ""), "%d at %d", k, n)
			}
			require.LessOrEqual(t, len(table.ended)+len(table.before), 15)
		}
	})
}

// A trip whose end was missed is dropped, once there are many.
func TestTripTableForgetsWhatNobodySpeaksOf(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var table tripTable
		assign := func(kind string, n int) {
			table.apply(tripChange{TripID: fmt.Sprint(kind, n), DriverID: "d1", PassengerID: fmt.Sprint("p", kind, n)})
		}
		for n := range 1000 {
			assign("old", n)
		}
		time.Sleep(tripMemory - time.Hour)
		table.learn("old7", TripParties{})
		for n := range 24 {
			assign("new", n)
		}
		time.Sleep(2 * time.Hour)
		require.Len(t, table.trips, 1024)
		assign("new", 24)
		require.Len(t, table.trips, 26)
		require.Len(t, table.of(DriverRoom("d1")), 26)
		require.Len(t, table.byUser, 27)
		require.Equal(t, []string{"old7"}, table.of(PassengerRoom("pold7")))
	})
}
