package redisbus_test

import (
	"context"
	"log"
	"net/http"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisbus"
)

// A node of several: events over redisbus, and what it sends to clients of the others over
// redisadapter.
func Example() { //nolint:testableexamples // it needs a Redis
	const redis = "redis://10.0.0.7:6379"
	bus, err := redisbus.New(redisbus.Options{
		URL: redis,
		OnSetAside: func(s redisbus.SetAside) {
			log.Printf("event %s needs a look: %v", s.Event.ID, s.Reason)
		},
	})
	if err != nil {
		log.Fatal(err)
	}
	adapter, err := redisadapter.New(redisadapter.Options{URL: redis})
	if err != nil {
		log.Fatal(err)
	}
	var options realtime.Options // with the host's Tokens, Users and so on
	options.Bus, options.Cluster.Adapter = bus, adapter
	rt, err := realtime.New(options)
	if err != nil {
		log.Fatal(err)
	}
	http.Handle(realtime.Path, rt)
	server := &http.Server{Addr: ":3000", ReadHeaderTimeout: 10 * time.Second}
	// ... serve, until the process is asked to end.
	ctx, cancel := context.WithTimeout(context.Background(), 20*time.Second)
	defer cancel()
	if err := realtime.Shutdown(ctx, server, rt); err != nil {
		log.Print(err)
	}
	if err := bus.Close(ctx); err != nil { // its partitions are free for the other nodes at once
		log.Print(err)
	}
}

// A service that only publishes handles nothing, and belongs to no group.
func ExampleBus_Publish() { //nolint:testableexamples // it needs a Redis
	bus, err := redisbus.New(redisbus.Options{URL: "redis://10.0.0.7:6379"})
	if err != nil {
		log.Fatal(err)
	}
	event, err := realtime.NewEnvelope(realtime.TripStarted{TripID: "trip-1", PassengerID: "ana", DriverID: "bob"})
	if err != nil {
		log.Fatal(err)
	}
	err = bus.Publish(context.Background(), event)
	if err != nil { // Redis may have it nevertheless: to try again, publish the same event with its ID
		log.Print(err)
	}
}
