// What the people of a trip see of each other: cards that have no full phone number.

package realtime

import "unicode"

// Place is a point on the map with its address, which may be nil.
type Place struct {
	Lat     float64 `json:"lat" doc:"degrees, -90 to 90"`
	Lng     float64 `json:"lng" doc:"degrees, -180 to 180"`
	Address *string `json:"address" null:"not supplied"`
}

// DriverCard is what a passenger may know of the trip's driver. There is no field for
// a full phone number, and a PhoneMasked that shows more than six digits is
// sent as null.
type DriverCard struct {
	ID          string   `json:"id"`
	Name        *string  `json:"name" null:"not supplied"`
	PhotoURL    *string  `json:"photoUrl" null:"not supplied"`
	PhoneMasked *string  `json:"phoneMasked" doc:"such as +53 ••• ••123; never a full number" null:"not supplied"`
	RatingAvg   *float64 `json:"ratingAvg" doc:"stars" null:"not rated"`
	RatingCount *int     `json:"ratingCount" null:"not supplied"`
}

// VehicleCard is what a passenger may know of the vehicle that comes.
type VehicleCard struct {
	ID          string  `json:"id"`
	Make        *string `json:"make" null:"not supplied"`
	Model       *string `json:"model" null:"not supplied"`
	Color       *string `json:"color" null:"not supplied"`
	PlateNumber *string `json:"plateNumber" null:"not supplied"`
}

// PassengerCard is what a driver may know of the trip's passenger; PhoneMasked is as
// in DriverCard.
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

// showsPhone reports whether so many digits are visible that a masked number
// may be a full one: more than six.
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
