// The rules of a driver's row: pure, and what a driver says on a trip holds after it; and
// MemoryDrivers filled with rows.

package realtime_test

import (
	"encoding/json"
	"maps"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// What a driver says while on a trip holds when it ends.
func TestMemoryDrivers_StatusWhileOnATrip(t *testing.T) {
	t.Parallel()
	const paused, pause, offline, online = `{"isOnline":true,"isAvailableForTrips":false}`, `{"isAvailableForTrips":false}`, `{"isOnline":false}`, `{"isOnline":true}`
	for _, tt := range []struct {
		before string
		during []string
		free   bool // after the trip
	}{
		{online, []string{`{"availabilityReason":null}`}, true},
		{online, []string{`{"availabilityReason":"ON_TRIP"}`}, true},
		{online, []string{`{"isOnline":true,"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`}, true}, // what an app may say in so many words
		{online, []string{pause}, false},
		{online, []string{`{"availabilityReason":"UNAVAILABLE"}`}, false},
		{online, []string{offline}, false},
		{online, []string{offline, online}, true}, // a phone that starts again
		{online, []string{pause, online}, true},
		{paused, []string{online}, true},
		{paused, []string{`{"availabilityReason":null}`}, false},
		{paused, []string{`{"availabilityReason":"ON_TRIP"}`}, false},
		{offline, []string{online}, true},
	} {
		m := realtime.NewMemoryDrivers()
		updateDriver(t, m, tt.before)
		_, err := m.SetTrip(t.Context(), "d", "t1")
		require.NoError(t, err)
		for _, body := range tt.during {
			a := updateDriver(t, m, body)
			require.False(t, a.IsAvailableForTrips, "on a trip")
			require.Equal(t, "t1", deref(a.CurrentTripID))
		}
		a, err := m.SetTrip(t.Context(), "d", "")
		require.NoError(t, err)
		require.Equal(t, tt.free, a.IsAvailableForTrips, "%s, then %s", tt.before, tt.during)
		require.NotEqual(t, realtime.ReasonOnTrip, a.AvailabilityReason)
	}

	// An app that says ON_TRIP before it sets the trip, and one that never sets it.
	for _, trip := range []string{"t1", ""} {
		m := realtime.NewMemoryDrivers()
		updateDriver(t, m, online)
		a := updateDriver(t, m, `{"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`)
		require.Equal(t, realtime.ReasonOnTrip, a.AvailabilityReason)
		_, err := m.SetTrip(t.Context(), "d", trip)
		require.NoError(t, err)
		a, err = m.SetTrip(t.Context(), "d", "")
		require.NoError(t, err)
		require.True(t, a.IsAvailableForTrips)
	}
}

// updateDriver applies a status update, as JSON, that must succeed.
func updateDriver(t *testing.T, m *realtime.MemoryDrivers, body string) realtime.Availability {
	t.Helper()
	var in realtime.StatusUpdate
	require.NoError(t, json.Unmarshal([]byte(body), &in))
	a, err := m.UpdateStatus(t.Context(), "d", in)
	require.NoError(t, err, body)
	return a
}

// A refusal leaves no trace, and a row is never changed in place.
func TestDriverState_IsPure(t *testing.T) {
	t.Parallel()
	now := time.Date(2026, 5, 4, 10, 20, 30, 0, time.UTC)
	position := realtime.Position{Lat: 1, Lng: 2}
	var zero realtime.DriverState
	require.NoError(t, zero.Validate())
	require.Equal(t, realtime.ReasonOffline, zero.Availability("d").AvailabilityReason)

	row, err := zero.WithStatus(realtime.StatusUpdate{IsOnline: new(true)}, now)
	require.NoError(t, err)
	row, fresh := row.WithPosition(realtime.LocationPing{Position: &position}, now.Add(time.Second))
	require.True(t, fresh)
	position.Lat = 50
	was := row
	require.Equal(t, realtime.Position{Lat: 1, Lng: 2}, *row.Location)
	require.Equal(t, []time.Time{now, now.Add(time.Second), now.Add(time.Second)}, []time.Time{row.LastOnline, row.LocatedAt, row.Updated})

	onTrip := row.WithTrip("t1", now.Add(2*time.Second))
	require.True(t, onTrip.AvailabilityChanged(row))
	require.False(t, onTrip.WithTrip("t2", now).AvailabilityChanged(onTrip))
	refused, err := onTrip.WithStatus(realtime.StatusUpdate{IsAvailableForTrips: new(true)}, now.Add(time.Hour))
	require.Equal(t, realtime.CodeConflict, realtime.CodeOf(err))
	require.Equal(t, onTrip, refused)
	refused, err = onTrip.WithStatus(realtime.StatusUpdate{}, now.Add(time.Hour))
	require.Equal(t, realtime.CodeInvalidPayload, realtime.CodeOf(err))
	require.Equal(t, onTrip, refused)
	require.Equal(t, realtime.DriverTrip{DriverID: "d", CurrentTripID: new("t1"), AvailabilityReason: realtime.ReasonOnTrip}, onTrip.Trip("d"))
	free := onTrip.WithTrip("", now.Add(3*time.Second))
	require.True(t, free.Available)
	require.Equal(t, now.Add(3*time.Second), free.Updated)
	require.Equal(t, was, row)

	text, err := json.Marshal(onTrip)
	require.NoError(t, err)
	var again realtime.DriverState
	require.NoError(t, json.Unmarshal(text, &again))
	require.Equal(t, onTrip, again, "a row can be stored as JSON")
}

func TestMemoryDrivers_Put(t *testing.T) {
	t.Parallel()
	at := time.Date(2026, 5, 4, 10, 20, 30, 0, time.UTC)
	stored := realtime.DriverState{
		Online: true, Reason: realtime.ReasonOnTrip, TripID: "t1", VehicleID: "v1", AvailableAfterTrip: true,
		Location: &realtime.Position{Lat: 1, Lng: 2}, LocatedAt: at, LastOnline: at, Updated: at,
	}
	m := realtime.NewMemoryDrivers()
	require.NoError(t, m.Put("d", stored))
	require.NoError(t, m.Put("e", realtime.DriverState{}))
	all := maps.Collect(m.All())
	require.Equal(t, map[string]realtime.DriverState{"d": stored, "e": {}}, all)
	for range m.All() {
		break
	}
	stored.Location.Lat, all["d"].Location.Lat = 50, 60
	a, known := m.Snapshot("d")
	require.True(t, known)
	require.Equal(t, realtime.Availability{
		DriverID: "d", IsOnline: true, AvailabilityReason: realtime.ReasonOnTrip, CurrentTripID: new("t1"), CurrentVehicleID: new("v1"),
		LastLocation: &realtime.Position{Lat: 1, Lng: 2}, LastLocationTimestamp: realtime.Time{Time: at}, LastOnlineTimestamp: realtime.Time{Time: at}, UpdatedAt: realtime.Time{Time: at},
	}, a)
	a, err := m.SetTrip(t.Context(), "d", "")
	require.NoError(t, err)
	require.True(t, a.IsAvailableForTrips)
	require.Equal(t, "v1", deref(a.CurrentVehicleID))

	require.ErrorContains(t, m.Put("", realtime.DriverState{}), "realtime: ")
	for name, wrong := range map[string]realtime.DriverState{
		"available offline":      {Available: true},
		"available on a trip":    {Online: true, Available: true, TripID: "t"},
		"available with reason":  {Online: true, Available: true, Reason: realtime.ReasonUnavailable},
		"online without reason":  {Online: true},
		"online for OFFLINE":     {Online: true, Reason: realtime.ReasonOffline},
		"for lunch":              {Online: true, Reason: "LUNCH"},
		"later, but offline":     {TripID: "t", AvailableAfterTrip: true},
		"later, but now":         {Online: true, Available: true, AvailableAfterTrip: true},
		"not on earth":           {Location: &realtime.Position{Lat: 1000}, LocatedAt: at},
		"a position without at":  {Location: &realtime.Position{}},
		"a time of no position":  {LocatedAt: at},
		"an id that is no UTF-8": {TripID: "\xff"},
	} {
		err := m.Put("w", wrong)
		require.ErrorContains(t, err, "realtime: ", name)
	}
	_, known = m.Snapshot("w")
	require.False(t, known)
}
