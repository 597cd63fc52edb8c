// Lookups: shared calls, the cache, and Reset.

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
	"github.com/rodando/realtime/internal/timingwheel"
)

// repo is a repository whose calls block until the test supplies an answer.
type repo struct {
	calls   atomic.Int64
	answers chan func() (string, error)
}

func newRepo() *repo { return &repo{answers: make(chan func() (string, error))} }

func (r *repo) find(context.Context, string) (string, error) {
	r.calls.Add(1)
	return (<-r.answers)()
}

func answer(s string) func() (string, error) { return func() (string, error) { return s, nil } }

type lookupOptions struct {
	cache   time.Duration // 0: a second
	running int           // 0: 64
}

func newLookup(t testing.TB, o lookupOptions, find func(context.Context, string) (string, error)) *hostcall.Lookup[string] {
	w := timingwheel.New(time.Millisecond)
	t.Cleanup(w.Close)
	if o.cache == 0 {
		o.cache = time.Second
	}
	if o.running == 0 {
		o.running = 64
	}
	return hostcall.NewLookup(hostcall.LookupConfig[string]{
		Find: find, Cacheable: func(row string) bool { return row != "bad" }, Cache: o.cache, Wheel: w,
		Limits: hostcall.Limits{Timeout: time.Second, Running: o.running, Abandoned: 16 * o.running},
	})
}

// A row that is not Cacheable is not cached, and FindFresh bypasses the cache.
func TestLookup_NotCached(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		row := "bad"
		l := newLookup(t, lookupOptions{}, func(context.Context, string) (string, error) { return row, nil })
		find := func(how func(context.Context, string) (string, error)) string {
			got, err := how(t.Context(), "u1")
			require.NoError(t, err)
			return got
		}
		require.Equal(t, "bad", find(l.Find))
		row = "good"
		require.Equal(t, "good", find(l.Find))
		row = "better"
		require.Equal(t, "good", find(l.Find))
		require.Equal(t, "better", find(l.FindFresh))
		require.Equal(t, "good", find(l.Find), "FindFresh does not fill the cache")
	})
}

func TestLookup_SharesConcurrentCalls(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		r := newRepo()
		l := newLookup(t, lookupOptions{cache: -1}, r.find)
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				got, err := l.Find(t.Context(), "u1")
				require.NoError(t, err)
				require.Equal(t, "row", got)
			})
		}
		synctest.Wait()
		require.EqualValues(t, 1, r.calls.Load())
		r.answers <- answer("row")
		asking.Wait()

		asking.Go(func() { _, _ = l.Find(t.Context(), "u1") })
		r.answers <- answer("row") // a second call: nothing was cached
		asking.Wait()
	})
}

// Rows are cached; errors, not found among them, are not.
func TestLookup_Caches(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		var n int
		var fail error
		l := newLookup(t, lookupOptions{}, func(_ context.Context, id string) (string, error) {
			n++
			return fmt.Sprint(id, n), fail
		})
		find := func(want string, failure error) {
			t.Helper()
			got, err := l.Find(t.Context(), "u")
			require.ErrorIs(t, err, failure)
			if failure == nil {
				require.Equal(t, want, got)
			}
		}
		find("u1", nil)
		time.Sleep(900 * time.Millisecond)
		find("u1", nil)
		time.Sleep(200 * time.Millisecond)
		find("u2", nil)
		l.Reset()
		fail = errors.New("not found")
		find("", fail)
		find("", fail)
		fail = errors.New("down")
		find("", fail)
		fail = nil
		find("u6", nil)
		time.Sleep(3 * time.Second)
		find("u7", nil)
	})
}

// A Find after a Reset does not get a row of a call that started before it.
func TestLookup_ResetDetachesRunningCalls(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		r := newRepo()
		l := newLookup(t, lookupOptions{}, r.find)
		before, after := make(chan string, 1), make(chan string, 1)
		find := func(to chan string) {
			got, err := l.Find(t.Context(), "u1")
			require.NoError(t, err)
			to <- got
		}
		go find(before)
		synctest.Wait()
		l.Reset()
		go find(after)
		synctest.Wait()
		require.EqualValues(t, 2, r.calls.Load())
		release := make(chan struct{})
		r.answers <- func() (string, error) { <-release; return "old", nil }
		r.answers <- answer("new")
		synctest.Wait()
		close(release)
		got := []string{<-before, <-after}
		require.ElementsMatch(t, []string{"old", "new"}, got)
		cached, err := l.Find(t.Context(), "u1")
		require.NoError(t, err)
		require.Equal(t, "new", cached)
	})
}

func TestLookup_RunningAtOnce(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		r := newRepo()
		l := newLookup(t, lookupOptions{running: 2}, r.find)
		var asking sync.WaitGroup
		for i := range 5 {
			asking.Go(func() {
				_, err := l.Find(t.Context(), fmt.Sprint(i))
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		require.EqualValues(t, 2, r.calls.Load())
		impatient, cancel := context.WithTimeout(t.Context(), time.Second/2)
		defer cancel()
		_, err := l.Find(impatient, "another")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for range 5 {
			r.answers <- answer("")
		}
		asking.Wait()
	})
}

func TestLookup_Faults(t *testing.T) {
	for name, fault := range map[string]func(){"panic": func() { panic("repository") }, "Goexit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			testkit.Bubble(t, func(t *testing.T) {
				hold := make(chan struct{})
				l := newLookup(t, lookupOptions{}, func(context.Context, string) (string, error) { <-hold; fault(); return "", nil })
				var asking sync.WaitGroup
				for range 3 {
					asking.Go(func() {
						_, err := l.Find(t.Context(), "u1")
						require.NotEmpty(t, hostcall.Stack(err))
					})
				}
				synctest.Wait()
				close(hold)
				asking.Wait()
			})
		})
	}
}

// A repository that never answers blocks its callers for Limits.Timeout, and the number
// of such calls is bounded.
func TestLookup_Abandons(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		r := newRepo()
		l := newLookup(t, lookupOptions{running: 1}, r.find)
		for i := range 16 {
			var asking sync.WaitGroup
			for range 2 {
				asking.Go(func() {
					_, err := l.Find(t.Context(), fmt.Sprint(i))
					require.ErrorIs(t, err, hostcall.ErrTimeout)
				})
			}
			asking.Wait()
		}
		require.EqualValues(t, 16, r.calls.Load())
		require.Equal(t, 16, l.Abandoned())
		_, err := l.Find(t.Context(), "one more")
		require.ErrorIs(t, err, hostcall.ErrAbandoned)
		for range 16 {
			r.answers <- answer("late")
		}
		synctest.Wait()
		require.Zero(t, l.Abandoned())
		go func() { r.answers <- answer("recovered") }()
		got, err := l.Find(t.Context(), "u1")
		require.NoError(t, err)
		require.Equal(t, "recovered", got)
	})
}

// A call continues as long as any caller waits for it, even when the first one stopped.
func TestLookup_CallersLeave(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		var ended atomic.Bool
		l := newLookup(t, lookupOptions{}, func(ctx context.Context, _ string) (string, error) {
			select {
			case <-ctx.Done():
				ended.Store(true)
				return "", ctx.Err()
			case <-time.After(500 * time.Millisecond):
				return "row", nil
			}
		})
		find := func(d time.Duration) error {
			ctx, cancel := context.WithTimeout(t.Context(), d)
			defer cancel()
			_, err := l.Find(ctx, "u1")
			return err
		}
		first := make(chan error, 1)
		go func() { first <- find(100 * time.Millisecond) }()
		synctest.Wait()
		require.NoError(t, find(time.Minute))
		require.ErrorIs(t, <-first, context.DeadlineExceeded)
		require.False(t, ended.Load())

		l.Reset()
		go func() { first <- find(100 * time.Millisecond) }()
		require.ErrorIs(t, find(200*time.Millisecond), context.DeadlineExceeded)
		<-first
		synctest.Wait()
		require.True(t, ended.Load(), "the last caller stopped waiting")
		require.NoError(t, find(time.Minute), "a new call was started")
	})
}

func BenchmarkLookup(b *testing.B) {
	for name, cache := range map[string]time.Duration{"asked": -1, "cached": time.Hour} {
		b.Run(name, func(b *testing.B) {
			l := newLookup(b, lookupOptions{cache: cache}, func(context.Context, string) (string, error) { return "row", nil })
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := l.Find(ctx, "u1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
