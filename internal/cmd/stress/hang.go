// Hanging services: crowds of drivers whose DriverService does not return, logins whose
// repository does not return, and bans meanwhile.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

const (
	// crowdStep is how many of a crowd are one user, and crowdParts how many come at
	// once.
	crowdStep  = 50
	crowdParts = 4
	// hungTrips is how many trips are looked up in vain at once: enough for each of
	// a MemoryBus's queues.
	hungTrips = 150
)

// hang lets services hang until ctx ends.
func (w *world) hang(ctx context.Context) {
	w.scenes.Go(func() { w.crowds(ctx) })
	for i := range 4 {
		w.scenes.Go(func() { w.loginsThatHang(ctx, i) })
	}
	w.scenes.Go(func() { w.bans(ctx) })
}

// crowds connects hundreds of drivers at a time, who each send a position for which the
// DriverService hangs.
func (w *world) crowds(ctx context.Context) {
	rng := w.rng(crowdStream, 0)
	for round := 0; ctx.Err() == nil; round++ {
		w.crowd(ctx, rng, round)
		stresskit.Sleep(ctx, time.Second)
	}
}

// crowd connects all drivers first, so that the service hangs for all of them at the
// same time.
func (w *world) crowd(ctx context.Context, rng *rand.Rand, round int) {
	parts := make([][]*raw, crowdParts)
	var coming sync.WaitGroup
	for part := range parts {
		coming.Go(func() {
			parts[part] = w.gather(ctx, w.nodes[round%2], fmt.Sprintf("%s%d-%d", hungService, round, part), w.config.crowd/crowdParts)
		})
	}
	coming.Wait()
	all := slices.Concat(parts...)
	for _, c := range all {
		call := []string{
			`42/drivers,1["driver:location:ping",{"lat":1,"lng":1}]`,
			`42/drivers,1["driver:status:update",{"isOnline":true}]`,
			`42/drivers,1["driver:offer:accept",{"assignmentId":"1"}]`,
		}[rng.IntN(3)]
		_ = c.send("3", call) // who is closed meanwhile is closed
	}
	w.count.Add("crowds", 1)
	for i := 0; i < 5 && stresskit.Sleep(ctx, time.Second); i++ {
		w.count.Most("services' calls that hang, at most", int(w.host.hanging.Load()))
	}
	for _, c := range all {
		_ = c.Close()
	}
}

// gather logs in some drivers of a crowd, who answer heartbeats meanwhile.
func (w *world) gather(ctx context.Context, n *node, name string, number int) (all []*raw) {
	token, answered := "", time.Now()
	for i := 0; i < number && w.calm(ctx); i++ {
		if i%crowdStep == 0 {
			user := fmt.Sprint(name, "-", i/crowdStep)
			w.users.Set(realtime.User{ID: user, Type: realtime.UserDriver, Active: true})
			_, token = w.login(user, 0)
		}
		if time.Since(answered) > pingInterval {
			answered = time.Now()
			for _, c := range all {
				_ = c.send("3") // who is closed meanwhile is closed
			}
		}
		c, err := webSocket(n, honest(int(w.guests.Add(1))))
		if err != nil {
			stresskit.Sleep(ctx, 10*time.Millisecond)
			continue
		}
		all = append(all, c)
		_ = c.SetDeadline(time.Now().Add(rawTimeout))
		if c.send(connectPacket(realtime.NamespaceDrivers, token)) == nil {
			_ = c.until("40") // or it is closed
		}
	}
	return all
}

// loginsThatHang tries to log in users for whom a repository hangs.
func (w *world) loginsThatHang(ctx context.Context, number int) {
	rng := w.rng(vainStream, number)
	for i := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 100*time.Millisecond, 1500*time.Millisecond)) && w.calm(ctx); i++ {
		user := fmt.Sprintf("%s%c%d-%d", hungLookup, "ust"[rng.IntN(3)], number, i)
		w.users.Set(realtime.User{ID: user, Type: realtime.UserPassenger, Active: true})
		_, token := w.login(user, i)
		c, err := webSocket(w.nodes[rng.IntN(2)], honest(int(w.guests.Add(1))))
		if err != nil {
			continue
		}
		_ = c.send(connectPacket(realtime.NamespacePassengers, token))
		_ = c.SetReadDeadline(time.Now().Add(stresskit.Between(rng, 100*time.Millisecond, 5*time.Second)))
		stop := context.AfterFunc(ctx, func() { _ = c.Close() })
		_ = c.until("4") // as long as it likes to wait
		stop()
		_ = c.Close()
	}
}

// bans ends the access of users while all trip events and listeners hang. Each ban must take effect in
// time.
func (w *world) bans(ctx context.Context) {
	rng := w.rng(banStream, 0)
	for i := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 300*time.Millisecond, 2*time.Second)) && w.calm(ctx); i++ {
		typ := realtime.UserPassenger
		if i%3 == 2 {
			typ = realtime.UserAdmin
		}
		user := fmt.Sprint("qb", i)
		n := w.nodes[i%2]
		c := w.enter(ctx, n, user, typ)
		if c == nil {
			continue
		}
		if i%2 == 0 {
			for k := range hungTrips {
				w.publish("", realtime.DriverEnRoute{TripID: fmt.Sprintf("%s%d-%d", hungTrip, i, k)})
			}
		} else { // a listener of the node that the user is on
			_ = w.nodes[1-i%2].namespace(namespaceOf(typ)).ServerEmit(ctx, "stress:hang") // an adapter's error is the log's
		}
		stresskit.Sleep(ctx, stresskit.Between(rng, 50*time.Millisecond, 400*time.Millisecond))
		w.users.Set(realtime.User{ID: user, Type: typ})
		began := time.Now()
		w.publish("", realtime.UserAccessChanged{UserID: user, Change: realtime.AccessBanned})
		waited := w.eventually(ctx, 4*banWithin, func() bool { return !c.Connected() })
		if ctx.Err() == nil && !w.oracle.isDraining() {
			w.late("the ban of "+user+", while others hang,", began, banWithin)
			if waited {
				w.count.Add("bans while others hang", 1)
			}
		}
		c.Close()
	}
}
