// The part of the adapters' conformance suite that runs servers and clients: what
// the adapter is for.

package realtimetest

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// news is an event of the suite's own.
var news = realtime.NewEvent[string]("test:news")

// hear waits until a broadcast by from reaches the clients, which are in the
// room, wherever they are: an adapter that subscribes to rooms takes its time.
func hear(t *testing.T, from *realtime.Namespace, room realtime.Room, clients ...*Client) {
	t.Helper()
	warm := realtime.NewEvent[realtime.None](warmUp)
	for _, c := range clients {
		heard := false
		for deadline := time.Now().Add(patience); !heard; {
			if err := warm.Emit(from.To(room), realtime.None{}); err != nil {
				t.Fatal(err)
			}
			_, err := Next(t.Context(), c.Within(20*time.Millisecond), warm)
			heard = err == nil
			if !heard && time.Now().After(deadline) {
				t.Fatalf("%s hears nothing that is for %s", c, room)
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

// heard checks what news a client gets, in this order, and that there is no more
// of it before last.
func heard(t *testing.T, c *Client, want ...string) {
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
	hear(t, drivers, d1, two)
	hear(t, drivers, d2, other)
	hear(t, drivers, session, two)

	emit(t, drivers.To(d1), "of one room")
	emit(t, drivers.To(d1, session, d2), "of three rooms, once")
	emit(t, drivers.To(d1, d2).Except(session), "but for one")
	emit(t, drivers.To(d1).Local(), "of one node")
	emit(t, drivers.To(d1, d2).Volatile(), "volatile")
	emit(t, drivers.To(d1, d2).Latest("k"), "latest")
	emit(t, a.Realtime.Passengers().To(d1), "of another namespace")
	emit(t, drivers.To(realtime.DriverRoom("d3")), "for nobody")
	emit(t, drivers.To(d1, d2), "last")
	heard(t, one, "of one room", "of three rooms, once", "of one node", "volatile", "latest", "last")
	heard(t, two, "of one room", "of three rooms, once", "volatile", "latest", "last")
	heard(t, other, "of three rooms, once", "but for one", "volatile", "latest", "last")

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
		emit(t, drivers.To(d1), fmt.Sprint(n))
	}
	for n := range many {
		heard(t, one, fmt.Sprint(n))
		heard(t, two, fmt.Sprint(n))
	}
	ExpectNone(t, one, news)
	ExpectNone(t, two, news)
	ExpectNone(t, other, news)
}

func testServersRooms(t *testing.T, a, b *Server) {
	here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
	drivers := a.Realtime.Drivers()
	own, zone := realtime.DriverRoom("d1"), realtime.NewRoom("zone", "havana")
	hear(t, drivers, own, there)

	drivers.To(own).Join(zone)
	hear(t, drivers, zone, here, there)
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
	everybody(t, a, here, there)
	drivers.To(own).Leave(zone)
	if got := found(zone); len(got) > 0 {
		t.Errorf("in the room are still %v", got)
	}
	emit(t, drivers.To(zone), "for who has left")
	emit(t, drivers.To(own), "last")
	heard(t, here, "last")
	heard(t, there, "last")
}

// everybody checks what a node says of all drivers, who are these two.
func everybody(t *testing.T, node *Server, here, there *Client) {
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
		heard(t, c, "for all")
	}
}

func testServersDisconnect(t *testing.T, a, b *Server) {
	thrown, closed, kept := b.Driver(t, "d1"), b.Driver(t, "d2"), b.Driver(t, "d3")
	drivers := a.Realtime.Drivers()
	for id, c := range map[string]*Client{"d1": thrown, "d2": closed, "d3": kept} {
		hear(t, drivers, realtime.DriverRoom(id), c)
	}
	emit(t, drivers.To(realtime.DriverRoom("d1")), "before")
	drivers.To(realtime.DriverRoom("d1")).Disconnect()
	drivers.To(realtime.DriverRoom("d2")).Close()
	if got := thrown.Disconnected(t); got != ReasonServer {
		t.Errorf("the socket that was disconnected says %q", got)
	}
	heard(t, thrown, "before")
	if got := closed.Disconnected(t); got != ReasonTransportClose {
		t.Errorf("the socket whose connection was closed says %q", got)
	}
	if !kept.Connected() {
		t.Error("a socket of another room was ended too")
	}
}

func testServersAsk(t *testing.T, a, b *Server) {
	question := realtime.NewQuery[string, string]("test:where")
	here, there := a.Driver(t, "d1"), b.Driver(t, "d1")
	drivers := a.Realtime.Drivers()
	hear(t, drivers, realtime.DriverRoom("d1"), there)
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
	hear(t, drivers, realtime.SessionRoom("another"), silent)
	brief, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	got, err = question.AskAll(brief, drivers.To(realtime.DriverRoom("d1")), "where?")
	if err == nil || len(got) != 2 {
		t.Errorf("of three clients, one of them silent, came the answers %q and the error %v", got, err)
	}
}

func testServersTrip(t *testing.T, a, b *Server) {
	driver, passenger := b.Driver(t, "d1"), a.Passenger(t, "p1")
	hear(t, a.Realtime.Drivers(), realtime.DriverRoom("d1"), driver)
	hear(t, b.Realtime.Passengers(), realtime.PassengerRoom("p1"), passenger)

	a.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
	Expect(t, driver, realtime.EventDriverAssignedToDriver)
	Expect(t, passenger, realtime.EventDriverAssigned)
	// What the other node has heard of the trip is seen when somebody connects.
	later := func(s *Server) *Client {
		c := s.Passenger(t, "p1", Session("later"))
		t.Cleanup(c.Close)
		return c
	}
	hear(t, a.Realtime.Drivers(), realtime.TripRoom("t1"), driver)
	late := later(b)
	hear(t, a.Realtime.Passengers(), realtime.TripRoom("t1"), late)

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
	eventually(t, "nobody is in the trip's room", func() bool {
		ctx, cancel := context.WithTimeout(t.Context(), patience)
		defer cancel()
		sockets, err := a.Realtime.Passengers().To(realtime.TripRoom("t1")).Sockets(ctx)
		return err == nil && len(sockets) == 0
	})
}

func testServersRevocation(t *testing.T, a, b *Server) {
	here, there, other := a.Driver(t, "d1"), b.Driver(t, "d1"), b.Driver(t, "d1", Session("other"))
	hear(t, a.Realtime.Drivers(), realtime.SessionRoom(SessionID("d1")), there)
	hear(t, a.Realtime.Drivers(), realtime.DriverRoom("d1"), other)
	a.Sessions.Revoke(SessionID("d1"))
	a.Publish(t, realtime.SessionRevoked{SID: SessionID("d1"), UserID: "d1", Reason: "stolen"})
	for _, c := range []*Client{here, there} {
		if got := c.Disconnected(t); got != ReasonServer {
			t.Errorf("%s was disconnected with %q", c, got)
		}
		Expect(t, c, realtime.EventSessionRevoked)
	}
	if got := Expect(t, other, realtime.EventSessionRevoked); got.Reason == nil || *got.Reason != "stolen" {
		t.Errorf("the user's other device was told %+v", got)
	}
	if !other.Connected() {
		t.Error("the user's other session was ended too")
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
				t.Errorf("heard %s", g)
			}
		case <-time.After(patience):
			t.Fatal("the other node was not told")
		}
	}
	select {
	case g := <-got:
		t.Errorf("heard %s too", g)
	case <-time.After(settling):
	}
}
