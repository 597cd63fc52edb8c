// Examples of a whole server: how it is created and mounted, how a domain event is
// published, and how the server asks its clients.

package realtime_test

import (
	"context"
	"fmt"
	"net/http"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A host creates a server with its own repositories and mounts it on its own mux. The
// fakes of realtimetest stand for the repositories here, and a network in memory for the
// host's port.
func Example() {
	ctx := context.Background()
	secret := []byte("thirty-two bytes or more, and secret")
	tokens, err := realtime.NewJWTVerifier(secret, realtime.JWTOptions{Methods: []string{"HS256"}})
	if err != nil {
		fmt.Println(err)
		return
	}
	users, sessions := &realtimetest.Users{}, &realtimetest.Sessions{}
	users.Set(realtime.User{ID: "ana", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "ana"})
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users, Sessions: sessions,
		Origins: realtime.Origins{Allowed: []string{"https://app.example.com"}},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	server, network := &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}, realtimetest.NewListener()
	go func() { _ = server.Serve(network) }()

	// A driver's app, with the token of its login.
	token := realtimetest.MintJWT(secret, map[string]any{"sub": "ana", "sid": "s1", "exp": time.Now().Add(time.Hour)})
	app, err := realtimetest.Dial(ctx, "http://host", realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Over(network.DialContext))
	if err != nil {
		fmt.Println(err)
		return
	}
	hello, err := realtimetest.Next(ctx, app, realtime.EventHello)
	fmt.Println(hello.Namespace, hello.UserID, err)

	fmt.Println(realtime.Shutdown(ctx, server, rt))
	// Output:
	// /drivers ana <nil>
	// <nil>
}

// The host publishes what has happened once; the server decides who receives it.
func ExampleServer_Publish() {
	ctx := context.Background()
	b := start(realtime.Options{})
	defer b.stop()
	rt, ana := b.rt, b.connect()

	err := rt.Publish(ctx, realtime.DriverAssigned{TripID: "t1", PassengerID: "ben", DriverID: "ana"})
	fmt.Println(err)
	assigned, err := realtimetest.Next(ctx, ana, realtime.EventDriverAssigned)
	fmt.Println(assigned.TripID, err)
	fmt.Println(rt.Drivers().To(realtime.TripRoom("t1")).Count(ctx)) // her socket is in the trip's room now

	fmt.Println(rt.Publish(ctx, realtime.DriverAssigned{DriverID: "ana"}))
	// Output:
	// <nil>
	// t1 <nil>
	// 1 <nil>
	// realtime: trip.driver.assigned: invalid domain event: missing tripId
}

// MoreHours asks a driver whether the shift may last longer.
var MoreHours = realtime.NewQuery[string, bool]("shift:more")

// A query is an event to which the client answers: here each driver who is connected.
func ExampleQuery() {
	ctx := context.Background()
	b := start(realtime.Options{})
	defer b.stop()
	realtimetest.Answer(b.connect(), MoreHours, func(string) bool { return true }) // the app's code

	rt := b.rt
	answers, err := MoreHours.AskAll(ctx, rt.Drivers().All(), "until midnight?")
	fmt.Println(answers, err)
	// Output:
	// [true] <nil>
}
