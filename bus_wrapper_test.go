// Buses around a MemoryBus.

package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// wrapper is a bus around another one. published may be nil.
type wrapper struct {
	realtime.EventBus
	published chan<- realtime.Envelope
}

func (w wrapper) Unwrap() realtime.EventBus { return w.EventBus }

func (w wrapper) Publish(ctx context.Context, e realtime.Envelope) error {
	if w.published != nil {
		w.published <- e
	}
	return w.EventBus.Publish(ctx, e)
}

// endless wraps itself.
type endless struct{ realtime.EventBus }

func (e endless) Unwrap() realtime.EventBus { return e }

// An event passes the wrapper, is not encoded on its way through a MemoryBus, and arrives. Through
// another bus it is encoded.
func TestBusWrapper_Publish(t *testing.T) {
	for name, row := range map[string]struct {
		bus     realtime.EventBus
		encoded bool
	}{
		"a MemoryBus":           {realtime.NewMemoryBus(), false},
		"a wrapped MemoryBus":   {wrapper{realtime.NewMemoryBus(), nil}, false},
		"another bus":           {realtimetest.NewBus(), true},
		"nothing that has ends": {endless{realtimetest.NewBus()}, true},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				published := make(chan realtime.Envelope, 10)
				srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = wrapper{row.bus, published} })
				passenger := srv.Passenger(t, "p1")
				require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p1"}))
				require.Equal(t, "t1", realtimetest.Expect(t, passenger, realtime.EventTripRequested).TripID)
				synctest.Wait()
				e := <-published
				require.Equal(t, "trip.requested", e.Name)
				require.Equal(t, row.encoded, len(e.Data) > 0, "%q", e.Data)
			})
		})
	}
}
