//go:build unix

// What faults excuse of an offer, and the host's endpoint for answers.

package main

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestOracle_SlackOf(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		handled time.Time
		change  func(*scenario)
		late    time.Duration
		ok      bool
	}{
		"all is well":                        {at(10), func(*scenario) {}, 0, true},
		"it was handled late":                {at(11), func(*scenario) {}, time.Second, true},
		"a trouble that was long before":     {at(10), func(s *scenario) { s.redis = []span{bad(killRedis, -9, -1)} }, 0, true},
		"a trouble shortly before":           {at(10), func(s *scenario) { s.redis = []span{bad(killRedis, 0, 5)} }, 0, false},
		"a trouble that came later":          {at(10), func(s *scenario) { s.redis = []span{bad(killRedis, 16, 20)} }, 0, true},
		"a silent path":                      {at(10), func(s *scenario) { s.n0.place.bad = []span{bad(silence, 11, 12)} }, 0, false},
		"a slow path":                        {at(10), func(s *scenario) { s.n0.place.bad = []span{bad(delayPath, 11, 12)} }, 2 * time.Second, true},
		"a node died later":                  {at(10), func(s *scenario) { s.n0.bad = []span{bad(killNode, 13, 20)} }, survives, true},
		"a node had died":                    {at(10), func(s *scenario) { s.n0.bad = []span{bad(killNode, 7, 20)} }, survives, true},
		"a node died when it was handled":    {at(10), func(s *scenario) { s.n0.bad = []span{bad(killNode, 10.1, 20)} }, 0, false},
		"a node died, and nobody handled it": {time.Time{}, func(s *scenario) { s.n0.bad = []span{bad(killNode, 13, 20)} }, 0, false},
		"a node left later":                  {at(10), func(s *scenario) { s.n0.bad = []span{bad(leaveNode, 13, 20)} }, survives, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			c.change(s)
			late, ok := s.slackOf(c.handled, at(10), at(15))
			require.Equal(t, c.ok, ok)
			if ok {
				require.Equal(t, c.late, late)
			}
		})
	}
}

// A node asks the host about an answer, and the client gets what the host says.
func TestRows_Answer(t *testing.T) {
	t.Parallel()
	asked := make(chan offerAnswer, 2)
	d, err := openDatabase(answers(func(in offerAnswer) offerOutcome {
		asked <- in
		if in.Accepts {
			return offerOutcome{Trip: "t1"}
		}
		return offerOutcome{Code: realtime.CodeConflict}
	}))
	require.NoError(t, err)
	defer d.close()
	r := &rows{url: d.url}
	trip, err := r.AcceptOffer(t.Context(), "d1", "a1")
	require.NoError(t, err)
	require.Equal(t, "t1", trip)
	require.Equal(t, offerAnswer{"d1", "a1", true}, <-asked)
	err = r.RejectOffer(t.Context(), "d1", "a2", "")
	refusal, ok := errors.AsType[*realtime.Error](err)
	require.True(t, ok, "%v", err)
	require.Equal(t, realtime.CodeConflict, refusal.Code)
	require.Equal(t, offerAnswer{"d1", "a2", false}, <-asked)
}

// What the server publishes itself about an offer has no fact, and still has an audience.
func TestOracle_OffersOfTheServer(t *testing.T) {
	t.Parallel()
	expired := arrival{name: "trip:assignment:expired", at: at(5), payload: payload{EventID: "e", TripID: "t1", DriverID: "p1"}}
	played := arrival{name: "trip:assignment:offered", at: at(5), payload: payload{EventID: "e2", TripID: "xo1-2"}}
	for name, c := range map[string]struct {
		namespace string
		a         arrival
		want      string
	}{
		"it expires for its driver":      {realtime.NamespaceDrivers, expired, ""},
		"it expires for a passenger":     {realtime.NamespacePassengers, expired, "is not for this client"},
		"an admin hears of those played": {realtime.NamespaceAdmin, played, ""},
		"a driver hears of another's":    {realtime.NamespaceDrivers, played, "nobody published"},
		"it expires for another driver":  {realtime.NamespaceDrivers, arrival{name: expired.name, at: at(5), payload: payload{EventID: "e", DriverID: "d7"}}, "is not for this client"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := newScenario()
			s.c.namespace = c.namespace
			s.heard = nil
			s.received = []arrival{s.received[0], c.a}
			n, first := s.judgeIt()
			require.Equal(t, c.want != "", n == 1, "%v", first)
			require.Contains(t, fmt.Sprint(first), c.want)
		})
	}
}
