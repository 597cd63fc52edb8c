// What drivers and admins send, what it is answered with, and how it is decoded
// and validated.

package realtime

import (
	"bytes"
	"encoding/json"
	"fmt"
	"math"
	"reflect"
	"strconv"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rodando/realtime/internal/jsonscan"
)

// The events that clients send.
var (
	// DriverStatusUpdate goes online or offline, free or busy, in /drivers.
	DriverStatusUpdate = NewCall[StatusUpdate, Availability]("driver:status:update")
	// DriverLocationPing reports a position, in /drivers.
	DriverLocationPing = NewCall[LocationPing, None]("driver:location:ping")
	// DriverTripSet sets or clears the snapshot's trip, in /drivers.
	DriverTripSet = NewCall[SetTrip, Availability]("driver:trip:set")
	// DriverOfferAccept takes an offered trip, in /drivers.
	DriverOfferAccept = NewCall[OfferAccept, OfferAccepted]("driver:offer:accept")
	// DriverOfferReject turns one down, in /drivers.
	DriverOfferReject = NewCall[OfferReject, OfferRejected]("driver:offer:reject")
	// AdminTripJoin and AdminTripLeave follow one trip, in /admin.
	AdminTripJoin  = NewCall[TripRef, TripRef]("admin:trip:join")
	AdminTripLeave = NewCall[TripRef, TripRef]("admin:trip:leave")
	// AdminDriversJoin and AdminDriversLeave turn the stream of all drivers'
	// positions on, as it is at connect, and off, in /admin.
	AdminDriversJoin  = NewCall[None, None]("admin:drivers:join")
	AdminDriversLeave = NewCall[None, None]("admin:drivers:leave")
	// AuthRefresh renews a socket's token in place, in every namespace.
	AuthRefresh = NewCall[TokenRefresh, Refreshed]("auth:refresh")
)

// AvailabilityReason says why a driver takes no trips. The zero value is none,
// null in JSON.
type AvailabilityReason string

// The reasons.
const (
	ReasonOffline     AvailabilityReason = "OFFLINE"
	ReasonOnTrip      AvailabilityReason = "ON_TRIP"
	ReasonUnavailable AvailabilityReason = "UNAVAILABLE"
)

// MarshalJSON implements json.Marshaler.
func (r AvailabilityReason) MarshalJSON() ([]byte, error) {
	if r == "" {
		return []byte("null"), nil
	}
	return json.Marshal(string(r))
}

// Position is a point on earth, in degrees.
type Position struct {
	Lat float64 `json:"lat"` // -90 to 90
	Lng float64 `json:"lng"` // -180 to 180
}

// StatusUpdate is the body of driver:status:update. Nil means not given.
type StatusUpdate struct {
	IsOnline            *bool `json:"isOnline,omitempty"`
	IsAvailableForTrips *bool `json:"isAvailableForTrips,omitempty"`
	// AvailabilityReason points to "" when the client sent null: no reason of
	// its own, the server finds the one that the rules imply.
	AvailabilityReason *AvailabilityReason `json:"availabilityReason,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler. Like that of all bodies in this
// file it matches names exactly, ignores unknown ones and takes null for absent.
func (u *StatusUpdate) UnmarshalJSON(b []byte) error {
	*u = StatusUpdate{}
	return decodeObject(b, member{"isOnline", &u.IsOnline}, member{"isAvailableForTrips", &u.IsAvailableForTrips},
		member{"availabilityReason", &u.AvailabilityReason})
}

// Validate refuses a body that says nothing, or that contradicts itself
// whatever the driver's present state. The *Error names the fields.
func (u StatusUpdate) Validate() error {
	var p problems
	reason, online, available := u.reason(), u.IsOnline, u.IsAvailableForTrips
	switch {
	case online == nil && available == nil && u.AvailabilityReason == nil:
		p.add("at least one of them is required", "isOnline", "isAvailableForTrips", "availabilityReason")
	case reason != "" && reason != ReasonOffline && reason != ReasonOnTrip && reason != ReasonUnavailable:
		p.add("must be OFFLINE, ON_TRIP, UNAVAILABLE or null", "availabilityReason")
	case is(online, false) && is(available, true):
		p.add("a driver who is offline is not available", "isOnline", "isAvailableForTrips")
	case reason != "" && is(available, true):
		p.add("a driver who is available has no reason not to be", "isAvailableForTrips", "availabilityReason")
	case reason != "" && online != nil && *online == (reason == ReasonOffline):
		p.add("OFFLINE is the reason of a driver who is offline, and his only one", "isOnline", "availabilityReason")
	}
	return p.err()
}

func (u StatusUpdate) reason() AvailabilityReason {
	if u.AvailabilityReason == nil {
		return ""
	}
	return *u.AvailabilityReason
}

// LocationPing is the body of driver:location:ping. After Validate, Position is
// never nil, so that ping.Lat and ping.Lng can be read as they stand.
type LocationPing struct {
	*Position                      // required
	LastLocationTimestamp Time     `json:"lastLocationTimestamp,omitzero"` // when the position was taken; zero: not given
	Heading               *float64 `json:"heading,omitempty"`              // degrees, 0 to 360
	Speed                 *float64 `json:"speed,omitempty"`                // m/s
	AccuracyMeters        *float64 `json:"accuracyMeters,omitempty"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (p *LocationPing) UnmarshalJSON(b []byte) error {
	// No JSON number is NaN, so that it can stand for a missing one.
	*p = LocationPing{Position: &Position{math.NaN(), math.NaN()}}
	return decodeObject(b, member{"lat", &p.Lat}, member{"lng", &p.Lng}, member{"lastLocationTimestamp", &p.LastLocationTimestamp},
		member{"heading", &p.Heading}, member{"speed", &p.Speed}, member{"accuracyMeters", &p.AccuracyMeters})
}

// Validate refuses a position that is missing or not on earth, and a time more
// than 24 hours off. The *Error names the fields.
func (p LocationPing) Validate() error {
	var bad problems
	if p.Position == nil || !within(p.Lat, -90, 90) {
		bad.add("must be a number from -90 to 90", "lat")
	}
	if p.Position == nil || !within(p.Lng, -180, 180) {
		bad.add("must be a number from -180 to 180", "lng")
	}
	if !p.LastLocationTimestamp.IsZero() && time.Since(p.LastLocationTimestamp.Time).Abs() > maxClockError {
		bad.add("must be within 24 hours of now", "lastLocationTimestamp")
	}
	if p.Heading != nil && !within(*p.Heading, 0, 360) {
		bad.add("must be a number from 0 to 360", "heading")
	}
	if p.Speed != nil && !within(*p.Speed, 0, math.MaxFloat64) {
		bad.add("must not be negative", "speed")
	}
	if p.AccuracyMeters != nil && !within(*p.AccuracyMeters, 0, math.MaxFloat64) {
		bad.add("must not be negative", "accuracyMeters")
	}
	return bad.err()
}

// SetTrip is the body of driver:trip:set.
type SetTrip struct {
	CurrentTripID *string `json:"currentTripId"` // nil: no trip
}

// UnmarshalJSON implements json.Unmarshaler.
func (s *SetTrip) UnmarshalJSON(b []byte) error {
	*s = SetTrip{}
	return decodeObject(b, member{"currentTripId", &s.CurrentTripID})
}

// Validate refuses an empty or overlong id.
func (s SetTrip) Validate() error {
	var p problems
	if s.CurrentTripID != nil {
		p.checkID("currentTripId", *s.CurrentTripID)
	}
	return p.err()
}

// OfferAccept is the body of driver:offer:accept.
type OfferAccept struct {
	AssignmentID string `json:"assignmentId"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *OfferAccept) UnmarshalJSON(b []byte) error {
	*o = OfferAccept{}
	return decodeObject(b, member{"assignmentId", &o.AssignmentID})
}

// Validate refuses a missing or overlong id.
func (o OfferAccept) Validate() error {
	var p problems
	p.checkID("assignmentId", o.AssignmentID)
	return p.err()
}

// OfferAccepted answers driver:offer:accept.
type OfferAccepted struct {
	AssignmentID string `json:"assignmentId"`
	TripID       string `json:"tripId"`
}

// OfferReject is the body of driver:offer:reject.
type OfferReject struct {
	AssignmentID string `json:"assignmentId"`
	Reason       string `json:"reason,omitempty"` // at most 200 characters; may be empty
}

// UnmarshalJSON implements json.Unmarshaler.
func (o *OfferReject) UnmarshalJSON(b []byte) error {
	*o = OfferReject{}
	return decodeObject(b, member{"assignmentId", &o.AssignmentID}, member{"reason", &o.Reason})
}

// Validate refuses a missing or overlong id, and an overlong reason.
func (o OfferReject) Validate() error {
	var p problems
	p.checkID("assignmentId", o.AssignmentID)
	if utf8.RuneCountInString(o.Reason) > maxReason {
		p.add(fmt.Sprintf("must have at most %d characters", maxReason), "reason")
	}
	return p.err()
}

// OfferRejected answers driver:offer:reject.
type OfferRejected struct {
	AssignmentID string `json:"assignmentId"`
}

// TripRef is the body of admin:trip:join and admin:trip:leave, and their answer.
type TripRef struct {
	TripID string `json:"tripId"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *TripRef) UnmarshalJSON(b []byte) error {
	*r = TripRef{}
	return decodeObject(b, member{"tripId", &r.TripID})
}

// Validate refuses a missing or overlong id.
func (r TripRef) Validate() error {
	var p problems
	p.checkID("tripId", r.TripID)
	return p.err()
}

// TokenRefresh is the body of auth:refresh.
type TokenRefresh struct {
	Token string `json:"token"`
}

// UnmarshalJSON implements json.Unmarshaler.
func (r *TokenRefresh) UnmarshalJSON(b []byte) error {
	*r = TokenRefresh{}
	return decodeObject(b, member{"token", &r.Token})
}

// Validate refuses a missing token; the TokenVerifier judges the rest.
func (r TokenRefresh) Validate() error {
	var p problems
	if r.Token == "" {
		p.add("is required", "token")
	}
	return p.err()
}

// Refreshed answers auth:refresh.
type Refreshed struct {
	ExpiresAt Time `json:"expiresAt"`
}

// Availability is the snapshot of a driver that clients see. Nil and zero
// values are null in JSON.
type Availability struct {
	DriverID              string             `json:"driverId"`
	IsOnline              bool               `json:"isOnline"`
	IsAvailableForTrips   bool               `json:"isAvailableForTrips"`
	AvailabilityReason    AvailabilityReason `json:"availabilityReason"`
	CurrentTripID         *string            `json:"currentTripId"`
	CurrentVehicleID      *string            `json:"currentVehicleId"`
	LastLocation          *Position          `json:"lastLocation"`
	LastLocationTimestamp Time               `json:"lastLocationTimestamp"`
	LastOnlineTimestamp   Time               `json:"lastOnlineTimestamp"` // when he was last known to be online
	UpdatedAt             Time               `json:"updatedAt"`
}

// LocationUpdate tells of a driver's new position.
type LocationUpdate struct {
	DriverID              string   `json:"driverId"`
	LastLocation          Position `json:"lastLocation"`
	LastLocationTimestamp Time     `json:"lastLocationTimestamp"`
	Heading               *float64 `json:"heading,omitempty"`
	Speed                 *float64 `json:"speed,omitempty"`
}

// DriverTrip tells that a driver's current trip was set or cleared.
type DriverTrip struct {
	DriverID            string             `json:"driverId"`
	CurrentTripID       *string            `json:"currentTripId"`
	AvailabilityReason  AvailabilityReason `json:"availabilityReason"`
	IsAvailableForTrips bool               `json:"isAvailableForTrips"`
}

const (
	maxID         = 256 // bytes
	maxReason     = 200 // characters
	maxClockError = 24 * time.Hour
)

// problems collects what is wrong with a payload.
type problems struct {
	texts  []string
	fields []string
}

func (p *problems) add(text string, fields ...string) {
	p.texts = append(p.texts, strings.Join(fields, ", ")+": "+text)
	p.fields = append(p.fields, fields...)
}

func (p *problems) checkID(field, id string) {
	switch {
	case id == "":
		p.add("is required", field)
	case len(id) > maxID:
		p.add(fmt.Sprintf("must have at most %d bytes", maxID), field)
	}
}

func (p *problems) err() error {
	if len(p.fields) == 0 {
		return nil
	}
	return &Error{Code: CodeInvalidPayload, Message: strings.Join(p.texts, "; "), Fields: p.fields}
}

// within is false for NaN.
func within(f, low, high float64) bool { return f >= low && f <= high }

func is(p *bool, want bool) bool { return p != nil && *p == want }

// member is a field of a body: its exact name, and where its value goes.
type member struct {
	name string
	to   any
}

// decodeObject reads the members of a JSON object. Its errors are
// *json.UnmarshalTypeError with the Field, as encoding/json's are.
//
// Unlike encoding/json it does not let "LAT" pass for "lat", and called directly
// it takes a third of the time: positions arrive by the thousand per second. It
// relies on b being valid JSON; if it is not, the result means nothing.
func decodeObject(b []byte, members ...member) error {
	i := skipSpace(b, 0)
	if i == len(b) || b[i] != '{' {
		if bytes.HasPrefix(b[i:], []byte("null")) {
			return nil
		}
		return &json.UnmarshalTypeError{Value: "no object", Type: reflect.TypeFor[struct{}]()}
	}
	for i = skipSpace(b, i+1); i < len(b) && b[i] == '"'; i = skipSpace(b, i+1) {
		end := skipValue(b, i)
		name, _ := jsonscan.String(b[i:end])
		i = skipSpace(b, skipSpace(b, end)+1) // over the colon
		end = skipValue(b, i)
		for _, m := range members {
			if m.name == string(name) && !assign(m.to, b[i:end]) {
				return &json.UnmarshalTypeError{Value: "another type", Type: reflect.TypeOf(m.to).Elem(), Field: m.name}
			}
		}
		i = skipSpace(b, end) // to the comma or brace
	}
	return nil
}

// assign stores a JSON value, if it is of the right type. Null leaves things as
// they are, but to a reason it is a value.
func assign(to any, value []byte) bool {
	if string(value) == "null" {
		if to, ok := to.(**AvailabilityReason); ok {
			*to = new(AvailabilityReason(""))
		}
		return true
	}
	text, isString := jsonscan.String(value)
	switch to := to.(type) {
	case *float64:
		f, err := strconv.ParseFloat(string(value), 64)
		*to = f
		return err == nil
	case **float64:
		*to = new(float64)
		return assign(*to, value)
	case **bool:
		*to = new(string(value) == "true")
		return **to || string(value) == "false"
	case *string:
		*to = string(text)
	case **string:
		*to = new(string(text))
	case **AvailabilityReason:
		*to = new(AvailabilityReason(text))
		return len(text) > 0 // "" would read as null
	case *Time:
		at, err := time.Parse(time.RFC3339, string(text))
		*to = Time{at}
		return err == nil
	}
	return isString
}

func skipSpace(b []byte, i int) int {
	for i < len(b) && (b[i] == ' ' || b[i] == '\t' || b[i] == '\n' || b[i] == '\r') {
		i++
	}
	return min(i, len(b))
}

// skipValue returns the position behind the value that starts at i: behind its
// last quote or bracket, or before the delimiter that ends it.
func skipValue(b []byte, i int) int {
	for depth := 0; i < len(b); i++ {
		switch b[i] {
		case '"':
			for i++; i < len(b) && b[i] != '"'; i++ {
				if b[i] == '\\' {
					i++
				}
			}
			if depth == 0 {
				return min(i+1, len(b))
			}
		case '{', '[':
			depth++
		case '}', ']':
			if depth--; depth < 0 {
				return i
			}
			if depth == 0 {
				return i + 1
			}
		case ',', ' ', '\t', '\n', '\r':
			if depth == 0 {
				return i
			}
		}
	}
	return len(b)
}
