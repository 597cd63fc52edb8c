// Reading domain events from the bus and refusing incomplete ones.

package realtime

import (
	"testing"

	"github.com/stretchr/testify/require"
)

func TestRegistry_EachEventOnce(t *testing.T) {
	t.Parallel()
	names := make([]string, 0, len(builtins))
	for _, d := range builtins {
		names = append(names, d.name)
	}
	require.ElementsMatch(t, []string{
		"trip.requested", "trip.assigning.started",
		"trip.assignment.offered", "trip.assignment.accepted", "trip.driver.assigned",
		"trip.assignment.rejected", "trip.assignment.expired", "trip.assignment.cancelled",
		"trip.assignment.delivered", "trip.assignment.undelivered",
		"trip.no_drivers_found", "trip.arriving.started", "trip.driver.en_route", "trip.driver.arrived_pickup",
		"trip.started", "trip.completed", "trip.cancelled", "trip.waiting_surcharge.applied",
		"admin.trip.action_issued", "admin.trip.message_sent",
		"driver_availability.status_updated", "driver_availability.location_updated", "driver_availability.trip_updated",
		"auth.user.logged_in", "auth.session.refreshed", "auth.user.access_changed", "auth.session.revoked",
		"presence.connected", "presence.disconnected",
	}, names)
	require.Len(t, newRegistry(nil).byName, len(builtins))

	tested := map[string]bool{}
	for _, r := range rows() {
		tested[r.name] = true
	}
	require.Len(t, tested, len(builtins), "each has a row in the table test")
}

// decodeNamed reads an event off the bus.
func decodeNamed(name string, data []byte) (builtin, error) {
	return newRegistry(nil).byName[name].read(Envelope{Name: name, Data: data})
}

func TestRegistry_Decodes(t *testing.T) {
	t.Parallel()
	e, err := decodeNamed("trip.started", []byte(`{"tripId":"t1","driverId":"d1","at":"2026-05-04T10:20:30.123Z","later":[1]}`))
	require.NoError(t, err)
	require.Equal(t, "t1", e.EventKey())
	require.Equal(t, "d1", e.about().parties.DriverID)
	require.Equal(t, happened.UnixMilli(), e.about().at.UnixMilli())

	for _, bad := range []string{``, `{`, `{"tripId":"t1"}{}`} {
		e, err = decodeNamed("trip.started", []byte(bad))
		require.ErrorContains(t, err, "trip.started: ", bad)
		require.Nil(t, e)
	}
	for _, bad := range []string{`[]`, `"t1"`, `{"tripId":1}`} {
		e, err = decodeNamed("trip.started", []byte(bad))
		require.ErrorContains(t, err, "trip.started: ", bad)
		require.Empty(t, e.EventKey())
	}
	e, err = decodeNamed("auth.session.revoked", []byte(`{"sid":"s1","at":"noon"}`))
	require.ErrorContains(t, err, "auth.session.revoked: ")
	require.Equal(t, "s1", e.(SessionRevoked).SessionID, "enough to revoke it all the same")
}

func TestDomainEvent_EmptyIsRefused(t *testing.T) {
	t.Parallel()
	for _, d := range builtins {
		e, err := d.decode([]byte(`{}`))
		require.NoError(t, err)
		err = checkDomain(e)
		require.ErrorIs(t, err, errInvalidEvent, d.name)
		require.ErrorContains(t, err, d.name+": ")
	}
}

func TestDomainEvent_ErrorsNameFieldsAndQuoteNothing(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]DomainEvent{
		"missing assignmentId":                                       AssignmentAccepted{TripID: "t1"},
		"missing tripId, assignmentId":                               AssignmentExpired{},
		"missing ttlSec or expiresAt":                                AssignmentOffered{TripID: "t1", AssignmentID: "as1"},
		"cancelledBy must be passenger, driver, system or admin":     TripCancelled{TripID: "t1", CancelledBy: "secret"},
		"missing cancelledBy":                                        TripCancelled{TripID: "t1"},
		"to must be driver, passenger or both":                       AdminTripMessage{TripID: "t1", AdminID: "a1", To: "secret"},
		"missing adminId, action":                                    AdminTripAction{TripID: "t1"},
		"missing driverId":                                           DriverLocationChanged{},
		"missing userId, oldSid, newSid":                             SessionRefreshed{},
		"auth.session.revoked: invalid domain event: missing sid":    SessionRevoked{UserID: "secret"},
		"auth.user.logged_in: invalid domain event: missing userId":  UserLoggedIn{SessionID: "secret"},
		"driver_availability.status_updated: invalid domain event: ": DriverStatusChanged{},
	} {
		err := checked(e)
		require.ErrorContains(t, err, want)
		require.NotContains(t, err.Error(), "secret")
	}
}

func TestDomainEvent_Keys(t *testing.T) {
	t.Parallel()
	for want, e := range map[string]DomainEvent{
		"t1": TripRequested{TripID: "t1", PassengerID: "p1"},
		"t2": AdminTripAction{TripID: "t2", AdminID: "a1"},
		"t3": AssignmentOffered{TripID: "t3", AssignmentID: "as1", DriverID: "d1"},
		"d1": DriverTripChanged{DriverTrip{DriverID: "d1", CurrentTripID: new("t1")}},
		"u0": UserLoggedIn{UserID: "u0", SessionID: "s0"},

		"access:u1": SessionRevoked{UserID: "u1", SessionID: "s1"},
		"access:s1": SessionRevoked{SessionID: "s1"},
		"access:u2": UserAccessChanged{UserID: "u2"},
		"access:u3": SessionRefreshed{UserID: "u3", OldSessionID: "s1", NewSessionID: "s2"},
	} {
		require.Equal(t, want, e.EventKey())
	}
}
