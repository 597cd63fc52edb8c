//go:build e2e

// Environments that share a real redis-server.

package redisadapter_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/redistest"
)

func TestRealRedis_TwoKeys(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			twoKeysExchangeNothing(t, redistest.StartProcess(t).URL(), protocol == "sharded")
		})
	}
}

// TestRealRedis_DatabaseNumbers: pub/sub ignores them, so they separate nothing.
func TestRealRedis_DatabaseNumbers(t *testing.T) {
	t.Parallel()
	for _, protocol := range protocols {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			url := redistest.StartProcess(t).URL()
			e := startEnvironment(t, [2]string{url + "/1", url + "/2"}, "shop", protocol == "sharded")
			e.crosses(t, "shop")
			for _, s := range e.servers {
				sockets, err := s.Realtime.Drivers().All().Sockets(t.Context())
				require.NoError(t, err)
				require.Len(t, sockets, 2)
			}
		})
	}
}
