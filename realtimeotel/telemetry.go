// Telemetry: what a host configures, and the server that it watches.

package realtimeotel

import (
	"context"
	"net/http"
	"sync/atomic"

	"go.opentelemetry.io/otel"
	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rodando/realtime"
)

// scope is the name of the tracer and the meter.
const scope = "github.com/rodando/realtime/realtimeotel"

// other is the value of an attribute whose value is not registered, as OpenTelemetry names it.
const other = "_OTHER"

// The names of attributes. Those of OpenTelemetry's semantic conventions come first.
const (
	keyErrorType     = attribute.Key("error.type")
	keyClientAddress = attribute.Key("client.address")
	keyUserID        = attribute.Key("user.id")
	keyRPCSystem     = attribute.Key("rpc.system.name")
	keyRPCMethod     = attribute.Key("rpc.method")
	keyMessageID     = attribute.Key("messaging.message.id")
	keyDestination   = attribute.Key("messaging.destination.name")
	keyOperation     = attribute.Key("messaging.operation.name")
	keyOperationType = attribute.Key("messaging.operation.type")
	keySystem        = attribute.Key("messaging.system")

	keyNamespace  = attribute.Key("socketio.namespace")
	keyEvent      = attribute.Key("socketio.event")
	keySocketID   = attribute.Key("socketio.socket.id")
	keyTransport  = attribute.Key("socketio.transport")
	keyStatus     = attribute.Key("socketio.connection.status")
	keyName       = attribute.Key("realtime.event.name")
	keyEventKey   = attribute.Key("realtime.event.key")
	keyAudience   = attribute.Key("realtime.audience")
	keyReceivers  = attribute.Key("realtime.receivers")
	keyOtherNodes = attribute.Key("realtime.other_nodes")
)

// Options configures Telemetry. For every field nil means the default.
type Options struct {
	// TracerProvider makes the spans. Defaults to otel.GetTracerProvider().
	TracerProvider trace.TracerProvider
	// MeterProvider makes the metrics. Defaults to otel.GetMeterProvider().
	MeterProvider metric.MeterProvider
	// Propagator writes the context of a publication into the headers of its event, and reads it.
	// Defaults to propagation.TraceContext{}: baggage does not cross the bus.
	Propagator propagation.TextMapPropagator
}

// Telemetry makes the spans and the metrics of one server. New returns one; the zero value is not
// usable. All methods may be called concurrently.
type Telemetry struct {
	tracer     trace.Tracer
	propagator propagation.TextMapPropagator
	server     atomic.Pointer[realtime.Server] // nil before Watch

	connections, handshakes, calls, ages metric.Float64Histogram
	dropped                              metric.Int64Counter
}

// New returns telemetry without a server. The error is that of the MeterProvider.
func New(o Options) (*Telemetry, error) {
	if o.TracerProvider == nil {
		o.TracerProvider = otel.GetTracerProvider()
	}
	if o.MeterProvider == nil {
		o.MeterProvider = otel.GetMeterProvider()
	}
	if o.Propagator == nil {
		o.Propagator = propagation.TraceContext{}
	}
	t := &Telemetry{tracer: o.TracerProvider.Tracer(scope), propagator: o.Propagator}
	if err := t.measure(o.MeterProvider.Meter(scope)); err != nil {
		return nil, err
	}
	return t, nil
}

// Watch makes the connections of rt the active ones. Without it nothing reports them.
func (t *Telemetry) Watch(rt *realtime.Server) { t.server.Store(rt) }

// ConnContext is for Options.ConnContext of the server: it returns ctx with the span in the context
// of the HTTP request that opens a connection, such as one that otelhttp makes. It keeps nothing
// else of the request. It does not read the client's headers: on a public address a client could
// choose what is traced.
func ConnContext(ctx context.Context, r *http.Request) context.Context {
	if span := trace.SpanContextFromContext(r.Context()); span.IsValid() {
		return trace.ContextWithSpanContext(ctx, span)
	}
	return ctx
}
