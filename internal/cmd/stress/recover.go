// Devices that have lost their connection and want it back, as stock clients of Socket.IO 4.6 and later
// do: they come back with their pid and the offset of the newest event that they have received.

package main

import (
	"context"
	"encoding/json"
	"maps"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// recoveryOptions are those of the nodes. A client may be away for less long than its network may be
// silent, so that some come too late.
func recoveryOptions(on bool) realtime.Recovery {
	if !on {
		return realtime.Recovery{}
	}
	return realtime.Recovery{Enabled: true, Window: 12 * time.Second, Events: 5_000, Bytes: 4 << 20}
}

// snapshots is the SnapshotLookup: the running trips of a user.
type snapshots struct{ trips *realtimetest.Trips }

// FindSnapshot implements realtime.SnapshotLookup.
func (s snapshots) FindSnapshot(ctx context.Context, namespace string, id realtime.Identity) (found realtime.Snapshot, err error) {
	running, err := s.trips.ActiveTrips(ctx, id.UserID)
	for _, trip := range running {
		t := realtime.TripSnapshot{TripID: trip, Status: realtime.TripStatusAccepted, PassengerID: id.UserID}
		if namespace == realtime.NamespaceDrivers {
			t.PassengerID, t.DriverID = "", id.UserID
		}
		found.Trips = append(found.Trips, t)
	}
	return found, err
}

// past is a connection that its device has lost. Only the actor's goroutine uses it.
type past struct {
	*connection
	claim  comeback.Claim
	former former
	raced  bool // two devices have claimed it
}

// lose records that the device has lost the connection, and takes no notice of what still arrives.
func (c *connection) lose() {
	if claim, ok := comeback.Of(c.Client); ok && c.actor.returns {
		if c.actor.w.config.plant == "old offset" {
			claim.Offset = firstOffset(claim)
		}
		c.claim = &claim
	}
}

// firstOffset returns the offset of a connection's hello.
func firstOffset(k comeback.Claim) (offset string) {
	for _, r := range k.Received {
		if r.Event == realtime.EventHello.Name() && len(r.Args) == 2 {
			_ = json.Unmarshal(r.Args[1], &offset) // it is a string
		}
	}
	return offset
}

// remember keeps a connection that is lost and judged, so that the device can claim it.
func (a *actor) remember(c *connection, judged *judgement) {
	if c.claim != nil {
		a.past = &past{connection: c, claim: *c.claim, former: former{judged: judged, epoch: c.says.epoch}}
	}
}

// forget ends what is left of the connection that the device has lost.
func (a *actor) forget() {
	if p := a.past; p != nil {
		a.past = nil
		p.vanish()
	}
}

// away is what happens while the device is away.
func (a *actor) away(ctx context.Context) {
	p := a.past
	if p == nil || ctx.Err() != nil {
		return
	}
	switch n := a.rng.IntN(24); {
	case n == 0:
		a.revokedAway(p)
	case n == 1 && a.alone:
		a.bannedAway(p)
	case n < 4:
		a.strangerClaims(p)
	}
	if a.past == nil || a.w.oracle.isDraining() {
		return
	}
	if a.rng.IntN(3) > 0 {
		p.series(1 + a.rng.IntN(20))
	}
	stresskit.Sleep(ctx, stresskit.Between(a.rng, 0, 1500*time.Millisecond))
	if a.rng.IntN(3) > 0 {
		if now, numbers := time.Now(), p.numbers; a.w.settle() {
			p.former.due, p.former.numbers = now, numbers
		}
	}
}

// claims returns the node and the payload of CONNECT with which the device comes back.
func (a *actor) claims(n *node, token string) (*node, realtimetest.Option) {
	p := a.past
	if p == nil {
		return n, realtimetest.Token(token)
	}
	if a.rng.IntN(3) > 0 {
		n = p.node
	}
	return n, realtimetest.Auth(p.claim.Auth(token))
}

// comesBack records that a connection, which has got hello, was made with a claim to a former one.
func (c *connection) comesBack(p *past) {
	hello, _, ok := comeback.Greeting(c.Received())
	if c.says.former = &p.former; !ok {
		return
	}
	kind := comeback.SameNode
	switch {
	case c.node != p.node:
		kind = comeback.AnotherNode
	case p.Connected(): // by all that its client knows
		kind = comeback.Unnoticed
	}
	if !p.raced {
		comeback.Count(c.actor.w.count, kind, hello)
	}
	if c.recovered = comeback.Recovered(hello); !c.recovered {
		return
	}
	c.actor.w.oracle.requireSame(c.actor.user, p.claim, c.ID(), c.PID())
	c.says.epoch, c.says.joined = p.says.epoch, maps.Clone(p.says.joined)
	c.numbers, c.statuses = p.numbers, p.statuses
}

// rival makes a second device, which has copied the pid, claim the connection at the same time. The
// function that it returns judges who got it.
func (a *actor) rival(p *past) (judge func(first *connection)) {
	if p == nil || a.rng.IntN(12) > 0 {
		return func(*connection) {}
	}
	p.raced = true
	b := *a // with randomness of its own, since it runs beside
	b.rng = a.w.rng(racerStream, a.rng.IntN(1<<30))
	a.epoch += 2
	b.epoch = a.epoch
	began, second := time.Now(), make(chan *connection, 1)
	go func() {
		defer close(second)
		client, n, _, err := b.dial(context.Background(), b.token)
		if err != nil {
			return // it is the first one that must succeed
		}
		if _, err = client.Within(b.w.patience()).NextRaw(context.Background(), realtime.EventHello.Name()); err == nil {
			second <- b.connection(client, n)
		} else {
			client.Close()
		}
	}()
	return func(first *connection) {
		c := <-second
		if c == nil {
			return
		}
		c.comesBack(p)
		c.says.latest = a.epoch + 1
		c.Close()
		a.w.oracle.judge(c.transcript())
		// A client that does not answer within a second gives way to the other one.
		if a.w.lag.since(began) < busyLag {
			a.w.oracle.requireOneWinner(a.user, c.recovered, first != nil && first.recovered)
		}
		a.w.count.Add("pids that two devices claimed", 1)
	}
}

// strangerClaims makes another user claim the connection. The judge finds it if they get it.
func (a *actor) strangerClaims(p *past) {
	user := "z" + a.user
	a.w.users.Set(realtime.User{ID: user, Type: a.typ, Active: true})
	sid, token := a.w.login(user, a.logins)
	ctx, cancel := context.WithTimeout(context.Background(), a.w.patience())
	defer cancel()
	c, err := realtimetest.Dial(ctx, p.node.url, a.namespace, realtimetest.Auth(p.claim.Auth(token)), from(a.address))
	if err != nil {
		return // whether they can connect is not the question
	}
	_, _ = c.NextRaw(ctx, realtime.EventHello.Name()) // likewise
	c.Close()
	a.w.oracle.judge(transcript{namespace: a.namespace, user: user, sid: sid, received: c.Received(), joined: map[string]bool{}, strays: c.Strays()})
	a.w.count.Add("pids that a stranger claimed", 1)
}

// revokedAway revokes the session of a device that is away.
func (a *actor) revokedAway(p *past) {
	a.w.sessions.Revoke(a.sid)
	a.barWhenHandled(realtime.SessionRevoked{SessionID: a.sid, UserID: a.user, Reason: "stress"})
	a.claimInVain(p, realtime.CodeInvalidSession)
	a.forget()
	a.login()
}

// bannedAway bans the user of a device that is away, and admits them again.
func (a *actor) bannedAway(p *past) {
	user := realtime.User{ID: a.user, Type: a.typ}
	a.w.users.Set(user)
	a.barWhenHandled(realtime.UserAccessChanged{UserID: a.user, Change: realtime.AccessBanned})
	a.claimInVain(p, realtime.CodeUserInactive)
	user.Active = true
	a.w.users.Set(user)
	time.Sleep(1500 * time.Millisecond) // what was looked up in the meantime is over
	a.forget()
	a.login()
}

// claimInVain claims a connection whose user may not connect: nothing at all may come before the
// refusal.
func (a *actor) claimInVain(p *past, want realtime.Code) {
	c, err := webSocket(p.node, a.address)
	if err != nil {
		return // strangers may take all places
	}
	defer func() { _ = c.Close() }()
	auth, err := json.Marshal(p.claim.Auth(a.token))
	if err != nil {
		panic(err) // cannot happen: it is a map of strings
	}
	_ = c.SetReadDeadline(time.Now().Add(rawTimeout))
	if c.send("40"+a.namespace+","+string(auth)) != nil {
		return
	}
	packets, err := c.answers("44" + a.namespace)
	if err == nil {
		a.w.oracle.requireRefused(a.user, packets, want)
		a.w.count.Add("pids that were claimed without access", 1)
	}
}

// answers returns the packets of Socket.IO up to one with that prefix, and answers heartbeats.
func (c *raw) answers(last string) (packets []string, err error) {
	for {
		opcode, payload, err := c.read()
		packet := string(payload)
		switch {
		case err != nil:
			return packets, err
		case opcode == 8:
			return packets, errRefused
		case packet == "2":
			if err := c.send("3"); err != nil {
				return packets, err
			}
		case strings.HasPrefix(packet, "4"):
			packets = append(packets, packet)
			if strings.HasPrefix(packet, last) || strings.HasPrefix(packet, "40") {
				return packets, nil
			}
		}
	}
}
