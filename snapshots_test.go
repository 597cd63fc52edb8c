// Snapshots: what a socket receives behind hello, who else receives it, that no event falls between
// it and the live ones, and lookups that fail.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// withSnapshots returns a fake, and an option that makes a server use it.
func withSnapshots() (*realtimetest.Snapshots, func(o *realtime.Options)) {
	fake := &realtimetest.Snapshots{}
	return fake, func(o *realtime.Options) { o.Snapshots = fake }
}

// namesOf returns the names of the events that a client has received.
func namesOf(c *realtimetest.Client) (names []string) {
	synctest.Wait()
	for _, r := range c.Received() {
		names = append(names, r.Event)
	}
	return names
}

// onTheWay is a trip whose driver is under way to the passenger.
func onTheWay() realtime.TripSnapshot {
	return realtime.TripSnapshot{
		TripID: "t1", Status: realtime.TripStatusArriving, At: tripAt, PassengerID: "p1", DriverID: "d1", VehicleID: "v1", RequestedAt: tripAt,
		Pickup: &realtime.Place{Lat: 23.1, Lng: -82.4}, FareEstimatedTotal: new(350.5), Currency: "CUP", ETAMinutes: new(4.0),
		Driver:    &realtime.DriverCard{ID: "d1", Name: new("Ana"), PhoneMasked: new("+53 5555 1234")},
		Vehicle:   &realtime.VehicleCard{ID: "v1", Make: new("Lada")},
		Passenger: &realtime.PassengerCard{ID: "p1", Name: new("Eva"), PhoneMasked: new("+53 ••• ••456")},
		Details:   map[string]any{"payment": "cash"},
	}
}

// Each sees the other's card, a driver also their offers and their availability, and nobody else
// receives anything: not another device of the user, and not an admin.
func TestSnapshots_BehindHello(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fake, configure := withSnapshots()
		srv := realtimetest.NewServer(t, configure, func(o *realtime.Options) {
			o.Namespaces = map[string]realtime.NamespaceOptions{"/chat": {}}
		})
		now := time.Now()
		all := realtime.Snapshot{
			Trips: []realtime.TripSnapshot{onTheWay()},
			Offers: []realtime.AssignmentOffered{
				{TripID: "t2", AssignmentID: "a2", DriverID: "d1", TTLSec: 20, At: now},
				{TripID: "t3", AssignmentID: "a3", ExpiresAt: now.Add(10 * time.Second), Currency: "CUP"},
				{TripID: "t4", AssignmentID: "a4", TTLSec: 20, At: now.Add(-20 * time.Second)}, // has expired
			},
			Availability: &realtime.Availability{DriverID: "d1", IsOnline: true, AvailabilityReason: realtime.ReasonOnTrip, CurrentTripID: new("t1")},
		}
		fake.Set("d1", all)
		fake.Set("p1", all)
		fake.Set("a1", all)

		passenger, driver, admin := srv.Passenger(t, "p1"), srv.Driver(t, "d1"), srv.Admin(t, "a1")
		require.Equal(t, []string{"hello", "trip:sync"}, namesOf(passenger))
		require.Equal(t, []string{"hello", "trip:sync", "driver:availability:update"}, namesOf(driver))
		require.Equal(t, []string{"hello"}, namesOf(admin))
		elsewhere, err := srv.Dial(t.Context(), "/chat", realtimetest.Token(srv.Login("d1", realtime.UserDriver)))
		require.NoError(t, err)
		require.Equal(t, []string{"hello"}, namesOf(elsewhere))
		nobody := srv.Passenger(t, "p2")

		trip := `{"tripId":"t1","currentStatus":"arriving","at":"` + iso(tripAt) + `","passengerId":"p1","driverId":"d1","vehicleId":"v1","requestedAt":"` + iso(tripAt) +
			`","arrivedAt":null,"pickup":{"lat":23.1,"lng":-82.4,"address":null},"destination":null,"fareEstimatedTotal":350.5,"currency":"CUP","etaMinutes":4,"driverPosition":null,"details":{"payment":"cash"},`
		require.JSONEq(t, `{"trips":[`+trip+`"driver":{"id":"d1","name":"Ana","photoUrl":null,"phoneMasked":null,"ratingAvg":null,"ratingCount":null},
			"vehicle":{"id":"v1","make":"Lada","model":null,"color":null,"plateNumber":null},"passenger":null}],"offers":[],"serverTime":"`+iso(now)+`"}`, argOf(t, passenger, 1))
		require.JSONEq(t, `{"trips":[`+trip+`"driver":null,"vehicle":null,"passenger":{"id":"p1","name":"Eva","photoUrl":null,"phoneMasked":"+53 ••• ••456"}}],
			"offers":[{"assignmentId":"a2","tripId":"t2","ttlSec":20,"expiresAt":"`+iso(now.Add(20*time.Second))+`"},
				{"assignmentId":"a3","tripId":"t3","ttlSec":10,"expiresAt":"`+iso(now.Add(10*time.Second))+`","currency":"CUP"}],"serverTime":"`+iso(now)+`"}`, argOf(t, driver, 1))
		got := realtimetest.Expect(t, driver, realtime.EventDriverAvailability)
		require.NotEmpty(t, got.EventID)
		require.Equal(t, "t1", *got.CurrentTripID)
		require.JSONEq(t, `{"trips":[],"offers":[],"serverTime":"`+iso(now)+`"}`, argOf(t, nobody, 1))

		tablet := srv.Driver(t, "d1")
		require.Equal(t, []string{"hello", "trip:sync", "driver:availability:update"}, namesOf(tablet))
		require.Equal(t, []string{"hello", "trip:sync", "driver:availability:update"}, namesOf(driver), "the tablet's is for the tablet")
		require.Equal(t, []string{"hello", "trip:sync"}, namesOf(passenger))
		require.Equal(t, []string{"hello"}, namesOf(admin))
	})
}

// argOf returns the argument of the nth event that a client has received.
func argOf(t *testing.T, c *realtimetest.Client, n int) string {
	t.Helper()
	synctest.Wait()
	all := c.Received()
	require.Greater(t, len(all), n)
	require.Len(t, all[n].Args, 1)
	return string(all[n].Args[0])
}

// An auth:refresh is no connect.
func TestSnapshots_NotUponRefresh(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		_, configure := withSnapshots()
		srv := realtimetest.NewServer(t, configure)
		c := srv.Passenger(t, "p1")
		_, err := realtimetest.Call(t.Context(), c, realtime.AuthRefresh, realtime.TokenRefresh{Token: srv.Login("p1", realtime.UserPassenger)})
		require.NoError(t, err)
		require.Equal(t, []string{"hello", "trip:sync"}, namesOf(c))
	})
}

// steppedTrip is a host whose trip goes on at a moment of the handshake: it stores the step, then
// publishes it. Its snapshot is what is stored when it is read.
type steppedTrip struct {
	*realtimetest.Server
	step   int // of steps
	moment string
	t      *testing.T
}

// steps are those of a trip, with the status after each.
var steps = []struct {
	event  realtime.DomainEvent
	status realtime.TripStatus
	name   string
}{
	{realtime.TripRequested{TripID: "t1", PassengerID: "p1"}, realtime.TripStatusPending, "trip:requested"},
	{realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"}, realtime.TripStatusAccepted, "trip:driver_assigned"},
	{realtime.ArrivingStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"}, realtime.TripStatusArriving, "trip:arriving_started"},
	{realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1"}, realtime.TripStatusInProgress, "trip:started"},
}

func (h *steppedTrip) goOnAt(moment string) {
	if h.moment != moment {
		return
	}
	for range 2 {
		h.step++
		h.Publish(h.t, steps[h.step].event)
	}
}

func (h *steppedTrip) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	h.goOnAt("checks")
	return h.Sessions.FindSession(ctx, sid)
}

func (h *steppedTrip) ActiveTrips(context.Context, string) ([]string, error) {
	h.goOnAt("in the rooms")
	return nil, nil
}

func (h *steppedTrip) FindSnapshot(context.Context, string, realtime.Identity) (realtime.Snapshot, error) {
	h.goOnAt("before the read")
	s := realtime.Snapshot{Trips: []realtime.TripSnapshot{{TripID: "t1", Status: steps[h.step].status, PassengerID: "p1"}}}
	h.goOnAt("after the read")
	return s, nil
}

// Whenever the trip goes on, the passenger ends up with its last step: from the snapshot, or from
// events behind it.
func TestSnapshots_NoEventFallsBetween(t *testing.T) {
	for moment, behind := range map[string][]string{
		"checks":          nil, // the snapshot has them
		"in the rooms":    {"trip:driver_assigned", "trip:arriving_started"},
		"before the read": {"trip:driver_assigned", "trip:arriving_started"},
		"after the read":  {"trip:driver_assigned", "trip:arriving_started"},
		"connected":       {"trip:driver_assigned", "trip:arriving_started"},
	} {
		t.Run(moment, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				host := &steppedTrip{t: t, moment: moment}
				host.Server = realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Trips, o.Snapshots, o.Sessions = host, host, host
				})
				c := host.Passenger(t, "p1")
				host.goOnAt("connected")
				synctest.Wait()
				require.Equal(t, append([]string{"hello", "trip:sync"}, behind...), namesOf(c))
				status := realtimetest.Expect(t, c, realtime.EventTripSync).Trips[0].CurrentStatus
				for _, name := range namesOf(c)[2:] {
					i := slices.IndexFunc(steps, func(s struct {
						event  realtime.DomainEvent
						status realtime.TripStatus
						name   string
					}) bool {
						return s.name == name
					})
					status = steps[i].status
				}
				require.Equal(t, realtime.TripStatusArriving, status)
			})
		})
	}
}

// A client receives nothing without its snapshot, and tries again.
func TestSnapshots_Undecided(t *testing.T) {
	own := func(change func(s *realtime.Snapshot)) realtime.Snapshot {
		s := realtime.Snapshot{
			Trips:        []realtime.TripSnapshot{onTheWay()},
			Offers:       []realtime.AssignmentOffered{{TripID: "t2", AssignmentID: "a2", TTLSec: 20, At: time.Now()}},
			Availability: &realtime.Availability{DriverID: "d1"},
		}
		change(&s)
		return s
	}
	for name, wrong := range map[string]func(s *realtime.Snapshot){
		"another driver's trip":         func(s *realtime.Snapshot) { s.Trips[0].DriverID = "d2" },
		"another driver's offer":        func(s *realtime.Snapshot) { s.Offers[0].DriverID = "d2" },
		"another driver's availability": func(s *realtime.Snapshot) { s.Availability.DriverID = "d2" },
		"no trip id":                    func(s *realtime.Snapshot) { s.Trips[0].TripID = "" },
		"no status":                     func(s *realtime.Snapshot) { s.Trips[0].Status = "" },
		"no number":                     func(s *realtime.Snapshot) { s.Trips[0].FareEstimatedTotal = new(math.NaN()) },
		"not on earth":                  func(s *realtime.Snapshot) { s.Trips[0].Pickup.Lat = 91 },
		"no assignment id":              func(s *realtime.Snapshot) { s.Offers[0].AssignmentID = "" },
		"an offer without end":          func(s *realtime.Snapshot) { s.Offers[0].At = time.Time{} },
		"too many":                      func(s *realtime.Snapshot) { s.Trips = make([]realtime.TripSnapshot, 1001) },
		"too large":                     func(s *realtime.Snapshot) { s.Trips[0].Details["x"] = strings.Repeat("x", 5<<20) },
		"no JSON":                       func(s *realtime.Snapshot) { s.Trips[0].Details["x"] = func() {} },
		"a panic in it":                 func(s *realtime.Snapshot) { s.Trips[0].Details["x"] = panicsInJSON{} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				fake, configure := withSnapshots()
				logs, logged := recordLogs(t)
				srv := realtimetest.NewServer(t, configure, logged, func(o *realtime.Options) { o.Compat.RefuseUnavailable = true })
				token := srv.Login("d1", realtime.UserDriver)
				conn := openRaw(t, srv)
				fake.Set("d1", own(wrong))
				require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, realtime.CodeUnavailable, "Service unavailable")}, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)))
				lines := logs.lines(t, logUndecided)
				require.Len(t, lines, 1)
				require.Contains(t, lines[0]["error"], "finding the snapshot: ")
				fake.Set("d1", own(func(*realtime.Snapshot) {}))
				require.Len(t, conn.send(t, connectPacket(realtime.NamespaceDrivers, token)), 4, "CONNECT, hello and the snapshot")
			})
		})
	}
	for name, fault := range map[string]func(fake *realtimetest.Snapshots) (mended func()){
		"it fails": func(fake *realtimetest.Snapshots) func() {
			fake.Fail(errors.New("no database"))
			return func() { fake.Fail(nil) }
		},
		"it hangs": func(fake *realtimetest.Snapshots) func() {
			_, release := fake.Block()
			return release
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				fake, configure := withSnapshots()
				logs, logged := recordLogs(t)
				srv := realtimetest.NewServer(t, configure, logged)
				token := srv.Login("p1", realtime.UserPassenger)
				conn := openRaw(t, srv)
				mended := fault(fake)
				require.Empty(t, conn.send(t, connectPacket(realtime.NamespacePassengers, token)))
				took := conn.closedAfter(t, time.Minute)
				require.Greater(t, took, time.Second, "so that it tries again, and not at once")
				require.Empty(t, conn.received(), "closed without a CONNECT_ERROR")
				require.Len(t, logs.lines(t, logUndecided), 1)
				mended()
				require.Equal(t, []string{"hello", "trip:sync"}, namesOf(srv.Passenger(t, "p1")))
			})
		})
	}
}

// panicsInJSON is a value of the host's whose MarshalJSON panics.
type panicsInJSON struct{}

func (panicsInJSON) MarshalJSON() ([]byte, error) { panic("no JSON") }

var _ json.Marshaler = panicsInJSON{}

// Who is banned while their snapshot is looked up does not receive it.
func TestSnapshots_RevokedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fake, configure := withSnapshots()
		srv := realtimetest.NewServer(t, configure)
		token := srv.Login("p1", realtime.UserPassenger)
		conn := openRaw(t, srv)
		entered, release := fake.Block()
		require.Empty(t, conn.send(t, connectPacket(realtime.NamespacePassengers, token)))
		<-entered
		srv.Publish(t, realtime.UserAccessChanged{UserID: "p1", Change: realtime.AccessBanned})
		require.Equal(t, []string{invalidSession(realtime.NamespacePassengers)}, conn.received())
		release()
		require.Empty(t, conn.received())
	})
}

// A snapshot that was read before a gap may lack the trip's last step, whose event was lost in the
// gap: it is read again.
func TestSnapshots_GapMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		fake := &realtimetest.Snapshots{}
		steps := 0
		var site gapSite
		site = newGapSite(t, func(o *realtime.Options) {
			o.Snapshots = snapshotFunc(func(ctx context.Context, namespace string, id realtime.Identity) (realtime.Snapshot, error) {
				found, err := fake.FindSnapshot(ctx, namespace, id)
				if steps++; steps == 1 {
					site.cut.Cut()
					fake.Set("p1", realtime.Snapshot{Trips: []realtime.TripSnapshot{{TripID: "t1", Status: realtime.TripStatusArriving}}})
					site.a.Publish(t, realtime.ArrivingStarted{TripID: "t1", PassengerID: "p1"})
					site.cut.Heal()
					time.Sleep(time.Second)
				}
				return found, err
			})
		})
		fake.Set("p1", realtime.Snapshot{Trips: []realtime.TripSnapshot{{TripID: "t1", Status: realtime.TripStatusAccepted}}})
		c := site.b.Passenger(t, "p1")
		require.Equal(t, []string{"hello", "trip:sync"}, namesOf(c), "the event was lost")
		require.Equal(t, realtime.TripStatusArriving, realtimetest.Expect(t, c, realtime.EventTripSync).Trips[0].CurrentStatus)
		require.Equal(t, 2, steps)
	})
}

// snapshotFunc is a SnapshotLookup.
type snapshotFunc func(ctx context.Context, namespace string, id realtime.Identity) (realtime.Snapshot, error)

func (f snapshotFunc) FindSnapshot(ctx context.Context, namespace string, id realtime.Identity) (realtime.Snapshot, error) {
	return f(ctx, namespace, id)
}
