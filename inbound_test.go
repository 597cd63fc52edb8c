// Every inbound event of the contract, over the wire: what it answers, what it
// refuses and why, and what it makes the server tell others.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// ackOf sends an event with a body as it stands and returns its ack as it came.
// Without a body the event has no argument.
func ackOf(t *testing.T, c *realtimetest.Client, event string, body ...string) string {
	t.Helper()
	var args realtime.Raw
	for _, b := range body {
		args.Args = append(args.Args, json.RawMessage(b))
	}
	ack, err := c.CallRaw(t.Context(), event, args)
	require.NoError(t, err, "%s %s", event, body)
	require.Len(t, ack.Args, 1)
	return string(ack.Args[0])
}

// refusedEvent is the ack of an event that failed.
type refusedEvent struct {
	OK    *bool
	Error struct {
		Code    realtime.Code
		Message string
		Fields  []string
	}
	Data json.RawMessage
}

func refusalOf(t *testing.T, ack string) refusedEvent {
	t.Helper()
	var r refusedEvent
	require.NoError(t, json.Unmarshal([]byte(ack), &r))
	require.NotNil(t, r.OK, ack)
	require.False(t, *r.OK, ack)
	require.NotEmpty(t, r.Error.Message, ack)
	require.Nil(t, r.Data, ack)
	return r
}

// Every event refuses invalid payloads with CodeInvalidPayload and the invalid fields.
func TestCall_InvalidPayloads(t *testing.T) {
	t.Parallel()
	const at = `"lat":23.1,"lng":-82.4,`
	long := `"` + strings.Repeat("x", 257) + `"`
	type fault struct{ body, fields string }
	ids := func(field string) []fault {
		var faults []fault
		for _, v := range []string{`null`, `""`, `7`, `true`, `{}`, `["x"]`, long} {
			faults = append(faults, fault{`{"` + field + `":` + v + `}`, field})
		}
		return append(faults, fault{`{}`, field}, fault{`{"` + strings.ToUpper(field) + `":"x"}`, field}, fault{``, field}, fault{`null`, field})
	}
	for event, faults := range map[string][]fault{
		"driver:status:update": {
			{``, "isOnline isAvailableForTrips availabilityReason"},
			{`{}`, "isOnline isAvailableForTrips availabilityReason"},
			{`{"isonline":true}`, "isOnline isAvailableForTrips availabilityReason"},
			{`{"isOnline":null}`, "isOnline isAvailableForTrips availabilityReason"},
			{`{"isOnline":"true"}`, "isOnline"},
			{`{"isOnline":1}`, "isOnline"},
			{`{"isOnline":true,"isAvailableForTrips":"no"}`, "isAvailableForTrips"},
			{`{"isAvailableForTrips":0}`, "isAvailableForTrips"},
			{`{"availabilityReason":"LUNCH"}`, "availabilityReason"},
			{`{"availabilityReason":"offline"}`, "availabilityReason"},
			{`{"availabilityReason":""}`, "availabilityReason"},
			{`{"availabilityReason":5}`, "availabilityReason"},
			{`{"isOnline":false,"isAvailableForTrips":true}`, "isOnline isAvailableForTrips"},
			{`{"isAvailableForTrips":true,"availabilityReason":"UNAVAILABLE"}`, "isAvailableForTrips availabilityReason"},
			{`{"isOnline":true,"availabilityReason":"OFFLINE"}`, "isOnline availabilityReason"},
			{`{"isOnline":false,"availabilityReason":"ON_TRIP"}`, "isOnline availabilityReason"},
			{`[]`, ""}, {`"x"`, ""}, {`7`, ""},
		},
		"driver:location:ping": {
			{``, "lat lng"},
			{`{}`, "lat lng"},
			{`null`, "lat lng"},
			{`{"lat":1}`, "lng"},
			{`{"lng":1}`, "lat"},
			{`{"Lat":1,"lng":1}`, "lat"},
			{`{"lat":"NaN","lng":1}`, "lat"},
			{`{"lat":null,"lng":1}`, "lat"},
			{`{"lat":1,"lng":"NaN"}`, "lng"},
			{`{"lat":90.0001,"lng":1}`, "lat"},
			{`{"lat":-90.0001,"lng":1}`, "lat"},
			{`{"lat":1,"lng":180.0001}`, "lng"},
			{`{"lat":1,"lng":-180.0001}`, "lng"},
			{`{"lat":91,"lng":181}`, "lat lng"},
			{`{"lat":1e999,"lng":1}`, "lat"},
			{`{` + at + `"heading":-0.1}`, "heading"},
			{`{` + at + `"heading":361}`, "heading"},
			{`{` + at + `"heading":"NaN"}`, "heading"},
			{`{` + at + `"speed":-1.5}`, "speed"},
			{`{` + at + `"speed":"10"}`, "speed"},
			{`{` + at + `"accuracyMeters":-2}`, "accuracyMeters"},
			{`{` + at + `"accuracyMeters":[1]}`, "accuracyMeters"},
			{`{` + at + `"lastLocationTimestamp":"yesterday"}`, "lastLocationTimestamp"},
			{`{` + at + `"lastLocationTimestamp":""}`, "lastLocationTimestamp"},
			{`{` + at + `"lastLocationTimestamp":946684800}`, "lastLocationTimestamp"},
			{`{` + at + `"lastLocationTimestamp":"1999-12-30T23:59:59.999Z"}`, "lastLocationTimestamp"}, // the bubble's time is 2000-01-01T00:00:00Z
			{`{` + at + `"lastLocationTimestamp":"2000-01-02T00:00:00.001Z"}`, "lastLocationTimestamp"},
			{`[23.1,-82.4]`, ""}, {`"23.1,-82.4"`, ""},
		},
		"driver:trip:set": {
			{`{"currentTripId":""}`, "currentTripId"},
			{`{"currentTripId":7}`, "currentTripId"},
			{`{"currentTripId":{"id":"t1"}}`, "currentTripId"},
			{`{"currentTripId":` + long + `}`, "currentTripId"},
			{`[]`, ""}, {`"t1"`, ""},
		},
		"driver:offer:accept": append(ids("assignmentId"), fault{`"as1"`, ""}),
		"driver:offer:reject": append(ids("assignmentId"),
			fault{`{"assignmentId":"as1","reason":7}`, "reason"},
			fault{`{"assignmentId":"as1","reason":"` + strings.Repeat("ñ", 201) + `"}`, "reason"}),
		"admin:trip:join":  append(ids("tripId"), fault{`"t1"`, ""}),
		"admin:trip:leave": append(ids("tripId"), fault{`"t1"`, ""}),
		"auth:refresh":     {{``, "token"}, {`{}`, "token"}, {`{"token":""}`, "token"}, {`{"token":null}`, "token"}, {`{"token":7}`, "token"}, {`"x"`, ""}},
	} {
		t.Run(event, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Offers = &offers{} })
				client, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
				if strings.HasPrefix(event, "admin:") {
					client = admin
				}
				for _, f := range faults {
					var body []string
					if f.body != "" {
						body = append(body, f.body)
					}
					r := refusalOf(t, ackOf(t, client, event, body...))
					require.Equal(t, realtime.CodeInvalidPayload, r.Error.Code, f.body)
					require.Equal(t, f.fields, strings.Join(r.Error.Fields, " "), f.body)
				}
				realtimetest.ExpectNone(t, client)
				realtimetest.ExpectNone(t, admin)
				require.True(t, client.Connected())
			})
		})
	}
}

// status is what a snapshot says of a driver's status.
func status(a realtime.Availability) string {
	s := fmt.Sprintf("online=%t available=%t reason=%s", a.IsOnline, a.IsAvailableForTrips, a.AvailabilityReason)
	if a.CurrentTripID != nil {
		s += " trip=" + *a.CurrentTripID
	}
	return s
}

func TestDriverStatusUpdate(t *testing.T) {
	t.Parallel()
	const (
		offline     = "online=false available=false reason=OFFLINE"
		free        = "online=true available=true reason="
		unavailable = "online=true available=false reason=UNAVAILABLE"
		onTrip      = "online=true available=false reason=ON_TRIP"
	)
	goOnline, goPause, goFree, goTrip := `{"isOnline":true}`, `{"isOnline":true,"isAvailableForTrips":false}`, `{"isAvailableForTrips":true}`, `{"currentTripId":"t1"}`
	for name, c := range map[string]struct {
		before []string // status updates, and trips set where they have an id
		body   string
		want   string // the status, else a code
	}{
		"goes online":                        {nil, goOnline, free},
		"online again after a pause":         {[]string{goPause}, goOnline, free},
		"online, and null is no reason":      {[]string{goPause}, `{"isOnline":true,"availabilityReason":null}`, free},
		"goes online on a trip":              {[]string{goTrip}, goOnline, onTrip + " trip=t1"},
		"goes online for trips":              {nil, `{"isOnline":true,"isAvailableForTrips":true}`, free},
		"is available, so online":            {nil, goFree, free},
		"available has no reason":            {nil, `{"isAvailableForTrips":true,"availabilityReason":null}`, free},
		"online and not free":                {nil, `{"isOnline":true,"isAvailableForTrips":false}`, unavailable},
		"a reason of their own":              {[]string{goFree}, `{"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`, onTrip},
		"a reason and online":                {nil, `{"isOnline":true,"availabilityReason":"UNAVAILABLE"}`, unavailable},
		"offline is not available":           {[]string{goFree}, `{"isOnline":false}`, offline},
		"offline says so":                    {[]string{goFree}, `{"isOnline":false,"availabilityReason":"OFFLINE"}`, offline},
		"offline of itself":                  {nil, `{"isOnline":false}`, offline},
		"offline, null is no reason":         {[]string{goFree}, `{"isOnline":false,"availabilityReason":null}`, offline},
		"null alone is implied anew":         {[]string{goFree, `{"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`}, `{"availabilityReason":null}`, unavailable},
		"on a trip, not available":           {[]string{goOnline, goTrip}, `{"isAvailableForTrips":false}`, onTrip + " trip=t1"},
		"on a trip, available":               {[]string{goOnline, goTrip}, goFree, "conflict"},
		"on a trip, goes offline":            {[]string{goOnline, goTrip}, `{"isOnline":false}`, offline + " trip=t1"},
		"offline on a trip, available":       {[]string{goTrip}, goFree, "conflict"},
		"offline, another reason":            {nil, `{"availabilityReason":"UNAVAILABLE"}`, "conflict"},
		"free, a reason":                     {[]string{goFree}, `{"availabilityReason":"UNAVAILABLE"}`, "conflict"},
		"online, OFFLINE":                    {[]string{goOnline}, `{"availabilityReason":"OFFLINE"}`, "conflict"},
		"unknown fields do not count":        {nil, `{"isOnline":true,"vehicle":{"id":[1]},"IsOnline":"x"}`, free},
		"not available, and nothing further": {[]string{goFree}, `{"isAvailableForTrips":false}`, unavailable},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				driver, phone, other, admin := srv.Driver(t, "d1"), srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Admin(t, "a1")
				for _, body := range c.before {
					event := "driver:status:update"
					if strings.Contains(body, "currentTripId") {
						event = "driver:trip:set"
					}
					require.Contains(t, ackOf(t, driver, event, body), `"ok":true`)
				}
				synctest.Wait()
				known := map[*realtimetest.Client]int{}
				for _, cl := range all(driver, phone, other, admin) {
					known[cl] = len(cl.Received())
				}
				time.Sleep(time.Minute)
				ack := ackOf(t, driver, "driver:status:update", c.body)
				synctest.Wait()
				fresh := func(cl *realtimetest.Client) []realtimetest.Received { return cl.Received()[known[cl]:] }
				if !strings.HasPrefix(c.want, "online=") {
					require.Equal(t, realtime.Code(c.want), refusalOf(t, ack).Error.Code)
					for cl := range known {
						require.Empty(t, fresh(cl))
					}
					return
				}
				var answer struct {
					OK   bool
					Data realtime.Availability
				}
				require.NoError(t, json.Unmarshal([]byte(ack), &answer))
				require.True(t, answer.OK)
				require.Equal(t, c.want, status(answer.Data))
				require.Equal(t, "d1", answer.Data.DriverID)
				require.True(t, time.Now().Equal(answer.Data.UpdatedAt.Time))
				require.Empty(t, fresh(other))
				for cl, event := range map[*realtimetest.Client]string{
					driver: "driver:availability:update", phone: "driver:availability:update", admin: "admin:driver:availability:update",
				} {
					got := fresh(cl)
					require.Len(t, got, 1, cl)
					require.Equal(t, event, got[0].Event)
					var payload realtime.AvailabilityPayload
					require.NoError(t, json.Unmarshal(got[0].Args[0], &payload))
					require.Len(t, payload.EventID, 36)
					require.Equal(t, answer.Data, payload.Availability)
				}
			})
		})
	}
}

// The snapshot on the wire, with what is not known as null.
func TestDriverStatusUpdate_Snapshot(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		require.JSONEq(t, `{"ok":true,"data":{"driverId":"d1","isOnline":true,"isAvailableForTrips":true,"availabilityReason":null,
			"currentTripId":null,"currentVehicleId":null,"lastLocation":null,"lastLocationTimestamp":null,
			"lastOnlineTimestamp":"2000-01-01T00:00:00.000Z","updatedAt":"2000-01-01T00:00:00.000Z"}}`,
			ackOf(t, driver, "driver:status:update", `{"isOnline":true,"isAvailableForTrips":true}`))
		require.JSONEq(t, `{"ok":true}`, ackOf(t, driver, "driver:location:ping", `{"lat":23.1,"lng":-82.4}`))
		require.JSONEq(t, `{"ok":true,"data":{"driverId":"d1","isOnline":true,"isAvailableForTrips":false,"availabilityReason":"ON_TRIP",
			"currentTripId":"t1","currentVehicleId":null,"lastLocation":{"lat":23.1,"lng":-82.4},"lastLocationTimestamp":"2000-01-01T00:00:00.000Z",
			"lastOnlineTimestamp":"2000-01-01T00:00:00.000Z","updatedAt":"2000-01-01T00:00:00.000Z"}}`,
			ackOf(t, driver, "driver:trip:set", `{"currentTripId":"t1"}`))
	})
}

func TestDriverLocationPing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, phone, other := srv.Driver(t, "d1"), srv.Driver(t, "d1"), srv.Driver(t, "d2")
		passenger, admin := srv.Passenger(t, "p1"), srv.Admin(t, "a1")
		time.Sleep(30 * time.Minute)
		ping := func(body, emitted string) {
			t.Helper()
			require.JSONEq(t, `{"ok":true}`, ackOf(t, driver, "driver:location:ping", body), "in every status, fresh or not")
			synctest.Wait()
			for c, event := range map[*realtimetest.Client]realtime.Event[realtime.LocationPayload]{
				driver: realtime.EventDriverLocation, phone: realtime.EventDriverLocation, admin: realtime.EventAdminDriverLocation,
			} {
				if emitted != "" {
					got, err := c.NextRaw(t.Context(), event.Name())
					require.NoError(t, err)
					var payload map[string]any
					require.NoError(t, json.Unmarshal(got.Args[0], &payload))
					require.Len(t, payload["eventId"], 36)
					delete(payload, "eventId")
					b, err := json.Marshal(payload)
					require.NoError(t, err)
					require.JSONEq(t, emitted, string(b))
				}
				realtimetest.ExpectNone(t, c)
			}
			realtimetest.ExpectNone(t, other)
			realtimetest.ExpectNone(t, passenger)
		}
		ping(`{"lat":90,"lng":-180}`,
			`{"driverId":"d1","lastLocation":{"lat":90,"lng":-180},"lastLocationTimestamp":"2000-01-01T00:30:00.000Z"}`)
		ping(`{"lat":-90,"lng":180,"heading":0,"speed":0,"accuracyMeters":0,"battery":0.5}`,
			`{"driverId":"d1","lastLocation":{"lat":-90,"lng":180},"lastLocationTimestamp":"2000-01-01T00:30:00.000Z","heading":0,"speed":0}`)
		ping(`{"lat":23.1,"lng":-82.4,"heading":360,"speed":12.5,"accuracyMeters":8,"lastLocationTimestamp":"2000-01-01T02:30:30.5+02:00"}`,
			`{"driverId":"d1","lastLocation":{"lat":23.1,"lng":-82.4},"lastLocationTimestamp":"2000-01-01T00:30:30.500Z","heading":360,"speed":12.5}`)
		// Older than the stored one: acknowledged, and emitted to nobody.
		ping(`{"lat":1,"lng":1,"lastLocationTimestamp":"2000-01-01T00:30:30.499Z"}`, "")
		ping(`{"lat":1,"lng":1,"lastLocationTimestamp":"1999-12-31T01:00:00Z"}`, "")
		ping(`{"lat":2,"lng":2,"heading":null,"speed":null,"lastLocationTimestamp":"2000-01-01T00:30:30.500Z"}`,
			`{"driverId":"d1","lastLocation":{"lat":2,"lng":2},"lastLocationTimestamp":"2000-01-01T00:30:30.500Z"}`)

		// What a phone does not know is absent, a heading begins a new turn, and a time may have no zone.
		ping(`{"lat":2,"lng":2,"heading":-1,"speed":-1,"accuracyMeters":-1,"lastLocationTimestamp":"2000-01-01T00:30:30.5"}`,
			`{"driverId":"d1","lastLocation":{"lat":2,"lng":2},"lastLocationTimestamp":"2000-01-01T00:30:30.500Z"}`)
		ping(`{"lat":2,"lng":2,"heading":360.25,"speed":-0.0,"lastLocationTimestamp":"2000-01-01T02:30:30.5+0200"}`,
			`{"driverId":"d1","lastLocation":{"lat":2,"lng":2},"lastLocationTimestamp":"2000-01-01T00:30:30.500Z","heading":0.25,"speed":0}`)
		ping(`{"lat":2,"lng":2,"heading":-0.0,"lastLocationTimestamp":946686630500}`,
			`{"driverId":"d1","lastLocation":{"lat":2,"lng":2},"lastLocationTimestamp":"2000-01-01T00:30:30.500Z","heading":0}`)

		snapshot, err := realtimetest.Call(t.Context(), driver, realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)})
		require.NoError(t, err)
		require.Equal(t, &realtime.Position{Lat: 2, Lng: 2}, snapshot.LastLocation)
		require.Equal(t, "online=true available=true reason=", status(snapshot), "a ping changes no status")
	})
}

func TestDriverTripSet(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, other, admin, away := srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Admin(t, "a1"), srv.Admin(t, "a2")
		require.JSONEq(t, `{"ok":true}`, ackOf(t, away, "admin:drivers:leave"))
		set := func(body, want string, reason realtime.AvailabilityReason, trip *string, changed bool) {
			t.Helper()
			var args []string
			if body != "" {
				args = []string{body}
			}
			var answer struct{ Data realtime.Availability }
			require.NoError(t, json.Unmarshal([]byte(ackOf(t, driver, "driver:trip:set", args...)), &answer))
			require.Equal(t, want, status(answer.Data))
			payload := realtimetest.Expect(t, driver, realtime.EventDriverTrip)
			require.Len(t, payload.EventID, 36)
			require.Equal(t, realtime.DriverTrip{
				DriverID: "d1", CurrentTripID: trip, AvailabilityReason: reason, IsAvailableForTrips: answer.Data.IsAvailableForTrips,
			}, payload.DriverTrip)
			require.Equal(t, payload, realtimetest.Expect(t, admin, realtime.EventAdminDriverTrip))
			if changed {
				snapshot := realtimetest.Expect(t, driver, realtime.EventDriverAvailability)
				require.Equal(t, want, status(snapshot.Availability))
				require.NotEqual(t, payload.EventID, snapshot.EventID)
				require.Equal(t, snapshot, realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability))
			}
			for _, c := range all(driver, other, admin, away) {
				realtimetest.ExpectNone(t, c)
			}
		}
		is := func(body, want string) {
			t.Helper()
			require.Contains(t, ackOf(t, driver, "driver:status:update", body), `"ok":true`)
			require.Equal(t, want, status(realtimetest.Expect(t, driver, realtime.EventDriverAvailability).Availability))
			realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
		}
		set(`{"currentTripId":"t1"}`, "online=false available=false reason=OFFLINE trip=t1", realtime.ReasonOffline, new("t1"), false)
		set(`{}`, "online=false available=false reason=OFFLINE", realtime.ReasonOffline, nil, false)
		is(`{"isOnline":true}`, "online=true available=true reason=")
		set(`{"currentTripId":"t2","note":1}`, "online=true available=false reason=ON_TRIP trip=t2", realtime.ReasonOnTrip, new("t2"), true)
		set(`{"currentTripId":"t3"}`, "online=true available=false reason=ON_TRIP trip=t3", realtime.ReasonOnTrip, new("t3"), false)
		set(`{"currentTripId":null}`, "online=true available=true reason=", "", nil, true)
		set(``, "online=true available=true reason=", "", nil, false)
		is(`{"isAvailableForTrips":false}`, "online=true available=false reason=UNAVAILABLE")
		set(`{"currentTripId":"t4"}`, "online=true available=false reason=ON_TRIP trip=t4", realtime.ReasonOnTrip, new("t4"), true)
		set(`{}`, "online=true available=false reason=UNAVAILABLE", realtime.ReasonUnavailable, nil, true)
	})
}

// An error of a host's own DriverService reaches the client as a code.
func TestDriverService_Refuses(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, logTo(&log), func(o *realtime.Options) { o.Drivers = &stubbornDrivers{} })
		driver, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
		r := refusalOf(t, ackOf(t, driver, "driver:trip:set", `{"currentTripId":"t1"}`))
		require.Equal(t, realtime.CodeForbidden, r.Error.Code)
		require.Equal(t, "not your trip", r.Error.Message)
		require.Empty(t, log.String(), "a refusal is no fault")

		r = refusalOf(t, ackOf(t, driver, "driver:status:update", `{"isOnline":true}`))
		require.Equal(t, realtime.CodeInternal, r.Error.Code)
		require.NotContains(t, r.Error.Message, "disk")
		require.Contains(t, log.String(), "disk full")

		begun := time.Now()
		r = refusalOf(t, ackOf(t, driver.Within(time.Minute), "driver:location:ping", `{"lat":1,"lng":1}`))
		require.Equal(t, realtime.CodeUnavailable, r.Error.Code)
		require.Equal(t, 10*time.Second, time.Since(begun), "Options.Timeouts.Handler")
		realtimetest.ExpectNone(t, driver)
		realtimetest.ExpectNone(t, admin)
	})
}

type stubbornDrivers struct{}

func (*stubbornDrivers) UpdateStatus(context.Context, string, realtime.StatusUpdate) (realtime.Availability, error) {
	return realtime.Availability{}, errors.New("disk full")
}

func (*stubbornDrivers) UpdateLocation(ctx context.Context, _ string, _ realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	<-ctx.Done()
	return realtime.LocationUpdate{}, false, ctx.Err()
}

func (*stubbornDrivers) SetTrip(context.Context, string, string) (realtime.Availability, error) {
	return realtime.Availability{}, fmt.Errorf("set trip: %w", realtime.Errorf(realtime.CodeForbidden, "not your trip"))
}

// offers is a host's OfferService: as1 of trip t1 was made to d1, as2 expired.
type offers struct{ rejected string }

func (o *offers) AcceptOffer(_ context.Context, driverID, assignmentID string) (string, error) {
	switch {
	case assignmentID == "as4":
		return "", nil
	case assignmentID == "as5":
		return strings.Repeat("t", 300), nil
	case assignmentID == "as2":
		return "", realtime.Errorf(realtime.CodeConflict, "the offer has expired")
	case assignmentID == "as3":
		return "", errors.New("database down")
	case assignmentID != "as1" || driverID != "d1":
		return "", fmt.Errorf("assignment %s of %s: %w", assignmentID, driverID, realtime.ErrNotFound)
	}
	return "t1", nil
}

func (o *offers) RejectOffer(_ context.Context, driverID, assignmentID, reason string) error {
	if assignmentID != "as1" || driverID != "d1" {
		return realtime.ErrNotFound
	}
	o.rejected = reason
	return nil
}

func TestOfferService(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		service := &offers{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Offers = service })
		driver, other := srv.Driver(t, "d1"), srv.Driver(t, "d2")
		const accepted = `{"ok":true,"data":{"assignmentId":"as1","tripId":"t1"}}`
		require.JSONEq(t, accepted, ackOf(t, driver, "driver:offer:accept", `{"assignmentId":"as1","at":1}`))
		require.JSONEq(t, accepted, ackOf(t, driver, "driver:offer:accept", `{"assignmentId":"as1"}`), "the ack was lost")
		code := func(c *realtimetest.Client, event, body string) realtime.Code {
			r := refusalOf(t, ackOf(t, c, event, body))
			require.NotContains(t, r.Error.Message, "as1")
			require.NotContains(t, r.Error.Message, "database")
			return r.Error.Code
		}
		require.Equal(t, realtime.CodeConflict, code(driver, "driver:offer:accept", `{"assignmentId":"as2"}`))
		require.Equal(t, realtime.CodeInternal, code(driver, "driver:offer:accept", `{"assignmentId":"as3"}`))
		for _, bad := range []string{"as4", "as5"} { // whose trip has no id that could be one
			require.Equal(t, realtime.CodeInternal, code(driver, "driver:offer:accept", `{"assignmentId":"`+bad+`"}`))
		}
		require.Equal(t, realtime.CodeNotFound, code(driver, "driver:offer:accept", `{"assignmentId":"as9"}`))
		require.Equal(t, realtime.CodeNotFound, code(other, "driver:offer:accept", `{"assignmentId":"as1"}`))
		require.Equal(t, realtime.CodeNotFound, code(other, "driver:offer:reject", `{"assignmentId":"as1"}`))

		reason := strings.Repeat("ñ", 200)
		require.JSONEq(t, `{"ok":true,"data":{"assignmentId":"as1"}}`,
			ackOf(t, driver, "driver:offer:reject", `{"assignmentId":"as1","reason":"`+reason+`"}`))
		require.Equal(t, reason, service.rejected)
		require.JSONEq(t, `{"ok":true,"data":{"assignmentId":"as1"}}`, ackOf(t, driver, "driver:offer:reject", `{"assignmentId":"as1"}`))
		require.Empty(t, service.rejected)
		realtimetest.ExpectNone(t, driver)
	})
}

func TestOfferService_None(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver := srv.Driver(t, "d1")
		for _, event := range []string{"driver:offer:accept", "driver:offer:reject"} {
			require.Equal(t, realtime.CodeNotFound, refusalOf(t, ackOf(t, driver, event, `{"assignmentId":"as1"}`)).Error.Code)
		}
	})
}

func TestAdminTripJoin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		admin, driver := srv.Admin(t, "a1"), srv.Driver(t, "d1")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		require.JSONEq(t, `{"ok":true,"data":{"tripId":"t1"}}`, ackOf(t, admin, "admin:trip:join", `{"tripId":"t1","x":1}`))
		require.JSONEq(t, `{"ok":true,"data":{"tripId":"t1"}}`, ackOf(t, admin, "admin:trip:join", `{"tripId":"t1"}`))
		requireFollows(t, driver, "t1", 1, all(admin))
		require.JSONEq(t, `{"ok":true,"data":{"tripId":"t1"}}`, ackOf(t, admin, "admin:trip:leave", `{"tripId":"t1"}`))
		require.JSONEq(t, `{"ok":true,"data":{"tripId":"t9"}}`, ackOf(t, admin, "admin:trip:leave", `{"tripId":"t9"}`))
		requireFollows(t, driver, "", 2, nil, admin)

		realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
		realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
		for range 2 {
			require.JSONEq(t, `{"ok":true}`, ackOf(t, admin, "admin:drivers:leave"))
		}
		move(t, driver, 3)
		realtimetest.ExpectNone(t, admin, realtime.EventAdminDriverLocation)
		for range 2 {
			require.JSONEq(t, `{"ok":true}`, ackOf(t, admin, "admin:drivers:join", `{"anything":"goes"}`))
		}
		move(t, driver, 4)
		realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
		realtimetest.ExpectNone(t, admin, realtime.EventAdminDriverLocation)

		// The dashboard asks for no ack.
		require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
		synctest.Wait()
		requireFollows(t, driver, "t1", 5, all(admin))
		require.NoError(t, admin.Emit("admin:trip:leave", realtime.TripRef{TripID: "t1"}))
		synctest.Wait()
		requireFollows(t, driver, "", 6, nil, admin)

		// A trip that is over has nothing to follow, and its room would never be left.
		require.NoError(t, admin.Emit("admin:trip:join", realtime.TripRef{TripID: "t1"}))
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", Currency: "CUP"})
		require.Equal(t, realtime.CodeNotFound, refusalOf(t, ackOf(t, admin, "admin:trip:join", `{"tripId":"t1"}`)).Error.Code)
		require.Zero(t, inTripRoom(t, srv.Realtime.Admin(), "t1"))
		require.JSONEq(t, `{"ok":true,"data":{"tripId":"t1"}}`, ackOf(t, admin, "admin:trip:leave", `{"tripId":"t1"}`))
	})
}

func TestAdminTripJoin_Limit(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.RoomsPerSocket = 3 })
		admin := srv.Admin(t, "a1")
		join := func(trip string) error {
			_, err := realtimetest.Call(t.Context(), admin, realtime.AdminTripJoin, realtime.TripRef{TripID: trip})
			return err
		}
		for _, trip := range []string{"t1", "t2", "t3", "t2"} {
			require.NoError(t, join(trip), trip)
		}
		var refusal *realtime.Error
		require.ErrorAs(t, join("t4"), &refusal)
		require.Equal(t, realtime.CodeRateLimited, refusal.Code)
		_, err := realtimetest.Call(t.Context(), admin, realtime.AdminTripLeave, realtime.TripRef{TripID: "t2"})
		require.NoError(t, err)
		require.NoError(t, join("t4"))
	})
}

// A client cannot call the built-in events of another namespace.
func TestNamespace_BuiltInCallsAreItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, passenger, admin := srv.Driver(t, "d1"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
		bodies := map[string]string{
			"driver:status:update": `{"isOnline":true}`, "driver:location:ping": `{"lat":1,"lng":1}`, "driver:trip:set": `{}`,
			"driver:offer:accept": `{"assignmentId":"as1"}`, "driver:offer:reject": `{"assignmentId":"as1"}`,
			"admin:trip:join": `{"tripId":"t1"}`, "admin:trip:leave": `{"tripId":"t1"}`, "admin:drivers:join": `{}`, "admin:drivers:leave": `{}`,
		}
		for event, body := range bodies {
			for _, c := range all(driver, passenger, admin) {
				if c.Namespace() != "/drivers" && strings.HasPrefix(event, "driver:") || c.Namespace() != "/admin" && strings.HasPrefix(event, "admin:") {
					r := refusalOf(t, ackOf(t, c, event, body))
					require.Equal(t, realtime.CodeNotFound, r.Error.Code)
					require.Equal(t, "no such event", r.Error.Message)
				}
			}
		}
		realtimetest.ExpectNone(t, admin)
	})
}

// Events that ask for no ack get none, whatever becomes of them.
func TestCall_WithoutAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		driver, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
		require.NoError(t, driver.Emit("driver:status:update", map[string]any{"isOnline": true}))
		require.NoError(t, driver.Emit("driver:status:update", map[string]any{"isOnline": "x"}))
		require.NoError(t, driver.Emit("driver:location:ping", at(1)))
		require.NoError(t, driver.Emit("no:such:event"))
		synctest.Wait()
		realtimetest.Expect(t, driver, realtime.EventDriverAvailability)
		realtimetest.Expect(t, driver, realtime.EventDriverLocation)
		realtimetest.ExpectNone(t, driver)
		realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
		realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation)
		realtimetest.ExpectNone(t, admin)
		require.True(t, driver.Connected())
	})
}

// Inbound events over long-polling, and over a connection that was upgraded.
func TestCall_OnEveryTransport(t *testing.T) {
	t.Parallel()
	for name, over := range map[string][]realtimetest.Option{"polling": {realtimetest.Polling()}, "upgrade": {realtimetest.Upgrade()}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				driver, admin := srv.Driver(t, "d1", over...), srv.Admin(t, "a1", over...)
				for k := range 20 {
					move(t, driver, float64(k))
					require.InDelta(t, k, realtimetest.Expect(t, admin, realtime.EventAdminDriverLocation).LastLocation.Lat, 0)
					realtimetest.Expect(t, driver, realtime.EventDriverLocation)
				}
				require.Equal(t, realtime.CodeInvalidPayload, refusalOf(t, ackOf(t, driver, "driver:location:ping", `{}`)).Error.Code)
			})
		})
	}
}

// foreignDrivers stores a position, and says that it is another driver's.
type foreignDrivers struct{ realtime.DriverService }

func (foreignDrivers) UpdateLocation(_ context.Context, _ string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	return realtime.LocationUpdate{DriverID: "d2", LastLocation: *in.Position, LastLocationTimestamp: realtime.Time{Time: time.Now()}}, true, nil
}

// A position that the host calls another driver's is sent to nobody: not in their name,
// not to those who may see them.
func TestDriverLocationPing_OfAnotherDriver(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Drivers = foreignDrivers{realtime.NewMemoryDrivers()} })
		driver, other, admin, passenger := srv.Driver(t, "d1"), srv.Driver(t, "d2"), srv.Admin(t, "a1"), srv.Passenger(t, "p1")
		for i, id := range []string{"d1", "d2"} {
			publish(t, srv, realtime.DriverAssigned{TripID: fmt.Sprint("t", i), PassengerID: "p1", DriverID: id})
		}
		all := []*realtimetest.Client{driver, other, admin, passenger}
		require.Contains(t, ackOf(t, driver, "driver:location:ping", `{"lat":1,"lng":2}`), `{"ok":false,"error":{"code":"internal"`)
		synctest.Wait()
		for _, c := range all {
			realtimetest.ExpectNone(t, c, realtime.EventDriverLocation, realtime.EventAdminDriverLocation, realtime.EventTripDriverLocation)
		}
	})
}

// countingListener counts the writes of a server to its first connection.
type countingListener struct {
	net.Listener
	writes *atomic.Int64
	others *atomic.Bool
}

type countingConn struct {
	net.Conn
	writes *atomic.Int64
}

func (l countingListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	if l.others.Swap(true) {
		return c, nil
	}
	return countingConn{c, l.writes}, nil
}

func (c countingConn) Write(b []byte) (int, error) {
	c.writes.Add(1)
	return c.Conn.Write(b)
}

// The driver's own event and the ack of their position leave in one write, though the
// events of many trips are emitted between the two.
func TestDriverLocationPing_OneWrite(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{}
		users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
		sessions.Set(realtime.Session{ID: "s-d1", UserID: "d1"})
		users.Set(realtime.User{ID: "p1", Type: realtime.UserPassenger, Active: true})
		sessions.Set(realtime.Session{ID: "s-p1", UserID: "p1"})
		rt, err := realtime.New(realtime.Options{
			Tokens: tokens, Users: users, Sessions: sessions, Unlimited: true,
		})
		require.NoError(t, err)
		memory := realtimetest.NewListener()
		var writes atomic.Int64
		srv := &http.Server{Handler: rt, ReadHeaderTimeout: time.Minute}
		served := make(chan error, 1)
		go func() { served <- srv.Serve(countingListener{memory, &writes, &atomic.Bool{}}) }()
		dial := func(namespace, user string) *realtimetest.Client {
			c, err := realtimetest.Dial(t.Context(), "http://"+memory.Addr().String(), namespace,
				realtimetest.Token(tokens.Mint(user, "s-"+user, time.Hour)), realtimetest.Over(memory.DialContext))
			require.NoError(t, err)
			return c
		}
		driver, passenger := dial(realtime.NamespaceDrivers, "d1"), dial(realtime.NamespacePassengers, "p1")
		for i := range 500 {
			require.NoError(t, rt.Publish(t.Context(), realtime.DriverAssigned{TripID: fmt.Sprint("t", i), PassengerID: "p1", DriverID: "d1"}))
			synctest.Wait()
		}
		synctest.Wait()
		before := writes.Load()
		for i := range 20 {
			_, err := realtimetest.Call(t.Context(), driver, realtime.DriverLocationPing, at(float64(i)))
			require.NoError(t, err)
			realtimetest.Expect(t, driver, realtime.EventDriverLocation)
			synctest.Wait()
			require.EqualValues(t, i+1, writes.Load()-before)
		}
		require.Len(t, passenger.Received(), 1+500+20*500, "hello, the assignments and the positions")
		driver.Close()
		passenger.Close()
		require.NoError(t, rt.Shutdown(t.Context()))
		require.NoError(t, srv.Close())
		require.ErrorIs(t, <-served, http.ErrServerClosed)
	})
}
