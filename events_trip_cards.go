// Cards: what the passenger and the driver of a trip see of each other. A card has no full
// phone number.

package realtime

import "unicode"

// Place is a point on the map with its address, which may be nil.
type Place struct {
	Lat     float64 `json:"lat" doc:"degrees, -90 to 90"`
	Lng     float64 `json:"lng" doc:"degrees, -180 to 180"`
	Address *string `json:"address" null:"not supplied"`
}

// DriverCard describes a trip's driver to the passenger. It has no field for a full phone
// number, and a PhoneMasked with more than six digits is sent as null.
type DriverCard struct {
	ID          string   `json:"id"`
	Name        *string  `json:"name" null:"not supplied"`
	PhotoURL    *string  `json:"photoUrl" null:"not supplied"`
	PhoneMasked *string  `json:"phoneMasked" doc:"such as +53 ••• ••123; never a full number" null:"not supplied"`
	RatingAvg   *float64 `json:"ratingAvg" doc:"stars" null:"not rated"`
	RatingCount *int     `json:"ratingCount" null:"not supplied"`
}

// VehicleCard describes the driver's vehicle to the passenger.
type VehicleCard struct {
	ID          string  `json:"id"`
	Make        *string `json:"make" null:"not supplied"`
	Model       *string `json:"model" null:"not supplied"`
	Color       *string `json:"color" null:"not supplied"`
	PlateNumber *string `json:"plateNumber" null:"not supplied"`
}

// PassengerCard describes a trip's passenger to the driver. A PhoneMasked with more than six
// digits is sent as null.
type PassengerCard struct {
	ID          string  `json:"id"`
	Name        *string `json:"name" null:"not supplied"`
	PhotoURL    *string `json:"photoUrl" null:"not supplied"`
	PhoneMasked *string `json:"phoneMasked" doc:"such as +53 ••• ••123; never a full number" null:"not supplied"`
}

func (c *DriverCard) number() number {
	if c == nil {
		return number{}
	}
	return optional("driver.ratingAvg", c.RatingAvg)
}

// masked returns an event as it leaves the process: its cards are without a phone number that is
// not masked. Any program may read the bus.
func masked(e DomainEvent) DomainEvent {
	switch e := e.(type) {
	case AssignmentAccepted:
		e.Driver = e.Driver.masked()
		return e
	case *AssignmentAccepted:
		return masked(*e)
	case DriverAssigned:
		e.Driver, e.Passenger = e.Driver.masked(), e.Passenger.masked()
		return e
	case *DriverAssigned:
		return masked(*e)
	}
	return e
}

// masked returns the card without a phone number that is not masked.
func (c *DriverCard) masked() *DriverCard {
	if c == nil || !showsPhone(c.PhoneMasked) {
		return c
	}
	safe := *c
	safe.PhoneMasked = nil
	return &safe
}

// masked returns the card without a phone number that is not masked.
func (c *PassengerCard) masked() *PassengerCard {
	if c == nil || !showsPhone(c.PhoneMasked) {
		return c
	}
	safe := *c
	safe.PhoneMasked = nil
	return &safe
}

// showsPhone reports whether a masked number has more than six digits, so that it may be a
// full number.
func showsPhone(s *string) bool {
	if s == nil {
		return false
	}
	digits := 0
	for _, r := range *s {
		if unicode.IsDigit(r) {
			digits++
		}
	}
	return digits > 6
}
