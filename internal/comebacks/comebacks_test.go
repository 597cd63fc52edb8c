// The time that a connection has, after others have ended at its place.

package comebacks_test

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/comebacks"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestTable_Doubles(t *testing.T) {
	t.Parallel()
	table := comebacks.New(15 * time.Second)
	for _, want := range []float64{15, 30, 60, 120, 240, 300, 300} {
		require.InDelta(t, want, table.Timeout(1).Seconds(), 0)
		table.Ended(1)
	}
	require.Equal(t, 15*time.Second, table.Timeout(2))
	table.Welcome(2)
	require.Equal(t, 5*time.Minute, table.Timeout(1))
	table.Welcome(1)
	require.Equal(t, 15*time.Second, table.Timeout(1))
	table.Ended(1)
	require.Equal(t, 30*time.Second, table.Timeout(1))
}

func TestTable_LongBase(t *testing.T) {
	t.Parallel()
	table := comebacks.New(time.Hour)
	table.Ended(1)
	require.Equal(t, time.Hour, table.Timeout(1))
}

func TestTable_Forgets(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		table := comebacks.New(15 * time.Second)
		table.Ended(1)
		time.Sleep(9 * time.Minute)
		table.Ended(1)
		table.Ended(2)
		time.Sleep(9 * time.Minute)
		require.Equal(t, time.Minute, table.Timeout(1))
		table.Ended(2)
		time.Sleep(2 * time.Minute)
		require.Equal(t, 15*time.Second, table.Timeout(1))
		require.Equal(t, time.Minute, table.Timeout(2))
		table.Ended(1)
		require.Equal(t, 30*time.Second, table.Timeout(1), "from the beginning")
	})
}

// A hostile network has more places than the table remembers: the newest are remembered.
func TestTable_IsBounded(t *testing.T) {
	t.Parallel()
	table := comebacks.New(15 * time.Second)
	for id := range uint64(1<<14 + 10) {
		table.Ended(id)
	}
	require.Equal(t, 15*time.Second, table.Timeout(9))
	require.Equal(t, 30*time.Second, table.Timeout(10))
	require.Equal(t, 30*time.Second, table.Timeout(1<<14+9))
}
