// An adapter that is a DirectPublisher: the goroutine that emits calls its Publish.

package realtime_test

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// interceptedAdapter calls before ahead of each Publish of a broadcast.
type interceptedAdapter struct {
	realtime.Adapter
	before atomic.Pointer[func() error]
}

func (a *interceptedAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if f := a.before.Load(); f != nil && m.Op == realtime.OpBroadcast {
		if err := (*f)(); err != nil {
			return err
		}
	}
	return a.Adapter.Publish(ctx, m)
}

type directAdapter struct{ *interceptedAdapter }

func (directAdapter) PublishesDirectly() {}

// clusterOfDirect returns two servers, the first with an adapter that f intercepts.
func clusterOfDirect(t *testing.T, log *logBuffer, direct bool) (emitter *realtimetest.Server, a *interceptedAdapter, receiver *realtimetest.Client) {
	t.Helper()
	hub := realtimetest.NewHub()
	a = &interceptedAdapter{Adapter: hub.Node()}
	emitter = realtimetest.NewServer(t, logTo(log), func(o *realtime.Options) {
		o.Cluster.Adapter = a
		if direct {
			o.Cluster.Adapter = directAdapter{a}
		}
	})
	other := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
	return emitter, a, other.Admin(t, "a1")
}

// Only for a DirectPublisher the emit is on the same goroutine as Publish: it returns when Publish
// does, and not after a timeout.
func TestDirectPublisher_Emit(t *testing.T) {
	t.Parallel()
	for _, direct := range []bool{true, false} {
		name := "queued"
		if direct {
			name = "direct"
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				emitter, a, receiver := clusterOfDirect(t, &log, direct)
				release := make(chan struct{})
				a.before.Store(new(func() error { <-release; return nil }))
				emitted := make(chan struct{})
				go func() {
					defer close(emitted)
					_ = wireNote.Emit(emitter.Realtime.Admin().To(realtime.AdminAllRoom), "late") // marshals
				}()
				time.Sleep(time.Minute)
				select {
				case <-emitted:
					require.False(t, direct, "the emit did not wait")
				default:
					require.True(t, direct, "the emit waits")
				}
				close(release)
				<-emitted
				require.Equal(t, "late", realtimetest.Expect(t, receiver, wireNote))
			})
		})
	}
}

// An error and a panic of Publish are logged, and later emits work.
func TestDirectPublisher_Failures(t *testing.T) {
	t.Parallel()
	for name, f := range map[string]struct {
		fail func() error
		log  string
	}{
		"error": {func() error { return errors.New("no queue") }, "no queue"},
		"panic": {func() error { panic("no codec") }, "no codec"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log logBuffer
				emitter, a, receiver := clusterOfDirect(t, &log, true)
				a.before.Store(&f.fail)
				room := emitter.Realtime.Admin().To(realtime.AdminAllRoom)
				require.NoError(t, wireNote.Emit(room, "first"))
				synctest.Wait()
				require.Contains(t, log.String(), f.log)
				a.before.Store(nil)
				require.NoError(t, wireNote.Emit(room, "second"))
				require.Equal(t, "second", realtimetest.Expect(t, receiver, wireNote))
			})
		})
	}
}

// The messages of one goroutine keep their order, and a request comes after them.
func TestDirectPublisher_Order(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		emitter, _, receiver := clusterOfDirect(t, &log, true)
		zone := realtime.NewRoom("zone", "havana")
		admins := emitter.Realtime.Admin().To(realtime.AdminAllRoom)
		for i := range 20 {
			if i%2 == 0 {
				admins.Join(zone)
			} else {
				admins.Leave(zone)
			}
			n, err := emitter.Realtime.Admin().To(zone).Count(t.Context())
			require.NoError(t, err)
			require.Equal(t, 1-i%2, n)
			require.NoError(t, wireNote.Emit(admins, string(rune('a'+i))))
		}
		for i := range 20 {
			require.Equal(t, string(rune('a'+i)), realtimetest.Expect(t, receiver, wireNote))
		}
	})
}
