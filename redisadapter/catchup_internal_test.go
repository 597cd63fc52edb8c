// Catching up while the adapter closes.

package redisadapter

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// CatchUp ends when the adapter is closed.
func TestAdapter_CatchUp_Closed(t *testing.T) {
	t.Parallel()
	ns, _ := newRoomsNode(t, false)
	a := ns.a
	a.started, a.links.links = true, map[uint16]*link{0: newLink()}
	ended := make(chan error, 1)
	go func() { ended <- a.CatchUp(context.WithoutCancel(t.Context())) }()
	require.NoError(t, a.Close(t.Context()))
	require.ErrorIs(t, <-ended, realtime.ErrClosed)
}
