// The bounds of what a node remembers of other nodes.

package redisadapter

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// Whoever sends heartbeats in ever new names fills no memory, neither while the nodes seem to live
// nor after they seem to have died.
func TestPeers_AreBounded(t *testing.T) {
	t.Parallel()
	var p peers
	now := time.Now()
	for round := range 3 {
		for n := range 2 * maxPeers {
			p.seenNow(realtime.Peer{ID: fmt.Sprint(round, " ", n)}, now)
		}
		require.Len(t, p.list(), maxPeers)
		now = now.Add(defaultTiming.forget + time.Second)
		require.Len(t, p.silent(now.Add(-defaultTiming.forget), now), maxPeers)
		require.LessOrEqual(t, len(p.dead), maxPeers)
	}
	now = now.Add(countedTime + time.Second)
	require.Empty(t, p.silent(now, now))
	require.Empty(t, p.dead, "also without a request that counts them")
}

// The server stores the id of a sender of state, so that it must be one that a node can have.
func TestDecodeState_RefusesIDsThatNoNodeHas(t *testing.T) {
	t.Parallel()
	for uid, ok := range map[string]bool{
		nodePrefix + "abcdefgh": true, "": false, "emitter": false, strings.Repeat("a", 65): false, "with space": false, "with#": false,
	} {
		msg, err := json.Marshal(state{stateVersion, uid, realtime.ClusterMessage{Op: realtime.OpState}})
		require.NoError(t, err)
		_, _, err = decodeState(string(msg))
		require.Equal(t, ok, err == nil, uid)
	}
}
