// Package rides makes random trips for the stress programs: the events of the host's services,
// and who must receive them. The names are written from the wire contract, not from the
// library's catalog, so that a mistake in the catalog is found.
package rides

import (
	"fmt"
	"math/rand/v2"

	"github.com/rodando/realtime"
)

// Audience is a user in their namespace, or, without a user, the whole namespace.
type Audience struct{ Namespace, User string }

// AudienceOf returns the audience of trip events to which a user belongs.
func AudienceOf(namespace, user string) Audience {
	if namespace == realtime.NamespaceAdmin {
		return Audience{Namespace: namespace}
	}
	return Audience{namespace, user}
}

// Step is an event of a trip, and the name under which each audience receives it; an
// empty name means not at all.
type Step struct {
	Event                    realtime.DomainEvent
	Passenger, Driver, Admin string
	Offered                  string // the driver who receives it, if not the trip's
	Assigns, Ends            bool
}

// all is a step that every audience receives under one name.
func all(e realtime.DomainEvent, name string) Step {
	return Step{Event: e, Passenger: name, Driver: name, Admin: name}
}

// Plan returns a random trip from its request to its end. Drivers receive offers in
// turn, and the last one accepts, unless the trip is driverless.
func Plan(rng *rand.Rand, id, passenger string, drivers []string, driverless bool) []Step {
	steps := []Step{
		{Event: realtime.TripRequested{TripID: id, PassengerID: passenger}, Passenger: "trip:requested", Admin: "trip:requested"},
		{Event: realtime.TripAssigningStarted{TripID: id}, Passenger: "trip:assigning_started", Admin: "trip:assigning_started"},
	}
	driver := drivers[len(drivers)-1]
	for i, d := range drivers {
		offer := fmt.Sprint(id, "-offer-", i)
		steps = append(steps, Step{
			Event:  realtime.AssignmentOffered{TripID: id, AssignmentID: offer, DriverID: d, TTLSec: 20},
			Driver: "trip:assignment:offered", Admin: "trip:assignment:offered", Offered: d,
		})
		if d == driver && !driverless {
			break
		}
		steps = append(steps, refusal(rng, id, offer, d))
	}
	if driverless {
		return append(steps,
			Step{Event: realtime.NoDriversFound{TripID: id}, Passenger: "trip:no_drivers_found", Admin: "trip:no_drivers_found"},
			Step{Event: realtime.TripCancelled{TripID: id, CancelledBy: realtime.CancelledBySystem}, Passenger: "trip:cancelled", Admin: "trip:cancelled", Ends: true},
		)
	}
	steps = append(steps,
		Step{
			Event:     realtime.AssignmentAccepted{TripID: id, AssignmentID: "last", PassengerID: passenger, DriverID: driver},
			Passenger: "trip:driver_accepted", Driver: "trip:assignment:accepted", Admin: "trip:assignment:accepted", Assigns: true,
		},
		all(realtime.DriverAssigned{TripID: id, PassengerID: passenger, DriverID: driver}, "trip:driver_assigned"),
	)
	return append(steps, ride(rng, id)...)
}

// refusal is a random way in which an offer ends without a driver.
func refusal(rng *rand.Rand, id, offer, driver string) Step {
	switch rng.IntN(3) {
	case 0:
		return Step{Event: realtime.AssignmentRejected{TripID: id, AssignmentID: offer, DriverID: driver}, Admin: "trip:assignment:rejected"}
	case 1:
		name := "trip:assignment:expired"
		return Step{Event: realtime.AssignmentExpired{TripID: id, AssignmentID: offer, DriverID: driver}, Driver: name, Admin: name, Offered: driver}
	}
	name := "trip:assignment:cancelled"
	return Step{Event: realtime.AssignmentCancelled{TripID: id, AssignmentID: offer, DriverID: driver}, Driver: name, Admin: name, Offered: driver}
}

// ride is a trip from its assignment to its end. Its events name nobody: the server
// knows the people from earlier events.
func ride(rng *rand.Rand, id string) []Step {
	steps := []Step{all(realtime.ArrivingStarted{TripID: id}, "trip:arriving_started")}
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
		steps = append(steps, Step{
			Event: realtime.AdminTripAction{TripID: id, AdminID: "a0", Action: "watch"}, Admin: "admin:trip:action_issued",
		})
	}
	return append(steps, end(realtime.TripCompleted{TripID: id, FareTotal: 9, Currency: "CUP"}, "trip:completed"))
}

func end(e realtime.DomainEvent, name string) Step {
	s := all(e, name)
	s.Ends = true
	return s
}

func message(rng *rand.Rand, id string) Step {
	const name = "admin:trip:message_sent"
	e := realtime.AdminTripMessage{TripID: id, AdminID: "a0", Message: "hello"}
	switch rng.IntN(3) {
	case 0:
		e.To = realtime.MessageToDriver
		return Step{Event: e, Driver: name, Admin: name}
	case 1:
		e.To = realtime.MessageToPassenger
		return Step{Event: e, Passenger: name, Admin: name}
	}
	e.To = realtime.MessageToBoth
	return all(e, name)
}

// Audiences returns who must receive a step, and under which name.
func (s Step) Audiences(passenger, driver string) map[Audience]string {
	h := map[Audience]string{}
	if s.Passenger != "" {
		h[Audience{realtime.NamespacePassengers, passenger}] = s.Passenger
	}
	if s.Driver != "" {
		if s.Offered != "" {
			driver = s.Offered
		}
		h[Audience{realtime.NamespaceDrivers, driver}] = s.Driver
	}
	if s.Admin != "" {
		h[Audience{Namespace: realtime.NamespaceAdmin}] = s.Admin
	}
	return h
}
