// Nothing that is private leaves the view.

package realtimeadmin_test

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimeadmin"
	"github.com/rodando/realtime/realtimetest"
)

// private are the parts of everything that the test feeds in and that must not come out.
var private = []string{"SECRET", "5355512345", "23.1136", "82.3666", "malecón", "203.0.113"}

// leak is a text with all of them.
const leak = "SECRET +5355512345 23.1136,-82.3666 malecón 203.0.113.7"

// leaky is a domain event of the host's that is addressed to a room with a private name.
type leaky struct{ Text string }

type leakyPayload struct {
	realtime.EventMeta
	Text string `json:"text"`
}

var leaked = realtime.NewEvent[leakyPayload]("leaked")

func (leaky) EventName() string { return "host.leaky" }
func (leaky) EventKey() string  { return "t1" }
func (e leaky) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	var room realtime.Room
	_ = room.UnmarshalText([]byte(leak))
	return []realtime.Delivery{leaked.Deliver(leakyPayload{m, e.Text},
		realtime.ToRoom(realtime.NamespaceDrivers, realtime.DriverRoom("d1"), realtime.NewRoom(leak, leak), realtime.DriverRoom("d1")),
		realtime.ToRoom(realtime.NamespacePassengers, room))}
}

// Payloads, tokens, phone numbers, coordinates and addresses come in by every way there is, and no byte of them
// is in what the page, another node or the log receives.
func TestView_ShowsNothingPrivate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		nodes := start(t, 2, realtimeadmin.Options{}, func(o *realtime.Options) {
			o.Offers = offers{&realtime.Error{Code: leak, Message: leak, Fields: []string{leak}}}
			o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("Leaks.", leaky{})}
			o.Namespaces = map[string]realtime.NamespaceOptions{"/chat": {Authorize: func(context.Context, realtime.AuthorizeRequest) error {
				return &realtime.Error{Code: leak, Message: leak}
			}}}
		})
		between := &testkit.Log{}
		for _, n := range nodes {
			for _, event := range []string{"realtimeadmin:question", "realtimeadmin:answer"} {
				n.Realtime.Admin().OnServerEmit(event, func(args realtime.Raw) { _, _ = between.Write(args.Args[0]) })
			}
		}
		n := nodes[0]
		n.Login("d1", realtime.UserDriver)
		n.Tokens.Set("token "+leak, realtime.Claims{Subject: "d1", SessionID: realtimetest.SessionID("d1"), ExpiresAt: time.Now().Add(time.Hour)})
		driver := n.Driver(t, "d1", realtimetest.Token("token "+leak), realtimetest.Header("X-Forwarded-For", "203.0.113.7"), realtimetest.Header("User-Agent", leak))
		passenger := nodes[1].Passenger(t, "p1", realtimetest.Polling())
		room := realtime.NewRoom(leak, leak)
		n.Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(room, realtime.NewRoom("cell", "23.1136"))
		var foreign realtime.Room
		require.NoError(t, foreign.UnmarshalText([]byte(leak)))
		n.Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(foreign)
		for _, bad := range []realtimetest.Option{realtimetest.Token(leak), realtimetest.Auth(map[string]any{"token": 7, "more": leak})} {
			for _, namespace := range []string{"/drivers", "/SECRET+5355512345"} {
				_, err := n.Dial(t.Context(), namespace, bad)
				require.Error(t, err)
			}
		}
		_, err := n.Dial(t.Context(), "/chat", realtimetest.Token("token "+leak))
		require.Error(t, err)
		_, err = realtimetest.Call(t.Context(), driver, realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: leak})
		require.Error(t, err)
		_, err = driver.CallRaw(t.Context(), leak, realtime.Raw{Args: []json.RawMessage{[]byte(strconv.Quote(leak))}})
		require.NoError(t, err)
		_, err = driver.CallRaw(t.Context(), realtime.DriverStatusUpdate.Name(), realtime.Raw{Args: []json.RawMessage{[]byte(strconv.Quote(leak))}})
		require.NoError(t, err)
		require.NoError(t, driver.Emit(realtime.DriverLocationPing.Name(), realtime.Position{Lat: 23.1136, Lng: -82.3666}))
		place := &realtime.Place{Lat: 23.1136, Lng: -82.3666, Address: new(leak)}
		for _, e := range []realtime.DomainEvent{
			realtime.TripRequested{TripID: "t1", PassengerID: "p1", Pickup: place},
			realtime.AssignmentOffered{TripID: "t1", AssignmentID: leak, DriverID: "d1", VehicleID: leak, TTLSec: 20, Pickup: place, DestinationHint: place},
			realtime.DriverAssigned{
				TripID: "t1", PassengerID: "p1", DriverID: "d1", VehicleID: leak,
				Driver: &realtime.DriverCard{ID: "d1", Name: new(leak), PhotoURL: new(leak), PhoneMasked: new(leak)}, Vehicle: &realtime.VehicleCard{ID: leak, PlateNumber: new(leak)},
			},
			leaky{leak},
			realtime.TripCancelled{TripID: "t1", PassengerID: "p1", DriverID: "d1", CancelledBy: realtime.CancelledByAdmin, Reason: leak},
			realtime.SessionRevoked{SessionID: "session-of-p1", UserID: "p1", Reason: leak},
		} {
			n.Publish(t, e)
		}
		require.NoError(t, n.Bus.Publish(t.Context(), realtime.Envelope{ID: "x", Name: leak, Key: "t1", Data: []byte("{}")}))
		require.NoError(t, n.Bus.Publish(t.Context(), realtime.Envelope{ID: "y", Name: "trip.started", Key: leak, Data: []byte(`{"tripId":"t1","x":"` + leak + `"}`)}))
		require.NoError(t, note.Emit(n.Realtime.Drivers().To(room, realtime.DriverRoom("d1"), foreign), leak))
		n.Realtime.ServeHTTP(httptest.NewRecorder(), httptest.NewRequestWithContext(t.Context(), http.MethodGet, realtime.Path+"?EIO=4&transport=SECRET&token=SECRET", nil))
		driver.Drop()
		passenger.Disconnected(t)
		settle(t, nodes...)

		var out bytes.Buffer
		for _, n := range nodes {
			for _, path := range []string{"/api/overview", "/api/user?id=d1", "/api/user?id=p1", "/api/timeline?id=t1", "/api/timeline?id=d1", "/api/timeline?id=p1"} {
				w := request(t, n.view, http.MethodGet, path, nil)
				require.Equal(t, 200, w.Code)
				out.Write(w.Body.Bytes())
			}
			request(t, n.view, http.MethodPost, "/api/disconnect", strings.NewReader(`{"sessionId":"s1","x":"`+leak+`"}`), with("Content-Type", "application/json"))
			out.WriteString(n.log.String())
		}
		synctest.Wait()
		shown := out.String()
		require.NotEmpty(t, between.String())
		for _, expected := range []string{"trip:driver_assigned", "driver:offer:accept", "host.leaky", `"code":"other"`, "invalid_token", `"reason":"not_found"`, "trip.started"} {
			require.Contains(t, shown, expected)
		}
		for _, secret := range private {
			require.NotContains(t, shown, secret)
			require.NotContains(t, between.String(), secret)
		}
	})
}

// The documentation names every option, and says what the page asks for.
func TestDoc_OperatorsView(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/operators-view.md")
	require.NoError(t, err)
	source, err := os.ReadFile("view.go")
	require.NoError(t, err)
	options := regexp.MustCompile(`(?s)type Options struct \{.*?\n\}`).Find(source)
	for _, m := range regexp.MustCompile(`(?m)^\t([A-Z]\w+) `).FindAllSubmatch(options, -1) {
		require.Contains(t, string(doc), "`"+string(m[1])+"`")
	}
}
