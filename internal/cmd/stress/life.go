// What a device does while it is connected, and how it checks what must have arrived.

package main

import (
	"context"
	"errors"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// live acts on a connection until its end.
func (a *actor) live(ctx context.Context, c *connection) {
	defer c.leave()
	how := a.fate()
	life, stop := context.WithTimeout(ctx, stresskit.Between(a.rng, 300*time.Millisecond, 8*time.Second))
	defer stop()
	for stresskit.Sleep(life, stresskit.Between(a.rng, 50*time.Millisecond, 700*time.Millisecond)) {
		if !c.healthy("its life") {
			return
		}
		c.act()
	}
	if ctx.Err() != nil {
		how = closes
		if a.rng.IntN(2) == 0 {
			how = stays
		}
	}
	switch how {
	case stays:
		a.park(c)
	case drops:
		if a.rng.IntN(2) == 0 {
			c.flush()
		}
		c.disappear()
		a.w.count.Add("drops", 1)
	case stalls:
		a.stall(ctx, c)
	case floods:
		a.flood(c)
	case revoked:
		a.revoke(c)
	case banned:
		a.ban(c)
	default:
		c.flush()
		c.Close()
		a.w.count.Add("closes", 1)
	}
}

// act does one random action.
func (c *connection) act() {
	a := c.actor
	switch n := a.rng.IntN(21); {
	case n == 20:
		c.series(20)
	case n < 4:
		c.flush()
	case n == 4:
		if err := c.ask("stress:nothing", 1); err != nil && err.Code != realtime.CodeNotFound && err.Code != realtime.CodeRateLimited {
			a.breachf("an unknown event is answered with %s", err.Code)
		}
	case n == 5:
		if err := c.ask(echo.Name(), "no number"); err != nil && err.Code != realtime.CodeInvalidPayload && err.Code != realtime.CodeRateLimited {
			a.breachf("an invalid payload is answered with %s", err.Code)
		}
	case a.namespace == realtime.NamespaceDrivers && n < 9:
		c.updateStatus()
	case a.namespace == realtime.NamespaceDrivers:
		c.ping()
	case a.namespace == realtime.NamespaceAdmin:
		c.follow()
	default:
		c.echo()
	}
}

// echo makes a round trip, and reports whether its own answer arrived.
func (c *connection) echo() bool {
	c.asked++
	ctx, cancel := context.WithTimeout(context.Background(), c.actor.w.patience())
	defer cancel()
	got, err := realtimetest.Call(ctx, c.Within(c.actor.w.patience()), echo, c.asked)
	c.actor.w.count.Add("acks", 1)
	var refusal *realtime.Error
	switch {
	case errors.As(err, &refusal) && refusal.Code == realtime.CodeRateLimited && c.actor.floods:
		c.actor.w.count.Add("rate-limited", 1)
	case err != nil:
		if c.healthy("a round trip") {
			c.actor.breachf("a round trip failed: %v", err)
		}
		return false
	case got != c.asked:
		c.actor.breachf("an ack answers another call")
	}
	return true
}

// flush waits until all events that were published before have arrived: they have been
// handled, and the answer to a call comes after them.
func (c *connection) flush() bool {
	now, numbers := time.Now(), c.numbers
	if !c.actor.w.settle() || !c.echo() {
		return false
	}
	c.says.sure, c.says.updates, c.says.series = now, c.statuses, numbers
	return true
}

// series sends the client numbers, from a node that may be the other one.
func (c *connection) series(n int) {
	from := c.actor.w.nodes[0] // always the same: two nodes have no order
	for range n {
		c.numbers++
		if err := series.Emit(c.room(from), seriesPayload{c.says.sid, c.says.epoch, c.numbers}); err != nil {
			c.actor.breachf("emitting: %v", err)
		}
	}
	c.actor.w.count.Add("series", 1)
}

// updateStatus makes a driver go online or offline.
func (c *connection) updateStatus() {
	online := c.actor.rng.IntN(2) == 0
	if c.ask(realtime.DriverStatusUpdate.Name(), realtime.StatusUpdate{IsOnline: &online}) == nil && c.Connected() {
		c.statuses++
		c.actor.w.count.Add("status updates", 1)
	}
}

// ping sends a driver's position. Its speed is the number of the connection: positions
// of two connections of a driver have no order.
func (c *connection) ping() {
	if time.Since(c.pinged) < 600*time.Millisecond {
		return // more would be too much
	}
	c.pinged = time.Now()
	epoch := float64(c.says.epoch)
	if c.ask(realtime.DriverLocationPing.Name(), realtime.LocationPing{
		Position:              &realtime.Position{Lat: 90 * c.actor.rng.Float64(), Lng: 180 * c.actor.rng.Float64()},
		LastLocationTimestamp: realtime.Time{Time: c.pinged}, Speed: &epoch,
	}) == nil {
		c.actor.w.count.Add("positions", 1)
	}
}

// follow makes an admin join or leave a trip's room.
func (c *connection) follow() {
	call, trip := "admin:trip:join", c.actor.w.running.pick(c.actor.rng)
	if trip == "" {
		return
	}
	if c.actor.rng.IntN(3) == 0 {
		call = "admin:trip:leave"
	} else {
		c.says.joined[trip] = true
	}
	err := c.ask(call, map[string]string{"tripId": trip})
	if err != nil && (err.Code != realtime.CodeNotFound || c.actor.w.running.has(trip)) { // it may be over
		c.actor.breachf("%s is answered with %s", call, err.Code)
	}
}

// waitDisconnected waits until the server has disconnected the client.
func (c *connection) waitDisconnected() bool {
	ctx, cancel := c.actor.w.allowed(patience)
	defer cancel()
	_, err := c.Within(10*patience).NextRaw(ctx, "stress:never")
	return errors.Is(err, realtime.ErrClosed)
}

// ended checks that the server has disconnected the client, with the right reason.
func (c *connection) ended(why, want string) {
	switch over := c.waitDisconnected(); {
	case c.actor.w.oracle.isDraining():
	case !over:
		c.actor.breachf("still connected after %v: %s", patience, why)
	case c.Reason() != want && !c.cutOff():
		c.actor.breachf("%s: ended by %q, not %q", why, c.Reason(), want)
	}
	c.Close()
}

// disappear ends the connection as a lost network does, or makes the network silent, so that the server
// does not notice it at once.
func (c *connection) disappear() {
	if c.actor.returns && c.actor.rng.IntN(3) == 0 {
		c.Stall()
		c.lose()
		c.actor.w.count.Add("drops: the network was silent", 1)
	} else {
		c.vanish()
		c.lose()
	}
}

// leave closes what is left of the connection, unless its network is silent: then its device forgets it
// later.
func (c *connection) leave() {
	if c.claim == nil {
		c.Close()
	}
}

// vanish ends the connection as a lost network does.
func (c *connection) vanish() {
	if c.Transport() == "polling" {
		c.actor.w.vanished()
	}
	c.Drop()
}

// leftOpen is how long a server leaves a connection open for a client to close it, to which
// it has said why it should.
const leftOpen = time.Second

// cutOff reports whether the connection broke because the machine was busy.
func (c *connection) cutOff() bool {
	began := time.Now().Add(-patience)
	return mayBeCutOff(c.Reason(), c.actor.w.lag.since(began)) && c.actor.w.busy(began)
}

// mayBeCutOff reports whether a connection may have broken, for that reason, because the
// machine lagged: the client wrote to a connection that the server had closed before it
// read the last of what that said, which for a websocket is a close; or heartbeats failed,
// for which the machine must have been too busy for anything.
func mayBeCutOff(reason string, lag time.Duration) bool {
	switch reason {
	case realtimetest.ReasonTransportError:
		return lag >= busyLag
	case realtimetest.ReasonTransportClose:
		return lag > leftOpen
	}
	return lag > tooBusy
}

// hasReceived reports whether an event has arrived.
func (c *connection) hasReceived(event string) bool {
	for _, r := range c.Received() {
		if r.Event == event {
			return true
		}
	}
	return false
}
