// Trips: the events of the host's services, and who must receive them. The names are
// written from the wire contract, not from the library's catalog, so that a mistake in
// the catalog is found.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// step is an event of a trip, and the name under which each audience receives it; an
// empty name means not at all.
type step struct {
	event                    realtime.DomainEvent
	passenger, driver, admin string
	offered                  string // the driver who receives it, if not the trip's
	assigns, ends            bool
}

// all is a step that every audience receives under one name.
func all(e realtime.DomainEvent, name string) step {
	return step{event: e, passenger: name, driver: name, admin: name}
}

// plan returns a random trip from its request to its end. Drivers receive offers in
// turn, and the last one accepts, unless the trip is driverless.
func plan(rng *rand.Rand, id, passenger string, drivers []string, driverless bool) []step {
	steps := []step{
		{event: realtime.TripRequested{TripID: id, PassengerID: passenger}, passenger: "trip:requested", admin: "trip:requested"},
		{event: realtime.TripAssigningStarted{TripID: id}, passenger: "trip:assigning_started", admin: "trip:assigning_started"},
	}
	driver := drivers[len(drivers)-1]
	for i, d := range drivers {
		offer := fmt.Sprint(id, "-offer-", i)
		steps = append(steps, step{
			event:  realtime.AssignmentOffered{TripID: id, AssignmentID: offer, DriverID: d, TTLSec: 20},
			driver: "trip:assignment:offered", admin: "trip:assignment:offered", offered: d,
		})
		if d == driver && !driverless {
			break
		}
		steps = append(steps, refusal(rng, id, offer, d))
	}
	if driverless {
		return append(steps,
			step{event: realtime.NoDriversFound{TripID: id}, passenger: "trip:no_drivers_found", admin: "trip:no_drivers_found"},
			step{event: realtime.TripCancelled{TripID: id, CancelledBy: realtime.CancelledBySystem}, passenger: "trip:cancelled", admin: "trip:cancelled", ends: true},
		)
	}
	steps = append(steps,
		step{
			event:     realtime.AssignmentAccepted{TripID: id, AssignmentID: "last", PassengerID: passenger, DriverID: driver},
			passenger: "trip:driver_accepted", driver: "trip:assignment:accepted", admin: "trip:assignment:accepted", assigns: true,
		},
		all(realtime.DriverAssigned{TripID: id, PassengerID: passenger, DriverID: driver}, "trip:driver_assigned"),
	)
	return append(steps, ride(rng, id)...)
}

// refusal is a random way in which an offer ends without a driver.
func refusal(rng *rand.Rand, id, offer, driver string) step {
	switch rng.IntN(3) {
	case 0:
		return step{event: realtime.AssignmentRejected{TripID: id, AssignmentID: offer, DriverID: driver}, admin: "trip:assignment:rejected"}
	case 1:
		name := "trip:assignment:expired"
		return step{event: realtime.AssignmentExpired{TripID: id, AssignmentID: offer, DriverID: driver}, driver: name, admin: name, offered: driver}
	}
	name := "trip:assignment:cancelled"
	return step{event: realtime.AssignmentCancelled{TripID: id, AssignmentID: offer, DriverID: driver}, driver: name, admin: name, offered: driver}
}

// ride is a trip from its assignment to its end. Its events name nobody: the server
// knows the people from earlier events.
func ride(rng *rand.Rand, id string) []step {
	steps := []step{all(realtime.ArrivingStarted{TripID: id}, "trip:arriving_started")}
	for range 1 + rng.IntN(4) {
		steps = append(steps, all(realtime.DriverEnRoute{TripID: id}, "trip:driver_en_route"))
	}
	if rng.IntN(3) == 0 {
		steps = append(steps, message(rng, id))
	}
	if rng.IntN(6) == 0 {
		return append(steps, end(realtime.TripCancelled{TripID: id, CancelledBy: realtime.CancelledByPassenger}, "trip:cancelled"))
	}
	steps = append(steps, all(realtime.DriverArrivedPickup{TripID: id}, "trip:driver_arrived_pickup"))
	if rng.IntN(3) == 0 {
		steps = append(steps, all(realtime.WaitingSurchargeApplied{TripID: id, WaitingMinutes: 3, Amount: 1, Currency: "CUP"}, "trip:waiting_surcharge_applied"))
	}
	steps = append(steps, all(realtime.TripStarted{TripID: id}, "trip:started"))
	if rng.IntN(3) == 0 {
		steps = append(steps, step{
			event: realtime.AdminTripAction{TripID: id, AdminID: "a0", Action: "watch"}, admin: "admin:trip:action_issued",
		})
	}
	return append(steps, end(realtime.TripCompleted{TripID: id, FareTotal: 9, Currency: "CUP"}, "trip:completed"))
}

func end(e realtime.DomainEvent, name string) step {
	s := all(e, name)
	s.ends = true
	return s
}

func message(rng *rand.Rand, id string) step {
	const name = "admin:trip:message_sent"
	e := realtime.AdminTripMessage{TripID: id, AdminID: "a0", Message: "hello"}
	switch rng.IntN(3) {
	case 0:
		e.To = realtime.MessageToDriver
		return step{event: e, driver: name, admin: name}
	case 1:
		e.To = realtime.MessageToPassenger
		return step{event: e, passenger: name, admin: name}
	}
	e.To = realtime.MessageToBoth
	return all(e, name)
}

// audiences returns who must receive a step, and under which name.
func (s step) audiences(passenger, driver string) map[audience]string {
	h := map[audience]string{}
	if s.passenger != "" {
		h[audience{realtime.NamespacePassengers, passenger}] = s.passenger
	}
	if s.driver != "" {
		if s.offered != "" {
			driver = s.offered
		}
		h[audience{realtime.NamespaceDrivers, driver}] = s.driver
	}
	if s.admin != "" {
		h[audience{namespace: realtime.NamespaceAdmin}] = s.admin
	}
	return h
}

// pool holds the users who are on no trip. All methods may be called concurrently.
type pool struct {
	mu   sync.Mutex
	free []string
}

// take removes and returns a random user, or "" if there is none.
func (p *pool) take(rng *rand.Rand) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.free) == 0 {
		return ""
	}
	i := rng.IntN(len(p.free))
	user := p.free[i]
	p.free[i] = p.free[len(p.free)-1]
	p.free = p.free[:len(p.free)-1]
	return user
}

func (p *pool) give(users ...string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.free = append(p.free, users...)
}

// dispatch runs trips one after another until ctx ends.
func (w *world) dispatch(ctx context.Context, number int) {
	rng := w.rng(dispatcherStream, number)
	for n := 0; sleep(ctx, between(rng, 0, 300*time.Millisecond)); n++ {
		passenger := w.passengers.take(rng)
		var drivers []string
		for range 1 + rng.IntN(3) {
			if d := w.drivers.take(rng); d != "" {
				drivers = append(drivers, d)
			}
		}
		if passenger != "" && len(drivers) > 0 {
			id := fmt.Sprintf("t%d-%d", number, n)
			w.trip(ctx, rng, id, passenger, drivers, rng.IntN(10) == 0)
		}
		w.drivers.give(drivers...)
		if passenger != "" {
			w.passengers.give(passenger)
		}
	}
}

// trip runs one trip.
func (w *world) trip(ctx context.Context, rng *rand.Rand, id, passenger string, drivers []string, driverless bool) {
	driver := drivers[len(drivers)-1]
	for _, s := range plan(rng, id, passenger, drivers, driverless) {
		if s.ends {
			w.trips.Set(passenger)
			w.trips.Set(driver)
		}
		eventID := w.oracle.publishing(id, s.audiences(passenger, driver))
		if s.assigns {
			w.oracle.assign(id, passenger, driver)
			w.running.add(id)
			w.trips.Set(passenger, id)
			w.trips.Set(driver, id)
		}
		if !w.publish(eventID, s.event) {
			return
		}
		w.oracle.published(eventID)
		w.count.add("trip events", 1)
		if s.ends {
			w.running.remove(id)
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
