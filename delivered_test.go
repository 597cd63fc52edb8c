// How many received a domain event, in each audience, and everybody as an audience.

package realtime_test

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// Announced is a domain event for everybody in some namespaces.
type Announced struct {
	Text   string   `json:"text"`
	To     []string `json:"to"`
	UserID string   `json:"userId"`
}

type announced struct {
	realtime.EventMeta
	Text string `json:"text"`
}

var announcement = realtime.NewEvent[announced]("announcement")

func (Announced) EventName() string { return "test.announced" }
func (Announced) EventKey() string  { return "announcements" }

func (a Announced) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	var to []realtime.Audience
	for _, ns := range a.To {
		to = append(to, realtime.ToAll(ns))
	}
	if a.UserID != "" {
		to = append(to, realtime.ToUser(a.UserID))
	}
	return []realtime.Delivery{announcement.Deliver(announced{m, a.Text}, to...)}
}

func withAnnounced(o *realtime.Options) {
	o.Events = append(o.Events, realtime.NewDomainEvent[Announced]("Something for everybody.", Announced{Text: "x", To: []string{"/drivers"}}))
}

// heardBy returns an option that records, for each audience, how many sockets of the node
// received an event.
func heardBy(heard chan<- string) func(o *realtime.Options) {
	return func(o *realtime.Options) {
		o.Trace = &realtime.Trace{Delivered: func(_ context.Context, i realtime.DeliveredInfo) {
			for _, a := range i.Audiences {
				heard <- fmt.Sprint(a.Event, " > ", a.Audience, ": ", a.Receivers, map[bool]string{true: " and other nodes"}[a.OtherNodes])
			}
		}}
	}
}

func taken(heard chan string) (all []string) {
	synctest.Wait()
	for len(heard) > 0 {
		all = append(all, <-heard)
	}
	return all
}

func TestPublish_SaysHowManyHeard(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(chan string, 100)
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log, withAnnounced, heardBy(heard))
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		require.Equal(t, []string{"trip:requested > /passengers passenger:p1: 0", "trip:requested > /admin admin:all trip:t1: 0"}, taken(heard))
		srv.Passenger(t, "p1")
		srv.Passenger(t, "p1")
		srv.Admin(t, "a1")
		srv.Driver(t, "d1")
		srv.Publish(t, realtime.TripRequested{TripID: "t2", PassengerID: "p1"})
		require.Equal(t, []string{"trip:requested > /passengers passenger:p1: 2", "trip:requested > /admin admin:all trip:t2: 1"}, taken(heard))
		srv.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
		require.Contains(t, taken(heard), "auth:session_revoked > /drivers session:"+realtimetest.SessionID("d1")+" driver:d1: 1")
		srv.Publish(t, Announced{Text: "x", To: []string{"/passengers", "/nowhere"}, UserID: "p1"})
		require.Contains(t, taken(heard), "announcement > /passengers everybody: 2", "those of two audiences are counted once")

		var lines []string
		for _, line := range logs.lines(t, "realtime: domain event emitted") {
			require.Equal(t, "DEBUG", line["level"])
			if line["event"] == "trip.requested" {
				lines = append(lines, fmt.Sprint(line["to"], " ", line["receivers"]))
			}
		}
		require.Equal(t, []string{
			"/passengers passenger:p1 0", "/admin admin:all trip:t1 0", "/passengers passenger:p1 2", "/admin admin:all trip:t2 1",
		}, lines)
	})
}

// Nobody pays for what nobody wants to know.
func TestPublish_SaysNothingAtInfo(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		log := &logBuffer{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Logger = slog.New(slog.NewTextHandler(log, &slog.HandlerOptions{Level: slog.LevelInfo}))
		})
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		synctest.Wait()
		require.NotContains(t, log.String(), "emitted")
	})
}

// Everybody in a namespace is reached, on every node, once each, and nobody else is.
func TestToAll(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		heard := make(chan string, 100)
		logs, log := recordLogs(t)
		nodes := realtimetest.NewCluster(t, 2, log, withAnnounced, heardBy(heard))
		drivers := []*realtimetest.Client{nodes[0].Driver(t, "d1"), nodes[0].Driver(t, "d2"), nodes[1].Driver(t, "d3")}
		passenger, admin := nodes[1].Passenger(t, "p1"), nodes[0].Admin(t, "a1")
		synctest.Wait()
		nodes[0].Publish(t, Announced{Text: strings.Repeat("closed tonight ", 3), To: []string{realtime.NamespaceDrivers}, UserID: "d1"})
		for _, d := range drivers {
			require.Equal(t, strings.Repeat("closed tonight ", 3), realtimetest.Expect(t, d, announcement).Text)
			realtimetest.ExpectNone(t, d, announcement)
		}
		realtimetest.ExpectNone(t, passenger, announcement)
		realtimetest.ExpectNone(t, admin, announcement)
		require.Contains(t, taken(heard), "announcement > /drivers everybody: 2 and other nodes")
		there := map[any]any{}
		for _, line := range logs.lines(t, "realtime: event of another node emitted") {
			require.Equal(t, "announcement", line["event"])
			there[line["namespace"]] = line["receivers"]
		}
		require.Equal(t, map[any]any{"/drivers": 1.0, "/passengers": 0.0, "/admin": 0.0}, there)
		require.Equal(t, "/drivers everybody", realtime.ToAll(realtime.NamespaceDrivers).String())
		require.Equal(t, "nobody", realtime.ToAll("").String())
	})
}
