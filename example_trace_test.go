package realtime_test

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// Counters hang on Trace. Its functions are called one at a time, so that they need no
// lock among themselves; Shutdown returns when all have been.
func ExampleTrace() {
	count := map[string]int{}
	b := start(realtime.Options{Trace: &realtime.Trace{
		Connected: func(_ context.Context, i realtime.ConnectedInfo) {
			count["connected to "+i.Namespace]++
		},
		Handled: func(_ context.Context, i realtime.HandledInfo) {
			count[fmt.Sprintf("handled %s: %s", i.Event, cmp.Or(i.Code, "ok"))]++
		},
		Emitted: func(_ context.Context, i realtime.EmittedInfo) {
			count["received "+i.Event] += i.Receivers
		},
		Disconnected: func(_ context.Context, i realtime.DisconnectedInfo) {
			count["disconnected: "+string(i.Reason)]++
		},
	}})
	news := realtime.NewEvent[string]("news")
	realtime.NewCall[string, realtime.None]("say").Handle(b.rt.Drivers(),
		func(_ context.Context, s *realtime.Socket, text string) (realtime.None, error) {
			if text == "" {
				return realtime.None{}, realtime.Errorf(realtime.CodeInvalidPayload, "say something")
			}
			return realtime.None{}, news.Emit(s, text)
		})

	ana := b.connect()
	ctx := context.Background()
	for _, text := range []string{"rain", "", "sun"} {
		_, _ = realtimetest.Call(ctx, ana, realtime.NewCall[string, realtime.None]("say"), text)
	}
	b.stop()
	for _, what := range slices.Sorted(maps.Keys(count)) {
		fmt.Println(count[what], what)
	}
	// Output:
	// 1 connected to /drivers
	// 1 disconnected: server shutting down
	// 1 handled say: invalid_payload
	// 2 handled say: ok
	// 2 received news
	// 1 received server:drain
}
