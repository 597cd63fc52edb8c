//go:build unix

// Trips: who is on which, and the dispatchers, which run one after another.

package main

import (
	"context"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// tripSet knows the trips with a driver, and the last ones that have ended. All methods may be
// called concurrently.
type tripSet struct {
	mu      sync.Mutex // guards the rest
	running []string
	ending  map[string]bool // trips in running whose end is being published
	ended   []string
}

const (
	// endedTrips is how many ended trips are remembered, and probedEnded how many of them are
	// probed.
	endedTrips  = 500
	probedEnded = 20
)

func (s *tripSet) begin(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.running = append(s.running, id)
}

// end returns the trip that is forgotten for it, or "".
func (s *tripSet) end(id string) (forgotten string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for i, x := range s.running {
		if x == id {
			delete(s.ending, id)
			s.running = append(s.running[:i], s.running[i+1:]...)
			s.ended = append(s.ended, id)
			break
		}
	}
	if len(s.ended) > endedTrips {
		forgotten, s.ended = s.ended[0], s.ended[1:]
	}
	return forgotten
}

// all returns the running trips, and the last ones that have ended.
func (s *tripSet) all() (running, ended []string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.running...), append([]string(nil), s.ended[max(0, len(s.ended)-probedEnded):]...)
}

// ends records that the end of a trip is about to be published: nodes may know it before end.
func (s *tripSet) ends(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ending == nil {
		s.ending = map[string]bool{}
	}
	s.ending[id] = true
}

// runs reports whether a trip has not ended, and is not about to.
func (s *tripSet) runs(id string) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Contains(s.running, id) && !s.ending[id]
}

// pick returns a random running trip, or "".
func (s *tripSet) pick(rng *rand.Rand) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.running) == 0 {
		return ""
	}
	return s.running[rng.IntN(len(s.running))]
}

// dispatch runs trips one after another until ctx ends.
func (w *world) dispatch(ctx context.Context, number int) {
	rng := w.rng(dispatcherStream, number)
	rides.Dispatch(ctx, rng, number, time.Second, &w.passengers, &w.drivers, func(id, passenger string, drivers []string, driverless bool) {
		w.trip(ctx, rng, id, passenger, drivers, driverless)
	})
}

// trip runs one trip.
func (w *world) trip(ctx context.Context, rng *rand.Rand, id, passenger string, drivers []string, driverless bool) {
	driver := drivers[len(drivers)-1]
	w.rows.setParties(id, passenger, "")
	for _, s := range rides.Plan(rng, id, passenger, drivers, driverless) {
		w.frozen.RLock()
		ok := w.step(ctx, rng, id, passenger, driver, s)
		w.frozen.RUnlock()
		// Now and then a step takes as long as a storm.
		pause := stresskit.Between(rng, 50*time.Millisecond, 1500*time.Millisecond)
		if rng.IntN(12) == 0 {
			pause = stresskit.Between(rng, time.Second, 15*time.Second)
		}
		if !ok || s.Ends || !stresskit.Sleep(ctx, pause) {
			return
		}
	}
}

// step publishes one event of a trip.
func (w *world) step(ctx context.Context, rng *rand.Rand, id, passenger, driver string, s rides.Step) bool {
	if s.Ends {
		w.rows.setTrips(passenger)
		w.rows.setTrips(driver)
	}
	if s.Assigns {
		w.rows.setParties(id, passenger, driver)
	}
	event := w.oracle.publishing(id, s.Audiences(passenger, driver))
	if s.Assigns {
		w.oracle.assign(id, passenger, driver)
		w.rows.setTrips(passenger, id)
		w.rows.setTrips(driver, id)
	}
	if s.Ends {
		w.trips.ends(id)
	}
	if !w.publish(ctx, rng, event, s.Event) {
		return false
	}
	w.oracle.published(event)
	w.count.Add("trip events", 1)
	if s.Assigns {
		w.trips.begin(id)
	}
	if s.Ends {
		w.rows.forgetParties(w.trips.end(id))
		w.count.Add("trips", 1)
	}
	return true
}
