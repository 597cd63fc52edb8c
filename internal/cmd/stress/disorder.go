// Disorder: events that are delivered again, late, in another order, or to another node.

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// deliverAgain delivers events of a trip again after its end, as a bus does that does
// not know whether they were handled, or a producer that does not know whether they were
// sent.
func (w *world) deliverAgain(ctx context.Context, s *scene, turn int) {
	if !s.begin(ctx) {
		return
	}
	assigned := s.last
	s.follows(ctx, "the assignment")
	if turn%4 == 3 { // before the end too, where it changes nothing
		w.bus.redeliver(ctx, w.bus.at(assigned.Key), assigned)
		s.follows(ctx, "a redelivery")
	}
	if !s.complete() {
		return
	}
	after := "nothing in particular"
	switch turn % 4 {
	case 0:
		after = "an assignment that came again"
		w.bus.redeliver(ctx, w.bus.at(assigned.Key), assigned)
	case 1:
		after = "an assignment that came again, to the other node"
		w.bus.redeliver(ctx, 1-w.bus.at(assigned.Key), assigned)
	case 2:
		after = "an assignment that came again under another id"
		s.publish(s.assignment())
	}
	s.ended(ctx, after)
	if s.cannotJudge(ctx) {
		return
	}
	s.connect(ctx)
	if s.p != nil && s.d != nil {
		s.ended(ctx, after+", connecting anew")
	}
}

// outOfOrder delivers events of a trip in another order.
func (w *world) outOfOrder(ctx context.Context, s *scene, turn int) {
	if turn%6 == 5 && w.looksUp {
		w.lateEnd(ctx, s)
		return
	}
	switch turn % 3 {
	case 0:
		w.lateExpiry(ctx, s, turn)
	case 1:
		w.lateAssignment(ctx, s)
	case 2:
		w.handedOver(ctx, s)
	}
}

// lateExpiry offers a trip to a driver twice. The driver accepts the second offer; then
// the end of the first one arrives.
func (w *world) lateExpiry(ctx context.Context, s *scene, turn int) {
	s.publish(realtime.TripRequested{TripID: s.trip, PassengerID: s.passenger})
	for _, offer := range []string{"a1", "a2"} {
		s.publish(realtime.AssignmentOffered{TripID: s.trip, AssignmentID: offer, DriverID: s.driver, TTLSec: 20})
	}
	s.assigned(true)
	s.publish(realtime.AssignmentAccepted{TripID: s.trip, AssignmentID: "a2", PassengerID: s.passenger, DriverID: s.driver})
	s.publish(s.assignment())
	after := "the expiry of an older offer"
	if turn%2 == 0 {
		s.publish(realtime.AssignmentExpired{TripID: s.trip, AssignmentID: "a1", DriverID: s.driver})
	} else {
		after = "the withdrawal of an older offer"
		s.publish(realtime.AssignmentCancelled{TripID: s.trip, AssignmentID: "a1", DriverID: s.driver})
	}
	s.follows(ctx, after)
	if s.cannotJudge(ctx) {
		return
	}
	if in := fmt.Sprint(s.inRoom(ctx)); in != fmt.Sprint([]string{s.driver, s.passenger}) && !s.cannotJudge(ctx) {
		w.oracle.breachf("after %s the users in the room of trip %s are %v", after, s.trip, in)
	}
	s.complete()
	s.ended(ctx, "its end")
}

// lateAssignment delivers a trip's assignment after its end.
func (w *world) lateAssignment(ctx context.Context, s *scene) {
	s.publish(realtime.TripRequested{TripID: s.trip, PassengerID: s.passenger, At: s.began.Add(-time.Second)})
	late := s.assignment()
	s.complete()
	s.publish(late)
	s.publish(realtime.TripStarted{TripID: s.trip, PassengerID: s.passenger, DriverID: s.driver, At: s.began.Add(time.Millisecond)})
	s.ended(ctx, "an assignment that came behind the end")
}

// lateEnd ends a trip in the host's database long before the bus delivers the end, as
// when a queue is long. The people of the trip must still receive the end.
func (w *world) lateEnd(ctx context.Context, s *scene) {
	if !s.begin(ctx) || !stresskit.Sleep(ctx, settleWithin) {
		return
	}
	s.assigned(false)
	if !stresskit.Sleep(ctx, 2*sweepInterval) {
		return
	}
	s.complete()
	s.requireReceived(ctx, "the passenger", s.p, "trip:completed")
	s.requireReceived(ctx, "the driver", s.d, "trip:completed")
	s.ended(ctx, "an end that came late")
}

// handedOver delivers a trip's events first to one node and then to the other, as when a
// partition moves. The events name only the people who are new.
func (w *world) handedOver(ctx context.Context, s *scene) {
	turn := s.rng.IntN(2)
	to := func(node int) { w.bus.assignKey(s.trip, (node+turn)%2) }
	to(0)
	defer w.bus.assignKey(s.trip, -1)
	s.publish(realtime.TripRequested{TripID: s.trip, PassengerID: s.passenger})
	to(1)
	s.assigned(true)
	s.publish(realtime.AssignmentAccepted{TripID: s.trip, AssignmentID: "a1", DriverID: s.driver})
	s.requireReceived(ctx, "the passenger", s.p, realtime.EventDriverAccepted.Name())
	to(0)
	s.publish(realtime.DriverAssigned{TripID: s.trip})
	s.requireReceived(ctx, "the passenger", s.p, realtime.EventDriverAssigned.Name())
	s.requireReceived(ctx, "the driver", s.d, realtime.EventDriverAssigned.Name())
	to(1)
	s.publish(realtime.TripStarted{TripID: s.trip})
	s.requireReceived(ctx, "the passenger", s.p, "trip:started")
	s.requireReceived(ctx, "the driver", s.d, "trip:started")
	s.follows(ctx, "the assignment")
	s.overBus(ctx)
	s.complete()
	s.requireReceived(ctx, "the passenger", s.p, "trip:completed")
	s.requireReceived(ctx, "the driver", s.d, "trip:completed")
	s.ended(ctx, "its end")
}

// overBus publishes a position over the bus, for either node.
func (s *scene) overBus(ctx context.Context) {
	defer s.w.bus.assignKey(s.driver, -1)
	for node := range 2 {
		s.w.bus.assignKey(s.driver, node)
		s.moves++
		number := float64(s.moves)
		s.publish(realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{
			DriverID: s.driver, LastLocation: realtime.Position{Lat: 1, Lng: 1}, LastLocationTimestamp: realtime.Time{Time: time.Now()}, Speed: &number,
		}})
		if ok := s.w.eventually(ctx, hearWithin, func() bool { return s.sees(int(number)) }); !ok && !s.cannotJudge(ctx) {
			s.w.oracle.breachf("a position that came over the bus to node %d does not reach the passenger of %s", node, s.trip)
		}
	}
}
