// Actors: each is one device of one user. It connects in one of several ways, acts for a
// while, and ends in one of several ways. Then what it received is judged.

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// patience is how long a device waits for something that must happen. It is long because
// the machine may be busy: the program finds what never happens, not what is slow.
const patience = 12 * time.Second

// actor is one device of a user. Only its own goroutine uses it.
type actor struct {
	w         *world
	rng       *rand.Rand
	namespace string
	user      string
	typ       realtime.UserType
	address   string
	alone     bool  // the user has no other device
	floods    bool  // the device may send too much
	returns   bool  // the device claims a connection that it has lost
	past      *past // that connection, or nil

	sid, token string
	logins     int
	epoch      int // numbers its connections
	arrived    bool
	settled    func() // called when the actor ends or waits for the shutdown
}

// fate says how a connection ends.
type fate int

const (
	closes  fate = iota // the client closes
	drops               // the network drops the connection
	stalls              // the client stops reading
	floods              // the client sends too much
	revoked             // the session is revoked
	banned              // the user is banned
	stays               // the servers shut down
)

// connection is a client, and what its device has sent. Only the actor's goroutine uses
// it.
type connection struct {
	*realtimetest.Client
	actor  *actor
	node   *node
	says   transcript
	asked  int
	pinged time.Time

	statuses int // acknowledged status updates
	numbers  int // sent in series so far

	claim     *comeback.Claim // once the device has lost it
	recovered bool            // it is the former one
}

// run connects again and again until ctx ends.
func (a *actor) run(ctx context.Context) {
	defer a.settled()
	defer a.forget()
	a.login()
	for stresskit.Sleep(ctx, stresskit.Between(a.rng, 0, 1500*time.Millisecond)) {
		if a.rng.IntN(25) == 0 {
			a.connectWithInvalidToken()
		}
		if c := a.connect(ctx); c != nil {
			a.live(ctx, c)
			t := c.transcript()
			j := a.w.oracle.judge(t)
			a.remember(c, j)
			a.w.count.Add("positions that came again with what was missed", j.again)
			a.w.count.Add("deliveries checked", len(t.received))
			a.away(ctx)
		}
	}
}

func (a *actor) login() {
	if a.token != "" {
		a.w.tokens.Delete(a.token)
	}
	a.logins++
	a.sid, a.token = a.w.login(a.user, a.logins)
}

// fate chooses how the next connection ends.
func (a *actor) fate() fate {
	switch n := a.rng.IntN(100); {
	case n < 40 && a.returns:
		return drops
	case n < 40:
		return closes
	case n < 60:
		return drops
	case n < 75:
		return revoked
	case n < 80 && a.alone:
		return stalls
	case n < 84 && a.alone:
		return banned
	case n < 92 && a.floods:
		return floods
	}
	return closes
}

// dial connects to a random node by a random transport. While strangers take all places,
// services hang or the machine is busy, it tries again, as stock clients do, for as long as an
// honest client may need.
func (a *actor) dial(ctx context.Context, token string) (c *realtimetest.Client, n *node, how string, err error) {
	began := time.Now()
	ctx, cancel := context.WithTimeout(ctx, a.w.patience())
	defer cancel()
	n, auth := a.claims(a.w.nodes[a.rng.IntN(len(a.w.nodes))], token)
	opts := []realtimetest.Option{auth, realtimetest.Over(dialNarrow), from(a.address)}
	if a.returns {
		opts = append(opts, comeback.KnowsOffsets())
	}
	how = "websocket"
	switch k := a.rng.IntN(100); {
	case k < 15:
		how, opts = "polling", append(opts, realtimetest.Polling())
	case k < 35:
		how, opts = "polling, then websocket", append(opts, realtimetest.Polling())
	case k < 50:
		how, opts = "upgrade at once", append(opts, realtimetest.Upgrade())
	}
	for {
		c, err = realtimetest.Dial(ctx, n.url, a.namespace, opts...)
		var refusal *realtimetest.ConnectError
		if err == nil || errors.As(err, &refusal) || a.w.oracle.isDraining() || len(a.w.config.troubles) == 0 && !a.w.busy(began) ||
			time.Since(began) > excused(a.w.bound(loginWithin), a.w.lag.since(began)) {
			return c, n, how, err
		}
		a.w.count.Add("logins tried again", 1)
		time.Sleep(loginAgain)
	}
}

// connect connects; a failure is a breach.
func (a *actor) connect(ctx context.Context) *connection {
	began, p := time.Now(), a.past
	rivals := a.rival(p)
	client, n, how, err := a.dial(context.Background(), a.token)
	if err != nil {
		var refusal *realtimetest.ConnectError
		if !a.w.oracle.isDraining() && (errors.As(err, &refusal) || !a.w.has(hang) && !a.w.has(strangers) || !a.w.busy(began)) {
			a.breachf("can't connect by %s: %v", how, err)
		}
		rivals(nil)
		return nil
	}
	a.epoch++
	c := a.connection(client, n)
	if _, err := client.Within(a.w.patience()).NextRaw(context.Background(), realtime.EventHello.Name()); err != nil && !a.w.oracle.isDraining() {
		if p != nil && a.w.busy(began) { // too slow for what it has missed; it comes back as if it had received nothing of it
			client.Close()
			rivals(nil)
			return nil
		}
		a.breachf("no hello: %v", err)
	}
	if p != nil {
		c.comesBack(p)
		a.forget()
	}
	rivals(c)
	a.w.count.Add("connects", 1)
	a.w.count.Add("connects: "+how, 1)
	if a.arrived {
		a.w.count.Add("reconnects", 1)
	}
	a.arrived = true
	if how == "polling, then websocket" && stresskit.Sleep(ctx, stresskit.Between(a.rng, 0, 300*time.Millisecond)) {
		c.upgrade()
	}
	return c
}

func (a *actor) connection(client *realtimetest.Client, n *node) *connection {
	return &connection{
		Client: client, actor: a, node: n,
		says: transcript{namespace: a.namespace, user: a.user, sid: a.sid, epoch: a.epoch, joined: map[string]bool{}},
	}
}

// upgrade upgrades to a websocket while the server emits a series of events.
func (c *connection) upgrade() {
	var sending sync.WaitGroup
	sending.Go(func() { c.series(40) })
	defer sending.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), c.actor.w.patience())
	defer cancel()
	if err := c.Upgrade(ctx); err != nil {
		if c.healthy("upgrade") && c.actor.w.lag.since(time.Now().Add(-2*patience)) <= tooBusy {
			c.actor.breachf("the upgrade failed: %v", err)
		}
		return
	}
	c.actor.w.count.Add("upgrades while connected", 1)
}

// transcript returns what the connection received.
func (c *connection) transcript() transcript {
	c.says.received, c.says.strays = c.Received(), c.Strays()
	if c.claim != nil {
		c.says.received = c.claim.Received
	}
	return c.says
}

// breachf records a breach. err contains neither a token nor a position: the client's
// errors quote acks, and acks of positions have no data.
func (a *actor) breachf(format string, args ...any) {
	a.w.oracle.breachf("%s in %s: %s", a.user, a.namespace, fmt.Sprintf(format, args...))
}

// healthy reports whether the client is connected. If it is not, that is a breach, unless the servers
// are shutting down, or the machine was too busy: an admin who polls then can't keep up.
func (c *connection) healthy(during string) bool {
	if c.Connected() {
		return true
	}
	if w := c.actor.w; !w.oracle.isDraining() && w.lag.since(time.Now().Add(-2*patience)) <= tooBusy && !c.cutOff() {
		c.actor.breachf("disconnected without a cause during %s on %s: %s", during, c.Transport(), c.Reason())
	}
	return false
}

// connectWithInvalidToken tries to connect with an invalid token.
func (a *actor) connectWithInvalidToken() {
	c, _, how, err := a.dial(context.Background(), "forged")
	a.refused(c, how, err, realtime.CodeInvalidToken)
}

// refused checks that a handshake was refused with the right code.
func (a *actor) refused(c *realtimetest.Client, how string, err error, want realtime.Code) {
	var refusal *realtimetest.ConnectError
	switch {
	case err == nil:
		a.breachf("connected by %s, but should have been refused with %s", how, want)
		c.Close()
	case a.w.oracle.isDraining():
	case !errors.As(err, &refusal) && (a.w.has(hang) || a.w.has(strangers)) && a.w.busy(time.Now().Add(-loginWithin)):
	case !errors.As(err, &refusal):
		a.breachf("should have been refused with %s over %s: %v", want, how, err)
	case refusal.Code != want:
		a.breachf("was refused with %s over %s instead of %s", refusal.Code, how, want)
	default:
		a.w.count.Add("refused", 1)
	}
}

// ask calls the server, and checks that it acknowledges the call.
func (c *connection) ask(call string, body any) *realtime.Error {
	ctx, cancel := context.WithTimeout(context.Background(), c.actor.w.patience())
	defer cancel()
	_, err := request(ctx, c.Within(c.actor.w.patience()), call, body)
	var refusal *realtime.Error
	if err != nil && !errors.As(err, &refusal) && c.healthy(call) {
		c.actor.breachf("%s is not acknowledged: %v", call, err)
	}
	if refusal != nil && refusal.Code == realtime.CodeRateLimited {
		c.actor.w.count.Add("rate-limited", 1)
		if !c.actor.floods {
			c.actor.breachf("%s is rate-limited, but only other clients sent too much", call)
		}
	}
	c.actor.w.count.Add("acks", 1)
	return refusal
}

// request calls by name. The data of a success is the first result.
func request(ctx context.Context, c *realtimetest.Client, call string, body any) (json.RawMessage, error) {
	return realtimetest.Call(ctx, c, realtime.NewCall[any, json.RawMessage](call), body)
}
