// Options: everything that a host can set, and the default of each field.
// options_check.go validates them.

package realtime

import (
	"context"
	"log/slog"
	"net/http"
	"net/netip"
	"time"
)

// Options configures a Server. Tokens, Users, and Sessions or TokenSessions, are required. For every
// other field the zero value means the default, which the field's comment gives in its
// last sentence. A negative value is an error unless the comment says what it means.
type Options struct { //nolint:recvcheck // defaults and checks work on a copy
	// Tokens verifies access tokens. Required; NewJWTVerifier returns one.
	Tokens TokenVerifier
	// Users finds users. Required.
	Users UserRepo
	// Sessions finds login sessions. Required; TokenSessions does without it.
	Sessions SessionRepo
	// TokenSessions is for a host that has no login sessions: its tokens have no claim "sid",
	// and Sessions must be nil. The login session is then the token itself: its SessionID if it
	// has one, or else its TokenID, or else a hash of it. It lasts as long as the token, and
	// auth:refresh replaces it by that of the new token. SessionRevoked and DisconnectSession
	// disconnect its sockets, but cannot keep the token from connecting again: for that, the
	// TokenVerifier refuses it, or the user becomes inactive. Defaults to false.
	TokenSessions bool

	// Bus carries domain events between the host's services and the server. Defaults
	// to a MemoryBus, which Shutdown closes when it is about to end.
	Bus EventBus
	// Drivers executes what the events of drivers request. Defaults to NewMemoryDrivers,
	// which is for one node.
	Drivers DriverService
	// Offers handles a driver's answers to trip offers. Defaults to a service without
	// offers, which answers CodeNotFound.
	Offers OfferService
	// ExpireOffers makes the server publish AssignmentExpired for an offer that ends without an
	// answer, also if the node that has handled the offer has died meanwhile. It is for a host that
	// has no timer of its own: with both, clients receive the event twice. Defaults to false.
	ExpireOffers bool
	// Unreachable is called for each AssignmentUndelivered, when the server publishes it, so that
	// the host can send a push notification. It may block, within ctx, which ends after Timeouts.Repo,
	// and is called concurrently: on one of the nodes, and once, unless that node dies meanwhile. With
	// Cluster.BusFanOut and without Cluster.Adapter, each node calls it. Shutdown waits for it. Defaults to none.
	Unreachable func(ctx context.Context, userID string, e MissedEvent)
	// Trips finds a user's running trips. Defaults to the trips that the node knows from
	// the events on the bus.
	Trips TripLookup
	// Parties finds the passenger and the driver of a trip. Defaults to those that the
	// trip's events contain.
	Parties PartyLookup
	// Snapshots finds what a user must know when a socket connects: the running trips, the open
	// offers, a driver's availability. Each socket of /drivers and /passengers receives it behind
	// hello, unless it recovers. Defaults to none: apps ask the host's REST API.
	Snapshots SnapshotLookup
	// Events are the host's own domain events; NewDomainEvent declares one. Defaults
	// to none.
	Events []DomainEventType

	// Namespaces are the host's own namespaces, by name. Server.Namespace adds one later;
	// a namespace that Events are sent to must be listed here. Defaults to none.
	Namespaces map[string]NamespaceOptions
	// ConnContext returns a context with values from the request that opens a
	// connection, as http.Server.ConnContext does for a net.Conn. The ctx of VerifyToken,
	// Authorize, OnConnect, OnDisconnect, interceptors and handlers of that connection
	// has these values. Only the values are used: the deadline and the cancellation of
	// the returned context have no effect.
	//
	// The ctx parameter is the server's. Derive the result from it: a context that is
	// derived from r.Context() keeps the request in memory for as long as the connection
	// lasts. The function may read r, and must not keep it.
	//
	// It is called concurrently, once for each connection that the limits allow, before
	// the token is verified. It must not block. When it has not returned after one
	// second, panics or returns nil, the connection is refused with status 500 and the
	// server logs an error. Users and Sessions get no values, because the server shares
	// their answers between connections. Defaults to none, which costs nothing.
	ConnContext func(ctx context.Context, r *http.Request) context.Context
	// Interceptors wrap the calls of clients in every namespace. The first one is the
	// outermost. Defaults to none.
	Interceptors []Interceptor
	// UserTypes admits further user types to a built-in namespace, by its name.
	// Defaults to none: driver in /drivers, passenger in /passengers, admin in /admin.
	UserTypes map[string][]UserType
	// AdminTripsByRoom sends trip events only to admins who joined the trip. Defaults
	// to every admin.
	AdminTripsByRoom bool

	// Recovery lets a client that has lost its connection get its socket back, with the events
	// that it missed. Defaults to off.
	Recovery Recovery

	// Origins says which web pages may connect. Defaults to those of the server's own
	// host.
	Origins Origins
	// TrustedProxies are the addresses of proxies. If a connection comes from one of them,
	// the server takes the client's address from the X-Forwarded-For header. Any other
	// address of a private network, 100.64.0.0/10 and loopback included, is treated as an
	// unknown proxy: the limits for each address do not apply to it. Defaults to none.
	TrustedProxies []netip.Prefix
	// Transports lists the transports that clients may use. Defaults to all.
	Transports []Transport
	// Compat is for older clients. Defaults to what clients of Socket.IO 4 expect.
	Compat Compat
	// Cluster connects this node to other nodes. Defaults to one node.
	Cluster Cluster

	// Timeouts holds every duration. Each field has its own default.
	Timeouts Timeouts
	// Limits bounds sizes and numbers. Each field has its own default.
	Limits Limits
	// Rates bounds how often a client may do something. Each field has its own
	// default.
	Rates Rates
	// Unlimited is for load tests. It switches off Rates, and in Limits every number of
	// connections and sockets; setting one of these too is an error. Sizes stay limited.
	// Defaults to false.
	Unlimited bool

	// Logger receives the server's log; docs/log.md explains its lines. Of each kind of line
	// it receives at most 10 a second, and 100 at once. Defaults to slog.Default.
	Logger *slog.Logger
	// Trace has the functions that the server calls for metrics and tracing. Defaults to
	// none.
	Trace *Trace
}

// Origins says which web pages may connect. A page of the server's own host may always
// connect; a proxy in Options.TrustedProxies names that host in X-Forwarded-Host, and its scheme in
// X-Forwarded-Proto. A client that sends no Origin header, such as a native app, may connect unless
// Required is set.
type Origins struct {
	// Allowed lists origins, such as "https://app.example.com"; "*" admits all,
	// without credentials. A first label "*" stands for any one label, as in
	// "https://*.example.com", and a port "*" for any port of localhost, as in
	// "http://localhost:*". "capacitor://localhost" and other schemes of apps, "file://" and
	// "null" can be listed too: WebViewOrigins has the usual ones. A page in a sandbox of any
	// web page has the origin "null". ws and wss count as http and https, and a default port
	// as none. Defaults to none.
	Allowed []string
	// Credentials allows pages of the listed origins to send cookies and HTTP
	// authentication. Defaults to false.
	Credentials bool
	// Required refuses clients that send no Origin. Defaults to false.
	Required bool
}

// WebViewOrigins returns the origins of pages inside apps that are made with Capacitor, Ionic and
// Cordova, for Origins.Allowed. The origin "null", which some old web views send, is not among
// them: any web page can have it.
func WebViewOrigins() []string {
	return []string{"capacitor://localhost", "ionic://localhost", "app://localhost", "http://localhost", "https://localhost", "file://"}
}

// Transport is how packets travel between client and server.
type Transport string

// The transports.
const (
	TransportPolling   Transport = "polling"   // HTTP long-polling: a request waits for packets
	TransportWebSocket Transport = "websocket" // one WebSocket connection
)

// Compat is for older clients, and for clients written against the original: the NestJS
// module whose namespaces and events this library implements. Every field is off by
// default.
type Compat struct {
	// AllowEIO3 accepts clients of Socket.IO 1 and 2, which speak Engine.IO 3. They get
	// the same namespaces and events. They cannot send auth.token; the server reads
	// their token from the Authorization header. Defaults to false.
	AllowEIO3 bool
	// LegacyQueryToken also accepts the token of an EIO3 client as the query parameter
	// "token", of the URL or of a namespace. Browser apps need it, because they cannot set
	// headers. It requires AllowEIO3. The library does not log URLs; make sure that your
	// proxies do not log them either. Defaults to false.
	LegacyQueryToken bool
	// EmitExceptions also emits `exception {status:'error', message}` to a client
	// whose event failed. Defaults to false.
	EmitExceptions bool
	// RefuseAfterConnect refuses a CONNECT in the original's way: the server sends
	// CONNECT and then DISCONNECT, without a code. Defaults to false.
	RefuseAfterConnect bool
	// DisconnectRefused sends a DISCONNECT after each CONNECT_ERROR, for clients of
	// Socket.IO 3, which would otherwise reconnect when the connection closes. Defaults to
	// false.
	DisconnectRefused bool
	// RefuseUnavailable sends CONNECT_ERROR unavailable when a handshake cannot be
	// decided, because a call of the host's code failed. Defaults to closing the
	// connection, within Timeouts.UnavailableDelay, so that clients try again by
	// themselves.
	RefuseUnavailable bool
	// RetryExpired closes the connection, within Timeouts.UnavailableDelay, when a token or
	// a login session has expired at its CONNECT, so that clients try again by themselves. It is
	// for apps that renew their token when their client reconnects, such as those of the
	// original; an app that never renews it tries again for ever. Defaults to CONNECT_ERROR
	// token_expired or access_expired, after which clients of Socket.IO 4 do not try again
	// by themselves.
	RetryExpired bool
}

// Cluster connects this node to other nodes.
type Cluster struct {
	// Adapter carries messages between the nodes. Defaults to none: one node.
	Adapter Adapter
	// BusFanOut says that Options.Bus, which must be set, delivers every event to every
	// node. Each node then emits to its own sockets only. Defaults to false: the bus
	// delivers an event to one node, which emits it to the others through the Adapter.
	BusFanOut bool
}

// Recovery is connection state recovery, in which clients of Socket.IO 4.6 and later take part by
// themselves: https://socket.io/docs/v4/connection-state-recovery. A client that reconnects in time
// passes every check of a handshake again. If it still has the same user and login session, it
// gets the same socket id, and the events that went to rooms in which its socket was and is now, in
// their order, then hello, then new events. Otherwise, and if an event is not kept any more, it
// connects as a new client, and hello says so: it never gets only some of the events.
//
// Volatile events are not kept, and of events with a key, such as drivers' positions, only the
// newest of those that were emitted while the client was away. A query is not sent again.
//
// The events are kept in the memory of each node. If Cluster.Adapter is a Claimer, as that of package
// redisadapter is, and Cluster.BusFanOut is not set, every node keeps the events of all nodes, and a client may come back to
// any of them, also when its former node has died. Of events with a key it then gets those that come next. A node that starts gets
// the events that another one keeps. Otherwise a client that reconnects to another node connects as a new one. If the adapter
// reports a gap, a client that was away then recovers only if another node had none.
type Recovery struct { //nolint:recvcheck // defaults and checks work on a copy
	// Enabled switches recovery on. Defaults to false.
	Enabled bool
	// Window is how long a client may be away, at least one second. Defaults to 2 min.
	Window time.Duration
	// Events is the maximum number of events that the node keeps. Defaults to 100,000 events.
	Events int
	// Bytes is the maximum of memory that these events take, as the node counts it: their messages and the names of their
	// rooms, with 400 bytes for each event, and 100 for each room and attachment. A small event counts about 500 bytes. What they really
	// take is at most half more. While a node starts, it also takes the events of each namespace that it receives from another one,
	// at most Bytes of each. Defaults to 67,108,864 bytes.
	Bytes int
	// Sockets is the maximum number of clients that are away, in each namespace. Each takes about a kilobyte.
	// It is also the maximum number of sockets of other nodes that the node remembers, in all namespaces. Each
	// takes about half a kilobyte. Defaults to 100,000.
	Sockets int
	// AllClients says that every app has a client of 4.6 or later, or ignores arguments of events
	// that it does not expect. The offset is then the last argument of each event. Otherwise that is
	// not so for clients that may be of 3.0 to 4.7 and begin with polling, until they reconnect, and for those of
	// Python and Dart: these get the offset in an event of its own, realtime:offset, behind
	// each event, and if the connection breaks between the two they get the event again, with the
	// same eventId. Dart's client would pass a list to the handler of an event with an offset, so each of its
	// connects is a new one. Defaults to false.
	AllClients bool
	// Rooms returns the rooms of the host's own that a recovered socket joins, before it gets
	// the events that it missed. then has those in which it was. The library's rooms are not
	// among them: a socket joins these as at each connect. If it returns an error, panics or has
	// not returned after Timeouts.Repo, the client connects as a new one. Defaults to none: a recovered
	// socket gets nothing of what went to rooms of the host's own, and the log says so.
	Rooms func(ctx context.Context, s *Socket, then []Room) ([]Room, error)
}

// Timeouts holds every duration of Options. A duration below one millisecond is an
// error, because its unit is missing, and so is one above a year.
type Timeouts struct {
	// PingInterval is the time between two heartbeats. Defaults to 25 s.
	PingInterval time.Duration
	// PingTimeout is how long a client may take to answer a heartbeat; any packet is an
	// answer. Defaults to 20 s.
	PingTimeout time.Duration
	// Upgrade is how long an upgrade to WebSocket may take. Defaults to 10 s.
	Upgrade time.Duration
	// Connect is how long a connection may be in no namespace, both after it opened and
	// after it left its last namespace. A refused CONNECT does not extend it. It doubles for a
	// new connection, up to 5 minutes, each time that one of its address ended without a
	// CONNECT, until one logs in: some clients that were disconnected for good come back so.
	// Defaults to 15 s.
	Connect time.Duration
	// Close is how long the server tries to send the remaining packets before it closes a
	// connection. For a polling client that has logged in, and polled within PingTimeout, it
	// is PingTimeout. When the packets are sent, the client has this time, at most a second,
	// to close a websocket itself. Defaults to 1 s.
	Close time.Duration
	// Write is how long one write to a client may take. Defaults to 10 s.
	Write time.Duration
	// Repo is the timeout of each call of Tokens, Users, Sessions, Trips, Parties and Snapshots.
	// Defaults to 5 s.
	Repo time.Duration
	// Handler is the deadline of a handler's ctx. A call of a handler or of OnConnect
	// that has not returned after about twice this time is abandoned: the server
	// acknowledges the event with CodeUnavailable, logs an error and closes the
	// connection, because the socket's later events wait for the call to return.
	// OnDisconnect then runs concurrently with the abandoned call. Defaults to 10 s.
	Handler time.Duration
	// Ack is how long a Query waits for its acks when its ctx has no deadline.
	// Defaults to 30 s.
	Ack time.Duration
	// OfferAgain is the time after which an offer is sent again, once, to a device of the driver
	// that has not received it. Defaults to 2 s.
	OfferAgain time.Duration
	// OfferReceipt is the time after which the server publishes AssignmentUndelivered for an offer
	// that no device of the driver has received. If the node that has handled the offer dies, another one
	// publishes it 2 s later. Defaults to 3 s.
	OfferReceipt time.Duration
	// RefreshGrace is how long sockets of an old session have to send auth:refresh after
	// the domain event auth.session.refreshed. Defaults to 10 s.
	RefreshGrace time.Duration
	// UnavailableDelay is the maximum time until the server closes the connection of a
	// handshake that cannot be decided, because a call of the host's code failed, or that
	// Compat.RetryExpired is for. The time is random for each handshake, between a fifth of
	// UnavailableDelay and all of it. It cannot go with Compat.RefuseUnavailable, unless
	// Compat.RetryExpired is set. Defaults to 5 s.
	UnavailableDelay time.Duration
	// DrainDelay is the maximum of the random time that server:drain asks a client to
	// wait before it reconnects. Stock clients ignore it; docs/events.md shows how an app
	// applies it. It is also the Retry-After of requests that come while
	// the server shuts down. Defaults to 5 s.
	DrainDelay time.Duration
	// RepoCache is how long the server reuses a row of Users or Sessions for other
	// handshakes. A revocation empties the cache. A row that refuses the handshake is not
	// cached, so that a user whose ban is lifted can connect at once. Negative: no cache.
	// Defaults to 1 s.
	RepoCache time.Duration
	// SweepInterval is the approximate time between two sweeps. A sweep reads the users
	// and sessions of all sockets again, and their trips if there is a TripLookup, in case
	// an event was lost. Negative: no sweeps. Defaults to 60 s.
	SweepInterval time.Duration
	// PresenceGrace is how long a user has no socket before the server publishes
	// PresenceDisconnected. If Options.Bus is nil the server publishes no presence, and
	// PresenceGrace has no effect. Negative: no presence is published. Defaults to 15 s.
	PresenceGrace time.Duration
}
