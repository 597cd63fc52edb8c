// Calls: spans around the handlers of clients' events.

package realtimeotel

import (
	"context"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/rodando/realtime"
)

// Interceptor returns an interceptor that makes a span for each call of a client: make it the first
// one of Options.Interceptors. The span ends when the handler returns, also if that was abandoned
// before.
func (t *Telemetry) Interceptor() realtime.Interceptor {
	return func(next realtime.CallFunc) realtime.CallFunc {
		return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
			name, all := r.Event(), []attribute.KeyValue{keyRPCSystem.String("socketio"), keyRPCMethod.String(r.Event())}
			if s := r.Socket(); s != nil { // it is, but in a test of the host's
				name = s.Namespace().Name() + " " + name
				all = append(all, keyNamespace.String(s.Namespace().Name()), keySocketID.String(s.ID()),
					keyUserID.String(s.Identity().UserID), keyTransport.String(transportOf(s.Transport())))
			}
			o := []trace.SpanStartOption{trace.WithNewRoot(), trace.WithSpanKind(trace.SpanKindServer), trace.WithAttributes(all...)}
			if request := trace.SpanContextFromContext(ctx); request.IsValid() {
				o = append(o, trace.WithLinks(trace.Link{SpanContext: request}))
			}
			ctx, span := t.tracer.Start(ctx, name, o...)
			defer span.End()
			ack, err := next(ctx, r)
			if err != nil {
				fail(span, realtime.CodeOf(err), err.Error())
			}
			return ack, err
		}
	}
}

// fail sets the attributes and the status of a span whose client got a code.
func fail(span trace.Span, code realtime.Code, text string) {
	span.SetAttributes(keyErrorType.String(string(code)))
	if code == realtime.CodeUnavailable || code == realtime.CodeInternal {
		span.SetStatus(codes.Error, text)
	}
}
