// Metrics, as a reader collects them.

package realtimeotel_test

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/sdk/metric/metricdata"
	semconv "go.opentelemetry.io/otel/semconv/v1.43.0"
	"go.opentelemetry.io/otel/semconv/v1.43.0/signalrconv"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// collected returns the metrics by name.
func (r *recorded) collected(t *testing.T) map[string]metricdata.Metrics {
	t.Helper()
	synctest.Wait()
	var all metricdata.ResourceMetrics
	require.NoError(t, r.reader.Collect(t.Context(), &all))
	found := map[string]metricdata.Metrics{}
	for _, scope := range all.ScopeMetrics {
		require.Equal(t, "github.com/rodando/realtime/realtimeotel", scope.Scope.Name)
		for _, m := range scope.Metrics {
			found[m.Name] = m
		}
	}
	return found
}

// points returns the attributes of each data point, and its value or the number of its values.
func points(t *testing.T, m metricdata.Metrics) map[string]int {
	t.Helper()
	found := map[string]int{}
	add := func(set attribute.Set, n int) {
		var words []string
		for _, kv := range set.ToSlice() {
			words = append(words, string(kv.Key)+"="+kv.Value.String())
		}
		found[strings.Join(words, " ")] = n
	}
	switch data := m.Data.(type) {
	case metricdata.Histogram[float64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, int(p.Count))
		}
	case metricdata.Sum[int64]:
		for _, p := range data.DataPoints {
			add(p.Attributes, int(p.Value))
		}
	default:
		t.Fatalf("%s is a %T", m.Name, data)
	}
	return found
}

// used lets clients connect, be refused, call and leave in each way, and an event be delivered.
func used(t *testing.T) (*recorded, *realtimetest.Server) {
	t.Helper()
	r := newRecorded(t)
	srv := realtimetest.NewServer(t, r.options)
	r.Watch(srv.Realtime)
	Arrive.Handle(srv.Realtime.Drivers(), func(_ context.Context, _ *realtime.Socket, trip string) (string, error) {
		return "", realtime.Errorf(realtime.Code(trip), "as the client wants")
	})
	return r, srv
}

func TestMetrics(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, srv := used(t)
		driver, poller := srv.Driver(t, "d1"), srv.Passenger(t, "p1", realtimetest.Polling())
		_, err := srv.Dial(t.Context(), "/drivers", realtimetest.Token("bad"))
		require.Error(t, err)
		for _, code := range []string{"conflict", "invented by a client"} {
			_, err = realtimetest.Call(t.Context(), driver, Arrive, code)
			require.Error(t, err)
		}
		_, err = driver.CallRaw(t.Context(), "driver:location:ping", realtime.Raw{Args: []json.RawMessage{[]byte(`{"lat":1,"lng":2}`)}})
		require.NoError(t, err)
		_, err = driver.CallRaw(t.Context(), "invented", realtime.Raw{})
		require.NoError(t, err)
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})

		m := r.collected(t)
		require.Equal(t, map[string]int{
			"socketio.namespace=/drivers socketio.transport=web_sockets": 1, "socketio.namespace=/drivers socketio.transport=long_polling": 0,
			"socketio.namespace=/passengers socketio.transport=web_sockets": 0, "socketio.namespace=/passengers socketio.transport=long_polling": 1,
			"socketio.namespace=/admin socketio.transport=web_sockets": 0, "socketio.namespace=/admin socketio.transport=long_polling": 0,
		}, points(t, m["socketio.server.active_connections"]))
		require.Equal(t, map[string]int{
			"socketio.namespace=/drivers socketio.transport=web_sockets":                          1,
			"socketio.namespace=/passengers socketio.transport=long_polling":                      1,
			"error.type=invalid_token socketio.namespace=/drivers socketio.transport=web_sockets": 1,
		}, points(t, m["socketio.server.handshake.duration"]))
		require.Equal(t, map[string]int{
			"error.type=conflict socketio.event=test:arrive socketio.namespace=/drivers": 1,
			"error.type=_OTHER socketio.event=test:arrive socketio.namespace=/drivers":   1,
			"socketio.event=driver:location:ping socketio.namespace=/drivers":            1,
			"error.type=not_found socketio.event=_OTHER socketio.namespace=/drivers":     1,
		}, points(t, m["socketio.server.call.duration"]))
		require.Equal(t, map[string]int{"realtime.event.name=trip.requested": 1}, points(t, m["realtime.domain_event.age"]))
		require.NotContains(t, m, "socketio.server.connection.duration")

		time.Sleep(90 * time.Second)
		driver.Close()
		poller.Stall()
		admin := srv.Admin(t, "a1")
		time.Sleep(time.Minute)
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		admin.Disconnected(t)
		m = r.collected(t)
		require.Equal(t, map[string]int{
			"socketio.connection.status=normal_closure socketio.namespace=/drivers socketio.transport=web_sockets": 1,
			"socketio.connection.status=timeout socketio.namespace=/passengers socketio.transport=long_polling":    1,
			"socketio.connection.status=app_shutdown socketio.namespace=/admin socketio.transport=web_sockets":     1,
		}, points(t, m["socketio.server.connection.duration"]))
		for _, p := range m["socketio.server.connection.duration"].Data.(metricdata.Histogram[float64]).DataPoints {
			if status, _ := p.Attributes.Value("socketio.connection.status"); status.AsString() == "normal_closure" {
				require.InDelta(t, 90, p.Sum, 1)
			}
		}
	})
}

// What clients invent adds no series.
func TestMetrics_HostileClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, srv := used(t)
		driver := srv.Driver(t, "d1")
		attack := func(from int) (series int) {
			for i := from; i < from+100; i++ {
				name := "invented" + strconv.Itoa(i)
				_, err := driver.CallRaw(t.Context(), name, realtime.Raw{})
				require.NoError(t, err)
				_, err = realtimetest.Call(t.Context(), driver, Arrive, name)
				require.Error(t, err)
				_, err = srv.Dial(t.Context(), "/"+name, realtimetest.Token(name))
				require.Error(t, err)
				require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: name, Name: name, Key: "k", Data: []byte("{}")}))
			}
			for _, m := range r.collected(t) {
				p := points(t, m)
				require.NotContains(t, fmt.Sprint(p), "invented")
				series += len(p)
			}
			return series
		}
		require.Equal(t, attack(0), attack(100))
	})
}

// The shape is that of OpenTelemetry's metrics for SignalR: only the prefix differs.
func TestMetrics_ShapeOfSignalR(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r, srv := used(t)
		driver := srv.Driver(t, "d1")
		driver.Close()
		m := r.collected(t)
		prefixed := func(signalr string) string { return strings.Replace(signalr, "signalr.", "socketio.", 1) }

		active, ok := m[prefixed(signalrconv.ServerActiveConnections{}.Name())]
		require.True(t, ok)
		require.Equal(t, signalrconv.ServerActiveConnections{}.Unit(), active.Unit)
		require.Equal(t, signalrconv.ServerActiveConnections{}.Description(), active.Description)
		require.False(t, active.Data.(metricdata.Sum[int64]).IsMonotonic)

		duration, ok := m[prefixed(signalrconv.ServerConnectionDuration{}.Name())]
		require.True(t, ok)
		require.Equal(t, signalrconv.ServerConnectionDuration{}.Unit(), duration.Unit)
		require.Equal(t, signalrconv.ServerConnectionDuration{}.Description(), duration.Description)
		require.Len(t, duration.Data.(metricdata.Histogram[float64]).DataPoints, 1)
		p := duration.Data.(metricdata.Histogram[float64]).DataPoints[0]
		require.Equal(t, []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}, p.Bounds)
		for _, want := range []attribute.KeyValue{semconv.SignalRConnectionStatusNormalClosure, semconv.SignalRTransportWebSockets} {
			got, ok := p.Attributes.Value(attribute.Key(prefixed(string(want.Key))))
			require.True(t, ok, want.Key)
			require.Equal(t, want.Value, got)
		}
		require.Equal(t, string(signalrconv.ConnectionStatusNormalClosure), semconv.SignalRConnectionStatusNormalClosure.Value.AsString())
	})
}

// Every reason of a disconnect has a status.
func TestMetrics_Statuses(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		for _, reason := range []realtime.DisconnectReason{
			realtime.DisconnectByServer, realtime.DisconnectByClient, realtime.DisconnectForcedClose, realtime.DisconnectShutdown,
			realtime.DisconnectTransportClose, realtime.DisconnectTransportError, realtime.DisconnectPingTimeout,
			realtime.DisconnectParseError, realtime.DisconnectSlowConsumer,
		} {
			r.Trace().Disconnected(t.Context(), realtime.DisconnectedInfo{Reason: reason})
		}
		var statuses []string
		for attributes := range points(t, r.collected(t)["socketio.server.connection.duration"]) {
			_, status, _ := strings.Cut(attributes, "socketio.connection.status=")
			status, _, _ = strings.Cut(status, " ")
			statuses = append(statuses, status)
		}
		require.ElementsMatch(t, []string{
			"normal_closure", "timeout", "app_shutdown", "forced_close", "transport_error", "parse_error", "slow_consumer",
		}, statuses)
	})
}

// The package's documentation has each metric, with its type and unit, and no other.
func TestDoc_ListsTheMetrics(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	listed := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^//\t([\w.]+) +(histogram|counter|updowncounter) +(\S+)`).FindAllStringSubmatch(string(source), -1) {
		listed[m[1]] = m[2] + " " + m[3]
	}
	synctest.Test(t, func(t *testing.T) {
		r, srv := used(t)
		driver := srv.Driver(t, "d1")
		_, err := realtimetest.Call(t.Context(), driver, Arrive, "x")
		require.Error(t, err)
		driver.Close()
		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		r.Trace().TraceDropped(t.Context(), realtime.TraceDroppedInfo{Calls: 3})
		found := map[string]string{}
		for name, m := range r.collected(t) {
			kind := "histogram"
			if sum, ok := m.Data.(metricdata.Sum[int64]); ok {
				kind = map[bool]string{true: "counter", false: "updowncounter"}[sum.IsMonotonic]
			}
			found[name] = kind + " " + m.Unit
		}
		require.Equal(t, slices.Sorted(maps.Keys(listed)), slices.Sorted(maps.Keys(found)))
		require.Equal(t, listed, found)
		require.Equal(t, map[string]int{"": 3}, points(t, r.collected(t)["realtime.trace.dropped"]))
	})
}
