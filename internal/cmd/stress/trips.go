// Trips: the dispatchers, which run one after another.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime/internal/cmd/internal/rides"
)

// dispatch runs trips one after another until ctx ends.
func (w *world) dispatch(ctx context.Context, number int) {
	rng := w.rng(dispatcherStream, number)
	for n := 0; sleep(ctx, between(rng, 0, 300*time.Millisecond)); n++ {
		passenger := w.passengers.Take(rng)
		var drivers []string
		for range 1 + rng.IntN(3) {
			if d := w.drivers.Take(rng); d != "" {
				drivers = append(drivers, d)
			}
		}
		if passenger != "" && len(drivers) > 0 {
			id := fmt.Sprintf("t%d-%d", number, n)
			w.trip(ctx, rng, id, passenger, drivers, rng.IntN(10) == 0)
		}
		w.drivers.Give(drivers...)
		if passenger != "" {
			w.passengers.Give(passenger)
		}
	}
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
		w.count.add("trip events", 1)
		if s.Ends {
			if w.settle() {
				w.oracle.ended(id)
			}
			w.count.add("trips", 1)
			return
		}
		if !sleep(ctx, between(rng, 10*time.Millisecond, 400*time.Millisecond)) {
			return
		}
	}
}
