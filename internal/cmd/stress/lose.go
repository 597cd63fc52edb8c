// Lost messages: messages between the nodes about a trip or a session are dropped, and
// lookups must repair that.

package main

import (
	"context"
	"fmt"
	"time"

	"github.com/rodando/realtime"
)

// lost plays scenes whose messages do not reach the other node, where the people are
// connected.
func (w *world) lost(ctx context.Context, s *scene, turn int) {
	away := w.nodes[1-w.bus.at(s.trip)]
	s.pn, s.dn = away, away
	if s.connect(ctx); s.p == nil || s.d == nil {
		return
	}
	switch {
	case turn%3 == 2:
		w.lostRevocation(ctx, s)
	case !w.looksUp || w.bus.fanOut: // nothing is sent, or nothing can put it right
	case turn%3 == 1:
		w.lostEnd(ctx, s)
	case w.looksUpMany: // else only those are looked up who are in a room
		w.lostBeginning(ctx, s)
	}
}

// lostEnd is a trip whose end does not reach the other node.
func (w *world) lostEnd(ctx context.Context, s *scene) {
	if !s.begin(ctx) {
		return
	}
	s.follows(ctx, "the assignment")
	w.drops.add(s.trip)
	s.complete()
	w.drops.remove(s.trip)
	ok := w.eventually(ctx, repairWithin, func() bool { return len(s.inRoom(ctx)) == 0 })
	if s.cannotJudge(ctx) {
		return
	}
	if !ok {
		w.oracle.breachf("the end of trip %s was lost, but TripLookup returns it; after %v %v are still in its room", s.trip, repairWithin, s.inRoom(ctx))
		return
	}
	s.ended(ctx, "its end was lost and found")
	if s.cannotJudge(ctx) {
		return
	}
	if s.connect(ctx); s.p != nil && s.d != nil {
		s.ended(ctx, "its end was lost, connecting anew")
	}
}

// lostBeginning is a trip whose assignment does not reach the other node.
func (w *world) lostBeginning(ctx context.Context, s *scene) {
	s.publish(realtime.TripRequested{TripID: s.trip, PassengerID: s.passenger})
	w.drops.add(s.trip)
	s.assigned(true)
	s.publish(realtime.AssignmentAccepted{TripID: s.trip, AssignmentID: "a1", PassengerID: s.passenger, DriverID: s.driver, At: time.Now()})
	s.publish(s.assignment())
	w.drops.remove(s.trip)
	want := fmt.Sprint([]string{s.driver, s.passenger})
	ok := w.eventually(ctx, repairWithin, func() bool { return fmt.Sprint(s.inRoom(ctx)) == want })
	if s.cannotJudge(ctx) {
		return
	}
	if !ok {
		w.oracle.breachf("the assignment of trip %s was lost, but TripLookup returns it; after %v only %v are in its room", s.trip, repairWithin, s.inRoom(ctx))
	} else {
		s.follows(ctx, "its assignment was lost and found")
	}
	s.complete()
	s.ended(ctx, "its end")
}

// lostRevocation is a session whose revocation does not reach the other node.
func (w *world) lostRevocation(ctx context.Context, s *scene) {
	sid := fmt.Sprintf("s-%s-0", s.passenger)
	w.drops.add(sid)
	defer w.drops.remove(sid)
	w.sessions.Revoke(sid)
	s.publish(realtime.SessionRevoked{SessionID: sid, UserID: s.passenger, Reason: "stress"})
	if ok := w.eventually(ctx, repairWithin, func() bool { return !s.p.Connected() }); !ok && !s.cannotJudge(ctx) {
		w.oracle.breachf("the end of the session of %s was lost, and after %v it is still connected", s.passenger, repairWithin)
	}
}
