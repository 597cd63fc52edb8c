// Every row of the contract's table of outbound events, over the wire: exactly the clients of
// its audience receive the event, once, each with the payload of its audience; on one node and
// on two, whichever way the bus reaches the nodes.

package realtime_test

import (
	"encoding/json"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The cast. Driver d1 and passenger p1 of trip t1 have two devices each, and d1
// is also in a namespace of the host's; three admins are there: one has joined
// the trip, one has done nothing, one has left admin:drivers.
var everybody = []string{
	"driver1", "driver2", "otherDriver", "passenger1", "passenger2", "otherPassenger",
	"adminJoined", "admin", "adminAway", "support",
}

// audiences are the receivers of the contract, by what the table below calls
// them. The trip's admins are fewer when Options.AdminTripsByRoom is set.
var audiences = map[string]string{
	"D": "driver1 driver2",
	"P": "passenger1 passenger2",
	"T": "adminJoined admin adminAway",
	"W": "adminJoined admin", // who watch drivers
	"A": "adminJoined admin adminAway",
	"F": "passenger1 passenger2 adminJoined", // who follow the trip
}

// wantedEvent says that each client of an audience receives one event. The audience is a
// list of names or of the letters above. In the payload, E stands for the domain event's
// id.
type wantedEvent struct{ who, event, payload string }

type wireRow struct {
	name  string
	event realtime.DomainEvent
	want  []wantedEvent
	// assigned says that the trip has its driver already.
	assigned bool
	// thrown are disconnected by the server, closed lose their connection after
	// the grace time of a refresh.
	thrown, closed string
}

var tripAt = time.Date(2026, 5, 4, 10, 20, 30, 123e6, time.UTC)

const (
	tripHead    = `"eventId":"E","tripId":"t1","at":"2026-05-04T10:20:30.123Z"`
	wireDriver  = `{"id":"d1","name":"Ana","photoUrl":null,"phoneMasked":"+53 ••• ••123","ratingAvg":4.8,"ratingCount":31}`
	wireVehicle = `{"id":"v1","make":"Lada","model":null,"color":"blue","plateNumber":"P123456"}`
)

func wireRows() []wireRow {
	place := &realtime.Place{Lat: 23.1, Lng: -82.3, Address: new("Calle 23")}
	position := realtime.Position{Lat: 23.1, Lng: -82.3}
	driver := &realtime.DriverCard{ID: "d1", Name: new("Ana"), PhoneMasked: new("+53 ••• ••123"), RatingAvg: new(4.8), RatingCount: new(31)}
	vehicle := &realtime.VehicleCard{ID: "v1", Make: new("Lada"), Color: new("blue"), PlateNumber: new("P123456")}
	passenger := &realtime.PassengerCard{ID: "p1", Name: new("Eva")}
	message := func(to realtime.MessageTo, who string) wireRow {
		return wireRow{
			name:  "admin.trip.message_sent to " + string(to),
			event: realtime.AdminTripMessage{TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", To: to, Message: "Wait", At: tripAt},
			want:  []wantedEvent{{who, "admin:trip:message_sent", `{` + tripHead + `,"adminId":"a1","to":"` + string(to) + `","message":"Wait"}`}},
		}
	}
	snapshot := `{"eventId":"E","driverId":"d1","isOnline":true,"isAvailableForTrips":false,"availabilityReason":"ON_TRIP","currentTripId":"t1",
		"currentVehicleId":null,"lastLocation":{"lat":23.1,"lng":-82.3},"lastLocationTimestamp":"2026-05-04T10:20:30.123Z",
		"lastOnlineTimestamp":null,"updatedAt":"2026-05-04T10:20:30.123Z"}`
	location := `{"eventId":"E","driverId":"d1","lastLocation":{"lat":23.1,"lng":-82.3},"lastLocationTimestamp":"2026-05-04T10:20:30.123Z","speed":12.5`
	moved := realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{
		DriverID: "d1", LastLocation: position, LastLocationTimestamp: realtime.Time{Time: tripAt}, Speed: new(12.5),
	}}
	driverTrip := `{"eventId":"E","driverId":"d1","currentTripId":"t1","availabilityReason":"ON_TRIP","isAvailableForTrips":false}`
	offer := `"eventId":"E","assignmentId":"as1","tripId":"t1","ttlSec":20,"expiresAt":"2026-05-04T10:20:50.123Z",
		"pickup":{"lat":23.1,"lng":-82.3,"address":"Calle 23"},"stopsCount":2,"priceEstimate":350.5,"currency":"CUP"`
	assignment := `{` + tripHead + `,"assignmentId":"as1","driverId":"d1","vehicleId":"v1"`
	toDriver := `{` + tripHead + `,"driverId":"d1","vehicleId":"v1","currentStatus":"accepted",
		"passenger":{"id":"p1","name":"Eva","photoUrl":null,"phoneMasked":null}`

	return []wireRow{
		{
			name: "trip.requested",
			event: realtime.TripRequested{
				TripID: "t1", PassengerID: "p1", Pickup: place, FareEstimatedTotal: new(350.5), FareFinalCurrency: "CUP", At: tripAt,
			},
			want: []wantedEvent{{"P T", "trip:requested", `{"eventId":"E","tripId":"t1","passengerId":"p1","requestedAt":"2026-05-04T10:20:30.123Z",
				"pickup":{"lat":23.1,"lng":-82.3,"address":"Calle 23"},"fareEstimatedTotal":350.5,"fareFinalCurrency":"CUP","status":"pending"}`}},
		},
		{
			name:  "trip.assigning.started",
			event: realtime.TripAssigningStarted{TripID: "t1", PassengerID: "p1", At: tripAt},
			want:  []wantedEvent{{"P T", "trip:assigning_started", `{` + tripHead + `,"previousStatus":"pending","currentStatus":"assigning"}`}},
		},
		{
			name: "trip.assignment.offered",
			event: realtime.AssignmentOffered{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", TTLSec: 20,
				Pickup: place, StopsCount: new(2), PriceEstimate: new(350.5), Currency: "CUP", At: tripAt,
			},
			want: []wantedEvent{
				{"D", "trip:assignment:offered", `{` + offer + `}`},
				{"T", "trip:assignment:offered", `{` + offer + `,"driverId":"d1","vehicleId":"v1"}`},
			},
		},
		{
			name: "trip.assignment.accepted",
			event: realtime.AssignmentAccepted{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Driver: driver, Vehicle: vehicle, At: tripAt,
			},
			want: []wantedEvent{
				{"P", "trip:driver_accepted", `{` + tripHead + `,"currentStatus":"accepted","driver":` + wireDriver + `,"vehicle":` + wireVehicle + `}`},
				{"D T", "trip:assignment:accepted", assignment + `}`},
			},
		},
		{
			name: "trip.driver.assigned",
			event: realtime.DriverAssigned{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Driver: driver, Vehicle: vehicle, Passenger: passenger, At: tripAt,
			},
			want: []wantedEvent{
				{"P", "trip:driver_assigned", `{` + tripHead + `,"driverId":"d1","vehicleId":"v1","currentStatus":"accepted",
					"driver":` + wireDriver + `,"vehicle":` + wireVehicle + `}`},
				{"D", "trip:driver_assigned", toDriver + `}`},
				{"T", "trip:driver_assigned", toDriver + `,"passengerId":"p1"}`},
			},
		},
		{
			name: "trip.assignment.rejected",
			event: realtime.AssignmentRejected{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Reason: "busy", At: tripAt,
			},
			want: []wantedEvent{{"T", "trip:assignment:rejected", assignment + `,"reason":"busy"}`}},
		},
		{
			name: "trip.assignment.expired",
			event: realtime.AssignmentExpired{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", At: tripAt,
			},
			want: []wantedEvent{{"D T", "trip:assignment:expired", assignment + `}`}},
		},
		{
			name: "trip.assignment.cancelled",
			event: realtime.AssignmentCancelled{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Reason: "taken", At: tripAt,
			},
			want: []wantedEvent{{"D T", "trip:assignment:cancelled", assignment + `,"reason":"taken"}`}},
		},
		{
			name: "trip.assignment.delivered",
			event: realtime.AssignmentDelivered{
				TripID: "t1", AssignmentID: "as1", DriverID: "d1", SocketID: "s1", LatencyMS: 180, By: realtime.ReceivedByHeartbeat, At: tripAt,
			},
			want: []wantedEvent{{
				"T", "trip:assignment:delivered",
				`{` + tripHead + `,"assignmentId":"as1","driverId":"d1","socketId":"s1","latencyMs":180,"by":"heartbeat"}`,
			}},
		},
		{
			name:  "trip.assignment.undelivered",
			event: realtime.AssignmentUndelivered{TripID: "t1", AssignmentID: "as1", DriverID: "d1", Reason: realtime.UndeliveredNoDevice, At: tripAt},
			want: []wantedEvent{{
				"T", "trip:assignment:undelivered", `{` + tripHead + `,"assignmentId":"as1","driverId":"d1","reason":"no_device"}`,
			}},
		},
		{
			name:  "trip.no_drivers_found",
			event: realtime.NoDriversFound{TripID: "t1", PassengerID: "p1", Reason: "timeout", At: tripAt},
			want:  []wantedEvent{{"P T", "trip:no_drivers_found", `{` + tripHead + `,"reason":"timeout"}`}},
		},
		{
			name:     "trip.arriving.started",
			event:    realtime.ArrivingStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: tripAt},
			assigned: true,
			want:     []wantedEvent{{"P D T", "trip:arriving_started", `{` + tripHead + `,"previousStatus":"accepted","currentStatus":"arriving"}`}},
		},
		{
			name: "trip.driver.en_route",
			event: realtime.DriverEnRoute{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", ETAMinutes: new(4.5), DriverPosition: &position, At: tripAt,
			},
			assigned: true,
			want: []wantedEvent{
				{"P D", "trip:driver_en_route", `{` + tripHead + `,"etaMinutes":4.5,"driverPosition":{"lat":23.1,"lng":-82.3}}`},
				{"T", "trip:driver_en_route", `{` + tripHead + `,"etaMinutes":4.5,"driverPosition":{"lat":23.1,"lng":-82.3},"driverId":"d1"}`},
			},
		},
		{
			name:     "trip.driver.arrived_pickup",
			event:    realtime.DriverArrivedPickup{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: tripAt},
			assigned: true,
			want: []wantedEvent{
				{"P D", "trip:driver_arrived_pickup", `{` + tripHead + `,"currentStatus":"arriving"}`},
				{"T", "trip:driver_arrived_pickup", `{` + tripHead + `,"currentStatus":"arriving","driverId":"d1"}`},
			},
		},
		{
			name:     "trip.started",
			event:    realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: tripAt},
			assigned: true,
			want: []wantedEvent{
				{"P D", "trip:started", `{` + tripHead + `,"currentStatus":"in_progress"}`},
				{"T", "trip:started", `{` + tripHead + `,"currentStatus":"in_progress","driverId":"d1"}`},
			},
		},
		{
			name:     "trip.completed",
			event:    realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", FareTotal: 410.25, Currency: "CUP", At: tripAt},
			assigned: true,
			want: []wantedEvent{{"P D T", "trip:completed", `{` + tripHead + `,"driverId":"d1","currentStatus":"completed",
				"fareTotal":410.25,"currency":"CUP"}`}},
		},
		{
			name:  "trip.completed, its people known from before",
			event: realtime.TripCompleted{TripID: "t1", FareTotal: 410.25, Currency: "CUP", At: tripAt}, assigned: true,
			want: []wantedEvent{{"P D T", "trip:completed", `{` + tripHead + `,"driverId":"d1","currentStatus":"completed",
				"fareTotal":410.25,"currency":"CUP"}`}},
		},
		{
			name: "trip.cancelled",
			event: realtime.TripCancelled{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", CancelledBy: realtime.CancelledByPassenger, Reason: "late", At: tripAt,
			},
			assigned: true,
			want:     []wantedEvent{{"P D T", "trip:cancelled", `{` + tripHead + `,"currentStatus":"cancelled","cancelledBy":"passenger","reason":"late"}`}},
		},
		{
			name:  "trip.cancelled without a driver",
			event: realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledBySystem, At: tripAt},
			want:  []wantedEvent{{"P T", "trip:cancelled", `{` + tripHead + `,"currentStatus":"cancelled","cancelledBy":"system","reason":null}`}},
		},
		{
			name: "trip.waiting_surcharge.applied",
			event: realtime.WaitingSurchargeApplied{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", WaitingMinutes: 7, Amount: 50.5, Currency: "CUP", At: tripAt,
			},
			assigned: true,
			want:     []wantedEvent{{"P D T", "trip:waiting_surcharge_applied", `{` + tripHead + `,"waitingMinutes":7,"amount":50.5,"currency":"CUP"}`}},
		},
		{
			name: "admin.trip.action_issued",
			event: realtime.AdminTripAction{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", Action: "reassign", Reason: "no show", At: tripAt,
			},
			assigned: true,
			want:     []wantedEvent{{"T", "admin:trip:action_issued", `{` + tripHead + `,"adminId":"a1","action":"reassign","reason":"no show"}`}},
		},
		message(realtime.MessageToBoth, "D P T"),
		message(realtime.MessageToDriver, "D T"),
		message(realtime.MessageToPassenger, "P T"),
		{
			name: "driver_availability.status_updated",
			event: realtime.DriverStatusChanged{Availability: realtime.Availability{
				DriverID: "d1", IsOnline: true, AvailabilityReason: realtime.ReasonOnTrip, CurrentTripID: new("t1"),
				LastLocation: &position, LastLocationTimestamp: realtime.Time{Time: tripAt}, UpdatedAt: realtime.Time{Time: tripAt},
			}},
			assigned: true,
			want: []wantedEvent{
				{"D", "driver:availability:update", snapshot},
				{"W", "admin:driver:availability:update", snapshot},
			},
		},
		{
			name: "driver_availability.location_updated", event: moved, assigned: true,
			want: []wantedEvent{
				{"D", "driver:location:update", location + `}`},
				{"W", "admin:driver:location:update", location + `}`},
				{"F", "trip:driver_location", location + `,"tripId":"t1"}`},
			},
		},
		{
			name: "driver_availability.location_updated without a trip", event: moved,
			want: []wantedEvent{
				{"D", "driver:location:update", location + `}`},
				{"W", "admin:driver:location:update", location + `}`},
			},
		},
		{
			name: "driver_availability.trip_updated",
			event: realtime.DriverTripChanged{DriverTrip: realtime.DriverTrip{
				DriverID: "d1", CurrentTripID: new("t1"), AvailabilityReason: realtime.ReasonOnTrip,
			}},
			want: []wantedEvent{
				{"D", "driver:trip:update", driverTrip},
				{"W", "admin:driver:trip:update", driverTrip},
			},
		},
		{
			name: "auth.user.logged_in",
			event: realtime.UserLoggedIn{
				UserID: "d1", UserType: realtime.UserDriver, SessionID: "s9", SessionType: "mobile_app", DeviceInfo: map[string]any{"os": "Android"}, At: tripAt,
			},
			want: []wantedEvent{
				{"A", "admin:auth:user_logged_in", `{"eventId":"E","userId":"d1","userType":"driver","sid":"s9","sessionType":"mobile_app",
					"at":"2026-05-04T10:20:30.123Z","deviceInfo":{"os":"Android"}}`},
				{"D", "auth:logged_in", `{"eventId":"E","sid":"s9","at":"2026-05-04T10:20:30.123Z"}`},
			},
		},
		{
			name:   "auth.session.refreshed",
			event:  realtime.SessionRefreshed{UserID: "d1", OldSessionID: "s1", NewSessionID: "s9", At: tripAt},
			want:   []wantedEvent{{"D support", "auth:session_refreshed", `{"eventId":"E","oldSid":"s1","newSid":"s9","at":"2026-05-04T10:20:30.123Z"}`}},
			closed: "driver1 support",
		},
		{
			name:   "auth.session.revoked",
			event:  realtime.SessionRevoked{SessionID: "s1", UserID: "d1", Reason: "stolen", At: tripAt},
			want:   []wantedEvent{{"D support", "auth:session_revoked", `{"eventId":"E","sid":"s1","reason":"stolen","at":"2026-05-04T10:20:30.123Z"}`}},
			thrown: "driver1 support",
		},
		{
			name:   "auth.session.revoked of a user unknown",
			event:  realtime.SessionRevoked{SessionID: "s1", At: tripAt},
			want:   []wantedEvent{{"driver1 support", "auth:session_revoked", `{"eventId":"E","sid":"s1","reason":null,"at":"2026-05-04T10:20:30.123Z"}`}},
			thrown: "driver1 support",
		},
		{
			name:   "auth.user.access_changed",
			event:  realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessBanned, Reason: "fraud", At: tripAt},
			want:   []wantedEvent{{"D support", "auth:session_revoked", `{"eventId":"E","sid":null,"reason":"fraud","at":"2026-05-04T10:20:30.123Z"}`}},
			thrown: "driver1 driver2 support",
		},
		{
			name:   "auth.user.access_changed of an admin",
			event:  realtime.UserAccessChanged{UserID: "a1", Change: realtime.AccessRoleChanged, At: tripAt},
			want:   []wantedEvent{{"adminJoined", "auth:session_revoked", `{"eventId":"E","sid":null,"reason":"role_changed","at":"2026-05-04T10:20:30.123Z"}`}},
			thrown: "adminJoined",
		},
	}
}

// wireMode is a deployment: the number of nodes, and which of them the bus delivers an event to.
type wireMode struct {
	name      string
	nodes     int
	narrow    bool // Options.AdminTripsByRoom
	configure func(o *realtime.Options)
	publish   func(t *testing.T, nodes []*realtimetest.Server, e realtime.DomainEvent)
}

func publishBy(node int) func(*testing.T, []*realtimetest.Server, realtime.DomainEvent) {
	return func(t *testing.T, nodes []*realtimetest.Server, e realtime.DomainEvent) {
		require.NoError(t, nodes[node].Realtime.Publish(t.Context(), e))
	}
}

func publishOnBus(t *testing.T, nodes []*realtimetest.Server, e realtime.DomainEvent) {
	env, err := realtime.NewEnvelope(e)
	require.NoError(t, err)
	require.NoError(t, nodes[0].Bus.Publish(t.Context(), env))
}

func wireModes() []wireMode {
	return []wireMode{
		{name: "Publish", nodes: 1, publish: publishBy(0)},
		{name: "bus", nodes: 1, publish: publishOnBus},
		{name: "AdminTripsByRoom", nodes: 1, narrow: true, publish: publishBy(0)},
		{name: "the first of two nodes hears it", nodes: 2, publish: publishBy(0)},
		{name: "the second of two nodes hears it", nodes: 2, narrow: true, publish: publishBy(1)},
		{
			name: "both nodes hear it", nodes: 2, publish: publishOnBus,
			configure: func(o *realtime.Options) { o.Cluster.BusFanOut = true },
		},
	}
}

func TestServer_EveryEventReachesExactlyItsAudience(t *testing.T) {
	t.Parallel()
	for _, m := range wireModes() {
		t.Run(m.name, func(t *testing.T) {
			t.Parallel()
			for _, r := range wireRows() {
				t.Run(r.name, func(t *testing.T) {
					t.Parallel()
					synctest.Test(t, func(t *testing.T) { m.check(t, r) })
				})
			}
		})
	}
}

func (m wireMode) check(t *testing.T, r wireRow) {
	nodes := m.start(t)
	clients := dialAudiences(t, nodes)
	if r.assigned {
		m.publish(t, nodes, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		synctest.Wait()
	}
	received := realtimetest.AudienceOf(t, clients, func() { m.publish(t, nodes, r.event) })

	want := map[string][]string{}
	id := lastEventID(t, nodes)
	for _, w := range r.want {
		for _, name := range m.names(w.who) {
			payload := strings.Replace(w.payload, `"eventId":"E"`, `"eventId":"`+id+`"`, 1)
			want[name] = append(want[name], w.event+" "+sortedJSON(t, payload))
		}
	}
	thrown := m.names(r.thrown)
	delivered := map[string]int{}
	for _, name := range everybody {
		var got []string
		for _, e := range received[name] {
			require.Len(t, e.Args, 1)
			if e.Event == "trip:assignment:delivered" && r.name == "trip.assignment.offered" { // the clients answer pings
				require.Contains(t, m.names("T"), name)
				delivered[name]++
				continue
			}
			got = append(got, e.Event+" "+sortedJSON(t, string(e.Args[0])))
		}
		require.Equal(t, want[name], got, name)
		require.Equal(t, !slices.Contains(thrown, name), clients[name].Connected(), name)
		if slices.Contains(thrown, name) {
			require.Equal(t, realtimetest.ReasonServer, clients[name].Disconnected(t), name)
		}
	}
	if r.name == "trip.assignment.offered" {
		for _, name := range m.names("T") {
			require.Equal(t, 1, delivered[name], "%s hears once that the offer was delivered", name)
		}
	}
	if r.closed == "" {
		return
	}
	closed := m.names(r.closed)
	time.Sleep(9 * time.Second)
	for _, name := range everybody {
		require.True(t, clients[name].Connected(), name)
	}
	time.Sleep(2 * time.Second)
	for _, name := range everybody {
		require.Equal(t, !slices.Contains(closed, name), clients[name].Connected(), name)
		if slices.Contains(closed, name) {
			require.Equal(t, realtimetest.ReasonTransportClose, clients[name].Disconnected(t), name)
			realtimetest.Expect(t, clients[name], realtime.EventAuthExpired)
		}
	}
}

// start starts the nodes.
func (m wireMode) start(t *testing.T) []*realtimetest.Server {
	configure := func(o *realtime.Options) {
		withShifts(o)
		o.AdminTripsByRoom = m.narrow
		if m.configure != nil {
			m.configure(o)
		}
	}
	var bus realtime.EventBus
	shareBus := func(o *realtime.Options) {
		if o.Cluster.BusFanOut && bus == nil {
			bus = o.Bus
		} else if o.Cluster.BusFanOut {
			o.Bus = bus
		}
	}
	var nodes []*realtimetest.Server
	if m.nodes == 1 {
		nodes = append(nodes, realtimetest.NewServer(t, configure))
	} else {
		nodes = realtimetest.NewCluster(t, m.nodes, configure, shareBus)
	}
	return nodes
}

// dialAudiences connects all clients, spread over the nodes, and returns them by name.
func dialAudiences(t *testing.T, nodes []*realtimetest.Server) map[string]*realtimetest.Client {
	t.Helper()
	node := func(i int) *realtimetest.Server { return nodes[i%len(nodes)] }
	clients := map[string]*realtimetest.Client{
		"driver1":        node(0).Driver(t, "d1", realtimetest.Session("s1")),
		"driver2":        node(1).Driver(t, "d1", realtimetest.Session("s2")),
		"otherDriver":    node(0).Driver(t, "d2"),
		"passenger1":     node(1).Passenger(t, "p1", realtimetest.Session("s3")),
		"passenger2":     node(0).Passenger(t, "p1", realtimetest.Session("s4")),
		"otherPassenger": node(1).Passenger(t, "p2"),
		"adminJoined":    node(1).Admin(t, "a1"),
		"admin":          node(0).Admin(t, "a2"),
		"adminAway":      node(1).Admin(t, "a3"),
	}
	support, err := node(1).Dial(t.Context(), "/support", realtimetest.Token(node(1).Tokens.Mint("d1", "s1", time.Hour)))
	require.NoError(t, err)
	clients["support"] = support
	// As the dashboard does it, without an ack.
	require.NoError(t, clients["adminJoined"].Emit("admin:trip:join", map[string]string{"tripId": "t1"}))
	require.NoError(t, clients["adminAway"].Emit("admin:drivers:leave"))
	synctest.Wait()
	return clients
}

// names are those of an audience.
func (m wireMode) names(who string) (names []string) {
	for w := range strings.FieldsSeq(who) {
		switch {
		case w == "T" && m.narrow:
			names = append(names, "adminJoined")
		case audiences[w] != "":
			names = append(names, strings.Fields(audiences[w])...)
		default:
			names = append(names, w)
		}
	}
	return names
}

// lastEventID is the id of the event published last.
func lastEventID(t *testing.T, nodes []*realtimetest.Server) string {
	t.Helper()
	var id string
	var at time.Time
	for _, n := range nodes {
		for _, e := range n.Bus.Published() {
			if !e.At.Before(at) && (e.Name != "trip.assignment.delivered" || id == "") { // the offer's own comes after it
				id, at = e.ID, e.At
			}
		}
	}
	require.Len(t, id, 36, "a UUID")
	return id
}

// sortedJSON is a JSON text with its keys in order, so that texts compare.
func sortedJSON(t *testing.T, text string) string {
	t.Helper()
	var v any
	require.NoError(t, json.Unmarshal([]byte(text), &v), text)
	b, err := json.Marshal(v)
	require.NoError(t, err)
	return string(b)
}
