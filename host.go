// The interfaces that a host implements: verifying tokens, finding users, sessions and
// trips, executing drivers' events, and the bus. They are small, so that a test can use a
// map and production a database.

package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"time"
)

// TokenVerifier verifies access tokens. NewJWTVerifier returns one for JSON Web Tokens.
//
// VerifyToken may block, within ctx, and is called concurrently. It returns an error that
// is or wraps ErrTokenInvalid or ErrTokenExpired for a bad token. Any other error leaves
// the handshake undecided (CodeUnavailable). It does not refuse missing claims: it returns
// an empty Subject or SessionID. The namespace is the one that the client connects to, for
// verifiers that check an audience. The server logs the text of an error that wraps
// ErrTokenInvalid as the cause of the refusal, without the parts that quote the token.
type TokenVerifier interface {
	VerifyToken(ctx context.Context, token, namespace string) (Claims, error)
}

// Claims is what a verified token says.
type Claims struct {
	Subject   string    // the user's id, claim "sub"
	SessionID string    // the login session's id, claim "sid"
	ExpiresAt time.Time // claim "exp"; required
}

// UserType decides which namespaces a user may enter.
type UserType string

// The user types of the three namespaces.
const (
	UserDriver    UserType = "driver"
	UserPassenger UserType = "passenger"
	UserAdmin     UserType = "admin"
)

// User is a row of the host's user table.
type User struct {
	ID     string
	Type   UserType
	Active bool // false: banned or deactivated, refused with CodeUserInactive
}

// UserRepo finds users.
//
// FindUser may block, within ctx, and is called concurrently. A missing user
// is ErrNotFound; any other error refuses with CodeUnavailable.
type UserRepo interface {
	FindUser(ctx context.Context, id string) (User, error)
}

// UserBatchRepo is what a UserRepo may implement besides, so that a sweep looks up
// many users at once.
//
// FindUsers may block, within ctx, and is called concurrently. The order of the answer
// is free; a user who is not in it does not exist.
type UserBatchRepo interface {
	FindUsers(ctx context.Context, ids []string) ([]User, error)
}

// Session is a row of the host's login session table.
type Session struct {
	ID      string
	UserID  string
	Revoked bool
	// AccessTokenExpiresAt, when set, ends the session's sockets at that time
	// whatever the token says.
	AccessTokenExpiresAt time.Time
}

// SessionRepo finds login sessions.
//
// FindSession may block, within ctx, and is called concurrently. A missing
// session is ErrNotFound; any other error refuses with CodeUnavailable.
type SessionRepo interface {
	FindSession(ctx context.Context, sid string) (Session, error)
}

// SessionBatchRepo is what a SessionRepo may implement besides, so that a sweep looks
// up many sessions at once.
//
// FindSessions may block, within ctx, and is called concurrently. The order of the
// answer is free; a session that is not in it does not exist.
type SessionBatchRepo interface {
	FindSessions(ctx context.Context, sids []string) ([]Session, error)
}

// TripLookup finds the running trips of a user. It is optional; without one the server
// knows the trips that it has seen on the bus since it started.
//
// The server calls it for each socket that connects, which then joins the rooms of these
// trips. Its answer decides, with two exceptions: events of the last five seconds, which
// its database may not contain yet, and trips that have ended according to the bus. Every
// sweep calls it for the drivers and passengers who are in a trip's room, or for all who
// are connected if it implements TripBatchLookup. A DriverLocationChanged calls it, at most
// every 30 s, for a driver whose trips the node does not know.
//
// ActiveTrips may block, within ctx, and is called concurrently. It returns the
// ids of the trips that the user, driver or passenger, takes part in now: none
// is no error. An error refuses the handshake with CodeUnavailable, and so do more
// than 1000 trips and an id that is empty, longer than 256 bytes or has a NUL in it.
type TripLookup interface {
	ActiveTrips(ctx context.Context, userID string) ([]string, error)
}

// TripBatchLookup is what a TripLookup may implement besides, to be asked for many
// users at once by the sweep, and then for all who are connected instead of those who
// are in a trip's room. It may block, within ctx. A user without a trip need not be in the
// answer.
type TripBatchLookup interface {
	ActiveTripsOf(ctx context.Context, userIDs []string) (map[string][]string, error)
}

// TripParties are the people of a trip. DriverID is empty before assignment.
type TripParties struct{ PassengerID, DriverID string }

// PartyLookup is optional: it fills in the passenger and driver of a domain
// event that carries no ids of its own, when the server has not seen them on
// an earlier event of the trip.
//
// FindParties may block, within ctx, and is called concurrently. An unknown
// trip is ErrNotFound. What it answers is kept: the passenger with the trip, the
// driver for 30 s. While it is asked the trip's events wait, and no others. A trip
// for which it did not answer within Timeouts.Repo is left alone for 10 s, at
// most 5 min when that goes on, and its events go to those who are known.
type PartyLookup interface {
	FindParties(ctx context.Context, tripID string) (TripParties, error)
}

// DriverService executes a driver's inbound events. The default, NewMemoryDrivers, has the
// rules of a driver's status and loses its state on restart.
//
// Its methods may block, within ctx, and are called concurrently for different
// sockets; a driver with two phones has two sockets. They refuse with an *Error. Their
// results must have the same driver id as the call: a result with another driver's id is
// discarded and the event fails with CodeInternal.
type DriverService interface {
	// UpdateStatus applies a status change and returns the snapshot after it.
	UpdateStatus(ctx context.Context, driverID string, in StatusUpdate) (Availability, error)
	// UpdateLocation stores a position. fresh is false when a newer one was
	// stored already: the ping is acknowledged and no event is emitted.
	UpdateLocation(ctx context.Context, driverID string, in LocationPing) (out LocationUpdate, fresh bool, err error)
	// SetTrip sets the snapshot's current trip, or clears it when tripID is
	// empty. It does not decide who follows the trip: domain events do.
	SetTrip(ctx context.Context, driverID, tripID string) (Availability, error)
}

// OfferService is optional: it answers a driver's accept and reject. Without
// one every offer is CodeNotFound.
//
// Its methods may block, within ctx, and are called concurrently. An offer that
// expired or was taken is CodeConflict, one not made to this driver
// CodeNotFound; the same driver accepting again gets the same success. The host
// publishes the domain events that follow.
type OfferService interface {
	AcceptOffer(ctx context.Context, driverID, assignmentID string) (tripID string, err error)
	RejectOffer(ctx context.Context, driverID, assignmentID, reason string) error
}

// Envelope is a domain event on the bus.
type Envelope struct {
	ID   string    `json:"id"`   // unique, a UUID; reaches clients as eventId
	Name string    `json:"name"` // such as "trip.requested"
	Key  string    `json:"key"`  // events of one key are delivered in order; see DomainEvent.EventKey
	At   time.Time `json:"at"`   // when it was published
	Data []byte    `json:"data"` // JSON of the event's struct, such as TripRequested

	// event is the event itself, in the place of Data, on its way from a server
	// through a MemoryBus to a server.
	event builtin
}

// encoded returns the envelope with its Data and without the event itself.
func (e Envelope) encoded() (Envelope, error) {
	if e.event == nil {
		return e, nil
	}
	data, err := json.Marshal(e.event)
	if err != nil {
		return e, fmt.Errorf("encoding %s: %w", e.Name, err)
	}
	e.Data, e.event = data, nil
	return e, nil
}

// EventBus carries domain events between the host's services and the server. NewMemoryBus
// returns one for a single process; realtimetest.TestEventBus is the test suite for buses.
//
// Publish may block, within ctx, and is called concurrently; nil means that the
// bus has taken the event. Subscribe registers a handler that is called for
// every event published afterwards: one at a time and in order for each Key,
// concurrently across keys. A handler's error is the bus's to retry or drop. The
// server's handler does not wait for other services, so a bus may deliver one event
// after the other: an event that waits for PartyLookup longer than 50 ms counts as
// handled before it is sent, and is lost if the process ends before that.
// The returned function ends the subscription and waits for running handlers.
type EventBus interface {
	Publish(ctx context.Context, e Envelope) error
	Subscribe(handler func(ctx context.Context, e Envelope) error) (cancel func(), err error)
}

// Identity is who a socket belongs to. It does not change while the socket
// lives, but for the session, which auth:refresh may renew.
type Identity struct {
	UserID    string   `json:"userId"`
	UserType  UserType `json:"userType"`
	SessionID string   `json:"sid"`
}
