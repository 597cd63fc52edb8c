// Random histories of a trip: in any order, again and again, and split over two tables
// that tell each other what they know.

package triptable_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/triptable"
)

// history is what happened to a trip, in its order, and what has come of it.
type history struct {
	events    []triptable.Event
	passenger string
	driver    string
	idle      bool
}

func randomHistory(rnd *rand.Rand, begin time.Time) (h history) {
	assignment, n, at := "", 0, begin
	h.passenger = "p1"
	for range 1 + rnd.IntN(9) {
		at = at.Add(time.Duration(1+rnd.IntN(3)) * time.Second)
		e := triptable.Event{Trip: "t1", At: at}
		switch k := rnd.IntN(10); {
		case k == 0:
			e.Kind, e.Passenger, h.idle = triptable.Opens, h.passenger, false
		case k <= 3:
			n++
			next := fmt.Sprint("d", 1+rnd.IntN(3))
			if next == h.driver {
				next = "d0"
			}
			h.driver, assignment, h.idle = next, fmt.Sprint("as", n), false
			e.Kind, e.Driver, e.Assignment = triptable.Assigns, h.driver, assignment
			if rnd.IntN(4) == 0 { // nothing says which assignment it is
				e.Assignment = ""
			}
		case k == 4 && h.driver != "":
			e.Kind, e.Driver = triptable.Assigns, h.driver // said in another way
		case k <= 6 && h.driver != "":
			e.Kind, e.Driver, e.Assignment = triptable.Releases, h.driver, assignment
			h.driver, assignment = "", ""
		case k == 7: // an offer that another driver let pass
			e.Kind, e.Driver, e.Assignment = triptable.Releases, "d9", fmt.Sprint("offer", n)
		case k == 8:
			e.Kind, h.driver, assignment, h.idle = triptable.Suspends, "", "", true
		default:
			h.passenger = fmt.Sprint("p", 1+rnd.IntN(2))
			e.Kind = triptable.Notes
			e.Passenger = h.passenger
		}
		if len(h.events) == 0 {
			e.Passenger = h.passenger
		}
		h.events = append(h.events, e)
	}
	return h
}

func (h history) String() (s string) {
	for _, e := range h.events {
		s += fmt.Sprintf(" %s(%s,%s,%s)@%d", [...]string{"notes", "opens", "assigns", "releases", "suspends", "ends"}[e.Kind], e.Passenger, e.Driver, e.Assignment, e.At.Second())
	}
	return s
}

// check requires that a table knows what has come of a history.
func (h history) check(t *testing.T, w *world, what string) {
	t.Helper()
	require.Equal(t, triptable.Parties{Passenger: h.passenger, Driver: h.driver}, w.Known("t1"), "%s:%s", what, h)
	require.Equal(t, h.idle, w.HasLeft("t1", passenger(h.passenger), always), "%s: idle:%s", what, h)
	for n := range 4 {
		id := fmt.Sprint("d", n)
		require.Equal(t, id == h.driver, len(w.TripsOf(driver(id), always)) == 1, "%s: %s:%s", what, id, h)
	}
}

func TestTable_OrderOfArrival(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30_000) {
		rnd := rand.New(rand.NewPCG(seed, 1))
		w, shuffled := newWorld(), newWorld()
		h := randomHistory(rnd, w.at(-60))
		for _, e := range h.events {
			require.False(t, w.Apply(e).Outdated, "%+v of%s", e, h)
		}
		h.check(t, w, "in order")
		events := append([]triptable.Event(nil), h.events...)
		for range rnd.IntN(4) {
			events = append(events, events[rnd.IntN(len(events))])
		}
		rnd.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		for _, e := range events {
			shuffled.Apply(e)
		}
		h.check(t, shuffled, fmt.Sprint("shuffled:", history{events: events}))
		for _, e := range h.events { // a bus delivers again
			res := shuffled.Apply(e)
			require.False(t, res.Changed, "%+v of%s", e, h)
			require.False(t, e.Kind == triptable.Suspends && !h.idle && !res.Outdated, "%+v of%s", e, h)
		}
		h.check(t, shuffled, "again")
	}
}

// What a node has not heard of the bus it hears of another: they come to rest, and agree.
func TestTable_TwoComeToRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30_000) {
		rnd := rand.New(rand.NewPCG(seed, 2))
		a, b := newWorld(), newWorld()
		h := randomHistory(rnd, a.at(-60))
		events := append([]triptable.Event(nil), h.events...)
		rnd.Shuffle(len(events), func(i, j int) { events[i], events[j] = events[j], events[i] })
		if rnd.IntN(10) == 0 { // a trip goes on for long
			a.now, b.now = a.now.Add(23*time.Hour), b.now.Add(23*time.Hour)
		}
		for _, e := range events {
			who := 1 + rnd.IntN(3)
			if who&1 != 0 {
				a.Apply(e)
			}
			if who&2 != 0 {
				b.Apply(e)
			}
		}
		if rnd.IntN(10) == 0 {
			a.now, b.now = a.now.Add(30*time.Hour), b.now.Add(30*time.Hour)
		}
		exchange := func() (messages int) {
			from, to := a, b
			for ; messages < 10; messages++ {
				state, ok := from.State("t1")
				if ok && !to.Merge(state).Outdated {
					return messages + 1
				}
				from, to = to, from
			}
			return messages
		}
		require.LessOrEqual(t, exchange(), 3, "%s", h)
		require.Equal(t, a.Known("t1"), b.Known("t1"), "%s", h)
		require.LessOrEqual(t, exchange(), 1, "they agree:%s", h)
		if _, ok := a.State("t1"); ok {
			h.check(t, a, "a")
			h.check(t, b, "b")
		}
	}
}

// Whatever the messages say, and however many tables there are: they come to the same.
func TestTable_MergeIsAJoin(t *testing.T) {
	t.Parallel()
	for seed := range uint64(10_000) {
		rnd := rand.New(rand.NewPCG(seed, 3))
		var states [3]triptable.State
		for n := range states {
			w := newWorld()
			for _, e := range randomHistory(rnd, w.at(-60)).events {
				if rnd.IntN(3) > 0 {
					w.Apply(e)
				}
			}
			states[n], _ = w.State("t1")
			states[n].Trip = "t1"
		}
		merged := func(order ...int) (triptable.Parties, bool) {
			w := newWorld()
			for _, n := range order {
				w.Merge(states[n])
			}
			return w.Known("t1"), w.HasLeft("t1", driver("none"), always)
		}
		want, idle := merged(0, 1, 2)
		for _, order := range [][]int{{2, 1, 0}, {1, 2, 0, 1}, {0, 0, 2, 1, 2}} {
			got, left := merged(order...)
			require.Equal(t, want, got, "%+v", states)
			require.Equal(t, idle, left, "%+v", states)
		}
	}
}

// However many offers end, who was assigned stays, and who was released stays away.
func TestTable_ManyReleases(t *testing.T) {
	t.Parallel()
	w, other := newWorld(), newWorld()
	second := -1000
	offersEnd := func() {
		for range 100 {
			second++
			w.release("t1", fmt.Sprint("offer", second), fmt.Sprint("other", second), w.at(second))
		}
	}
	w.accept("t1", "as1", "d1", w.at(-1000))
	offersEnd()
	require.Equal(t, "d1", w.Known("t1").Driver)
	w.release("t1", "as1", "d1", w.at(second))
	for range 3 {
		offersEnd()
		require.Empty(t, w.Known("t1").Driver)
		require.True(t, w.accept("t1", "as1", "d1", w.at(-1000)).Outdated)
	}
	state, ok := w.State("t1")
	require.True(t, ok)
	require.LessOrEqual(t, len(state.Releases), 32)
	require.False(t, other.Merge(state).Outdated)
	require.Empty(t, other.Known("t1").Driver)
	for n := range 100 { // nor do assignments pile up
		w.accept("t1", fmt.Sprint("more", n), fmt.Sprint("d", n), w.at(second+n))
	}
	state, _ = w.State("t1")
	require.LessOrEqual(t, len(state.Assigns), 4)
	require.Equal(t, "d99", w.Known("t1").Driver)
}

// room is who is in a trip's room.
type room map[triptable.Person]bool

func (r room) move(m triptable.Moves) {
	leave := func(of func(who triptable.Person) bool) {
		maps.DeleteFunc(r, func(who triptable.Person, _ bool) bool { return of(who) })
	}
	if m.Everybody || m.People {
		clear(r)
		return
	}
	leave(func(who triptable.Person) bool { return who.Driver && slices.Contains(m.Leaves, who.ID) })
	if m.Driver != "" {
		leave(func(who triptable.Person) bool { return who.Driver })
		r[driver(m.Driver)] = true
	}
	if m.Passenger != "" {
		leave(func(who triptable.Person) bool { return !who.Driver })
		r[passenger(m.Passenger)] = true
	}
}

// Each caller of Apply makes its moves later, in any order, and again if the trip has changed
// since. In the end the people in the room are those that the table names.
func TestTable_MovesInAnyOrder(t *testing.T) {
	t.Parallel()
	for seed := range uint64(30_000) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		w, in := newWorld(), room{}
		h := randomHistory(rnd, w.at(-60))
		if rnd.IntN(8) == 0 {
			h.events = append(h.events, triptable.Event{Kind: triptable.Ends, Trip: "t1", At: w.at(0)})
		}
		if rnd.IntN(2) == 0 {
			rnd.Shuffle(len(h.events), func(i, j int) { h.events[i], h.events[j] = h.events[j], h.events[i] })
		}
		type mover struct {
			moves   triptable.Moves
			version uint64
		}
		var movers []mover
		for todo := h.events; len(todo)+len(movers) > 0; {
			if len(todo) > 0 && rnd.IntN(3) > 0 {
				res := w.Apply(todo[0])
				todo = todo[1:]
				movers = append(movers, mover{res.Moves, res.Version})
			} else if n := len(movers); n > 0 {
				i := rnd.IntN(n)
				in.move(movers[i].moves)
				now, version := w.Current("t1", movers[i].moves)
				if version == movers[i].version {
					movers = slices.Delete(movers, i, i+1)
				} else {
					movers[i] = mover{now, version}
				}
			}
		}
		people := room{}
		for _, who := range []triptable.Person{driver("d0"), driver("d1"), driver("d2"), driver("d3"), driver("d9"), passenger("p1"), passenger("p2")} {
			if len(w.TripsOf(who, always)) > 0 {
				people[who] = true
			}
		}
		require.Equal(t, people, in, "%s", h)
	}
}
