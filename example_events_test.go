package realtime_test

import (
	"context"
	"fmt"
	"net/http"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
	"github.com/rodando/realtime/realtimetest"
)

// SurgeChanged is a domain event of the host's own: fares in a zone have changed.
type SurgeChanged struct {
	Zone   string  `json:"zone"`
	Factor float64 `json:"factor"`
}

func (SurgeChanged) EventName() string  { return "surge.changed" }
func (e SurgeChanged) EventKey() string { return e.Zone }

// Deliveries sends the event to the drivers in the zone, and to every admin.
func (e SurgeChanged) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	return []realtime.Delivery{EventSurgeChanged.Deliver(SurgePayload{m, e.Zone, e.Factor},
		realtime.ToRoom(realtime.NamespaceDrivers, realtime.NewRoom("zone", e.Zone)), realtime.ToAdmins())}
}

// EventSurgeChanged is what the apps receive.
var EventSurgeChanged = realtime.NewEvent[SurgePayload]("surge:changed")

// SurgePayload is what EventSurgeChanged carries.
type SurgePayload struct {
	realtime.EventMeta
	Zone   string  `json:"zone"`
	Factor float64 `json:"factor" doc:"of the usual fare"`
}

// A host declares its own domain events in Options.Events. They have order, an
// eventId, and documentation like the library's own.
func ExampleNewDomainEvent() {
	ctx := context.Background()
	tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{}
	rt, err := realtime.New(realtime.Options{
		Tokens: tokens, Users: users, Sessions: sessions,
		Events: []realtime.DomainEventType{
			realtime.NewDomainEvent("The fares in a zone changed.", SurgeChanged{Zone: "havana", Factor: 1.4}),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	network := realtimetest.NewListener() // in memory; a real host listens on a port
	server := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
	go func() { _ = server.Serve(network) }()

	users.Set(realtime.User{ID: "ana", Type: realtime.UserDriver, Active: true})
	sessions.Set(realtime.Session{ID: "s1", UserID: "ana"})
	driver, err := realtimetest.Dial(ctx, "http://host", realtime.NamespaceDrivers,
		realtimetest.Token(tokens.Mint("ana", "s1", time.Hour)), realtimetest.Over(network.DialContext))
	if err != nil {
		fmt.Println(err)
		return
	}
	rt.Drivers().To(realtime.DriverRoom("ana")).Join(realtime.NewRoom("zone", "havana")) // the host knows where the driver is

	if err := rt.Publish(ctx, SurgeChanged{Zone: "havana", Factor: 1.6}); err != nil {
		fmt.Println(err)
	}
	surge, err := realtimetest.Next(ctx, driver, EventSurgeChanged)
	fmt.Println(surge.Zone, surge.Factor, len(surge.EventID), err)

	driver.Close()
	fmt.Println(realtime.Shutdown(ctx, server, rt))
	// Output:
	// havana 1.6 36 <nil>
	// <nil>
}

// The deliveries of an event can be tested without a server.
func ExampleDelivery() {
	for _, d := range (SurgeChanged{Zone: "havana", Factor: 1.6}).Deliveries(realtime.EventMeta{}) {
		fmt.Println(d.Event(), "to", d.Audiences())
	}
	// Output:
	// surge:changed to [/drivers host:zone:havana /admin admin:all]
}

// The documentation of a host's own events for the people who write its apps.
func ExampleServer_Catalog() {
	rt, err := realtime.New(realtime.Options{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{},
		Events: []realtime.DomainEventType{
			realtime.NewDomainEvent("The fares in a zone changed.", SurgeChanged{Zone: "havana", Factor: 1.4}),
		},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	var page strings.Builder
	if err := realtimegen.Markdown(&page, rt.Catalog()); err != nil {
		fmt.Println(err)
	}
	_, section, _ := strings.Cut(page.String(), "#### `surge:changed`")
	section, _, _ = strings.Cut(section, "```")
	fmt.Println(strings.TrimSpace(section))
	fmt.Println(rt.Shutdown(context.Background()))
	// Output:
	// The fares in a zone changed.
	//
	// To: the room `zone:{id}`, such as `zone:havana`. Follows from `surge.changed`.
	//
	// | field | type | |
	// |---|---|---|
	// | `eventId` | string | a UUID, the same in every repeat of the event |
	// | `at` | time | when it was published |
	// | `zone` | string |  |
	// | `factor` | number | of the usual fare |
	// <nil>
}
