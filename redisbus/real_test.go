//go:build e2e

// The conformance suites on a real redis-server, alone and as a cluster. e2e/run sets the
// build tag; redis-server has to be there then.

package redisbus_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisbus"
)

// numbered returns a change of the options that gives each bus keys of its own.
func numbered(n *atomic.Int64) func(*redisbus.Options) {
	key := "test" + strconv.FormatInt(n.Add(1), 10)
	return func(o *redisbus.Options) { o.Key = key }
}

func TestRealRedis_Conforms(t *testing.T) {
	t.Parallel()
	r := redistest.StartProcess(t)
	var n atomic.Int64
	realtimetest.TestEventBus(t, func(t *testing.T) realtime.EventBus { return newBus(t, r.URL(), numbered(&n)) })
	realtimetest.TestEventBusNodes(t, func(t *testing.T, nodes int) []realtimetest.BusNode {
		return newNodes(t, r.Addr(), nodes, numbered(&n))
	})
}

func TestRealRedis_EntryWithManyFields_IsSetAside(t *testing.T) {
	t.Parallel()
	entryWithManyFieldsIsSetAside(t, redistest.StartProcess(t).Addr())
}

func TestRealRedis_Cluster(t *testing.T) {
	t.Parallel()
	url := redistest.StartCluster(t).URL()
	var n atomic.Int64
	realtimetest.TestEventBus(t, func(t *testing.T) realtime.EventBus { return newBus(t, url, numbered(&n)) })
}
