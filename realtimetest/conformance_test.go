// The conformance suites, run on what this package and the library bring.

package realtimetest_test

import (
	"testing"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestHubConforms(t *testing.T) {
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

func TestBusConforms(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(*testing.T) realtime.EventBus { return realtimetest.NewBus() })
}

func TestMemoryBusConforms(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(*testing.T) realtime.EventBus { return realtime.NewMemoryBus() })
}
