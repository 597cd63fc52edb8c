// What zero in Options stands for, and what a server can't be made of.

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

	"github.com/rodando/realtime/internal/origin"
	"github.com/rodando/realtime/internal/socketio"
)

// setting is a duration or a number of Options, and what is known of it: its name, what
// zero stands for, the least that it may be, and whether a negative one has a meaning.
type setting[T time.Duration | int] struct {
	name     string
	at       *T
	fallback T
	least    T
	negative bool
}

// rateSetting is the same for a Rate.
type rateSetting struct {
	name     string
	at       *Rate
	fallback Rate
}

// settings is the one list of the timeouts: defaults, checks and the test of the
// documentation come from it, as they do from those of limits and rates.
func (t *Timeouts) settings() []setting[time.Duration] {
	const unit = time.Millisecond // the least of each
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
		{"RefreshGrace", &t.RefreshGrace, 10 * time.Second, unit, false},
		{"UnavailableDelay", &t.UnavailableDelay, 5 * time.Second, unit, false},
		{"DrainDelay", &t.DrainDelay, 5 * time.Second, unit, false},
		{"RepoCache", &t.RepoCache, time.Second, unit, true},
		{"SweepInterval", &t.SweepInterval, 60 * time.Second, unit, true},
		{"PresenceGrace", &t.PresenceGrace, 15 * time.Second, unit, true},
	}
}

// settings lists the limits. The least of each lets a client connect, with a token of
// the usual length, and send every built-in event.
func (l *Limits) settings() []setting[int] {
	return append([]setting[int]{
		{"MaxPayload", &l.MaxPayload, 1e6, 1000, false},
		{"PacketsPerBody", &l.PacketsPerBody, 1000, 1, false},
		{"Attachments", &l.Attachments, 10, 1, false},
		{"EventName", &l.EventName, 128, len(DriverLocationPing.name), false},
		{"Depth", &l.Depth, 32, 4, false},
		{"Values", &l.Values, 10_000, 32, false},
		{"QueuedEvents", &l.QueuedEvents, 256, 1, false},
		{"OutboxBytes", &l.OutboxBytes, 4 << 20, 16 << 10, false},
		{"OutboxMessages", &l.OutboxMessages, 10_000, 16, false},
		{"RoomsPerSocket", &l.RoomsPerSocket, 100, 1, false},
		{"Namespaces", &l.Namespaces, 8, 1, false},
		{"PendingAcks", &l.PendingAcks, 1000, 1, false},
		{"Handlers", &l.Handlers, 50_000, 1, true},
		{"HandlersPerEvent", &l.HandlersPerEvent, 25_000, 1, true},
		{"RememberedEvents", &l.RememberedEvents, 8192, 1, true},
		{"RepoConcurrency", &l.RepoConcurrency, 64, 1, false},
		{"DrainRate", &l.DrainRate, 2500, 1, false},
	}, l.numbers()...)
}

// numbers lists the limits that Unlimited switches off.
func (l *Limits) numbers() []setting[int] {
	return []setting[int]{
		{"Connections", &l.Connections, 200_000, 1, true},
		{"ConnectionsPerIP", &l.ConnectionsPerIP, 200, 1, true},
		{"Unauthenticated", &l.Unauthenticated, 10_000, 1, true},
		{"UnauthenticatedPerIP", &l.UnauthenticatedPerIP, 100, 1, true},
		{"SocketsPerUser", &l.SocketsPerUser, 10, 1, true},
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
		{"Handshake", &r.Handshake, Rate{50, 200}},
	}
}

// defaults returns the options with what was left zero filled in.
func (o Options) defaults() Options {
	o.Logger = cmp.Or(o.Logger, slog.Default())
	o.Trace = cmp.Or(o.Trace, &Trace{})
	if len(o.Transports) == 0 {
		o.Transports = []Transport{TransportPolling, TransportWebSocket}
	}
	for _, s := range o.Timeouts.settings() {
		*s.at = cmp.Or(*s.at, s.fallback)
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

// mistakes collects what is wrong, in the order in which it is found.
type mistakes []error

// add adds a mistake if there is one.
func (m *mistakes) add(wrong bool, format string, args ...any) {
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
		m.add(d < 0 && !s.negative, "Options.Timeouts.%s is negative; leave it out for %v", s.name, s.fallback)
		m.add(d > 0 && d < s.least, "Options.Timeouts.%s is %v; write %d * time.Second if seconds are meant", s.name, d, d)
	}
	for _, s := range o.Limits.settings() {
		n := *s.at
		switch {
		case n < 0 && !s.negative:
			m.add(true, "Options.Limits.%s is negative; leave it out for %d", s.name, s.fallback)
		case n > 0 && n < s.least:
			m.add(true, "Options.Limits.%s is %d, with which no client gets far; it takes %d or more", s.name, n, s.least)
		}
	}
	for _, s := range o.Rates.settings() {
		m.add(s.at.isClosed(), "Options.Rates.%s is %v, which lets nothing pass in the end; both numbers are to be positive", s.name, *s.at)
	}
	for _, event := range slices.Sorted(maps.Keys(o.Rates.Events)) {
		rate := o.Rates.Events[event]
		m.add(rate == Rate{} || rate.isClosed(), "Options.Rates.Events: %q is %v, which lets nothing pass in the end; both numbers are to be positive", event, rate)
		if err := checkEventName(event); err != nil {
			m.add(true, "Options.Rates.Events: %w", err)
		}
	}
	if o.Unlimited {
		for _, s := range o.Limits.numbers() {
			m.add(*s.at != 0, "Options.Limits.%s is set and Unlimited switches it off; leave out one of the two", s.name)
		}
		for _, s := range o.Rates.settings() {
			m.add(*s.at != Rate{}, "Options.Rates.%s is set and Unlimited switches it off; leave out one of the two", s.name)
		}
		m.add(len(o.Rates.Events) > 0, "Options.Rates.Events is set and Unlimited switches it off; leave out one of the two")
	}
	return errors.Join(m...)
}

// checkHost is about what the host plugs in.
func (o Options) checkHost(m *mistakes) {
	for _, part := range []struct {
		name string
		v    any
	}{
		{"Tokens", o.Tokens}, {"Users", o.Users}, {"Sessions", o.Sessions}, {"Bus", o.Bus}, {"Drivers", o.Drivers},
		{"Offers", o.Offers}, {"Trips", o.Trips}, {"Parties", o.Parties}, {"Cluster.Adapter", o.Cluster.Adapter},
	} {
		m.add(isTypedNil(part.v), "Options.%s is a nil %T; leave it out or set it", part.name, part.v)
	}
	m.add(o.Tokens == nil, "Options.Tokens is required; NewJWTVerifier makes one")
	m.add(o.Users == nil, "Options.Users is required")
	m.add(o.Sessions == nil, "Options.Sessions is required")
	m.add(o.Cluster.BusFanOut && o.Bus == nil, "Options.Cluster.BusFanOut is about Options.Bus, which is not set")
}

// checkNamespaces returns the names of all namespaces.
func (o Options) checkNamespaces(m *mistakes) map[string]bool {
	namespaces := map[string]bool{}
	for _, b := range builtinNamespaces {
		namespaces[b.name] = true
	}
	for n, i := range o.Interceptors {
		m.add(i == nil, "Options.Interceptors[%d] is nil", n)
	}
	for _, name := range slices.Sorted(maps.Keys(o.Namespaces)) {
		if err := checkNamespace(name, o.Namespaces[name]); err != nil {
			*m = append(*m, err)
		}
		m.add(namespaces[name], "Options.Namespaces: %q exists; UserTypes admits further types to it", name)
		namespaces[name] = true
	}
	for _, name := range slices.Sorted(maps.Keys(o.UserTypes)) {
		m.add(builtinByName(name) == nil, "Options.UserTypes: %q is none of %s, %s, %s; NamespaceOptions has those of other namespaces",
			name, NamespaceDrivers, NamespacePassengers, NamespaceAdmin)
		m.add(slices.Contains(o.UserTypes[name], ""), "Options.UserTypes: %q has an empty type", name)
	}
	return namespaces
}

// checkClients is about who may connect, and how.
func (o Options) checkClients(m *mistakes) {
	for _, allowed := range o.Origins.Allowed {
		if allowed != "*" {
			problem := origin.Problem(allowed)
			m.add(problem != "", "Options.Origins.Allowed: no page has the origin %q: %s", allowed, problem)
		}
	}
	m.add(o.Origins.Credentials && slices.Contains(o.Origins.Allowed, "*"),
		`Options.Origins.Allowed "*" can't go with Credentials: browsers refuse it; list the origins`)
	m.add(o.Origins.Credentials && len(o.Origins.Allowed) == 0, "Options.Origins.Credentials is for the origins in Allowed, which is empty")
	for _, p := range o.TrustedProxies {
		m.add(!p.IsValid(), "Options.TrustedProxies: %v contains no address; netip.MustParsePrefix makes one that does", p)
	}
	for i, t := range o.Transports {
		m.add(t != TransportPolling && t != TransportWebSocket, "Options.Transports: %q is neither %q nor %q", t, TransportPolling, TransportWebSocket)
		m.add(slices.Contains(o.Transports[:i], t), "Options.Transports: %q is listed twice", t)
	}
	m.add(o.Compat.LegacyQueryToken && !o.Compat.AllowEIO3, "Options.Compat.LegacyQueryToken is for clients that only AllowEIO3 lets in")
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

// isClosed reports whether a rate that is set lets nothing pass in the long run.
func (r Rate) isClosed() bool {
	if r == (Rate{}) || r.PerSecond < 0 {
		return false
	}
	return r.Burst < 1 || !(r.PerSecond > 0) || math.IsInf(r.PerSecond, 1) // NaN is not above 0
}

// maxNamespace is the longest name of a namespace in bytes, and of an event that is
// declared.
const maxNamespace, maxDeclaredName = 256, 256

// checkNamespace returns what is wrong with a namespace of the host's own.
func checkNamespace(name string, o NamespaceOptions) error {
	var m mistakes
	m.add(len(name) < 2 || len(name) > maxNamespace || !strings.HasPrefix(name, "/") || strings.ContainsAny(name, ",?"),
		"namespace %q: a name begins with a slash, has no comma or question mark, and 2 to %d bytes", name, maxNamespace)
	m.add(o.Anonymous && o.Authorize != nil,
		"namespace %q: Authorize is asked about an identity, which nobody has where Anonymous is set; leave out one of the two", name)
	m.add(o.Anonymous && len(o.UserTypes) > 0,
		"namespace %q: UserTypes are those of users, of whom nothing is known where Anonymous is set; leave out one of the two", name)
	m.add(slices.Contains(o.UserTypes, ""), "namespace %q: UserTypes has an empty type", name)
	for n, i := range o.Interceptors {
		m.add(i == nil, "namespace %q: Interceptors[%d] is nil", name, n)
	}
	return errors.Join(m...)
}

// checkEventName returns what is wrong with the name of an event on the wire, without
// the prefix of an error.
func checkEventName(name string) error {
	switch {
	case name == "":
		return errors.New("an event's name is empty")
	case socketio.Reserved(name):
		return fmt.Errorf("an event can't be called %q: clients use that name for themselves; choose another", name)
	case len(name) > maxDeclaredName:
		return fmt.Errorf("an event's name has %d bytes; the longest has %d", len(name), maxDeclaredName)
	}
	return nil
}
