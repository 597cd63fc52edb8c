// The context of a call.

package hostcall_test

import (
	"context"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
)

func newContext(parent context.Context, d time.Duration) *hostcall.Context {
	c := &hostcall.Context{}
	c.Start(parent, time.Now().Add(d))
	return c
}

func TestContext_Ends(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		c := newContext(t.Context(), time.Second)
		require.NoError(t, c.Err())
		<-c.Done()
		require.ErrorIs(t, c.Err(), context.DeadlineExceeded)

		c = newContext(t.Context(), time.Second)
		c.End()
		require.ErrorIs(t, c.Err(), context.Canceled, "though it was not used before End")
		time.Sleep(time.Second)
		require.ErrorIs(t, c.Err(), context.Canceled, "an error stays")

		c = newContext(t.Context(), time.Second)
		time.Sleep(time.Second)
		require.ErrorIs(t, c.Err(), context.DeadlineExceeded, "though nobody waits for it")
		c.End()
		require.ErrorIs(t, c.Err(), context.DeadlineExceeded)

		parent, cancel := context.WithTimeout(t.Context(), time.Millisecond)
		defer cancel()
		c = newContext(parent, time.Second)
		deadline, _ := c.Deadline()
		earlier, _ := parent.Deadline()
		require.Equal(t, earlier, deadline)
	})
}

// A verifier that asks whether the context has ended, and no more, pays for no timer.
func TestContext_ErrAllocatesNothing(t *testing.T) {
	c := newContext(t.Context(), time.Hour)
	require.Zero(t, testing.AllocsPerRun(100, func() { _ = c.Err() }))
}

// A derived context costs no goroutine and ends with its parent. database/sql derives
// one for each query.
func TestContext_DerivedCostsNoGoroutine(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		c := newContext(t.Context(), time.Second)
		before := runtime.NumGoroutine()
		var derived []context.Context
		type span struct{}
		for _, parent := range []context.Context{c, context.WithValue(c, span{}, 1)} { // an interceptor's, for instance
			for range 1000 {
				ctx, cancel := context.WithCancel(parent)
				defer cancel()
				derived = append(derived, ctx)
			}
		}
		synctest.Wait()
		require.Less(t, runtime.NumGoroutine()-before, 1500) // other tests may have some
		ended := 0
		stop := context.AfterFunc(c, func() { ended++ })
		require.True(t, stop())
		context.AfterFunc(c, func() { ended++ })
		time.Sleep(time.Second)
		synctest.Wait()
		require.Equal(t, 1, ended)
		for _, ctx := range derived {
			require.ErrorIs(t, ctx.Err(), context.DeadlineExceeded)
		}
		require.ErrorIs(t, context.Cause(c), context.DeadlineExceeded)
	})
}
