// Options: everything a host can set, with what happens when it does not.

package realtime

import (
	"errors"
	"fmt"
	"log/slog"
	"slices"
	"time"
)

// Path is where clients look for the server unless told otherwise.
const Path = "/socket.io/"

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
	// RefuseUnavailable answers a handshake that could not be decided with
	// CONNECT_ERROR unavailable. By default its transport is closed, after
	// UnavailableDelay, so that clients try again by themselves.
	RefuseUnavailable bool

	PingInterval   time.Duration // heartbeat; 0: 25 s
	PingTimeout    time.Duration // for the client's answer to it; 0: 20 s
	UpgradeTimeout time.Duration // for an upgrade to websocket; 0: 10 s
	ConnectTimeout time.Duration // for a connection without a namespace; 0: 15 s
	CloseTimeout   time.Duration // for what is told before a close to arrive; 0: 1 s
	WriteTimeout   time.Duration // for one write to a client; 0: 10 s
	RepoTimeout    time.Duration // for each question to Tokens, Users, Sessions, Trips, Parties; 0: 5 s
	HandlerTimeout time.Duration // deadline of a handler's ctx; 0: 10 s
	// RefreshGrace is how long sockets of an old session have to renew
	// themselves after auth.session.refreshed; 0: 10 s.
	RefreshGrace time.Duration
	// UnavailableDelay is at most how long the transport of an undecided
	// handshake stays open, at random from a fifth of it; 0: 5 s.
	UnavailableDelay time.Duration
	// DrainDelay is at most what server:drain tells a client to wait before it
	// reconnects, at random; 0: 5 s.
	DrainDelay time.Duration

	NoPolling   bool // websocket only
	NoWebSocket bool // long-polling only

	Limits Limits
}

// Limits bounds what one client can cost.
type Limits struct {
	MaxPayload       int // bytes of a websocket message or polling body; 0: 1,000,000
	PacketsPerBody   int // packets in a polling body; 0: 1000
	Attachments      int // binary attachments of an event; 0: 10
	EventName        int // bytes of an event's name; 0: 128
	Depth            int // nested arrays and objects in an event; 0: 32
	QueuedEvents     int // a connection's events that wait for their handler before it is read no further; 0: 256
	OutboxBytes      int // unsent bytes before a client is a slow consumer; 0: 4 MiB
	OutboxMessages   int // unsent messages, likewise; 0: 10,000
	RoomsPerSocket   int // rooms that a client can join by its own events; 0: 100
	RememberedEvents int // event ids remembered to drop repeats from the bus; 0: 8192, negative: none
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
	l := &o.Limits
	l.MaxPayload = or(l.MaxPayload, 1e6)
	l.PacketsPerBody = or(l.PacketsPerBody, 1000)
	l.Attachments = or(l.Attachments, 10)
	l.EventName = or(l.EventName, 128)
	l.Depth = or(l.Depth, 32)
	l.QueuedEvents = or(l.QueuedEvents, 256)
	l.OutboxBytes = or(l.OutboxBytes, 4<<20)
	l.OutboxMessages = or(l.OutboxMessages, 10_000)
	l.RoomsPerSocket = or(l.RoomsPerSocket, 100)
	l.RememberedEvents = or(l.RememberedEvents, 8192)
	return o
}

func or[T comparable](v, fallback T) T {
	var zero T
	if v == zero {
		return fallback
	}
	return v
}

// check returns every mistake at once.
func (o Options) check() error {
	var errs []error
	wrong := func(bad bool, format string, args ...any) {
		if bad {
			errs = append(errs, fmt.Errorf("realtime: "+format, args...))
		}
	}
	wrong(o.Tokens == nil, "Options.Tokens is required; NewJWTVerifier makes one")
	wrong(o.Users == nil, "Options.Users is required")
	wrong(o.Sessions == nil, "Options.Sessions is required")
	wrong(o.NoPolling && o.NoWebSocket, "Options.NoPolling and NoWebSocket leave no transport")
	if v, ok := o.Tokens.(interface{ check() error }); ok {
		if err := v.check(); err != nil {
			errs = append(errs, err)
		}
	}
	wrong(o.AllowCredentials && slices.Contains(o.AllowedOrigins, "*"),
		`Options.AllowedOrigins "*" can't go with AllowCredentials: browsers refuse it; list the origins`)
	for _, origin := range o.AllowedOrigins {
		if _, ok := canonicalOrigin(origin); !ok && origin != "*" {
			wrong(true, "Options.AllowedOrigins: %q is no origin; it takes scheme://host or scheme://host:port, and no path", origin)
		}
	}
	for ns := range o.UserTypes {
		wrong(!slices.Contains(builtinNamespaces, ns), "Options.UserTypes: %q is none of %v; NamespaceOptions has those of other namespaces", ns, builtinNamespaces)
	}
	for name, d := range map[string]time.Duration{
		"PingInterval": o.PingInterval, "PingTimeout": o.PingTimeout, "UpgradeTimeout": o.UpgradeTimeout,
		"ConnectTimeout": o.ConnectTimeout, "CloseTimeout": o.CloseTimeout, "WriteTimeout": o.WriteTimeout,
		"RepoTimeout": o.RepoTimeout, "HandlerTimeout": o.HandlerTimeout, "RefreshGrace": o.RefreshGrace,
		"UnavailableDelay": o.UnavailableDelay, "DrainDelay": o.DrainDelay,
	} {
		wrong(d < 0, "Options.%s is negative", name)
	}
	l := o.Limits
	for name, n := range map[string]int{
		"MaxPayload": l.MaxPayload, "PacketsPerBody": l.PacketsPerBody, "Attachments": l.Attachments, "EventName": l.EventName,
		"Depth": l.Depth, "QueuedEvents": l.QueuedEvents, "OutboxBytes": l.OutboxBytes, "OutboxMessages": l.OutboxMessages,
		"RoomsPerSocket": l.RoomsPerSocket,
	} {
		wrong(n < 0, "Options.Limits.%s is negative", name)
	}
	return errors.Join(errs...)
}
