// Contexts that handlers derive.

package faulttest_test

import (
	"context"
	"net/http"
	"runtime"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

type traceID struct{}

// What a handler derives from its ctx costs no goroutine, also with values of the connection.
func TestOptions_ConnContextCostsNoGoroutine(t *testing.T) {
	s := newTestServer(t, nil, func(o *realtime.Options) {
		o.ConnContext = func(ctx context.Context, _ *http.Request) context.Context {
			return context.WithValue(ctx, traceID{}, "t1")
		}
	})
	derive := realtime.NewCall[realtime.None, int]("derive")
	derive.Handle(s.rt.Drivers(), func(ctx context.Context, _ *realtime.Socket, _ realtime.None) (int, error) {
		if ctx.Value(traceID{}) != "t1" {
			return 0, realtime.ErrNotFound
		}
		before := runtime.NumGoroutine()
		for range 200 {
			_, cancel := context.WithCancel(ctx)
			defer cancel()
		}
		return runtime.NumGoroutine() - before, nil
	})
	goroutines, err := realtimetest.Call(t.Context(), s.driver, derive, realtime.None{})
	require.NoError(t, err)
	require.Less(t, goroutines, 100)
}
