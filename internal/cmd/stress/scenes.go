// Scenes: trips whose passenger and driver stay connected while the bus or the adapter
// misbehaves.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// hearWithin is how long what is published may take to reach a client that is
// connected.
const hearWithin = 5 * time.Second

// scene is a trip and its people. Only one goroutine uses it.
type scene struct {
	w                 *world
	rng               *rand.Rand
	trip              string
	passenger, driver string
	p, d              *realtimetest.Client // nil while not connected
	pn, dn            *node
	pt, dt            string // their tokens
	began             time.Time
	last              realtime.Envelope // that was published
	moves             int
}

// play runs scenes until ctx ends, two at a time.
func (w *world) play(ctx context.Context, stream int, stage func(ctx context.Context, s *scene, turn int)) {
	for k := range 2 {
		w.scenes.Go(func() {
			rng := w.rng(stream, k)
			for turn := k; stresskit.Sleep(ctx, stresskit.Between(rng, 50*time.Millisecond, 400*time.Millisecond)); turn++ {
				s := w.scene(ctx, rng, fmt.Sprintf("%d-%d-%d", stream, k, turn))
				if s.p != nil && s.d != nil {
					stage(ctx, s, turn)
				}
				s.close()
			}
		})
	}
}

// scene connects two people, each to a random node.
func (w *world) scene(ctx context.Context, rng *rand.Rand, name string) *scene {
	s := &scene{
		w: w, rng: rng, trip: sceneTrip + name, passenger: "xp" + name, driver: "xd" + name,
		pn: w.nodes[rng.IntN(2)], dn: w.nodes[rng.IntN(2)], began: time.Now(),
	}
	s.connect(ctx)
	return s
}

// connect connects both people, or reconnects them.
func (s *scene) connect(ctx context.Context) {
	s.close()
	w := s.w
	for user, typ := range map[string]realtime.UserType{s.passenger: realtime.UserPassenger, s.driver: realtime.UserDriver} {
		w.users.Set(realtime.User{ID: user, Type: typ, Active: true})
	}
	if s.pt == "" {
		_, s.pt = w.login(s.passenger, 0)
		_, s.dt = w.login(s.driver, 0)
	}
	s.p = w.again(ctx, s.pn, s.passenger, realtime.NamespacePassengers, s.pt)
	s.d = w.again(ctx, s.dn, s.driver, realtime.NamespaceDrivers, s.dt)
}

func (s *scene) close() {
	for _, c := range []*realtimetest.Client{s.p, s.d} {
		if c != nil {
			c.Close()
		}
	}
	s.p, s.d = nil, nil
}

// assigned sets in the host's database whether the trip is assigned.
func (s *scene) assigned(is bool) {
	for _, user := range []string{s.passenger, s.driver} {
		if is {
			s.w.trips.Set(user, s.trip)
		} else {
			s.w.trips.Set(user)
		}
	}
}

// publish publishes an event of the trip with a new id, and waits until it is handled.
func (s *scene) publish(e realtime.DomainEvent) bool {
	env, err := realtime.NewEnvelope(e)
	if err == nil {
		s.last = env
		err = s.w.bus.Publish(context.Background(), env)
	}
	if err != nil {
		s.w.oracle.breachf("%s can't be published: %v", e.EventName(), err)
		return false
	}
	return s.w.settle()
}

// cannotJudge reports whether the scene can no longer be judged.
func (s *scene) cannotJudge(ctx context.Context) bool {
	return ctx.Err() != nil || s.w.oracle.isDraining()
}

// requireReceived records a breach if one of the two does not receive an event of the
// trip.
func (s *scene) requireReceived(ctx context.Context, who string, c *realtimetest.Client, event string) {
	got := func() bool {
		return slices.ContainsFunc(c.Received(), func(r realtimetest.Received) bool { return r.Event == event && s.mine(r).TripID == s.trip })
	}
	ok := s.w.eventually(ctx, hearWithin, got)
	switch {
	case s.cannotJudge(ctx):
	case !ok:
		s.w.oracle.breachf("%s of trip %s did not receive %s; connected: %v", who, s.trip, event, c.Connected())
	default:
		s.w.count.Add("scenes: events received", 1)
	}
}

func (s *scene) mine(r realtimetest.Received) (p payload) {
	if len(r.Args) > 0 {
		_ = json.Unmarshal(r.Args[0], &p) // what can't be read names no trip
	}
	return p
}

// move sends a position of the driver, and returns its number, or 0 if it was not
// accepted.
func (s *scene) move(ctx context.Context) int {
	s.moves++
	number := float64(s.moves)
	asking, cancel := context.WithTimeout(ctx, s.w.patience())
	defer cancel()
	_, err := realtimetest.Call(asking, s.d, realtime.DriverLocationPing, realtime.LocationPing{
		Position: &realtime.Position{Lat: 1, Lng: 1}, LastLocationTimestamp: realtime.Time{Time: time.Now()}, Speed: &number,
	})
	if err != nil {
		if !s.cannotJudge(ctx) {
			s.w.oracle.breachf("the position of the driver of %s: %v; connected: %v %s", s.trip, err, s.d.Connected(), s.d.Reason())
		}
		return 0
	}
	return s.moves
}

// sees reports whether the passenger has received a position of the trip.
func (s *scene) sees(number int) bool {
	return slices.ContainsFunc(s.p.Received(), func(r realtimetest.Received) bool {
		p := s.mine(r)
		return r.Event == realtime.EventTripDriverLocation.Name() && p.TripID == s.trip && int(p.Speed) == number
	})
}

// follows records a breach if the passenger does not receive the driver's position.
func (s *scene) follows(ctx context.Context, after string) {
	number, next := 0, time.Time{}
	ok := s.w.eventually(ctx, hearWithin, func() bool {
		if time.Now().After(next) { // some of them may come before it is put right
			number, next = s.move(ctx), time.Now().Add(700*time.Millisecond)
		}
		return number != 0 && s.sees(number)
	})
	if !ok && !s.cannotJudge(ctx) {
		s.w.oracle.breachf("the passenger of %s does not receive the driver's position within %v of %s; in the room: %v", s.trip, hearWithin, after, s.inRoom(ctx))
		return
	}
	s.w.count.Add("scenes: passengers who see the driver", 1)
}

// inRoom returns the users in the trip's room.
func (s *scene) inRoom(ctx context.Context) (users []string) {
	for _, ns := range []string{realtime.NamespacePassengers, realtime.NamespaceDrivers} {
		sockets, err := s.pn.namespace(ns).To(realtime.TripRoom(s.trip)).Sockets(ctx)
		if err != nil && !s.cannotJudge(ctx) {
			s.w.oracle.breachf("looking into the room of %s: %v", s.trip, err)
		}
		for _, socket := range sockets {
			users = append(users, socket.Identity.UserID)
		}
	}
	slices.Sort(users)
	return users
}

// aftermath is what remains of a trip after its end.
type aftermath struct {
	trip, after string
	inRoom      []string
	positions   bool // the passenger got one that was sent after the end
}

// judge records a breach if a trip that has ended still has people in its room, or shows
// a position.
func (a aftermath) judge(o *oracle) {
	if len(a.inRoom) > 0 {
		o.breachf("after %s trip %s has ended, but %v are in its room", a.after, a.trip, a.inRoom)
	}
	if a.positions {
		o.breachf("after %s trip %s has ended, but the passenger receives the driver's position", a.after, a.trip)
	}
}

// ended checks that nothing remains of a trip after its end.
func (s *scene) ended(ctx context.Context, after string) {
	s.w.settle()
	a := aftermath{trip: s.trip, after: after, inRoom: s.inRoom(ctx)}
	number := s.move(ctx)
	stresskit.Sleep(ctx, 50*time.Millisecond)
	s.w.settle()
	asking, cancel := context.WithTimeout(ctx, s.w.patience())
	defer cancel()
	_, _ = realtimetest.Call(asking, s.p, echo, 1) // what was sent before it has come then
	a.positions = number != 0 && s.sees(number)
	if !s.cannotJudge(ctx) {
		a.judge(s.w.oracle)
		s.w.count.Add("scenes: ended trips", 1)
	}
}

// begin assigns the driver, waits until both have received that, and reports whether
// they have.
func (s *scene) begin(ctx context.Context) bool {
	s.publish(realtime.TripRequested{TripID: s.trip, PassengerID: s.passenger})
	s.publish(realtime.AssignmentOffered{TripID: s.trip, AssignmentID: "a1", DriverID: s.driver, TTLSec: 20})
	s.assigned(true)
	s.publish(realtime.AssignmentAccepted{TripID: s.trip, AssignmentID: "a1", PassengerID: s.passenger, DriverID: s.driver, At: time.Now()})
	if !s.publish(s.assignment()) {
		return false
	}
	s.requireReceived(ctx, "the passenger", s.p, realtime.EventDriverAssigned.Name())
	s.requireReceived(ctx, "the driver", s.d, realtime.EventDriverAssigned.Name())
	return !s.cannotJudge(ctx)
}

func (s *scene) assignment() realtime.DriverAssigned {
	return realtime.DriverAssigned{TripID: s.trip, PassengerID: s.passenger, DriverID: s.driver, At: s.began}
}

// complete ends the trip.
func (s *scene) complete() bool {
	s.assigned(false)
	return s.publish(realtime.TripCompleted{TripID: s.trip, FareTotal: 1, Currency: "CUP", At: time.Now()})
}
