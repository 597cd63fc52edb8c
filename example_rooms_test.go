package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// city is the cluster of the examples of rooms: nodes in memory.
type city struct {
	tokens   realtimetest.Tokens
	users    realtimetest.Users
	sessions realtimetest.Sessions
	nodes    []*realtime.Server
	networks []*realtimetest.Listener
}

func newCity(nodes int) *city {
	c := &city{}
	hub := realtimetest.NewHub()
	for range nodes {
		o := realtime.Options{Tokens: &c.tokens, Users: &c.users, Sessions: &c.sessions}
		o.Cluster.Adapter = hub.Node() // a real cluster has redisadapter
		rt, err := realtime.New(o)
		if err != nil {
			panic(err)
		}
		network := realtimetest.NewListener()
		server := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
		go func() { _ = server.Serve(network) }()
		c.nodes, c.networks = append(c.nodes, rt), append(c.networks, network)
	}
	return c
}

// driver connects a driver to a node.
func (c *city) driver(node int, id string) *realtimetest.Client {
	c.users.Set(realtime.User{ID: id, Type: realtime.UserDriver, Active: true})
	c.sessions.Set(realtime.Session{ID: "of-" + id, UserID: id})
	client, err := realtimetest.Dial(context.Background(), "http://host", realtime.NamespaceDrivers,
		realtimetest.Token(c.tokens.Mint(id, "of-"+id, time.Hour)), realtimetest.Over(c.networks[node].DialContext))
	if err != nil {
		panic(err)
	}
	return client
}

func (c *city) close(clients ...*realtimetest.Client) {
	for _, client := range clients {
		client.Close()
	}
	for i, rt := range c.nodes {
		if err := rt.Shutdown(context.Background()); err != nil {
			fmt.Println(err)
		}
		_ = c.networks[i].Close() // ends Serve
	}
}

// Weather is an event of the host's own.
var Weather = realtime.NewEvent[string]("weather")

// A host's own room: the host's code decides which sockets are in it.
func ExampleBroadcast() {
	c := newCity(1)
	ana, ben := c.driver(0, "ana"), c.driver(0, "ben")
	defer c.close(ana, ben)
	drivers, havana := c.nodes[0].Drivers(), realtime.NewRoom("zone", "havana")

	drivers.To(realtime.DriverRoom("ana")).Join(havana)
	_ = Weather.Emit(drivers.To(havana), "rain in Havana")
	_ = Weather.Emit(drivers.To(havana, realtime.DriverRoom("ben")), "rain everywhere") // once for each socket

	for _, client := range []*realtimetest.Client{ana, ben} {
		text, err := realtimetest.Next(context.Background(), client, Weather)
		fmt.Println(client.Namespace(), text, err)
	}
	fmt.Println(havana, realtime.TripRoom("t1"), realtime.NewRoom("trip", "t1") == realtime.TripRoom("t1"))
	// Output:
	// /drivers rain in Havana <nil>
	// /drivers rain everywhere <nil>
	// host:zone:havana trip:t1 false
}

// All selects the whole namespace, to emit to it, to count it, and to list it in pages.
func ExampleNamespace_All() {
	ctx := context.Background()
	c := newCity(1)
	ana, ben := c.driver(0, "ana"), c.driver(0, "ben")
	defer c.close(ana, ben)
	everybody := c.nodes[0].Drivers().All()

	_ = Weather.Emit(everybody.Except(realtime.DriverRoom("ana")), "a storm")
	text, err := realtimetest.Next(ctx, ben, Weather)
	fmt.Println(text, err)

	n, err := everybody.Count(ctx)
	fmt.Println(n, err)
	for page, after := 1, ""; ; page++ {
		sockets, err := everybody.SocketsPage(ctx, after, 1)
		if err != nil || len(sockets) == 0 {
			fmt.Println("page", page, "is empty", err)
			break
		}
		fmt.Println("page", page, "has", len(sockets), "of", sockets[0].Namespace)
		after = sockets[len(sockets)-1].ID
	}
	// Output:
	// a storm <nil>
	// 2 <nil>
	// page 1 has 1 of /drivers
	// page 2 has 1 of /drivers
	// page 3 is empty <nil>
}

// Several nodes act as one: an operation on one node reaches the sockets of all nodes.
func ExampleAdapter() {
	ctx := context.Background()
	c := newCity(2)
	ana, ben := c.driver(0, "ana"), c.driver(1, "ben")
	defer c.close(ana, ben)
	first, second := c.nodes[0].Drivers(), c.nodes[1].Drivers()

	_ = Weather.Emit(first.To(realtime.DriverRoom("ben")), "sun")
	text, err := realtimetest.Next(ctx, ben, Weather)
	fmt.Println(text, err)

	all, err := second.All().Count(ctx)
	here, _ := second.All().Local().Count(ctx)
	fmt.Println(all, "in the cluster,", here, "here", err)

	// An event between the nodes, which no client receives.
	heard := make(chan string)
	second.OnServerEmit("fares:changed", func(args realtime.Raw) { heard <- string(args.Args[0]) })
	_ = first.ServerEmit(ctx, "fares:changed", "havana")
	fmt.Println(<-heard)

	// The same with an answer of each other node.
	second.OnServerAsk("fares:count", func(context.Context, realtime.Raw) (any, error) { return 42, nil })
	answers, err := first.ServerAsk(ctx, "fares:count")
	for _, a := range answers {
		var n *int // remains nil at the answer null: no handler there, or it failed
		if err := json.Unmarshal(a.Args[0], &n); err == nil && n != nil {
			fmt.Println("fares:", *n)
		}
	}
	fmt.Println(len(answers), err)
	// Output:
	// sun <nil>
	// 2 in the cluster, 1 here <nil>
	// "havana"
	// fares: 42
	// 1 <nil>
}
