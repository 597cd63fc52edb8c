// How the server or the network ends connections.

package main

import (
	"context"
	"errors"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// bulkSize is how much is sent at once to a client that does not read.
	bulkSize = 16 << 10
	// bulkMost is how often, while the server has the client: twice what its outbox
	// and all buffers hold.
	bulkMost = 100
	// stallLimit is how long such a client may stay connected: until its heartbeat
	// fails, at the latest.
	stallLimit = 25 * time.Second
)

// park waits for the shutdown; the client must receive server:drain first.
func (a *actor) park(c *connection) {
	flushed := c.flush()
	a.settled()
	if !c.waitDisconnected() {
		a.breachf("still connected after the shutdown")
		return
	}
	a.w.count.Add("drained", 1)
	if flushed && (!c.hasReceived(realtime.EventServerDrain.Name()) || !c.closedToComeBack() && !c.cutOff()) {
		a.breachf("shut down by %q, server:drain received: %v", c.Reason(), c.hasReceived(realtime.EventServerDrain.Name()))
	}
}

// closedToComeBack reports whether the connection ended so that a stock client comes back: over
// polling by a refused request.
func (c *connection) closedToComeBack() bool {
	reason := c.Reason()
	return reason == realtimetest.ReasonTransportClose || reason == realtimetest.ReasonTransportError && c.Transport() == "polling"
}

// revoke revokes the client's session. The client must receive an event and be
// disconnected; pending and later handshakes must be refused.
func (a *actor) revoke(c *connection) {
	if !c.flush() {
		return
	}
	racer := make(chan *connection, 1)
	if a.rng.IntN(2) == 0 {
		b := *a // with randomness of its own, since it runs beside
		b.rng = a.w.rng(racerStream, a.rng.IntN(1<<30))
		go func() { racer <- b.race() }()
		time.Sleep(stresskit.Between(a.rng, 0, 15*time.Millisecond))
	} else {
		racer <- nil
	}
	a.w.sessions.Revoke(a.sid)
	a.barWhenHandled(realtime.SessionRevoked{SessionID: a.sid, UserID: a.user, Reason: "stress"})
	c.endedByRevocation()
	if r := <-racer; r != nil {
		r.requireInNoRoom()
		r.ended("its session ended while it connected", realtimetest.ReasonServer)
		a.w.oracle.judge(r.transcript())
	}
	late, _, how, err := a.dial(context.Background(), a.token)
	a.refused(late, how, err, realtime.CodeInvalidSession)
	a.w.count.Add("revocations", 1)
	a.login()
}

// race connects while the session is revoked: the server must refuse or disconnect the
// client.
func (a *actor) race() *connection {
	client, n, how, err := a.dial(context.Background(), a.token)
	switch {
	case err == nil:
		return a.connection(client, n)
	case errors.Is(err, realtime.ErrClosed): // before CONNECT_ERROR was sent
	default:
		a.refused(client, how, err, realtime.CodeInvalidSession)
	}
	return nil
}

// ban bans the client's user, who is admitted again later.
func (a *actor) ban(c *connection) {
	if !c.flush() {
		return
	}
	user := realtime.User{ID: a.user, Type: a.typ}
	a.w.users.Set(user)
	a.barWhenHandled(realtime.UserAccessChanged{UserID: a.user, Change: realtime.AccessBanned})
	c.endedByRevocation()
	late, _, how, err := a.dial(context.Background(), a.token)
	a.refused(late, how, err, realtime.CodeUserInactive)
	user.Active = true
	a.w.users.Set(user)
	time.Sleep(1500 * time.Millisecond) // what was looked up in the meantime is over
	a.w.count.Add("bans", 1)
	a.login()
}

func (a *actor) barWhenHandled(e realtime.DomainEvent) {
	if a.w.publish("", e) && a.w.settle() {
		a.w.oracle.bar(a.sid)
	}
}

func (c *connection) endedByRevocation() {
	c.requireInNoRoom()
	c.ended("its session ended", realtimetest.ReasonServer)
	if !c.hasReceived(realtime.EventSessionRevoked.Name()) && !c.actor.w.oracle.isDraining() && !c.cutOff() {
		c.actor.breachf("disconnected without auth:session_revoked")
	}
}

// requireInNoRoom checks that the client is no longer in its rooms.
func (c *connection) requireInNoRoom() {
	if c.isIn(context.Background(), c.room(c.node).Local()) && !c.actor.w.oracle.isDraining() {
		c.actor.breachf("its session ended and that was handled, but it is still in its rooms")
	}
}

// flood sends far more events than the rates allow. The server must refuse some,
// acknowledge all, and may disconnect the client.
func (a *actor) flood(c *connection) {
	if !c.flush() {
		return
	}
	began := time.Now()
	n := 60 + a.rng.IntN(200)
	var mu sync.Mutex
	passed, limited, cut, other := 0, 0, 0, 0
	var flooding sync.WaitGroup
	for i := range n {
		flooding.Go(func() {
			_, err := realtimetest.Call(context.Background(), c.Within(c.actor.w.patience()), echo, i)
			var refusal *realtime.Error
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				passed++
			case errors.As(err, &refusal) && refusal.Code == realtime.CodeRateLimited:
				limited++
			case errors.Is(err, realtime.ErrClosed):
				cut++
			default:
				other++
			}
		})
	}
	flooding.Wait()
	a.w.count.Add("floods", 1)
	a.w.count.Add("acks", passed+limited)
	a.w.count.Add("rate-limited", limited)
	if a.w.oracle.isDraining() {
		return
	}
	if other > 0 {
		a.breachf("%d of %d events of a flood are not acknowledged", other, n)
	}
	// 20 at once and 10 a second.
	if most := 21 + int(10*time.Since(began).Seconds()); passed > most || limited == 0 && cut == 0 {
		a.breachf("of a flood of %d events %d passed, %d were refused", n, passed, limited)
	}
	ended := c.Reason() == realtimetest.ReasonServer || c.Reason() == realtimetest.ReasonTransportClose || c.Reason() == realtimetest.ReasonTransportError
	if !c.Connected() && !ended || c.Connected() && cut > 0 {
		a.breachf("a flood ended by %q with %d events unanswered", c.Reason(), cut)
	}
	if !c.Connected() {
		a.w.count.Add("disconnected for abuse", 1)
		return
	}
	time.Sleep(300 * time.Millisecond)
}

// stall stops reading, with or without much to read. The server must disconnect the
// client.
func (a *actor) stall(ctx context.Context, c *connection) {
	if !c.flush() {
		return
	}
	c.Stall()
	defer c.lose()
	defer c.vanish()
	a.w.count.Add("stalls", 1)
	filled := a.rng.IntN(3) > 0
	room := c.room(c.node).Local()
	began, sent := time.Now(), 0
	for c.isIn(ctx, room) {
		if time.Since(began) > stallLimit {
			a.breachf("it stopped reading %v ago on %s, but is still connected", stallLimit, c.Transport())
			break
		}
		if sent > bulkMost {
			a.breachf("the server holds %d KiB for it on %s", sent*bulkSize>>10, c.Transport())
			break
		}
		if filled {
			sent++
			if err := bulk.Emit(room, bulkPayload{a.user, strings.Repeat("x", bulkSize)}); err != nil {
				a.breachf("emitting: %v", err)
			}
		}
		if !stresskit.Sleep(ctx, 20*time.Millisecond) {
			break
		}
	}
}

// room selects the sockets of the client's session, as seen from a node.
func (c *connection) room(from *node) realtime.Broadcast {
	ns := from.rt.Passengers()
	switch c.actor.namespace {
	case realtime.NamespaceDrivers:
		ns = from.rt.Drivers()
	case realtime.NamespaceAdmin:
		ns = from.rt.Admin()
	}
	return ns.To(realtime.SessionRoom(c.says.sid))
}

// isIn reports whether the server has a socket of the client in the room.
func (c *connection) isIn(ctx context.Context, room realtime.Broadcast) bool {
	sockets, err := room.Sockets(ctx)
	if err != nil && ctx.Err() == nil {
		c.actor.breachf("looking for its socket: %v", err)
	}
	for _, s := range sockets {
		if s.ID == c.ID() {
			return true
		}
	}
	return false
}
