// How long a node waits between the pages of its logs.

package realtime

import (
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPace_Waits(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		var p pace
		require.Equal(t, usersPause, p.after(0), "also without events")
		require.Equal(t, usersPause+time.Second/2, p.after(pageRate/2), "behind what another one sends")
		time.Sleep(time.Minute)
		require.Equal(t, time.Second, p.after(pageRate), "there is nothing to wait for any more")
		for range 10 { // large pages, to many nodes
			require.Equal(t, pageTime/2, p.after(pageRate))
		}
		time.Sleep(pageTime / 2)
		require.Equal(t, usersPause, p.after(0))
	})
}
