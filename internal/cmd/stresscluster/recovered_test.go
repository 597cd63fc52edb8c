//go:build unix

// The oracle finds what is wrong with clients that come back, and nothing else.

package main

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/realtimetest"
)

// comingBack is the scenario of a client that lost its connection at 2.5 s, missed what came until 4 s,
// and came back at 20 s to the same node. received is what it gets then.
type comingBack struct {
	*scenario
	first []arrival
	again *connection
}

func newComingBack() *comingBack {
	s := &comingBack{scenario: newScenario()}
	s.recovery = true
	all := s.received
	s.first = []arrival{greeting(0, false, -1), all[1], all[2]}
	s.c.end = at(2.5)
	s.received = []arrival{all[3], all[5], all[6], greeting(20, true, 3)}
	s.again = &connection{
		Client: s.c.Client, life: s.n0, namespace: s.c.namespace, user: s.c.user, sid: s.c.sid, hello: at(20), end: at(60),
		joined: map[string]bool{}, former: s.c, recovered: true,
	}
	return s
}

// isNew makes the client connect as a new one.
func (s *comingBack) isNew() {
	s.received, s.again.recovered = []arrival{greeting(20, false, -1)}, false
}

// lostInGap makes the client miss t1/1 on n0, which had a gap then, and receive t1/2 there. Something held the former
// until its end, so that only the last connection is judged. It comes back to n1.
func (s *comingBack) lostInGap() {
	s.first, s.received = []arrival{s.first[0], s.first[1], s.received[0]}, []arrival{s.received[1], s.received[2], greeting(20, true, 2)}
	s.c.end, s.again.life = at(3.2), s.n1
	s.n0.gaps = []report{{Since: at(1.5), Until: at(2.5), At: at(2.5)}}
	s.n0.place.bad = []span{bad(cutPath, 1.5, 2.4)}
}

func greeting(when float64, recovered bool, missed int) arrival {
	a := arrival{name: "hello", at: at(when), offset: true, payload: payload{UserID: "p1", SID: "p1/1", Recovered: &recovered}}
	if missed >= 0 {
		a.Missed = &missed
	}
	return a
}

func (s *comingBack) judgeIt() (n int, first []string) {
	s.mu.Lock()
	s.judgeLocked(s.c, s.first, 0)
	s.judgeLocked(s.again, s.received, 0)
	s.mu.Unlock()
	return s.verdict()
}

func TestOracle_FindsFaultsOfRecovery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func(*comingBack)
		want  string
	}{
		"a missed event is lost": {func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2)}
		}, "trip:started t1/3 was lost"},
		"a missed event comes behind hello": {func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2), ofTrip(21, "trip:started", "t1", 3)}
		}, "t1/3 was emitted 16s before hello, and came behind it"},
		"a loss in a gap that its node knew": {func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2)}
			s.n0.gaps = []report{{Since: at(3.5), Until: at(10), At: at(10)}}
		}, "trip:started t1/3 was lost"},
		"a loss in a gap while it was connected, and nothing came since": {func(s *comingBack) {
			s.lostInGap()
			s.first = s.first[:2]
		}, "trip:assigning_started t1/1 was lost"},
		"the same, and its connection lasted": {func(s *comingBack) {
			s.lostInGap()
			s.first, s.c.end = s.first[:2], at(9)
			s.n0.place.bad = nil
		}, "trip:assigning_started t1/1 was lost"},
		"a loss without a gap, and something came since": {func(s *comingBack) {
			s.lostInGap()
			s.n0.gaps = nil
		}, "trip:assigning_started t1/1 was lost"},
		"a loss in the gap of a node that it was not on": {func(s *comingBack) {
			s.lostInGap()
			s.n1.gaps, s.n0.gaps = s.n0.gaps, nil
		}, "trip:assigning_started t1/1 was lost"},
		"a loss in a gap of its node, after its end": {func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2)}
			s.n0.gaps, s.again.life = []report{{Since: at(3.5), Until: at(9), At: at(9)}}, s.n1
		}, "trip:started t1/3 was lost"},
		"an event comes again": {func(s *comingBack) {
			s.received = append([]arrival{s.first[2]}, s.received[0], s.received[1], s.received[2], greeting(20, true, 4))
		}, "t1/1 came twice"},
		"out of order": {func(s *comingBack) { s.received[0], s.received[2] = s.received[2], s.received[0] }, "t1/2 arrived after t1/3"},
		"an older one than before": {func(s *comingBack) {
			s.first[2], s.received[0] = s.received[0], s.first[2]
		}, "t1/1 arrived after t1/2"},
		"the wrong number": {func(s *comingBack) { s.received[3] = greeting(20, true, 2) }, "wrong number of missed events; 3 came"},
		"no number":        {func(s *comingBack) { s.received[3] = greeting(20, true, -1) }, "wrong number of missed events; 3 came"},
		"a part of what was missed": {func(s *comingBack) {
			s.received, s.again.recovered = []arrival{s.received[0], greeting(20, false, -1)}, false
		}, "1 events came before hello, but it has not recovered"},
		"a number without recovery": {func(s *comingBack) {
			s.isNew()
			s.received[0] = greeting(20, false, 0)
		}, "but it has not recovered"},
		"what was missed, without recovery": {func(s *comingBack) {
			s.isNew()
			s.received = append(s.received, ofTrip(21, "trip:started", "t1", 3))
		}, "t1/3 was emitted 16s before hello, and came, although it has not recovered"},
		"no claim":            {func(s *comingBack) { s.again.former = nil }, "has recovered, but had no claim"},
		"no word of recovery": {func(s *comingBack) { s.first[0].Recovered = nil }, "hello says nothing of recovery"},
		"without an offer":    {func(s *comingBack) { s.recovery = false }, "or too much"},
		"a probe twice": {func(s *comingBack) {
			p := arrival{name: "stress:probe", at: at(2), payload: payload{TripID: "t1", Probe: "probe 1"}}
			s.first, s.received = append(s.first, p), append(s.received, p)
		}, "probe 1 came twice"},
		"an older position": {func(s *comingBack) {
			s.first = append(s.first, position(9, "t1", "d1", 1))
		}, "older than the one before"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newComingBack()
			c.fault(s)
			n, first := s.judgeIt()
			require.NotZero(t, n)
			require.Contains(t, fmt.Sprint(first), c.want)
		})
	}
}

func TestOracle_AllowsCorrectReturns(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]func(*comingBack){
		"recovered":     func(*comingBack) {},
		"not recovered": func(s *comingBack) { s.isNew() },
		"a position again": func(s *comingBack) {
			s.first = append(s.first, s.received[1])
		},
		"a loss in a gap, which its node reported later": func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2)}
			s.n0.gaps = []report{{Since: at(3.5), Until: at(30), At: at(30)}}
		},
		"a loss with the node that emitted it": func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2)}
			s.n1.killed, s.n1.over = true, at(5)
		},
		"an event that is excused is excused once": func(s *comingBack) {
			s.first, s.received = []arrival{s.first[0], s.first[1], s.received[0]}, []arrival{s.received[1], s.received[2], greeting(20, true, 2)}
			s.c.end = at(3.9)
			s.n0.gaps = []report{{Since: at(1.5), Until: at(2.5), At: at(2.5)}}
		},
		"a loss in a gap while it was connected, and something came since": func(s *comingBack) { s.lostInGap() },
		"the same, and it came back twice": func(s *comingBack) {
			s.lostInGap()
			once := *s.again
			once.hello, once.end = at(3.5), at(3.6)
			s.mu.Lock()
			s.judgeLocked(s.c, s.first, 0)
			s.judgeLocked(&once, []arrival{greeting(3.5, true, 0)}, 0)
			s.mu.Unlock()
			s.again.former = &once
		},
		"an event that a silent path held": func(s *comingBack) {
			s.received = []arrival{s.received[0], s.received[1], greeting(20, true, 2), ofTrip(21, "trip:started", "t1", 3)}
			s.n1.place.bad = []span{bad(silence, 3.5, 20.5)}
		},
		"an event that was handled again": func(s *comingBack) {
			s.isNew()
			s.received = append(s.received, ofTrip(21, "trip:started", "t1", 3))
			s.facts["t1/3"].handled = append(s.facts["t1/3"].handled, handling{by: s.n0, at: at(20.9)})
		},
		"an event that was just being emitted": func(s *comingBack) {
			s.again.hello = at(4.5)
			s.received = []arrival{s.received[0], s.received[1], greeting(4.5, true, 2), ofTrip(4.6, "trip:started", "t1", 3)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newComingBack()
			allowed(s)
			n, first := s.judgeIt()
			require.Zero(t, n, "%v", first)
		})
	}
}

// A driver who was away gets a running offer behind hello, and none that has ended.
func TestOracle_OffersDoNotTakePartInRecovery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		made     float64
		comes    bool
		breaches int
	}{
		"it comes behind hello": {3, true, 0},
		"it does not come":      {3, false, 0},
		"it came back before":   {21, false, 1},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newComingBack()
			f := s.facts[s.publishing("t9", map[rides.Audience]string{{Namespace: realtime.NamespaceDrivers, User: "p1"}: "trip:assignment:offered"})]
			f.at, f.taken, f.first, f.handled = at(c.made), at(c.made), at(c.made), []handling{{by: s.n1, at: at(c.made)}}
			for _, c := range []*connection{s.c, s.again} {
				c.namespace = realtime.NamespaceDrivers
			}
			s.first, s.received = s.first[:1], []arrival{greeting(20, true, 0)}
			if c.comes {
				s.received = append(s.received, ofTrip(20, "trip:assignment:offered", "t9", 0))
			}
			n, first := s.judgeIt()
			require.Equal(t, c.breaches, n, "%v", first)
		})
	}
}

func TestOracle_Lost(t *testing.T) {
	t.Parallel()
	s := newScenario()
	s.lost(s.c, comeback.Claim{})
	require.Empty(t, s.closed, "it has ended before")
	open := &connection{life: s.n0, namespace: s.c.namespace, user: "p2"}
	s.connected(open)
	heard := []realtimetest.Received{{Event: "hello"}}
	s.lost(open, comeback.Claim{Received: heard})
	require.Equal(t, heard, open.cut)
	require.Equal(t, []*connection{open}, s.closed)
	require.Empty(t, s.open)
	end := open.end
	s.ended(open, at(99))
	require.Equal(t, end, open.end)
	require.Len(t, s.closed, 1)
}

func TestOracle_OneWinner(t *testing.T) {
	t.Parallel()
	s := newScenario()
	other := &connection{life: s.n1, recovered: true}
	s.requireOneWinner(s.c, other, noon)
	s.requireOneWinner(other, nil, noon)
	s.c.recovered = true
	for _, silent := range []*place{s.n0.place, s.n1.place} {
		silent.bad = []span{bad(silence, -1, 1)}
		s.requireOneWinner(s.c, other, noon)
		silent.bad = nil
	}
	n, _ := s.verdict()
	require.Zero(t, n)
	s.n0.place.bad, s.n1.place.bad = []span{bad(delayPath, -1, 1)}, []span{bad(silence, -2, -1)}
	s.requireOneWinner(s.c, other, noon)
	n, first := s.verdict()
	require.Equal(t, 1, n)
	require.Contains(t, first[0], "two devices have recovered one connection, on n0.1 and n1.2")
}

func TestOracle_CameBack(t *testing.T) {
	t.Parallel()
	s := newComingBack()
	client := realtimetest.NewServer(t).Driver(t, "d1")
	s.c.Client = client
	require.Equal(t, comeback.Unnoticed, s.cameBack(s.c, s.again))
	client.Drop()
	require.Equal(t, comeback.SameNode, s.cameBack(s.c, s.again))
	s.again.life = s.n1
	require.Equal(t, comeback.AnotherNode, s.cameBack(s.c, s.again))
	s.n0.leaving = true
	require.Equal(t, comeback.AfterLeave, s.cameBack(s.c, s.again))
	s.n0.killed = true
	require.Equal(t, comeback.AfterKill, s.cameBack(s.c, s.again))
}
