// The interfaces that a host implements: verifying tokens, finding users, sessions and
// trips, executing drivers' events, and the bus, with the types of their arguments and
// results. They are small, so that a test can use a map and production a database.

package realtime

import (
	"context"
	"encoding/json"
	"fmt"
	"reflect"
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
	TokenID   string    // claim "jti"; only Options.TokenSessions uses it
}

// UserType decides which namespaces a user may enter. It is UTF-8 without NUL, of at most 64
// bytes.
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
// FindUser may block, within ctx, and is called concurrently. It returns ErrNotFound if the
// user does not exist. With any other error the handshake cannot be decided
// (CodeUnavailable).
type UserRepo interface {
	FindUser(ctx context.Context, id string) (User, error)
}

// UserBatchRepo may be implemented by a UserRepo, so that a sweep reads many users in one
// call.
//
// FindUsers may block, within ctx, and is called concurrently. It may return the users in any
// order; a user who is not in the result does not exist. An empty result for several ids, and a
// user who is not among the ids, count as an error. After an error the users' sockets stay
// connected, and the sweep tries again.
type UserBatchRepo interface {
	FindUsers(ctx context.Context, ids []string) ([]User, error)
}

// Session is a row of the host's login session table.
type Session struct {
	ID      string
	UserID  string
	Revoked bool
	// AccessTokenExpiresAt is when the session's sockets expire, even if the token expires
	// later. Zero: they expire with the token.
	AccessTokenExpiresAt time.Time
}

// SessionRepo finds login sessions.
//
// FindSession may block, within ctx, and is called concurrently. It returns ErrNotFound if the
// session does not exist. With any other error the handshake cannot be decided
// (CodeUnavailable).
//
// A sweep tells a session that is Revoked from one that does not exist: the sockets of the first
// get auth:session_revoked and do not come back; those of the second, which another session may
// have replaced, get auth:expired and come back to a handshake, with what token they have then.
type SessionRepo interface {
	FindSession(ctx context.Context, sessionID string) (Session, error)
}

// SessionBatchRepo may be implemented by a SessionRepo, so that a sweep reads many sessions in
// one call.
//
// FindSessions may block, within ctx, and is called concurrently. It may return the sessions
// in any order; a session that is not in the result does not exist. Errors are as for
// UserBatchRepo.
type SessionBatchRepo interface {
	FindSessions(ctx context.Context, ids []string) ([]Session, error)
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
// ActiveTrips may block, within ctx, and is called concurrently. It returns the ids of the
// trips that the user takes part in now, as driver or passenger; no trips is not an error.
// With an error the handshake cannot be decided (CodeUnavailable). More than 1000 trips, and
// an id that is empty, longer than 256 bytes, or contains NUL or invalid UTF-8, count as an error.
type TripLookup interface {
	ActiveTrips(ctx context.Context, userID string) ([]string, error)
}

// TripBatchLookup may be implemented by a TripLookup, so that a sweep looks up the trips of
// many users in one call. The sweep then checks all connected drivers and passengers, instead
// of only those who are in a trip's room.
//
// ActiveTripsOf may block, within ctx, and may be called concurrently. It returns the ids of
// trips by user id; a user without a trip need not be in the result. After an error the sockets
// stay in their rooms, and the sweep tries again.
type TripBatchLookup interface {
	ActiveTripsOf(ctx context.Context, userIDs []string) (map[string][]string, error)
}

// TripParties are the passenger and the driver of a trip. DriverID is empty before the
// assignment.
type TripParties struct{ PassengerID, DriverID string }

// PartyLookup finds the passenger and the driver of a trip. It is optional. The server calls
// it for a domain event that lacks one of them, if no earlier event of the trip had it.
//
// FindParties may block, within ctx, and is called concurrently. It returns ErrNotFound for an
// unknown trip. The server remembers the passenger with the trip, and the driver for 30 s.
// While the call runs, the events of the trip wait, and no others. If the call has not
// returned within Timeouts.Repo, the server sends the trip's events only to the one it knows,
// and does not call FindParties for that trip for 10 s. This time doubles with each further
// timeout, up to 5 minutes.
type PartyLookup interface {
	FindParties(ctx context.Context, tripID string) (TripParties, error)
}

// DriverService executes a driver's inbound events. The default, NewMemoryDrivers, is for one
// node and loses its state on restart. DriverState has the rules of a driver's status, for a
// service that stores rows.
//
// Its methods may block, within ctx, and are called concurrently for different sockets; a
// driver with two phones has two sockets. They return an *Error to refuse the event. Their
// results must have the same driver id as the call: a result with another driver's id is
// discarded and the event fails with CodeInternal.
//
// A service of the host's changes its rows also when a trip ends, where the host ends it, and the
// host publishes a DriverTripChanged and, if the availability has changed, a DriverStatusChanged.
type DriverService interface {
	// UpdateStatus applies a status change and returns the driver's state after it.
	UpdateStatus(ctx context.Context, driverID string, in StatusUpdate) (Availability, error)
	// UpdateLocation stores a position. fresh is false if a newer position was stored
	// already: the server then acknowledges the ping and emits no event.
	UpdateLocation(ctx context.Context, driverID string, in LocationPing) (out LocationUpdate, fresh bool, err error)
	// SetTrip sets the driver's current trip, or clears it if tripID is empty, and returns
	// the driver's state after it, which the server sends as driver:trip:update and
	// driver:availability:update. It does not move sockets into the trip's room; domain
	// events do.
	SetTrip(ctx context.Context, driverID, tripID string) (Availability, error)
}

// OfferService handles a driver's answers to offers. It is optional; without one, every answer
// fails with CodeNotFound.
//
// Its methods may block, within ctx, and are called concurrently. They return an *Error to
// refuse: CodeConflict for an offer that has expired or that another driver has accepted, and
// CodeNotFound for one that was not made to this driver. If the same driver accepts an offer
// again, AcceptOffer returns the same result. The host publishes the domain events that
// follow.
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
	// Headers are for the host's services and its tracing, such as "traceparent"; nil for none.
	// A bus carries them with the event. The server does not read them, and clients do not
	// receive them.
	Headers map[string]string `json:"headers,omitempty"`

	// event replaces Data on the way from a server through a MemoryBus to a server, so that
	// the event need not be encoded.
	event builtin
}

// NewEnvelope returns an envelope for a bus, with a new id and the event's JSON, in which a
// PhoneMasked with more than six digits is null. It does not validate the event; the server that
// receives it does.
func NewEnvelope(e DomainEvent) (Envelope, error) {
	if e == nil {
		return Envelope{}, errNilEvent
	}
	if v := reflect.ValueOf(e); v.Kind() == reflect.Pointer && v.IsNil() {
		return Envelope{}, fmt.Errorf("realtime: the domain event is a nil %T", e)
	}
	data, err := json.Marshal(masked(e))
	if err != nil {
		return Envelope{}, errorf("encoding %s: %w", e.EventName(), err)
	}
	return Envelope{ID: newEventID(), Name: e.EventName(), Key: e.EventKey(), At: time.Now().UTC(), Data: data}, nil
}

// encoded returns the envelope with its Data and without the event itself.
func (e Envelope) encoded() (Envelope, error) {
	if e.event == nil {
		return e, nil
	}
	data, err := json.Marshal(masked(e.event))
	if err != nil {
		return e, fmt.Errorf("encoding %s: %w", e.Name, err)
	}
	e.Data, e.event = data, nil
	return e, nil
}

// EventBus carries domain events between the host's services and the server. NewMemoryBus
// returns one for a single process; realtimetest.TestEventBus is the test suite for buses.
//
// Publish may block, within ctx, and is called concurrently; a nil error means that the bus
// has accepted the event. Subscribe registers a handler that the bus calls for every event
// published afterwards: one at a time and in order for each Key, and possibly concurrently for
// different keys. If a handler returns an error, the bus may retry the event or drop it. cancel
// ends the subscription and waits for running calls of the handler.
//
// The server's handler does not wait for the host's services, so a bus may deliver one event
// after the other. An event that waits for PartyLookup for more than 50 ms counts as handled
// before it is sent; it is lost if the process ends before that.
type EventBus interface {
	Publish(ctx context.Context, e Envelope) error
	Subscribe(handler func(ctx context.Context, e Envelope) error) (cancel func(), err error)
}

// BusWrapper may be implemented by an EventBus that passes everything on to another bus, as one
// that traces does. The server then knows a MemoryBus in it: what it publishes through the
// wrapper may have no Data, it subscribes to the MemoryBus itself, and Shutdown waits for the
// events that the MemoryBus holds.
type BusWrapper interface {
	EventBus
	// Unwrap returns the other bus. It must not block.
	Unwrap() EventBus
}

// HandoverBus may be implemented by an EventBus that gives the events of some keys to another node while
// this one runs, as package redisbus does when a node joins. The order of a trip's events then does not
// depend on how fast the nodes are: what one node has emitted arrives before what the next one emits.
type HandoverBus interface {
	EventBus
	// BeforeHandover registers a function. The bus calls it when this node calls no handler with events of some
	// keys any more, and gives no later one of them to another node until it has returned. ctx ends after the time
	// for which the later events can wait. f may be called concurrently, and when the subscription has
	// ended, until cancel is called.
	BeforeHandover(f func(ctx context.Context)) (cancel func())
	// BeforeTakeover registers a function, likewise. The bus calls it when this node gets the events of some
	// keys, and calls no handler with one of them until it has returned.
	BeforeTakeover(f func(ctx context.Context)) (cancel func())
}

// LeavingBus may be implemented by an EventBus whose nodes share the events, as those of package redisbus do.
// Shutdown calls Leave before it cancels the server's subscription. Otherwise the host's own subscriptions would be
// the only ones for a while: what this node takes then would count as handled, and no client would get it. So each server
// has a LeavingBus of its own: a second one on the same gets no more events when the first one ends.
type LeavingBus interface {
	EventBus
	// Leave makes this node take no more events, and returns when it handles none, or ctx ends. Publish works as
	// before.
	Leave(ctx context.Context) error
}

// busAs returns the bus of a type that b is or wraps. ok is false if there is none.
func busAs[B EventBus](b EventBus) (bus B, ok bool) {
	for range maxWrappers {
		if bus, ok = b.(B); ok {
			return bus, true
		}
		w, wraps := b.(BusWrapper)
		if !wraps {
			return bus, false
		}
		b = w.Unwrap()
	}
	return bus, false
}

// maxWrappers is how many BusWrappers may be around a bus.
const maxWrappers = 16

// Identity is the user and the login session of a socket. The user does not change; auth:refresh
// may replace the session.
type Identity struct {
	UserID    string   `json:"userId"`
	UserType  UserType `json:"userType"`
	SessionID string   `json:"sid"`
}
