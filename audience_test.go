// Every row of the contract's table of outbound events: who receives the
// event, under which name, and the payload as it is on the wire.

package realtime

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// emission is a delivery as a reader of the contract writes it down: rooms
// joined by spaces, payload as JSON.
type emission struct{ namespace, rooms, event, payload string }

var (
	happened    = time.Date(2026, 5, 4, 12, 20, 30, 123_456_789, time.FixedZone("", 2*60*60)) // 10:20:30.123Z
	enveloped   = happened.Add(5 * time.Second)
	builtInNSPs = []string{NamespaceDrivers, NamespacePassengers, NamespaceAdmin}

	testDriver = &DriverCard{
		ID: "d1", Name: new("Ana"), PhotoURL: new("https://x/a.png"), PhoneMasked: new("+53 ••• ••123"),
		RatingAvg: new(4.8), RatingCount: new(31),
	}
	testVehicle   = &VehicleCard{ID: "v1", Make: new("Lada"), Model: new("2105"), Color: new("blue"), PlateNumber: new("P123456")}
	testPassenger = &PassengerCard{ID: "p1", Name: new("Eva"), PhotoURL: new("https://x/e.png"), PhoneMasked: new("+53 ••• ••456")}
)

const (
	driverJSON    = `{"id":"d1","name":"Ana","photoUrl":"https://x/a.png","phoneMasked":"+53 ••• ••123","ratingAvg":4.8,"ratingCount":31}`
	vehicleJSON   = `{"id":"v1","make":"Lada","model":"2105","color":"blue","plateNumber":"P123456"}`
	passengerJSON = `{"id":"p1","name":"Eva","photoUrl":"https://x/e.png","phoneMasked":"+53 ••• ••456"}`

	passengerRoom = "passenger:p1"
	driverRoom    = "driver:d1"
	tripAdmins    = "admin:all trip:t1"
)

type row struct {
	name  string
	event DomainEvent
	want  []emission
}

// toAll is one payload for passenger, driver and admins.
func toAll(event, payload string) []emission {
	return []emission{
		{"/passengers", passengerRoom, event, payload},
		{"/drivers", driverRoom, event, payload},
		{"/admin", tripAdmins, event, payload},
	}
}

// rows are those of the contract, in its order, with every optional value given.
func rows() []row {
	place := &Place{Lat: 23.1, Lng: -82.3, Address: new("Calle 23")}
	revoked := `{"eventId":"e1","sid":"s1","reason":"stolen phone","at":"2026-05-04T10:20:30.123Z"}`
	banned := `{"eventId":"e1","sid":null,"reason":"fraud","at":"2026-05-04T10:20:30.123Z"}`
	refreshed := `{"eventId":"e1","oldSid":"s1","newSid":"s2","at":"2026-05-04T10:20:30.123Z"}`
	snapshot := `{"eventId":"e1","driverId":"d1","isOnline":true,"isAvailableForTrips":false,"availabilityReason":"ON_TRIP",
		"currentTripId":"t1","currentVehicleId":"v1","lastLocation":{"lat":23.1,"lng":-82.3},
		"lastLocationTimestamp":"2026-05-04T10:20:30.123Z","lastOnlineTimestamp":"2026-05-04T10:20:30.123Z",
		"updatedAt":"2026-05-04T10:20:35.123Z"}`
	location := `{"eventId":"e1","driverId":"d1","lastLocation":{"lat":23.1,"lng":-82.3},
		"lastLocationTimestamp":"2026-05-04T10:20:30.123Z","heading":90,"speed":12.5}`
	driverTrip := `{"eventId":"e1","driverId":"d1","currentTripId":"t1","availabilityReason":"ON_TRIP","isAvailableForTrips":false}`
	message := func(to string) string {
		return `{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","adminId":"a1","to":"` + to + `","message":"Wait"}`
	}

	return []row{
		{
			"trip.requested",
			TripRequested{
				TripID: "t1", PassengerID: "p1", Pickup: place,
				FareEstimatedTotal: new(350.5), FareFinalCurrency: "CUP", At: happened,
			},
			both("/passengers", passengerRoom, "/admin", tripAdmins, "trip:requested",
				`{"eventId":"e1","tripId":"t1","passengerId":"p1","requestedAt":"2026-05-04T10:20:30.123Z",
				"pickup":{"lat":23.1,"lng":-82.3,"address":"Calle 23"},"fareEstimatedTotal":350.5,"fareFinalCurrency":"CUP","status":"pending"}`),
		},
		{
			"trip.assigning.started",
			TripAssigningStarted{TripID: "t1", PassengerID: "p1", At: happened},
			both("/passengers", passengerRoom, "/admin", tripAdmins, "trip:assigning_started",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","previousStatus":"pending","currentStatus":"assigning"}`),
		},
		{
			"trip.assignment.offered",
			AssignmentOffered{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1",
				TTLSec: 20, ExpiresAt: happened.Add(20 * time.Second),
				Pickup: place, DestinationHint: &Place{Lat: 23, Lng: -82}, StopsCount: new(2),
				PriceEstimate: new(350.5), Currency: "CUP", At: happened,
			},
			[]emission{
				{
					"/drivers", driverRoom, "trip:assignment:offered",
					`{"eventId":"e1","assignmentId":"as1","tripId":"t1","ttlSec":20,"expiresAt":"2026-05-04T10:20:50.123Z",
					"pickup":{"lat":23.1,"lng":-82.3,"address":"Calle 23"},"destinationHint":{"lat":23,"lng":-82,"address":null},
					"stopsCount":2,"priceEstimate":350.5,"currency":"CUP"}`,
				},
				{
					"/admin", tripAdmins, "trip:assignment:offered",
					`{"eventId":"e1","assignmentId":"as1","tripId":"t1","ttlSec":20,"expiresAt":"2026-05-04T10:20:50.123Z",
					"pickup":{"lat":23.1,"lng":-82.3,"address":"Calle 23"},"destinationHint":{"lat":23,"lng":-82,"address":null},
					"stopsCount":2,"priceEstimate":350.5,"currency":"CUP","driverId":"d1","vehicleId":"v1"}`,
				},
			},
		},
		{
			"trip.assignment.accepted",
			AssignmentAccepted{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1",
				Driver: testDriver, Vehicle: testVehicle, At: happened,
			},
			append(
				[]emission{{
					"/passengers", passengerRoom, "trip:driver_accepted",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"accepted",
					"driver":` + driverJSON + `,"vehicle":` + vehicleJSON + `}`,
				}},
				both("/drivers", driverRoom, "/admin", tripAdmins, "trip:assignment:accepted",
					`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","vehicleId":"v1","at":"2026-05-04T10:20:30.123Z"}`)...,
			),
		},
		{
			"trip.driver.assigned",
			DriverAssigned{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1",
				Driver: testDriver, Vehicle: testVehicle, Passenger: testPassenger, At: happened,
			},
			[]emission{
				{
					"/passengers", passengerRoom, "trip:driver_assigned",
					`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":"v1","at":"2026-05-04T10:20:30.123Z",
					"currentStatus":"accepted","driver":` + driverJSON + `,"vehicle":` + vehicleJSON + `}`,
				},
				{
					"/drivers", driverRoom, "trip:driver_assigned",
					`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":"v1","at":"2026-05-04T10:20:30.123Z",
					"currentStatus":"accepted","passenger":` + passengerJSON + `}`,
				},
				{
					"/admin", tripAdmins, "trip:driver_assigned",
					`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":"v1","at":"2026-05-04T10:20:30.123Z",
					"currentStatus":"accepted","passenger":` + passengerJSON + `,"passengerId":"p1"}`,
				},
			},
		},
		{
			"trip.assignment.rejected",
			AssignmentRejected{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Reason: "busy", At: happened,
			},
			[]emission{{
				"/admin", tripAdmins, "trip:assignment:rejected",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","vehicleId":"v1","reason":"busy","at":"2026-05-04T10:20:30.123Z"}`,
			}},
		},
		{
			"trip.assignment.expired",
			AssignmentExpired{TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", At: happened},
			both("/drivers", driverRoom, "/admin", tripAdmins, "trip:assignment:expired",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","vehicleId":"v1","at":"2026-05-04T10:20:30.123Z"}`),
		},
		{
			"trip.assignment.cancelled",
			AssignmentCancelled{
				TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", Reason: "taken", At: happened,
			},
			both("/drivers", driverRoom, "/admin", tripAdmins, "trip:assignment:cancelled",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","vehicleId":"v1","reason":"taken","at":"2026-05-04T10:20:30.123Z"}`),
		},
		{
			"trip.assignment.delivered",
			AssignmentDelivered{TripID: "t1", AssignmentID: "as1", DriverID: "d1", SocketID: "s1", LatencyMS: 180, By: ReceivedByAck, At: happened},
			[]emission{{
				"/admin", tripAdmins, "trip:assignment:delivered",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","socketId":"s1","latencyMs":180,"by":"ack","at":"2026-05-04T10:20:30.123Z"}`,
			}},
		},
		{
			"trip.assignment.undelivered",
			AssignmentUndelivered{TripID: "t1", AssignmentID: "as1", DriverID: "d1", Reason: UndeliveredNoReceipt, At: happened},
			[]emission{{
				"/admin", tripAdmins, "trip:assignment:undelivered",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","reason":"no_receipt","at":"2026-05-04T10:20:30.123Z"}`,
			}},
		},
		{
			"trip.no_drivers_found",
			NoDriversFound{TripID: "t1", PassengerID: "p1", Reason: "timeout", At: happened},
			both("/passengers", passengerRoom, "/admin", tripAdmins, "trip:no_drivers_found",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","reason":"timeout"}`),
		},
		{
			"trip.arriving.started",
			ArrivingStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: happened},
			toAll("trip:arriving_started",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","previousStatus":"accepted","currentStatus":"arriving"}`),
		},
		{
			"trip.driver.en_route",
			DriverEnRoute{
				TripID: "t1", PassengerID: "p1", DriverID: "d1",
				ETAMinutes: new(4.5), DriverPosition: &Position{Lat: 23.1, Lng: -82.3}, At: happened,
			},
			append(
				both("/passengers", passengerRoom, "/drivers", driverRoom, "trip:driver_en_route",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","etaMinutes":4.5,"driverPosition":{"lat":23.1,"lng":-82.3}}`),
				emission{
					"/admin", tripAdmins, "trip:driver_en_route",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","etaMinutes":4.5,"driverPosition":{"lat":23.1,"lng":-82.3},"driverId":"d1"}`,
				},
			),
		},
		{
			"trip.driver.arrived_pickup",
			DriverArrivedPickup{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: happened},
			append(
				both("/passengers", passengerRoom, "/drivers", driverRoom, "trip:driver_arrived_pickup",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"arriving"}`),
				emission{
					"/admin", tripAdmins, "trip:driver_arrived_pickup",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"arriving","driverId":"d1"}`,
				},
			),
		},
		{
			"trip.started",
			TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: happened},
			append(
				both("/passengers", passengerRoom, "/drivers", driverRoom, "trip:started",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"in_progress"}`),
				emission{
					"/admin", tripAdmins, "trip:started",
					`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"in_progress","driverId":"d1"}`,
				},
			),
		},
		{
			"trip.completed",
			TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", FareTotal: 410.25, Currency: "CUP", At: happened},
			toAll("trip:completed",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","driverId":"d1","currentStatus":"completed","fareTotal":410.25,"currency":"CUP"}`),
		},
		{
			"trip.cancelled",
			TripCancelled{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", CancelledBy: CancelledByPassenger, Reason: "late", At: happened,
			},
			toAll("trip:cancelled",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"cancelled","cancelledBy":"passenger","reason":"late"}`),
		},
		{
			"trip.waiting_surcharge.applied",
			WaitingSurchargeApplied{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", WaitingMinutes: 7, Amount: 50.5, Currency: "CUP", At: happened,
			},
			toAll("trip:waiting_surcharge_applied",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","waitingMinutes":7,"amount":50.5,"currency":"CUP"}`),
		},
		{
			"admin.trip.action_issued",
			AdminTripAction{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", Action: "reassign", Reason: "no show", At: happened,
			},
			[]emission{{
				"/admin", tripAdmins, "admin:trip:action_issued",
				`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","adminId":"a1","action":"reassign","reason":"no show"}`,
			}},
		},
		{
			"admin.trip.message_sent",
			AdminTripMessage{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", To: MessageToBoth, Message: "Wait", At: happened,
			},
			append(
				both("/admin", tripAdmins, "/drivers", driverRoom, "admin:trip:message_sent", message("both")),
				emission{"/passengers", passengerRoom, "admin:trip:message_sent", message("both")},
			),
		},
		{
			"admin.trip.message_sent",
			AdminTripMessage{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", To: MessageToDriver, Message: "Wait", At: happened,
			},
			both("/admin", tripAdmins, "/drivers", driverRoom, "admin:trip:message_sent", message("driver")),
		},
		{
			"admin.trip.message_sent",
			AdminTripMessage{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", AdminID: "a1", To: MessageToPassenger, Message: "Wait", At: happened,
			},
			both("/admin", tripAdmins, "/passengers", passengerRoom, "admin:trip:message_sent", message("passenger")),
		},
		{
			"driver_availability.status_updated",
			DriverStatusChanged{Availability{
				DriverID: "d1", IsOnline: true, AvailabilityReason: ReasonOnTrip,
				CurrentTripID: new("t1"), CurrentVehicleID: new("v1"), LastLocation: &Position{Lat: 23.1, Lng: -82.3},
				LastLocationTimestamp: Time{happened}, LastOnlineTimestamp: Time{happened}, UpdatedAt: Time{enveloped},
			}},
			[]emission{
				{"/drivers", driverRoom, "driver:availability:update", snapshot},
				{"/admin", "admin:drivers", "admin:driver:availability:update", snapshot},
			},
		},
		{
			"driver_availability.location_updated",
			DriverLocationChanged{testLocation()},
			[]emission{
				{"/drivers", driverRoom, "driver:location:update", location},
				{"/admin", "admin:drivers", "admin:driver:location:update", location},
			},
		},
		{
			"driver_availability.trip_updated",
			DriverTripChanged{DriverTrip{DriverID: "d1", CurrentTripID: new("t1"), AvailabilityReason: ReasonOnTrip}},
			[]emission{
				{"/drivers", driverRoom, "driver:trip:update", driverTrip},
				{"/admin", "admin:drivers", "admin:driver:trip:update", driverTrip},
			},
		},
		{
			"auth.user.logged_in",
			UserLoggedIn{
				UserID: "u1", UserType: UserDriver, SessionID: "s1", SessionType: "mobile_app",
				DeviceInfo: map[string]any{"os": "Android"}, At: happened,
			},
			[]emission{
				{
					"/admin", "admin:all", "admin:auth:user_logged_in",
					`{"eventId":"e1","userId":"u1","userType":"driver","sid":"s1","sessionType":"mobile_app","at":"2026-05-04T10:20:30.123Z","deviceInfo":{"os":"Android"}}`,
				},
				{"/drivers", "driver:u1", "auth:logged_in", `{"eventId":"e1","sid":"s1","at":"2026-05-04T10:20:30.123Z"}`},
			},
		},
		{
			"auth.session.refreshed",
			SessionRefreshed{UserID: "u1", OldSessionID: "s1", NewSessionID: "s2", At: happened},
			[]emission{
				{"/drivers", "driver:u1", "auth:session_refreshed", refreshed},
				{"/passengers", "passenger:u1", "auth:session_refreshed", refreshed},
				{"/admin", "admin:user:u1", "auth:session_refreshed", refreshed},
			},
		},
		{
			"auth.user.access_changed",
			UserAccessChanged{UserID: "u1", Change: AccessBanned, Reason: "fraud", At: happened},
			[]emission{
				{"/drivers", "driver:u1", "auth:session_revoked", banned},
				{"/passengers", "passenger:u1", "auth:session_revoked", banned},
				{"/admin", "admin:user:u1", "auth:session_revoked", banned},
			},
		},
		{
			"auth.session.revoked",
			SessionRevoked{SessionID: "s1", UserID: "u1", Reason: "stolen phone", At: happened},
			[]emission{
				{"/drivers", "session:s1 driver:u1", "auth:session_revoked", revoked},
				{"/passengers", "session:s1 passenger:u1", "auth:session_revoked", revoked},
				{"/admin", "session:s1 admin:user:u1", "auth:session_revoked", revoked},
			},
		},
		{"presence.connected", PresenceConnected{Presence{UserID: "u1", Namespace: "/drivers", Sockets: 1, At: happened}}, nil},
		{"presence.disconnected", PresenceDisconnected{Presence{UserID: "u1", Namespace: "/drivers", Reason: "ping timeout", At: happened}}, nil},
	}
}

// both is one payload for two audiences.
func both(nsp1, rooms1, nsp2, rooms2, event, payload string) []emission {
	return []emission{{nsp1, rooms1, event, payload}, {nsp2, rooms2, event, payload}}
}

func testLocation() LocationUpdate {
	return LocationUpdate{
		DriverID: "d1", LastLocation: Position{Lat: 23.1, Lng: -82.3}, LastLocationTimestamp: Time{happened},
		Heading: new(90.0), Speed: new(12.5),
	}
}

// emitted is one payload to one namespace.
type emitted struct {
	namespace string
	rooms     []Room
	event     string
	payload   any
}

// deliveries maps an event as the publisher does, for a server of these namespaces.
func deliveries(e DomainEvent, id string, at time.Time, p TripParties, narrow bool, namespaces []string) []emitted {
	b, err := newRegistry(nil).valueOf(e)
	if err != nil {
		panic(err)
	}
	return flat(b.deliver(factsOf(b.about(), id, at, p, narrow)), namespaces)
}

// checked is what Publish does first.
func checked(e DomainEvent) error {
	b, err := newRegistry(nil).valueOf(e)
	if err != nil {
		return err
	}
	return checkDomain(b)
}

func flat(ds []Delivery, namespaces []string) (out []emitted) {
	for _, d := range ds {
		for _, a := range d.Audiences() {
			in := []Audience{a}
			if a.namespace == "" {
				in = nil
				for _, ns := range namespaces {
					in = append(in, a.in(ns))
				}
			}
			for _, a := range in {
				out = append(out, emitted{a.namespace, append([]Room{a.room}, a.more...), d.event, d.payload})
			}
		}
	}
	return out
}

func requireDeliveries(t *testing.T, want []emission, got []emitted) {
	t.Helper()
	type head struct{ namespace, rooms, event string }
	var wantHeads, gotHeads []head
	for _, w := range want {
		wantHeads = append(wantHeads, head{w.namespace, w.rooms, w.event})
	}
	for _, g := range got {
		var rooms []string
		for _, r := range g.rooms {
			rooms = append(rooms, r.String())
		}
		gotHeads = append(gotHeads, head{g.namespace, strings.Join(rooms, " "), g.event})
	}
	require.Equal(t, wantHeads, gotHeads)
	for i, w := range want {
		payload, err := json.Marshal(got[i].payload)
		require.NoError(t, err)
		require.JSONEq(t, w.payload, string(payload), "%s to %s", w.event, w.namespace)
	}
}

func TestDeliveries_OfEveryRow(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			require.Equal(t, r.name, r.event.EventName())
			require.NoError(t, checked(r.event))
			requireDeliveries(t, r.want, deliveries(r.event, "e1", enveloped, TripParties{}, false, builtInNSPs))

			// The same after a journey over the bus.
			data, err := json.Marshal(r.event)
			require.NoError(t, err)
			decoded, err := newRegistry(nil).byName[r.name].read(Envelope{Name: r.name, Data: data})
			require.NoError(t, err)
			require.IsType(t, r.event, decoded)
			require.Equal(t, r.event.EventKey(), decoded.EventKey())
			requireDeliveries(t, r.want, deliveries(decoded, "e1", enveloped, TripParties{}, false, builtInNSPs))
		})
	}
}

// Without the optional values payloads keep their keys, with null.
func TestDeliveries_OfAbsentValues(t *testing.T) {
	t.Parallel()
	p := TripParties{PassengerID: "p1", DriverID: "d1"}
	const at = `"2026-05-04T10:20:35.123Z"` // the envelope's time
	for _, r := range []row{
		{"requested", TripRequested{TripID: "t1"}, both("/passengers", passengerRoom, "/admin", tripAdmins, "trip:requested",
			`{"eventId":"e1","tripId":"t1","passengerId":"p1","requestedAt":`+at+`,"pickup":null,"fareEstimatedTotal":null,"fareFinalCurrency":null,"status":"pending"}`)},
		{"offered", AssignmentOffered{TripID: "t1", AssignmentID: "as1", DriverID: "d2", TTLSec: 15}, []emission{
			{
				"/drivers", "driver:d2", "trip:assignment:offered",
				`{"eventId":"e1","assignmentId":"as1","tripId":"t1","ttlSec":15,"expiresAt":"2026-05-04T10:20:50.123Z"}`,
			},
			{
				"/admin", tripAdmins, "trip:assignment:offered",
				`{"eventId":"e1","assignmentId":"as1","tripId":"t1","ttlSec":15,"expiresAt":"2026-05-04T10:20:50.123Z","driverId":"d2","vehicleId":null}`,
			},
		}},
		{"accepted", AssignmentAccepted{TripID: "t1", AssignmentID: "as1"}, append(
			[]emission{{
				"/passengers", passengerRoom, "trip:driver_accepted",
				`{"eventId":"e1","tripId":"t1","at":` + at + `,"currentStatus":"accepted","driver":null,"vehicle":null}`,
			}},
			both("/drivers", driverRoom, "/admin", tripAdmins, "trip:assignment:accepted",
				`{"eventId":"e1","tripId":"t1","assignmentId":"as1","driverId":"d1","vehicleId":null,"at":`+at+`}`)...,
		)},
		{"assigned", DriverAssigned{TripID: "t1", Driver: &DriverCard{ID: "d1"}, Vehicle: &VehicleCard{ID: "v1"}}, []emission{
			{
				"/passengers", passengerRoom, "trip:driver_assigned",
				`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":null,"at":` + at + `,"currentStatus":"accepted",
				"driver":{"id":"d1","name":null,"photoUrl":null,"phoneMasked":null,"ratingAvg":null,"ratingCount":null},
				"vehicle":{"id":"v1","make":null,"model":null,"color":null,"plateNumber":null}}`,
			},
			{
				"/drivers", driverRoom, "trip:driver_assigned",
				`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":null,"at":` + at + `,"currentStatus":"accepted","passenger":null}`,
			},
			{
				"/admin", tripAdmins, "trip:driver_assigned",
				`{"eventId":"e1","tripId":"t1","driverId":"d1","vehicleId":null,"at":` + at + `,"currentStatus":"accepted","passenger":null,"passengerId":"p1"}`,
			},
		}},
		{"no drivers", NoDriversFound{TripID: "t1"}, both("/passengers", passengerRoom, "/admin", tripAdmins, "trip:no_drivers_found",
			`{"eventId":"e1","tripId":"t1","at":`+at+`,"reason":null}`)},
		{"en route", DriverEnRoute{TripID: "t1"}, append(
			both("/passengers", passengerRoom, "/drivers", driverRoom, "trip:driver_en_route",
				`{"eventId":"e1","tripId":"t1","at":`+at+`,"etaMinutes":null,"driverPosition":null}`),
			emission{
				"/admin", tripAdmins, "trip:driver_en_route",
				`{"eventId":"e1","tripId":"t1","at":` + at + `,"etaMinutes":null,"driverPosition":null,"driverId":"d1"}`,
			},
		)},
		{"cancelled", TripCancelled{TripID: "t1", CancelledBy: CancelledBySystem}, toAll("trip:cancelled",
			`{"eventId":"e1","tripId":"t1","at":`+at+`,"currentStatus":"cancelled","cancelledBy":"system","reason":null}`)},
		{"action", AdminTripAction{TripID: "t1", AdminID: "a1", Action: "close"}, []emission{{
			"/admin", tripAdmins, "admin:trip:action_issued",
			`{"eventId":"e1","tripId":"t1","at":` + at + `,"adminId":"a1","action":"close","reason":null}`,
		}}},
		{"logged in", UserLoggedIn{UserID: "u1", SessionID: "s1"}, []emission{{
			"/admin", "admin:all", "admin:auth:user_logged_in",
			`{"eventId":"e1","userId":"u1","userType":null,"sid":"s1","sessionType":null,"at":` + at + `,"deviceInfo":null}`,
		}}},
		{"trip cleared", DriverTripChanged{DriverTrip{DriverID: "d1", IsAvailableForTrips: true}}, []emission{
			{
				"/drivers", driverRoom, "driver:trip:update",
				`{"eventId":"e1","driverId":"d1","currentTripId":null,"availabilityReason":null,"isAvailableForTrips":true}`,
			},
			{
				"/admin", "admin:drivers", "admin:driver:trip:update",
				`{"eventId":"e1","driverId":"d1","currentTripId":null,"availabilityReason":null,"isAvailableForTrips":true}`,
			},
		}},
	} {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			require.NoError(t, checked(r.event))
			requireDeliveries(t, r.want, deliveries(r.event, "e1", enveloped, p, false, builtInNSPs))
		})
	}
}

func TestDeliveries_LeaveOutUnknownPeople(t *testing.T) {
	t.Parallel()
	requireDeliveries(t, []emission{{
		"/admin", tripAdmins, "trip:started",
		`{"eventId":"e1","tripId":"t1","at":"2026-05-04T10:20:30.123Z","currentStatus":"in_progress","driverId":null}`,
	}}, deliveries(TripStarted{TripID: "t1", At: happened}, "e1", enveloped, TripParties{}, false, builtInNSPs))

	got := deliveries(TripCancelled{TripID: "t1"}, "e1", enveloped, TripParties{PassengerID: "p1"}, false, builtInNSPs)
	require.Len(t, got, 2, "cancelled before a driver was found")
}

func TestDeliveries_PreferTheEventsOwnPeople(t *testing.T) {
	t.Parallel()
	old := TripParties{PassengerID: "p0", DriverID: "d0"}
	got := deliveries(&TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"}, "e1", enveloped, old, false, builtInNSPs)
	require.Equal(t, []Room{PassengerRoom("p1")}, got[0].rooms)
	require.Equal(t, []Room{DriverRoom("d1")}, got[1].rooms)
}

// The trip's driver is not who an open offer was made to.
func TestDeliveries_NeverGuessWhoWasOffered(t *testing.T) {
	t.Parallel()
	p := TripParties{PassengerID: "p1", DriverID: "d1"}
	for _, e := range []DomainEvent{
		AssignmentOffered{TripID: "t1", AssignmentID: "as1", TTLSec: 10},
		AssignmentRejected{TripID: "t1", AssignmentID: "as1"},
		AssignmentExpired{TripID: "t1", AssignmentID: "as1"},
		AssignmentCancelled{TripID: "t1", AssignmentID: "as1"},
	} {
		got := deliveries(e, "e1", enveloped, p, false, builtInNSPs)
		require.Len(t, got, 1, e.EventName())
		require.Equal(t, NamespaceAdmin, got[0].namespace)
		payload, err := json.Marshal(got[0].payload)
		require.NoError(t, err)
		require.Contains(t, string(payload), `"driverId":null`)
	}
	require.Empty(t, AssignmentOffered{TripID: "t1", DriverID: "d2"}.about().parties, "nor the other way round")
}

func TestDeliveries_Narrowed(t *testing.T) {
	t.Parallel()
	for _, r := range rows() {
		wide := deliveries(r.event, "e1", enveloped, TripParties{}, false, builtInNSPs)
		for i, d := range deliveries(r.event, "e1", enveloped, TripParties{}, true, builtInNSPs) {
			want := wide[i]
			if len(want.rooms) == 2 && want.rooms[0] == AdminAllRoom {
				want.rooms = want.rooms[1:]
			}
			require.Equal(t, want, d, r.name)
		}
	}
}

func TestAssignmentOffered_Expiry(t *testing.T) {
	t.Parallel()
	for want, e := range map[int]AssignmentOffered{
		20: {TTLSec: 20},
		13: {ExpiresAt: happened.Add(12_600 * time.Millisecond)},
		0:  {ExpiresAt: happened.Add(-time.Second)},
	} {
		e.TripID, e.AssignmentID, e.DriverID, e.At = "t1", "as1", "d1", happened
		v := deliveries(e, "e1", enveloped, TripParties{}, false, nil)[0].payload.(AssignmentOfferedPayload)
		require.Equal(t, want, v.TTLSec)
		require.False(t, v.ExpiresAt.IsZero())
	}
}

func TestDeliveries_Location(t *testing.T) {
	t.Parallel()
	location := func(more string) string {
		return `{"eventId":"e1","driverId":"d1","lastLocation":{"lat":23.1,"lng":-82.3},
			"lastLocationTimestamp":"2026-05-04T10:20:30.123Z","heading":90,"speed":12.5` + more + `}`
	}
	requireDeliveries(t, []emission{
		{"/drivers", driverRoom, "driver:location:update", location("")},
		{"/admin", "admin:drivers", "admin:driver:location:update", location("")},
		{"/passengers", "trip:t1", "trip:driver_location", location(`,"tripId":"t1"`)},
		{"/admin", "trip:t1", "trip:driver_location", location(`,"tripId":"t1"`)},
		{"/passengers", "trip:t2", "trip:driver_location", location(`,"tripId":"t2"`)},
		{"/admin", "trip:t2", "trip:driver_location", location(`,"tripId":"t2"`)},
	}, flat(locationDeliveries(testLocation(), "e1", []string{"t1", "t2"}), nil))

	bare := LocationUpdate{DriverID: "d1", LastLocationTimestamp: Time{happened}}
	payload, err := json.Marshal(locationDeliveries(bare, "e1", nil)[0].payload)
	require.NoError(t, err)
	require.JSONEq(t, `{"eventId":"e1","driverId":"d1","lastLocation":{"lat":0,"lng":0},"lastLocationTimestamp":"2026-05-04T10:20:30.123Z"}`,
		string(payload), "heading and speed are left out")

	// As a phone reported it to the host's own API.
	v := testLocation()
	v.Heading, v.Speed = new(360.5), new(-1.0)
	for _, d := range locationDeliveries(v, "e1", []string{"t1"}) {
		payload, err := json.Marshal(d.payload)
		require.NoError(t, err)
		require.Contains(t, string(payload), `"heading":0.5`)
		require.NotContains(t, string(payload), `speed`)
	}
	require.Equal(t, 360.5, *v.Heading, "the host's number is unchanged")
}

func TestDeliveries_StatusOfANewDriver(t *testing.T) {
	t.Parallel()
	snapshot := `{"eventId":"e1","driverId":"d1","isOnline":false,"isAvailableForTrips":false,"availabilityReason":"OFFLINE",
		"currentTripId":null,"currentVehicleId":null,"lastLocation":null,"lastLocationTimestamp":null,"lastOnlineTimestamp":null,"updatedAt":null}`
	requireDeliveries(t, []emission{
		{"/drivers", driverRoom, "driver:availability:update", snapshot},
		{"/admin", "admin:drivers", "admin:driver:availability:update", snapshot},
	}, flat(statusDeliveries(Availability{DriverID: "d1", AvailabilityReason: ReasonOffline}, "e1"), nil))
}

func TestDeliveries_LoggedIn(t *testing.T) {
	t.Parallel()
	for userType, want := range map[UserType]emitted{
		UserDriver:    {namespace: "/drivers", rooms: []Room{DriverRoom("u1")}},
		UserPassenger: {namespace: "/passengers", rooms: []Room{PassengerRoom("u1")}},
		UserAdmin:     {namespace: "/admin", rooms: []Room{AdminUserRoom("u1")}},
	} {
		got := deliveries(UserLoggedIn{UserID: "u1", UserType: userType, SessionID: "s1"}, "e1", enveloped, TripParties{}, false, builtInNSPs)
		require.Len(t, got, 2)
		require.Equal(t, []Room{AdminAllRoom}, got[0].rooms)
		require.Equal(t, want.namespace, got[1].namespace)
		require.Equal(t, want.rooms, got[1].rooms)
	}
	got := deliveries(UserLoggedIn{UserID: "u1", UserType: "support", SessionID: "s1"}, "e1", enveloped, TripParties{}, false, builtInNSPs)
	require.Len(t, got, 1, "an unknown type has no own namespace")
}

func TestDeliveries_SessionEventsInHostNamespaces(t *testing.T) {
	t.Parallel()
	nsps := []string{"/drivers", "/support"}
	at := `"at":"2026-05-04T10:20:35.123Z"`
	requireDeliveries(t, both("/drivers", "session:s1", "/support", "session:s1", "auth:session_revoked",
		`{"eventId":"e1","sid":"s1","reason":null,`+at+`}`),
		deliveries(SessionRevoked{SessionID: "s1"}, "e1", enveloped, TripParties{}, false, nsps))
	requireDeliveries(t, both("/drivers", "driver:u1", "/support", "user:u1", "auth:session_revoked",
		`{"eventId":"e1","sid":null,"reason":"role_changed",`+at+`}`),
		deliveries(UserAccessChanged{UserID: "u1", Change: AccessRoleChanged}, "e1", enveloped, TripParties{}, false, nsps))
}

func TestDeliveries_NoFullPhoneNumber(t *testing.T) {
	t.Parallel()
	for _, e := range []DomainEvent{
		DriverAssigned{
			TripID: "t1", PassengerID: "p1", DriverID: "d1",
			Driver:    &DriverCard{ID: "d1", PhoneMasked: new("+53 5551 2345")},
			Passenger: &PassengerCard{ID: "p1", PhoneMasked: new("5551234")},
		},
		AssignmentAccepted{
			TripID: "t1", AssignmentID: "as1", PassengerID: "p1", DriverID: "d1",
			Driver: &DriverCard{ID: "d1", PhoneMasked: new("+53 5551 2345")},
		},
	} {
		for _, d := range deliveries(e, "e1", enveloped, TripParties{}, false, builtInNSPs) {
			payload, err := json.Marshal(d.payload)
			require.NoError(t, err)
			require.NotContains(t, string(payload), "555")
		}
	}
	require.NotNil(t, testDriver.masked().PhoneMasked)
}

// A full number does not leave the process over a bus either.
func TestNewEnvelope_NoFullPhoneNumber(t *testing.T) {
	t.Parallel()
	accepted := AssignmentAccepted{TripID: "t1", AssignmentID: "as1", Driver: &DriverCard{ID: "d1", PhoneMasked: new("+53 5551 2345")}}
	assigned := DriverAssigned{TripID: "t1", Driver: accepted.Driver, Passenger: &PassengerCard{ID: "p1", PhoneMasked: new("5551234")}}
	for _, e := range []DomainEvent{accepted, &accepted, assigned, &assigned} {
		env, err := NewEnvelope(e)
		require.NoError(t, err)
		require.NotContains(t, string(env.Data), "555")
		require.Contains(t, string(env.Data), `"id":"d1"`)
	}
	require.NotNil(t, accepted.Driver.PhoneMasked, "the host's own value stays as it is")
}
