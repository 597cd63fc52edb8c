// The context that the host's code is given.

package realtime_test

import (
	"context"
	"encoding/json"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// TestHandlerContext_Values: what a handler gets is a context like any other, though it
// is made only where it is used.
func TestHandlerContext_Values(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Handler = 3 * time.Second })
		c := srv.Driver(t, "d1")
		call := func(f func(ctx context.Context) error) string {
			t.Helper()
			srv.Realtime.Drivers().HandleRaw("do", func(ctx context.Context, _ *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
				return realtime.Raw{Args: []json.RawMessage{[]byte(`"done"`)}}, f(ctx)
			})
			ack, err := c.CallRaw(t.Context(), "do", realtime.Raw{})
			require.NoError(t, err)
			return string(ack.Args[0])
		}

		var unused, used context.Context
		require.Equal(t, `"done"`, call(func(ctx context.Context) error {
			unused = ctx
			deadline, ok := ctx.Deadline()
			require.True(t, ok)
			require.Equal(t, 3*time.Second, time.Until(deadline))
			require.Nil(t, ctx.Value("nothing"))
			return nil
		}))
		<-unused.Done() // the handler has returned
		require.ErrorIs(t, unused.Err(), context.Canceled)

		require.Equal(t, `"done"`, call(func(ctx context.Context) error {
			used = ctx
			require.NoError(t, ctx.Err())
			select {
			case <-ctx.Done():
				t.Error("too early")
			default:
			}
			return nil
		}))
		<-used.Done()

		start := time.Now()
		late := refreshRefused(realtime.CodeUnavailable, "not available, try again")
		require.Equal(t, late, call(func(ctx context.Context) error {
			<-ctx.Done()
			return ctx.Err()
		}))
		require.Equal(t, 3*time.Second, time.Since(start))

		start = time.Now()
		require.Equal(t, late, call(func(ctx context.Context) error {
			ctx, cancel := context.WithTimeout(ctx, time.Second)
			defer cancel()
			<-ctx.Done()
			return ctx.Err()
		}))
		require.Equal(t, time.Second, time.Since(start))
	})
}

// TestHandlerContext_EndsWithTheServer: a handler that waits does not hold up
// Shutdown.
func TestHandlerContext_EndsWithTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.Handler = time.Hour })
		var ended error
		srv.Realtime.Drivers().HandleRaw("wait", func(ctx context.Context, _ *realtime.Socket, _ realtime.Raw) (realtime.Raw, error) {
			<-ctx.Done()
			ended = ctx.Err()
			return realtime.Raw{}, ended
		})
		c := srv.Driver(t, "d1")
		require.NoError(t, c.Emit("wait"))
		synctest.Wait()
		start := time.Now()
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		require.LessOrEqual(t, time.Since(start), 5*time.Second)
		require.ErrorIs(t, ended, context.Canceled)
	})
}
