// A whole trip in which googollee's client takes the place of the apps.

package engineio_test

import (
	"context"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"reflect"
	"testing"
	"time"

	googollee "github.com/googollee/go-socket.io/engineio"
	"github.com/googollee/go-socket.io/engineio/transport"
	"github.com/googollee/go-socket.io/parser"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// oldApp is a Socket.IO 2 client made of googollee's parts.
type oldApp struct {
	t         *testing.T
	namespace string
	conn      googollee.Conn
	out       *parser.Encoder
	in        *parser.Decoder
}

// dialOldApp connects to a namespace and reads until hello.
func dialOldApp(t *testing.T, url, namespace, token string, over transport.Transport) *oldApp {
	t.Helper()
	dialer := googollee.Dialer{Transports: []transport.Transport{over}}
	conn, err := dialer.Dial(url, http.Header{"Authorization": {"Bearer " + token}})
	require.NoError(t, err)
	t.Cleanup(func() { _ = conn.Close() })
	a := &oldApp{t: t, namespace: namespace, conn: conn, out: parser.NewEncoder(conn), in: parser.NewDecoder(conn)}
	h, _, _ := a.next()
	require.Equal(t, parser.Header{Type: parser.Connect}, h, "the implicit connect to /")
	require.NoError(t, a.out.Encode(parser.Header{Type: parser.Connect, Namespace: namespace}))
	h, _, _ = a.next()
	require.Equal(t, parser.Header{Type: parser.Connect, Namespace: namespace}, h)
	a.expect("hello")
	return a
}

// next reads one packet: its header, the name of an event, and its first argument.
func (a *oldApp) next() (h parser.Header, event string, arg map[string]any) {
	a.t.Helper()
	require.NoError(a.t, a.in.DecodeHeader(&h, &event))
	if h.Type == parser.Event || h.Type == parser.Ack {
		args, err := a.in.DecodeArgs([]reflect.Type{reflect.TypeFor[map[string]any]()})
		require.NoError(a.t, err)
		arg = args[0].Interface().(map[string]any)
	}
	require.NoError(a.t, a.in.DiscardLast())
	return h, event, arg
}

// expect reads the next packet, which must be that event.
func (a *oldApp) expect(event string) map[string]any {
	a.t.Helper()
	h, got, arg := a.next()
	tracked := event == realtime.EventAssignmentOffered.Name() // it asks for an ack
	require.Equal(a.t, parser.Header{Type: parser.Event, Namespace: a.namespace, NeedAck: tracked, ID: h.ID}, h, got)
	require.Equal(a.t, event, got)
	return arg
}

// expectOffer reads the next packet, which must be an offer, and acknowledges it.
func (a *oldApp) expectOffer() map[string]any {
	a.t.Helper()
	h, got, arg := a.next()
	require.Equal(a.t, parser.Header{Type: parser.Event, Namespace: a.namespace, NeedAck: true, ID: h.ID}, h, got)
	require.Equal(a.t, "trip:assignment:offered", got)
	require.NoError(a.t, a.out.Encode(parser.Header{Type: parser.Ack, Namespace: a.namespace, NeedAck: true, ID: h.ID}, []any{}))
	return arg
}

// call emits an event and reads its ack, which must come after the events in between.
func (a *oldApp) call(id uint64, event string, body any, between ...string) map[string]any {
	a.t.Helper()
	require.NoError(a.t, a.out.Encode(parser.Header{Type: parser.Event, Namespace: a.namespace, NeedAck: true, ID: id}, []any{event, body}))
	for _, event := range between {
		a.expect(event)
	}
	h, _, arg := a.next()
	require.Equal(a.t, parser.Header{Type: parser.Ack, Namespace: a.namespace, NeedAck: true, ID: id}, h)
	return arg
}

// offers accepts every offer.
type offers struct{}

func (offers) AcceptOffer(context.Context, string, string) (string, error) { return "t1", nil }
func (offers) RejectOffer(context.Context, string, string, string) error   { return nil }

func TestServer_TripWithGoogollee(t *testing.T) {
	for _, driverBy := range []string{"websocket", "polling"} {
		t.Run("driver by "+driverBy, func(t *testing.T) {
			t.Parallel()
			tokens, users, sessions := &realtimetest.Tokens{}, &realtimetest.Users{}, &realtimetest.Sessions{}
			rt, err := realtime.New(realtime.Options{
				Tokens: tokens, Users: users, Sessions: sessions, Offers: offers{}, Compat: realtime.Compat{AllowEIO3: true}, Logger: slog.New(slog.DiscardHandler),
			})
			require.NoError(t, err)
			mux := http.NewServeMux()
			mux.Handle(realtime.Path, rt)
			host := httptest.NewServer(mux)
			t.Cleanup(func() {
				require.NoError(t, rt.Shutdown(context.Background()))
				host.Close()
			})
			for id, typ := range map[string]realtime.UserType{"d1": realtime.UserDriver, "p1": realtime.UserPassenger} {
				users.Set(realtime.User{ID: id, Type: typ, Active: true})
				sessions.Set(realtime.Session{ID: "s-" + id, UserID: id})
			}
			ways := byGoogollee(net.Dial)
			url := host.URL + realtime.Path
			passengerBy := map[string]string{"websocket": "polling", "polling": "websocket"}[driverBy]
			driver := dialOldApp(t, url, realtime.NamespaceDrivers, tokens.Mint("d1", "s-d1", time.Hour), ways[driverBy])
			passenger := dialOldApp(t, url, realtime.NamespacePassengers, tokens.Mint("p1", "s-p1", time.Hour), ways[passengerBy])

			require.Equal(t, true, driver.call(1, "driver:status:update", map[string]any{"isAvailableForTrips": true}, "driver:availability:update")["ok"])
			publish := func(e realtime.DomainEvent) {
				t.Helper()
				require.NoError(t, rt.Publish(t.Context(), e))
			}
			name := "Añá ☃ 😀"
			publish(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
			publish(realtime.TripAssigningStarted{TripID: "t1"})
			publish(realtime.AssignmentOffered{TripID: "t1", AssignmentID: "a1", DriverID: "d1", TTLSec: 20})
			passenger.expect("trip:requested")
			passenger.expect("trip:assigning_started")
			require.Equal(t, "a1", driver.expectOffer()["assignmentId"])
			require.Equal(t, map[string]any{"assignmentId": "a1", "tripId": "t1"}, driver.call(2, "driver:offer:accept", map[string]any{"assignmentId": "a1"})["data"])
			publish(realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "a1", DriverID: "d1", Driver: &realtime.DriverCard{ID: "d1", Name: &name}})
			publish(realtime.DriverAssigned{TripID: "t1", DriverID: "d1"})
			require.Equal(t, name, passenger.expect("trip:driver_accepted")["driver"].(map[string]any)["name"])
			passenger.expect("trip:driver_assigned")
			driver.expect("trip:assignment:accepted")
			driver.expect("trip:driver_assigned")

			require.Equal(t, true, driver.call(3, "driver:location:ping", map[string]any{"lat": 1, "lng": 2}, "driver:location:update")["ok"])
			require.Equal(t, "t1", passenger.expect("trip:driver_location")["tripId"])
			for _, e := range []realtime.DomainEvent{
				realtime.ArrivingStarted{TripID: "t1"}, realtime.DriverEnRoute{TripID: "t1"}, realtime.DriverArrivedPickup{TripID: "t1"},
				realtime.TripStarted{TripID: "t1"}, realtime.TripCompleted{TripID: "t1", Currency: "CUP"},
			} {
				publish(e)
			}
			for _, app := range []*oldApp{driver, passenger} {
				for _, event := range []string{"trip:arriving_started", "trip:driver_en_route", "trip:driver_arrived_pickup", "trip:started", "trip:completed"} {
					require.Equal(t, "t1", app.expect(event)["tripId"])
				}
			}

			publish(realtime.SessionRevoked{SessionID: "s-d1"})
			driver.expect("auth:session_revoked")
			h, _, _ := driver.next()
			require.Equal(t, parser.Header{Type: parser.Disconnect, Namespace: realtime.NamespaceDrivers}, h)
			if driverBy == "websocket" { // on polling googollee leaks a goroutine when the server closes it
				_, _, err = driver.conn.NextReader()
				require.Error(t, err)
			}
			require.Equal(t, false, passenger.call(4, "no:such:event", nil)["ok"])
		})
	}
}
