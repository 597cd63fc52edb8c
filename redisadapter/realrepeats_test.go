//go:build e2e

// Events with an idempotency key over a real redis-server, and what is in it then.

package redisadapter_test

import (
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
)

func TestRealRedis_RepeatsOnAnotherNode(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			r := redistest.StartProcess(t)
			b := startBuyers(t, r.Addr(), protocol == "sharded")
			b.test(t)
			failed := b.failed()

			keys := strings.Fields(r.Do(t, "KEYS", "*"))
			require.GreaterOrEqual(t, len(keys), 2, "one for each key of the calls")
			require.True(t, failed > 0 || len(keys) == 2, "%v", keys)
			for _, key := range keys {
				require.Regexp(t, `^socket\.io#call#[A-Za-z0-9_-]{43}$`, key)
				require.NotContains(t, r.Do(t, "GET", key), "d1")
				left, err := strconv.Atoi(r.Do(t, "PTTL", key))
				require.NoError(t, err)
				require.Greater(t, left, 90_000)
				require.LessOrEqual(t, left, 120_000)
			}

			b.path.Delay(200 * time.Millisecond) // both ways: longer than an event waits
			b.buyApart(t, "slow")
			require.Greater(t, b.failed(), failed)
			b.path.Delay(0)
			b.buyTwice(t, "fast again")

			b.path.Silence(true)
			process, began := redistest.StartOwnPulse(t), time.Now()
			b.buyApart(t, "silent")
			process.InTime(t, began, 5*time.Second, "nobody waits for Redis")
			b.path.Silence(false)

			r.Do(t, "CONFIG", "SET", "maxmemory", "1")
			b.buyApart(t, "full")
			r.Do(t, "CONFIG", "SET", "maxmemory", "0")

			r.Kill()
			b.buyApart(t, "killed")
			require.NoError(t, r.Start())
			n := 0
			testkit.Eventually(t, "the servers are connected again", func() bool {
				n++
				body := `{"idempotencyKey":"again` + strconv.Itoa(n) + `"}`
				return b.buy(t, 0, body) == b.buy(t, 1, body)
			})
		})
	}
}

func TestRealCluster_RepeatsOnAnotherNode(t *testing.T) {
	t.Parallel()
	c := redistest.StartCluster(t)
	for _, protocol := range protocols {
		b := startBuyersAt(t, [2]string{c.URL(), c.URL()}, protocol+"-repeats", protocol == "sharded")
		b.test(t)
		for n := range 20 { // in all parts of the cluster
			b.buyTwice(t, "cluster"+strconv.Itoa(n))
		}
	}
}
