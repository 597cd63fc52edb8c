// Look-ups: what collapses, what is remembered, and what a reset makes of both.

package realtime

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/wheel"
)

// asked is a repository that waits to be told what to answer.
type asked struct {
	n       atomic.Int64
	answers chan func() (string, error)
}

func (a *asked) find(context.Context, string) (string, error) {
	a.n.Add(1)
	return (<-a.answers)()
}

func answering(s string) func() (string, error) { return func() (string, error) { return s, nil } }

func newTestFinder(t testing.TB, o Options, ask func(context.Context, string) (string, error)) *finder[string] {
	rt := &Server{opts: o.defaults(), log: slog.New(slog.DiscardHandler), wheel: wheel.New(time.Millisecond)}
	t.Cleanup(rt.wheel.Close)
	return newFinder(rt, ask, func(row string) bool { return row != "bad" })
}

func inBubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// What refuses is not remembered, and who knows better is not told what is.
func TestLookupsThatAreNotRemembered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		row := "bad"
		f := newTestFinder(t, Options{}, func(context.Context, string) (string, error) { return row, nil })
		find := func(how func(context.Context, string) (string, error)) string {
			got, err := how(t.Context(), "u1")
			require.NoError(t, err)
			return got
		}
		require.Equal(t, "bad", find(f.find))
		row = "good"
		require.Equal(t, "good", find(f.find))
		row = "better"
		require.Equal(t, "good", find(f.find))
		require.Equal(t, "better", find(f.anew))
		require.Equal(t, "good", find(f.find), "what was asked for alone is nobody else's")
	})
}

func TestEqualLookupsCollapse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &asked{answers: make(chan func() (string, error))}
		f := newTestFinder(t, Options{RepoCache: -1}, a.find)
		var asking sync.WaitGroup
		for range 50 {
			asking.Go(func() {
				got, err := f.find(t.Context(), "u1")
				require.NoError(t, err)
				require.Equal(t, "row", got)
			})
		}
		synctest.Wait()
		require.EqualValues(t, 1, a.n.Load())
		a.answers <- answering("row")
		asking.Wait()
		require.Empty(t, f.flights)
		require.Empty(t, f.slots)

		asking.Go(func() { _, _ = f.find(t.Context(), "u1") })
		a.answers <- answering("row") // asked again: nothing was kept
		asking.Wait()
	})
}

// Rows answer for a while; failures and what does not exist do not.
func TestRowsAreKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var n int
		var fail error
		f := newTestFinder(t, Options{}, func(_ context.Context, id string) (string, error) {
			n++
			return fmt.Sprint(id, n), fail
		})
		find := func(want string, failure error) {
			t.Helper()
			got, err := f.find(t.Context(), "u")
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
		f.reset()
		fail = ErrNotFound
		find("", ErrNotFound)
		find("", ErrNotFound)
		fail = errors.New("down")
		find("", fail)
		fail = nil
		find("u6", nil)
		time.Sleep(3 * time.Second)
		f.mu.Lock()
		defer f.mu.Unlock()
		require.Nil(t, f.kept)
	})
}

// After a reset nobody gets what was asked for before it.
func TestResetCutsOffLookups(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &asked{answers: make(chan func() (string, error))}
		f := newTestFinder(t, Options{}, a.find)
		before, after := make(chan string, 1), make(chan string, 1)
		look := func(to chan string) {
			got, err := f.find(t.Context(), "u1")
			require.NoError(t, err)
			to <- got
		}
		go look(before)
		synctest.Wait()
		f.reset()
		go look(after)
		synctest.Wait()
		require.EqualValues(t, 2, a.n.Load())
		release := make(chan struct{})
		a.answers <- func() (string, error) { <-release; return "old", nil }
		a.answers <- answering("new")
		synctest.Wait()
		close(release)
		got := []string{<-before, <-after}
		require.ElementsMatch(t, []string{"old", "new"}, got)
		kept, err := f.find(t.Context(), "u1")
		require.NoError(t, err)
		require.Equal(t, "new", kept)
	})
}

func TestLookupsAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &asked{answers: make(chan func() (string, error))}
		f := newTestFinder(t, Options{RepoConcurrency: 2}, a.find)
		var asking sync.WaitGroup
		for i := range 5 {
			asking.Go(func() {
				_, err := f.find(t.Context(), fmt.Sprint(i))
				require.NoError(t, err)
			})
		}
		synctest.Wait()
		require.EqualValues(t, 2, a.n.Load())
		impatient, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.find(impatient, "another")
		require.ErrorIs(t, err, context.DeadlineExceeded)
		for range 5 {
			a.answers <- answering("")
		}
		asking.Wait()
		require.Empty(t, f.slots)
	})
}

func TestLookupPanics(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hold := make(chan struct{})
		f := newTestFinder(t, Options{}, func(context.Context, string) (string, error) { <-hold; panic("repository") })
		var asking sync.WaitGroup
		for range 3 {
			asking.Go(func() {
				_, err := f.find(t.Context(), "u1")
				var p panicked
				require.ErrorAs(t, err, &p)
				require.NotEmpty(t, p.stack)
			})
		}
		synctest.Wait()
		close(hold)
		asking.Wait()
		require.Empty(t, f.slots)
	})
}

// A repository that never answers keeps neither those who wait nor, for a long
// time, the others.
func TestLookupsThatNeverEnd(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		a := &asked{answers: make(chan func() (string, error))}
		f := newTestFinder(t, Options{RepoConcurrency: 1, RepoTimeout: time.Second}, a.find)
		var lost sync.WaitGroup
		for i := range maxLost {
			lost.Go(func() { _, _ = f.find(t.Context(), fmt.Sprint(i)) })
			synctest.Wait()
			waiting := make(chan error, 1)
			go func() { _, err := f.find(t.Context(), fmt.Sprint(i)); waiting <- err }()
			require.ErrorIs(t, <-waiting, errRepoTimeout)
		}
		require.EqualValues(t, maxLost, a.n.Load())
		lost.Go(func() { _, _ = f.find(t.Context(), "the last one") })
		time.Sleep(2 * time.Second)
		short, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := f.find(short, "one more")
		require.ErrorIs(t, err, context.DeadlineExceeded, "no more are given up")
		for range maxLost + 1 {
			a.answers <- answering("late")
		}
		lost.Wait()
		require.Zero(t, f.lost)
		require.Empty(t, f.slots)
		go func() { a.answers <- answering("well again") }()
		got, err := f.find(t.Context(), "u1")
		require.NoError(t, err)
		require.Equal(t, "well again", got)
	})
}

func BenchmarkFind(b *testing.B) {
	for name, cache := range map[string]time.Duration{"asked": -1, "kept": time.Hour} {
		b.Run(name, func(b *testing.B) {
			f := newTestFinder(b, Options{RepoCache: cache}, func(context.Context, string) (string, error) { return "row", nil })
			ctx := b.Context()
			b.ReportAllocs()
			for b.Loop() {
				if _, err := f.find(ctx, "u1"); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
