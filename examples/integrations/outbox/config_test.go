// Tests that need no Postgres.

package outbox_test

import (
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/examples/integrations/outbox"
)

func TestNewRelay_NamesEveryMistake(t *testing.T) {
	t.Parallel()
	_, err := outbox.NewRelay(outbox.Config{Workers: -1, Batch: -1, Lease: -1, Poll: -1, Keep: -1})
	require.EqualError(t, err, strings.Join([]string{
		"outbox: Config.Pool is nil", "outbox: Config.Bus is nil", "outbox: Config.Workers is negative",
		"outbox: Config.Batch is negative", "outbox: Config.Lease is negative", "outbox: Config.Poll is negative",
		"outbox: Config.Keep is negative",
	}, "\n"))
}

// Workers that hold every connection would leave none to listen with.
func TestNewRelay_PoolIsTooSmall(t *testing.T) {
	t.Parallel()
	pool, err := pgxpool.New(t.Context(), "postgres://127.0.0.1:1/none?pool_max_conns=4")
	require.NoError(t, err)
	defer pool.Close()
	_, err = outbox.NewRelay(outbox.Config{Pool: pool, Bus: realtime.NewMemoryBus()})
	require.EqualError(t, err, "outbox: Config.Pool has 4 connections, and 4 workers need one more than they are")
	_, err = outbox.NewRelay(outbox.Config{Pool: pool, Bus: realtime.NewMemoryBus(), Workers: 3})
	require.NoError(t, err)
}
