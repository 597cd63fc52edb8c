// The host: its services hang or panic for the users and trips of trouble, and answer
// all others.

package main

import (
	"context"
	"fmt"
	"hash/fnv"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// host is what the services of both nodes share. All methods may be called concurrently.
type host struct {
	w        *world
	calls    atomic.Uint64 // that hung, or blew
	hanging  atomic.Int64  // now
	released chan struct{} // closed when nothing hangs any more
	release  func()
	ledger   panicLog
}

func newHost(w *world) *host {
	h := &host{w: w, released: make(chan struct{})}
	h.release = sync.OnceFunc(func() { close(h.released) })
	return h
}

// hang blocks for a random time. Half of the calls return when ctx ends; the verifier's
// never do.
func (h *host) hang(ctx context.Context, service string) error {
	n := h.calls.Add(1)
	rng := h.w.rng(hangStream, int(n))
	longest := 9 * time.Second
	switch service {
	case "FindParties", "a listener":
		longest = hangsBus // what is behind it on the bus may wait
	case "VerifyToken":
		longest = 30 * time.Second
	}
	t := time.NewTimer(stresskit.Between(rng, longest/3, longest))
	defer t.Stop()
	h.hanging.Add(1)
	defer h.hanging.Add(-1)
	h.w.count.Add("hung: "+service, 1)
	heeded := ctx.Done()
	if n%2 == 0 || service == "VerifyToken" {
		heeded = nil
	}
	select {
	case <-t.C:
	case <-h.released:
	case <-heeded:
		return ctx.Err()
	}
	return nil
}

// hangsBus is how long a service hangs at most that holds up the bus.
const hangsBus = 3 * time.Second

// panicIn panics in a hook, or ends the goroutine.
func (h *host) panicIn(hook string) {
	if !h.w.has(panics) {
		return
	}
	if h.w.count.Add("panics: "+hook, 1)%4 == 0 { // each hook counts for itself, so that each panics
		runtime.Goexit()
	}
	h.ledger.fired(hook)
	panic(planned + hook)
}

// planned is how the text of each panic of the host begins.
const planned = "planned panic in "

// line is a kind of log line: its message, and its value of "call", if it has one.
type line struct{ message, call string }

// hookLines says in which line the log names a hook that panicked, by how the hook's
// name begins. A hook that is not listed is in none: its caller gets the error.
var hookLines = map[string]line{
	"VerifyToken": {"realtime: handshake not decided", ""},
	"FindUser":    {"realtime: handshake not decided", ""},
	"FindSession": {"realtime: handshake not decided", ""},
	"ActiveTrips": {"realtime: handshake not decided", ""},
	"Authorize":   {"realtime: handshake not decided", ""},

	"a handler":      {"realtime: handler failed", ""},
	"DriverService.": {"realtime: handler failed", ""},
	"OfferService.":  {"realtime: handler failed", ""},
	"OnConnect":      {"realtime: handler failed", ""},
	"OnDisconnect":   {"realtime: handler failed", ""},

	"FindParties":      {"realtime: lookup of a trip's parties failed; the event is sent to the known ones only", ""},
	"EventBus.Publish": {"realtime: presence not published", ""},

	"a listener":      {"realtime: call of the host's code failed", "OnServerEmit"},
	"Adapter.Publish": {"realtime: call of the host's code failed", "Adapter.Publish"},
	"Trace.":          {"realtime: call of the host's code failed", "Trace"},
}

// panicLog records which hooks have panicked, and which of them the log names. All
// methods may be called concurrently.
type panicLog struct {
	mu         sync.Mutex      // guards all of it
	hooks      map[string]line // the line that names it; zero: none has
	suppressed map[line]bool   // of which lines the server left some out of its log
}

func (l *panicLog) fired(hook string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.hooks == nil {
		l.hooks = map[string]line{}
	}
	l.hooks[hook] = l.hooks[hook] //nolint:staticcheck // adds the key, with no line
}

// logged looks for hooks in a record of a server's log, and for what the server
// suppressed.
func (l *panicLog) logged(r slog.Record, text string) {
	left, suppressed := line{message: r.Message}, false
	r.Attrs(func(a slog.Attr) bool {
		switch a.Key {
		case "suppressed":
			suppressed = true
		case "line": // when the server ends, it logs the numbers alone
			left.message = a.Value.String()
		case "call":
			left.call = a.Value.String()
		}
		return true
	})
	if suppressed {
		l.mu.Lock()
		if l.suppressed == nil {
			l.suppressed = map[line]bool{}
		}
		l.suppressed[left] = true
		l.mu.Unlock()
	}
	l.named(left, text)
}

// returned looks for hooks in an error that the host's code received.
func (l *panicLog) returned(err error) {
	l.named(line{message: "returned"}, fmt.Sprint(err))
}

func (l *panicLog) named(in line, text string) {
	for {
		_, rest, found := strings.Cut(text, planned)
		if !found {
			return
		}
		l.mu.Lock()
		for hook := range l.hooks {
			if strings.HasPrefix(rest, hook) {
				l.hooks[hook] = in
			}
		}
		l.mu.Unlock()
		text = rest
	}
}

// judge records a breach for each hook whose panics are not in the log, unless lines of
// the kind that would have named it were suppressed.
func (l *panicLog) judge(o *oracle) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for hook, by := range l.hooks {
		if by == (line{}) && !l.mayBeSuppressedLocked(hook) {
			o.breachf("%s panicked, but no log line names it", hook)
		}
	}
}

func (l *panicLog) mayBeSuppressedLocked(hook string) bool {
	for name, of := range hookLines {
		if strings.HasPrefix(hook, name) && l.suppressed[of] {
			return true
		}
	}
	return false
}

// trouble is called first by each service.
func (h *host) trouble(ctx context.Context, service, id, hung string) error {
	switch {
	case strings.HasPrefix(id, hung):
		return h.hang(ctx, service)
	case strings.HasPrefix(id, bomb) && h.chosen(service, id):
		h.panicIn(service)
	}
	return nil
}

// chosen reports whether this service is the one that panics for a user.
func (h *host) chosen(service, id string) bool {
	_, chosen, _ := strings.Cut(id, "-")
	return chosen == service || chosen == "DriverService" && strings.HasPrefix(service, chosen)
}

// users is the UserRepo.
type users struct {
	*realtimetest.Users
	host *host
}

// FindUser implements realtime.UserRepo.
func (u users) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if err := u.host.trouble(ctx, "FindUser", id, hungLookup+"u"); err != nil {
		return realtime.User{}, err
	}
	return u.Users.FindUser(ctx, id)
}

// sessions is the SessionRepo. Some answers are delayed, and outdated when they arrive:
// a session can end during a handshake.
type sessions struct {
	*realtimetest.Sessions
	host *host
}

// FindSession implements realtime.SessionRepo.
func (s sessions) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	if err := s.host.trouble(ctx, "FindSession", userOf(sid), hungLookup+"s"); err != nil {
		return realtime.Session{}, err
	}
	row, err := s.Sessions.FindSession(ctx, sid)
	if len(sid)%2 == 0 {
		time.Sleep(10 * time.Millisecond)
	}
	return row, err
}

// userOf returns the user of a session id.
func userOf(sid string) string {
	user := strings.TrimPrefix(sid, "s-")
	if i := strings.LastIndexByte(user, '-'); i >= 0 {
		user = user[:i]
	}
	return user
}

// tokens is the TokenVerifier. A token that begins with "kid" needs a key whose lookup
// hangs.
type tokens struct {
	*realtimetest.Tokens
	host *host
}

// VerifyToken implements realtime.TokenVerifier.
func (t tokens) VerifyToken(ctx context.Context, token, namespace string) (realtime.Claims, error) {
	switch {
	case strings.HasPrefix(token, "kid"):
		return realtime.Claims{}, t.host.hang(ctx, "VerifyToken")
	case strings.HasPrefix(token, "blow"):
		t.host.panicIn("VerifyToken")
	}
	return t.Tokens.VerifyToken(ctx, token, namespace)
}

// trips is the TripLookup.
type trips struct {
	*realtimetest.Trips
	host *host
}

// ActiveTrips implements realtime.TripLookup.
func (t trips) ActiveTrips(ctx context.Context, user string) ([]string, error) {
	if err := t.host.trouble(ctx, "ActiveTrips", user, hungLookup+"t"); err != nil || t.host.w.config.plant == "no rows" {
		return nil, err
	}
	return t.Trips.ActiveTrips(ctx, user)
}

// manyTrips is a TripLookup that can look up many users in one call.
type manyTrips struct{ trips }

// ActiveTripsOf implements realtime.TripBatchLookup.
func (t manyTrips) ActiveTripsOf(ctx context.Context, users []string) (map[string][]string, error) {
	all := map[string][]string{}
	for _, user := range users {
		ids, err := t.Trips.ActiveTrips(ctx, user)
		if err != nil || t.host.w.config.plant == "no rows" {
			return nil, err
		}
		all[user] = ids
	}
	return all, nil
}

// parties is the PartyLookup. It knows no trip, because the events name the people.
type parties struct{ host *host }

// FindParties implements realtime.PartyLookup.
func (p parties) FindParties(ctx context.Context, trip string) (realtime.TripParties, error) {
	if err := p.host.trouble(ctx, "FindParties", trip, hungTrip); err != nil {
		return realtime.TripParties{}, err
	}
	return realtime.TripParties{}, realtime.ErrNotFound
}

// driverService is the DriverService.
type driverService struct {
	realtime.DriverService
	host *host
}

// UpdateStatus implements realtime.DriverService.
func (d driverService) UpdateStatus(ctx context.Context, id string, in realtime.StatusUpdate) (realtime.Availability, error) {
	if err := d.host.trouble(ctx, "DriverService.UpdateStatus", id, hungService); err != nil {
		return realtime.Availability{}, err
	}
	return d.DriverService.UpdateStatus(ctx, id, in)
}

// UpdateLocation implements realtime.DriverService.
func (d driverService) UpdateLocation(ctx context.Context, id string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	if err := d.host.trouble(ctx, "DriverService.UpdateLocation", id, hungService); err != nil {
		return realtime.LocationUpdate{}, false, err
	}
	return d.DriverService.UpdateLocation(ctx, id, in)
}

// SetTrip implements realtime.DriverService.
func (d driverService) SetTrip(ctx context.Context, id, trip string) (realtime.Availability, error) {
	if err := d.host.trouble(ctx, "DriverService.SetTrip", id, hungService); err != nil {
		return realtime.Availability{}, err
	}
	return d.DriverService.SetTrip(ctx, id, trip)
}

// trace counts what a server reports. Sometimes one of the functions panics.
func (h *host) trace() *realtime.Trace {
	w := h.w
	var calls atomic.Uint64
	called := func(hook, what string) {
		if what != "" {
			w.count.Add(what, 1)
		}
		if n := calls.Add(1); w.has(panics) && hashOf(fmt.Sprint(w.seed, n))%64 == 0 {
			h.panicIn("Trace." + hook)
		}
	}
	return &realtime.Trace{
		Connected: func(context.Context, realtime.ConnectedInfo) { called("Connected", "handshakes passed") },
		RequestFailed: func(_ context.Context, i realtime.RequestFailedInfo) {
			called("RequestFailed", "request failed: "+string(i.Reason))
		},
		Refused: func(_ context.Context, i realtime.RefusedInfo) { called("Refused", "refused: "+string(i.Code)) },
		Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
			called("Disconnected", "disconnected: "+string(i.Reason))
		},
		Limited:   func(_ context.Context, i realtime.LimitInfo) { called("Limited", "limited: "+string(i.Limit)) },
		Delivered: func(context.Context, realtime.DeliveredInfo) { called("Delivered", "bus events handled") },
		Handled:   func(context.Context, realtime.HandledInfo) { called("Handled", "") },
		Emitted:   func(context.Context, realtime.EmittedInfo) { called("Emitted", "") },
		Abandoned: func(context.Context, realtime.AbandonedInfo) { called("Abandoned", "handlers abandoned") },
		TraceDropped: func(_ context.Context, i realtime.TraceDroppedInfo) {
			w.count.Add("calls of Trace dropped", i.Calls)
			called("TraceDropped", "")
		},
	}
}

func hashOf(s string) uint32 {
	f := fnv.New32a()
	_, _ = f.Write([]byte(s)) // never fails
	return f.Sum32()
}
