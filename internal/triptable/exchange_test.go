// Exchange: tables that have missed events come to know the same, with few messages.

package triptable_test

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/triptable"
)

// message is a page, or states, on the way to one table.
type message struct {
	to     int
	page   *triptable.Page
	states []triptable.State
	last   bool
}

// exchanges are tables that exchange messages. Every message goes to all other tables.
type exchanges struct {
	rnd    *rand.Rand
	worlds []*world
	all    []*triptable.Exchange
	onWay  []message
	sent   int // messages with states, each once
	states int // states in them
}

func newExchanges(rnd *rand.Rand, n int) *exchanges {
	e := &exchanges{rnd: rnd}
	for range n {
		w := newWorld()
		e.worlds, e.all = append(e.worlds, w), append(e.all, triptable.NewExchange(w.Table))
	}
	return e
}

func (e *exchanges) send(from int, m message) {
	for to := range e.all {
		if to != from {
			m.to = to
			e.onWay = append(e.onWay, m)
		}
	}
}

func (e *exchanges) ask(n int) {
	e.all[n].Pages(func(p triptable.Page) bool {
		e.send(n, message{page: &p})
		return true
	})
}

// run delivers messages, and has tables send what is due, in any order, until there is
// nothing left. The order of messages from one table to another is not kept.
func (e *exchanges) run(t *testing.T) {
	t.Helper()
	for steps := 0; ; steps++ {
		require.Less(t, steps, 100_000, "they do not come to rest")
		n := e.rnd.IntN(len(e.all) + len(e.onWay))
		if n < len(e.all) {
			if states, last := e.all[n].Take(4); len(states) > 0 {
				e.sent++
				e.states += len(states)
				e.send(n, message{states: states, last: last})
				continue
			}
			if len(e.onWay) == 0 {
				idle := true
				for n, x := range e.all {
					if states, last := x.Take(4); len(states) > 0 {
						idle = false
						e.sent++
						e.states += len(states)
						e.send(n, message{states: states, last: last})
					}
				}
				if idle {
					return
				}
			}
			continue
		}
		n -= len(e.all)
		m := e.onWay[n]
		e.onWay[n] = e.onWay[len(e.onWay)-1]
		e.onWay = e.onWay[:len(e.onWay)-1]
		if m.page != nil {
			e.all[m.to].Compare(*m.page)
		}
		for _, s := range m.states {
			e.all[m.to].Merge(s, m.last)
		}
	}
}

// However many tables have missed something, and whatever it was: when each that may have
// missed something asks once, they come to rest and know the same; and when they ask again,
// nobody answers.
func TestExchange_TablesComeToRest(t *testing.T) {
	t.Parallel()
	for seed := range uint64(800) {
		rnd := rand.New(rand.NewPCG(seed, 4))
		e := newExchanges(rnd, 2+rnd.IntN(5))
		trips := 1 + rnd.IntN(12)
		var histories []history
		knowing := 0 // trips of which somebody knows something
		for n := range trips {
			h := randomHistory(rnd, e.worlds[0].at(-60))
			if rnd.IntN(3) == 0 {
				h.events = append(h.events, triptable.Event{Kind: triptable.Ends, Trip: "t1", At: h.events[len(h.events)-1].At.Add(time.Second)})
			}
			for i := range h.events {
				h.events[i].Trip = fmt.Sprint("t", n)
			}
			histories = append(histories, h)
			known := false
			for _, w := range e.worlds {
				whole := rnd.IntN(3) == 0
				for _, ev := range h.events {
					if whole || rnd.IntN(2) == 0 {
						w.Apply(ev)
						known = true
					}
				}
			}
			if known {
				knowing++
			}
		}
		for n := range e.all {
			e.ask(n)
		}
		e.run(t)
		nodes := len(e.all)
		require.LessOrEqual(t, e.states, 3*knowing*nodes, "no storm: seed %d", seed)
		for n, h := range histories {
			id := fmt.Sprint("t", n)
			over := slices.ContainsFunc(e.worlds, func(w *world) bool { s, _ := w.State(id); return s.Ended })
			for _, w := range e.worlds {
				require.Equal(t, e.worlds[0].Known(id), w.Known(id), "seed %d:%s", seed, h)
				if got, ok := w.State(id); over { // who never knew the trip need not know its end
					require.Equal(t, ok, got.Ended, "seed %d:%s", seed, h)
					continue
				}
				for d := range 4 {
					who := driver(fmt.Sprint("d", d))
					require.ElementsMatch(t, e.worlds[0].TripsOf(who, always), w.TripsOf(who, always), "seed %d:%s", seed, h)
				}
			}
		}
		before := e.sent
		for n := range e.all {
			e.ask(n)
		}
		e.run(t)
		require.Equal(t, before, e.sent, "seed %d: they agree, and nobody answers", seed)
	}
}

// One table that was cut off asks, and many know the same: most trips are sent once, not
// by each.
func TestExchange_OneAnswers(t *testing.T) {
	t.Parallel()
	const trips, nodes = 400, 6
	e := newExchanges(rand.New(rand.NewPCG(1, 5)), nodes)
	for n := range trips {
		for _, w := range e.worlds[1:] {
			w.accept(fmt.Sprint("t", n), fmt.Sprint("as", n), fmt.Sprint("d", n), w.at(-60))
		}
	}
	e.ask(0)
	e.run(t)
	require.Equal(t, trips, e.worlds[0].Len())
	require.Less(t, e.states, 2*trips)
}

// The pages of a table list each trip once, and leave no gap.
func TestExchange_Pages(t *testing.T) {
	t.Parallel()
	for _, trips := range []int{0, 1, triptable.MaxPage, triptable.MaxPage + 1, 3*triptable.MaxPage - 1} {
		w := newWorld()
		for n := range trips {
			w.accept(fmt.Sprintf("t%05d", n), "as", "d", w.at(-60))
		}
		x, seen, after := triptable.NewExchange(w.Table), 0, ""
		var last triptable.Page
		x.Pages(func(p triptable.Page) bool {
			require.LessOrEqual(t, len(p.Trips), triptable.MaxPage)
			require.Equal(t, after, p.After)
			seen, after, last = seen+len(p.Trips), p.Upto, p
			return true
		})
		require.Equal(t, trips, seen)
		require.Empty(t, last.Upto)
		require.Equal(t, (trips+triptable.MaxPage-1)/triptable.MaxPage > 1, last.After != "")
	}
}

// Of a state with more facts than a table keeps, as a forged message may have, the newest count,
// and the others cost nothing.
func TestTable_MergeOfTooManyFacts(t *testing.T) {
	t.Parallel()
	w := newWorld()
	w.assign("t1", "d0", "p1", w.now)
	s := triptable.State{Trip: "t1"}
	for n := range 5000 {
		s.Releases = append(s.Releases, triptable.Fact{At: w.at(n + 1).UnixMicro(), Driver: fmt.Sprint("x", n), Assignment: fmt.Sprint("a", n)})
	}
	s.Releases = append(s.Releases, triptable.Fact{At: w.at(6000).UnixMicro(), Driver: "d0"})
	w.now = w.at(6001)
	w.Merge(s)
	require.Equal(t, triptable.Parties{Passenger: "p1"}, w.Known("t1"))
	state, ok := w.State("t1")
	require.True(t, ok)
	require.Len(t, state.Releases, 32)
}

// Other tables, or whoever speaks for them, fill a table only up to a limit. What this node itself
// receives, and what is known already, always counts; a sweep makes space.
func TestTable_LearnsABoundedNumberOfTrips(t *testing.T) {
	w := newWorld()
	table := w.Table
	const limit = 3000
	table.SetMaxLearned(limit)
	trip := func(i int) triptable.Event {
		return triptable.Event{Kind: triptable.Assigns, Trip: fmt.Sprint("t", i), At: w.now, Passenger: fmt.Sprint("p", i), Driver: fmt.Sprint("d", i)}
	}
	table.Apply(trip(-1))
	for i := range limit + 10 {
		if i%2 == 0 {
			table.Learn(trip(i))
		} else {
			table.Merge(triptable.State{Trip: fmt.Sprint("t", i), Opened: w.now.UnixMicro()})
		}
	}
	require.Equal(t, limit, table.Len())
	require.Zero(t, table.Learn(trip(limit+1)))
	require.Zero(t, table.Merge(triptable.State{Trip: "new", Opened: w.now.UnixMicro()}))
	require.True(t, table.Apply(trip(limit+2)).Changed, "an event of this node")
	require.True(t, table.Learn(triptable.Event{Kind: triptable.Ends, Trip: "t-1", At: w.now}).Moves.Everybody, "the end of a known trip")
	require.True(t, table.Merge(triptable.State{Trip: "t0", Ended: true}).Changed)
	require.True(t, table.Merge(triptable.State{Trip: "t2", Suspended: w.now.UnixMicro()}).Changed, "news of a known trip")
	w.now = w.now.Add(triptable.Memory + time.Hour)
	require.True(t, table.Learn(trip(limit+3)).Changed, "there is space again")
	require.Less(t, table.Len(), limit)
}

// A person to whom other tables assign countless trips slows the table down only up to a limit.
func TestTable_ListsABoundedNumberOfTripsOfAPerson(t *testing.T) {
	w := newWorld()
	for i := range 5000 {
		w.assign(fmt.Sprint("t", i), "d1", "p1", w.now)
	}
	require.Len(t, w.TripsOf(driver("d1"), time.Time{}), 4096)
	for i := range 5000 {
		w.Apply(triptable.Event{Kind: triptable.Ends, Trip: fmt.Sprint("t", i), At: w.now})
	}
	require.Empty(t, w.TripsOf(driver("d1"), time.Time{}))
	w.assign("t9999", "d1", "p1", w.now)
	require.Equal(t, []string{"t9999"}, w.TripsOf(driver("d1"), time.Time{}))
}
