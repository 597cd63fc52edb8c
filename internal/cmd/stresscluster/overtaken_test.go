//go:build unix

// The oracle excuses an offer that is over before it can arrive, and no other.

package main

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
)

var (
	d9     = rides.Audience{Namespace: realtime.NamespaceDrivers, User: "d9"}
	admins = rides.Audience{Namespace: realtime.NamespaceAdmin}
)

// offered is the scenario of a driver, on n0, to whom n1 has sent an offer at 10 s, which they did not receive. n2 handles
// at 12 s that the offer has ended.
type offered struct {
	*scenario
	offer, end *fact
	n2         *life
}

func newOffered() *offered {
	s := &offered{scenario: newScenario(), n2: &life{place: &place{name: "n2"}, name: "n2.3"}}
	s.lives = append(s.lives, s.n2)
	s.c.namespace, s.c.user, s.c.sid = realtime.NamespaceDrivers, "d9", "d9/1"
	s.received = []arrival{{name: "hello", at: at(0), payload: payload{UserID: "d9", SID: "d9/1"}}}
	s.offer = s.happens(10, s.n1, map[rides.Audience]string{d9: "trip:assignment:offered", admins: "trip:assignment:offered"})
	s.end = s.happens(12, s.n2, map[rides.Audience]string{admins: "trip:assignment:rejected"})
	return s
}

// happens publishes an event of the trip, which a node handles at once.
func (s *offered) happens(when float64, by *life, hears map[rides.Audience]string) *fact {
	f := s.facts[s.publishing("t9", hears)]
	f.at, f.taken, f.first, f.handled = at(when), at(when), at(when), []handling{{by: by, at: at(when)}}
	return f
}

// is changes what the end of the offer is.
func (s *offered) is(name string) { s.end.hears[admins] = name }

func TestOracle_OffersThatWereOverBeforeTheyCouldArrive(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*offered){
		"its node was stopped, and went on after the end": func(s *offered) { s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"its node has just gone on":                       func(s *offered) { s.n0.bad = []span{bad(stopNode, 9, 11)} },
		"its node was stopped a moment later":             func(s *offered) { s.n0.bad = []span{bad(stopNode, 10.05, 13)} },
		"its node's path was cut":                         func(s *offered) { s.n0.place.bad = []span{bad(cutPath, 9, 13)} },
		"its node's path was slow":                        func(s *offered) { s.n0.place.bad = []span{bad(delayPath, 9, 13)} },
		"the path of the node that handled it was slow":   func(s *offered) { s.n1.place.bad = []span{bad(delayPath, 9, 13)} },
		"Redis was stopped":                               func(s *offered) { s.redis = []span{bad(pauseRedis, 9, 13)} },
		"one trouble after the other": func(s *offered) {
			s.n0.bad, s.n0.place.bad = []span{bad(stopNode, 9, 10.2)}, []span{bad(silence, 11, 13)}
			s.end.handled[0].at = at(14)
		},
		"the machine lagged": func(s *offered) { s.lag.add(at(10.5), 300*time.Millisecond) },
		"its node has gone on, on a machine that lagged": func(s *offered) {
			s.n0.bad = []span{bad(stopNode, 9, 11)}
			s.lag.add(at(12.9), 100*time.Millisecond)
			s.end.handled[0].at = at(13)
		},
		"the end came at once":          func(s *offered) { s.end.handled[0].at = at(10.05) },
		"the end was handled before it": func(s *offered) { s.end.at, s.end.handled[0].at = at(9), at(9.5) },
		"the end was published at once, and nobody has reported it": func(s *offered) {
			s.end.at, s.end.handled = at(10.05), nil
		},
		"a node died that may have handled the end": func(s *offered) {
			s.end.at, s.n2.bad = at(10.05), []span{bad(killNode, 11, 20)}
		},
		"a node was stopped that may have handled the end": func(s *offered) {
			s.end.at, s.n2.bad = at(10.05), []span{bad(stopNode, 11, 11.9)}
		},
		"nobody knows who handled it, and its node was stopped": func(s *offered) {
			s.offer.handled, s.n0.bad = nil, []span{bad(stopNode, 9, 13)}
		},
		"its answer came late, but the trip was assigned": func(s *offered) {
			s.n0.bad = []span{bad(stopNode, 9, 13)}
			s.end.handled[0].at = at(30)
			s.happens(12, s.n2, map[rides.Audience]string{admins: "trip:driver_assigned"})
		},
		"accepted":  func(s *offered) { s.is("trip:assignment:accepted"); s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"expired":   func(s *offered) { s.is("trip:assignment:expired"); s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"withdrawn": func(s *offered) { s.is("trip:assignment:cancelled"); s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"the node that handled it has cancelled the trip": func(s *offered) {
			s.is("trip:cancelled")
			s.end.handled[0].by, s.n0.bad = s.n1, []span{bad(stopNode, 9, 13)}
		},
		"cancelled":  func(s *offered) { s.is("trip:cancelled"); s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"completed":  func(s *offered) { s.is("trip:completed"); s.n0.bad = []span{bad(stopNode, 9, 13)} },
		"it arrived": func(s *offered) { s.add(ofTrip(10, "trip:assignment:offered", "t9", 0)) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newOffered()
			change(s)
			n, first := s.judgeIt()
			require.Zero(t, n, "%v", first)
		})
	}
}

func TestOracle_OffersThatHadToArrive(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(*offered){
		"nothing was in trouble":                 func(*offered) {},
		"its node was stopped when it was there": func(s *offered) { s.n0.bad = []span{bad(stopNode, 10.5, 13)} },
		"its node went on long before the end":   func(s *offered) { s.n0.bad = []span{bad(stopNode, 9, 10.2)} },
		"its node was stopped long before":       func(s *offered) { s.n0.bad = []span{bad(stopNode, 2, 8)} },
		"its path was cut when it was there":     func(s *offered) { s.n0.place.bad = []span{bad(cutPath, 10.5, 13)} },
		"a third node was stopped":               func(s *offered) { s.n2.bad = []span{bad(stopNode, 9, 11.9)} },
		"a third node went on before it handled the end": func(s *offered) {
			s.end.at, s.n2.bad = at(10.05), []span{bad(stopNode, 9, 11.9)}
		},
		"the node that handled it died when it had arrived": func(s *offered) {
			s.n0.bad = []span{bad(stopNode, 9, 12.5)}
			s.n1.killed, s.n1.over, s.n1.bad = true, at(13), []span{bad(killNode, 13, 20)}
			s.end.at, s.end.handled[0].at = at(15), at(16)
		},
		"a third node died after the end": func(s *offered) { s.end.at, s.n2.bad = at(10.05), []span{bad(killNode, 12.5, 20)} },
		"the nodes were leaving": func(s *offered) {
			s.n0.bad, s.n1.bad = []span{bad(leaveNode, 9, 13)}, []span{bad(leaveNode, 9, 13)}
		},
		"its node was stopped, and one node handled it and the end": func(s *offered) {
			s.end.handled[0].by, s.n0.bad = s.n1, []span{bad(stopNode, 9, 13)}
		},
		"its node handled it itself": func(s *offered) {
			s.offer.handled[0].by, s.n0.bad = s.n0, []span{bad(stopNode, 9, 13)}
		},
		"the machine lagged long before":         func(s *offered) { s.lag.add(at(5), 300*time.Millisecond) },
		"the machine lagged after the end":       func(s *offered) { s.lag.add(at(14), 300*time.Millisecond) },
		"the machine lagged less":                func(s *offered) { s.lag.add(at(10.5), 100*time.Millisecond) },
		"the end was handled long after it came": func(s *offered) { s.end.at = at(10.05) },
		"nobody knows who handled it":            func(s *offered) { s.offer.handled = nil },
		"what came next did not end it": func(s *offered) {
			s.is("admin:trip:action_issued")
			s.n0.bad = []span{bad(stopNode, 9, 13)}
		},
		"it was another offer that ended": func(s *offered) {
			s.is("admin:trip:action_issued")
			s.happens(12.5, s.n1, map[rides.Audience]string{admins: "trip:assignment:rejected"})
			s.n0.bad = []span{bad(stopNode, 9, 13)}
		},
		"it is no offer": func(s *offered) {
			s.offer.hears[d9] = "trip:assignment:expired"
			s.n0.bad = []span{bad(stopNode, 9, 13)}
		},
		"nothing came after it": func(s *offered) {
			s.offer.trip.facts = s.offer.trip.facts[:1]
			s.n0.bad = []span{bad(stopNode, 9, 13)}
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newOffered()
			change(s)
			n, first := s.judgeIt()
			require.Equal(t, 1, n, "%v", first)
			require.Contains(t, first[0], "t9/0 was lost: emitted 10.00s after hello, 50.00s before the end; t9/0 published at 10.00s")
		})
	}
}

// Who reads a breach sees what ended the offer.
func TestOracle_ALostOfferNamesTheNextEvent(t *testing.T) {
	t.Parallel()
	s := newOffered()
	_, first := s.judgeIt()
	require.Contains(t, first[0], "t9/1 published at 12.00s, handled at 12.000s by n2.3")
}
