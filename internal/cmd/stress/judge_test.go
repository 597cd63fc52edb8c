// The oracle finds what is wrong, and nothing else: one that can't fail proves
// nothing.

package main

import (
	"encoding/json"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/rides"
	"github.com/rodando/realtime/realtimetest"
)

// noon is when the connection of these tests said hello.
var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func at(seconds int) time.Time { return noon.Add(time.Duration(seconds) * time.Second) }

// newScenario is an oracle that knows of one trip, of p1 with d1, of which an event was
// published each second from 1 s to 4 s, and of a trip of p2; and what p1 received.
func newScenario() (*oracle, *transcript) {
	o := newOracle()
	o.opened("s1", "p1")
	o.opened("s2", "p2")
	p1, p2, admin := rides.AudienceOf(realtime.NamespacePassengers, "p1"), rides.AudienceOf(realtime.NamespacePassengers, "p2"), rides.Audience{Namespace: realtime.NamespaceAdmin}
	publish := func(trip string, when int, hears map[rides.Audience]string) {
		f := o.facts[o.publishing(trip, hears)]
		f.at, f.taken = at(when), at(when)
	}
	for i, name := range []string{"trip:requested", "trip:assigning_started", "trip:driver_assigned", "trip:started"} {
		publish("t1", i+1, map[rides.Audience]string{p1: name, admin: name})
	}
	publish("t2", 2, map[rides.Audience]string{p2: "trip:requested", admin: "trip:requested"})
	o.assign("t1", "p1", "d1")
	o.assign("t2", "p2", "d2")
	return o, &transcript{
		namespace: realtime.NamespacePassengers, user: "p1", sid: "s1", sure: at(10), joined: map[string]bool{},
		received: []realtimetest.Received{
			received(0, "hello", `{"userId":"p1","sid":"s1"}`),
			ofTrip(1, "trip:requested", "t1", 0),
			ofTrip(2, "trip:assigning_started", "t1", 1),
			ofTrip(3, "trip:driver_assigned", "t1", 2),
			position(3, "t1", "d1", 1),
			position(4, "t1", "d1", 1),
			ofTrip(4, "trip:started", "t1", 3),
		},
	}
}

func received(when int, event, payload string) realtimetest.Received {
	return realtimetest.Received{Event: event, At: at(when), Raw: realtime.Raw{Args: []json.RawMessage{json.RawMessage(payload)}}}
}

func ofTrip(when int, event, trip string, seq int) realtimetest.Received {
	return received(when, event, fmt.Sprintf(`{"eventId":"%s/%d","tripId":%q}`, trip, seq, trip))
}

func position(when int, trip, driver string, epoch int) realtimetest.Received {
	return received(when, "trip:driver_location", fmt.Sprintf(
		`{"eventId":"l%d-%d","tripId":%q,"driverId":%q,"lastLocationTimestamp":%q,"speed":%d}`,
		when, epoch, trip, driver, at(when).Format(time.RFC3339), epoch))
}

func TestOracle_FindsFaults(t *testing.T) {
	t.Parallel()
	add := func(r realtimetest.Received) func(*oracle, *transcript) {
		return func(_ *oracle, t *transcript) { t.received = append(t.received, r) }
	}
	remove := func(i int) func(*oracle, *transcript) {
		return func(_ *oracle, t *transcript) { t.received = append(t.received[:i], t.received[i+1:]...) }
	}
	swap := func(i, j int) func(*oracle, *transcript) {
		return func(_ *oracle, t *transcript) {
			t.received[i], t.received[j] = t.received[j], t.received[i]
		}
	}
	for name, c := range map[string]struct {
		fault func(*oracle, *transcript)
		want  string
	}{
		"a duplicate":                   {add(ofTrip(5, "trip:started", "t1", 3)), "came twice"},
		"out of order":                  {swap(1, 2), "after a later event"},
		"an event of a stranger":        {add(ofTrip(5, "trip:requested", "t2", 0)), "not for this client"},
		"an event under another name":   {add(ofTrip(5, "trip:completed", "t1", 3)), "not for this client"},
		"an event of nobody":            {add(ofTrip(5, "trip:started", "t1", 9)), "nobody published"},
		"an event of another trip":      {add(received(5, "trip:started", `{"eventId":"t1/3","tripId":"t2"}`)), "names another trip"},
		"no event id":                   {add(received(5, "trip:started", `{"tripId":"t1"}`)), "has none"},
		"a missing event in the middle": {remove(2), "was lost"},
		"a missing event at the end":    {remove(6), "trip:started t1/3 was lost"},
		"a missing event at the start":  {remove(1), "trip:requested t1/0 was lost"},
		"a gap, though nothing is sure": {func(_ *oracle, t *transcript) {
			remove(2)(nil, t)
			t.sure = time.Time{}
		}, "trip:assigning_started t1/1 was lost: t1/2 came"},
		"after revocation": {func(o *oracle, _ *transcript) { o.barred["s1"] = at(2) }, "after the session's end"},
		"a position after revocation": {func(o *oracle, t *transcript) {
			o.barred["s1"] = at(5)
			add(position(6, "t1", "d1", 1))(o, t)
		}, "was sent 1s after the session's end"},
		"another's revocation":           {add(received(5, "auth:session_revoked", `{"eventId":"r","sid":"s2"}`)), "not for this client"},
		"a number of another session":    {add(received(5, "stress:series", `{"sid":"s2","number":1}`)), "not for this client"},
		"no hello":                       {remove(0), "no hello"},
		"hello twice":                    {add(received(5, "hello", `{"userId":"p1","sid":"s1"}`)), "hello came twice"},
		"another's hello":                {func(_ *oracle, t *transcript) { t.user = "p3" }, "another user"},
		"a position of a strange driver": {add(position(5, "t1", "d2", 1)), "not on the trip"},
		"a position of another's trip":   {add(position(5, "t2", "d2", 1)), "not for this client"},
		"a position after the trip":      {func(o *oracle, _ *transcript) { o.trips["t1"].over = at(3) }, "was sent 1s after the trip's end"},
		"positions that go back":         {swap(4, 5), "older than the one before"},
		"a drain that is none":           {add(received(5, "server:drain", `{"reconnectAfterMs":1}`)), "not for this client"},
		"another's bulk":                 {add(received(5, "stress:bulk", `{"userId":"p2"}`)), "not for this client"},
		"a driver's status":              {add(received(5, "driver:availability:update", `{"eventId":"a","driverId":"p1"}`)), "not for this client"},
		"an admin's event":               {add(received(5, "admin:driver:location:update", `{"eventId":"a","driverId":"d1"}`)), "not for this client"},
		"an unknown event":               {add(received(5, "debug", `{"eventId":"x"}`)), "nobody published"},
		"a payload that is none":         {add(received(5, "trip:started", `[]`)), "can't be read"},
		"an ack too many":                {func(_ *oracle, t *transcript) { t.strays = 1 }, "unexpected packets"},
		"a number that did not come":     {func(_ *oracle, t *transcript) { t.series = 1 }, "0 numbers of a series of 1"},
		"numbers with a gap":             {add(received(5, "stress:series", `{"sid":"s1","number":2}`)), "number 2 of a series arrived after 0"},
		"a number of another connection": {add(received(5, "stress:series", `{"sid":"s1","connection":7,"number":1}`)), "not for this client"},
		"an update that did not come":    {func(_ *oracle, t *transcript) { t.updates = 1 }, "0 of 1 status updates"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, seen := newScenario()
			c.fault(o, seen)
			o.judge(*seen)
			n, first := o.verdict()
			require.NotZero(t, n)
			require.Contains(t, fmt.Sprint(first), c.want)
		})
	}
}

func TestOracle_AllowsCorrectTranscripts(t *testing.T) {
	t.Parallel()
	for name, allowed := range map[string]func(*oracle, *transcript){
		"all of it": func(*oracle, *transcript) {},
		"the end is missing, and not sure": func(_ *oracle, t *transcript) {
			t.received = t.received[:4]
			t.sure = at(4)
		},
		"what was published before hello": func(_ *oracle, t *transcript) {
			t.received = append(t.received[:1], t.received[3:]...)
			t.received[0].At = at(2)
		},
		"an event that the bus had not taken": func(o *oracle, t *transcript) {
			o.facts["t1/3"].taken = time.Time{}
			t.received = t.received[:6]
		},
		"a late number of the connection before": func(_ *oracle, t *transcript) {
			t.epoch = 1
			t.received = append(t.received, received(5, "stress:series", `{"sid":"s1","number":9}`))
		},
		"positions of two connections": func(_ *oracle, t *transcript) {
			t.received = append(t.received, position(2, "t1", "d1", 2))
		},
		"a revocation later": func(o *oracle, _ *transcript) { o.barred["s1"] = at(4) },
		"the revocation of another device": func(o *oracle, t *transcript) {
			o.opened("s3", "p1")
			t.received = append(t.received, received(5, "auth:session_revoked", `{"eventId":"r","sid":"s3"}`))
		},
		"a drain": func(o *oracle, t *transcript) {
			o.drain()
			t.received = append(t.received, received(5, "server:drain", `{"reconnectAfterMs":1}`))
		},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o, seen := newScenario()
			allowed(o, seen)
			o.judge(*seen)
			n, first := o.verdict()
			require.Zero(t, n, "%v", first)
		})
	}
}
