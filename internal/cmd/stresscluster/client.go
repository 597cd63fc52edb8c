//go:build unix

// Clients: each is one device of one user. It connects to a random node, acts for a while, and
// connects again when its node fails.

package main

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// dialTime is how long a client waits for a node before it tries another one.
	dialTime = 4 * time.Second
	// ackTime is how long a node may take for an acknowledgment.
	ackTime = 5 * time.Second
)

// actor is one device of a user. Only its own goroutine uses it.
type actor struct {
	w         *world
	rng       *rand.Rand
	namespace string
	user      string
	typ       realtime.UserType
	alone     bool  // the user has no other device
	returns   bool  // the device claims a connection that it has lost
	stranger  bool  // it claims that of somebody else
	past      *past // that connection, or nil

	sid    string
	logins int
	epoch  int
}

// newActors returns the devices of a run.
func (w *world) newActors(clients int) []*actor {
	var actors []*actor
	device := func(namespace, user string, typ realtime.UserType) *actor {
		a := &actor{
			w: w, rng: w.rng(actorStream, len(actors)), namespace: namespace, user: user, typ: typ,
			returns: w.config.recovery && len(actors)%5 < 4, alone: true, logins: 100_000 * len(actors), epoch: 100_000 * len(actors), // no two devices have the same
		}
		w.rows.setUser(realtime.User{ID: user, Type: typ, Active: true})
		actors = append(actors, a)
		return a
	}
	for i := range 2 * nodes {
		device(realtime.NamespaceAdmin, fmt.Sprint("a", i), realtime.UserAdmin)
	}
	for i := 0; len(actors) < clients; i++ {
		namespace, user, typ, free := realtime.NamespacePassengers, fmt.Sprint("p", i/2), realtime.UserPassenger, &w.passengers
		if i%2 == 1 {
			namespace, user, typ, free = realtime.NamespaceDrivers, fmt.Sprint("d", i/2), realtime.UserDriver, &w.drivers
		}
		free.Give(user)
		a := device(namespace, user, typ)
		if i/2%5 == 3 && len(actors) < clients {
			a.alone = false
			device(namespace, user, typ).alone = false
		}
	}
	return actors
}

// run connects again and again until ctx ends.
func (a *actor) run(ctx context.Context) {
	a.login()
	defer a.forget()
	for wait := stresskit.Between(a.rng, 0, time.Second); stresskit.Sleep(ctx, wait); {
		c := a.connect(ctx)
		if c == nil {
			wait = stresskit.Between(a.rng, 50*time.Millisecond, 300*time.Millisecond)
			continue
		}
		a.live(ctx, c)
		a.away(ctx)
		wait = stresskit.Between(a.rng, 0, 1500*time.Millisecond)
		if a.rng.IntN(12) == 0 {
			wait = stresskit.Between(a.rng, 10*time.Second, 60*time.Second)
		}
	}
}

// login opens a login session.
func (a *actor) login() {
	a.logins++
	a.sid = fmt.Sprintf("%s/%d", a.user, a.logins)
	a.w.rows.setSession(realtime.Session{ID: a.sid, UserID: a.user})
}

// connect connects to a random node, or returns nil. To be refused is a breach.
func (a *actor) connect(ctx context.Context) *connection {
	began, rivals := time.Now(), a.rival(ctx)
	c, err := a.dial(ctx)
	rivals(c)
	var refusal *realtimetest.ConnectError
	switch {
	case err == nil:
		a.forget()
		return c
	case errors.As(err, &refusal) && refusal.Code == realtime.CodeInvalidSession && a.w.oracle.banArrives(a.user, began):
		a.w.count.Add("logins refused by a ban that came late", 1)
	case errors.As(err, &refusal):
		a.w.oracle.breachf("%s in %s was refused with %s", a.user, a.namespace, refusal.Code)
	case ctx.Err() == nil:
		a.w.count.Add("logins that failed", 1)
		if calm := a.w.oracle.calmSince(); !calm.IsZero() && began.After(calm.Add(healing)) {
			a.w.oracle.breachf("%s in %s can't connect, though nothing is in trouble: %v", a.user, a.namespace, err)
		}
	}
	return nil
}

// dial connects once.
func (a *actor) dial(ctx context.Context) (*connection, error) {
	l := a.node()
	if l == nil {
		return nil, errors.New("no node is ready")
	}
	began := time.Now()
	opts := []realtimetest.Option{a.auth()}
	if a.returns {
		opts = append(opts, comeback.KnowsOffsets())
	}
	switch k := a.rng.IntN(10); {
	case k == 0:
		opts = append(opts, realtimetest.Polling())
	case k < 4:
		opts = append(opts, realtimetest.Upgrade())
	}
	ctx, cancel := a.within(ctx, dialTime)
	defer cancel()
	client, err := realtimetest.Dial(ctx, l.url, a.namespace, opts...)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", l.name, err)
	}
	a.epoch++
	c := &connection{Client: client, life: l, namespace: a.namespace, user: a.user, sid: a.sid, epoch: a.epoch, joined: map[string]bool{}}
	hello, err := client.Within(a.patience(began)).NextRaw(context.Background(), realtime.EventHello.Name())
	if err != nil {
		client.Drop()
		return nil, fmt.Errorf("no hello: %w", err)
	}
	c.hello = hello.At
	a.comesBack(c)
	a.w.oracle.connected(c)
	a.w.count.Add("connects", 1)
	a.w.count.Most("slowest login, ms", int(time.Since(began).Milliseconds()))
	a.w.running.Go(func() {
		_, _ = client.Within(24*time.Hour).NextRaw(context.Background(), "stress:never") // it returns when the client is disconnected
		a.w.oracle.ended(c, time.Now())
		if client.Reason() != realtimetest.ReasonClient {
			a.w.count.Add("disconnects: "+client.Reason(), 1)
		}
	})
	return c, nil
}

// live acts on a connection until its end.
func (a *actor) live(ctx context.Context, c *connection) {
	defer func() {
		if a.past == nil {
			c.Drop() // whatever is left of it
		}
	}()
	life, stop := context.WithTimeout(ctx, stresskit.Between(a.rng, time.Second, 45*time.Second))
	defer stop()
	for stresskit.Sleep(life, stresskit.Between(a.rng, 100*time.Millisecond, 1200*time.Millisecond)) {
		if !c.Connected() {
			a.lose(c)
			return
		}
		a.act(c)
	}
	if ctx.Err() != nil {
		c.Close()
		return
	}
	switch n := a.rng.IntN(100); {
	case n < 25 || n >= 60 && a.returns:
		if n%3 == 0 {
			c.Stall() // the network carries nothing, which the server does not notice at once
		} else {
			c.Drop()
		}
		a.lose(c)
		a.w.count.Add("drops", 1)
	case n < 45:
		a.revoke(ctx, c)
	case n < 50 && a.alone && a.typ != realtime.UserAdmin:
		a.ban(ctx, c)
	default:
		a.w.count.Add("closes", 1)
		c.Close()
	}
}

// act does one random action.
func (a *actor) act(c *connection) {
	began := time.Now()
	var err error
	switch {
	case a.typ == realtime.UserDriver && a.rng.IntN(2) == 0:
		epoch := float64(c.epoch)
		_, err = realtimetest.Call(context.Background(), c.Within(a.patience(began)), realtime.DriverLocationPing, realtime.LocationPing{
			Position:              &realtime.Position{Lat: 90 * a.rng.Float64(), Lng: 180 * a.rng.Float64()},
			LastLocationTimestamp: realtime.Time{Time: began}, Speed: &epoch,
		})
		a.w.count.Add("positions", 1)
	case a.typ == realtime.UserAdmin && a.rng.IntN(3) == 0:
		trip := a.w.trips.pick(a.rng)
		if trip == "" {
			return
		}
		a.w.oracle.join(c, trip)
		_, err = realtimetest.Call(context.Background(), c.Within(a.patience(began)), realtime.AdminTripJoin, realtime.TripRef{TripID: trip})
		if refused := (*realtime.Error)(nil); errors.As(err, &refused) && refused.Code == realtime.CodeNotFound && !a.w.trips.runs(trip) {
			err = nil // it has ended meanwhile
		}
	default:
		var got int
		want := a.rng.IntN(1000)
		got, err = realtimetest.Call(context.Background(), c.Within(a.patience(began)), echo, want)
		if err == nil && got != want {
			a.w.oracle.breachf("%s in %s on %s: an acknowledgment answers another call", a.user, a.namespace, c.life.name)
		}
	}
	if errors.Is(err, realtime.ErrAckTimeout) {
		a.w.oracle.giveUp(c)
	}
	if err != nil && c.Connected() && !a.w.oracle.stopped(c.life, began) {
		a.w.oracle.breachf("%s in %s on %s: a call fails: %v", a.user, a.namespace, c.life.name, err)
	}
	a.w.count.Add("calls", 1)
}

// within returns a context that ends after d, and later if the machine lags meanwhile.
func (a *actor) within(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(ctx)
	began := time.Now()
	time.AfterFunc(d, func() { time.AfterFunc(a.w.lag.since(began), cancel) })
	return ctx, cancel
}

func (a *actor) patience(began time.Time) time.Duration {
	return ackTime + a.w.lag.since(began.Add(-ackTime))
}

// revoke revokes the client's session. The client must be disconnected, and may not connect
// again.
func (a *actor) revoke(ctx context.Context, c *connection) {
	a.w.rows.setSession(realtime.Session{ID: a.sid, UserID: a.user, Revoked: true})
	a.endAccess(ctx, c, realtime.SessionRevoked{SessionID: a.sid, UserID: a.user, Reason: "stress"}, realtime.CodeInvalidSession)
	a.w.count.Add("revocations", 1)
	a.login()
}

// ban bans the client's user, who is admitted again later.
func (a *actor) ban(ctx context.Context, c *connection) {
	a.w.rows.setUser(realtime.User{ID: a.user, Type: a.typ})
	a.endAccess(ctx, c, realtime.UserAccessChanged{UserID: a.user, Change: realtime.AccessBanned}, realtime.CodeUserInactive)
	a.w.count.Add("bans", 1)
	a.w.rows.setUser(realtime.User{ID: a.user, Type: a.typ, Active: true})
	time.Sleep(1500 * time.Millisecond) // rows that were read before are forgotten
	a.login()
}

// endAccess publishes an event that ends the access of the client's session, and waits until
// the client is disconnected.
func (a *actor) endAccess(ctx context.Context, c *connection, e realtime.DomainEvent, want realtime.Code) {
	if !a.w.publish(ctx, a.rng, "", e) {
		return
	}
	a.w.oracle.revoke(a.sid)
	if want == realtime.CodeUserInactive {
		a.w.oracle.ban(a.user)
	}
	if !a.awaitEnd(ctx, c) {
		return
	}
	late, err := a.dial(ctx)
	var refusal *realtimetest.ConnectError
	switch {
	case err == nil:
		a.w.count.Add("logins with a revoked session that were accepted at first", 1)
		a.awaitEnd(ctx, late) // the judge finds it if that takes too long
		late.Drop()
	case errors.As(err, &refusal) && refusal.Code != want && refusal.Code != realtime.CodeInvalidSession: // revoked during the handshake
		a.w.oracle.breachf("%s in %s was refused with %s instead of %s", a.user, a.namespace, refusal.Code, want)
	}
}

// awaitEnd waits until a client of a revoked session is disconnected, and reports whether it
// was in time. The judge records the breach if it was not.
func (a *actor) awaitEnd(ctx context.Context, c *connection) bool {
	for c.Connected() {
		if by, ok := a.w.oracle.deadline(a.sid); ok && time.Since(by) > 2*settling+a.w.lag.since(by) {
			return false
		}
		if !stresskit.Sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
	return true
}
