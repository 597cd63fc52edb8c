// The order of a list, whatever is removed from it.

package chain_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/chain"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestList_KeepsTheOrder(t *testing.T) {
	t.Parallel()
	for removed := range 3 {
		var l chain.List[int]
		require.Nil(t, l.Oldest())
		var nodes [3]chain.Node[int]
		for i := range nodes {
			require.False(t, l.Remove(&nodes[i]))
			nodes[i].Value = i
			l.Push(&nodes[i])
		}
		require.True(t, l.Remove(&nodes[removed]))
		require.False(t, l.Remove(&nodes[removed]))
		l.Push(&nodes[removed])
		var got []int
		for n := l.Oldest(); n != nil; n = l.Oldest() {
			got = append(got, n.Value)
			require.True(t, l.Remove(n))
		}
		require.Equal(t, [][]int{{1, 2, 0}, {0, 2, 1}, {0, 1, 2}}[removed], got)
	}
}
