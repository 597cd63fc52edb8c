package realtime_test

import (
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// body is what every inbound payload has.
type body interface {
	json.Unmarshaler
	Validate() error
}

// faults decodes and validates as a server does, and returns the fields at
// fault; nil means accepted.
func faults(t *testing.T, b body, text string) []string {
	t.Helper()
	if err := json.Unmarshal([]byte(text), b); err != nil {
		var mismatch *json.UnmarshalTypeError
		require.ErrorAs(t, err, &mismatch, text)
		return []string{mismatch.Field}
	}
	return fieldsOf(t, b.Validate())
}

func fieldsOf(t *testing.T, err error) []string {
	t.Helper()
	if err == nil {
		return nil
	}
	var e *realtime.Error
	require.ErrorAs(t, err, &e)
	require.Equal(t, realtime.CodeInvalidPayload, e.Code)
	require.NotEmpty(t, e.Fields)
	for _, field := range e.Fields {
		require.Contains(t, e.Message, field)
	}
	return e.Fields
}

func TestLocationPing_Body(t *testing.T) {
	t.Parallel()
	tests := []struct {
		body string
		want []string
	}{
		{`{"lat":23.1,"lng":-82.3}`, nil},
		{` { "lat" : 23.1 , "lng" : -82.3 } `, nil},
		{`{"lat":0,"lng":0}`, nil},
		{`{"lat":-90,"lng":180,"heading":360,"speed":0,"accuracyMeters":0}`, nil},
		{`{"lat":9e1,"lng":-180,"heading":0,"speed":1e3}`, nil},
		{`{"lat":1,"lng":2,"heading":null,"speed":null,"accuracyMeters":null,"lastLocationTimestamp":null}`, nil},
		{`{"extra":{"lat":[91,"}"]},"lat":1,"also":"\"lng\":{","lng":2,"more":[[],{}]}`, nil},
		{`{"\u006cat":1,"lng":2}`, nil},
		{`{"lat":91,"lat":1,"lng":2}`, nil},

		{`{}`, []string{"lat", "lng"}},
		{`null`, []string{"lat", "lng"}},
		{`{"lat":1}`, []string{"lng"}},
		{`{"lat":null,"lng":2}`, []string{"lat"}},
		{`{"LAT":1,"Lng":2}`, []string{"lat", "lng"}},
		{`{"lat":90.0001,"lng":-180.0001}`, []string{"lat", "lng"}},
		{`{"lat":1,"lng":2,"heading":-0.1,"speed":-1.5,"accuracyMeters":-0.5}`, []string{"heading", "speed", "accuracyMeters"}},
		{`{"lat":1,"lng":2,"heading":-2,"speed":-2,"accuracyMeters":-2}`, []string{"heading", "speed", "accuracyMeters"}},
		{`{"lat":1,"lng":2,"heading":361}`, []string{"heading"}},
		{`{"lat":"1","lng":2}`, []string{"lat"}},
		{`{"lat":1,"lng":true}`, []string{"lng"}},
		{`{"lat":1e400,"lng":2}`, []string{"lat"}},
		{`{"lat":1,"lng":2,"speed":"fast"}`, []string{"speed"}},
		{`{"lat":1,"lng":2,"heading":{}}`, []string{"heading"}},
		{`{"lat":1,"lng":2,"accuracyMeters":[]}`, []string{"accuracyMeters"}},
		{`{"lat":1,"lng":2,"lastLocationTimestamp":1700000000000}`, []string{"lastLocationTimestamp"}}, // years ago
		{`{"lat":1,"lng":2,"lastLocationTimestamp":"yesterday"}`, []string{"lastLocationTimestamp"}},
		{`{"lat":1,"lng":2,"lastLocationTimestamp":""}`, []string{"lastLocationTimestamp"}},
		{`[]`, []string{""}},
		{`"x"`, []string{""}},
		{`1`, []string{""}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, faults(t, new(realtime.LocationPing), tt.body), tt.body)
	}

	var ping realtime.LocationPing
	require.NoError(t, json.Unmarshal([]byte(`{"lat":1.5,"lng":-2.5,"lastLocationTimestamp":"2024-05-06T07:08:09.123+02:00","heading":90,"speed":3}`), &ping))
	require.Equal(t, 1.5, ping.Lat)
	require.Equal(t, -2.5, ping.Lng)
	require.Equal(t, time.Date(2024, 5, 6, 5, 8, 9, 123e6, time.UTC), ping.LastLocationTimestamp.UTC())
	require.Equal(t, 90.0, *ping.Heading)
	require.Equal(t, 3.0, *ping.Speed)
	require.Nil(t, ping.AccuracyMeters)

	require.Equal(t, []string{"lat", "lng"}, fieldsOf(t, realtime.LocationPing{}.Validate()))
	for _, f := range []float64{math.NaN(), math.Inf(1), math.Inf(-1)} {
		ping := realtime.LocationPing{Position: &realtime.Position{Lat: f, Lng: f}, Heading: &f, Speed: &f, AccuracyMeters: &f}
		require.Equal(t, []string{"lat", "lng", "heading", "speed", "accuracyMeters"}, fieldsOf(t, ping.Validate()))
	}
}

// Phones say -1 for what they do not know, and rounding moves a heading past a full turn.
func TestLocationPing_Unknown(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]realtime.LocationPing{
		`"heading":-1,"speed":-1,"accuracyMeters":-1`: {},
		`"heading":-1.0,"speed":-1e0`:                 {},
		`"heading":360`:                               {Heading: new(360.0)},
		`"heading":360.25,"speed":0`:                  {Heading: new(0.25), Speed: new(0.0)},
		`"heading":-0.0,"speed":-0.0`:                 {Heading: new(0.0), Speed: new(0.0)},
	} {
		var ping realtime.LocationPing
		require.NoError(t, json.Unmarshal([]byte(`{"lat":0,"lng":0,`+text+`}`), &ping))
		require.NoError(t, ping.Validate(), text)
		want.Position = new(realtime.Position)
		require.Equal(t, want, ping, text)
		for _, n := range []*float64{ping.Heading, ping.Speed} {
			require.False(t, n != nil && math.Signbit(*n), text)
		}
	}
	unknown := -1.0
	require.NoError(t, realtime.LocationPing{Position: new(realtime.Position), Heading: &unknown, Speed: &unknown, AccuracyMeters: &unknown}.Validate())
}

func TestLocationPing_TimeTexts(t *testing.T) {
	t.Parallel()
	whole := time.Date(2024, 5, 6, 7, 8, 9, 0, time.UTC)
	for text, want := range map[string]time.Time{
		`"2024-05-06T07:08:09Z"`:             whole,
		`"2024-05-06T07:08:09"`:              whole,
		`"2024-05-06 07:08:09"`:              whole,
		`"2024-05-06T07:08:09+0000"`:         whole,
		`"2024-05-06T07:08:09+00:00"`:        whole,
		`"2024-05-06T07:08:09-00"`:           whole,
		`"2024-05-06T09:08:09+0200"`:         whole,
		`"2024-05-06T03:08:09-04"`:           whole,
		`"2024-05-06T12:53:09+05:45"`:        whole,
		`"2024-05-06 07:08:09 +0000"`:        whole, // Swift's description of a Date
		`"2024-05-06t07:08:09z"`:             whole,
		`"2024-05-06T07:08Z"`:                whole.Add(-9 * time.Second),
		`"2024-05-06T07:08"`:                 whole.Add(-9 * time.Second),
		`"2024-05-06T07:08:09.5"`:            whole.Add(time.Second / 2),
		`"2024-05-06T07:08:09,5+0000"`:       whole.Add(time.Second / 2),
		`"2024-05-06T07:08:09.123456789"`:    whole.Add(123456789),
		`"2024-05-06T09:08:09.123456+02:00"`: whole.Add(123456 * time.Microsecond),
		`1714979289000`:                      whole,
		`1714979289123`:                      whole.Add(123 * time.Millisecond),
		`1714979289123.25`:                   whole.Add(123250 * time.Microsecond),
		`1.714979289e12`:                     whole,
		`0`:                                  time.Unix(0, 0),
		`-1000`:                              time.Unix(-1, 0),
	} {
		var ping realtime.LocationPing
		require.NoError(t, json.Unmarshal([]byte(`{"lastLocationTimestamp":`+text+`}`), &ping), text)
		require.True(t, want.Equal(ping.LastLocationTimestamp.Time), "%s: %s", text, ping.LastLocationTimestamp)
	}
	for _, text := range []string{
		`"2024-05-06"`, `"07:08:09"`, `"2024-13-06T07:08:09"`, `"2024-05-06T25:08:09"`, `"2024-05-06T07:08:09X"`, `"2024-05-06T07:08:09+2"`, `"2024-05-06T07"`,
		`"2024-05-06T07:08:09Z tomorrow"`, `"2024-05-06T07:08:09+00:00:00"`, `"Mon May 06 2024 07:08:09 GMT+0000"`, `"1714979289000"`, `" "`, `"           "`,
		`"` + strings.Repeat("2024-05-06T07:08:09.0", 50) + `"`, `true`, `{}`, `[1714979289000]`, `1e300`, `-1e300`, `1e400`,
		`"0001-01-01T00:00:00Z"`, `-62135596800000`, // the zero time of .NET and Go, which is no position's
	} {
		require.Equal(t, []string{"lastLocationTimestamp"}, faults(t, new(realtime.LocationPing), `{"lat":1,"lng":2,"lastLocationTimestamp":`+text+`}`), text)
	}
}

func TestLocationPing_Time(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		for off, ok := range map[time.Duration]bool{
			0: true, 24 * time.Hour: true, -24 * time.Hour: true, 24*time.Hour + 1: false, -24*time.Hour - 1: false,
			math.MinInt64: false, math.MaxInt64: false,
		} {
			ping := realtime.LocationPing{Position: &realtime.Position{}, LastLocationTimestamp: realtime.Time{Time: time.Now().Add(off)}}
			if ok {
				require.NoError(t, ping.Validate(), off)
				continue
			}
			require.Equal(t, []string{"lastLocationTimestamp"}, fieldsOf(t, ping.Validate()), off)
		}
	})
}

func TestStatusUpdate_Body(t *testing.T) {
	t.Parallel()
	every := []string{"isOnline", "isAvailableForTrips", "availabilityReason"}
	tests := []struct {
		body string
		want []string
	}{
		{`{"isOnline":true}`, nil},
		{`{"isAvailableForTrips":false}`, nil},
		{`{"availabilityReason":null}`, nil},
		{`{"availabilityReason":"UNAVAILABLE"}`, nil},
		{`{"isOnline":true,"isAvailableForTrips":true,"availabilityReason":null}`, nil},
		{`{"isOnline":true,"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`, nil},
		{`{"isOnline":false,"isAvailableForTrips":false,"availabilityReason":"OFFLINE"}`, nil},
		{`{"isOnline":null,"isAvailableForTrips":true}`, nil},

		{`{}`, every},
		{`null`, every},
		{`{"isOnline":null}`, every},
		{`{"IsOnline":true}`, every},
		{`{"isOnline":false,"isAvailableForTrips":true}`, every[:2]},
		{`{"isAvailableForTrips":true,"availabilityReason":"UNAVAILABLE"}`, every[1:]},
		{`{"isOnline":true,"availabilityReason":"OFFLINE"}`, []string{"isOnline", "availabilityReason"}},
		{`{"isOnline":false,"availabilityReason":"ON_TRIP"}`, []string{"isOnline", "availabilityReason"}},
		{`{"availabilityReason":"offline"}`, every[2:]},
		{`{"availabilityReason":""}`, every[2:]},
		{`{"availabilityReason":1}`, every[2:]},
		{`{"isOnline":"true"}`, every[:1]},
		{`{"isOnline":1}`, every[:1]},
		{`{"isAvailableForTrips":{}}`, every[1:2]},
		{`[true]`, []string{""}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, faults(t, new(realtime.StatusUpdate), tt.body), tt.body)
	}

	var u realtime.StatusUpdate
	require.NoError(t, json.Unmarshal([]byte(`{"isOnline":false}`), &u))
	require.Equal(t, realtime.StatusUpdate{IsOnline: new(false)}, u, "absent is not null")
	require.NoError(t, json.Unmarshal([]byte(`{"availabilityReason":null}`), &u))
	require.Equal(t, realtime.StatusUpdate{AvailabilityReason: new(realtime.AvailabilityReason(""))}, u, "null is not absent")
}

func TestCallBodies_Checks(t *testing.T) {
	t.Parallel()
	long, longest := strings.Repeat("x", 257), strings.Repeat("x", 256)
	tests := []struct {
		into body
		body string
		want []string
	}{
		{new(realtime.SetTrip), `{}`, nil},
		{new(realtime.SetTrip), `null`, nil},
		{new(realtime.SetTrip), `{"currentTripId":null}`, nil},
		{new(realtime.SetTrip), `{"currentTripId":"t1"}`, nil},
		{new(realtime.SetTrip), `{"currentTripId":""}`, []string{"currentTripId"}},
		{new(realtime.SetTrip), `{"currentTripId":"` + long + `"}`, []string{"currentTripId"}},
		{new(realtime.SetTrip), `{"currentTripId":7}`, []string{"currentTripId"}},
		{new(realtime.OfferAccept), `{"assignmentId":"` + longest + `"}`, nil},
		{new(realtime.OfferAccept), `{"assignmentId":"` + long + `"}`, []string{"assignmentId"}},
		{new(realtime.OfferAccept), `{"AssignmentID":"a"}`, []string{"assignmentId"}},
		{new(realtime.OfferAccept), `{"assignmentId":null}`, []string{"assignmentId"}},
		{new(realtime.OfferAccept), `{"assignmentId":false}`, []string{"assignmentId"}},
		{new(realtime.OfferReject), `{"assignmentId":"a"}`, nil},
		{new(realtime.OfferReject), `{"assignmentId":"a","reason":null}`, nil},
		{new(realtime.OfferReject), `{"assignmentId":"a","reason":"` + strings.Repeat("é", 200) + `"}`, nil},
		{new(realtime.OfferReject), `{"reason":"` + strings.Repeat("é", 201) + `"}`, []string{"assignmentId", "reason"}},
		{new(realtime.OfferReject), `{"assignmentId":"a","reason":{}}`, []string{"reason"}},
		{new(realtime.TripRef), `{"tripId":"t"}`, nil},
		{new(realtime.TripRef), `{"tripId":""}`, []string{"tripId"}},
		{new(realtime.TripRef), `{}`, []string{"tripId"}},
		{new(realtime.TokenRefresh), `{"token":"` + strings.Repeat("t", 9000) + `"}`, nil},
		{new(realtime.TokenRefresh), `{"token":""}`, []string{"token"}},
		{new(realtime.TokenRefresh), `{"token":["t"]}`, []string{"token"}},
	}
	for _, tt := range tests {
		require.Equal(t, tt.want, faults(t, tt.into, tt.body), tt.body)
	}
}

// The server decodes the JSON of a Go client's payload to the same value.
func TestCallBodies_RoundTrip(t *testing.T) {
	t.Parallel()
	at := realtime.Time{Time: time.Date(2024, 5, 6, 7, 8, 9, 123e6, time.UTC)}
	tests := []struct {
		in, out any
		text    string
	}{
		{realtime.StatusUpdate{IsOnline: new(true)}, new(realtime.StatusUpdate), `{"isOnline":true}`},
		{
			realtime.StatusUpdate{IsAvailableForTrips: new(false), AvailabilityReason: new(realtime.ReasonOnTrip)}, new(realtime.StatusUpdate),
			`{"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`,
		},
		{
			realtime.StatusUpdate{AvailabilityReason: new(realtime.AvailabilityReason(""))}, new(realtime.StatusUpdate),
			`{"availabilityReason":null}`,
		},
		{realtime.LocationPing{Position: &realtime.Position{Lat: 1, Lng: 2}}, new(realtime.LocationPing), `{"lat":1,"lng":2}`},
		{
			realtime.LocationPing{
				Position: &realtime.Position{Lat: 1, Lng: 2}, LastLocationTimestamp: at,
				Heading: new(3.0), Speed: new(4.0), AccuracyMeters: new(5.0),
			}, new(realtime.LocationPing),
			`{"lat":1,"lng":2,"lastLocationTimestamp":"2024-05-06T07:08:09.123Z","heading":3,"speed":4,"accuracyMeters":5}`,
		},
		{realtime.SetTrip{}, new(realtime.SetTrip), `{"currentTripId":null}`},
		{realtime.SetTrip{CurrentTripID: new("t")}, new(realtime.SetTrip), `{"currentTripId":"t"}`},
		{realtime.OfferAccept{AssignmentID: "a"}, new(realtime.OfferAccept), `{"assignmentId":"a"}`},
		{realtime.OfferReject{AssignmentID: "a", Reason: "\"far\""}, new(realtime.OfferReject), `{"assignmentId":"a","reason":"\"far\""}`},
		{realtime.TripRef{TripID: "t"}, new(realtime.TripRef), `{"tripId":"t"}`},
		{realtime.TokenRefresh{Token: "t"}, new(realtime.TokenRefresh), `{"token":"t"}`},
	}
	for _, tt := range tests {
		text, err := json.Marshal(tt.in)
		require.NoError(t, err)
		require.Equal(t, tt.text, string(text))
		require.NoError(t, json.Unmarshal(text, tt.out))
		again, err := json.Marshal(tt.out)
		require.NoError(t, err)
		require.Equal(t, tt.text, string(again))
	}
}

func TestPayloads_JSON(t *testing.T) {
	t.Parallel()
	at := realtime.Time{Time: time.Date(2024, 5, 6, 9, 8, 9, 123456789, time.FixedZone("", 7200))}
	pos := realtime.Position{Lat: 23.1, Lng: -82.3}
	tests := []struct {
		in   any
		want string
	}{
		{
			realtime.Availability{DriverID: "d", AvailabilityReason: realtime.ReasonOffline},
			`{"driverId":"d","isOnline":false,"isAvailableForTrips":false,"availabilityReason":"OFFLINE","currentTripId":null,` +
				`"currentVehicleId":null,"lastLocation":null,"lastLocationTimestamp":null,"lastOnlineTimestamp":null,"updatedAt":null}`,
		},
		{
			realtime.Availability{
				DriverID: "d", IsOnline: true, IsAvailableForTrips: true, CurrentTripID: new("t"), CurrentVehicleID: new("v"),
				LastLocation: &pos, LastLocationTimestamp: at, LastOnlineTimestamp: at, UpdatedAt: at,
			},
			`{"driverId":"d","isOnline":true,"isAvailableForTrips":true,"availabilityReason":null,"currentTripId":"t",` +
				`"currentVehicleId":"v","lastLocation":{"lat":23.1,"lng":-82.3},"lastLocationTimestamp":"2024-05-06T07:08:09.123Z",` +
				`"lastOnlineTimestamp":"2024-05-06T07:08:09.123Z","updatedAt":"2024-05-06T07:08:09.123Z"}`,
		},
		{
			realtime.LocationUpdate{DriverID: "d", LastLocation: pos, LastLocationTimestamp: at},
			`{"driverId":"d","lastLocation":{"lat":23.1,"lng":-82.3},"lastLocationTimestamp":"2024-05-06T07:08:09.123Z"}`,
		},
		{
			realtime.LocationUpdate{DriverID: "d", LastLocation: pos, LastLocationTimestamp: at, Heading: new(0.0), Speed: new(1.5)},
			`{"driverId":"d","lastLocation":{"lat":23.1,"lng":-82.3},"lastLocationTimestamp":"2024-05-06T07:08:09.123Z","heading":0,"speed":1.5}`,
		},
		{
			realtime.DriverTrip{DriverID: "d", CurrentTripID: new("t"), AvailabilityReason: realtime.ReasonOnTrip},
			`{"driverId":"d","currentTripId":"t","availabilityReason":"ON_TRIP","isAvailableForTrips":false}`,
		},
		{
			realtime.DriverTrip{DriverID: "d", IsAvailableForTrips: true},
			`{"driverId":"d","currentTripId":null,"availabilityReason":null,"isAvailableForTrips":true}`,
		},
		{realtime.OfferAccepted{AssignmentID: "a", TripID: "t"}, `{"assignmentId":"a","tripId":"t"}`},
		{realtime.OfferRejected{AssignmentID: "a"}, `{"assignmentId":"a"}`},
		{realtime.Refreshed{ExpiresAt: at}, `{"expiresAt":"2024-05-06T07:08:09.123Z"}`},
	}
	for _, tt := range tests {
		got, err := json.Marshal(tt.in)
		require.NoError(t, err)
		require.Equal(t, tt.want, string(got))
	}
	var a realtime.Availability
	require.NoError(t, json.Unmarshal([]byte(tests[1].want), &a), "a Go client reads what it is sent")
	again, err := json.Marshal(a)
	require.NoError(t, err)
	require.Equal(t, tests[1].want, string(again))
}

// TestMemoryDrivers_Status tries every body in every state, 7 times 36 cases,
// against the rules written as implications.
func TestMemoryDrivers_Status(t *testing.T) {
	t.Parallel()
	on, off := new(true), new(false)
	states := []struct {
		name  string
		trip  string
		setup []realtime.StatusUpdate
	}{
		{name: "unknown"},
		{name: "offline", setup: []realtime.StatusUpdate{{IsOnline: on}, {IsOnline: off}}},
		{name: "online", setup: []realtime.StatusUpdate{{IsOnline: on, IsAvailableForTrips: off}}},
		{name: "online for a reason", setup: []realtime.StatusUpdate{{IsOnline: on, AvailabilityReason: new(realtime.ReasonOnTrip)}}},
		{name: "available", setup: []realtime.StatusUpdate{{IsAvailableForTrips: on}}},
		{name: "on a trip", trip: "t", setup: []realtime.StatusUpdate{{IsOnline: on}}},
		{name: "offline on a trip", trip: "t", setup: []realtime.StatusUpdate{{IsOnline: off}}},
	}
	bools := []*bool{nil, off, on}
	reasons := []*realtime.AvailabilityReason{
		nil, new(realtime.AvailabilityReason("")), new(realtime.ReasonOffline), new(realtime.ReasonOnTrip), new(realtime.ReasonUnavailable),
	}
	none := realtime.AvailabilityReason("")
	for _, state := range states {
		for _, online := range bools {
			for _, available := range bools {
				for _, reason := range reasons {
					in := realtime.StatusUpdate{IsOnline: online, IsAvailableForTrips: available, AvailabilityReason: reason}
					text, err := json.Marshal(in)
					require.NoError(t, err)
					name := state.name + " " + string(text)

					m := realtime.NewMemoryDrivers()
					for _, u := range state.setup {
						_, err := m.UpdateStatus(t.Context(), "d", u)
						require.NoError(t, err, name)
					}
					if state.trip != "" {
						_, err := m.SetTrip(t.Context(), "d", state.trip)
						require.NoError(t, err, name)
					}
					before, known := m.Snapshot("d")
					require.Equal(t, state.name != "unknown", known, name)

					got, err := m.UpdateStatus(t.Context(), "d", in)
					after, _ := m.Snapshot("d")
					if err != nil {
						var e *realtime.Error
						require.ErrorAs(t, err, &e, name)
						if in.Validate() != nil {
							require.Equal(t, realtime.CodeInvalidPayload, e.Code, name)
						} else {
							require.Equal(t, realtime.CodeConflict, e.Code, name)
							onTrip := state.trip != "" && available == on
							require.True(t, onTrip || reason != nil && *reason != none, name)
						}
						if known {
							require.Equal(t, before, after, name+": a refusal changes nothing")
						}
						continue
					}
					require.Equal(t, got, after, name)
					require.NoError(t, in.Validate(), name)

					// A given field has the given value.
					if online != nil {
						require.Equal(t, *online, got.IsOnline, name)
					}
					if available != nil {
						require.Equal(t, *available, got.IsAvailableForTrips, name)
					}
					if reason != nil && *reason != none {
						require.Equal(t, *reason, got.AvailabilityReason, name)
					}
					// A field that is not given keeps its value, or has the implied one.
					if online == nil {
						require.Equal(t, before.IsOnline || available == on, got.IsOnline, name)
					}
					if available == nil {
						alone := online == on && state.trip == "" && (reason == nil || *reason == none)
						require.Equal(t, before.IsAvailableForTrips && online != off || alone, got.IsAvailableForTrips, name)
					}
					require.Equal(t, state.trip, deref(got.CurrentTripID), name)
					// The rules hold.
					switch {
					case !got.IsOnline:
						require.False(t, got.IsAvailableForTrips, name)
						require.Equal(t, realtime.ReasonOffline, got.AvailabilityReason, name)
					case got.IsAvailableForTrips:
						require.Equal(t, none, got.AvailabilityReason, name)
						require.Nil(t, got.CurrentTripID, name)
					case reason == nil || *reason == none:
						want := realtime.ReasonUnavailable
						if state.trip != "" {
							want = realtime.ReasonOnTrip
						}
						require.Equal(t, want, got.AvailabilityReason, name)
					}
				}
			}
		}
	}
}

// Of the table above, the refusals that it only classifies.
func TestMemoryDrivers_Conflicts(t *testing.T) {
	t.Parallel()
	const online, available, trip = `{"isOnline":true,"isAvailableForTrips":false}`, `{"isAvailableForTrips":true}`, "trip"
	tests := []struct {
		setup []string
		body  string
		code  realtime.Code // empty: accepted
	}{
		{nil, `{"isAvailableForTrips":true}`, ""},
		{nil, `{"availabilityReason":"OFFLINE"}`, ""},
		{nil, `{"availabilityReason":"UNAVAILABLE"}`, realtime.CodeConflict},
		{nil, `{"isAvailableForTrips":false,"availabilityReason":"ON_TRIP"}`, realtime.CodeConflict},
		{[]string{online}, `{"availabilityReason":"OFFLINE"}`, realtime.CodeConflict},
		{[]string{online}, `{"availabilityReason":"ON_TRIP"}`, ""},
		{[]string{available}, `{"availabilityReason":"UNAVAILABLE"}`, realtime.CodeConflict},
		{[]string{available}, `{"isAvailableForTrips":false,"availabilityReason":"UNAVAILABLE"}`, ""},
		{[]string{available}, `{"isOnline":false,"availabilityReason":"OFFLINE"}`, ""},
		{[]string{online, trip}, `{"isAvailableForTrips":true}`, realtime.CodeConflict},
		{[]string{online, trip}, `{"isOnline":true,"isAvailableForTrips":true}`, realtime.CodeConflict},
		{[]string{trip}, `{"isAvailableForTrips":true}`, realtime.CodeConflict},
		{[]string{online, trip}, `{"isAvailableForTrips":false,"availabilityReason":"UNAVAILABLE"}`, ""},
		{[]string{online, trip}, `{"isOnline":false}`, ""},
		{nil, `{"isOnline":false,"isAvailableForTrips":true}`, realtime.CodeInvalidPayload},
		{nil, `{}`, realtime.CodeInvalidPayload},
	}
	for _, tt := range tests {
		m := realtime.NewMemoryDrivers()
		update := func(text string) error {
			if text == trip {
				_, err := m.SetTrip(t.Context(), "d", trip)
				return err
			}
			var in realtime.StatusUpdate
			require.NoError(t, json.Unmarshal([]byte(text), &in))
			_, err := m.UpdateStatus(t.Context(), "d", in)
			return err
		}
		for _, text := range tt.setup {
			require.NoError(t, update(text))
		}
		err := update(tt.body)
		if tt.code == "" {
			require.NoError(t, err, tt.body)
			continue
		}
		var e *realtime.Error
		require.ErrorAs(t, err, &e, tt.body)
		require.Equal(t, tt.code, e.Code, tt.body)
	}
}

func TestMemoryDrivers_Trip(t *testing.T) {
	t.Parallel()
	const paused = `{"isOnline":true,"isAvailableForTrips":false}`
	tests := []struct {
		status      string
		during, end realtime.AvailabilityReason // with the trip, and after it
	}{
		{`{"isOnline":false}`, realtime.ReasonOffline, realtime.ReasonOffline},
		{paused, realtime.ReasonOnTrip, realtime.ReasonUnavailable},
		{`{"isOnline":true,"availabilityReason":"UNAVAILABLE"}`, realtime.ReasonOnTrip, realtime.ReasonUnavailable},
		{`{"isOnline":true}`, realtime.ReasonOnTrip, ""},
		{`{"isAvailableForTrips":true}`, realtime.ReasonOnTrip, ""},
	}
	for _, tt := range tests {
		m := realtime.NewMemoryDrivers()
		before := updateDriver(t, m, tt.status)

		got, err := m.SetTrip(t.Context(), "d", "")
		require.NoError(t, err)
		require.Equal(t, before.IsAvailableForTrips, got.IsAvailableForTrips, "clearing nothing changes nothing")
		require.Equal(t, before.AvailabilityReason, got.AvailabilityReason)

		for _, id := range []string{"t1", "t2"} {
			got, err = m.SetTrip(t.Context(), "d", id)
			require.NoError(t, err)
			require.Equal(t, id, *got.CurrentTripID)
			require.False(t, got.IsAvailableForTrips)
			require.Equal(t, before.IsOnline, got.IsOnline)
			require.Equal(t, tt.during, got.AvailabilityReason)
		}

		for range 2 { // the second one changes nothing
			got, err = m.SetTrip(t.Context(), "d", "")
			require.NoError(t, err)
			require.Nil(t, got.CurrentTripID)
			require.Equal(t, before.IsAvailableForTrips, got.IsAvailableForTrips, tt.status)
			require.Equal(t, tt.end, got.AvailabilityReason, tt.status)
		}
	}
}

func TestMemoryDrivers_Location(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := realtime.NewMemoryDrivers()
		lat := 0.0
		ping := func(at time.Time) (realtime.LocationUpdate, bool) {
			lat++
			out, fresh, err := m.UpdateLocation(t.Context(), "d", realtime.LocationPing{
				Position: &realtime.Position{Lat: lat, Lng: 2}, LastLocationTimestamp: realtime.Time{Time: at}, Heading: new(lat), Speed: new(9.0),
			})
			require.NoError(t, err)
			a, known := m.Snapshot("d")
			require.True(t, known)
			require.Equal(t, fresh, a.LastLocation.Lat == lat)
			require.False(t, a.IsOnline, "a ping changes no status")
			require.Equal(t, realtime.ReasonOffline, a.AvailabilityReason)
			require.True(t, a.LastOnlineTimestamp.IsZero())
			return out, fresh
		}
		start := time.Now()

		out, fresh := ping(time.Time{})
		require.True(t, fresh)
		require.Equal(t, realtime.LocationUpdate{
			DriverID: "d", LastLocation: realtime.Position{Lat: 1, Lng: 2}, LastLocationTimestamp: realtime.Time{Time: start},
			Heading: new(1.0), Speed: new(9.0),
		}, out, "no time means now")

		time.Sleep(10 * time.Second)
		_, fresh = ping(start)
		require.True(t, fresh, "as old as the stored one")
		_, fresh = ping(start.Add(-time.Millisecond))
		require.False(t, fresh)
		out, fresh = ping(start.Add(5 * time.Second))
		require.True(t, fresh)
		require.Equal(t, start.Add(5*time.Second), out.LastLocationTimestamp.Time)
		_, fresh = ping(start.Add(4 * time.Second))
		require.False(t, fresh)

		// A clock a little ahead is trusted, one far ahead is not.
		ahead := time.Now().Add(50 * time.Second)
		_, fresh = ping(ahead)
		require.True(t, fresh)
		_, fresh = ping(time.Time{})
		require.False(t, fresh)
		time.Sleep(time.Minute)
		_, fresh = ping(time.Time{})
		require.True(t, fresh)
		_, fresh = ping(time.Now().Add(20 * time.Hour))
		require.True(t, fresh)
		_, fresh = ping(time.Time{})
		require.True(t, fresh)

		// The boundary is a minute.
		for skew, trusted := range map[time.Duration]bool{time.Minute - time.Millisecond: true, time.Minute + time.Millisecond: false} {
			_, fresh = ping(time.Now().Add(skew))
			require.True(t, fresh)
			_, fresh = ping(time.Time{})
			require.Equal(t, !trusted, fresh, skew)
			time.Sleep(time.Hour)
		}

		_, _, err := m.UpdateLocation(t.Context(), "d", realtime.LocationPing{})
		require.Equal(t, []string{"lat", "lng"}, fieldsOf(t, err))
	})
}

func TestMemoryDrivers_Times(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := realtime.NewMemoryDrivers()
		var a realtime.Availability
		update := func(online bool) time.Time {
			time.Sleep(time.Second)
			var err error
			a, err = m.UpdateStatus(t.Context(), "d", realtime.StatusUpdate{IsOnline: &online})
			require.NoError(t, err)
			require.Equal(t, time.Now(), a.UpdatedAt.Time)
			return time.Now()
		}
		update(false)
		require.True(t, a.LastOnlineTimestamp.IsZero())
		update(true)
		end := update(false)
		require.Equal(t, end, a.LastOnlineTimestamp.Time)
		update(false)
		require.Equal(t, end, a.LastOnlineTimestamp.Time)
	})
}

func TestMemoryDrivers_ForgetAndOwnership(t *testing.T) {
	t.Parallel()
	m := realtime.NewMemoryDrivers()
	_, known := m.Snapshot("d")
	require.False(t, known)
	pos := &realtime.Position{Lat: 1, Lng: 2}
	_, _, err := m.UpdateLocation(t.Context(), "d", realtime.LocationPing{Position: pos})
	require.NoError(t, err)
	a, err := m.SetTrip(t.Context(), "d", "t")
	require.NoError(t, err)

	pos.Lat, a.LastLocation.Lat, *a.CurrentTripID = 50, 60, "x"
	a, known = m.Snapshot("d")
	require.True(t, known)
	require.Equal(t, realtime.Position{Lat: 1, Lng: 2}, *a.LastLocation)
	require.Equal(t, "t", *a.CurrentTripID)

	m.Forget("d")
	m.Forget("nobody")
	_, known = m.Snapshot("d")
	require.False(t, known)
}

func TestMemoryDrivers_Concurrently(t *testing.T) {
	t.Parallel()
	m := realtime.NewMemoryDrivers()
	var wg sync.WaitGroup
	for i := range 8 {
		id := fmt.Sprint("driver", i%4)
		wg.Go(func() {
			for n := range 100 {
				online := n%2 == 0
				_, err1 := m.UpdateStatus(t.Context(), id, realtime.StatusUpdate{IsOnline: &online})
				_, _, err2 := m.UpdateLocation(t.Context(), id, realtime.LocationPing{Position: &realtime.Position{}})
				_, err3 := m.SetTrip(t.Context(), id, "")
				if err := errors.Join(err1, err2, err3); err != nil {
					t.Error(err)
				}
				if a, ok := m.Snapshot(id); ok && a.DriverID != id {
					t.Errorf("%s for %s", a.DriverID, id)
				}
				if n%10 == 9 {
					m.Forget(id)
				}
			}
		})
	}
	wg.Wait()
}

// FuzzLocationPing has encoding/json as its oracle: a map, whose keys are exact.
func FuzzLocationPing(f *testing.F) {
	for _, text := range []string{
		`{"lat":1,"lng":2}`, ` {"lat" : -1e1,"x":[{"lat":3}],"lng":"2"}`, `{"\u006cat":1}`, `{"lat":1,`, `{"lat":}`, `{"lat"`, `{"`, `{"lat":"\`, `[`, ``, `{"lat":1]`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var ping realtime.LocationPing
		err := ping.UnmarshalJSON(b) // without the check of json.Unmarshal: must not panic
		var want map[string]any
		if json.Unmarshal(b, &want) != nil || err != nil {
			return
		}
		for name, got := range map[string]float64{"lat": ping.Lat, "lng": ping.Lng} {
			if f, ok := want[name].(float64); ok {
				require.Equal(t, f, got)
			}
		}
	})
}

func BenchmarkLocationPing(b *testing.B) {
	text := []byte(`{"lat":23.113592,"lng":-82.366592,"lastLocationTimestamp":"` + time.Now().UTC().Format(time.RFC3339Nano) +
		`","heading":182.5,"speed":8.3,"accuracyMeters":5}`)
	b.Run("decode", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var ping realtime.LocationPing
			if err := ping.UnmarshalJSON(text); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("json.Unmarshal", func(b *testing.B) {
		b.ReportAllocs()
		for b.Loop() {
			var ping realtime.LocationPing
			if err := json.Unmarshal(text, &ping); err != nil {
				b.Fatal(err)
			}
		}
	})
	b.Run("store", func(b *testing.B) {
		m := realtime.NewMemoryDrivers()
		ping := realtime.LocationPing{Position: &realtime.Position{Lat: 1, Lng: 2}}
		b.ReportAllocs()
		for b.Loop() {
			if _, _, err := m.UpdateLocation(b.Context(), "0197f6a0-5b5c-7d3e-9d7e-0f0f0f0f0f0f", ping); err != nil {
				b.Fatal(err)
			}
		}
	})
}

func deref(s *string) string {
	if s == nil {
		return ""
	}
	return *s
}
