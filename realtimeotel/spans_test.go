// Spans, as an exporter gets them.

package realtimeotel_test

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	sdkmetric "go.opentelemetry.io/otel/sdk/metric"
	sdktrace "go.opentelemetry.io/otel/sdk/trace"
	"go.opentelemetry.io/otel/sdk/trace/tracetest"
	"go.opentelemetry.io/otel/trace"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeotel"
	"github.com/rodando/realtime/realtimetest"
)

// recorded is telemetry with exporters in memory.
type recorded struct {
	*realtimeotel.Telemetry
	tracer trace.Tracer
	spans  *tracetest.InMemoryExporter
	reader *sdkmetric.ManualReader
}

func newRecorded(t *testing.T) *recorded {
	t.Helper()
	r := &recorded{spans: tracetest.NewInMemoryExporter(), reader: sdkmetric.NewManualReader()}
	tracers := sdktrace.NewTracerProvider(sdktrace.WithSyncer(r.spans))
	r.tracer = tracers.Tracer("host")
	var err error
	r.Telemetry, err = realtimeotel.New(realtimeotel.Options{
		TracerProvider: tracers, MeterProvider: sdkmetric.NewMeterProvider(sdkmetric.WithReader(r.reader)),
	})
	require.NoError(t, err)
	return r
}

// options sets everything of the telemetry. A Bus stays what it is.
func (r *recorded) options(o *realtime.Options) {
	o.Interceptors = append(o.Interceptors, r.Interceptor())
	o.Trace = r.Trace()
}

// named returns the only span of that name, when everything has settled.
func (r *recorded) named(t *testing.T, name string) tracetest.SpanStub {
	t.Helper()
	synctest.Wait()
	var found []tracetest.SpanStub
	var names []string
	for _, s := range r.spans.GetSpans() {
		names = append(names, s.Name)
		if s.Name == name {
			found = append(found, s)
		}
	}
	require.Len(t, found, 1, "%s among %q", name, names)
	return found[0]
}

// attributesOf returns attributes as a map, without those that differ in each run.
func attributesOf(all []attribute.KeyValue) map[string]any {
	m := map[string]any{}
	for _, kv := range all {
		if kv.Key != "socketio.socket.id" && kv.Key != "messaging.message.id" {
			m[string(kv.Key)] = kv.Value.AsInterface()
		}
	}
	return m
}

// remote is a bus to another process: an event crosses it as JSON, and no context does.
type remote struct{ realtime.EventBus }

func (b remote) Publish(_ context.Context, e realtime.Envelope) error {
	text, err := json.Marshal(e)
	if err != nil {
		return err
	}
	e = realtime.Envelope{}
	if err := json.Unmarshal(text, &e); err != nil {
		return err
	}
	return b.EventBus.Publish(context.Background(), e)
}

var Arrive = realtime.NewCall[string, string]("test:arrive")

// One trace has a driver's call, what its handler has published, and who heard of it, over a bus in
// the process and over one that carries nothing but the envelope.
func TestSpans_OneTraceAcrossTheBus(t *testing.T) {
	t.Parallel()
	for name, bus := range map[string]func() realtime.EventBus{
		"default bus": func() realtime.EventBus { return nil },
		"remote bus":  func() realtime.EventBus { return remote{realtimetest.NewBus()} },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorded(t)
				srv := realtimetest.NewServer(t, r.options, func(o *realtime.Options) { o.Bus = r.Bus(bus()) })
				Arrive.Handle(srv.Realtime.Drivers(), func(ctx context.Context, s *realtime.Socket, trip string) (string, error) {
					time.Sleep(time.Second)
					return "", srv.Realtime.Publish(ctx, realtime.TripStarted{TripID: trip, PassengerID: "p1", DriverID: s.Identity().UserID})
				})
				driver, passenger := srv.Driver(t, "d1"), srv.Passenger(t, "p1")
				srv.Passenger(t, "p1")
				_, err := realtimetest.Call(t.Context(), driver, Arrive, "t1")
				require.NoError(t, err)
				realtimetest.Expect(t, passenger, realtime.EventTripStarted)

				call, publish, deliver := r.named(t, "/drivers test:arrive"), r.named(t, "publish trip.started"), r.named(t, "deliver trip.started")
				require.Equal(t, trace.SpanKindServer, call.SpanKind)
				require.Equal(t, time.Second, call.EndTime.Sub(call.StartTime))
				require.Equal(t, map[string]any{
					"rpc.system.name": "socketio", "rpc.method": "test:arrive", "socketio.namespace": "/drivers", "user.id": "d1", "socketio.transport": "web_sockets",
				}, attributesOf(call.Attributes))
				require.False(t, call.Parent.IsValid())

				require.Equal(t, trace.SpanKindProducer, publish.SpanKind)
				require.Equal(t, call.SpanContext.TraceID(), publish.SpanContext.TraceID())
				require.Equal(t, call.SpanContext.SpanID(), publish.Parent.SpanID())
				require.Equal(t, map[string]any{
					"messaging.system": "realtime", "messaging.operation.name": "publish", "messaging.operation.type": "send",
					"messaging.destination.name": "trip.started", "realtime.event.key": "t1",
				}, attributesOf(publish.Attributes))

				require.Equal(t, trace.SpanKindConsumer, deliver.SpanKind)
				require.Equal(t, call.SpanContext.TraceID(), deliver.SpanContext.TraceID())
				require.Equal(t, publish.SpanContext.SpanID(), deliver.Parent.SpanID())
				require.Equal(t, name == "remote bus", deliver.Parent.IsRemote())
				require.Equal(t, map[string]any{
					"messaging.system": "realtime", "messaging.operation.name": "deliver", "messaging.operation.type": "process",
					"messaging.destination.name": "trip.started", "realtime.event.key": "t1", "realtime.receivers": int64(3),
				}, attributesOf(deliver.Attributes))
				var heard []string
				for _, e := range deliver.Events {
					m := attributesOf(e.Attributes)
					require.Equal(t, "trip:started", m["socketio.event"])
					require.Equal(t, false, m["realtime.other_nodes"])
					heard = append(heard, m["realtime.audience"].(string)+": "+map[int64]string{0: "0", 1: "1", 2: "2"}[m["realtime.receivers"].(int64)])
				}
				require.Equal(t, []string{"/passengers passenger:p1: 2", "/drivers driver:d1: 1", "/admin admin:all trip:t1: 0"}, heard)
			})
		})
	}
}

// A span "deliver" begins when the server received the event, and ends when it was emitted.
func TestSpans_DeliveryThatWaits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		srv := realtimetest.NewServer(t, r.options)
		_, release := srv.Parties.Block()
		received := time.Now()
		require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripStarted{TripID: "t1"}))
		time.Sleep(2 * time.Second)
		release()
		span := r.named(t, "deliver trip.started")
		require.Equal(t, received, span.StartTime)
		require.Equal(t, received.Add(2*time.Second), span.EndTime)
	})
}

// A handshake is a child of its HTTP request. Only a fault of the server is an error.
func TestSpans_Handshake(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		_, request := r.tracer.Start(t.Context(), "GET /socket.io/")
		srv := realtimetest.NewServer(t, r.options, func(o *realtime.Options) {
			o.ConnContext = func(ctx context.Context, req *http.Request) context.Context {
				require.Equal(t, ctx, realtimeotel.ConnContext(ctx, req), "without a span nothing is kept")
				return realtimeotel.ConnContext(ctx, req.WithContext(trace.ContextWithSpan(req.Context(), request)))
			}
		})
		Arrive.Handle(srv.Realtime.Drivers(), func(context.Context, *realtime.Socket, string) (string, error) { return "", nil })
		driver := srv.Driver(t, "d1", realtimetest.Polling())
		_, err := realtimetest.Call(t.Context(), driver, Arrive, "t1")
		require.NoError(t, err)
		_, err = srv.Dial(t.Context(), "/admin", realtimetest.Token("bad"))
		require.Error(t, err)
		_, err = srv.Dial(t.Context(), "/invented", realtimetest.Token("bad"))
		require.Error(t, err)

		span := r.named(t, "CONNECT /drivers")
		require.Equal(t, trace.SpanKindServer, span.SpanKind)
		require.Equal(t, request.SpanContext().SpanID(), span.Parent.SpanID())
		require.Equal(t, map[string]any{"socketio.namespace": "/drivers", "user.id": "d1", "client.address": "192.0.2.2", "socketio.transport": "long_polling"}, attributesOf(span.Attributes))
		require.Equal(t, codes.Unset, span.Status.Code)

		span = r.named(t, "CONNECT /admin")
		require.Equal(t, "invalid_token", attributesOf(span.Attributes)["error.type"])
		require.Equal(t, codes.Unset, span.Status.Code)
		span = r.named(t, "CONNECT")
		require.Equal(t, map[string]any{"error.type": "not_found", "client.address": "192.0.2.2", "socketio.transport": "web_sockets"}, attributesOf(span.Attributes))

		call := r.named(t, "/drivers test:arrive")
		require.False(t, call.Parent.IsValid(), "a connection lasts for hours: its calls are traces of their own")
		require.NotEqual(t, request.SpanContext().TraceID(), call.SpanContext.TraceID())
		require.Len(t, call.Links, 1)
		require.True(t, call.Links[0].SpanContext.Equal(request.SpanContext()))

		r.spans.Reset()
		srv.Users.Fail(errors.New("the database is away"))
		_, err = srv.Dial(t.Context(), "/passengers", realtimetest.Token(srv.Tokens.Mint("p9", "s9", time.Hour)))
		require.Error(t, err)
		span = r.named(t, "CONNECT /passengers")
		require.Equal(t, "unavailable", attributesOf(span.Attributes)["error.type"])
		require.Equal(t, codes.Error, span.Status.Code)
	})
}

// A call that fails has the client's code, and is an error if the host is to blame.
func TestSpans_CallThatFails(t *testing.T) {
	t.Parallel()
	for name, row := range map[string]struct {
		fail   func() error
		code   string
		status codes.Code
	}{
		"refused": {func() error { return realtime.Errorf(realtime.CodeConflict, "too late") }, "conflict", codes.Unset},
		"fault":   {func() error { return errors.New("the database is away") }, "internal", codes.Error},
		"slow":    {func() error { return context.DeadlineExceeded }, "unavailable", codes.Error},
		"panic":   {func() error { panic("a bug") }, "internal", codes.Error},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				r := newRecorded(t)
				srv := realtimetest.NewServer(t, r.options)
				Arrive.Handle(srv.Realtime.Drivers(), func(context.Context, *realtime.Socket, string) (string, error) { return "", row.fail() })
				_, err := realtimetest.Call(t.Context(), srv.Driver(t, "d1"), Arrive, "t1")
				require.Error(t, err)
				span := r.named(t, "/drivers test:arrive")
				require.Equal(t, row.code, attributesOf(span.Attributes)["error.type"])
				require.Equal(t, row.status, span.Status.Code)
			})
		})
	}
}

// A host may test its handlers with a zero CallRequest.
func TestInterceptor_WithoutASocket(t *testing.T) {
	t.Parallel()
	r := newRecorded(t)
	_, err := r.Interceptor()(func(ctx context.Context, _ *realtime.CallRequest) (realtime.Raw, error) {
		require.True(t, trace.SpanFromContext(ctx).IsRecording())
		return realtime.Raw{}, nil
	})(t.Context(), &realtime.CallRequest{})
	require.NoError(t, err)
	require.Len(t, r.spans.GetSpans(), 1)
}

// A service that subscribes gets the context of the publication; the publisher's map stays as it is.
func TestBus_Headers(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		b := r.Bus(remote{realtimetest.NewBus()})
		got := make(chan realtime.Envelope, 2)
		var contexts []trace.SpanContext
		cancel, err := b.Subscribe(func(ctx context.Context, e realtime.Envelope) error {
			contexts = append(contexts, trace.SpanContextFromContext(ctx))
			got <- e
			return nil
		})
		require.NoError(t, err)
		defer cancel()
		own := map[string]string{"tenant": "havana"}
		require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "e1", Name: "billing.paid", Key: "k", Headers: own, Data: []byte("{}")}))
		require.NoError(t, b.Publish(t.Context(), realtime.Envelope{ID: "e2", Name: "billing.owed", Key: "k", Data: []byte("{}")}))
		require.Equal(t, map[string]string{"tenant": "havana"}, own)
		first, second := <-got, <-got
		span := r.named(t, "publish billing.paid")
		require.Equal(t, "havana", first.Headers["tenant"])
		require.Equal(t, "00-"+span.SpanContext.TraceID().String()+"-"+span.SpanContext.SpanID().String()+"-01", first.Headers["traceparent"])
		require.Len(t, second.Headers, 1)
		require.True(t, contexts[0].Equal(span.SpanContext.WithRemote(true)))
	})
}

// What others write into the headers makes no span a child of nothing, and no event fails for it.
func TestBus_MalformedHeaders(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		plain := realtimetest.NewBus()
		srv := realtimetest.NewServer(t, r.options, func(o *realtime.Options) { o.Bus = r.Bus(plain) })
		passenger := srv.Passenger(t, "p1")
		e, err := realtime.NewEnvelope(realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		require.NoError(t, err)
		e.Headers = map[string]string{"traceparent": "00-xyz", "tracestate": "\x00"}
		require.NoError(t, plain.Publish(t.Context(), e))
		realtimetest.Expect(t, passenger, realtime.EventTripRequested)
		require.False(t, r.named(t, "deliver trip.requested").Parent.IsValid())
	})
}

// A Publish that fails is an error of its span. The wrapped bus says what is wrong with a handler.
func TestBus_Fails(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		r := newRecorded(t)
		plain := realtimetest.NewBus()
		plain.Fail(errors.New("the broker is away"))
		b := r.Bus(plain)
		require.EqualError(t, b.Publish(t.Context(), realtime.Envelope{Name: "x", Key: "k"}), "the broker is away")
		span := r.named(t, "publish x")
		require.Equal(t, codes.Error, span.Status.Code)
		require.Equal(t, "_OTHER", attributesOf(span.Attributes)["error.type"])
		_, err := b.Subscribe(nil)
		require.Error(t, err)
	})
}

func TestBus_Conforms(t *testing.T) {
	t.Parallel()
	telemetry, err := realtimeotel.New(realtimeotel.Options{}) // without an SDK, so that it adds no headers
	require.NoError(t, err)
	realtimetest.TestEventBus(t, func(*testing.T) realtime.EventBus { return telemetry.Bus(realtimetest.NewBus()) })
}

// Without an SDK nothing is recorded, and everything works.
func TestNew_WithoutAnSDK(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		telemetry, err := realtimeotel.New(realtimeotel.Options{})
		require.NoError(t, err)
		published := realtimetest.NewBus()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Interceptors = []realtime.Interceptor{telemetry.Interceptor()}
			o.Trace, o.Bus = telemetry.Trace(), telemetry.Bus(published)
		})
		telemetry.Watch(srv.Realtime)
		passenger := srv.Passenger(t, "p1")
		require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p1"}))
		realtimetest.Expect(t, passenger, realtime.EventTripRequested)
		require.True(t, slices.ContainsFunc(published.Published(), func(e realtime.Envelope) bool { return e.Name == "trip.requested" && e.Headers == nil }))
	})
}
