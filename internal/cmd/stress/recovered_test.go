// The oracle finds what is wrong with clients that come back, and nothing else.

package main

import (
	"bytes"
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/realtimetest"
)

// newReturn is the scenario of a client that lost its connection at 2 s, missed what came until 3 s, and
// came back at 4 s. first is what it received until then, and second what it received after it.
func newReturn() (o *oracle, first, second *transcript) {
	o, first = newScenario()
	o.recovery = true
	all := first.received
	first.received = append([]realtimetest.Received{greeting(0, `,"recovered":false`)}, all[1:3]...)
	first.sure = time.Time{}
	again := *first
	again.received = []realtimetest.Received{all[3], all[4], greeting(4, `,"recovered":true,"missed":2`), all[6]}
	again.sure = at(10)
	return o, first, &again
}

func greeting(when int, more string) realtimetest.Received {
	return received(when, "hello", `{"userId":"p1","sid":"s1"`+more+`}`)
}

// isNew makes the second connection one that did not recover.
func isNew(second *transcript) {
	second.received = []realtimetest.Received{greeting(4, `,"recovered":false`), second.received[3]}
}

// judgeReturn judges both connections. Everything up to 3.5 s was handled before the client came back.
func judgeReturn(o *oracle, first, second *transcript) (n int, texts []string) {
	second.former = &former{judged: o.judge(*first), epoch: first.epoch, due: at(3).Add(500 * time.Millisecond), numbers: second.series}
	o.judge(*second)
	return o.verdict()
}

func TestOracle_FindsFaultsOfRecovery(t *testing.T) {
	t.Parallel()
	type fault func(o *oracle, first, second *transcript)
	for name, c := range map[string]struct {
		fault fault
		want  string
	}{
		"a missed event is lost": {func(_ *oracle, _, s *transcript) {
			s.received = append([]realtimetest.Received{s.received[1], greeting(4, `,"recovered":true,"missed":1`)}, s.received[3:]...)
		}, "t1/2 was missed, and is not among what it recovered"},
		"a missed event comes behind hello": {func(_ *oracle, _, s *transcript) {
			s.received = []realtimetest.Received{s.received[1], greeting(4, `,"recovered":true,"missed":1`), s.received[0], s.received[3]}
		}, "t1/2 was missed, and is not among what it recovered"},
		"an event comes again": {func(_ *oracle, f, s *transcript) {
			s.received = append([]realtimetest.Received{f.received[2], s.received[0], s.received[1], greeting(4, `,"recovered":true,"missed":3`)}, s.received[3:]...)
		}, "came twice"},
		"missed events out of order": {func(_ *oracle, f, s *transcript) {
			s.received = []realtimetest.Received{s.received[0], f.received[2], greeting(4, `,"recovered":true,"missed":2`)}
			f.received = f.received[:2]
		}, "t1/1 was lost: t1/2 came"},
		"a live event before a missed one": {func(_ *oracle, _, s *transcript) {
			s.received[0], s.received[3] = s.received[3], s.received[0]
		}, "was lost: t1/3 came"},
		"the wrong number": {func(_ *oracle, _, s *transcript) {
			s.received[2] = greeting(4, `,"recovered":true,"missed":3`)
		}, "the wrong number of missed events; 2 came"},
		"no number": {func(_ *oracle, _, s *transcript) {
			s.received[2] = greeting(4, `,"recovered":true`)
		}, "the wrong number of missed events; 2 came"},
		"a number without recovery": {func(_ *oracle, _, s *transcript) {
			isNew(s)
			s.received[0] = greeting(4, `,"recovered":false,"missed":0`)
		}, "has not recovered"},
		"a part of what was missed": {func(_ *oracle, _, s *transcript) {
			s.received[2] = greeting(4, `,"recovered":false`)
		}, "2 events came before hello, but it has not recovered"},
		"what was missed comes behind hello, without recovery": {func(_ *oracle, _, s *transcript) {
			missed := s.received[0]
			isNew(s)
			s.received = append(s.received[:1:1], missed, s.received[1])
		}, "t1/2 was handled before it came back, and came, although it has not recovered"},
		"no word of recovery":             {func(_ *oracle, f, _ *transcript) { f.received[0] = greeting(0, "") }, "hello says nothing of recovery"},
		"recovery without an offer of it": {func(o *oracle, _, _ *transcript) { o.recovery = false }, "or too much"},
		"recovery without a claim": {func(_ *oracle, f, _ *transcript) {
			f.received[0] = greeting(0, `,"recovered":true,"missed":0`)
		}, "has recovered, but had no claim"},
		"a number of the series is missing": {func(_ *oracle, _, s *transcript) { s.series = 1 }, "recovered 0 numbers of a series of 1 before hello"},
		"a number of the series comes again": {func(_ *oracle, f, s *transcript) {
			f.received = append(f.received, received(2, "stress:series", `{"sid":"s1","number":1}`))
			s.received = append(s.received, received(5, "stress:series", `{"sid":"s1","number":1}`))
		}, "number 1 of a series arrived after 1"},
		"a number of the former series": {func(_ *oracle, _, s *transcript) {
			isNew(s)
			s.epoch, s.series = 1, 1
			s.received = append(s.received, received(5, "stress:series", `{"sid":"s1","number":1}`))
		}, "number 1 of the former series came"},
		"a position again, behind hello": {func(_ *oracle, f, s *transcript) {
			f.received = append(f.received, s.received[1])
			s.received = []realtimetest.Received{s.received[0], greeting(4, `,"recovered":true,"missed":1`), s.received[1], s.received[3]}
		}, "came twice"},
		"an older position": {func(_ *oracle, f, _ *transcript) {
			f.received = append(f.received, position(4, "t1", "d1", 1))
		}, "older than the one before"},
		"no snapshot": {func(o *oracle, f, _ *transcript) {
			o.snapshots = true
			f.received = f.received[:1]
		}, "trip:started came behind hello, not the snapshot"},
		"a snapshot after recovery": {func(_ *oracle, _, s *transcript) {
			s.received = append(s.received, received(5, "trip:sync", `{}`))
		}, "a snapshot came, which was not due"},
		"two snapshots": {func(o *oracle, f, _ *transcript) {
			o.snapshots = true
			f.received = append(f.received[:1], received(1, "trip:sync", `{}`), received(1, "trip:sync", `{}`))
		}, "a snapshot came, which was not due"},
		"two arguments that are no offset": {func(_ *oracle, _, s *transcript) {
			s.received[3].Args = append(s.received[3].Args, json.RawMessage(`7`))
		}, "has 2 arguments"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, first, second := newReturn()
			c.fault(o, first, second)
			if name == "no snapshot" {
				isNew(second)
			}
			n, texts := judgeReturn(o, first, second)
			require.NotZero(t, n)
			require.Contains(t, fmt.Sprint(texts), c.want)
		})
	}
}

func TestOracle_AllowsCorrectReturns(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]func(o *oracle, first, second *transcript){
		"recovered":     func(*oracle, *transcript, *transcript) {},
		"not recovered": func(_ *oracle, _, s *transcript) { isNew(s) },
		"with offsets": func(_ *oracle, f, s *transcript) {
			for _, all := range [][]realtimetest.Received{f.received, s.received} {
				for i := range all {
					all[i].Args = append(all[i].Args, json.RawMessage(`"offset"`))
				}
			}
		},
		"snapshots": func(o *oracle, f, _ *transcript) {
			o.snapshots = true
			f.received = append([]realtimetest.Received{f.received[0], received(1, "trip:sync", `{}`)}, f.received[1:]...)
		},
		"a position again": func(_ *oracle, f, s *transcript) {
			f.received = append(f.received, s.received[1])
		},
		"numbers": func(_ *oracle, f, s *transcript) {
			s.series = 2
			f.received = append(f.received, received(2, "stress:series", `{"sid":"s1","number":1}`))
			s.received = append([]realtimetest.Received{s.received[0], s.received[1], received(4, "stress:series", `{"sid":"s1","number":2}`), greeting(4, `,"recovered":true,"missed":3`)}, s.received[3:]...)
		},
		"a new number of the former connection, which another device has": func(_ *oracle, _, s *transcript) {
			isNew(s)
			s.epoch = 1
			s.received = append(s.received, received(5, "stress:series", `{"sid":"s1","number":9}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, first, second := newReturn()
			allowed(o, first, second)
			n, texts := judgeReturn(o, first, second)
			require.Zero(t, n, "%v", texts)
		})
	}
}

// An offer that the next event of its trip ends need not reach a node that hears of that first.
func TestOracle_OffersThatAreOvertaken(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		next, lag time.Duration
		want      bool
	}{
		"at once":            {50 * time.Millisecond, 0, true},
		"later":              {time.Second, 0, false},
		"the machine lagged": {time.Second, 2 * time.Second, true},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOracle()
			o.lag = func(time.Time) time.Duration { return c.lag }
			offer, answer := &fact{at: at(1)}, &fact{at: at(1).Add(c.next), seq: 1}
			offer.trip = &trip{facts: []*fact{offer}}
			require.False(t, o.overtaken(offer), "it is the last event")
			offer.trip.facts = append(offer.trip.facts, answer)
			require.Equal(t, c.want, o.overtaken(offer))
		})
	}
}

// A driver who was away gets a running offer after hello, and no more of one that has ended.
func TestOracle_OffersDoNotTakePartInRecovery(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		received string
		away     bool
		breaches int
	}{
		"it comes after hello":     {"trip:assignment:offered", true, 0},
		"it does not come":         {"", true, 0},
		"it was connected then":    {"", false, 1},
		"it had it before it left": {"trip:assignment:offered", false, 0},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, first, second := newReturn()
			f := o.facts[o.publishing("t9", map[rides.Audience]string{{Namespace: realtime.NamespaceDrivers, User: "p1"}: "trip:assignment:offered"})]
			f.at, f.taken = at(3), at(3)
			if !c.away {
				f.at, f.taken = at(5), at(5)
			}
			for _, s := range []*transcript{first, second} {
				s.namespace = realtime.NamespaceDrivers
			}
			first.received, second.received = first.received[:1], []realtimetest.Received{greeting(4, `,"recovered":true,"missed":0`)}
			if c.received != "" {
				second.received = append(second.received, ofTrip(5, c.received, "t9", 0), ofTrip(6, c.received, "t9", 0))
			}
			n, texts := judgeReturn(o, first, second)
			require.Equal(t, c.breaches, n, "%v", texts)
		})
	}
}

func TestOracle_ClaimsOfOthers(t *testing.T) {
	t.Parallel()
	claim := comeback.Claim{ID: "i", PID: "p"}
	for name, c := range map[string]struct {
		check func(o *oracle)
		want  string
	}{
		"the same":    {func(o *oracle) { o.requireSame("p1", claim, "i", "p") }, ""},
		"another id":  {func(o *oracle) { o.requireSame("p1", claim, "j", "p") }, "another id or pid"},
		"another pid": {func(o *oracle) { o.requireSame("p1", claim, "i", "q") }, "another id or pid"},
		"one winner":  {func(o *oracle) { o.requireOneWinner("p1", true, false) }, ""},
		"no winner":   {func(o *oracle) { o.requireOneWinner("p1", false, false) }, ""},
		"two winners": {func(o *oracle) { o.requireOneWinner("p1", true, true) }, "two devices have recovered one connection"},
		"refused": {func(o *oracle) {
			o.requireRefused("p1", []string{`44/drivers,{"data":{"code":"user_inactive"}}`}, realtime.CodeUserInactive)
		}, ""},
		"refused otherwise": {func(o *oracle) {
			o.requireRefused("p1", []string{`44/drivers,{"data":{"code":"unavailable"}}`}, realtime.CodeUserInactive)
		}, "is not user_inactive alone: 44"},
		"an event first": {func(o *oracle) {
			o.requireRefused("p1", []string{`42/drivers,["a"]`, `44/drivers,{"data":{"code":"user_inactive"}}`}, realtime.CodeUserInactive)
		}, "alone: 42 44"},
		"connected": {func(o *oracle) { o.requireRefused("p1", []string{`40/drivers,{}`}, realtime.CodeUserInactive) }, "alone: 40"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := newOracle()
			c.check(o)
			n, texts := o.verdict()
			require.Equal(t, c.want != "", n == 1)
			require.Contains(t, fmt.Sprint(texts), c.want)
		})
	}
}

// Clients that send an old offset get again what they have, as if the server did not know it.
func TestRun_FindsWhatIsRecoveredTwice(t *testing.T) {
	var out bytes.Buffer
	n := run(config{seed: 3, length: 2 * time.Minute, enough: []string{"came twice"}, clients: 40, out: &out, recovery: true, plant: "old offset"})
	require.NotZero(t, n, "%s", &out)
	require.Contains(t, out.String(), "came twice")
}
