// Limits: the configuration of the packages admission, ratelimit and origin from Options,
// and the check of Limits.SocketsPerUser.

package realtime

import (
	"cmp"
	"context"
	"net/http"
	"net/netip"
	"slices"
	"strings"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/origin"
	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/socketio"
)

// refreshRate is the rate limit of auth:refresh: once in 10 s, 5 at once. It is low because
// each auth:refresh reads from the host's database. Rates.Events can replace it.
var refreshRate = Rate{0.1, 5}

// newAdmission returns the admission control of connections.
func (rt *Server) newAdmission() *admission.Control {
	l, r := &rt.opts.Limits, &rt.opts.Rates
	return admission.New(admission.Config{
		Connections:          l.Connections,
		ConnectionsPerIP:     l.ConnectionsPerIP,
		Unauthenticated:      l.Unauthenticated,
		UnauthenticatedPerIP: l.UnauthenticatedPerIP,
		Handshake:            ratelimit.Rate(r.Handshake),
		UnauthenticatedRate:  ratelimit.Rate(r.Unauthenticated),
		Connect:              ratelimit.Rate(r.Connect),
		TrustedProxies:       rt.opts.TrustedProxies,
		UnnamedProxy: func(proxy netip.Addr) {
			rt.log.Warn("realtime: requests come through a proxy that is not in Options.TrustedProxies; limits per address do not apply", "address", proxy.String())
		},
	})
}

// newLimiter returns the rate limiter of events, or nil if Options.Unlimited is set.
func newLimiter(o *Options) *ratelimit.Limiter {
	if o.Unlimited {
		return nil
	}
	r := &o.Rates
	events := map[string]ratelimit.Limit{
		DriverLocationPing.name: {Rate: ratelimit.Rate(r.Location), Name: string(LimitRateLocation)},
		AuthRefresh.name:        {Rate: ratelimit.Rate(refreshRate), Name: string(LimitRateEvents)},
	}
	for event, rate := range r.Events {
		events[event] = ratelimit.Limit{Rate: ratelimit.Rate(rate), Name: string(LimitRateEvents)}
	}
	// A dashboard joins and leaves all of its trips at once, in each of its windows.
	for _, event := range []string{AdminTripJoin.name, AdminTripLeave.name} {
		limit, given := events[event]
		if !given {
			limit = ratelimit.Limit{Rate: ratelimit.Rate(r.Event), Name: string(LimitRateEvent)}
			limit.Burst = max(limit.Burst, o.Limits.RoomsPerSocket)
		}
		limit.Own = true
		events[event] = limit
	}
	return ratelimit.New(ratelimit.Config{
		Default: ratelimit.Limit{Rate: ratelimit.Rate(r.Event), Name: string(LimitRateEvent)},
		Events:  events,
		User:    ratelimit.Limit{Rate: ratelimit.Rate(r.User), Name: string(LimitRateUser)},
		Breach:  ratelimit.Rate(r.Breach),
		Repeat:  breachMemory,
		Burst:   connectBurst, Pause: connectPause, LongBurst: connectLong,
		Backlog: backlogRate,
	})
}

// checkOrigin reports whether the request may go on. Otherwise it has written the response:
// that of a CORS preflight, or a refusal.
func (rt *Server) checkOrigin(w http.ResponseWriter, r *http.Request) (ok bool) {
	own := origin.Host{Name: r.Host}
	if admission.ByProxy(r, rt.opts.TrustedProxies) {
		own = origin.Forwarded(r)
	}
	switch rt.origins.Check(w, r, own) { //nolint:exhaustive // Check has written the response to a preflight
	case origin.Pass:
		return true
	case origin.Refuse:
		rt.log.Warn("realtime: origin not allowed; if it should be, add it to Options.Origins.Allowed",
			"origin", strings.Join(r.Header["Origin"], ", "), "host", own.String())
		socketio.Forbidden(w, r)
		rt.requestFailed(r, FailureOrigin, http.StatusForbidden, "")
	}
	return false
}

// enforceSocketsPerUser applies Limits.SocketsPerUser when s connects. It disconnects the
// user's oldest sockets in the namespace or, with Limits.RefuseExtraSockets, returns the
// error that refuses s. s is in the room of its user already, so of several sockets that
// connect at once each counts the others. user_limit.go counts the sockets of other nodes.
func (ns *Namespace) enforceSocketsPerUser(ctx context.Context, s *Socket) error {
	limit, user := ns.rt.opts.Limits.SocketsPerUser, s.identity.UserID
	if limit < 0 || user == "" {
		return nil
	}
	if ns.rt.opts.Limits.RefuseExtraSockets && ns.rt.userLimit.refuses(ctx, s) {
		s.limited(LimitSocketsPerUser, "")
		return connectErrorBecause(CodeRateLimited, "Limits.SocketsPerUser")
	}
	own := ownRoom(ns.name, user).name
	if ns.inner.RoomLen(own) <= limit {
		return nil
	}
	sockets := ns.inner.Select(socketio.Target{Rooms: []string{own}})
	slices.SortFunc(sockets, func(a, b *socketio.Socket) int { return cmp.Compare(a.Order(), b.Order()) })
	extra := len(sockets) - limit
	switch {
	case extra <= 0:
		return nil
	case ns.rt.opts.Limits.RefuseExtraSockets && slices.Index(sockets, s.inner) < limit:
		return nil // a socket that was admitted later is refused
	}
	s.limited(LimitSocketsPerUser, "")
	if ns.rt.opts.Limits.RefuseExtraSockets {
		return connectErrorBecause(CodeRateLimited, "Limits.SocketsPerUser")
	}
	for _, old := range sockets[:extra] {
		ns.refuseOrDisconnect(old, CodeRateLimited)
	}
	return nil
}
