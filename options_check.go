// Options check: the defaults of Options, and the validation that New does. It reads options
// and changes only its copy.

package realtime

import (
	"cmp"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"math"
	"reflect"
	"slices"
	"strings"
	"time"
	"unicode/utf8"

	"github.com/rodando/realtime/internal/origin"
	"github.com/rodando/realtime/internal/socketio"
)

// setting describes a field of Options that is a duration or a number.
type setting[T time.Duration | int] struct {
	name     string
	at       *T   // the field
	fallback T    // the default
	least    T    // the minimum
	negative bool // a negative value has a meaning
}

// maxTimeout and maxNumber are the maximum of every duration and number of Options. The
// server can add and double them without an overflow.
const (
	maxTimeout = 365 * 24 * time.Hour
	maxNumber  = 1 << 30
)

// rateSetting is a Rate of Options, with its name and its default.
type rateSetting struct {
	name     string
	at       *Rate
	fallback Rate
}

// settings lists the timeouts. The defaults, the validation and the test of the
// documentation use this list, and those of limits and rates.
func (t *Timeouts) settings() []setting[time.Duration] {
	const unit = time.Millisecond // the minimum of each
	return []setting[time.Duration]{
		{"PingInterval", &t.PingInterval, 25 * time.Second, unit, false},
		{"PingTimeout", &t.PingTimeout, 20 * time.Second, unit, false},
		{"Upgrade", &t.Upgrade, 10 * time.Second, unit, false},
		{"Connect", &t.Connect, 15 * time.Second, unit, false},
		{"Close", &t.Close, time.Second, unit, false},
		{"Write", &t.Write, 10 * time.Second, unit, false},
		{"Repo", &t.Repo, 5 * time.Second, unit, false},
		{"Handler", &t.Handler, 10 * time.Second, unit, false},
		{"Ack", &t.Ack, 30 * time.Second, unit, false},
		{"OfferAgain", &t.OfferAgain, 2 * time.Second, unit, false},
		{"OfferReceipt", &t.OfferReceipt, 3 * time.Second, unit, false},
		{"RefreshGrace", &t.RefreshGrace, 10 * time.Second, unit, false},
		{"UnavailableDelay", &t.UnavailableDelay, 5 * time.Second, unit, false},
		{"DrainDelay", &t.DrainDelay, 5 * time.Second, unit, false},
		{"RepoCache", &t.RepoCache, time.Second, unit, true},
		{"SweepInterval", &t.SweepInterval, 60 * time.Second, unit, true},
		{"PresenceGrace", &t.PresenceGrace, 15 * time.Second, unit, true},
	}
}

// settings lists the limits. With the minimum of each, a client can still connect with a
// token of the usual length and send every built-in event.
func (l *Limits) settings() []setting[int] {
	return append([]setting[int]{
		{"MaxPayload", &l.MaxPayload, 1e6, 1000, false},
		{"PacketsPerBody", &l.PacketsPerBody, 100_000, 1, false},
		{"Attachments", &l.Attachments, 10, 1, false},
		{"AttachmentBytes", &l.AttachmentBytes, 4_000_000, 1000, false},
		{"EventName", &l.EventName, 128, len(DriverLocationPing.name), false},
		{"Depth", &l.Depth, 32, 4, false},
		{"Values", &l.Values, 100_000, 32, false},
		{"QueuedEvents", &l.QueuedEvents, 256, 1, false},
		{"OutboxBytes", &l.OutboxBytes, 4 << 20, 16 << 10, false},
		{"OutboxMessages", &l.OutboxMessages, 10_000, 16, false},
		{"RoomsPerSocket", &l.RoomsPerSocket, 100, 1, false},
		{"Namespaces", &l.Namespaces, 8, 1, false},
		{"PendingAcks", &l.PendingAcks, 1000, 1, false},
		{"Handlers", &l.Handlers, 50_000, 1, true},
		{"HandlersPerEvent", &l.HandlersPerEvent, 25_000, 1, true},
		{"RememberedEvents", &l.RememberedEvents, 8192, 1, true},
		{"RememberedCalls", &l.RememberedCalls, 64, 1, true},
		{"RememberedCallBytes", &l.RememberedCallBytes, 64 << 20, 1 << 20, false},
		{"RepoConcurrency", &l.RepoConcurrency, 64, 1, false},
		{"DrainRate", &l.DrainRate, 2500, 1, false},
	}, l.numbers()...)
}

// numbers lists the limits that Unlimited switches off.
func (l *Limits) numbers() []setting[int] {
	return []setting[int]{
		{"Connections", &l.Connections, 200_000, 1, true},
		{"ConnectionsPerIP", &l.ConnectionsPerIP, -1, 1, true},
		{"Unauthenticated", &l.Unauthenticated, 10_000, 1, true},
		{"UnauthenticatedPerIP", &l.UnauthenticatedPerIP, 1000, 1, true},
		{"SocketsPerUser", &l.SocketsPerUser, 10, 1, true},
	}
}

// limitPart is a limit that is never reached if it is above another one.
type limitPart struct {
	name, wholeName string
	part, whole     int
}

// parts lists the limits of a part of what another limit counts. Only values that the host
// has set are compared: a host that lowers one of them need not know the others' defaults.
func (l *Limits) parts() []limitPart {
	return []limitPart{
		{"HandlersPerEvent", "Handlers", l.HandlersPerEvent, l.Handlers},
		{"ConnectionsPerIP", "Connections", l.ConnectionsPerIP, l.Connections},
		{"UnauthenticatedPerIP", "Unauthenticated", l.UnauthenticatedPerIP, l.Unauthenticated},
	}
}

// settings lists the rates.
func (r *Rates) settings() []rateSetting {
	return []rateSetting{
		{"Location", &r.Location, Rate{2, 10}},
		{"Event", &r.Event, Rate{10, 20}},
		{"User", &r.User, Rate{50, 200}},
		{"Breach", &r.Breach, Rate{1, 100}},
		{"Connect", &r.Connect, Rate{1, 10}},
		{"Unauthenticated", &r.Unauthenticated, Rate{50, 1000}},
		{"Handshake", &r.Handshake, Rate{PerSecond: -1}},
	}
}

// defaults returns the options with the defaults in place of zero values.
func (o Options) defaults() Options {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.Trace = cmp.Or(o.Trace, &Trace{})
	if len(o.Transports) == 0 {
		o.Transports = []Transport{TransportPolling, TransportWebSocket}
	}
	for _, s := range o.Timeouts.settings() {
		*s.at = cmp.Or(*s.at, s.fallback)
	}
	if o.Recovery.Enabled {
		o.Recovery = o.Recovery.defaults()
	}
	if n := o.Limits.Unauthenticated; n > 0 && o.Limits.UnauthenticatedPerIP == 0 {
		o.Limits.UnauthenticatedPerIP = min(max(n/10, 100), 1000) // of a small number no address has most
	}
	for _, s := range o.Limits.settings() {
		*s.at = cmp.Or(*s.at, s.fallback)
	}
	for _, s := range o.Rates.settings() {
		*s.at = cmp.Or(*s.at, s.fallback)
	}
	if o.Unlimited {
		o.Rates.Events = nil
		for _, s := range o.Rates.settings() {
			*s.at = Rate{PerSecond: -1}
		}
		for _, s := range o.Limits.numbers() {
			*s.at = -1
		}
	}
	return o
}

// mistakes collects errors, in the order in which they are found.
type mistakes []error

// addf adds a mistake if wrong is true.
func (m *mistakes) addf(wrong bool, format string, args ...any) {
	if wrong {
		*m = append(*m, fmt.Errorf("realtime: "+format, args...))
	}
}

// check returns every mistake at once, in the order of the fields.
func (o Options) check() error {
	var m mistakes
	o.checkHost(&m)
	namespaces := o.checkNamespaces(&m)
	m = append(m, checkEvents(o.Events, namespaces)...)
	o.checkClients(&m)
	for _, s := range o.Timeouts.settings() {
		d := *s.at
		m.addf(d < 0 && !s.negative, "Options.Timeouts.%s is negative; leave it out for %v", s.name, s.fallback)
		m.addf(d > 0 && d < s.least, "Options.Timeouts.%s %s", s.name, tooShort(d, s.least))
		m.addf(d > maxTimeout, "Options.Timeouts.%s is %v; it must be %v or less", s.name, d, maxTimeout)
	}
	for _, s := range o.Limits.settings() {
		n := *s.at
		switch {
		case n < 0 && !s.negative:
			m.addf(true, "Options.Limits.%s is negative; leave it out for %d", s.name, s.fallback)
		case n > 0 && n < s.least:
			m.addf(true, "Options.Limits.%s is %d, which is too small for any client; it must be %d or more", s.name, n, s.least)
		case n > maxNumber:
			m.addf(true, "Options.Limits.%s is %d; it must be %d or less", s.name, n, maxNumber)
		}
	}
	for _, p := range o.Limits.parts() {
		m.addf(p.whole > 0 && p.part > p.whole, "Options.Limits.%s is %d and has no effect, because %s is %d; leave it out, or set %d or less",
			p.name, p.part, p.wholeName, p.whole, p.whole)
	}
	m.addf(o.Limits.RefuseExtraSockets && o.Limits.SocketsPerUser < 0, "Options.Limits.RefuseExtraSockets is set and SocketsPerUser is no limit; leave out one of the two")
	for _, s := range o.Rates.settings() {
		m.addf(s.at.allowsNothing(), "Options.Rates.%s is %+v; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit", s.name, *s.at)
		m.addf(s.at.Burst > maxNumber, "Options.Rates.%s is %+v; Burst must be %d or less", s.name, *s.at, maxNumber)
	}
	for _, event := range slices.Sorted(maps.Keys(o.Rates.Events)) {
		rate := o.Rates.Events[event]
		m.addf(rate == Rate{} || rate.allowsNothing(), "Options.Rates.Events: %q is %+v; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit", event, rate)
		m.addf(rate.Burst > maxNumber, "Options.Rates.Events: %q is %+v; Burst must be %d or less", event, rate, maxNumber)
		if err := checkEventName(event); err != nil {
			m.addf(true, "Options.Rates.Events: %w", err)
		} else if longest := o.defaults().Limits.EventName; len(event) > longest {
			m.addf(true, "Options.Rates.Events: %q has %d bytes, and Limits.EventName is %d", event, len(event), longest)
		}
	}
	if o.Unlimited {
		for _, s := range o.Limits.numbers() {
			m.addf(*s.at != 0, "Options.Limits.%s is set and Unlimited switches it off; leave out one of the two", s.name)
		}
		for _, s := range o.Rates.settings() {
			m.addf(*s.at != Rate{}, "Options.Rates.%s is set and Unlimited switches it off; leave out one of the two", s.name)
		}
		m.addf(len(o.Rates.Events) > 0, "Options.Rates.Events is set and Unlimited switches it off; leave out one of the two")
		m.addf(o.Limits.RefuseExtraSockets, "Options.Limits.RefuseExtraSockets is set and Unlimited switches it off; leave out one of the two")
	}
	o.Recovery.check(&m)
	m.addf(o.Logger != nil && o.Logger.Handler() == nil, "Options.Logger is the zero value; slog.New returns a logger")
	return errors.Join(m...)
}

// checkHost checks the host's implementations of interfaces.
func (o Options) checkHost(m *mistakes) {
	for _, part := range []struct {
		name string
		v    any
	}{
		{"Tokens", o.Tokens}, {"Users", o.Users}, {"Sessions", o.Sessions}, {"Bus", o.Bus}, {"Drivers", o.Drivers},
		{"Offers", o.Offers}, {"Trips", o.Trips}, {"Parties", o.Parties}, {"Snapshots", o.Snapshots}, {"Cluster.Adapter", o.Cluster.Adapter},
	} {
		m.addf(isTypedNil(part.v), "Options.%s is a nil %T; leave it out or set it", part.name, part.v)
	}
	m.addf(o.Tokens == nil, "Options.Tokens is required; NewJWTVerifier returns one")
	m.addf(o.Users == nil, "Options.Users is required")
	m.addf(o.Sessions == nil && !o.TokenSessions, "Options.Sessions is required; set TokenSessions if there are no login sessions")
	m.addf(o.Sessions != nil && o.TokenSessions, "Options.TokenSessions is set and does not use Sessions; leave out one of the two")
	m.addf(o.Cluster.BusFanOut && o.Bus == nil, "Options.Cluster.BusFanOut requires Options.Bus, which is not set")
}

// checkNamespaces checks the namespaces of the host and returns the names of all
// namespaces.
func (o Options) checkNamespaces(m *mistakes) map[string]bool {
	namespaces := map[string]bool{}
	for _, b := range builtinNamespaces {
		namespaces[b.name] = true
	}
	for n, i := range o.Interceptors {
		m.addf(i == nil, "Options.Interceptors[%d] is nil", n)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Namespaces)) {
		if err := checkNamespace(name, o.Namespaces[name]); err != nil {
			*m = append(*m, err)
		}
		m.addf(namespaces[name], "Options.Namespaces: %q is a built-in namespace; Options.UserTypes admits further user types to it", name)
		namespaces[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(o.UserTypes)) {
		m.addf(builtinByName(name) == nil, "Options.UserTypes: %q is not one of %s, %s, %s; set NamespaceOptions.UserTypes of other namespaces",
			name, NamespaceDrivers, NamespacePassengers, NamespaceAdmin)
		m.addf(slices.Contains(o.UserTypes[name], ""), "Options.UserTypes: %q has an empty type", name)
		m.addf(slices.ContainsFunc(o.UserTypes[name], invalidType), "Options.UserTypes: %q has %s", name, invalidTypeText)
	}
	return namespaces
}

// checkClients checks the options about which clients may connect, and how.
func (o Options) checkClients(m *mistakes) {
	for _, allowed := range o.Origins.Allowed {
		if allowed != "*" {
			problem := origin.Problem(allowed)
			m.addf(problem != "", "Options.Origins.Allowed: no page has the origin %q: %s", allowed, problem)
			m.addf(problem == "" && o.Origins.Credentials && origin.AnyPage(allowed),
				"Options.Origins.Allowed: %q can't go with Credentials: any file, or any page in a sandbox, has that origin", allowed)
		}
	}
	m.addf(o.Origins.Credentials && slices.Contains(o.Origins.Allowed, "*"),
		`Options.Origins.Allowed "*" can't go with Credentials: browsers refuse it; list the origins`)
	m.addf(o.Origins.Credentials && len(o.Origins.Allowed) == 0, "Options.Origins.Credentials is for the origins in Allowed, which is empty")
	for _, p := range o.TrustedProxies {
		m.addf(!p.IsValid(), "Options.TrustedProxies: %v contains no address; netip.MustParsePrefix returns a valid one", p)
		m.addf(p.Addr().Is4In6(), "Options.TrustedProxies: %v contains no address; write an IPv4 address as such", p)
	}
	for i, t := range o.Transports {
		m.addf(t != TransportPolling && t != TransportWebSocket, "Options.Transports: %q is neither %q nor %q", t, TransportPolling, TransportWebSocket)
		m.addf(slices.Contains(o.Transports[:i], t), "Options.Transports: %q is listed twice", t)
	}
	m.addf(o.Compat.LegacyQueryToken && !o.Compat.AllowEIO3, "Options.Compat.LegacyQueryToken requires AllowEIO3; only EIO3 clients use it")
	m.addf(o.Compat.RefuseUnavailable && !o.Compat.RetryExpired && o.Timeouts.UnavailableDelay != 0,
		"Options.Timeouts.UnavailableDelay is set and Compat.RefuseUnavailable closes no transport after it; leave out one of the two")
}

// isTypedNil reports whether an interface holds a nil pointer or function. The first call
// of one of its methods would panic.
func isTypedNil(v any) bool {
	r := reflect.ValueOf(v)
	switch r.Kind() { //nolint:exhaustive // other kinds are not used as implementations
	case reflect.Pointer, reflect.Func:
		return r.IsNil()
	}
	return false
}

// tooShort says that a duration is below the least one: most often its unit is missing.
func tooShort(d, least time.Duration) string {
	if d < time.Microsecond {
		return fmt.Sprintf("is %v; write %d * time.Second if seconds are meant", d, d)
	}
	return fmt.Sprintf("is %v; it must be %v or more, and a number without a unit is in nanoseconds", d, least)
}

// allowsNothing reports whether a rate that is set allows nothing in the long run.
func (r Rate) allowsNothing() bool {
	if r == (Rate{}) || r.PerSecond < 0 {
		return false
	}
	return r.Burst < 1 || !(r.PerSecond > 0) || math.IsInf(r.PerSecond, 1) // NaN is not above 0
}

// maxNamespace is the maximum length of a namespace's name, maxDeclaredName that of a
// declared event's name, both in bytes.
const maxNamespace, maxDeclaredName = 256, 256

// checkNamespace returns what is wrong with a namespace of the host's own.
func checkNamespace(name string, o NamespaceOptions) error {
	var m mistakes
	m.addf(len(name) > maxNamespace || !strings.HasPrefix(name, "/") || strings.ContainsAny(name, ",?") || !utf8.ValidString(name),
		"namespace %q: a name must be UTF-8, begin with a slash, contain no comma or question mark, and have at most %d bytes", name, maxNamespace)
	m.addf(o.Anonymous && o.Authorize != nil,
		"namespace %q: Authorize needs an identity, and clients have none if Anonymous is set; leave out one of the two", name)
	m.addf(o.Anonymous && len(o.UserTypes) > 0,
		"namespace %q: UserTypes needs an identity, and clients have none if Anonymous is set; leave out one of the two", name)
	m.addf(slices.Contains(o.UserTypes, ""), "namespace %q: UserTypes has an empty type", name)
	m.addf(slices.ContainsFunc(o.UserTypes, invalidType), "namespace %q: UserTypes has %s", name, invalidTypeText)
	for n, i := range o.Interceptors {
		m.addf(i == nil, "namespace %q: Interceptors[%d] is nil", name, n)
	}
	return errors.Join(m...)
}

func invalidType(t UserType) bool { return !t.valid() }

const invalidTypeText = "a type that is longer than 64 bytes, or contains NUL or invalid UTF-8"

// checkEventName returns an error if an event cannot have this name on the wire. The error
// has no "realtime: " prefix.
func checkEventName(name string) error {
	switch {
	case name == "":
		return errors.New("an event's name is empty")
	case socketio.Reserved(name):
		return fmt.Errorf("an event cannot be called %q: Socket.IO reserves that name; choose another", name)
	case !utf8.ValidString(name):
		return fmt.Errorf("an event cannot be called %q: the name must be UTF-8", name)
	case len(name) > maxDeclaredName:
		return fmt.Errorf("an event's name has %d bytes; the longest has %d", len(name), maxDeclaredName)
	}
	return nil
}

// checkServerEvent returns an error if nodes cannot send each other an event with this name.
// The reserved names are those of Node's Socket.IO server, which may be another node. The
// error has no "realtime: " prefix.
func checkServerEvent(name string) error {
	switch name {
	case "":
		return errors.New("an event's name is empty")
	case "connect", "connection", "new_namespace":
		return fmt.Errorf("an event between nodes cannot be called %q: Socket.IO reserves that name; choose another", name)
	}
	return nil
}
