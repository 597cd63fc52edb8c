// The conformance suites, run on the adapter and the buses of this package and of the
// library.

package realtimetest_test

import (
	"testing"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestAdapter_Hub(t *testing.T) {
	t.Parallel()
	realtimetest.TestAdapter(t, func(_ *testing.T, n int) []realtime.Adapter {
		hub := realtimetest.NewHub()
		var nodes []realtime.Adapter
		for range n {
			nodes = append(nodes, hub.Node())
		}
		return nodes
	})
}

func TestEventBus_Bus(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(*testing.T) realtime.EventBus { return realtimetest.NewBus() })
}

func TestEventBus_MemoryBus(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(*testing.T) realtime.EventBus { return realtime.NewMemoryBus() })
}
