// The rules of a driver's row, for a DriverService with a database.

package realtime_test

import (
	"fmt"
	"time"

	"github.com/rodando/realtime"
)

func ExampleDriverState() {
	var row realtime.DriverState // of a driver who is not known
	now := time.Now()
	row, err := row.WithStatus(realtime.StatusUpdate{IsOnline: new(true)}, now)
	fmt.Println(row.Available, err)

	row = row.WithTrip("trip-7", now)
	_, err = row.WithStatus(realtime.StatusUpdate{IsAvailableForTrips: new(true)}, now)
	fmt.Println(row.Available, row.Reason, err)

	before := row
	row = row.WithTrip("", now) // the trip has ended
	if row.AvailabilityChanged(before) {
		fmt.Println(row.Available, "publish", realtime.DriverStatusChanged{Availability: row.Availability("driver-1")}.EventName())
	}
	// Output:
	// true <nil>
	// false ON_TRIP conflict: not available while on a trip
	// true publish driver_availability.status_updated
}
