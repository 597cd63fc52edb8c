// Catching up over several connections.

package redisadapter

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// In a cluster with sharded pub/sub, a connection that has failed does not end the wait for the others.
func TestAdapter_CatchUp_OneOfTwoLinksHasFailed(t *testing.T) {
	t.Parallel()
	ns, _ := newRoomsNode(t, true)
	a, works, failed := ns.a, newLink(), newLink()
	a.started = true
	a.health = map[*link]error{works: nil, failed: errSilent}
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, a.CatchUp(ctx), context.DeadlineExceeded, "no probe has come back")
	works.complete = time.Now().Add(time.Hour)
	err := a.CatchUp(t.Context())
	require.Error(t, err)
	require.NotErrorIs(t, err, context.DeadlineExceeded)
}

// CatchUp ends when the adapter is closed.
func TestAdapter_CatchUp_Closed(t *testing.T) {
	t.Parallel()
	ns, _ := newRoomsNode(t, false)
	a := ns.a
	a.health = map[*link]error{newLink(): nil}
	ended := make(chan error, 1)
	go func() { ended <- a.CatchUp(context.WithoutCancel(t.Context())) }()
	require.NoError(t, a.Close(t.Context()))
	require.ErrorIs(t, <-ended, realtime.ErrClosed)
}
