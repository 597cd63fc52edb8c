// What a connection keeps of its request, and what the contexts of its handlers cost.

package faulttest_test

import (
	"context"
	"net/http"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"

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

// A connection keeps the token of its request, but not the header or the URL that contained
// it.
func TestServer_KeepsNothingOfTheRequestButItsToken(t *testing.T) {
	const size, connections = 900 << 10, 8
	for name, pad := range map[string]func(r *http.Request){
		"header": func(r *http.Request) {
			r.Header.Set("Authorization", "Bearer"+strings.Repeat(" ", size)+"x")
		},
		"query": func(r *http.Request) { r.URL.RawQuery = "EIO=3&transport=polling&token=x&" + strings.Repeat("y", size) },
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Compat.AllowEIO3, o.Compat.LegacyQueryToken = true, true
				})
				open := func() {
					r, err := http.NewRequestWithContext(t.Context(), http.MethodGet, srv.URL()+realtime.Path+"?EIO=4&transport=polling", nil)
					require.NoError(t, err)
					pad(r)
					res, err := srv.HTTPClient().Do(r)
					require.NoError(t, err)
					require.Equal(t, http.StatusOK, res.StatusCode)
					require.NoError(t, res.Body.Close())
				}
				heap := func() uint64 {
					synctest.Wait()
					runtime.GC()
					runtime.GC() // what a sync.Pool has kept
					var m runtime.MemStats
					runtime.ReadMemStats(&m)
					return m.HeapAlloc
				}
				open() // the HTTP connection and its buffers
				before := heap()
				for range connections {
					open()
				}
				require.Less(t, heap(), before+connections*size/4)
			})
		})
	}
}
