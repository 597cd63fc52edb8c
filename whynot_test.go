// The log at Debug answers why a passenger did not hear of an event: docs/log.md says how to read it.

package realtime_test

import (
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// only returns the only line with that message, of those for which a key has a value.
func (r *logRecorder) only(t *testing.T, message, key string, value any) map[string]any {
	t.Helper()
	synctest.Wait()
	var found []map[string]any
	for _, line := range r.lines(t, message) {
		if line[key] == value {
			found = append(found, line)
		}
	}
	require.Len(t, found, 1, "%s with %s %v", message, key, value)
	return found[0]
}

func TestLog_WhyThePassengerDidNotHearIt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		publish := func(e realtime.DomainEvent) string {
			env, err := realtime.NewEnvelope(e)
			require.NoError(t, err)
			require.NoError(t, srv.Bus.Publish(t.Context(), env))
			synctest.Wait()
			return env.ID
		}
		// Each event was emitted to the passenger's audience, in which somebody was or not.
		heard := func(id string) any {
			for _, line := range logs.lines(t, "realtime: domain event emitted") {
				if line["id"] == id && line["to"] == "/passengers passenger:p1" {
					require.Equal(t, false, line["otherNodes"])
					return line["receivers"]
				}
			}
			return nil
		}

		_, err := srv.Dial(t.Context(), "/passengers", realtimetest.Token(logs.secret("a bad token")))
		require.Error(t, err)
		refused := logs.only(t, "realtime: handshake refused", "namespace", "/passengers")
		require.Equal(t, "INFO", refused["level"])
		require.Equal(t, "invalid_token", refused["code"])
		require.NotEmpty(t, refused["address"])
		require.Zero(t, heard(publish(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})))

		passenger := srv.Passenger(t, "p1")
		connected := logs.only(t, "realtime: socket connected", "user", "p1")
		require.Equal(t, "DEBUG", connected["level"])
		require.Equal(t, "/passengers", connected["namespace"])
		require.Equal(t, passenger.ID(), connected["socket"])
		require.Equal(t, "websocket", connected["transport"])
		require.Equal(t, realtimetest.SessionID("p1"), connected["sid"])
		require.Equal(t, refused["address"], connected["address"])
		require.EqualValues(t, 1, heard(publish(realtime.TripAssigningStarted{TripID: "t1"})))

		time.Sleep(time.Minute)
		passenger.Close()
		disconnected := logs.only(t, "realtime: socket disconnected", "user", "p1")
		require.Equal(t, "/passengers", disconnected["namespace"])
		require.Equal(t, passenger.ID(), disconnected["socket"])
		require.NotEmpty(t, disconnected["reason"])
		require.InDelta(t, time.Minute, disconnected["after"], float64(time.Second))
		require.Zero(t, heard(publish(realtime.NoDriversFound{TripID: "t1"})))

		unknown := realtime.Envelope{ID: "e1", Name: "billing.paid", Key: "k", Data: []byte("{}")}
		require.NoError(t, srv.Bus.Publish(t.Context(), unknown))
		require.Equal(t, "billing.paid", logs.only(t, "realtime: event of the bus is not registered", "id", "e1")["event"])
		require.NoError(t, srv.Bus.Publish(t.Context(), unknown))
		require.Equal(t, "billing.paid", logs.only(t, "realtime: domain event not emitted again", "id", "e1")["event"])
	})
}

// A position that a driver reports has a line for each audience too, however many there are.
func TestLog_WhoHearsAPosition(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		srv := realtimetest.NewServer(t, log)
		driver := srv.Driver(t, "d1")
		srv.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1"})
		const n = 300
		for range n {
			_, err := driver.CallRaw(t.Context(), "driver:location:ping", realtime.Raw{Args: []json.RawMessage{[]byte(`{"lat":1,"lng":2}`)}})
			require.NoError(t, err)
		}
		synctest.Wait()
		to := map[any]int{}
		for _, line := range logs.lines(t, "realtime: event emitted") {
			require.NotContains(t, line, "suppressed")
			if line["emitted"] == "trip:driver_location" {
				require.EqualValues(t, 0, line["receivers"])
				to[line["to"]]++
			}
		}
		require.Equal(t, map[any]int{"/passengers trip:t1": n, "/admin trip:t1": n}, to)
	})
}
