// A host's own domain events: declared in one line, they have what the library's own
// events have.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"math"
	"runtime"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
	"github.com/rodando/realtime/realtimetest"
)

// shiftStarted says that a driver began to work. The driver, the admins who watch
// drivers and the support team in the driver's zone receive it.
type shiftStarted struct {
	DriverID string `json:"driverId"`
	Zone     string `json:"zone"`
	Number   int    `json:"number"`
}

var eventShiftStarted = realtime.NewEvent[shiftPayload]("shift:started")

type shiftPayload struct {
	realtime.EventMeta
	DriverID string `json:"driverId"`
	Zone     string `json:"zone" doc:"the zone's name"`
	Number   int    `json:"number" doc:"the driver's shifts so far"`
}

func (shiftStarted) EventName() string  { return "shift.started" }
func (e shiftStarted) EventKey() string { return e.DriverID }

func (e shiftStarted) Validate() error {
	if e.DriverID == "" {
		return errors.New("driverId is missing")
	}
	return nil
}

func (e shiftStarted) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	if e.Zone == "panic" {
		panic("no such zone")
	}
	return []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{m, e.DriverID, e.Zone, e.Number},
		realtime.ToDriver(e.DriverID), realtime.ToDriverWatchers(), realtime.ToRoom("/support", realtime.NewRoom("zone", e.Zone)))}
}

func exampleShift() shiftStarted { return shiftStarted{DriverID: "d1", Zone: "havana", Number: 3} }

// withShifts declares shiftStarted and the namespace that it is for.
func withShifts(o *realtime.Options) {
	o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("A driver began to work.", exampleShift())}
	o.Namespaces = map[string]realtime.NamespaceOptions{"/support": {}}
}

func TestHostEvent_ReachesExactlyItsAudience(t *testing.T) {
	t.Parallel()
	for _, m := range wireModes() {
		t.Run(m.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := m.start(t)
				clients := dialAudiences(t, nodes)
				for _, n := range nodes {
					n.Realtime.Of("/support").To(realtime.UserRoom("d1")).Join(realtime.NewRoom("zone", "havana"))
				}
				synctest.Wait()
				got := realtimetest.AudienceOf(t, clients, func() { m.publish(t, nodes, exampleShift()) })
				once := []string{"shift:started"}
				require.Equal(t, map[string][]string{
					"driver1": once, "driver2": once, "adminJoined": once, "admin": once, "support": once,
				}, got.Events())
				at, err := json.Marshal(realtime.Time{Time: time.Now()})
				require.NoError(t, err)
				for name, received := range got {
					require.JSONEq(t, fmt.Sprintf(`{"eventId":%q,"at":%s,"driverId":"d1","zone":"havana","number":3}`, lastEventID(t, nodes), at),
						string(received[0].Args[0]), name)
				}
			})
		})
	}
}

func TestHostEvent_OrderPerKey(t *testing.T) {
	for _, bus := range []realtime.EventBus{nil, realtime.NewMemoryBus(), realtimetest.NewBus()} {
		t.Run(fmt.Sprintf("%T", bus), func(t *testing.T) {
			srv := realtimetest.NewServer(t, withShifts, func(o *realtime.Options) { o.Bus = bus })
			admin := srv.Admin(t, "a1")
			var publishing sync.WaitGroup
			for d := range 10 {
				publishing.Go(func() {
					for n := range 50 {
						if err := srv.Realtime.Publish(context.Background(), shiftStarted{DriverID: fmt.Sprint("d", d), Zone: "havana", Number: n}); err != nil {
							t.Error(err)
						}
					}
				})
			}
			publishing.Wait()
			last := map[string]int{}
			for range 500 {
				got := realtimetest.Expect(t, admin, eventShiftStarted)
				require.Equal(t, last[got.DriverID], got.Number, got.DriverID)
				last[got.DriverID]++
			}
		})
	}
}

func TestHostEvent_Repeated(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withShifts)
		driver := srv.Driver(t, "d1")
		env, err := realtime.NewEnvelope(exampleShift())
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, srv.Bus.Publish(t.Context(), env))
		}
		require.Equal(t, env.ID, realtimetest.Expect(t, driver, eventShiftStarted).EventID)
		realtimetest.ExpectNone(t, driver)
	})
}

// otherShift has the name of shiftStarted, and is another type.
type otherShift struct{ shiftStarted }

// notDeclared is an event that no server knows.
type notDeclared struct{}

func (notDeclared) EventName() string { return "not.declared" }
func (notDeclared) EventKey() string  { return "key" }

func TestPublish_RefusesWhatItDoesNotKnow(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withShifts)
		driver := srv.Driver(t, "d1")
		for want, e := range map[string]realtime.DomainEvent{
			"realtime: the domain event is nil":                                               nil,
			"realtime: the server does not know the domain event realtime_test.notDeclared;":  notDeclared{},
			"realtime: the server does not know the domain event *realtime_test.notDeclared;": (*notDeclared)(nil),
			"realtime: the server does not know the domain event realtime_test.otherShift;":   otherShift{exampleShift()},
			"trip.started: invalid domain event: nil pointer":                                 (*realtime.TripStarted)(nil),
			"shift.started: invalid domain event: nil pointer":                                (*shiftStarted)(nil),
			"shift.started: invalid domain event: driverId is missing":                        shiftStarted{},
		} {
			require.ErrorContains(t, srv.Realtime.Publish(t.Context(), e), want)
		}
		require.Empty(t, srv.Bus.Published())
		realtimetest.ExpectNone(t, driver)

		shift := exampleShift()
		srv.Publish(t, &shift)
		require.Equal(t, 3, realtimetest.Expect(t, driver, eventShiftStarted).Number)
		srv.Publish(t, &realtime.DriverTripChanged{DriverTrip: realtime.DriverTrip{DriverID: "d1"}})
		realtimetest.Expect(t, driver, realtime.EventDriverTrip)

		for want, e := range map[string]realtime.DomainEvent{
			"realtime: the domain event is nil":                               nil,
			"realtime: the domain event is a nil *realtime.TripStarted":       (*realtime.TripStarted)(nil),
			"realtime: the domain event is a nil *realtime_test.shiftStarted": (*shiftStarted)(nil),
		} {
			_, err := realtime.NewEnvelope(e)
			require.EqualError(t, err, want)
		}
	})
}

func TestHostEvent_OfAnotherProducer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		unknown := make(chan string, 10)
		srv := realtimetest.NewServer(t, withShifts, logTo(&log), func(o *realtime.Options) {
			o.Trace = &realtime.Trace{Unknown: func(_ context.Context, i realtime.UnknownInfo) { unknown <- i.Event }}
		})
		driver := srv.Driver(t, "d1")
		for n, e := range []struct{ name, data string }{
			{"not.declared", `{}`}, {"", ``}, {"not.declared", `nonsense`},
			{"shift.started", `{"zone":"havana"}`}, {"shift.started", `{"driverId":"d1","zone":7}`}, {"shift.started", `{"driverId":`},
		} {
			require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: fmt.Sprint(n), Name: e.name, Key: "d1", Data: []byte(e.data)}))
		}
		realtimetest.ExpectNone(t, driver)
		require.NoError(t, srv.Bus.Err())
		require.Len(t, unknown, 3)
		require.Equal(t, "not.declared", <-unknown)
		require.Equal(t, 3, strings.Count(log.String(), "domain event not delivered"))
		require.Contains(t, log.String(), "driverId is missing")
	})
}

func TestHostEvent_PanicInDeliveries(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, withShifts, logTo(&log))
		driver := srv.Driver(t, "d1")
		srv.Publish(t, shiftStarted{DriverID: "d1", Zone: "panic"})
		srv.Publish(t, exampleShift())
		require.Equal(t, "havana", realtimetest.Expect(t, driver, eventShiftStarted).Zone)
		realtimetest.ExpectNone(t, driver)
		require.Contains(t, log.String(), "no such zone")
		require.NoError(t, srv.Bus.Err())
	})
}

// costlyEvent counts how often it is encoded.
type costlyEvent struct {
	shiftStarted
	encoded *atomic.Int64
}

func (costlyEvent) EventName() string { return "shift.costly" }

func (e costlyEvent) MarshalJSON() ([]byte, error) {
	e.encoded.Add(1)
	return json.Marshal(e.shiftStarted)
}

func (e *costlyEvent) UnmarshalJSON(b []byte) error { return json.Unmarshal(b, &e.shiftStarted) }

// In one process an event is not encoded for the bus, unless somebody else reads it
// off the bus.
func TestPublish_InProcess(t *testing.T) {
	var n atomic.Int64
	event := costlyEvent{exampleShift(), &n}
	declared := func(o *realtime.Options) {
		withShifts(o)
		o.Events = append(o.Events, realtime.NewDomainEvent("It is costly.", event))
	}
	t.Run("without a bus", func(t *testing.T) {
		srv := realtimetest.NewServer(t, declared, func(o *realtime.Options) { o.Bus = nil })
		driver := srv.Driver(t, "d1")
		n.Store(0)
		require.NoError(t, srv.Realtime.Publish(t.Context(), event))
		realtimetest.Expect(t, driver, eventShiftStarted)
		require.Zero(t, n.Load())
	})
	t.Run("MemoryBus", func(t *testing.T) {
		bus := realtime.NewMemoryBus()
		one := realtimetest.NewServer(t, declared, func(o *realtime.Options) { o.Bus = bus })
		// This one does not know the event.
		other := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = bus })
		data := make(chan realtime.Envelope, 1)
		driver, unrelated := one.Driver(t, "d1"), other.Driver(t, "d1")
		n.Store(0)
		require.NoError(t, one.Realtime.Publish(t.Context(), event))
		realtimetest.Expect(t, driver, eventShiftStarted)
		require.Zero(t, n.Load())

		cancel, err := bus.Subscribe(func(_ context.Context, e realtime.Envelope) error {
			data <- e
			return nil
		})
		require.NoError(t, err)
		require.NoError(t, one.Realtime.Publish(t.Context(), event))
		e := <-data
		cancel()
		require.JSONEq(t, `{"driverId":"d1","zone":"havana","number":3}`, string(e.Data))
		require.Equal(t, "shift.costly", e.Name)
		require.Equal(t, "d1", e.Key)
		require.Equal(t, e.ID, realtimetest.Expect(t, driver, eventShiftStarted).EventID)
		require.EqualValues(t, 1, n.Load())

		// An envelope that was received from a bus can be published on another one.
		require.NoError(t, bus.Publish(t.Context(), realtime.Envelope{ID: "again", Name: e.Name, Key: e.Key, Data: e.Data}))
		require.Equal(t, "again", realtimetest.Expect(t, driver, eventShiftStarted).EventID)
		require.Len(t, unrelated.Received(), 1, "its hello")
	})
}

func TestNewDomainEvent_Mistakes(t *testing.T) {
	t.Parallel()
	declare := func(deliveries func(m realtime.EventMeta) []realtime.Delivery) realtime.DomainEventType {
		return realtime.NewDomainEvent("It has mistakes.", invalidEvent{deliveries})
	}
	for want, events := range map[string][]realtime.DomainEventType{
		`Options.Events[0] is the zero value; use NewDomainEvent`:       {{}},
		`the type must be a struct`:                                     {realtime.NewDomainEvent("A pointer.", &invalidEvent{})},
		`domain event "shift.started": NewDomainEvent needs an example`: {realtime.NewDomainEvent[shiftStarted]("No example.")},
		`domain event "shift.started": NewDomainEvent needs a sentence that says what happened`: {
			realtime.NewDomainEvent(" \n", exampleShift()),
		},
		`domain event "shift.started": the example is not valid: shift.started: invalid domain event: driverId is missing`: {
			realtime.NewDomainEvent("Invalid.", shiftStarted{}),
		},
		`domain event "shift.started" is in Options.Events twice`: {
			realtime.NewDomainEvent("One.", exampleShift()), realtime.NewDomainEvent("The same.", exampleShift()),
		},
		`Options.Events[0]: EventName returns an empty name`:                                 {realtime.NewDomainEvent("No name.", namelessEvent{})},
		`domain event "trip.started": the library has an event of that name; choose another`: {realtime.NewDomainEvent("Ours.", reservedNameEvent{})},
		`realtime_test.embeddedEvent]: EventName of the zero value: panic: `:                 {realtime.NewDomainEvent("It embeds an interface.", embeddedEvent{exampleShift()})},
		`panic: no such zone`: {realtime.NewDomainEvent("Panics.", shiftStarted{DriverID: "d1", Zone: "panic"})},
		`shift:started is for the namespace "/nowhere", which does not exist; list it in Options.Namespaces`: {
			declare(func(m realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{EventMeta: m}, realtime.ToRoom("/nowhere", realtime.DriverRoom("d1")))}
			}),
		},
		`the delivery of shift:started has no audience`: {
			declare(func(m realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{EventMeta: m}, realtime.ToDriver(""), realtime.ToUser(""))}
			}),
		},
		`the payload of shift:started lacks its eventId; embed EventMeta and set it`: {
			declare(func(realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{}, realtime.ToDriver("d1"))}
			}),
		},
		`the payload of note lacks its eventId`: {
			declare(func(realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{realtime.NewEvent[string]("note").Deliver("text", realtime.ToAdmins())}
			}),
		},
		`panic: NewEvent: an event cannot be called "connect_error"`: {
			declare(func(m realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{realtime.NewEvent[realtime.EventMeta]("connect_error").Deliver(m, realtime.ToAdmins())}
			}),
		},
		`the event of a delivery has no name; declare it with NewEvent`: {
			declare(func(m realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{realtime.Event[realtime.EventMeta]{}.Deliver(m, realtime.ToAdmins())}
			}),
		},
		`unsupported type`: {
			declare(func(realtime.EventMeta) []realtime.Delivery {
				return []realtime.Delivery{realtime.NewEvent[chan int]("chan").Deliver(nil, realtime.ToAdmins())}
			}),
		},
	} {
		_, err := realtime.New(realtime.Options{
			Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Events: events,
			Namespaces: map[string]realtime.NamespaceOptions{"/support": {}},
		})
		require.ErrorContains(t, err, want)
	}
}

// namelessEvent has an empty name.
type namelessEvent struct{ shiftStarted }

func (namelessEvent) EventName() string { return "" }

// invalidEvent has the deliveries that a test sets.
type invalidEvent struct {
	deliveries func(m realtime.EventMeta) []realtime.Delivery
}

func (invalidEvent) EventName() string { return "mistaken" }
func (invalidEvent) EventKey() string  { return "key" }

func (e invalidEvent) Deliveries(m realtime.EventMeta) []realtime.Delivery { return e.deliveries(m) }

// embeddedEvent has no name while it is zero.
type embeddedEvent struct{ realtime.HostEvent }

// reservedNameEvent has the name of a built-in event.
type reservedNameEvent struct{ shiftStarted }

func (reservedNameEvent) EventName() string { return "trip.started" }

func TestOptions_Namespaces(t *testing.T) {
	t.Parallel()
	bubbleOptions := realtime.Options{Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}}
	for name, want := range map[string]string{"support": "begin with a slash", "/admin": `"/admin" is a built-in namespace`} {
		o := bubbleOptions
		o.Namespaces = map[string]realtime.NamespaceOptions{name: {}}
		_, err := realtime.New(o)
		require.ErrorContains(t, err, want)
	}
}

func TestHostEvent_IsInTheCatalog(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withShifts)
		docs := map[string]realtime.EventDoc{}
		for _, d := range srv.Realtime.Catalog().Events {
			if d.Event == "shift:started" {
				docs[d.Namespace] = d
			}
		}
		require.Len(t, docs, 3)
		require.Equal(t, "the driver", docs["/drivers"].Audience)
		require.Equal(t, "the admins who watch the drivers", docs["/admin"].Audience)
		require.Equal(t, "the room `zone:{id}`, such as `zone:havana`", docs["/support"].Audience)
		require.Equal(t, []string{"shift.started"}, docs["/admin"].DomainEvents)
		require.Equal(t, "A driver began to work.", docs["/admin"].Doc)
		fields := realtimegen.Fields(docs["/admin"].Payload)
		require.Equal(t, "eventId", fields[0].Name)
		require.Equal(t, "the zone's name", fields[3].Doc)
	})
}

// The deliveries of an event can be compared without a server.
func TestDelivery(t *testing.T) {
	t.Parallel()
	m := realtime.EventMeta{EventID: "e1"}
	got := exampleShift().Deliveries(m)
	require.Equal(t, []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{m, "d1", "havana", 3},
		realtime.ToDriver("d1"), realtime.ToDriverWatchers(), realtime.ToRoom("/support", realtime.NewRoom("zone", "havana")))}, got)
	require.Equal(t, "shift:started", got[0].Event())
	require.Equal(t, "e1", got[0].Payload().(shiftPayload).EventID)
	require.Equal(t, "[/drivers driver:d1 /admin admin:drivers /support host:zone:havana]", fmt.Sprint(got[0].Audiences()))
	for want, a := range map[string]realtime.Audience{
		"/passengers passenger:p1":     realtime.ToPassenger("p1"),
		"/admin admin:all":             realtime.ToAdmins(),
		"every namespace user:u1":      realtime.ToUser("u1"),
		"every namespace session:s1":   realtime.ToSession("s1"),
		"/drivers driver:d1 driver:d2": realtime.ToRoom("/drivers", realtime.DriverRoom("d1"), realtime.DriverRoom("d2")),
	} {
		require.Equal(t, want, a.String())
	}
	d := eventShiftStarted.Deliver(shiftPayload{}, realtime.ToDriver(""), realtime.ToUser(""), realtime.ToSession(""), realtime.ToRoom("/x", realtime.Room{}))
	require.Empty(t, d.Audiences())
}

// Two rooms of one audience hold one socket: it receives the event once. A newer
// position replaces an unsent one of the same key.
func TestDelivery_OnceAndLatest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("A position of the host's own.", pinged{"a1", 1})}
		})
		admin := srv.Admin(t, "a1")
		srv.Publish(t, pinged{"a1", 1})
		require.Equal(t, 1, realtimetest.Expect(t, admin, eventPinged).Number)
		realtimetest.ExpectNone(t, admin)

		fillConnection(t, admin, srv.Realtime.Admin().To(realtime.AdminUserRoom("a1")))
		for n := range 10 {
			srv.Publish(t, pinged{"a1", n})
			srv.Publish(t, pinged{"a2", 10 * n})
		}
		admin.Resume()
		synctest.Wait()
		require.Equal(t, 9, realtimetest.Expect(t, admin, eventPinged).Number)
		require.Equal(t, 90, realtimetest.Expect(t, admin, eventPinged).Number)
		realtimetest.ExpectNone(t, admin, eventPinged)
	})
}

type pinged struct {
	UserID string
	Number int
}

type pingedPayload struct {
	realtime.EventMeta
	Number int `json:"number"`
}

var eventPinged = realtime.NewEvent[pingedPayload]("pinged")

func (pinged) EventName() string  { return "pinged" }
func (e pinged) EventKey() string { return e.UserID }
func (e pinged) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	return []realtime.Delivery{eventPinged.Deliver(pingedPayload{m, e.Number},
		realtime.ToRoom(realtime.NamespaceAdmin, realtime.AdminAllRoom, realtime.AdminUserRoom("a1"))).Latest(e.UserID)}
}

// Publish returns an error for a number that JSON cannot encode, with every bus: later the error
// could not be returned.
func TestPublish_RefusesNumbersThatAreNone(t *testing.T) {
	t.Parallel()
	nan, infinite := math.NaN(), math.Inf(1)
	place := &realtime.Place{Lat: nan}
	driver := realtime.AssignmentOffered{TripID: "t1", AssignmentID: "as1", TTLSec: 20}
	offered := func(change func(e *realtime.AssignmentOffered)) realtime.AssignmentOffered {
		e := driver
		change(&e)
		return e
	}
	for _, bus := range []realtime.EventBus{nil, realtimetest.NewBus()} {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = bus })
		for want, e := range map[string]realtime.DomainEvent{
			"pickup":             realtime.TripRequested{TripID: "t1", Pickup: place},
			"fareEstimatedTotal": realtime.TripRequested{TripID: "t1", FareEstimatedTotal: &nan},
			"priceEstimate":      offered(func(e *realtime.AssignmentOffered) { e.PriceEstimate = &infinite }),
			"destinationHint":    offered(func(e *realtime.AssignmentOffered) { e.DestinationHint = place }),
			"driver":             realtime.DriverAssigned{TripID: "t1", Driver: &realtime.DriverCard{RatingAvg: &nan}},
			"etaMinutes":         realtime.DriverEnRoute{TripID: "t1", ETAMinutes: &infinite},
			"driverPosition":     realtime.DriverEnRoute{TripID: "t1", DriverPosition: &realtime.Position{Lng: nan}},
			"fareTotal":          realtime.TripCompleted{TripID: "t1", FareTotal: nan, Currency: "CUP"},
			"waitingMinutes":     realtime.WaitingSurchargeApplied{TripID: "t1", WaitingMinutes: nan, Currency: "CUP"},
			"amount":             realtime.WaitingSurchargeApplied{TripID: "t1", Amount: -infinite, Currency: "CUP"},
			"lastLocation":       realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", LastLocation: realtime.Position{Lat: nan}}},
			"speed":              realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", Speed: &nan}},
			"heading":            realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", Heading: &nan}},
			"last":               realtime.DriverStatusChanged{Availability: realtime.Availability{DriverID: "d1", LastLocation: &realtime.Position{Lat: nan}}},
			"deviceInfo":         realtime.UserLoggedIn{UserID: "u1", SessionID: "s1", DeviceInfo: map[string]any{"battery": nan}},
			"deviceInfo ":        realtime.UserLoggedIn{UserID: "u1", SessionID: "s1", DeviceInfo: map[string]any{"channel": make(chan int)}}, //nolint:gocritic // the space makes the key unique
		} {
			err := srv.Realtime.Publish(t.Context(), e)
			require.ErrorContains(t, err, "invalid domain event", want)
			require.ErrorContains(t, err, strings.TrimSpace(want))
		}
	}
}

// What no app could show is refused: an amount without its currency, and a place that is not on
// earth.
func TestPublish_RefusesValuesOutOfRange(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		passenger := srv.Passenger(t, "p1")
		far, position := &realtime.Place{Lat: 1000}, realtime.Position{Lng: -180.5}
		for want, e := range map[string]realtime.DomainEvent{
			"missing currency":       realtime.TripCompleted{TripID: "t1", PassengerID: "p1", FareTotal: 5},
			"missing currency ":      realtime.WaitingSurchargeApplied{TripID: "t1", PassengerID: "p1", Amount: 5},
			"pickup is not":          realtime.TripRequested{TripID: "t1", PassengerID: "p1", Pickup: far},
			"pickup is not ":         realtime.AssignmentOffered{TripID: "t1", PassengerID: "p1", AssignmentID: "a1", DriverID: "d1", TTLSec: 1, Pickup: far},
			"destinationHint is not": realtime.AssignmentOffered{TripID: "t1", PassengerID: "p1", AssignmentID: "a1", DriverID: "d1", TTLSec: 1, DestinationHint: far},
			"driverPosition is not":  realtime.DriverEnRoute{TripID: "t1", PassengerID: "p1", DriverPosition: &position},
			"lastLocation is not":    realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", LastLocation: position}},
			"lastLocation is not ":   realtime.DriverStatusChanged{Availability: realtime.Availability{DriverID: "d1", LastLocation: &position}},
			"heading is not":         realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", Heading: new(400.0)}},
			"speed is negative":      realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: "d1", Speed: new(-5.0)}},
		} {
			err := srv.Realtime.Publish(t.Context(), e)
			require.ErrorContains(t, err, "invalid domain event: "+strings.TrimSpace(want), "%T", e)
			require.NotContains(t, err.Error(), "1000", "a coordinate is not for the log")
		}
		realtimetest.ExpectNone(t, passenger)
		// What a phone says when it does not know is no mistake of the host's.
		require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{
			DriverID: "d1", LastLocation: realtime.Position{Lat: -90, Lng: 180}, Heading: new(-1.0), Speed: new(-1.0),
		}}))
	})
}

// duplicateEvent is another type with the name of costlyEvent.
type duplicateEvent struct {
	DriverID string `json:"driverId"`
	Zone     string `json:"zone"`
}

func (duplicateEvent) EventName() string  { return "shift.costly" }
func (e duplicateEvent) EventKey() string { return e.DriverID }
func (e duplicateEvent) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	return []realtime.Delivery{eventShiftStarted.Deliver(shiftPayload{m, e.DriverID, e.Zone + " again", 0}, realtime.ToDriver(e.DriverID))}
}

// Two servers on one bus may have a type of their own each for one event.
func TestPublish_InProcessToAnotherType(t *testing.T) {
	bus := realtime.NewMemoryBus()
	one := realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Bus = bus
		withShifts(o)
		o.Events = append(o.Events, realtime.NewDomainEvent("It is costly.", costlyEvent{exampleShift(), new(atomic.Int64)}))
	})
	other := realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Bus = bus
		o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("The same.", duplicateEvent{DriverID: "d1"})}
	})
	here, there := one.Driver(t, "d1"), other.Driver(t, "d1")
	require.NoError(t, one.Realtime.Publish(t.Context(), costlyEvent{exampleShift(), new(atomic.Int64)}))
	require.Equal(t, "havana", realtimetest.Expect(t, here, eventShiftStarted).Zone)
	require.Equal(t, "havana again", realtimetest.Expect(t, there, eventShiftStarted).Zone)
}

// counted is a payload that counts how often it is encoded.
type counted struct {
	realtime.EventMeta
	n *atomic.Int64
}

func (c counted) MarshalJSON() ([]byte, error) {
	c.n.Add(1)
	return json.Marshal(c.EventMeta)
}

var (
	eventCounted = realtime.NewEvent[counted]("counted")
	encodings    atomic.Int64
)

// sentTo is an event to audiences that are its own value.
type sentTo struct{ To string }

func (sentTo) EventName() string { return "sent.to" }
func (sentTo) EventKey() string  { return "key" }
func (e sentTo) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	to := []realtime.Audience{realtime.ToUser("d1"), realtime.ToAdmins(), realtime.ToPassenger("p9")}
	switch e.To {
	case "nobody":
		to = []realtime.Audience{realtime.ToPassenger("p9"), realtime.ToDriver("")}
	case "nowhere":
		to = []realtime.Audience{realtime.ToRoom("/nowhere", realtime.DriverRoom("d1")), realtime.ToDriver("d1")}
	}
	return []realtime.Delivery{eventCounted.Deliver(counted{m, &encodings}, to...)}
}

func TestDelivery_IsEncodedOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) {
			o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("It is counted.", sentTo{})}
		})
		clients := map[string]*realtimetest.Client{"driver": srv.Driver(t, "d1"), "admin": srv.Admin(t, "a1"), "passenger": srv.Passenger(t, "p1")}
		for to, want := range map[string]struct {
			encoded int64
			who     []string
		}{"": {1, []string{"admin", "driver"}}, "nobody": {0, nil}, "nowhere": {1, []string{"driver"}}} {
			encodings.Store(0)
			got := realtimetest.AudienceOf(t, clients, func() { srv.Publish(t, sentTo{to}) })
			require.Equal(t, want.who, slices.Sorted(maps.Keys(got)), to)
			require.Equal(t, want.encoded, encodings.Load(), to)
		}
		require.Equal(t, 1, strings.Count(log.String(), "no such namespace"))
	})
}

// tipped is an event of the host's own about a trip, whose key it has.
type tipped struct {
	TripID string
	Exit   bool
}

var eventTipped = realtime.NewEvent[realtime.EventMeta]("trip:tipped")

func (tipped) EventName() string  { return "trip.tipped" }
func (e tipped) EventKey() string { return e.TripID }
func (e tipped) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	if e.Exit {
		runtime.Goexit()
	}
	return []realtime.Delivery{eventTipped.Deliver(m, realtime.ToAdmins())}
}

// A host's own event with a trip's key keeps the order of the trip's events, also while they wait
// for Options.Parties. If its method ends the goroutine, only that event is lost.
func TestHostEvent_OrderBehindATrip(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("The driver got a tip.", tipped{TripID: "t1"})}
		})
		admin := srv.Admin(t, "a1")
		entered, release := srv.Parties.Block()
		require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}))
		<-entered
		require.NoError(t, srv.Realtime.Publish(t.Context(), tipped{"t1", true}))
		require.NoError(t, srv.Realtime.Publish(t.Context(), tipped{TripID: "t1"}))
		require.NoError(t, srv.Realtime.Publish(t.Context(), tipped{TripID: "t2"}))
		time.Sleep(time.Second)
		synctest.Wait()
		realtimetest.Expect(t, admin, eventTipped) // of t2
		realtimetest.ExpectNone(t, admin)
		release()
		realtimetest.Expect(t, admin, eventTipped)
		var names []string
		for _, r := range admin.Received()[1:] {
			names = append(names, r.Event)
		}
		require.Equal(t, []string{"trip:tipped", "trip:started", "trip:tipped"}, names)
	})
}

// hostileEvent has what the host's own events get wrong.
type hostileEvent struct { //nolint:recvcheck // a pointer receiver is what the test is about
	Name string `json:"name"`
	How  string `json:"how"`
}

var eventHostile = realtime.NewEvent[realtime.EventMeta]("hostile")

func (e hostileEvent) EventName() string {
	if e.Name != "" {
		return e.Name
	}
	return "hostile"
}
func (hostileEvent) EventKey() string { return "key" }

// Validate has a pointer receiver, as UnmarshalJSON of the same type would.
func (e *hostileEvent) Validate() error {
	if e.How == "invalid" {
		return errors.New("it is invalid")
	}
	return nil
}

func (e hostileEvent) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	switch e.How {
	case "overlap":
		return []realtime.Delivery{eventHostile.Deliver(m, realtime.ToUser("a1"), realtime.ToAdmins(), realtime.ToDriver(""),
			realtime.ToRoom("/admin", realtime.Room{}, realtime.AdminUserRoom("a1")), realtime.ToSession(realtimetest.SessionID("a2")), realtime.ToDriver("d1"))}
	case "no name":
		return []realtime.Delivery{realtime.Event[realtime.EventMeta]{}.Deliver(m, realtime.ToAdmins())}
	}
	return []realtime.Delivery{eventHostile.Deliver(m, realtime.ToAdmins())}
}

func withHostile(o *realtime.Options) {
	o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("It is hostile.", hostileEvent{})}
}

func TestDelivery_OnceForEachSocket(t *testing.T) {
	onNodes(t, func(t *testing.T, nodes []*realtimetest.Server) {
		clients := map[string]*realtimetest.Client{
			"a1": nodes[0].Admin(t, "a1"), "a1 there": nodes[1].Admin(t, "a1"), "a2": nodes[1].Admin(t, "a2"), "a3": nodes[0].Admin(t, "a3"),
			"d1": nodes[1].Driver(t, "d1"), "d2": nodes[1].Driver(t, "d2"),
		}
		support, err := nodes[1].Dial(t.Context(), "/support", realtimetest.Token(nodes[1].Login("a1", realtime.UserAdmin)))
		require.NoError(t, err)
		realtimetest.Expect(t, support, realtime.EventHello)
		clients["support a1"] = support
		got := realtimetest.AudienceOf(t, clients, func() { nodes[0].Publish(t, hostileEvent{How: "overlap"}) })
		once := []string{"hostile"}
		require.Equal(t, map[string][]string{"a1": once, "a1 there": once, "a2": once, "a3": once, "d1": once, "support a1": once}, got.Events())
	}, withHostile, func(o *realtime.Options) { o.Namespaces = map[string]realtime.NamespaceOptions{"/support": {}} })
}

func TestHostEvent_Mistakes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, withHostile, logTo(&log))
		admin := srv.Admin(t, "a1")
		for want, e := range map[string]realtime.DomainEvent{
			"realtime: hostile: invalid domain event: it is invalid":                                                                   hostileEvent{How: "invalid"},
			"realtime: hostile: invalid domain event: EventName returns \"another\" for this value and \"hostile\" for the zero value": &hostileEvent{Name: "another"},
		} {
			require.EqualError(t, srv.Realtime.Publish(t.Context(), e), want)
		}
		require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: "1", Name: "hostile", Key: "key", Data: []byte(`{"how":"invalid"}`)}))
		srv.Publish(t, hostileEvent{How: "no name"})
		realtimetest.ExpectNone(t, admin)
		require.Contains(t, log.String(), "it is invalid")
		require.Contains(t, log.String(), "the event has no name; declare it with NewEvent")
	})
}
