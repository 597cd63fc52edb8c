//go:build e2e

// The conformance suites on a real Postgres. e2e/run sets the build tag; Postgres has to be there
// then.

package watermillbus_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/internal/pgtest"
	"github.com/rodando/realtime/examples/integrations/watermillbus"
	"github.com/rodando/realtime/realtimetest"
)

func newPostgresBus(t *testing.T, url string) (b *watermillbus.Bus, crash func()) {
	t.Helper()
	pool, cut := pgtest.NewPool(t, url, 20)
	b, err := overPostgres(pool)
	require.NoError(t, err)
	closeAfter(t, b)
	return b, cut
}

func TestBus_ConformsOnPostgres(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBus(t, func(t *testing.T) realtime.EventBus {
		b, _ := newPostgresBus(t, pgtest.NewDatabase(t))
		return b
	})
}

func TestBus_NodesConformOnPostgres(t *testing.T) {
	t.Parallel()
	realtimetest.TestEventBusNodes(t, func(t *testing.T, n int) (nodes []realtimetest.BusNode) {
		url := pgtest.NewDatabase(t)
		for range n {
			b, crash := newPostgresBus(t, url)
			nodes = append(nodes, realtimetest.BusNode{EventBus: b, Crash: crash})
		}
		return nodes
	})
}
