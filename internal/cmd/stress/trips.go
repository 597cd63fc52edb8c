// Trips: the dispatchers, which run one after another.

package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// dispatch runs trips one after another until ctx ends.
func (w *world) dispatch(ctx context.Context, number int) {
	rng := w.rng(dispatcherStream, number)
	rides.Dispatch(ctx, rng, number, 300*time.Millisecond, &w.passengers, &w.drivers, func(id, passenger string, drivers []string, driverless bool) {
		w.trip(ctx, rng, id, passenger, drivers, driverless)
	})
}

// trip runs one trip.
func (w *world) trip(ctx context.Context, rng *rand.Rand, id, passenger string, drivers []string, driverless bool) {
	driver := drivers[len(drivers)-1]
	for _, s := range rides.Plan(rng, id, passenger, drivers, driverless) {
		if s.Ends {
			w.running.remove(id) // before any node knows: see follow
			w.trips.Set(passenger)
			w.trips.Set(driver)
		}
		eventID := w.oracle.publishing(id, s.Audiences(passenger, driver))
		if s.Assigns {
			w.oracle.assign(id, passenger, driver)
			w.running.add(id)
			w.trips.Set(passenger, id)
			w.trips.Set(driver, id)
		}
		if !w.publish(eventID, s.Event) {
			return
		}
		w.oracle.published(eventID)
		w.count.Add("trip events", 1)
		if s.Ends {
			if w.settle() {
				w.oracle.ended(id)
			}
			w.count.Add("trips", 1)
			return
		}
		if !stresskit.Sleep(ctx, stresskit.Between(rng, 10*time.Millisecond, 400*time.Millisecond)) {
			return
		}
	}
}
