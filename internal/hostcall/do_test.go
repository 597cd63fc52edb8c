// Calls whose result the caller waits for: outcomes, limits and abandoned calls.

package hostcall_test

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
)

func newKind(running, abandoned int) *hostcall.Kind {
	return hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: running, Abandoned: abandoned})
}

func TestDo_Outcome(t *testing.T) {
	failure := errors.New("down")
	for name, c := range map[string]struct {
		call  func(ctx context.Context) (int, error)
		want  int
		check func(t *testing.T, err error)
	}{
		"answer": {func(context.Context) (int, error) { return 7, nil }, 7, func(t *testing.T, err error) { require.NoError(t, err) }},
		"error":  {func(context.Context) (int, error) { return 7, failure }, 7, func(t *testing.T, err error) { require.ErrorIs(t, err, failure) }},
		"panic": {func(context.Context) (int, error) { panic("oh") }, 0, func(t *testing.T, err error) {
			require.EqualError(t, err, "panic: oh")
			require.Contains(t, hostcall.Stack(fmt.Errorf("wrapped: %w", err)), "TestDo_Outcome")
		}},
		"panic nil": {func(context.Context) (int, error) { panic(nil) }, 0, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "panic: ")
		}},
		"panic with an error": {func(context.Context) (int, error) { panic(failure) }, 0, func(t *testing.T, err error) {
			require.NotErrorIs(t, err, failure)
		}},
		"nil function": {nil, 0, func(t *testing.T, err error) { require.ErrorContains(t, err, "nil pointer") }},
		"Goexit": {func(context.Context) (int, error) { runtime.Goexit(); return 7, nil }, 0, func(t *testing.T, err error) {
			require.ErrorContains(t, err, "runtime.Goexit")
			require.Contains(t, hostcall.Stack(err), "TestDo_Outcome")
		}},
		"hang that heeds ctx": {func(ctx context.Context) (int, error) { <-ctx.Done(); return 7, ctx.Err() }, 0, func(t *testing.T, err error) {
			require.Error(t, err)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				k := newKind(1, 1)
				for range 3 { // none of them keeps the only slot
					got, err := hostcall.Do(t.Context(), k, nil, c.call)
					if c.want != 0 {
						require.Equal(t, c.want, got)
					}
					c.check(t, err)
					synctest.Wait()
					require.Zero(t, k.Abandoned())
				}
				require.NoError(t, k.Wait(t.Context()))
			})
		})
	}
}

// A call that never returns blocks its caller for Limits.Timeout, and the number of
// such calls is bounded.
func TestDo_Abandons(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := newKind(2, 3)
		var calls atomic.Int64
		hold := make(chan struct{})
		hang := func(context.Context) (int, error) { calls.Add(1); <-hold; return 0, nil }
		do := func(f func(context.Context) (int, error)) (time.Duration, error) {
			start := time.Now()
			_, err := hostcall.Do(t.Context(), k, nil, f)
			return time.Since(start), err
		}
		for range 3 {
			took, err := do(hang)
			require.ErrorIs(t, err, hostcall.ErrTimeout)
			require.Equal(t, time.Second, took)
		}
		require.Equal(t, 3, k.Abandoned())
		took, err := do(hang)
		require.ErrorIs(t, err, hostcall.ErrAbandoned)
		require.Zero(t, took, "refused without waiting")
		require.EqualValues(t, 3, calls.Load())

		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, k.Wait(short), context.DeadlineExceeded)
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
		require.Zero(t, k.Abandoned())
		_, err = do(func(context.Context) (int, error) { return 1, nil })
		require.NoError(t, err)
	})
}

func TestDo_RunningAtOnce(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := newKind(2, 1)
		var now, most, denied atomic.Int64
		var all sync.WaitGroup
		for range 6 {
			all.Go(func() {
				_, err := hostcall.Do(t.Context(), k, nil, func(context.Context) (int, error) {
					most.Store(max(most.Load(), now.Add(1)))
					time.Sleep(400 * time.Millisecond)
					now.Add(-1)
					return 0, nil
				})
				if errors.Is(err, hostcall.ErrBusy) || errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, hostcall.ErrAbandoned) {
					denied.Add(1)
				}
			})
		}
		all.Wait()
		require.EqualValues(t, 2, most.Load())
		require.EqualValues(t, 2, denied.Load(), "two waited for a slot until their timeout")
		require.NoError(t, k.Wait(t.Context()))
	})
}

// When the caller stops waiting the call's ctx ends, and the call keeps its slot until
// its timeout.
func TestDo_CallerStopsWaiting(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := newKind(1, 1)
		ctx, cancel := context.WithCancel(t.Context())
		hold := make(chan struct{})
		go func() { time.Sleep(100 * time.Millisecond); cancel() }()
		start := time.Now()
		_, err := hostcall.Do(ctx, k, nil, func(ctx context.Context) (int, error) { <-ctx.Done(); <-hold; return 0, nil })
		require.ErrorIs(t, err, context.Canceled)
		require.Equal(t, 100*time.Millisecond, time.Since(start))
		require.Zero(t, k.Abandoned(), "it still may return in time")
		time.Sleep(time.Second)
		require.Equal(t, 1, k.Abandoned())
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
		require.Zero(t, k.Abandoned())

		called := false
		_, err = hostcall.Do(ctx, k, nil, func(context.Context) (int, error) { called = true; return 0, nil })
		require.ErrorIs(t, err, context.Canceled)
		require.False(t, called, "ctx had ended")
	})
}

// The abandoned calls of one source do not count for another.
func TestDo_PerSource(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: 100, Abandoned: 100, PerSource: 2})
		hold := make(chan struct{})
		var calls atomic.Int64
		var all sync.WaitGroup
		for range 50 {
			all.Go(func() {
				_, err := hostcall.Do(t.Context(), k, "mallory", func(context.Context) (int, error) { calls.Add(1); <-hold; return 0, nil })
				require.Error(t, err)
			})
		}
		all.Wait()
		_, err := hostcall.Do(t.Context(), k, "mallory", func(context.Context) (int, error) { return 1, nil })
		require.ErrorIs(t, err, hostcall.ErrAbandoned)
		require.EqualValues(t, 2, calls.Load())
		for _, who := range []any{"alice", nil, "bob"} {
			_, err := hostcall.Do(t.Context(), k, who, func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err)
		}
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
		_, err = hostcall.Do(t.Context(), k, "mallory", func(context.Context) (int, error) { return 1, nil })
		require.NoError(t, err)
	})
}

// A share that another source had before limits the calls of the next one alike, whether the
// calls of the other one returned or were abandoned.
func TestDo_PerSourceOneAfterTheOther(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: 1000, Abandoned: 1000, PerSource: 2})
		for round := range 6 {
			hold := make(chan struct{})
			var running atomic.Int64
			var all sync.WaitGroup
			for source := range 50 {
				for range 4 {
					all.Go(func() {
						_, _ = hostcall.Do(t.Context(), k, 100*round+source, func(context.Context) (int, error) {
							running.Add(1)
							<-hold
							return 0, nil
						})
					})
				}
			}
			synctest.Wait()
			require.EqualValues(t, 100, running.Load())
			if round%2 == 0 {
				time.Sleep(2 * time.Second) // they are abandoned, and those that wait give up
				require.Equal(t, 100, k.Abandoned())
			}
			close(hold)
			all.Wait()
			require.NoError(t, k.Wait(t.Context()))
		}
	})
}

// The calls of the sources of one group leave the other groups their share, running and
// abandoned, and get theirs back.
func TestDo_PerGroup(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{
			Timeout: time.Second, Running: 20, Abandoned: 20, PerSource: 2, PerGroup: 5,
			Group: func(source any) any { return source.(int) / 100 },
		})
		hold := make(chan struct{})
		var running atomic.Int64
		var all sync.WaitGroup
		for source := range 50 {
			for range 3 {
				all.Go(func() {
					_, err := hostcall.Do(t.Context(), k, source, func(context.Context) (int, error) { running.Add(1); <-hold; return 0, nil })
					require.Error(t, err)
				})
			}
		}
		synctest.Wait()
		require.EqualValues(t, 5, running.Load())
		for _, other := range []any{100, nil, 7000} {
			_, err := hostcall.Do(t.Context(), k, other, func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err, "while they run")
		}
		all.Wait()
		require.Equal(t, 5, k.Abandoned())
		_, err := hostcall.Do(t.Context(), k, 60, func(context.Context) (int, error) { return 1, nil })
		require.ErrorIs(t, err, hostcall.ErrAbandoned, "a new source of the group")
		for _, other := range []any{100, nil, 7000} {
			_, err := hostcall.Do(t.Context(), k, other, func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err, "while they are abandoned")
		}
		_, err = hostcall.Do(t.Context(), k, 0, func(context.Context) (int, error) { return 1, nil })
		require.ErrorIs(t, err, hostcall.ErrAbandoned)
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
		for source := range 50 {
			_, err := hostcall.Do(t.Context(), k, source, func(context.Context) (int, error) { return 1, nil })
			require.NoError(t, err)
		}
	})
}

func TestGuard(t *testing.T) {
	t.Parallel()
	none := func(error) { t.Error("exited was called for a function that returned") }
	require.NoError(t, hostcall.Guard(func() error { return nil }, none))
	failure := errors.New("down")
	require.ErrorIs(t, hostcall.Guard(func() error { return failure }, none), failure)
	require.EqualError(t, hostcall.Guard(func() error { panic("oh") }, none), "panic: oh")
	require.Error(t, hostcall.Guard(nil, none))
	var exited error
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = hostcall.Guard(func() error { runtime.Goexit(); return nil }, func(err error) { exited = err })
		t.Error("Guard returned after runtime.Goexit")
	}()
	<-done
	require.ErrorContains(t, exited, "Goexit")
	require.Contains(t, hostcall.Stack(exited), "TestGuard")
}

// On a busy machine the timer may fire before start has returned.
func TestDo_TimerFiresDuringStart(t *testing.T) {
	t.Parallel()
	k := hostcall.NewKind(hostcall.Limits{Timeout: time.Nanosecond, Running: 1, Abandoned: 1000})
	for range 200 {
		err := hostcall.Run(t.Context(), k, func(context.Context) error { return nil })
		require.True(t, err == nil || errors.Is(err, hostcall.ErrTimeout) || errors.Is(err, hostcall.ErrBusy), err)
	}
	require.NoError(t, k.Wait(t.Context()))
}

// Calls that never return do not end the calls of a kind for good: after a pause, which
// doubles, as many again may be abandoned.
func TestDo_CallsAgain(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: 8, Abandoned: 2, Again: time.Minute})
		hold := make(chan struct{})
		hang := func(context.Context) error { <-hold; return nil }
		quick := func(context.Context) error { return nil }
		for pause := time.Minute; pause <= 8*time.Minute; pause *= 2 {
			for range 2 {
				require.ErrorIs(t, hostcall.Run(t.Context(), k, hang), hostcall.ErrTimeout)
			}
			require.ErrorIs(t, hostcall.Run(t.Context(), k, quick), hostcall.ErrAbandoned)
			time.Sleep(pause - time.Second)
			require.ErrorIs(t, hostcall.Run(t.Context(), k, quick), hostcall.ErrAbandoned)
			time.Sleep(2 * time.Second)
			for range 100 {
				require.NoError(t, hostcall.Run(t.Context(), k, quick))
			}
		}
		require.Equal(t, 8, k.Abandoned())
		close(hold)
		synctest.Wait()
		require.Zero(t, k.Abandoned())
		hold = make(chan struct{})
		for range 2 {
			require.ErrorIs(t, hostcall.Run(t.Context(), k, hang), hostcall.ErrTimeout)
		}
		time.Sleep(time.Minute)
		require.NoError(t, hostcall.Run(t.Context(), k, quick), "the first pause, now that all have returned")
		close(hold)
	})
}

// One timer serves all calls of a kind: each call times out at its own time, whatever became of
// those before it.
func TestDo_TimesOutEachAtItsTime(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: 10 * time.Second, Running: 10, Abandoned: 10})
		began, release := time.Now(), make(chan struct{})
		type end struct {
			after time.Duration
			err   error
		}
		ends := make([]end, 6)
		var calls sync.WaitGroup
		for i := range ends {
			calls.Go(func() {
				err := hostcall.Run(t.Context(), k, func(context.Context) error {
					if i%2 == 0 {
						time.Sleep(3 * time.Second)
						return nil
					}
					<-release
					return nil
				})
				ends[i] = end{time.Since(began), err}
			})
			time.Sleep(time.Second)
		}
		calls.Wait()
		close(release)
		require.Equal(t, []end{
			{3 * time.Second, nil},
			{11 * time.Second, hostcall.ErrTimeout},
			{5 * time.Second, nil},
			{13 * time.Second, hostcall.ErrTimeout},
			{7 * time.Second, nil},
			{15 * time.Second, hostcall.ErrTimeout},
		}, ends)
		time.Sleep(time.Minute) // the timer has ended, and starts again
		require.NoError(t, k.Wait(t.Context()))
		began = time.Now()
		require.ErrorIs(t, hostcall.Run(t.Context(), k, func(ctx context.Context) error {
			<-ctx.Done()
			time.Sleep(time.Second)
			return nil
		}), hostcall.ErrTimeout)
		require.Equal(t, 10*time.Second, time.Since(began))
		require.NoError(t, k.Wait(t.Context()))
	})
}

// Wait waits for what is held as for a call, and nothing can be held after Close. Calls still can be made.
func TestKind_Hold(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := newKind(1, 1)
		release, ok := k.Hold()
		require.True(t, ok)
		k.Close()
		_, ok = k.Hold()
		require.False(t, ok)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		require.ErrorIs(t, k.Wait(short), context.DeadlineExceeded)
		time.AfterFunc(time.Second, func() {
			require.NoError(t, hostcall.Run(t.Context(), k, func(context.Context) error { return nil }))
			release()
		})
		began := time.Now()
		require.NoError(t, k.Wait(t.Context()))
		require.Equal(t, time.Second, time.Since(began))
	})
}
