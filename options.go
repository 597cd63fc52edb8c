// Options: everything a host can set, with what happens when it does not.

package realtime

import (
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net/netip"
	"reflect"
	"slices"
	"time"

	origins "github.com/rodando/realtime/internal/origin"
)

// Options configures a Server. Tokens, Users and Sessions are required; the
// zero value of every other field has the meaning that its comment states.
type Options struct {
	Tokens   TokenVerifier // who verifies access tokens
	Users    UserRepo      // where users are found
	Sessions SessionRepo   // where login sessions are found

	Bus     EventBus      // domain events; nil: in-process, closed by Shutdown
	Drivers DriverService // what drivers' events do; nil: NewMemoryDrivers
	Offers  OfferService  // answers to trip offers; nil: every offer is not_found
	Trips   TripLookup    // a user's running trips; nil: those seen on the bus
	Parties PartyLookup   // a trip's people; nil: those named by events

	// Events are the host's own domain events; NewDomainEvent declares one.
	Events []DomainEventType
	// Namespaces are the host's own, by name, as Server.Namespace adds them. Those
	// that Events are for must be here.
	Namespaces map[string]NamespaceOptions

	// Adapter joins this node with others; nil: one node.
	Adapter Adapter
	// BusFanOut says that every node hears every event of the Bus, so that each
	// emits to its own sockets only.
	BusFanOut bool

	// AllowedOrigins lists the web origins, such as "https://app.example.com",
	// whose pages may connect; "*" admits all, without credentials. A page of
	// the server's own host, and a client that sends no Origin, need no entry.
	AllowedOrigins []string
	// AllowCredentials lets pages of the listed origins send cookies and HTTP
	// authentication along.
	AllowCredentials bool
	// RequireOrigin refuses clients that send no Origin header, as native apps
	// do not.
	RequireOrigin bool

	Logger *slog.Logger // nil: slog.Default
	Trace  *Trace       // what metrics and tracing hang on; nil: nothing

	// UserTypes admits further user types to a namespace, beside driver to
	// /drivers, passenger to /passengers and admin to /admin.
	UserTypes map[string][]UserType
	// AdminTripsByRoom sends trip events only to admins who joined the trip,
	// instead of to every admin.
	AdminTripsByRoom bool
	// EmitExceptions also emits `exception {status:'error', message}` to a
	// client whose event failed.
	EmitExceptions bool
	// RefuseAfterConnect answers a CONNECT that is refused as the original did:
	// connected first, then disconnected, without a code.
	RefuseAfterConnect bool
	// DisconnectRefused sends a DISCONNECT behind each CONNECT_ERROR, for 3.x
	// clients, which would otherwise reconnect when the transport closes.
	DisconnectRefused bool
	// AllowEIO3 lets in apps that were never updated: clients of Socket.IO 1 and 2,
	// which speak Engine.IO 3. They get the same namespaces and events. As they can't
	// send auth.token, their token is that of the Authorization header.
	AllowEIO3 bool
	// LegacyQueryToken lets such a client send its token as the parameter "token" of
	// the URL, or of the query behind a namespace, as apps in browsers do, which can't
	// set headers. The library logs no URL; see that your proxies do not either.
	LegacyQueryToken bool
	// RefuseExtraSockets refuses a user's socket beyond Limits.SocketsPerUser with
	// CodeRateLimited. By default it is let in and the user's oldest one in the
	// namespace is disconnected.
	RefuseExtraSockets bool
	// RefuseUnavailable answers a handshake that could not be decided with
	// CONNECT_ERROR unavailable. By default its transport is closed, after
	// UnavailableDelay, so that clients try again by themselves.
	RefuseUnavailable bool

	PingInterval   time.Duration // heartbeat; 0: 25 s
	PingTimeout    time.Duration // for the client's answer to it; 0: 20 s
	UpgradeTimeout time.Duration // for an upgrade to websocket; 0: 10 s
	ConnectTimeout time.Duration // until a connection enters its first namespace, however often it tries, and for one that has left all; 0: 15 s
	CloseTimeout   time.Duration // for what is told before a close to arrive; 0: 1 s
	WriteTimeout   time.Duration // for one write to a client; 0: 10 s
	RepoTimeout    time.Duration // for each question to Tokens, Users, Sessions, Trips, Parties; 0: 5 s
	// HandlerTimeout is the deadline of a handler's ctx. A handler, or OnConnect,
	// that has not returned after twice that, or a little more, is given up: its event is acknowledged
	// with CodeUnavailable, the log says so, and the connection is closed, since the
	// socket's further events, of which no more than Limits.QueuedEvents wait, would
	// never be handled. OnDisconnect runs then, beside it. 0: 10 s.
	HandlerTimeout time.Duration
	// RefreshGrace is how long sockets of an old session have to renew
	// themselves after auth.session.refreshed; 0: 10 s.
	RefreshGrace time.Duration
	// UnavailableDelay is at most how long the transport of an undecided
	// handshake stays open, at random from a fifth of it; 0: 5 s.
	UnavailableDelay time.Duration
	// DrainDelay is at most what server:drain tells a client to wait before it
	// reconnects, at random, and what Retry-After tells one that comes while the
	// server shuts down; 0: 5 s.
	DrainDelay time.Duration
	// DrainRate is how many connections Shutdown closes a second, so that those
	// who come back do not all do so at once; 0: 2500.
	DrainRate int

	// RepoConcurrency is how many questions to Users and Sessions, each, are asked
	// at once; others wait for their turn, within RepoTimeout; 0: 64.
	RepoConcurrency int
	// RepoCache is how long a row that Users or Sessions returned answers other
	// handshakes too, unless something is revoked meanwhile; 0: 1 s, negative: not
	// at all. A row that refuses is not kept, so that a user who has been let in
	// again is.
	RepoCache time.Duration
	// SweepInterval is about how often the users and sessions of all sockets, and
	// their trips if there is a TripLookup, are looked up again, for what a lost event
	// would have told; 0: 60 s, negative: never.
	SweepInterval time.Duration
	// PresenceGrace is how long a user may be without a socket before the bus hears
	// PresenceDisconnected; 0: 15 s, negative: the bus hears of no presence. Without a
	// Bus nobody could, and none is kept.
	PresenceGrace time.Duration
	// AckTimeout is how long a Query waits for its acks when its ctx has no
	// deadline; 0: 30 s.
	AckTimeout time.Duration

	// TrustedProxies are the addresses whose X-Forwarded-For header says where a
	// client comes from. A client with an address of a private network, 100.64.0.0/10 and
	// loopback included, that is not among them counts as a proxy that nobody has named:
	// what is limited for each address is not limited for it.
	TrustedProxies []netip.Prefix

	NoPolling   bool // websocket only
	NoWebSocket bool // long-polling only

	Limits Limits
	Rates  Rates
	// Unlimited switches off every limit on rates and on numbers of connections
	// and sockets, for load tests. Sizes stay limited.
	Unlimited bool
}

// Limits bounds what one client can cost. Each refusal is told to Trace.Limited
// under the name of the field.
//
// A connection whose events wait for their handlers is read no further when there
// are more than QueuedEvents, or when they hold more memory than twice MaxPayload.
// While an ack of the client is awaited it is read all the same, as the ack may
// stand behind them; events for which there is no memory are answered with
// CodeRateLimited then.
type Limits struct {
	MaxPayload       int // bytes of a websocket message or polling body; 0: 1,000,000
	PacketsPerBody   int // packets in a polling body; 0: 1000
	Attachments      int // binary attachments of an event; 0: 10
	EventName        int // bytes of an event's name; 0: 128
	Depth            int // nested arrays and objects in an event; 0: 32
	Values           int // array elements and object members in an event, or in the auth of a CONNECT; 0: 10,000
	QueuedEvents     int // a connection's events that wait for their handler before it is read no further; 0: 256
	OutboxBytes      int // unsent bytes before a client is a slow consumer; 0: 4 MiB
	OutboxMessages   int // unsent messages, likewise; 0: 10,000
	RoomsPerSocket   int // rooms that a client can join by its own events; 0: 100
	Namespaces       int // namespaces of a connection at once; 0: 8
	PendingAcks      int // emits to one socket that wait for their ack; 0: 1000
	Handlers         int // calls of handlers and OnConnect that have not returned, in all; events beyond are CodeUnavailable; 0: 50,000, negative: no limit
	HandlersPerEvent int // likewise, of one event in one namespace; 0: 25,000, negative: no limit
	RememberedEvents int // event ids remembered to drop repeats from the bus; 0: 8192, negative: none

	// The following are numbers of connections or sockets on this node; negative:
	// no limit. A connection too many is answered with 503, one too many of an
	// address with 429, both with Retry-After, which stock clients take as a reason
	// to try again later. An IPv6 address counts by its /64. Of connections that have
	// passed no handshake it is not the newest that is refused: the one that was refused
	// a namespace or has waited longest is closed for it, unless the handshakes of all
	// are under way.
	Connections          int // in all; 0: 200,000
	ConnectionsPerIP     int // of one address; 0: 200
	Unauthenticated      int // that have passed no handshake yet, in all, and an eighth of that of one IPv6 /48 or IPv4 /24; 0: 10,000
	UnauthenticatedPerIP int // likewise, of one address; 0: 100
	SocketsPerUser       int // of one user in one namespace; 0: 10
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
	Location Rate            // a socket's driver:location:ping; zero: 2 a second, 10 at once
	Event    Rate            // each other event of a socket, but for auth:refresh; zero: 10 a second, 20 at once
	Events   map[string]Rate // by the name of the event, instead of the two; auth:refresh: one in 10 s, 5 at once
	User     Rate            // all events of one user on this node; zero: 50 a second, 200 at once
	// Breach is how often events may be refused before the socket is disconnected;
	// zero: 1 a second, 100 at once.
	Breach Rate
	// Connect is how often one connection may send CONNECT, whatever becomes of it; ten
	// are refused beyond that, then the connection is closed; zero: 1 a second, 10 at once.
	Connect Rate
	// Handshake is how often one address may open a connection; zero: 50 a second,
	// 200 at once.
	Handshake Rate
}

// defaults fills in what was left zero.
func (o Options) defaults() Options {
	o.Logger = or(o.Logger, slog.Default())
	o.Trace = or(o.Trace, &Trace{})
	o.PingInterval = or(o.PingInterval, 25*time.Second)
	o.PingTimeout = or(o.PingTimeout, 20*time.Second)
	o.UpgradeTimeout = or(o.UpgradeTimeout, 10*time.Second)
	o.ConnectTimeout = or(o.ConnectTimeout, 15*time.Second)
	o.CloseTimeout = or(o.CloseTimeout, time.Second)
	o.WriteTimeout = or(o.WriteTimeout, 10*time.Second)
	o.RepoTimeout = or(o.RepoTimeout, 5*time.Second)
	o.HandlerTimeout = or(o.HandlerTimeout, 10*time.Second)
	o.RefreshGrace = or(o.RefreshGrace, 10*time.Second)
	o.UnavailableDelay = or(o.UnavailableDelay, 5*time.Second)
	o.DrainDelay = or(o.DrainDelay, 5*time.Second)
	o.DrainRate = or(o.DrainRate, 2500)
	o.RepoConcurrency = or(o.RepoConcurrency, 64)
	o.RepoCache = or(o.RepoCache, time.Second)
	o.SweepInterval = or(o.SweepInterval, time.Minute)
	o.PresenceGrace = or(o.PresenceGrace, 15*time.Second)
	o.AckTimeout = or(o.AckTimeout, 30*time.Second)
	l := &o.Limits
	l.MaxPayload = or(l.MaxPayload, 1e6)
	l.PacketsPerBody = or(l.PacketsPerBody, 1000)
	l.Attachments = or(l.Attachments, 10)
	l.EventName = or(l.EventName, 128)
	l.Depth = or(l.Depth, 32)
	l.Values = or(l.Values, 10_000)
	l.QueuedEvents = or(l.QueuedEvents, 256)
	l.OutboxBytes = or(l.OutboxBytes, 4<<20)
	l.OutboxMessages = or(l.OutboxMessages, 10_000)
	l.RoomsPerSocket = or(l.RoomsPerSocket, 100)
	l.Namespaces = or(l.Namespaces, 8)
	l.PendingAcks = or(l.PendingAcks, 1000)
	l.Handlers = or(l.Handlers, 50_000)
	l.HandlersPerEvent = or(l.HandlersPerEvent, 25_000)
	l.RememberedEvents = or(l.RememberedEvents, 8192)
	l.Connections = or(l.Connections, 200_000)
	l.ConnectionsPerIP = or(l.ConnectionsPerIP, 200)
	l.Unauthenticated = or(l.Unauthenticated, 10_000)
	l.UnauthenticatedPerIP = or(l.UnauthenticatedPerIP, 100)
	l.SocketsPerUser = or(l.SocketsPerUser, 10)
	r := &o.Rates
	r.Location = or(r.Location, Rate{2, 10})
	r.Event = or(r.Event, Rate{10, 20})
	r.User = or(r.User, Rate{50, 200})
	r.Breach = or(r.Breach, Rate{1, 100})
	r.Connect = or(r.Connect, Rate{1, 10})
	r.Handshake = or(r.Handshake, Rate{50, 200})
	if o.Unlimited {
		none := Rate{PerSecond: -1}
		*r = Rates{Location: none, Event: none, User: none, Breach: none, Connect: none, Handshake: none}
		l.Connections, l.ConnectionsPerIP, l.Unauthenticated, l.UnauthenticatedPerIP, l.SocketsPerUser = -1, -1, -1, -1, -1
	}
	return o
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// isTypedNil reports whether an interface holds a nil pointer or function, of which
// the first call of a method would panic.
func isTypedNil(v any) bool {
	r := reflect.ValueOf(v)
	switch r.Kind() {
	case reflect.Pointer, reflect.Func:
		return r.IsNil()
	}
	return false
}

// bad reports whether a rate that is set lets nothing pass.
func (r Rate) bad() bool { return r != (Rate{}) && r.PerSecond >= 0 && r.Burst < 1 }

// check returns every mistake at once.
func (o Options) check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("realtime: "+format, args...))
		}
	}
	for name, v := range map[string]any{
		"Tokens": o.Tokens, "Users": o.Users, "Sessions": o.Sessions, "Bus": o.Bus, "Drivers": o.Drivers,
		"Offers": o.Offers, "Trips": o.Trips, "Parties": o.Parties, "Adapter": o.Adapter,
	} {
		wrong(isTypedNil(v), "Options.%s is a nil %T; leave it out or set it", name, v)
	}
	wrong(o.Tokens == nil, "Options.Tokens is required; NewJWTVerifier makes one")
	wrong(o.Users == nil, "Options.Users is required")
	wrong(o.Sessions == nil, "Options.Sessions is required")
	wrong(o.LegacyQueryToken && !o.AllowEIO3, "Options.LegacyQueryToken is for clients that only AllowEIO3 lets in")
	wrong(o.NoPolling && o.NoWebSocket, "Options.NoPolling and NoWebSocket leave no transport")
	wrong(o.AllowCredentials && slices.Contains(o.AllowedOrigins, "*"),
		`Options.AllowedOrigins "*" can't go with AllowCredentials: browsers refuse it; list the origins`)
	for _, origin := range o.AllowedOrigins {
		if _, ok := origins.Canonical(origin); !ok && origin != "*" {
			wrong(true, "Options.AllowedOrigins: %q is no origin; it takes scheme://host or scheme://host:port, in ASCII, and no path", origin)
		}
	}
	for ns := range o.UserTypes {
		wrong(builtinByName(ns) == nil, "Options.UserTypes: %q is none of %s, %s, %s; NamespaceOptions has those of other namespaces",
			ns, NamespaceDrivers, NamespacePassengers, NamespaceAdmin)
	}
	namespaces := map[string]bool{NamespaceDrivers: true, NamespacePassengers: true, NamespaceAdmin: true}
	for _, name := range slices.Sorted(maps.Keys(o.Namespaces)) {
		if err := checkNamespace(name, o.Namespaces[name]); err != nil {
			errs = append(errs, err)
		}
		wrong(builtinByName(name) != nil, "Options.Namespaces: %q exists; UserTypes admits further types to it", name)
		namespaces[name] = true
	}
	errs = append(errs, checkEvents(o.Events, namespaces)...)
	for name, d := range map[string]time.Duration{
		"PingInterval": o.PingInterval, "PingTimeout": o.PingTimeout, "UpgradeTimeout": o.UpgradeTimeout,
		"ConnectTimeout": o.ConnectTimeout, "CloseTimeout": o.CloseTimeout, "WriteTimeout": o.WriteTimeout,
		"RepoTimeout": o.RepoTimeout, "HandlerTimeout": o.HandlerTimeout, "RefreshGrace": o.RefreshGrace,
		"UnavailableDelay": o.UnavailableDelay, "DrainDelay": o.DrainDelay, "AckTimeout": o.AckTimeout,
	} {
		wrong(d < 0, "Options.%s is negative", name)
	}
	l := o.Limits
	for name, n := range map[string]int{
		"MaxPayload": l.MaxPayload, "PacketsPerBody": l.PacketsPerBody, "Attachments": l.Attachments, "EventName": l.EventName,
		"Depth": l.Depth, "Values": l.Values, "QueuedEvents": l.QueuedEvents, "OutboxBytes": l.OutboxBytes, "OutboxMessages": l.OutboxMessages,
		"RoomsPerSocket": l.RoomsPerSocket, "Namespaces": l.Namespaces, "PendingAcks": l.PendingAcks,
	} {
		wrong(n < 0, "Options.Limits.%s is negative", name)
	}
	wrong(o.DrainRate < 0, "Options.DrainRate is negative")
	wrong(o.RepoConcurrency < 0, "Options.RepoConcurrency is negative")
	r := o.Rates
	for name, rate := range map[string]Rate{
		"Location": r.Location, "Event": r.Event, "User": r.User, "Breach": r.Breach, "Connect": r.Connect, "Handshake": r.Handshake,
	} {
		wrong(rate.bad(), "Options.Rates.%s lets nothing pass: Burst is how much passes at once", name)
	}
	for event, rate := range r.Events {
		wrong(rate.bad() || rate == Rate{}, "Options.Rates.Events: %q lets nothing pass: Burst is how much passes at once", event)
	}
	return errors.Join(errs...)
}
