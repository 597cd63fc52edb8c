// Notices that could not be given are given later.

package hostcall_test

import (
	"context"
	"maps"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
)

// listener is the host's code that gets the notices.
type listener struct {
	mu      sync.Mutex
	hang    chan struct{} // calls wait until it is closed; nil: they do not
	heard   map[int]int
	matters map[int]bool
	failed  map[int]error // the first
}

func (l *listener) notices(ctx context.Context, k *hostcall.Kind) *hostcall.Notices[int] {
	l.heard, l.failed = map[int]int{}, map[int]error{}
	return hostcall.NewNotices(ctx, hostcall.NoticesConfig[int]{
		Kind: k,
		Call: func(n int) {
			l.mu.Lock()
			hang := l.hang
			l.mu.Unlock()
			if hang != nil {
				<-hang
			}
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.heard[n]++; n < 0 {
				panic("oh")
			}
		},
		Matters: func(n int) bool { return l.matters[n] },
		Failed: func(n int, err error) {
			l.mu.Lock()
			defer l.mu.Unlock()
			if l.failed[n] == nil {
				l.failed[n] = err
			}
		},
	})
}

func (l *listener) given() map[int]int {
	synctest.Wait()
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.heard)
}

func (l *listener) errors() map[int]error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return maps.Clone(l.failed)
}

func (l *listener) resume() {
	l.mu.Lock()
	defer l.mu.Unlock()
	close(l.hang)
	l.hang = nil
}

func TestNotices_GivesLaterWhatItCouldNot(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &listener{}
		n := l.notices(ctx, newKind(1, 2))
		n.Give(1)
		require.Equal(t, map[int]int{1: 1}, l.given())
		l.hang = make(chan struct{})
		for subject := 2; subject < 20; subject++ {
			n.Give(subject % 10) // from the third one on they are not called
		}
		require.ErrorIs(t, l.errors()[2], hostcall.ErrTimeout)
		require.ErrorIs(t, l.errors()[4], hostcall.ErrAbandoned)
		time.Sleep(time.Minute)
		require.Equal(t, map[int]int{1: 1}, l.given())
		l.resume()
		time.Sleep(2 * time.Second)
		for subject := range 10 {
			require.Positive(t, l.given()[subject], subject)
		}
		given := l.given()
		time.Sleep(time.Minute)
		require.Equal(t, given, l.given())
		n.Give(-1)
		require.ErrorContains(t, l.errors()[-1], "panic: oh")
		time.Sleep(time.Minute)
		require.Equal(t, 1, l.given()[-1], "it was called")
	})
}

// When there are many, those that no longer matter are dropped.
func TestNotices_Bounded(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l := &listener{matters: map[int]bool{7: true, 5000: true}, hang: make(chan struct{})}
		n := l.notices(ctx, newKind(1, 1))
		for subject := range 10_000 {
			n.Give(subject)
		}
		l.resume()
		time.Sleep(2 * time.Second)
		require.Equal(t, 1, l.given()[7])
		require.Equal(t, 1, l.given()[5000])
		require.Less(t, len(l.given()), 2000)
	})
}

func TestNotices_EndWithTheirContext(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		ctx, cancel := context.WithCancel(t.Context())
		l := &listener{hang: make(chan struct{})}
		n := l.notices(ctx, newKind(1, 1))
		n.Give(1)
		n.Give(2)
		cancel()
		l.resume()
		time.Sleep(time.Minute)
		n.Give(3)
		require.Equal(t, map[int]int{1: 1, 3: 1}, l.given())
	})
}
