// Trace: spans of handshakes and deliveries, and the metrics, from what the server reports
// afterwards.

package realtimeotel

import (
	"context"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/trace"

	"github.com/rodando/realtime"
)

// Trace returns the functions that make spans of handshakes and deliveries and record the metrics,
// for Options.Trace of the server.
func (t *Telemetry) Trace() *realtime.Trace {
	return &realtime.Trace{
		Connected: func(ctx context.Context, i realtime.ConnectedInfo) {
			t.handshake(ctx, i.SocketInfo, i.Time, i.Duration, "")
		},
		Refused: func(ctx context.Context, i realtime.RefusedInfo) {
			t.handshake(ctx, i.SocketInfo, i.Time, i.Duration, i.Code)
		},
		Disconnected: func(ctx context.Context, i realtime.DisconnectedInfo) {
			record(ctx, t.connections, i.Duration, keyNamespace.String(i.Namespace),
				keyStatus.String(statusOf(i.Reason)), keyTransport.String(transportOf(i.Transport)))
		},
		Handled: func(ctx context.Context, i realtime.HandledInfo) {
			record(ctx, t.calls, i.Duration, withError(i.Code, keyNamespace.String(i.Namespace), keyEvent.String(given(i.Event)))...)
		},
		Delivered:    t.delivered,
		TraceDropped: func(ctx context.Context, i realtime.TraceDroppedInfo) { t.dropped.Add(ctx, int64(i.Calls)) },
	}
}

// handshake makes the span and the metric of a handshake. code is empty if it succeeded.
func (t *Telemetry) handshake(ctx context.Context, i realtime.SocketInfo, start time.Time, took time.Duration, code realtime.Code) {
	transport := keyTransport.String(transportOf(i.Transport))
	name, all := "CONNECT", []attribute.KeyValue{transport}
	if i.Namespace != "" {
		name += " " + i.Namespace
		all = append(all, keyNamespace.String(i.Namespace), keySocketID.String(i.SocketID))
	}
	if i.UserID != "" {
		all = append(all, keyUserID.String(i.UserID))
	}
	if i.RemoteAddr.IsValid() {
		all = append(all, keyClientAddress.String(i.RemoteAddr.String()))
	}
	ctx, span := t.tracer.Start(ctx, name, trace.WithTimestamp(start), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(all...))
	if code != "" {
		fail(span, code, "")
	}
	span.End(trace.WithTimestamp(start.Add(took)))
	record(ctx, t.handshakes, took, withError(code, keyNamespace.String(given(i.Namespace)), transport)...)
}

// delivered makes the span and the metric of a domain event that was emitted.
func (t *Telemetry) delivered(ctx context.Context, i realtime.DeliveredInfo) {
	ctx, span := t.tracer.Start(ctx, "deliver "+i.Event, trace.WithTimestamp(i.Time), trace.WithSpanKind(trace.SpanKindConsumer),
		trace.WithAttributes(messageAttributes("deliver", "process", i.Event, i.ID, i.Key)...))
	end := trace.WithTimestamp(i.Time.Add(i.Duration))
	if span.IsRecording() {
		all := 0
		for _, a := range i.Audiences {
			all += a.Receivers
			span.AddEvent("emitted", end, trace.WithAttributes(keyEvent.String(a.Event), keyAudience.String(a.Audience),
				keyReceivers.Int(a.Receivers), keyOtherNodes.Bool(a.OtherNodes)))
		}
		span.SetAttributes(keyReceivers.Int(all))
	}
	span.End(end)
	record(ctx, t.ages, i.Age, keyName.String(i.Event))
}
