// The people of a trip, from events in and out of order.

package triptable_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/triptable"
)

// world is a table and its clock.
type world struct {
	*triptable.Table
	now time.Time
}

func newWorld() *world {
	w := &world{now: time.Date(2030, 1, 2, 3, 4, 5, 0, time.UTC)}
	w.Table = triptable.New(func() time.Time { return w.now })
	return w
}

// at returns the time that is a number of seconds after the world's now.
func (w *world) at(seconds int) time.Time { return w.now.Add(time.Duration(seconds) * time.Second) }

func driver(id string) triptable.Person    { return triptable.Person{Driver: true, ID: id} }
func passenger(id string) triptable.Person { return triptable.Person{ID: id} }

func (w *world) assign(trip, driver, passenger string, at time.Time) triptable.Result {
	return w.Apply(triptable.Event{Kind: triptable.Assigns, Trip: trip, Driver: driver, Passenger: passenger, At: at})
}

func (w *world) accept(trip, assignment, driver string, at time.Time) triptable.Result {
	return w.Apply(triptable.Event{Kind: triptable.Assigns, Trip: trip, Assignment: assignment, Driver: driver, At: at})
}

func (w *world) release(trip, assignment, driver string, at time.Time) triptable.Result {
	return w.Apply(triptable.Event{Kind: triptable.Releases, Trip: trip, Assignment: assignment, Driver: driver, At: at})
}

func (w *world) say(kind triptable.Kind, trip, passenger string, at time.Time) triptable.Result {
	return w.Apply(triptable.Event{Kind: kind, Trip: trip, Passenger: passenger, At: at})
}

// always, as since, means changes at any time.
var always time.Time

func TestTable_KnowsThePeople(t *testing.T) {
	t.Parallel()
	w := newWorld()
	require.Equal(t, triptable.Result{}, w.say(triptable.Opens, "t1", "", w.now))
	require.Zero(t, w.Len(), "an event without people is not recorded")
	require.Equal(t, triptable.Parties{Passenger: "p1"}, w.say(triptable.Opens, "t1", "p1", w.now).Parties)
	require.Empty(t, w.TripsOf(passenger("p1"), always), "it has no driver yet")

	res := w.assign("t1", "d1", "", w.now)
	require.Equal(t, triptable.Parties{Passenger: "p1", Driver: "d1"}, res.Parties)
	require.Equal(t, triptable.Moves{Driver: "d1", Passenger: "p1"}, res.Moves)
	require.True(t, res.Changed)
	require.Equal(t, []string{"t1"}, w.TripsOf(driver("d1"), always))
	require.Equal(t, []string{"t1"}, w.TripsOf(passenger("p1"), always))
	res = w.assign("t1", "d1", "p1", w.now)
	require.False(t, res.Changed)
	require.Equal(t, []string{"t1"}, w.TripsOf(driver("d1"), always), "once")
	w.assign("t2", "d1", "p2", w.now)
	require.ElementsMatch(t, []string{"t1", "t2"}, w.TripsOf(driver("d1"), always))

	w.assign("t1", "d2", "", w.now)
	require.Equal(t, []string{"t2"}, w.TripsOf(driver("d1"), always))
	require.True(t, w.HasLeft("t1", driver("d1"), always))
	require.False(t, w.HasLeft("t1", driver("d2"), always))
	require.False(t, w.HasLeft("t1", passenger("p1"), always))

	res = w.say(triptable.Ends, "t1", "", w.now)
	require.Equal(t, triptable.Parties{Passenger: "p1", Driver: "d2"}, res.Parties, "the people until its end")
	require.Equal(t, triptable.Moves{Everybody: true}, res.Moves)
	w.say(triptable.Ends, "t2", "", w.now)
	w.say(triptable.Ends, "never seen", "", w.now)
	require.Zero(t, w.Len())
	for _, id := range []string{"t1", "t2", "never seen"} {
		require.True(t, w.HasLeft(id, driver("d1"), always))
	}
	require.Empty(t, w.TripsOf(driver("d1"), always))
}

// An end is final, whatever its time and whatever event arrives later.
func TestTable_EndIsFinal(t *testing.T) {
	t.Parallel()
	for _, age := range []time.Duration{0, time.Minute, 20 * time.Hour, triptable.Memory, 40 * time.Hour, 100 * time.Hour} {
		for _, ended := range []int{-10, 10} { // before the assignment, by its own time, or after it
			w := newWorld()
			begun := w.now
			w.assign("t1", "d1", "p1", begun)
			w.say(triptable.Ends, "t1", "", w.at(ended))
			for day := time.Duration(0); day < age; day += 12 * time.Hour { // other trips end, so generations rotate
				w.now = begun.Add(day)
				w.say(triptable.Ends, fmt.Sprint("other", day), "", w.now)
			}
			w.now = begun.Add(age)
			for _, kind := range []triptable.Kind{triptable.Assigns, triptable.Opens, triptable.Suspends} {
				if age > triptable.Memory && kind != triptable.Assigns {
					continue // the end is forgotten; these kinds put nobody into a room
				}
				res := w.Apply(triptable.Event{Kind: kind, Trip: "t1", At: begun, Driver: "d1", Passenger: "p1"})
				require.True(t, res.Outdated, "kind %d after %v", kind, age)
				require.Empty(t, res.Moves)
			}
			require.Empty(t, w.TripsOf(driver("d1"), always))
			require.Zero(t, w.Len())
			if age <= triptable.Memory {
				require.True(t, w.assign("t1", "d1", "p1", w.now).Outdated, "not even with a newer time")
				require.False(t, w.say(triptable.Notes, "t1", "p1", w.now).Outdated, "a note about an ended trip is sent")
				require.False(t, w.release("t1", "as1", "d1", w.now).Outdated)
				again := w.say(triptable.Ends, "t1", "", w.now)
				require.False(t, again.Outdated)
				require.False(t, again.Changed)
				require.Zero(t, w.Len())
			}
		}
	}
}

func TestTable_NewerAssignmentDecides(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.assign("t1", "d1", "p1", w.at(1))
	w.assign("t1", "d2", "p1", w.at(2))
	require.True(t, w.assign("t1", "d1", "p1", w.at(1)).Outdated)
	require.Equal(t, "d2", w.Known("t1").Driver)
	require.False(t, w.assign("t1", "d1", "p1", w.at(3)).Outdated)
	require.Equal(t, "d1", w.Known("t1").Driver)

	// One driver, named by two events that arrive in the reverse order.
	require.False(t, w.accept("t2", "as1", "d1", w.at(5)).Outdated)
	require.False(t, w.assign("t2", "d1", "p1", w.at(4)).Outdated)
	// The other pair of events.
	require.False(t, w.assign("t3", "d1", "p1", w.at(5)).Outdated)
	require.False(t, w.accept("t3", "as1", "d1", w.at(4)).Outdated)
	require.Equal(t, []string{"d1"}, w.release("t3", "as1", "d1", w.at(6)).Moves.Leaves)

	// A driver who was taken off stays off, and so does an earlier driver.
	w.assign("t4", "d0", "p1", w.at(1))
	w.accept("t4", "as1", "d1", w.at(2))
	w.release("t4", "as1", "d1", w.at(4))
	require.True(t, w.accept("t4", "as1", "d1", w.at(2)).Outdated)
	require.True(t, w.assign("t4", "d1", "", w.at(3)).Outdated)
	require.True(t, w.assign("t4", "d0", "", w.at(1)).Outdated)
	require.Empty(t, w.Known("t4").Driver)
	// Another assignment may be older than the release of the last one.
	require.False(t, w.accept("t4", "as2", "d2", w.at(3)).Outdated)

	// Another assignment without a driver's id is not the current driver's.
	w.accept("t6", "as1", "d1", w.at(1))
	require.Equal(t, []string{"d1"}, w.accept("t6", "as2", "", w.at(2)).Moves.Leaves)
	require.Empty(t, w.Known("t6").Driver)
	w.accept("t7", "as1", "d1", w.at(1))
	w.accept("t7", "as1", "", w.at(2))
	w.assign("t7", "", "p1", w.at(3))
	require.Equal(t, "d1", w.Known("t7").Driver, "the same assignment")

	// A time in the far future counts as now, so later events are not outdated.
	w.assign("t5", "d1", "p1", w.now.Add(1000*time.Hour))
	require.False(t, w.assign("t5", "d2", "p1", w.now).Outdated)
}

func TestTable_ReleaseEndsItsAssignmentOnly(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		assignment, driver string
		at                 int
		leaves             bool
	}{
		"the one that put the driver on": {"as2", "d1", 20, true},
		"though it names no driver":      {"as2", "", 20, true},
		"an older offer to the driver":   {"as1", "d1", 20, false},
		"another's":                      {"as3", "d2", 20, false},
		"older than the acceptance":      {"as2", "d1", 5, false},
	} {
		for _, both := range []bool{false, true} {
			w := newWorld()
			w.say(triptable.Opens, "t1", "p1", w.at(0))
			w.accept("t1", "as2", "d1", w.at(10))
			if both {
				w.assign("t1", "d1", "p1", w.at(11))
				if c.at < 10 {
					c.at = 10
				}
			}
			res := w.release("t1", c.assignment, c.driver, w.at(c.at))
			require.Equal(t, c.leaves, slices.Contains(res.Moves.Leaves, "d1"), name)
			require.Equal(t, c.leaves, w.Known("t1").Driver == "", name)
			require.Equal(t, []string{"t1"}, w.TripsOf(passenger("p1"), always), "the trip continues")
		}
	}
	// Where no event named the assignment, the driver's id decides.
	w := newWorld()
	w.assign("t1", "d1", "p1", w.at(10))
	require.Equal(t, []string{"d2"}, w.release("t1", "as1", "d2", w.at(20)).Moves.Leaves, "a lookup may have put them there")
	require.NotContains(t, w.release("t1", "as1", "d1", w.at(9)).Moves.Leaves, "d1")
	require.Equal(t, []string{"d1", "d2"}, w.release("t1", "as1", "d1", w.at(20)).Moves.Leaves)

	// A release that arrives first outdates the older acceptance.
	w.say(triptable.Opens, "t2", "p1", w.at(0))
	for n := range 5 {
		w.release("t2", fmt.Sprint("as", n), fmt.Sprint("d", n), w.at(20))
	}
	require.True(t, w.accept("t2", "as1", "d1", w.at(10)).Outdated)
	require.False(t, w.accept("t2", "as7", "d7", w.at(10)).Outdated)
}

func TestTable_PassengerIsReplaced(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.say(triptable.Opens, "t1", "p1", w.at(1))
	require.Empty(t, w.say(triptable.Opens, "t1", "p2", w.at(2)).Moves, "nobody is in the room yet")
	w.assign("t1", "d1", "", w.at(3))
	res := w.say(triptable.Notes, "t1", "p3", w.at(4))
	require.Equal(t, triptable.Moves{Passenger: "p3"}, res.Moves)
	require.True(t, res.Changed)
	require.Empty(t, w.TripsOf(passenger("p2"), always))
	require.Equal(t, []string{"t1"}, w.TripsOf(passenger("p3"), always))
	require.True(t, w.HasLeft("t1", passenger("p2"), always))
	require.False(t, w.HasLeft("t1", passenger("p3"), always))
	w.say(triptable.Notes, "t1", "p2", w.at(2))
	require.Equal(t, "p3", w.Known("t1").Passenger, "an older event changes nothing")
}

// A search that found no driver starts again with an event that happened later.
func TestTable_NoDriverFound(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.say(triptable.Opens, "t1", "p1", w.at(0))
	w.accept("t1", "as1", "d1", w.at(1))
	require.True(t, w.say(triptable.Suspends, "t1", "", w.at(0)).Outdated, "a driver was found later")
	res := w.say(triptable.Suspends, "t1", "", w.at(10))
	require.Equal(t, triptable.Moves{People: true}, res.Moves)
	require.Equal(t, "p1", res.Parties.Passenger)
	require.True(t, w.HasLeft("t1", passenger("p1"), always))
	require.Empty(t, w.TripsOf(driver("d1"), always))
	require.True(t, w.say(triptable.Opens, "t1", "p1", w.at(5)).Outdated)
	require.True(t, w.accept("t1", "as2", "d2", w.at(5)).Outdated)
	require.False(t, w.say(triptable.Suspends, "t1", "", w.at(9)).Outdated, "a second one")
	require.Equal(t, "p1", w.say(triptable.Notes, "t1", "", w.at(0)).Parties.Passenger)

	require.Equal(t, "p1", w.say(triptable.Opens, "t1", "", w.at(20)).Parties.Passenger, "the search begins again")
	require.False(t, w.HasLeft("t1", passenger("p1"), always))
	require.Equal(t, triptable.Moves{Driver: "d2", Passenger: "p1"}, w.accept("t1", "as2", "d2", w.at(21)).Moves)

	// Hours later an event from before is still outdated.
	w.say(triptable.Suspends, "t1", "", w.at(30))
	w.now = w.now.Add(20 * time.Hour)
	require.True(t, w.accept("t1", "as2", "d2", w.at(-20*3600+21)).Outdated)
}

func TestTable_ForgetsTripsWithoutADriver(t *testing.T) {
	t.Parallel()
	w := newWorld()
	for n := range 100_000 {
		w.now = w.now.Add(time.Second)
		id := fmt.Sprint("t", n)
		w.say(triptable.Opens, id, "p1", w.now)
		w.say(triptable.Suspends, id, "", w.now)
		require.LessOrEqual(t, w.Len(), 2*1024)
	}
}

// A trip whose end was missed is dropped once there are many trips.
func TestTable_ForgetsTripsWithoutEvents(t *testing.T) {
	t.Parallel()
	w := newWorld()
	assign := func(kind string, n int) {
		w.assign(fmt.Sprint(kind, n), "d1", fmt.Sprint("p", kind, n), w.now)
	}
	for n := range 1000 {
		assign("old", n)
	}
	w.now = w.now.Add(triptable.Memory - time.Hour)
	w.say(triptable.Notes, "old7", "pold7", w.now)
	for n := range 24 {
		assign("new", n)
	}
	w.now = w.now.Add(2 * time.Hour)
	require.Equal(t, 1024, w.Len())
	assign("new", 24)
	require.Equal(t, 26, w.Len())
	require.Len(t, w.TripsOf(driver("d1"), always), 26)
	require.Equal(t, []string{"old7"}, w.TripsOf(passenger("pold7"), always))
	require.Empty(t, w.TripsOf(passenger("pold8"), always))
}

func TestTable_RecentChanges(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.assign("t1", "d1", "p1", w.now)
	w.assign("t2", "d1", "p1", w.now)
	w.now = w.now.Add(time.Minute)
	w.assign("t3", "d1", "p1", w.now)
	w.assign("t2", "d2", "", w.now)
	since := w.now.Add(-triptable.Settle)
	require.Equal(t, []string{"t3"}, w.TripsOf(driver("d1"), since))
	require.True(t, w.HasLeft("t2", driver("d1"), since))

	w.SetAside("t3", "d1", since)
	w.SetAside("t1", "d2", since)
	require.ElementsMatch(t, []string{"t1", "t3"}, w.TripsOf(driver("d1"), always), "t3 changed too recently, and t1 is not d2's")
	w.SetAside("t1", "d1", since)
	require.Equal(t, []string{"t3"}, w.TripsOf(driver("d1"), always))
	require.ElementsMatch(t, []string{"t2", "t3"}, w.TripsOf(passenger("p1"), since), "setting the driver aside is not a change for the passenger")
	require.Empty(t, w.assign("t1", "d1", "p1", w.at(-60)).Moves.Driver)
	require.NotContains(t, w.TripsOf(driver("d1"), always), "t1")
	require.Equal(t, "d1", w.assign("t1", "d1", "p1", w.now).Moves.Driver)
	require.Contains(t, w.TripsOf(driver("d1"), always), "t1")

	w.now = w.now.Add(time.Minute)
	require.False(t, w.HasLeft("t2", driver("d1"), w.now.Add(-triptable.Settle)))
	require.True(t, w.HasLeft("t2", driver("d1"), always))
}

// A host's database may be ahead of its bus: a driver whom Forget set aside still
// receives the events that the host published before.
func TestTable_ForgottenDriverReceivesEarlierEvents(t *testing.T) {
	t.Parallel()
	forgotten := func() *world {
		w := newWorld()
		w.accept("t1", "as1", "d1", w.now)
		w.say(triptable.Notes, "t1", "p1", w.now)
		w.now = w.now.Add(time.Minute)
		w.SetAside("t1", "d1", w.at(-5))
		require.Empty(t, w.TripsOf(driver("d1"), always), "their positions are not the trip's any more")
		require.Equal(t, triptable.Parties{Passenger: "p1"}, w.Known("t1"), "a lookup may name another driver")
		return w
	}
	both, one := triptable.Parties{Passenger: "p1", Driver: "d1"}, triptable.Parties{Passenger: "p1"}
	status := func(w *world) triptable.Parties { return w.say(triptable.Opens, "t1", "", w.at(-30)).Parties }

	w := forgotten()
	require.Equal(t, both, status(w))
	w.now = w.now.Add(time.Minute)
	w.SetAside("t1", "d1", w.at(-5)) // the next sweep
	require.Equal(t, both, status(w))
	require.Empty(t, w.TripsOf(driver("d1"), always))
	require.Equal(t, both, w.say(triptable.Ends, "t1", "", w.now).Parties)
	require.Empty(t, w.say(triptable.Ends, "t1", "", w.now).Parties)

	w = forgotten()
	w.now = w.now.Add(triptable.AsideMemory - 6*time.Second)
	require.Equal(t, both, status(w))
	w.now = w.now.Add(time.Second)
	require.Equal(t, one, status(w), "AsideMemory has passed")
	require.True(t, w.accept("t1", "as1", "d1", w.at(-900)).Outdated)
	w = forgotten()
	w.now = w.now.Add(triptable.AsideMemory)
	require.Equal(t, one, w.say(triptable.Ends, "t1", "", w.now).Parties)

	// News that decides who the driver is.
	for name, c := range map[string]struct {
		news func(w *world)
		want triptable.Parties
	}{
		"another was assigned":               {func(w *world) { w.accept("t1", "as2", "d2", w.now) }, triptable.Parties{Passenger: "p1", Driver: "d2"}},
		"another, who is not named":          {func(w *world) { w.accept("t1", "as2", "", w.now) }, one},
		"the assignment ended":               {func(w *world) { w.release("t1", "as1", "d1", w.now) }, one},
		"no driver was found":                {func(w *world) { w.say(triptable.Suspends, "t1", "", w.now) }, one},
		"a lookup has another on the trip":   {func(w *world) { w.Confirm("t1", driver("d2"), w.at(-5)) }, one},
		"a lookup names another":             {func(w *world) { w.Hint("t1", triptable.Parties{Driver: "d2"}) }, triptable.Parties{Passenger: "p1", Driver: "d2"}},
		"a lookup has the passenger on it":   {func(w *world) { w.Confirm("t1", passenger("p1"), w.at(-5)) }, both},
		"a lookup asked before says another": {func(w *world) { w.Confirm("t1", driver("d2"), w.at(-6)) }, both},
		"a lookup of the trip knows nobody":  {func(w *world) { w.Hint("t1", triptable.Parties{Passenger: "p1"}) }, both},
	} {
		w := forgotten()
		c.news(w)
		require.Equal(t, c.want, status(w), name)
		require.NotContains(t, w.TripsOf(driver("d1"), always), "t1", name)
	}

	// The lookup names the driver again.
	w = forgotten()
	w.Confirm("t1", driver("d1"), w.at(-5))
	require.Equal(t, []string{"t1"}, w.TripsOf(driver("d1"), always))
	require.Equal(t, []string{"t1"}, w.TripsOf(passenger("p1"), always))
	require.Equal(t, both, w.Known("t1"))
}

func TestTable_Hint(t *testing.T) {
	t.Parallel()
	w := newWorld()
	require.False(t, w.Hint("t1", triptable.Parties{}))
	require.Zero(t, w.Len())
	require.True(t, w.Hint("t1", triptable.Parties{Passenger: "p1", Driver: "d1"}))
	require.Equal(t, triptable.Parties{Passenger: "p1", Driver: "d1"}, w.Known("t1"))
	require.Empty(t, w.TripsOf(driver("d1"), always), "a hint does not put the driver into the room")
	w.now = w.now.Add(triptable.HintMemory)
	require.Equal(t, triptable.Parties{Passenger: "p1"}, w.Known("t1"))
	w.assign("t1", "d2", "p2", w.now)
	require.False(t, w.Hint("t1", triptable.Parties{Passenger: "p1", Driver: "d1"}))
	require.Equal(t, triptable.Parties{Passenger: "p2", Driver: "d2"}, w.Known("t1"), "events win over hints")
	w.say(triptable.Ends, "t1", "", w.now)
	require.False(t, w.Hint("t1", triptable.Parties{Passenger: "p1"}))
	require.Zero(t, w.Len())
}

// State brings another table to the same knowledge, whatever that knew before.
func TestTable_State(t *testing.T) {
	t.Parallel()
	w := newWorld()
	_, ok := w.State("t1")
	require.False(t, ok)
	stale := func() *world {
		other := newWorld()
		other.say(triptable.Opens, "t1", "p1", other.at(0))
		other.accept("t1", "as1", "d1", other.at(1))
		return other
	}
	for name, know := range map[string]func(w *world){
		"another driver": func(w *world) { w.accept("t1", "as2", "d2", w.at(2)) },
		"taken off":      func(w *world) { w.accept("t1", "as1", "d1", w.at(1)); w.release("t1", "as1", "d1", w.at(2)) },
		"no driver":      func(w *world) { w.say(triptable.Suspends, "t1", "", w.at(2)) },
		"ended":          func(w *world) { w.say(triptable.Ends, "t1", "", w.at(2)) },
	} {
		t.Run(name, func(t *testing.T) {
			w, other := newWorld(), stale()
			w.say(triptable.Opens, "t1", "p1", w.at(0))
			know(w)
			e, ok := w.State("t1")
			require.True(t, ok)
			data, err := json.Marshal(e)
			require.NoError(t, err)
			var got triptable.State
			require.NoError(t, json.Unmarshal(data, &got))
			require.False(t, other.Merge(got).Outdated)
			require.Equal(t, w.Known("t1").Driver, other.Known("t1").Driver)
			require.Equal(t, w.TripsOf(driver("d1"), always), other.TripsOf(driver("d1"), always))
			require.True(t, other.accept("t1", "as1", "d1", other.at(1)).Outdated)
		})
	}
}

func BenchmarkTable_Life(b *testing.B) {
	b.ReportAllocs()
	w := newWorld()
	n := 0
	for b.Loop() {
		n++
		id := fmt.Sprint("t", n)
		w.say(triptable.Opens, id, "p1", w.now)
		w.accept(id, "as1", "d1", w.now)
		w.say(triptable.Ends, id, "", w.now)
	}
}

// A cluster applies an event once per namespace, and a bus redelivers: the moves are the
// same each time.
func TestTable_SameEventSameMoves(t *testing.T) {
	t.Parallel()
	for name, events := range map[string][]triptable.Event{
		"assigned":             {{Kind: triptable.Assigns, Driver: "d1", Passenger: "p1"}},
		"another driver":       {{Kind: triptable.Assigns, Driver: "d1"}, {Kind: triptable.Assigns, Driver: "d2"}},
		"another, not named":   {{Kind: triptable.Assigns, Driver: "d1", Assignment: "a1"}, {Kind: triptable.Assigns, Assignment: "a2"}},
		"released":             {{Kind: triptable.Assigns, Driver: "d1"}, {Kind: triptable.Releases, Driver: "d1"}},
		"assignment released":  {{Kind: triptable.Assigns, Driver: "d1", Assignment: "a1"}, {Kind: triptable.Releases, Assignment: "a1"}},
		"of another released":  {{Kind: triptable.Assigns, Driver: "d1"}, {Kind: triptable.Releases, Driver: "d2"}},
		"the passenger learnt": {{Kind: triptable.Assigns, Driver: "d1"}, {Kind: triptable.Notes, Passenger: "p1"}},
		"another passenger":    {{Kind: triptable.Assigns, Driver: "d1", Passenger: "p1"}, {Kind: triptable.Opens, Passenger: "p2"}},
		"no driver":            {{Kind: triptable.Assigns, Driver: "d1", Passenger: "p1"}, {Kind: triptable.Suspends}},
		"no driver yet":        {{Kind: triptable.Opens, Passenger: "p1"}, {Kind: triptable.Suspends}},
		"ended":                {{Kind: triptable.Assigns, Driver: "d1", Passenger: "p1"}, {Kind: triptable.Ends}},
		"ended unknown":        {{Kind: triptable.Ends}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			w := newWorld()
			for n, e := range events {
				e.Trip, e.At = "t1", w.at(n)
				first := w.Apply(e)
				for range 2 {
					again := w.Apply(e)
					require.Equal(t, first.Moves, again.Moves, "%+v", e)
					require.False(t, again.Outdated)
					require.False(t, again.Changed)
				}
			}
		})
	}
}

// TestTable_Interrupted: a driver who has had a trip all the time since then is told from one who has it again.
func TestTable_Interrupted(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		happens func(w *world)
		want    bool
	}{
		"nothing":                   {func(*world) {}, false},
		"assigned again":            {func(w *world) { w.assign("t1", "d1", "p1", w.at(20)) }, false},
		"another driver":            {func(w *world) { w.assign("t1", "d2", "p1", w.at(20)) }, true},
		"another one before":        {func(w *world) { w.assign("t1", "d2", "p1", w.at(9)) }, false},
		"released":                  {func(w *world) { w.release("t1", "as1", "d1", w.at(20)) }, true},
		"released, nobody named":    {func(w *world) { w.release("t1", "as1", "", w.at(20)) }, true},
		"another one released":      {func(w *world) { w.release("t1", "as2", "d2", w.at(20)) }, false},
		"no driver found":           {func(w *world) { w.say(triptable.Suspends, "t1", "p1", w.at(20)) }, true},
		"no driver found, before":   {func(w *world) { w.say(triptable.Suspends, "t1", "p1", w.at(4)) }, false},
		"another event of the trip": {func(w *world) { w.say(triptable.Opens, "t1", "p1", w.at(20)) }, false},
	} {
		w := newWorld()
		w.accept("t1", "as1", "d1", w.at(5))
		c.happens(w)
		w.accept("t1", "as3", "d1", w.at(30))
		require.Equal(t, c.want, w.Interrupted("t1", "d1", w.at(10)), name)
		require.False(t, w.Interrupted("t2", "d1", w.at(10)), "a trip that nobody knows")
	}
}
