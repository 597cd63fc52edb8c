// The part of the adapters' conformance suite that runs servers and clients.

package realtimetest

import (
	"context"
	"encoding/json"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// news is an event of the suite.
var news = realtime.NewEvent[string]("test:news")

// awaitRoute waits until broadcasts from one node to a room reach the clients in it, on
// whatever node they are: an adapter may take time to subscribe to a room, and the nodes to
// announce it, which a volatile event needs.
func awaitRoute(t *testing.T, from *realtime.Namespace, room realtime.Room, clients ...*Client) {
	t.Helper()
	warm := realtime.NewEvent[realtime.None](warmUp)
	for _, c := range clients {
		arrived := false
		for deadline := time.Now().Add(patience); !arrived; {
			if err := warm.Emit(from.To(room).Volatile(), realtime.None{}); err != nil {
				t.Fatal(err)
			}
			_, err := Next(t.Context(), c.Within(20*time.Millisecond), warm)
			arrived = err == nil
			if !arrived && time.Now().After(deadline) {
				t.Fatalf("%s receives no broadcast to %s", c, room)
			}
		}
	}
}

func emit(t *testing.T, to realtime.Broadcast, text string) {
	t.Helper()
	if err := news.Emit(to, text); err != nil {
		t.Fatal(err)
	}
}

// expectNews checks the texts of the next news that a client receives.
func expectNews(t *testing.T, c *Client, want ...string) {
	t.Helper()
	for _, text := range want {
		if got := Expect(t, c, news); got != text {
			t.Fatalf("%s got the news %q, want %q", c, got, text)
		}
	}
}

func testServersBroadcast(t *testing.T, a, b *Server) {
	one, two, other := a.Driver(t, "d1"), b.Driver(t, "d1"), b.Driver(t, "d2")
	drivers := a.Realtime.Drivers()
	d1, d2, session := realtime.DriverRoom("d1"), realtime.DriverRoom("d2"), realtime.SessionRoom(SessionID("d1"))
	awaitRoute(t, drivers, d1, two)
	awaitRoute(t, drivers, d2, other)
	awaitRoute(t, drivers, session, two)

	emit(t, drivers.To(d1), "of one room")
	emit(t, drivers.To(d1, session, d2), "of three rooms, once")
	emit(t, drivers.To(d1, d2).Except(session), "but for one")
	emit(t, drivers.To(d1).Local(), "of one node")
	emit(t, drivers.To(d1, d2).Volatile(), "volatile")
	emit(t, drivers.To(d1, d2).Latest("k"), "latest")
	emit(t, a.Realtime.Passengers().To(d1), "of another namespace")
	emit(t, drivers.To(realtime.DriverRoom("d3")), "for nobody")
	emit(t, drivers.To(d1, d2), "last")
	expectNews(t, one, "of one room", "of three rooms, once", "of one node", "volatile", "latest", "last")
	expectNews(t, two, "of one room", "of three rooms, once", "volatile", "latest", "last")
	expectNews(t, other, "of three rooms, once", "but for one", "volatile", "latest", "last")

	photo := realtime.Raw{
		Args:        []json.RawMessage{json.RawMessage(`{"photo":{"_placeholder":true,"num":0}}`), json.RawMessage(`"ñ 🚕"`)},
		Attachments: [][]byte{{0, 1, 0xff}},
	}
	if err := drivers.To(d1).EmitRaw("test:photo", photo); err != nil {
		t.Fatal(err)
	}
	for _, c := range []*Client{one, two} {
		got, err := c.NextRaw(t.Context(), "test:photo")
		if err != nil || asJSON(t, got.Raw) != asJSON(t, photo) {
			t.Errorf("%s got %s, %v; want %s", c, asJSON(t, got.Raw), err, asJSON(t, photo))
		}
	}
	const many = 300
	for n := range many {
		emit(t, drivers.To(d1), strconv.Itoa(n))
	}
	for n := range many {
		expectNews(t, one, strconv.Itoa(n))
		expectNews(t, two, strconv.Itoa(n))
	}
	ExpectNone(t, one, news)
	ExpectNone(t, two, news)
	ExpectNone(t, other, news)
}

func testServersRooms(t *testing.T, a, b *Server) {
	here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
	drivers := a.Realtime.Drivers()
	own, zone := realtime.DriverRoom("d1"), realtime.NewRoom("zone", "havana")
	awaitRoute(t, drivers, own, there)

	drivers.To(own).Join(zone)
	awaitRoute(t, drivers, zone, here, there)
	found := func(room realtime.Room) []string {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		sockets, err := drivers.To(room).Sockets(ctx)
		if err != nil {
			t.Fatalf("Sockets: %v", err)
		}
		var ids []string
		for _, s := range sockets {
			ids = append(ids, s.ID)
			if s.Namespace != realtime.NamespaceDrivers || s.Identity.UserID != "d1" || !slices.Contains(s.Rooms, room) {
				t.Errorf("a socket is described as %+v", s)
			}
		}
		slices.Sort(ids)
		return ids
	}
	both := []string{here.ID(), there.ID()}
	slices.Sort(both)
	if got := found(zone); !slices.Equal(got, both) {
		t.Errorf("in the room are %v, want %v", got, both)
	}
	expectAll(t, a, here, there)
	drivers.To(own).Leave(zone)
	if got := found(zone); len(got) > 0 {
		t.Errorf("in the room are still %v", got)
	}
	emit(t, drivers.To(zone), "for sockets that have left")
	emit(t, drivers.To(own), "last")
	expectNews(t, here, "last")
	expectNews(t, there, "last")
}

// expectAll checks that All on a node means exactly these two drivers.
func expectAll(t *testing.T, node *Server, here, there *Client) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	all := node.Realtime.Drivers().All()
	if n, err := all.Count(ctx); err != nil || n != 2 {
		t.Errorf("all drivers are %d, %v; want 2", n, err)
	}
	var ids []string
	for after := ""; ; after = ids[len(ids)-1] {
		page, err := all.SocketsPage(ctx, after, 1)
		if err != nil || len(page) > 1 {
			t.Fatalf("a page of one has %d sockets: %v", len(page), err)
		}
		if len(page) == 0 {
			break
		}
		ids = append(ids, page[0].ID)
	}
	want := []string{here.ID(), there.ID()}
	slices.Sort(want)
	if !slices.Equal(ids, want) {
		t.Errorf("the pages have %v, want %v", ids, want)
	}
	emit(t, all, "for all")
	emit(t, node.Realtime.Drivers().To(), "for nobody")
	for _, c := range []*Client{here, there} {
		expectNews(t, c, "for all")
	}
}

func testServersDisconnect(t *testing.T, a, b *Server) {
	disconnected, closed, connected := b.Driver(t, "d1"), b.Driver(t, "d2"), b.Driver(t, "d3")
	drivers := a.Realtime.Drivers()
	for id, c := range map[string]*Client{"d1": disconnected, "d2": closed, "d3": connected} {
		awaitRoute(t, drivers, realtime.DriverRoom(id), c)
	}
	emit(t, drivers.To(realtime.DriverRoom("d1")), "before")
	drivers.To(realtime.DriverRoom("d1")).Disconnect()
	drivers.To(realtime.DriverRoom("d2")).Close()
	if got := disconnected.Disconnected(t); got != ReasonServer {
		t.Errorf("the socket that was disconnected says %q", got)
	}
	expectNews(t, disconnected, "before")
	if got := closed.Disconnected(t); got != ReasonTransportClose {
		t.Errorf("the socket whose connection was closed says %q", got)
	}
	if !connected.Connected() {
		t.Error("a socket of another room was disconnected too")
	}
}

func testServersAsk(t *testing.T, a, b *Server) {
	question := realtime.NewQuery[string, string]("test:where")
	here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
	drivers := a.Realtime.Drivers()
	awaitRoute(t, drivers, realtime.DriverRoom("d1"), there)
	Answer(here, question, func(in string) string { return in + " here" })
	Answer(there, question, func(in string) string { return in + " there" })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got, err := question.AskAll(ctx, drivers.To(realtime.DriverRoom("d1")), "where?")
	slices.Sort(got)
	if want := []string{"where? here", "where? there"}; err != nil || !slices.Equal(got, want) {
		t.Errorf("the clients answered %q, %v; want %q", got, err, want)
	}
	silent := b.Driver(t, "d1", Session("another"))
	awaitRoute(t, drivers, realtime.SessionRoom("another"), silent)
	if !longEnough(func(limit time.Duration) bool {
		brief, cancel := context.WithTimeout(t.Context(), limit)
		defer cancel()
		got, err = question.AskAll(brief, drivers.To(realtime.DriverRoom("d1")), "where?")
		return err != nil && len(got) == 2
	}) {
		t.Errorf("three clients of which one does not answer: got %q, %v; want two answers and an error", got, err)
	}
}

func testServersTrip(t *testing.T, a, b *Server) {
	driver, passenger := b.Driver(t, "d1"), a.Passenger(t, "p1")
	awaitRoute(t, a.Realtime.Drivers(), realtime.DriverRoom("d1"), driver)
	awaitRoute(t, b.Realtime.Passengers(), realtime.PassengerRoom("p1"), passenger)

	a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
	Expect(t, driver, realtime.EventDriverAssignedToDriver)
	Expect(t, passenger, realtime.EventDriverAssigned)
	// A passenger who connects to the other node later shows that it knows the trip.
	later := func(s *Server) *Client {
		c := s.Passenger(t, "p1", Session("later"))
		t.Cleanup(c.Close)
		return c
	}
	awaitRoute(t, a.Realtime.Drivers(), realtime.TripRoom("t1"), driver)
	late := later(b)
	awaitRoute(t, a.Realtime.Passengers(), realtime.TripRoom("t1"), late)

	ping := realtime.LocationPing{Position: &realtime.Position{Lat: 23.1, Lng: -82.4}}
	if _, err := Call(t.Context(), driver, realtime.DriverLocationPing, ping); err != nil {
		t.Fatalf("location ping: %v", err)
	}
	for _, c := range []*Client{passenger, late} {
		if got := Expect(t, c, realtime.EventTripDriverLocation); got.TripID != "t1" || got.DriverID != "d1" {
			t.Errorf("%s sees %+v", c, got)
		}
	}
	b.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP"})
	for _, c := range []*Client{passenger, late} {
		Expect(t, c, realtime.EventTripCompleted)
	}
	Expect(t, driver, realtime.EventTripCompleted)
	eventually(t, "the trip's room is empty", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		sockets, err := a.Realtime.Passengers().To(realtime.TripRoom("t1")).Sockets(ctx)
		return err == nil && len(sockets) == 0
	})
}

func testServersRevocation(t *testing.T, a, b *Server) {
	here, there, other := a.Driver(t, "d1"), b.Driver(t, "d1"), b.Driver(t, "d1", Session("other"))
	awaitRoute(t, a.Realtime.Drivers(), realtime.SessionRoom(SessionID("d1")), there)
	awaitRoute(t, a.Realtime.Drivers(), realtime.DriverRoom("d1"), other)
	a.Sessions.Revoke(SessionID("d1"))
	a.Publish(t, realtime.SessionRevoked{SessionID: SessionID("d1"), UserID: "d1", Reason: "stolen"})
	for _, c := range []*Client{here, there} {
		if got := c.Disconnected(t); got != ReasonServer {
			t.Errorf("%s was disconnected with %q", c, got)
		}
		Expect(t, c, realtime.EventSessionRevoked)
	}
	if got := Expect(t, other, realtime.EventSessionRevoked); got.Reason == nil || *got.Reason != "stolen" {
		t.Errorf("the user's other device received %+v", got)
	}
	if !other.Connected() {
		t.Error("the user's other session was disconnected too")
	}
}

func testServersEmit(t *testing.T, a, b *Server) {
	got := make(chan string, 10)
	listen := func(who string, s *Server) {
		s.Realtime.Admin().OnServerEmit("test:server", func(args realtime.Raw) { got <- who + clip(args.Args) })
	}
	listen("a ", a)
	listen("b ", b)
	b.Realtime.Drivers().OnServerEmit("test:server", func(realtime.Raw) { got <- "another namespace" })
	for range 2 {
		if err := a.Realtime.Admin().ServerEmit(t.Context(), "test:server", map[string]int{"n": 1}, "ñ"); err != nil {
			t.Fatal(err)
		}
	}
	for range 2 {
		select {
		case g := <-got:
			if !strings.HasPrefix(g, `b {"n":1}, "ñ"`) {
				t.Errorf("got the server emit %s", g)
			}
		case <-time.After(patience):
			t.Fatal("the server emit did not reach the other node")
		}
	}
	select {
	case g := <-got:
		t.Errorf("unexpected server emit %s", g)
	case <-time.After(settling):
	}
}
