// Options: everything a host can set, with what happens when it does not. What is
// checked of it stands in options_check.go.

package realtime

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Options configures a Server. Tokens, Users and Sessions are required; the zero
// value of every other field stands for the default that its comment ends with. A
// negative value is an error, but where the comment says what it means.
type Options struct {
	// Tokens verifies access tokens. Required; NewJWTVerifier makes one.
	Tokens TokenVerifier
	// Users finds users. Required.
	Users UserRepo
	// Sessions finds login sessions. Required.
	Sessions SessionRepo

	// Bus carries domain events between the host's services and the server. Defaults
	// to a MemoryBus, which Shutdown closes.
	Bus EventBus
	// Drivers does what drivers' events ask for. Defaults to NewMemoryDrivers.
	Drivers DriverService
	// Offers answers to trip offers. Defaults to one that knows none: every answer is
	// CodeNotFound.
	Offers OfferService
	// Trips finds a user's running trips. Defaults to those that the bus has named.
	Trips TripLookup
	// Parties finds the people of a trip. Defaults to those that events have named.
	Parties PartyLookup
	// Events are the host's own domain events; NewDomainEvent declares one. Defaults
	// to none.
	Events []DomainEventType

	// Namespaces are the host's own, by name, as Server.Namespace adds them. Those
	// that Events are for must be here. Defaults to none.
	Namespaces map[string]NamespaceOptions
	// ConnContext returns what is to be known of the request that opens a connection,
	// as http.Server.ConnContext does: the values of the context that it returns are in
	// the ctx of VerifyToken, Authorize, OnConnect, OnDisconnect, interceptors and
	// handlers of that connection. The ctx that it gets is the server's; to go on from
	// r.Context() would keep what that holds as long as the connection. Only the values
	// count: a deadline, or an end, of what it returns means nothing. The request is to
	// be read and not kept. It is called concurrently, for each connection that a limit
	// has let in, before any token is looked at, and must not block: after a second, as
	// with a panic or a nil context, the connection is refused with status 500, which
	// is logged. Users and Sessions get no values, since their answers are shared.
	// Defaults to none, which costs nothing.
	ConnContext func(ctx context.Context, r *http.Request) context.Context
	// Interceptors wrap the calls of clients in every namespace, the first one
	// outermost. Defaults to none.
	Interceptors []Interceptor
	// UserTypes admits further user types to a built-in namespace, by its name.
	// Defaults to none: driver in /drivers, passenger in /passengers, admin in /admin.
	UserTypes map[string][]UserType
	// AdminTripsByRoom sends trip events only to admins who joined the trip. Defaults
	// to every admin.
	AdminTripsByRoom bool

	// Origins says which web pages may connect. Defaults to those of the server's own
	// host.
	Origins Origins
	// TrustedProxies are the addresses whose X-Forwarded-For header says where a
	// client comes from. A client with an address of a private network, 100.64.0.0/10 and
	// loopback included, that is not among them counts as a proxy that nobody has named:
	// what is limited for each address is not limited for it. Defaults to none.
	TrustedProxies []netip.Prefix
	// Transports lists the transports that clients may use. Defaults to all.
	Transports []Transport
	// Compat is for clients of other times. Defaults to what clients of Socket.IO 4
	// expect.
	Compat Compat
	// Cluster joins this node with others. Defaults to one node.
	Cluster Cluster

	// Timeouts holds every duration. Each field has its own default.
	Timeouts Timeouts
	// Limits bounds sizes and numbers. Each field has its own default.
	Limits Limits
	// Rates bounds how often a client may do something. Each field has its own
	// default.
	Rates Rates
	// Unlimited switches off Rates and every number of connections and sockets in
	// Limits, none of which may be set then, for load tests. Sizes stay limited.
	// Defaults to false.
	Unlimited bool

	// Logger takes what an operator should know. Defaults to slog.Default.
	Logger *slog.Logger
	// Trace is what metrics and tracing hang on. Defaults to none.
	Trace *Trace
}

// Origins says which web pages may connect. A page of the server's own host may
// always. A client that sends no Origin, as native apps do not, may unless Required
// is set.
type Origins struct {
	// Allowed lists origins, such as "https://app.example.com"; "*" admits all,
	// without credentials. Defaults to none.
	Allowed []string
	// Credentials lets pages of the listed origins send cookies and HTTP
	// authentication along. Defaults to false.
	Credentials bool
	// Required refuses clients that send no Origin. Defaults to false.
	Required bool
}

// Transport is a way that packets take between client and server.
type Transport string

// The transports.
const (
	TransportPolling   Transport = "polling"   // HTTP requests, each of which waits for packets
	TransportWebSocket Transport = "websocket" // a connection that stays open
)

// Compat is for clients of other times, and for those of the NestJS module that the
// protocol comes from. All are off by default.
type Compat struct {
	// AllowEIO3 lets in apps that were never updated: clients of Socket.IO 1 and 2,
	// which speak Engine.IO 3. They get the same namespaces and events. As they can't
	// send auth.token, their token is that of the Authorization header. Defaults to
	// false.
	AllowEIO3 bool
	// LegacyQueryToken lets a client of Engine.IO 3 send its token as the parameter
	// "token" of the URL, or of the query after a namespace, as apps in browsers do,
	// which can't set headers. It takes AllowEIO3. The library logs no URL; see that
	// your proxies do not either. Defaults to false.
	LegacyQueryToken bool
	// EmitExceptions also emits `exception {status:'error', message}` to a client
	// whose event failed. Defaults to false.
	EmitExceptions bool
	// RefuseAfterConnect answers a CONNECT that is refused as the NestJS module did:
	// connected first, then disconnected, without a code. Defaults to false.
	RefuseAfterConnect bool
	// DisconnectRefused sends a DISCONNECT after each CONNECT_ERROR, for 3.x clients,
	// which would otherwise reconnect when the transport closes. Defaults to false.
	DisconnectRefused bool
	// RefuseUnavailable answers a handshake that could not be decided with
	// CONNECT_ERROR unavailable. Defaults to closing its transport, after
	// Timeouts.UnavailableDelay, so that clients try again by themselves.
	RefuseUnavailable bool
}

// Cluster joins this node with others.
type Cluster struct {
	// Adapter carries what nodes tell each other. Defaults to none: one node.
	Adapter Adapter
	// BusFanOut says that every node hears every event of Options.Bus, which must be
	// set, so that each emits to its own sockets only. Defaults to false: one node
	// hears an event, and the others receive what it emits through the Adapter.
	BusFanOut bool
}

// Timeouts holds every duration of Options. One below a millisecond is an error, as
// it lacks its unit.
type Timeouts struct {
	// PingInterval is the time between two heartbeats. Defaults to 25 s.
	PingInterval time.Duration
	// PingTimeout is how long a client may take to answer a heartbeat. Defaults to
	// 20 s.
	PingTimeout time.Duration
	// Upgrade is how long an upgrade to websocket may take. Defaults to 10 s.
	Upgrade time.Duration
	// Connect is how long a connection may be in no namespace, at its beginning,
	// however often it tries, and after it has left all. Defaults to 15 s.
	Connect time.Duration
	// Close is how long what was sent before a close may take to arrive. Defaults to
	// 1 s.
	Close time.Duration
	// Write is how long one write to a client may take. Defaults to 10 s.
	Write time.Duration
	// Repo is the time for each question to Tokens, Users, Sessions, Trips and
	// Parties. Defaults to 5 s.
	Repo time.Duration
	// Handler is the deadline of a handler's ctx. A handler, or OnConnect, that has not
	// returned after twice that, or a little more, is abandoned: its event is
	// acknowledged with CodeUnavailable, the log says so, and the connection is closed,
	// since the socket's further events, of which no more than Limits.QueuedEvents wait,
	// would never be handled. OnDisconnect runs then, beside it. Defaults to 10 s.
	Handler time.Duration
	// Ack is how long a Query waits for its acks when its ctx has no deadline.
	// Defaults to 30 s.
	Ack time.Duration
	// RefreshGrace is how long sockets of an old session have to renew themselves
	// after auth.session.refreshed. Defaults to 10 s.
	RefreshGrace time.Duration
	// UnavailableDelay is the longest time for which the transport of an undecided
	// handshake stays open; the shortest is a fifth of it, and each handshake's is
	// random. Defaults to 5 s.
	UnavailableDelay time.Duration
	// DrainDelay is the longest time that server:drain tells a client to wait before it
	// reconnects, each a random one, and what Retry-After tells a client that comes
	// while the server shuts down. Defaults to 5 s.
	DrainDelay time.Duration
	// RepoCache is how long a row that Users or Sessions returned answers other
	// handshakes too, unless something is revoked meanwhile. A row that refuses is not
	// kept, so that a user who has been let in again is. Negative: not at all. Defaults
	// to 1 s.
	RepoCache time.Duration
	// SweepInterval is about how often the users and sessions of all sockets, and their
	// trips if there is a TripLookup, are looked up again, in case an event was lost.
	// Negative: never. Defaults to 60 s.
	SweepInterval time.Duration
	// PresenceGrace is how long a user may be without a socket before
	// PresenceDisconnected is published. Negative: no presence is published. Nor is it
	// without a Bus, as nobody could hear of it. Defaults to 15 s.
	PresenceGrace time.Duration
}

// Limits bounds what clients can cost. Each refusal is told to Trace.Limited under
// the name of the field.
//
// A connection whose events wait for their handlers is read no further when there
// are more than QueuedEvents, or when they hold more memory than twice MaxPayload.
// While an ack of the client is awaited it is read all the same, as the ack may
// stand behind them; events for which there is no memory are answered with
// CodeRateLimited then.
//
// Connections to SocketsPerUser are numbers on this node. A connection too many is
// answered with 503, one too many of an address with 429, both with Retry-After, which
// stock clients take as a reason to try again later. An IPv6 address counts by its
// /64. Of connections that have passed no handshake it is not the newest that is
// refused: the one that was refused a namespace or has waited longest is closed for
// it, unless the handshakes of all are under way.
type Limits struct {
	// MaxPayload is the bytes of a websocket message or polling body, at least 1000.
	// Defaults to 1,000,000.
	MaxPayload int
	// PacketsPerBody is the packets in a polling body. Defaults to 1000.
	PacketsPerBody int
	// Attachments is the binary attachments of an event. Defaults to 10.
	Attachments int
	// EventName is the bytes of an event's name, at least those of the longest built-in
	// one, 20. Defaults to 128.
	EventName int
	// Depth is the nested arrays and objects in an event, at least 4. Defaults to 32.
	Depth int
	// Values is the array elements and object members in an event, or in the auth of a
	// CONNECT, at least 32. Defaults to 10,000.
	Values int
	// QueuedEvents is a connection's events that wait for their handler before it is
	// read no further. Defaults to 256.
	QueuedEvents int
	// OutboxBytes is the unsent bytes before a client is a slow consumer, at least
	// 16,384. Defaults to 4,194,304.
	OutboxBytes int
	// OutboxMessages is the unsent messages before a client is a slow consumer, at
	// least 16. Defaults to 10,000.
	OutboxMessages int
	// RoomsPerSocket is the rooms that a client can join by its own events. Defaults to
	// 100.
	RoomsPerSocket int
	// Namespaces is the namespaces of a connection at once. Defaults to 8.
	Namespaces int
	// PendingAcks is the emits to one socket that wait for their ack. Defaults to 1000.
	PendingAcks int
	// Handlers is the calls of handlers and OnConnect that have not returned, in all;
	// events beyond are CodeUnavailable. Negative: no limit. Defaults to 50,000.
	Handlers int
	// HandlersPerEvent is the same for one event in one namespace. Negative: no limit.
	// Defaults to 25,000.
	HandlersPerEvent int
	// RememberedEvents is the event ids that are remembered to drop repeats from the
	// bus. Negative: none. Defaults to 8192.
	RememberedEvents int
	// RepoConcurrency is the questions to Users and Sessions, each, that are asked at
	// once; others wait for their turn, within Timeouts.Repo. Defaults to 64.
	RepoConcurrency int
	// DrainRate is the connections that Shutdown closes a second, so that not all
	// clients come back at once. Defaults to 2500.
	DrainRate int

	// Connections is the connections in all. Negative: no limit. Defaults to 200,000.
	Connections int
	// ConnectionsPerIP is the connections of one address. Negative: no limit. Defaults
	// to 200.
	ConnectionsPerIP int
	// Unauthenticated is the connections that have passed no handshake yet, in all, and
	// eight times those of one IPv6 /48 or IPv4 /24. Negative: no limit. Defaults to
	// 10,000.
	Unauthenticated int
	// UnauthenticatedPerIP is the same of one address. Negative: no limit. Defaults to
	// 100.
	UnauthenticatedPerIP int
	// SocketsPerUser is the sockets of one user in one namespace. Negative: no limit.
	// Defaults to 10.
	SocketsPerUser int
	// RefuseExtraSockets refuses a user's socket beyond SocketsPerUser with
	// CodeRateLimited. Defaults to false: it is let in, and the user's oldest one in the
	// namespace is disconnected.
	RefuseExtraSockets bool
}

// Rate is a token bucket: so many a second in the long run, Burst at once. The
// zero Rate stands for the default, a negative PerSecond for no limit.
type Rate struct {
	PerSecond float64
	Burst     int
}

// Rates bounds how often a client may do something. An event too many is
// answered with CodeRateLimited and has no effect; each refusal is told to
// Trace.Limited as "Rates." and the name of the field.
type Rates struct {
	// Location is for a socket's driver:location:ping. Defaults to 2 a second, 10 at
	// once.
	Location Rate
	// Event is for each other event of a socket, but for auth:refresh. Defaults to 10 a
	// second, 20 at once.
	Event Rate
	// Events is by the name of an event, instead of Location and Event. Defaults to
	// auth:refresh once in 10 s, 5 at once.
	Events map[string]Rate
	// User is for all events of one user on this node. Defaults to 50 a second, 200 at
	// once.
	User Rate
	// Breach is how often events may be refused before the socket is disconnected.
	// Defaults to 1 a second, 100 at once.
	Breach Rate
	// Connect is how often one connection may send CONNECT, whatever becomes of it; ten
	// are refused beyond that, then the connection is closed. Defaults to 1 a second, 10
	// at once.
	Connect Rate
	// Handshake is how often one address may open a connection. Defaults to 50 a second,
	// 200 at once.
	Handshake Rate
}
