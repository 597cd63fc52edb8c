// Before a bus gives events to another node, the other nodes have received what this one has emitted.

package realtime_test

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"runtime"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// handoverBus is a bus of which a test hands events over.
type handoverBus struct {
	realtime.EventBus
	before, takes func(ctx context.Context)
}

func (b *handoverBus) BeforeHandover(f func(ctx context.Context)) (cancel func()) {
	b.before = f
	return func() { b.before = nil }
}

func (b *handoverBus) BeforeTakeover(f func(ctx context.Context)) (cancel func()) {
	b.takes = f
	return func() { b.takes = nil }
}

// tardyAdapter delivers the broadcasts of a namespace to its node when the test lets it.
type tardyAdapter struct {
	realtime.Adapter
	namespace string
	pass      chan struct{}
}

func (a tardyAdapter) Start(ctx context.Context, n realtime.Node) error {
	return a.Adapter.Start(ctx, tardyNode{n, a})
}

type tardyNode struct {
	realtime.Node
	tardyAdapter
}

func (n tardyNode) Deliver(m realtime.ClusterMessage) {
	if m.Op == realtime.OpBroadcast && m.Namespace == n.namespace {
		<-n.pass
	}
	n.Node.Deliver(m)
}

func TestHandoverBus_OtherNodesHaveReceivedWhatWasEmitted(t *testing.T) {
	for name, wrap := range map[string]func(realtime.EventBus) realtime.EventBus{
		"the bus":       func(b realtime.EventBus) realtime.EventBus { return b },
		"a wrapped bus": func(b realtime.EventBus) realtime.EventBus { return wrapper{b, nil} },
	} {
		for _, namespace := range []string{realtime.NamespaceAdmin, realtime.NamespacePassengers} {
			t.Run(name+" "+namespace, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					hub := realtimetest.NewHub()
					bus, slow := &handoverBus{EventBus: realtimetest.NewBus()}, tardyAdapter{hub.Node(), namespace, make(chan struct{})}
					node := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = wrap(bus), hub.Node() })
					realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = slow })
					require.NotNil(t, bus.before)
					require.NoError(t, node.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p1"}))
					synctest.Wait()
					done := handOver(t.Context(), bus, 3)
					time.Sleep(time.Second)
					synctest.Wait()
					require.Empty(t, done, "the other node has not received the event")
					close(slow.pass)
					synctest.Wait()
					require.Len(t, done, 3)
				})
			})
		}
	}
}

// handOver makes the bus hand over n times at once. It sends to done after each.
func handOver(ctx context.Context, bus *handoverBus, n int) (done chan struct{}) {
	done = make(chan struct{}, n)
	for range n {
		go func() {
			bus.before(ctx)
			done <- struct{}{}
		}()
	}
	return done
}

// slowParties answers when the test lets it.
type slowParties chan struct{}

func (p slowParties) FindParties(context.Context, string) (realtime.TripParties, error) {
	<-p
	return realtime.TripParties{PassengerID: "p1"}, nil
}

// An event that waits for Options.Parties is emitted first.
func TestHandoverBus_EventsThatWaitForTheirPeople(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		bus, answer := &handoverBus{EventBus: realtimetest.NewBus()}, make(slowParties)
		node := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Bus, o.Cluster.Adapter = bus, hub.Node()
			o.Parties = answer
		})
		realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		require.NoError(t, node.Realtime.Publish(t.Context(), realtime.TripAssigningStarted{TripID: "t1"}))
		time.Sleep(200 * time.Millisecond)
		done := handOver(t.Context(), bus, 1)
		time.Sleep(200 * time.Millisecond)
		synctest.Wait()
		require.Empty(t, done)
		close(answer)
		synctest.Wait()
		require.Len(t, done, 1)
	})
}

// A node that does not answer holds the events of the others up for no longer than 5 s, and not when
// the server ends or the bus waits no longer.
func TestHandoverBus_ANodeThatDoesNotAnswer(t *testing.T) {
	for name, end := range map[string]func(node *realtimetest.Server, cancel func()){
		"after 5 s":             func(*realtimetest.Server, func()) { time.Sleep(5 * time.Second) },
		"the bus gives up":      func(_ *realtimetest.Server, cancel func()) { cancel() },
		"the server shuts down": func(node *realtimetest.Server, _ func()) { _ = node.Realtime.Shutdown(context.Background()) },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				hub := realtimetest.NewHub()
				bus, slow := &handoverBus{EventBus: realtimetest.NewBus()}, tardyAdapter{hub.Node(), realtime.NamespaceAdmin, make(chan struct{})}
				node := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, hub.Node() })
				realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = slow })
				defer close(slow.pass)
				require.NoError(t, node.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p1"}))
				synctest.Wait()
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := handOver(ctx, bus, 1)
				time.Sleep(4 * time.Second)
				synctest.Wait()
				require.Empty(t, done)
				end(node, cancel)
				synctest.Wait()
				require.Len(t, done, 1)
			})
		})
	}
}

// Where no other node emits, nothing waits.
func TestHandoverBus_NotNeeded(t *testing.T) {
	for name, configure := range map[string]func(o *realtime.Options){
		"one node": func(*realtime.Options) {},
		"a bus that every node hears": func(o *realtime.Options) {
			o.Cluster.Adapter, o.Cluster.BusFanOut = realtimetest.NewHub().Node(), true
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bus := &handoverBus{EventBus: realtimetest.NewBus()}
				realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus = bus }, configure)
				require.Nil(t, bus.before)
				require.Nil(t, bus.takes)
			})
		})
	}
}

// busyAdapter has caught up when the test says so.
type busyAdapter struct {
	realtime.Adapter
	caughtUp chan struct{}
}

func (a busyAdapter) CatchUp(ctx context.Context) error {
	select {
	case <-a.caughtUp:
	case <-ctx.Done():
	}
	return ctx.Err()
}

// A node takes events over when it has received what the node that had them before has emitted.
func TestHandoverBus_TheNextNodeHasCaughtUp(t *testing.T) {
	for name, pass := range map[string]func(busyAdapter, context.CancelFunc){
		"it has caught up": func(a busyAdapter, _ context.CancelFunc) { close(a.caughtUp) },
		"the bus gives up": func(_ busyAdapter, cancel context.CancelFunc) { cancel() },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bus, busy := &handoverBus{EventBus: realtimetest.NewBus()}, busyAdapter{realtimetest.NewHub().Node(), make(chan struct{})}
				realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, busy })
				ctx, cancel := context.WithCancel(t.Context())
				defer cancel()
				done := make(chan struct{})
				go func() {
					bus.takes(ctx)
					close(done)
				}()
				synctest.Wait()
				select {
				case <-done:
					require.Fail(t, "it has not caught up")
				default:
				}
				pass(busy, cancel)
				<-done
			})
		})
	}
}

// An adapter that does not know holds nothing up.
func TestHandoverBus_AnotherAdapter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := &handoverBus{EventBus: realtimetest.NewBus()}
		realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, realtimetest.NewHub().Node() })
		bus.takes(t.Context())
	})
}

// eagerBus gives events to a node as soon as it subscribes, or refuses it.
type eagerBus struct {
	*handoverBus
	err   error
	known bool // it had the functions then
}

func (b *eagerBus) Subscribe(handler func(ctx context.Context, e realtime.Envelope) error) (cancel func(), err error) {
	b.known = b.before != nil && b.takes != nil
	if b.err != nil {
		return nil, b.err
	}
	return b.handoverBus.Subscribe(handler)
}

// What the bus gives to a node that has just subscribed does not come before what others have emitted either. A server
// that could not subscribe is called no more.
func TestHandoverBus_KnowsTheFunctionsAtSubscribe(t *testing.T) {
	for name, refused := range map[string]error{"it subscribes": nil, "it could not": errors.New("no connection")} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bus := &eagerBus{handoverBus: &handoverBus{EventBus: realtimetest.NewBus()}, err: refused}
				o := validOptions()
				o.Bus, o.Cluster.Adapter = bus, realtimetest.NewHub().Node()
				rt, err := realtime.New(o)
				require.ErrorIs(t, err, refused)
				require.True(t, bus.known)
				if err == nil {
					require.NoError(t, rt.Shutdown(t.Context()))
				}
				synctest.Wait()
				require.Nil(t, bus.before)
				require.Nil(t, bus.takes)
			})
		})
	}
}

// When the server has ended, the bus does not call it any more.
func TestHandoverBus_EndsWithTheServer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := &handoverBus{EventBus: realtimetest.NewBus()}
		node := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, realtimetest.NewHub().Node() })
		require.NotNil(t, bus.before)
		require.NoError(t, node.Realtime.Shutdown(context.Background()))
		synctest.Wait()
		require.Nil(t, bus.before)
		require.Nil(t, bus.takes)
	})
}

// faultyAdapter's CatchUp does what a test says.
type faultyAdapter struct {
	realtime.Adapter
	catchUp func(ctx context.Context) error
}

func (a faultyAdapter) CatchUp(ctx context.Context) error { return a.catchUp(ctx) }

// misdeeds are what a function of the host may do. The first one ends when the test does.
func misdeeds(t *testing.T) map[string]func() {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	return map[string]func(){
		"hangs":  func() { <-hang },
		"panics": func() { panic("a planned panic") },
		"exits":  runtime.Goexit,
	}
}

// An adapter that does not mind its ctx, or panics, costs the bus no more than the time of ctx.
func TestHandoverBus_AnAdapterMisbehaves(t *testing.T) {
	for _, name := range []string{"hangs", "panics", "exits"} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := misdeeds(t)[name]
				bus := &handoverBus{EventBus: realtimetest.NewBus()}
				a := faultyAdapter{realtimetest.NewHub().Node(), func(context.Context) error { f(); return nil }}
				realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, a })
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				returned := false
				go func() {
					bus.takes(ctx)
					returned = true
				}()
				time.Sleep(time.Second)
				synctest.Wait()
				require.True(t, returned)
			})
		})
	}
}

// rudeBus is a bus whose cancel functions do what a test says.
type rudeBus struct {
	realtime.EventBus
	cancel func()
}

func (b rudeBus) BeforeHandover(func(ctx context.Context)) (cancel func()) { return b.cancel }
func (b rudeBus) BeforeTakeover(func(ctx context.Context)) (cancel func()) { return b.cancel }

// A cancel that panics does not end the process.
func TestHandoverBus_ACancelMisbehaves(t *testing.T) {
	for name, cancel := range map[string]func(){"is nil": nil, "panics": func() { panic("a planned panic") }, "exits": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var log bytes.Buffer
				node := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Bus, o.Cluster.Adapter = rudeBus{realtimetest.NewBus(), cancel}, realtimetest.NewHub().Node()
					o.Logger = slog.New(slog.NewTextHandler(&log, nil))
				})
				require.NoError(t, node.Realtime.Shutdown(context.Background()))
				synctest.Wait()
				require.Contains(t, log.String(), `call="cancel of HandoverBus.BeforeHandover"`)
				require.Contains(t, log.String(), `call="cancel of HandoverBus.BeforeTakeover"`)
			})
		})
	}
}

// It does not use up the requests of the server either.
func TestHandoverBus_AnAdapterHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hang := make(chan struct{})
		defer close(hang)
		bus := &handoverBus{EventBus: realtimetest.NewBus()}
		a := faultyAdapter{realtimetest.NewHub().Node(), func(context.Context) error { <-hang; return nil }}
		s := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = bus, a })
		for range 200 {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
			bus.takes(ctx)
			cancel()
		}
		_, err := s.Realtime.Drivers().All().Sockets(t.Context())
		require.NoError(t, err)
	})
}
