//go:build unix

// Devices that have lost their connection and want it back, as stock clients of Socket.IO 4.6 and later
// do: they come back with their pid and the offset of the newest event that they have received.

package main

import (
	"context"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// recoveryOptions are those of the nodes.
func recoveryOptions(on bool) realtime.Recovery {
	if !on {
		return realtime.Recovery{}
	}
	return realtime.Recovery{Enabled: true, Window: time.Minute, Bytes: 8 << 20}
}

// past is a connection that its device has lost. Only the actor's goroutine uses it.
type past struct {
	*connection
	claim comeback.Claim
	raced bool // two devices have claimed it
}

// lose records that the device has lost the connection, and takes no notice of what still arrives.
func (a *actor) lose(c *connection) {
	switch c.Reason() {
	case realtimetest.ReasonServer, realtimetest.ReasonClient:
		return
	}
	if claim, ok := comeback.Of(c.Client); ok && a.returns {
		a.past = &past{connection: c, claim: claim}
		a.w.oracle.lost(c, claim)
	}
}

// forget ends what is left of the connection that the device has lost.
func (a *actor) forget() {
	if p := a.past; p != nil {
		a.past = nil
		p.Drop()
	}
}

// node returns the node to which the device connects, or nil: half of the time its former one.
func (a *actor) node() *life {
	if p := a.past; p != nil && a.rng.IntN(2) == 0 && p.life.place.current() == p.life {
		return p.life
	}
	return a.w.ready(a.rng)
}

// auth returns the CONNECT payload.
func (a *actor) auth() realtimetest.Option {
	if p := a.past; p != nil {
		return realtimetest.Auth(p.claim.Auth(token(a.user, a.sid)))
	}
	return realtimetest.Token(token(a.user, a.sid))
}

// away is what happens while the device is away.
func (a *actor) away(ctx context.Context) {
	p := a.past
	if p == nil || ctx.Err() != nil {
		return
	}
	switch n := a.rng.IntN(24); {
	case n == 0:
		p.Drop()
		a.revoke(ctx, p.connection)
		a.past = nil
		a.w.count.Add("pids that were claimed without access", 1)
	case n == 1 && a.alone && a.typ != realtime.UserAdmin:
		p.Drop()
		a.ban(ctx, p.connection)
		a.past = nil
		a.w.count.Add("pids that were claimed without access", 1)
	case n < 4:
		a.strangerClaims(ctx)
	}
}

// beside returns a device with the claim of this one, and randomness of its own.
func (a *actor) beside() *actor {
	b := *a
	b.rng = rand.New(rand.NewPCG(a.rng.Uint64(), a.rng.Uint64()))
	return &b
}

// strangerClaims makes another user claim the connection. The judge finds it if they get it.
func (a *actor) strangerClaims(ctx context.Context) {
	b := a.beside()
	b.user, b.stranger = "z"+a.user, true
	b.w.rows.setUser(realtime.User{ID: b.user, Type: b.typ, Active: true})
	b.login()
	if c, err := b.dial(ctx); err == nil {
		stresskit.Sleep(ctx, stresskit.Between(b.rng, 0, time.Second))
		c.Close()
		a.w.count.Add("pids that a stranger claimed", 1)
	}
}

// rival makes a second device, which has copied the pid, claim the connection at the same time. The
// function that it returns judges who got it.
func (a *actor) rival(ctx context.Context) (judge func(first *connection)) {
	if a.past == nil || a.rng.IntN(12) > 0 {
		return func(*connection) {}
	}
	a.past.raced = true
	began, b, second := time.Now(), a.beside(), make(chan *connection, 1)
	a.epoch++
	go func() {
		c, err := b.dial(ctx)
		if err != nil {
			c = nil // it is the first one that must succeed
		}
		second <- c
	}()
	return func(first *connection) {
		if c := <-second; c != nil {
			// A client that does not answer within a second gives way to the other one.
			if a.w.lag.since(began) < slack && !a.w.oracle.stopped(c.life, began) {
				a.w.oracle.requireOneWinner(c, first, began)
			}
			a.w.count.Add("pids that two devices claimed", 1)
			c.Close()
		}
	}
}

// comesBack records that a connection, which has got hello, was made with a claim.
func (a *actor) comesBack(c *connection) {
	p := a.past
	if p == nil || a.stranger {
		return
	}
	hello, _, ok := comeback.Greeting(c.Received())
	if !ok {
		return
	}
	if !p.raced {
		comeback.Count(a.w.count, a.w.oracle.cameBack(p.connection, c), hello)
	}
	c.recovered = comeback.Recovered(hello)
	a.w.oracle.claimed(c, p.connection)
	if c.recovered && (c.ID() != p.claim.ID || c.PID() != p.claim.PID) {
		a.w.oracle.breachf("%s in %s on %s: has recovered, but has another id or pid", a.user, a.namespace, c.life.name)
	}
}
