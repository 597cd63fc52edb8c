// The conformance suite of event buses, on a Redis in memory.

package redisbus_test

import (
	"testing"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisbus"
)

func TestBus_Conforms(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(t *testing.T) realtime.EventBus { return newBus(t, startRedis(t).url(), nil) })
}

func TestBus_NodesConform(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBusNodes(t, func(t *testing.T, n int) []realtimetest.BusNode {
		return newNodes(t, startRedis(t).Addr(), n, nil)
	})
}

// newNodes returns buses of one group, each with a path of its own to Redis.
func newNodes(t *testing.T, addr string, n int, change func(*redisbus.Options)) (nodes []realtimetest.BusNode) {
	t.Helper()
	for range n {
		path := redistest.StartPath(t, addr)
		b := newBus(t, path.URL(), change)
		b.Hurry(2*quick, 2*short)
		nodes = append(nodes, realtimetest.BusNode{EventBus: b, Crash: path.Cut})
	}
	return nodes
}
