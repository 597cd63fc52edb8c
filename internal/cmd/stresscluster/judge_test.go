//go:build unix

// The oracle finds what is wrong, and nothing else: one that can't fail proves nothing.

package main

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

// noon is when the connection of these tests said hello.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// scenario is an oracle that knows of one trip, of p1 with d1, of which an event was published
// and handled each second from 1 s to 4 s, and of a trip of p2; and what p1 received on the node
// n0, from 0 s to 60 s. The node n1 handled the events.
type scenario struct {
	*oracle
	n0, n1   *life
	c        *connection
	received []arrival
	strays   int
}

func newScenario() *scenario {
	s := &scenario{oracle: newOracle(1, &stresskit.Counts{}, &lag{})}
	s.began = noon
	p0, p1 := &place{name: "n0"}, &place{name: "n1"}
	s.n0, s.n1 = &life{place: p0, name: "n0.1"}, &life{place: p1, name: "n1.2"}
	s.lives = []*life{s.n0, s.n1}
	pass1, pass2, admin := rides.Audience{Namespace: realtime.NamespacePassengers, User: "p1"}, rides.Audience{Namespace: realtime.NamespacePassengers, User: "p2"}, rides.Audience{Namespace: realtime.NamespaceAdmin}
	publish := func(trip string, when float64, hears map[rides.Audience]string) {
		f := s.facts[s.publishing(trip, hears)]
		f.at, f.taken, f.first = at(when), at(when), at(when)
		f.handled = []handling{{by: s.n1, at: at(when)}}
	}
	for i, name := range []string{"trip:requested", "trip:assigning_started", "trip:driver_assigned", "trip:started"} {
		publish("t1", float64(i+1), map[rides.Audience]string{pass1: name, admin: name})
	}
	publish("t2", 2, map[rides.Audience]string{pass2: "trip:requested", admin: "trip:requested"})
	s.assign("t1", "p1", "d1")
	s.assign("t2", "p2", "d2")
	s.c = &connection{
		life: s.n0, namespace: realtime.NamespacePassengers, user: "p1", sid: "p1/1", hello: noon, end: at(60), joined: map[string]bool{},
	}
	s.received = []arrival{
		{name: "hello", at: at(0), payload: payload{UserID: "p1", SID: "p1/1"}},
		ofTrip(1, "trip:requested", "t1", 0),
		ofTrip(2, "trip:assigning_started", "t1", 1),
		ofTrip(3, "trip:driver_assigned", "t1", 2),
		position(3, "t1", "d1", 1),
		position(4, "t1", "d1", 1),
		ofTrip(4, "trip:started", "t1", 3),
		{name: "stress:probe", at: at(5), payload: payload{TripID: "t1", Probe: "probe 1"}},
	}
	return s
}

func (s *scenario) judgeIt() (n int, first []string) {
	s.mu.Lock()
	s.judgeLocked(s.c, s.received, s.strays)
	s.mu.Unlock()
	return s.verdict()
}

func (s *scenario) add(a arrival) { s.received = append(s.received, a) }

func (s *scenario) remove(i int) { s.received = append(s.received[:i], s.received[i+1:]...) }

// emittedLate makes t1/0, of n1 with these troubles of its path, arrive after t1/1, of another node.
func (s *scenario) emittedLate(troubles []span) {
	s.received[1], s.received[2] = s.received[2], s.received[1]
	s.facts["t1/1"].handled[0].by = &life{place: &place{name: "n2"}, name: "n2.3"}
	s.n1.place.bad = troubles
}

// handledAgain makes another node handle an event later, and report it before the first one does.
func (s *scenario) handledAgain(id string, by *life, when float64) {
	first := s.facts[id].handled[0]
	s.facts[id].handled = nil
	s.reported(by, report{Kind: reportHandled, ID: id, At: at(when)})
	s.reported(first.by, report{Kind: reportHandled, ID: id, At: first.at})
}

// bad is a trouble that has ended.
func bad(what string, from, to float64) span { return span{at(from), at(to), what} }

func ofTrip(when float64, event, trip string, seq int) arrival {
	return arrival{name: event, at: at(when), offset: true, payload: payload{EventID: fmt.Sprintf("%s/%d", trip, seq), TripID: trip}}
}

func position(when float64, trip, driver string, epoch float64) arrival {
	return arrival{name: "trip:driver_location", at: at(when), payload: payload{
		EventID: fmt.Sprint("l", when, epoch), TripID: trip, DriverID: driver, LastLocationTimestamp: at(when), Speed: epoch,
	}}
}

func TestOracle_FindsFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func(*scenario)
		want  string
	}{
		"a duplicate":  {func(s *scenario) { s.add(ofTrip(5, "trip:started", "t1", 3)) }, "trip:started t1/3 came twice"},
		"out of order": {func(s *scenario) { s.received[1], s.received[2] = s.received[2], s.received[1] }, "t1/0 arrived after t1/1"},
		"out of order by a node whose path was silent": {func(s *scenario) {
			s.received[1], s.received[2] = s.received[2], s.received[1]
			s.n1.place.bad = []span{bad(silence, 0.5, 9)} // it has emitted both
		}, "t1/0 arrived after t1/1"},
		"out of order as it was published again, but not handled again": {func(s *scenario) {
			s.emittedLate(nil)
			s.facts["t1/0"].again = true
		}, "t1/0 arrived after t1/1"},
		"out of order as it was handled again, but not published again": {func(s *scenario) {
			s.emittedLate(nil)
			s.facts["t1/0"].handled = append(s.facts["t1/0"].handled, handling{by: s.n0, at: at(2.5)})
		}, "t1/0 arrived after t1/1"},
		"out of order on a node in trouble": {func(s *scenario) {
			s.emittedLate(nil)
			s.n0.place.bad, s.redis = []span{bad(silence, 0.5, 9)}, []span{bad(pauseRedis, 0.5, 9)}
		}, "t1/0 arrived after t1/1"},
		"out of order long before a trouble": {func(s *scenario) { s.emittedLate([]span{bad(silence, 4, 9)}) }, "t1/0 arrived after t1/1"},
		"out of order over a slow path":      {func(s *scenario) { s.emittedLate([]span{bad(delayPath, 0.5, 9)}) }, "t1/0 arrived after t1/1"},
		"out of order long after, though no path was slow": {func(s *scenario) {
			s.emittedLate(nil)
			s.facts["t1/1"].handled[0].at = at(6)
		}, "t1/0 arrived after t1/1"},
		"an event of a stranger":      {func(s *scenario) { s.add(ofTrip(5, "trip:requested", "t2", 0)) }, "not for this client"},
		"an event under another name": {func(s *scenario) { s.add(ofTrip(5, "trip:completed", "t1", 3)) }, "not for this client"},
		"an event of nobody":          {func(s *scenario) { s.add(ofTrip(5, "trip:started", "t1", 9)) }, "nobody published"},
		"an event of another trip":    {func(s *scenario) { s.received[6].TripID = "t2" }, "names another trip"},
		"an event that can't be read": {func(s *scenario) { s.received[6].broken = "can't be read" }, "can't be read"},
		"a missing event":             {func(s *scenario) { s.remove(2) }, "trip:assigning_started t1/1 was lost"},
		"a missing event at the end":  {func(s *scenario) { s.remove(6) }, "trip:started t1/3 was lost"},
		"a missing event, of a node that was late for less": {func(s *scenario) {
			s.remove(6)
			s.n1.late, s.c.end = []delay{{at(5), time.Second}}, at(6.6)
		}, "trip:started t1/3 was lost"},
		"a missing event, of a node that was late before and after": {func(s *scenario) {
			s.remove(6)
			s.n1.late, s.c.end = []delay{{at(3.9), time.Second}, {at(8), time.Second}}, at(6)
		}, "trip:started t1/3 was lost"},
		"a missing event at the start": {func(s *scenario) { s.remove(1) }, "trip:requested t1/0 was lost"},
		"a loss outside of the gap": {func(s *scenario) {
			s.remove(2)
			s.n0.gaps = []report{{Since: at(2.5), Until: at(9)}}
		}, "was lost"},
		"a loss in the gap of another node": {func(s *scenario) {
			s.remove(2)
			s.n1.gaps = []report{{Since: at(1), Until: at(9)}}
		}, "was lost"},
		"a loss in a trouble without a gap": {func(s *scenario) {
			s.remove(2)
			s.n0.place.bad = []span{bad(silence, 1, 9)}
		}, "was lost"},
		"a loss long before a death": {func(s *scenario) {
			s.remove(2)
			s.n1.killed, s.n1.over = true, at(5)
		}, "was lost"},
		"a loss while its node leaves": {func(s *scenario) {
			s.remove(2)
			s.n1.leaving, s.n1.over, s.n1.bad = true, at(2.1), []span{bad(leaveNode, 1, 9)}
		}, "was lost"},
		"a repeat by another node without trouble": {func(s *scenario) {
			s.add(ofTrip(5, "trip:started", "t1", 3))
			s.facts["t1/3"].handled = append(s.facts["t1/3"].handled, handling{by: s.n0, at: at(5)})
		}, "came twice"},
		"a repeat by another node without trouble, reported late": {func(s *scenario) {
			s.add(ofTrip(5, "trip:started", "t1", 3))
			s.handledAgain("t1/3", s.n0, 9)
		}, "came twice"},
		"a repeat by another node that was stopped later": {func(s *scenario) {
			s.add(ofTrip(9, "trip:started", "t1", 3))
			s.handledAgain("t1/3", s.n0, 9)
			s.n1.bad, s.n0.bad = []span{bad(stopNode, 10, 15)}, []span{bad(stopNode, 10, 15)}
		}, "came twice"},
		"a repeat by the same node in trouble": {func(s *scenario) {
			s.add(ofTrip(5, "trip:started", "t1", 3))
			s.redis = []span{bad(killRedis, 4, 5)}
			s.facts["t1/3"].handled = append(s.facts["t1/3"].handled, handling{by: s.n1, at: at(5)})
		}, "came twice"},
		"a repeat by the same node of what was published again": {func(s *scenario) {
			s.add(ofTrip(5, "trip:started", "t1", 3))
			s.facts["t1/3"].again = true
			s.facts["t1/3"].handled = append(s.facts["t1/3"].handled, handling{by: s.n1, at: at(5)})
		}, "came twice"},
		"no hello":                       {func(s *scenario) { s.remove(0) }, "no hello"},
		"hello twice":                    {func(s *scenario) { s.add(s.received[0]) }, "hello came twice"},
		"another's hello":                {func(s *scenario) { s.received[0].UserID = "p2" }, "not for this client"},
		"another session's hello":        {func(s *scenario) { s.received[0].SID = "p1/2" }, "not for this client"},
		"a position of a strange driver": {func(s *scenario) { s.add(position(5, "t1", "d2", 1)) }, "not for this client"},
		"a position of another's trip":   {func(s *scenario) { s.add(position(5, "t2", "d2", 1)) }, "not for this client"},
		"a position of a trip that has ended long ago": {func(s *scenario) {
			s.forgotten["t0"] = forgotten{"p1", "d7", false}
			s.add(position(20, "t0", "d7", 1))
		}, "is not for this client"},
		"a position of a stranger's trip": {func(s *scenario) {
			s.forgotten["t0"] = forgotten{"p2", "d7", true}
			s.add(position(20, "t0", "d7", 1))
		}, "is not for this client"},
		"positions that go back": {func(s *scenario) { s.received[4], s.received[5] = s.received[5], s.received[4] }, "older than the one before"},
		"a drain that is none":   {func(s *scenario) { s.add(arrival{name: "server:drain", at: at(5)}) }, "not for this client"},
		"another's revocation": {func(s *scenario) {
			s.add(arrival{name: "auth:session_revoked", at: at(5), payload: payload{SID: "p2/1"}})
		}, "not for this client"},
		"a driver's status": {func(s *scenario) {
			s.add(arrival{name: "driver:availability:update", at: at(5), payload: payload{DriverID: "p1"}})
		}, "not for this client"},
		"an admin's event": {func(s *scenario) {
			s.add(arrival{name: "admin:driver:location:update", at: at(5), payload: payload{DriverID: "d1"}})
		}, "not for this client"},
		"another's probe": {func(s *scenario) {
			s.add(arrival{name: "stress:probe", at: at(5), payload: payload{TripID: "t2", Probe: "p"}})
		}, "not for this client"},
		"a probe twice":                    {func(s *scenario) { s.add(s.received[7]) }, "probe 1 came twice"},
		"an ack too many":                  {func(s *scenario) { s.strays = 1 }, "1 packets that nobody asked for"},
		"one besides those that came late": {func(s *scenario) { s.strays, s.c.gaveUp = 3, 2 }, "1 packets that nobody asked for"},
		"an event after a revocation":      {func(s *scenario) { s.revoked["p1/1"] = at(-7) }, "came 1s after the revoked session had to end"},
		"a connection after a revocation":  {func(s *scenario) { s.revoked["p1/1"] = at(45) }, "still connected 5s after it had to end"},
		"a revocation long after the storm": {func(s *scenario) {
			s.revoked["p1/1"] = at(10)
			s.redis = []span{bad(killRedis, 5, 40)}
		}, "still connected 10s after it had to end"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			c.fault(s)
			n, first := s.judgeIt()
			require.NotZero(t, n)
			require.Contains(t, fmt.Sprint(first), c.want)
			require.Contains(t, first[0], "seed 1, ")
			require.Contains(t, first[0], "p1 in /passengers on n0.1")
		})
	}
}

func TestOracle_AllowsCorrectTranscripts(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]func(*scenario){
		"all of it": func(*scenario) {},
		"what was published before hello": func(s *scenario) {
			s.remove(1)
			s.received[0].at, s.c.hello = at(1.5), at(1.5)
		},
		"what was under way at the end": func(s *scenario) {
			s.remove(6)
			s.c.end = at(4.5)
		},
		"what was under way at the end, of a node that was late": func(s *scenario) {
			s.remove(6)
			s.n1.late, s.c.end = []delay{{at(5), time.Second}}, at(6)
		},
		"what was under way at the end, to a node that was late": func(s *scenario) {
			s.remove(6)
			s.n0.late, s.c.end = []delay{{at(5), time.Second}}, at(6)
		},
		"what a trouble held back until the end": func(s *scenario) {
			s.remove(6)
			s.redis, s.c.end = []span{bad(pauseRedis, 4, 9)}, at(8)
		},
		"what nobody has handled yet": func(s *scenario) {
			s.remove(6)
			s.facts["t1/3"].handled, s.facts["t1/3"].first = nil, time.Time{}
		},
		"what was outdated": func(s *scenario) {
			s.remove(6)
			s.facts["t1/3"].handled[0].outdated = true
		},
		"a loss in a gap": func(s *scenario) {
			s.remove(2)
			s.n0.gaps = []report{{Since: at(1.5), Until: at(9)}}
		},
		"a loss with the node that emitted it": func(s *scenario) {
			s.remove(2)
			s.n1.killed, s.n1.over = true, at(3)
		},
		"a loss with a node that died before it reported": func(s *scenario) {
			s.remove(2)
			s.n1.killed, s.n1.over, s.facts["t1/1"].handled = true, at(3), nil
		},
		"a loss with a node that was cut off and killed": func(s *scenario) {
			s.remove(2)
			s.n1.killed, s.n1.over, s.n1.place.bad = true, at(8), []span{bad(cutPath, 1, 9)}
		},
		"a loss on a node that died before it could report the gap": func(s *scenario) {
			s.remove(2)
			s.n0.killed, s.n0.over, s.n0.place.bad, s.c.end = true, at(50), []span{bad(silence, 1, 45)}, at(50)
		},
		"a repeat by a node that took over": func(s *scenario) {
			s.add(ofTrip(9, "trip:started", "t1", 3))
			s.facts["t1/3"].handled = append(s.facts["t1/3"].handled, handling{by: s.n0, at: at(9)})
			s.n1.bad = []span{bad(stopNode, 4, 12)}
		},
		"a repeat by a node that took over from a stopped one, which reports last": func(s *scenario) {
			s.add(ofTrip(9, "trip:started", "t1", 3))
			s.handledAgain("t1/3", s.n0, 9)
			s.n1.bad = []span{bad(stopNode, 4.005, 12)}
		},
		"a repeat of what was published again": func(s *scenario) {
			s.add(ofTrip(9, "trip:started", "t1", 3))
			f := s.facts["t1/3"]
			f.again, f.handled = true, append(f.handled, handling{by: s.n0, at: at(9)})
		},
		"a repeat after a death": func(s *scenario) {
			s.add(ofTrip(9, "trip:started", "t1", 3))
			s.n1.killed, s.n1.over = true, at(4)
		},
		"an event that was published again, and came to another node after the later one": func(s *scenario) {
			s.emittedLate(nil)
			s.facts["t1/0"].again = true
			s.facts["t1/0"].handled = append(s.facts["t1/0"].handled, handling{by: s.n0, at: at(2.5)})
		},
		"an event that a silent path held while another node took over": func(s *scenario) {
			s.emittedLate([]span{bad(silence, 0.5, 9)})
		},
		"an event that a slow path held for longer than the next owner of the trip waits": func(s *scenario) {
			s.emittedLate([]span{bad(delayPath, 0.5, 9)})
			s.facts["t1/1"].handled[0].at = at(6)
		},
		"a revocation in time": func(s *scenario) { s.revoked["p1/1"] = at(55) },
		"a revocation in a storm": func(s *scenario) {
			s.revoked["p1/1"] = at(10)
			s.redis = []span{bad(killRedis, 5, 40)}
			s.n0.bad = []span{bad(stopNode, 45, 51)}
		},
		"a trouble that goes on": func(s *scenario) {
			s.revoked["p1/1"] = at(10)
			s.redis = []span{{from: at(15)}}
		},
		"the revocation of another device": func(s *scenario) {
			s.add(arrival{name: "auth:session_revoked", at: at(5), payload: payload{SID: "p1/9"}})
		},
		"acks that came late": func(s *scenario) { s.strays, s.c.gaveUp = 2, 2 },
		"a drain": func(s *scenario) {
			s.n0.leaving = true
			s.add(arrival{name: "server:drain", at: at(5)})
		},
		"an event of a trip that is forgotten": func(s *scenario) {
			s.forgotten["t0"] = forgotten{}
			s.add(ofTrip(5, "trip:started", "t0", 3))
		},
		"a position of a trip whose end no node knows": func(s *scenario) {
			s.forgotten["t0"] = forgotten{"p1", "d7", true}
			s.add(position(20, "t0", "d7", 1))
		},
		"a position that a silent path held": func(s *scenario) {
			s.received[4], s.received[5] = s.received[5], s.received[4]
			s.n1.place.bad = []span{bad(silence, 2.5, 9)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			allowed(s)
			n, first := s.judgeIt()
			require.Zero(t, n, "%v", first)
		})
	}
}
