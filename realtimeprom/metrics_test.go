// What a scrape returns, and that no client can add a series.

package realtimeprom_test

import (
	"context"
	"encoding/json"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeprom"
	"github.com/rodando/realtime/realtimetest"
)

// watched starts a server whose metrics are in the registry.
func watched(t *testing.T, o realtimeprom.Options, configure ...func(o *realtime.Options)) (*realtimetest.Server, *prometheus.Registry) {
	t.Helper()
	m := realtimeprom.New(o)
	configure = append(configure, func(o *realtime.Options) { o.Trace = m.Trace() })
	srv := realtimetest.NewServer(t, configure...)
	m.Watch(srv.Realtime)
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	return srv, registry
}

// scrape returns what Prometheus reads, without the lines of HELP and TYPE and the buckets.
func scrape(t *testing.T, registry *prometheus.Registry) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(registry, promhttp.HandlerOpts{ErrorHandling: promhttp.HTTPErrorOnError}).
		ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, "/metrics", nil))
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	var lines []string
	for line := range strings.Lines(w.Body.String()) {
		if !strings.HasPrefix(line, "#") && !strings.Contains(line, "_bucket{") && !strings.Contains(line, "_sum{") {
			lines = append(lines, strings.TrimSpace(line))
		}
	}
	slices.Sort(lines)
	return strings.Join(lines, "\n")
}

var news = realtime.NewEvent[string]("news")

// Each function of Trace and each number of Stats has its line.
func TestMetrics_Scraped(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, registry := watched(t, realtimeprom.Options{Events: []string{"news"}})
		problems, err := testutil.GatherAndLint(registry)
		require.NoError(t, err)
		require.Empty(t, problems)

		admin := srv.Admin(t, "a1")
		driver := srv.Driver(t, "d1")
		passenger := srv.Passenger(t, "p1", realtimetest.Polling())
		_, err = srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token("bad"))
		require.Error(t, err)
		_, err = realtimetest.Call(t.Context(), driver, realtime.DriverTripSet, realtime.SetTrip{})
		require.NoError(t, err)
		_, err = driver.CallRaw(t.Context(), realtime.DriverStatusUpdate.Name(), realtime.Raw{Args: []json.RawMessage{[]byte("7")}})
		require.NoError(t, err)
		require.NoError(t, news.Emit(srv.Realtime.Drivers().To(realtime.DriverRoom("d1")), "x"))
		trip := realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: time.Now()}
		srv.Publish(t, trip)
		srv.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "CUP", At: time.Now().Add(time.Second)})
		srv.Publish(t, trip)
		require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: "e1", Name: "unheard of", Key: "k", Data: []byte("{}")}))
		require.NoError(t, driver.Emit("x", strings.Repeat("x", 1_000_000)))
		driver.Disconnected(t)
		w := httptest.NewRecorder()
		srv.Realtime.ServeHTTP(w, httptest.NewRequestWithContext(t.Context(), http.MethodGet, realtime.Path+"?EIO=4&transport=pigeon", nil))
		time.Sleep(time.Minute) // heartbeats
		synctest.Wait()

		got := scrape(t, registry)
		for _, line := range []string{
			`realtime_adapter_receiving 1`,
			`realtime_call_duration_seconds_count{code="invalid_payload",event="driver:status:update",namespace="/drivers"} 1`,
			`realtime_call_duration_seconds_count{code="ok",event="driver:trip:set",namespace="/drivers"} 1`,
			`realtime_call_received_bytes_total{event="driver:status:update",namespace="/drivers"} 1`,
			`realtime_connections{transport="polling"} 1`,
			`realtime_connections{transport="websocket"} 1`,
			`realtime_disconnects_total{namespace="/drivers",reason="parse error"} 1`,
			`realtime_domain_event_age_seconds_count{event="trip.completed"} 1`,
			`realtime_domain_event_age_seconds_count{event="trip.started"} 1`,
			`realtime_emit_receivers_total{event="news",namespace="/drivers"} 1`,
			`realtime_emitted_bytes_total{event="news",namespace="/drivers"} 23`,
			`realtime_emits_total{event="news",namespace="/drivers"} 1`,
			`realtime_handshake_duration_seconds_count{namespace="/admin",result="ok"} 1`,
			`realtime_handshake_duration_seconds_count{namespace="/drivers",result="invalid_token"} 1`,
			`realtime_handshake_duration_seconds_count{namespace="/drivers",result="ok"} 1`,
			`realtime_heartbeat_round_trip_seconds_count{transport="polling"} 2`,
			`realtime_heartbeat_round_trip_seconds_count{transport="websocket"} 2`,
			`realtime_limited_total{limit="MaxPayload"} 1`,
			`realtime_outdated_domain_events_total{event="trip.started"} 1`,
			`realtime_ready 1`,
			`realtime_request_failures_total{reason="transport"} 1`,
			`realtime_rooms{namespace="/drivers"} 0`,
			`realtime_sockets{namespace="/admin",transport="websocket"} 1`,
			`realtime_sockets{namespace="/drivers",transport="websocket"} 0`,
			`realtime_sockets{namespace="/passengers",transport="polling"} 1`,
			`realtime_unknown_domain_events_total 1`,
		} {
			require.Contains(t, "\n"+got+"\n", "\n"+line+"\n")
		}
		problems, err = testutil.GatherAndLint(registry)
		require.NoError(t, err)
		require.Empty(t, problems)
		admin.Close()
		passenger.Close()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.Contains(t, scrape(t, registry), "realtime_ready 0")
	})
}

// reporter is an adapter that reports.
type reporter struct{ *realtimetest.HubNode }

func (reporter) AdapterStats() realtime.AdapterStats {
	return realtime.AdapterStats{
		ProbeAge: 1500 * time.Millisecond, Wait: 250 * time.Millisecond, Incoming: 1, IncomingBytes: 2, Outgoing: 3, OutgoingBytes: 4, Lost: 5,
	}
}

func TestMetrics_Adapter(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, registry := watched(t, realtimeprom.Options{}, func(o *realtime.Options) {
			o.Cluster.Adapter = reporter{realtimetest.NewHub().Node()}
		})
		got := scrape(t, registry)
		for _, line := range []string{
			"probe_age_seconds 1.5", "wait_seconds 0.25", "incoming_messages 1", "incoming_bytes 2", "outgoing_messages 3", "outgoing_bytes 4",
			"lost_messages_total 5",
		} {
			require.Contains(t, "\n"+got+"\n", "\nrealtime_adapter_"+line+"\n")
		}
		problems, err := testutil.GatherAndLint(registry)
		require.NoError(t, err)
		require.Empty(t, problems)
	})
}

// Two nodes: what concerns the other one.
func TestMetrics_Cluster(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		m := realtimeprom.New(realtimeprom.Options{})
		registry := prometheus.NewPedanticRegistry()
		require.NoError(t, registry.Register(m))
		require.NotContains(t, scrape(t, registry), "realtime_ready", "no server yet")
		hub := realtimetest.NewHub()
		node, other := hub.Node(), hub.Node()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter, o.Trace = node, m.Trace() })
		m.Watch(srv.Realtime)
		second := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = other })
		synctest.Wait()
		node.Cut()
		synctest.Wait()
		got := scrape(t, registry)
		require.Contains(t, got, "realtime_adapter_receiving 0")
		require.Contains(t, got, "realtime_ready 0")
		time.Sleep(3 * time.Second)
		node.Heal()
		synctest.Wait()
		second.Close()
		synctest.Wait()
		got = scrape(t, registry)
		require.Contains(t, got, "realtime_adapter_receiving 1")
		require.Contains(t, got, "realtime_gaps_total 1")
		require.Regexp(t, `realtime_gap_seconds_total [3-9]`, got)
		require.Regexp(t, `realtime_nodes_joined_total [1-9]`, got)
		require.Contains(t, got, `realtime_nodes_lost_total{end="left"} 1`)
	})
}

// A client invents events, namespaces, tokens, paths and texts that a handler returns as a code, and
// its host emits an event with a name of its own for each. The second thousand adds no series.
func TestMetrics_HostileClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, registry := watched(t, realtimeprom.Options{})
		srv.Realtime.Drivers().HandleRaw("echo", func(_ context.Context, s *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
			var text string
			if err := json.Unmarshal(args.Args[0], &text); err != nil {
				return realtime.Raw{}, err
			}
			if err := realtime.NewEvent[string](text).Emit(s, text); err != nil {
				return realtime.Raw{}, err
			}
			return realtime.Raw{}, &realtime.Error{Code: realtime.Code(text)}
		})
		driver := srv.Driver(t, "d1")
		attack := func(from int) {
			for i := from; i < from+1000; i++ {
				name := fmt.Sprint("invented", i)
				require.NoError(t, driver.Emit(name))
				_, err := driver.CallRaw(t.Context(), "echo", realtime.Raw{Args: []json.RawMessage{[]byte(strconv.Quote(name))}})
				require.NoError(t, err)
				require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: name, Name: name, Key: "k", Data: []byte("{}")}))
				if i%20 > 0 {
					continue
				}
				_, err = srv.Dial(t.Context(), "/"+name, realtimetest.Token(name))
				require.Error(t, err)
				_, err = srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(name))
				require.Error(t, err)
				r := httptest.NewRequestWithContext(t.Context(), name, realtime.Path+"?EIO=4&transport="+name, nil)
				srv.Realtime.ServeHTTP(httptest.NewRecorder(), r)
			}
			synctest.Wait()
		}
		attack(0)
		series, err := testutil.GatherAndCount(registry)
		require.NoError(t, err)
		attack(1000)
		again, err := testutil.GatherAndCount(registry)
		require.NoError(t, err)
		require.Equal(t, series, again)
		got := scrape(t, registry)
		require.NotContains(t, got, "invented")
		for _, line := range []string{
			`realtime_call_duration_seconds_count{code="not_found",event="other",namespace="/drivers"} 2000`,
			`realtime_call_duration_seconds_count{code="other",event="echo",namespace="/drivers"} 2000`,
			`realtime_emits_total{event="other",namespace="/drivers"} 2000`,
			`realtime_handshake_duration_seconds_count{namespace="other",result="not_found"} 100`,
			`realtime_handshake_duration_seconds_count{namespace="/drivers",result="invalid_token"} 100`,
			`realtime_request_failures_total{reason="transport"} 100`,
			`realtime_unknown_domain_events_total 2000`,
		} {
			require.Contains(t, "\n"+got+"\n", "\n"+line+"\n")
		}
	})
}

// quiet is an event of the host's that no client receives.
type quiet struct{}

func (quiet) EventName() string                                 { return "host.quiet" }
func (quiet) EventKey() string                                  { return "k" }
func (quiet) Deliveries(realtime.EventMeta) []realtime.Delivery { return nil }

// A domain event for which the server sends nothing has its name as a label all the same.
func TestMetrics_DomainEventWithoutDeliveries(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		srv, registry := watched(t, realtimeprom.Options{}, func(o *realtime.Options) {
			o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("Nothing that a client must know.", quiet{})}
		})
		srv.Publish(t, quiet{})
		synctest.Wait()
		require.Contains(t, scrape(t, registry), `realtime_domain_event_age_seconds_count{event="host.quiet"} 1`)
	})
}

// constants returns the values of a string type's constants in a file of package realtime.
func constants(t *testing.T, file, typ string) (values []string) {
	t.Helper()
	f, err := parser.ParseFile(token.NewFileSet(), "../"+file, nil, 0)
	require.NoError(t, err)
	ast.Inspect(f, func(n ast.Node) bool {
		if spec, ok := n.(*ast.ValueSpec); ok {
			if id, ok := spec.Type.(*ast.Ident); ok && id.Name == typ {
				value, err := strconv.Unquote(spec.Values[0].(*ast.BasicLit).Value)
				require.NoError(t, err)
				values = append(values, value)
			}
		}
		return true
	})
	require.GreaterOrEqual(t, len(values), 5, typ)
	return values
}

// What happens rarely is 0 before it happens: every constant, and every name that is registered.
func TestMetrics_ZeroAtFirst(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		_, registry := watched(t, realtimeprom.Options{})
		got := "\n" + scrape(t, registry)
		for metric, values := range map[string][]string{
			"realtime_request_failures_total{reason=":         constants(t, "trace_requests.go", "RequestFailure"),
			"realtime_limited_total{limit=":                   constants(t, "trace_limits.go", "Limit"),
			"realtime_cluster_dropped_messages_total{reason=": constants(t, "trace.go", "DropReason"),
			"realtime_nodes_lost_total{end=":                  {"left", "died"},
		} {
			for _, v := range values {
				require.Contains(t, got, "\n"+metric+strconv.Quote(v)+"} 0\n")
			}
			require.Equal(t, len(values), strings.Count(got, "\n"+metric), metric)
		}
		for _, line := range []string{
			`realtime_abandoned_handlers_total{event="driver:location:ping",namespace="/drivers"} 0`,
			`realtime_abandoned_handlers_total{event="connect",namespace="/admin"} 0`,
			`realtime_abandoned_handlers_total{event="disconnect",namespace="/passengers"} 0`,
			`realtime_outdated_domain_events_total{event="trip.started"} 0`,
			`realtime_unaddressed_domain_events_total{event="trip.started",receiver="passenger"} 0`,
			`realtime_unaddressed_domain_events_total{event="trip.started",receiver="driver"} 0`,
		} {
			require.Contains(t, got, "\n"+line+"\n")
		}
	})
}

// Every code of package realtime is a label.
func TestMetrics_Codes(t *testing.T) {
	t.Parallel()
	m := realtimeprom.New(realtimeprom.Options{})
	registry := prometheus.NewPedanticRegistry()
	require.NoError(t, registry.Register(m))
	for _, code := range constants(t, "errors.go", "Code") {
		m.Trace().Refused(t.Context(), realtime.RefusedInfo{Code: realtime.Code(code)})
		require.Contains(t, scrape(t, registry), `{namespace="other",result="`+code+`"} 1`)
	}
}

// The package's documentation has each metric, with its type, and no other.
func TestDoc_ListsTheMetrics(t *testing.T) {
	t.Parallel()
	source, err := os.ReadFile("doc.go")
	require.NoError(t, err)
	listed := map[string]string{}
	for _, m := range regexp.MustCompile(`(?m)^//\t(realtime_\w+) +(counter|histogram|)`).FindAllStringSubmatch(string(source), -1) {
		listed[m[1]] = m[2]
	}
	metrics := realtimeprom.New(realtimeprom.Options{})
	descs := make(chan *prometheus.Desc, 1000)
	metrics.Describe(descs)
	close(descs)
	name := regexp.MustCompile(`fqName: "(\w+)"`)
	described := map[string]bool{}
	for d := range descs {
		n := name.FindStringSubmatch(d.String())[1]
		described[n] = true
		require.Contains(t, listed, n)
		require.Equal(t, strings.HasSuffix(n, "_total"), listed[n] == "counter", n)
		histogram := strings.HasSuffix(n, "_seconds") && !strings.HasPrefix(n, "realtime_adapter_")
		require.Equal(t, histogram, listed[n] == "histogram", n)
	}
	for n := range listed {
		require.True(t, described[n], n)
	}
}
