// The cost of Trace, and the completeness of its names of limits and failures.

package realtime

import (
	"context"
	"log/slog"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/socketio"
)

// A nil function of Trace costs no allocation, nor does a log that has no lines at Debug.
func TestTrace_NilCostsNothing(t *testing.T) {
	rt := &Server{opts: Options{Trace: &Trace{}}, log: slog.New(slog.DiscardHandler)}
	ns := &Namespace{rt: rt}
	b := Broadcast{ns: ns, rooms: []string{"x", "y"}}
	s := &Socket{ns: ns}
	args := [][]byte{[]byte("1")}
	r, p, h := &received{ctx: context.Background()}, &publisher{rt: rt}, &handshake{s: s}
	require.Nil(t, rt.heartbeat())
	require.Zero(t, testing.AllocsPerRun(100, func() {
		ns.traceConnected(s, time.Time{})
		ns.traceRefused(h, CodeInternal)
		ns.traceDisconnected(s, DisconnectByServer)
		s.traceHandled("x", 0, "", rt.tracedBytes(args, nil), 0)
		s.traceAbandoned("x", 0)
		s.traceEmitted("x", 1)
		b.traceEmitted("x", 1, 1)
		p.traceDelivered(r)
	}))
}

// A limit or a failure of a lower layer without a name here would be reported as "".
func TestTrace_NamesAllOfTheLowerLayers(t *testing.T) {
	for l := socketio.LimitPayload; l <= socketio.LimitNamespaceName; l++ {
		require.NotEmpty(t, protocolLimits[l], l)
	}
	for l := admission.NoLimit + 1; l <= admission.LimitUnauthenticatedRate; l++ {
		require.NotEmpty(t, admissionLimits[l], l)
	}
	for f := socketio.FailedTransport; f <= socketio.FailedUpgrade; f++ {
		require.NotEmpty(t, requestFailures[f], f)
	}
}

// BenchmarkTrace is the cost of a call that somebody observes, to the goroutine that
// makes it and in all.
func BenchmarkTrace(b *testing.B) {
	rt := &Server{opts: Options{Trace: &Trace{Handled: func(context.Context, HandledInfo) {}}}}
	rt.host.trace = rt.queue(traceQueue, time.Second, "Trace", nil)
	i := HandledInfo{SocketInfo: SocketInfo{Namespace: NamespaceDrivers}, Event: "x", Time: time.Now()}
	b.ReportAllocs()
	for n := 0; b.Loop(); n++ {
		callTrace(rt, context.Background(), rt.opts.Trace.Handled, i)
		if n%1024 == 0 {
			_ = rt.host.trace.Wait(context.Background())
		}
	}
}
