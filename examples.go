// Examples: the values that the generated documentation of the events shows, and values, which
// lists an enumeration.

package realtime

import "time"

const (
	exampleTrip       = "trip-1"
	exampleDriver     = "driver-1"
	examplePassenger  = "passenger-1"
	exampleAdmin      = "admin-1"
	exampleVehicle    = "vehicle-1"
	exampleAssignment = "assignment-1"
	exampleSession    = "session-1"
	exampleEventID    = "3f0c5a52-8c1b-4d54-9a0e-2f6a1f5f1c11"
)

var (
	exampleTime = time.Date(2026, 5, 4, 10, 20, 30, 123e6, time.UTC)

	examplePosition = &Position{Lat: 23.1136, Lng: -82.3666}
	examplePlace    = &Place{Lat: 23.1136, Lng: -82.3666, Address: new("Calle 23, Vedado")}

	exampleDriverCard = &DriverCard{
		ID: exampleDriver, Name: new("Ana"), PhoneMasked: new("+53 ••• ••123"), RatingAvg: new(4.8), RatingCount: new(31),
	}
	exampleVehicleCard   = &VehicleCard{ID: exampleVehicle, Make: new("Lada"), Model: new("2105"), Color: new("blue"), PlateNumber: new("P123456")}
	examplePassengerCard = &PassengerCard{ID: examplePassenger, Name: new("Eva"), PhoneMasked: new("+53 ••• ••456")}

	exampleOnTrip = Availability{
		DriverID: exampleDriver, IsOnline: true, AvailabilityReason: ReasonOnTrip, CurrentTripID: new(exampleTrip), LastLocation: examplePosition,
		LastLocationTimestamp: Time{exampleTime}, LastOnlineTimestamp: Time{exampleTime}, UpdatedAt: Time{exampleTime},
	}
	exampleAvailability = Availability{
		DriverID: exampleDriver, IsOnline: true, IsAvailableForTrips: true, LastLocation: examplePosition,
		LastLocationTimestamp: Time{exampleTime}, LastOnlineTimestamp: Time{exampleTime}, UpdatedAt: Time{exampleTime},
	}
)

// values returns the values of an enumeration as strings.
func values[S ~string](all ...S) []string {
	out := make([]string, len(all))
	for i, v := range all {
		out[i] = string(v)
	}
	return out
}
