// Tests of the events that wait for their handlers, and of what is read behind them.

package faulttest_test

import (
	"context"
	"fmt"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// A handler asks its own client while more events stand before the answer than
// Limits.QueuedEvents lets wait, and more bytes than are ever kept.
func TestQuery_AskedBehindAFullQueue(t *testing.T) {
	for name, size := range map[string]int{"many": 10, "many and large": 20_000} {
		t.Run(name, func(t *testing.T) {
			const n = 400
			var limited atomic.Int64
			s := newTestServer(t, nil, func(o *realtime.Options) {
				free := realtime.Rate{PerSecond: -1}
				o.Rates.Event, o.Rates.User = free, free
				o.Trace.Limited = func(_ context.Context, i realtime.LimitInfo) {
					if i.Limit == realtime.LimitQueuedEvents {
						limited.Add(1)
					}
				}
			})
			question := realtime.NewQuery[realtime.None, string]("question")
			realtime.NewCall[realtime.None, string]("ask").Handle(s.rt.Drivers(), func(ctx context.Context, sock *realtime.Socket, _ realtime.None) (string, error) {
				return question.Ask(ctx, sock, realtime.None{})
			})
			var handled atomic.Int64
			s.rt.Drivers().HandleRaw("n", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
				handled.Add(1)
				return realtime.Raw{}, nil
			})
			l := s.enter(t, "d1")
			l.send(text(`42/drivers,9999["ask"]`))
			id, _, _ := strings.Cut(strings.TrimPrefix(l.until("42/drivers,"), "42/drivers,"), `["question"`)
			sent := make(chan struct{})
			go func() {
				defer close(sent)
				for i := range n {
					l.send(text(fmt.Sprintf(`42/drivers,%d["n",%s]`, i, quote(strings.Repeat("x", size)))))
				}
				l.send(text(`43/drivers,` + id + `["here"]`))
			}()
			refused, asked := 0, ""
			for range n + 1 {
				ack := l.until("43/drivers,")
				if strings.Contains(ack, `"rate_limited"`) {
					refused++
				} else if strings.HasPrefix(ack, "43/drivers,9999") {
					asked = ack
				}
			}
			<-sent
			require.Equal(t, `43/drivers,9999[{"ok":true,"data":"here"}]`, asked)
			require.EqualValues(t, n-refused, handled.Load())
			if size < 1000 {
				require.Zero(t, refused)
			} else {
				require.InDelta(t, n-100, refused, 10) // of 2 MB at most
				require.Positive(t, limited.Load())
			}
			l.reset()
		})
	}
}
