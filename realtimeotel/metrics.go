// Metrics: the instruments, and the values of their attributes.

package realtimeotel

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/metric"

	"github.com/rodando/realtime"
)

// The bounds of the histograms: those of signalr.server.connection.duration for connections, and
// those of http.server.request.duration for the rest.
var (
	connectionBounds = []float64{0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1, 2, 5, 10, 30, 60, 120, 300}
	bounds           = []float64{0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1, 2.5, 5, 7.5, 10}
)

// measure creates the instruments.
func (t *Telemetry) measure(m metric.Meter) error {
	var errs []error
	seconds := func(name, description string, bounds []float64) metric.Float64Histogram {
		h, err := m.Float64Histogram(name, metric.WithUnit("s"), metric.WithDescription(description), metric.WithExplicitBucketBoundaries(bounds...))
		errs = append(errs, err)
		return h
	}
	t.connections = seconds("socketio.server.connection.duration", "The duration of connections on the server.", connectionBounds)
	t.handshakes = seconds("socketio.server.handshake.duration", "The duration of handshakes, from the CONNECT to its answer.", bounds)
	t.calls = seconds("socketio.server.call.duration", "The duration of calls of clients.", bounds)
	t.ages = seconds("realtime.domain_event.age", "The time from the publication of a domain event until it was emitted.", bounds)
	var err error
	t.dropped, err = m.Int64Counter("realtime.trace.dropped", metric.WithUnit("{call}"), metric.WithDescription("Calls of Trace that were dropped: the other metrics lack them."))
	errs = append(errs, err)
	_, err = m.Int64ObservableUpDownCounter("socketio.server.active_connections", metric.WithUnit("{connection}"),
		metric.WithDescription("Number of connections that are currently active on the server."), metric.WithInt64Callback(t.active))
	if err = errors.Join(append(errs, err)...); err != nil {
		return fmt.Errorf("realtimeotel: %w", err)
	}
	return nil
}

// active observes the connected sockets.
func (t *Telemetry) active(_ context.Context, o metric.Int64Observer) error {
	rt := t.server.Load()
	if rt == nil {
		return nil
	}
	for _, ns := range rt.Stats().Namespaces {
		for transport, n := range ns.Sockets {
			o.Observe(int64(n), metric.WithAttributes(keyNamespace.String(ns.Name), keyTransport.String(transportOf(transport))))
		}
	}
	return nil
}

func record(ctx context.Context, h metric.Float64Histogram, d time.Duration, all ...attribute.KeyValue) {
	h.Record(ctx, d.Seconds(), metric.WithAttributes(all...))
}

// withError adds error.type if there is a code.
func withError(c realtime.Code, all ...attribute.KeyValue) []attribute.KeyValue {
	switch {
	case c == "":
		return all
	case !c.Known():
		c = other
	}
	return append(all, keyErrorType.String(string(c)))
}

// given returns a name that Trace gives only if it is registered, and leaves empty otherwise.
func given(name string) string {
	if name == "" {
		return other
	}
	return name
}

// transportOf returns what OpenTelemetry calls a transport of SignalR.
func transportOf(t realtime.Transport) string {
	switch t {
	case realtime.TransportWebSocket:
		return "web_sockets"
	case realtime.TransportPolling:
		return "long_polling"
	}
	return other
}

// statusOf returns OpenTelemetry's status of a connection of SignalR, and for the reasons that it
// has no status for their own text.
func statusOf(r realtime.DisconnectReason) string {
	switch r { //nolint:exhaustive // the others have their own text
	case realtime.DisconnectByServer, realtime.DisconnectByClient, realtime.DisconnectTransportClose:
		return "normal_closure"
	case realtime.DisconnectPingTimeout:
		return "timeout"
	case realtime.DisconnectShutdown:
		return "app_shutdown"
	}
	return strings.ReplaceAll(string(r), " ", "_")
}
