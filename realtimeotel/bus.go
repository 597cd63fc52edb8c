// Bus: spans of publications, whose context crosses the bus with the event.

package realtimeotel

import (
	"context"
	"maps"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/propagation"
	"go.opentelemetry.io/otel/trace"

	"github.com/rodando/realtime"
)

// Bus returns a bus that makes a span for each Publish, and passes everything on to b. Handlers of
// Subscribe get a ctx with the context of the publication. Pass the result to Options.Bus of the
// server, and publish through it where services publish without a server. A nil b is replaced by a
// realtime.MemoryBus.
//
// Presence events, which the server publishes itself, have spans too.
func (t *Telemetry) Bus(b realtime.EventBus) realtime.EventBus {
	if b == nil {
		b = realtime.NewMemoryBus()
	}
	return &bus{b, t}
}

type bus struct {
	realtime.EventBus
	t *Telemetry
}

var _ realtime.BusWrapper = (*bus)(nil)

// Unwrap implements realtime.BusWrapper.
func (b *bus) Unwrap() realtime.EventBus { return b.EventBus }

// Publish implements realtime.EventBus.
func (b *bus) Publish(ctx context.Context, e realtime.Envelope) error {
	ctx, span := b.t.tracer.Start(ctx, "publish "+e.Name, trace.WithSpanKind(trace.SpanKindProducer),
		trace.WithAttributes(messageAttributes("publish", "send", e.Name, e.ID, e.Key)...))
	defer span.End()
	headers := propagation.MapCarrier{}
	b.t.propagator.Inject(ctx, headers)
	if len(headers) > 0 {
		all := maps.Clone(e.Headers) // the publisher may use its map again
		if all == nil {
			all = headers
		} else {
			maps.Copy(all, headers)
		}
		e.Headers = all
	}
	err := b.EventBus.Publish(ctx, e)
	if err != nil {
		span.SetAttributes(keyErrorType.String(other))
		span.SetStatus(codes.Error, err.Error())
	}
	return err
}

// Subscribe implements realtime.EventBus.
func (b *bus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	if handler == nil {
		return b.EventBus.Subscribe(nil) // returns the bus's own error
	}
	return b.EventBus.Subscribe(func(ctx context.Context, e realtime.Envelope) error {
		if len(e.Headers) > 0 {
			ctx = b.t.propagator.Extract(ctx, propagation.MapCarrier(e.Headers))
		}
		return handler(ctx, e)
	})
}

// messageAttributes returns the attributes of a span about a domain event.
func messageAttributes(operation, kind, name, id, key string) []attribute.KeyValue {
	return []attribute.KeyValue{
		keySystem.String("realtime"), keyOperation.String(operation), keyOperationType.String(kind),
		keyDestination.String(name), keyMessageID.String(id), keyEventKey.String(key),
	}
}
