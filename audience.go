// Who hears what: the one place that maps a domain event to the emissions that
// follow from it. Everything here is pure: no I/O, no clock, no state.

package realtime

import (
	"cmp"
	"encoding/json"
	"math"
	"slices"
	"time"
)

// delivery is one emission: one payload under one name to one namespace, to the
// union of rooms (each socket once).
type delivery struct {
	namespace string
	rooms     []Room
	event     string
	payload   any
	encoded   *[]byte // the payload's JSON, for all deliveries of it; nil inside until needed
}

// json returns the payload's JSON, encoded once.
func (d delivery) json() ([]byte, error) {
	if *d.encoded == nil {
		b, err := json.Marshal(d.payload)
		if err != nil {
			return nil, err
		}
		*d.encoded = b
	}
	return *d.encoded, nil
}

// deliveries maps a domain event to its emissions, in the order in which they
// are to be sent. id is the bus event's, at the envelope's time, which an
// event's own At overrides; p are the trip's people as far as known, overridden
// by those whom the event names, and who is unknown is left out. narrow keeps
// trip events from admins who did not join the trip. namespaces are all that
// the server has, for what concerns a user wherever he is connected.
//
// An event of the host's own has no deliveries. A DriverLocationChanged gets
// those that need no trip; locationDeliveries makes them all.
func deliveries(e DomainEvent, id string, at time.Time, p TripParties, narrow bool, namespaces []string) []delivery {
	b, ok := e.(builtin)
	if !ok {
		return nil
	}
	s := b.about()
	a := audience{
		eventID:     id,
		tripID:      s.tripID,
		passengerID: cmp.Or(s.parties.PassengerID, p.PassengerID),
		driverID:    cmp.Or(s.parties.DriverID, p.DriverID),
		at:          at,
		narrow:      narrow,
		namespaces:  namespaces,
	}
	if !s.at.IsZero() {
		a.at = s.at
	}
	return b.deliver(a)
}

// audience is what a mapping knows besides the event itself.
type audience struct {
	eventID     string
	tripID      string
	passengerID string // empty: unknown
	driverID    string // empty: unknown
	at          time.Time
	narrow      bool
	namespaces  []string
}

// target is some rooms of one namespace; without rooms it is nobody.
type target struct {
	namespace string
	rooms     []Room
}

// send is the deliveries of one payload. That the payload fits the event is
// checked by the compiler.
func send[T any](e Event[T], payload T, to ...target) []delivery {
	out := make([]delivery, 0, len(to))
	boxed, encoded := any(payload), new([]byte)
	for _, t := range to {
		if len(t.rooms) > 0 {
			out = append(out, delivery{t.namespace, t.rooms, e.name, boxed, encoded})
		}
	}
	return out
}

// own is the sockets of one user in one namespace.
func own(namespace, userID string) target {
	if userID == "" {
		return target{}
	}
	return target{namespace, []Room{ownRoom(namespace, userID)}}
}

func (a audience) passenger() target { return own(NamespacePassengers, a.passengerID) }
func (a audience) driver() target    { return own(NamespaceDrivers, a.driverID) }

// admins is "admin T" of the contract.
func (a audience) admins() target {
	if a.narrow {
		return target{NamespaceAdmin, []Room{TripRoom(a.tripID)}}
	}
	return target{NamespaceAdmin, []Room{AdminAllRoom, TripRoom(a.tripID)}}
}

// everywhere is the sockets of one user in every namespace.
func (a audience) everywhere(userID string) []target {
	out := make([]target, len(a.namespaces))
	for i, ns := range a.namespaces {
		out[i] = own(ns, userID)
	}
	return out
}

func (a audience) trip() TripPayload { return TripPayload{a.eventID, a.tripID, Time{a.at}} }

func (a audience) status(s TripStatus) TripStatusPayload { return TripStatusPayload{a.trip(), s} }

func (a audience) statusToAdmin(s TripStatus) TripStatusToAdminPayload {
	return TripStatusToAdminPayload{a.status(s), orNull(a.driverID)}
}

func (e TripRequested) deliver(a audience) []delivery {
	return send(EventTripRequested, TripRequestedPayload{
		EventID:            a.eventID,
		TripID:             a.tripID,
		PassengerID:        orNull(a.passengerID),
		RequestedAt:        Time{a.at},
		Pickup:             e.Pickup,
		FareEstimatedTotal: e.FareEstimatedTotal,
		FareFinalCurrency:  orNull(e.FareFinalCurrency),
		Status:             TripStatusPending,
	}, a.passenger(), a.admins())
}

func (e TripAssigningStarted) deliver(a audience) []delivery {
	v := TripTransitionPayload{a.trip(), TripStatusPending, TripStatusAssigning}
	return send(EventTripAssigningStarted, v, a.passenger(), a.admins())
}

func (e AssignmentOffered) deliver(a audience) []delivery {
	ttl, expires := e.TTLSec, e.ExpiresAt
	if expires.IsZero() {
		expires = a.at.Add(time.Duration(ttl) * time.Second)
	}
	if ttl <= 0 {
		ttl = max(0, int(math.Round(expires.Sub(a.at).Seconds())))
	}
	v := AssignmentOfferedPayload{
		EventID:         a.eventID,
		AssignmentID:    e.AssignmentID,
		TripID:          e.TripID,
		TTLSec:          ttl,
		ExpiresAt:       Time{expires},
		Pickup:          e.Pickup,
		DestinationHint: e.DestinationHint,
		StopsCount:      e.StopsCount,
		PriceEstimate:   e.PriceEstimate,
		Currency:        e.Currency,
	}
	return slices.Concat(
		send(EventAssignmentOffered, v, own(NamespaceDrivers, e.DriverID)),
		send(EventAssignmentOfferedToAdmin,
			AssignmentOfferedToAdminPayload{v, orNull(e.DriverID), orNull(e.VehicleID)}, a.admins()),
	)
}

func (e AssignmentAccepted) deliver(a audience) []delivery {
	return slices.Concat(
		send(EventDriverAccepted,
			DriverAcceptedPayload{a.status(TripStatusAccepted), e.Driver.masked(), e.Vehicle}, a.passenger()),
		send(EventAssignmentAccepted,
			a.assignment(e.AssignmentID, a.driverID, e.VehicleID), a.driver(), a.admins()),
	)
}

func (e DriverAssigned) deliver(a audience) []delivery {
	status, driver, vehicle := a.status(TripStatusAccepted), orNull(a.driverID), orNull(e.VehicleID)
	toDriver := DriverAssignedToDriverPayload{status, driver, vehicle, e.Passenger.masked()}
	return slices.Concat(
		send(EventDriverAssigned, DriverAssignedPayload{
			DriverAcceptedPayload{status, e.Driver.masked(), e.Vehicle}, driver, vehicle,
		}, a.passenger()),
		send(EventDriverAssignedToDriver, toDriver, a.driver()),
		send(EventDriverAssignedToAdmin,
			DriverAssignedToAdminPayload{toDriver, orNull(a.passengerID)}, a.admins()),
	)
}

func (e AssignmentRejected) deliver(a audience) []delivery {
	v := AssignmentEndedPayload{a.assignment(e.AssignmentID, e.DriverID, e.VehicleID), orNull(e.Reason)}
	return send(EventAssignmentRejected, v, a.admins())
}

func (e AssignmentExpired) deliver(a audience) []delivery {
	v := a.assignment(e.AssignmentID, e.DriverID, e.VehicleID)
	return send(EventAssignmentExpired, v, own(NamespaceDrivers, e.DriverID), a.admins())
}

func (e AssignmentCancelled) deliver(a audience) []delivery {
	v := AssignmentEndedPayload{a.assignment(e.AssignmentID, e.DriverID, e.VehicleID), orNull(e.Reason)}
	return send(EventAssignmentCancelled, v, own(NamespaceDrivers, e.DriverID), a.admins())
}

func (a audience) assignment(id, driverID, vehicleID string) AssignmentPayload {
	return AssignmentPayload{a.trip(), id, orNull(driverID), orNull(vehicleID)}
}

func (e NoDriversFound) deliver(a audience) []delivery {
	return send(EventNoDriversFound, NoDriversFoundPayload{a.trip(), orNull(e.Reason)}, a.passenger(), a.admins())
}

func (e ArrivingStarted) deliver(a audience) []delivery {
	v := TripTransitionPayload{a.trip(), TripStatusAccepted, TripStatusArriving}
	return send(EventArrivingStarted, v, a.passenger(), a.driver(), a.admins())
}

func (e DriverEnRoute) deliver(a audience) []delivery {
	v := DriverEnRoutePayload{a.trip(), e.ETAMinutes, e.DriverPosition}
	return slices.Concat(
		send(EventDriverEnRoute, v, a.passenger(), a.driver()),
		send(EventDriverEnRouteToAdmin, DriverEnRouteToAdminPayload{v, orNull(a.driverID)}, a.admins()),
	)
}

func (e DriverArrivedPickup) deliver(a audience) []delivery {
	return slices.Concat(
		send(EventDriverArrivedPickup, a.status(TripStatusArriving), a.passenger(), a.driver()),
		send(EventDriverArrivedPickupToAdmin, a.statusToAdmin(TripStatusArriving), a.admins()),
	)
}

func (e TripStarted) deliver(a audience) []delivery {
	return slices.Concat(
		send(EventTripStarted, a.status(TripStatusInProgress), a.passenger(), a.driver()),
		send(EventTripStartedToAdmin, a.statusToAdmin(TripStatusInProgress), a.admins()),
	)
}

func (e TripCompleted) deliver(a audience) []delivery {
	v := TripCompletedPayload{a.status(TripStatusCompleted), orNull(a.driverID), e.FareTotal, e.Currency}
	return send(EventTripCompleted, v, a.passenger(), a.driver(), a.admins())
}

func (e TripCancelled) deliver(a audience) []delivery {
	v := TripCancelledPayload{a.status(TripStatusCancelled), e.CancelledBy, orNull(e.Reason)}
	return send(EventTripCancelled, v, a.passenger(), a.driver(), a.admins())
}

func (e WaitingSurchargeApplied) deliver(a audience) []delivery {
	v := WaitingSurchargePayload{a.trip(), e.WaitingMinutes, e.Amount, e.Currency}
	return send(EventWaitingSurchargeApplied, v, a.passenger(), a.driver(), a.admins())
}

func (e AdminTripAction) deliver(a audience) []delivery {
	v := AdminTripActionPayload{a.trip(), e.AdminID, e.Action, orNull(e.Reason)}
	return send(EventAdminTripAction, v, a.admins())
}

func (e AdminTripMessage) deliver(a audience) []delivery {
	to := []target{a.admins()}
	if e.To == MessageToDriver || e.To == MessageToBoth {
		to = append(to, a.driver())
	}
	if e.To == MessageToPassenger || e.To == MessageToBoth {
		to = append(to, a.passenger())
	}
	return send(EventAdminTripMessage, AdminTripMessagePayload{a.trip(), e.AdminID, e.To, e.Message}, to...)
}

func (e DriverStatusChanged) deliver(a audience) []delivery {
	return statusDeliveries(e.Availability, a.eventID)
}

func (e DriverLocationChanged) deliver(a audience) []delivery {
	return locationDeliveries(e.LocationUpdate, a.eventID, nil)
}

func (e DriverTripChanged) deliver(a audience) []delivery {
	return tripUpdateDeliveries(e.DriverTrip, a.eventID)
}

// driverWatchers is "admin D" of the contract.
func driverWatchers() target { return target{NamespaceAdmin, []Room{AdminDriversRoom}} }

// statusDeliveries is who hears of a driver's snapshot, whether it came in over
// a socket or from the bus.
func statusDeliveries(v Availability, eventID string) []delivery {
	p := AvailabilityPayload{eventID, v}
	return slices.Concat(
		send(EventDriverAvailability, p, own(NamespaceDrivers, v.DriverID)),
		send(EventAdminDriverAvailability, p, driverWatchers()),
	)
}

// locationDeliveries is who hears of a driver's position. trips are those that
// the driver is on now: their followers, and nobody else, see where he is.
func locationDeliveries(v LocationUpdate, eventID string, trips []string) []delivery {
	p := LocationPayload{eventID, v}
	out := send(EventDriverLocation, p, own(NamespaceDrivers, v.DriverID), driverWatchers())
	out[len(out)-1].event = EventAdminDriverLocation.name // the same to the admins, under their name
	for _, trip := range trips {
		room := []Room{TripRoom(trip)}
		out = append(out, send(EventTripDriverLocation, TripLocationPayload{p, trip},
			target{NamespacePassengers, room}, target{NamespaceAdmin, room})...)
	}
	return out
}

// tripUpdateDeliveries is who hears that a driver's current trip was set.
func tripUpdateDeliveries(v DriverTrip, eventID string) []delivery {
	p := DriverTripPayload{eventID, v}
	return slices.Concat(
		send(EventDriverTrip, p, own(NamespaceDrivers, v.DriverID)),
		send(EventAdminDriverTrip, p, driverWatchers()),
	)
}

// homes are the users' own namespaces.
var homes = map[UserType]string{
	UserDriver:    NamespaceDrivers,
	UserPassenger: NamespacePassengers,
	UserAdmin:     NamespaceAdmin,
}

func (e UserLoggedIn) deliver(a audience) []delivery {
	out := send(EventUserLoggedIn, UserLoggedInPayload{
		EventID:     a.eventID,
		UserID:      e.UserID,
		UserType:    orNull(e.UserType),
		SID:         e.SID,
		SessionType: orNull(e.SessionType),
		At:          Time{a.at},
		DeviceInfo:  e.DeviceInfo,
	}, target{NamespaceAdmin, []Room{AdminAllRoom}})
	if home, ok := homes[e.UserType]; ok {
		out = append(out, send(EventLoggedIn, LoggedInPayload{a.eventID, e.SID, Time{a.at}}, own(home, e.UserID))...)
	}
	return out
}

func (e SessionRefreshed) deliver(a audience) []delivery {
	v := SessionRefreshedPayload{a.eventID, e.OldSID, e.NewSID, Time{a.at}}
	return send(EventSessionRefreshed, v, a.everywhere(e.UserID)...)
}

func (e UserAccessChanged) deliver(a audience) []delivery {
	reason := cmp.Or(e.Reason, string(e.Change))
	v := SessionRevokedPayload{a.eventID, nil, orNull(reason), Time{a.at}}
	return send(EventSessionRevoked, v, a.everywhere(e.UserID)...)
}

func (e SessionRevoked) deliver(a audience) []delivery {
	to := a.everywhere(e.UserID)
	for i, ns := range a.namespaces {
		to[i] = target{ns, append([]Room{SessionRoom(e.SID)}, to[i].rooms...)}
	}
	return send(EventSessionRevoked, SessionRevokedPayload{a.eventID, orNull(e.SID), orNull(e.Reason), Time{a.at}}, to...)
}

// orNull turns an absent value into JSON's null.
func orNull[S ~string](s S) *S {
	if s == "" {
		return nil
	}
	return &s
}
