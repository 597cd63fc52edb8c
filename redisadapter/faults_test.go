// Faults of Redis, of the network to it, and of other nodes.

package redisadapter_test

import (
	"context"
	"fmt"
	"runtime"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/rueidis"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

func TestAdapter_RedisIsAwayAtTheStart(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.Stop()
	a := newAdapter(t, redisadapter.Options{URL: s.URL()})
	err := a.Start(t.Context(), &recorder{})
	require.ErrorContains(t, err, "redisadapter: ")
	require.NotContains(t, err.Error(), "redisadapter: redisadapter: ")
	require.ErrorIs(t, a.Publish(t.Context(), event(0)), realtime.ErrClosed)

	began := time.Now()
	alone := start(t, s, func(o *redisadapter.Options, _ *recorder) { o.StartAlone = true })
	started := time.Now()
	require.Error(t, alone.Check(t.Context()))
	require.Error(t, alone.Publish(t.Context(), event(0)))
	require.Error(t, alone.Request(t.Context(), realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, All: true}, nil))
	require.NoError(t, s.Restart())
	testkit.Eventually(t, "it joins", func() bool { return alone.Check(t.Context()) == nil })
	b := start(t, s, nil)
	requireReaches(t, b, alone)
	requireReaches(t, alone, b)
	testkit.Eventually(t, "the gap is reported", func() bool { return alone.gapCount() == 1 })
	require.WithinRange(t, alone.gaps()[0].Since, began, started)
}

// TestAdapter_DetectsSilence: a Redis that answers commands but delivers no messages, and
// one that does not answer.
func TestAdapter_DetectsSilence(t *testing.T) {
	t.Parallel()
	for name, fault := range map[string]func(*redistest.Server, bool){
		"delivers nothing": (*redistest.Server).Deafen,
		"is frozen":        (*redistest.Server).Freeze,
	} {
		for protocol, change := range bothProtocol {
			t.Run(name+", "+protocol, func(t *testing.T) {
				t.Parallel()
				s := startRedis(t)
				a, b := startAt(t, s, quick, change), startAt(t, s, quick, change)
				requireReaches(t, a, b)
				require.NoError(t, b.Check(t.Context()))
				detects, heals := time.Hour, time.Hour
				for try := 0; try < 5 && (detects >= 3*time.Second || heals >= 5*time.Second); try++ { // a busy machine takes longer
					gaps := b.gapCount()
					began := time.Now()
					fault(s, true)
					testkit.Eventually(t, "health is red", func() bool { return b.Check(t.Context()) != nil })
					detects = min(detects, time.Since(began))
					require.Equal(t, gaps, b.gapCount(), "it has not ended")
					healed := time.Now()
					fault(s, false)
					requireReaches(t, a, b)
					requireReaches(t, b, a)
					testkit.Eventually(t, "health is green", func() bool { return b.Check(t.Context()) == nil && a.Check(t.Context()) == nil })
					heals = min(heals, time.Since(healed))
					testkit.Eventually(t, "the gap is reported", func() bool { return b.gapCount() > gaps })
				}
				require.Less(t, detects, 3*time.Second)
				require.Less(t, heals, 5*time.Second)
				// On a busy machine it may look as if it was silent once more.
				testkit.Eventually(t, "one line each time", func() bool {
					changes := b.node.health()
					return len(changes)%2 == 0 && b.log.Times("not receiving") == len(changes)/2 && b.log.Times("nodes again") == len(changes)/2
				})
			})
		}
	}
}

// TestAdapter_ReportsToItsNode: what it knows of itself and of the others.
func TestAdapter_ReportsToItsNode(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := startAt(t, s, quick, nil), startAt(t, s, quick, nil)
	waitForPeers(t, a, b)
	joined, left := "joined "+b.UID(), "left "+b.UID()
	testkit.Eventually(t, "the node knows the other", func() bool { return slices.Equal(a.node.peerChanges(), []string{joined}) })
	b.close(t)
	testkit.Eventually(t, "the node has left", func() bool { return slices.Equal(a.node.peerChanges(), []string{joined, left}) })

	const killed = "realtime-0123456789abcdef"
	s.Publish(redisadapter.NodesChannel("socket.io"), `{"v":1,"uid":"`+killed+`","op":"hello"}`)
	testkit.Eventually(t, "the node has died", func() bool {
		return slices.Equal(a.node.peerChanges(), []string{joined, left, "joined " + killed, "died " + killed})
	})
	require.Empty(t, a.node.health())
	s.Stop()
	testkit.Eventually(t, "it does not receive", func() bool { return slices.Equal(a.node.health(), []bool{false}) })
	require.NoError(t, s.Restart())
	testkit.Eventually(t, "it receives again", func() bool { return slices.Equal(a.node.health(), []bool{false, true}) })
}

// If two nodes do not receive at the same time, what the first one asks when it receives again does
// not reach the other: it asks once more when the other one receives again.
func TestAdapter_AsksAgain(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	const other, third = "realtime-0123456789abcdef", "realtime-fedcba9876543210"
	hello := func(uid string, ago time.Duration) {
		s.Publish(redisadapter.NodesChannel("socket.io"), fmt.Sprintf(`{"v":1,"uid":%q,"op":"hello","ago":%d}`, uid, ago))
	}
	handled := func(uid string) { // a notice is lost if the node connects again, as it may on a busy machine
		testkit.Eventually(t, "the node is known", func() bool {
			hello(uid, 0)
			return slices.Contains(a.node.peerChanges(), "joined "+uid)
		})
	}
	asksAgain := func(g realtime.Gap) bool { return g.Peer == other }
	hello(other, time.Minute)
	handled(other)
	require.False(t, slices.ContainsFunc(a.gaps(), asksAgain), "it had no gap itself")
	s.Cut()
	testkit.Eventually(t, "a gap", func() bool { return a.gapCount() > 0 })
	hello(other, 0) // it has started, and knows nothing
	handled(third)
	require.False(t, slices.ContainsFunc(a.gaps(), asksAgain))
	testkit.Eventually(t, "the gap again", func() bool {
		hello(other, time.Minute)
		return slices.ContainsFunc(a.gaps(), asksAgain)
	})
	gaps := a.gaps()
	again := slices.IndexFunc(gaps, asksAgain)
	require.Equal(t, gaps[again-1].Since, gaps[again].Since)
	require.Equal(t, gaps[again-1].Until, gaps[again].Until)
}

func TestAdapter_RedisRestarts(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := start(t, s, nil), start(t, s, nil)
	requireReaches(t, a, b)
	fastest := time.Hour // of a round: a busy machine takes longer
	for range 3 {
		s.Stop()
		testkit.Eventually(t, "health is red", func() bool { return a.Check(t.Context()) != nil && b.Check(t.Context()) != nil })
		took := time.Now()
		for n := range 100 {
			_ = a.Publish(t.Context(), event(n)) // lost
		}
		fastest = min(fastest, time.Since(took))
		require.NoError(t, s.Restart())
		requireReaches(t, a, b)
		requireReaches(t, b, a)
		testkit.Eventually(t, "health is green", func() bool { return a.Check(t.Context()) == nil && b.Check(t.Context()) == nil })
	}
	require.Less(t, fastest, time.Second, "Publish waits for Redis")
	testkit.Eventually(t, "each gap is reported", func() bool { return b.gapCount() >= 3 })
	for _, channel := range []string{"socket.io-request#/drivers#", "socket.io-response#/drivers#", redisadapter.StateChannel("socket.io", ns), redisadapter.NodesChannel("socket.io")} {
		// The server may still be about to notice the end of a connection that a node has given up.
		testkit.Eventually(t, "each node subscribes once to "+channel, func() bool { return s.Subscribers(channel) == 2 })
	}
}

// TestAdapter_NothingTwice: connections close at any moment, and a node's messages still
// arrive at most once and in order.
func TestAdapter_NothingTwice(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := start(t, s, nil), start(t, s, nil)
	requireReaches(t, a, b)
	before := b.node.count()
	for n := range 600 {
		_ = a.Publish(t.Context(), event(n))
		switch n % 100 {
		case 30:
			s.Cut()
		case 70:
			s.CutAfter(15)
		case 90:
			s.LoseAnswer(1)
		}
		time.Sleep(time.Millisecond)
	}
	requireReaches(t, a, b)
	last := -1
	arrived := 0
	for _, m := range b.node.all()[before:] {
		n := number(t, m)
		if n < 0 {
			continue
		}
		require.Greater(t, n, last)
		last = n
		arrived++
	}
	require.Positive(t, arrived)
}

// TestAdapter_NotifiesOfLostMessages: a node that lost messages before they reached Redis
// notifies the others, which cannot detect it.
func TestAdapter_NotifiesOfLostMessages(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := start(t, s, func(o *redisadapter.Options, _ *recorder) { o.QueuedMessages = 8 }), start(t, s, nil)
	waitForPeers(t, a, b)
	s.Freeze(true)
	for n := range 2000 {
		_ = a.Publish(t.Context(), event(n))
	}
	s.Freeze(false)
	testkit.Eventually(t, "the others are notified", func() bool {
		for _, g := range b.gaps() {
			if g.Peer == a.UID() {
				return true
			}
		}
		return false
	})
}

// TestAdapter_SlowHost: the reader does not wait for the host, the queue is bounded, and
// the loss is reported.
func TestAdapter_SlowHost(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	release := make(chan struct{})
	var blocked atomic.Bool
	a := start(t, s, nil)
	b := start(t, s, func(o *redisadapter.Options, r *recorder) {
		o.QueuedMessages = 50
		o.Namespaces = []string{ns, "/other"}
		r.deliver = func(m realtime.ClusterMessage) {
			if m.Namespace == ns {
				blocked.Store(true)
				<-release
			}
		}
	})
	require.NoError(t, a.Publish(t.Context(), event(0)))
	testkit.Eventually(t, "the host blocks", blocked.Load)
	overflowed := time.Now()
	for n := range 200 {
		require.NoError(t, a.Publish(t.Context(), event(n+1)))
	}
	other := event(0)
	other.Namespace = "/other"
	require.NoError(t, a.Publish(t.Context(), other))
	testkit.Eventually(t, "another namespace goes on", func() bool { return b.node.count() == 1 })
	require.NoError(t, b.Check(t.Context()))
	close(release)
	testkit.Eventually(t, "the gap is reported", func() bool { return b.gapCount() == 1 })
	require.False(t, b.gaps()[0].Since.After(overflowed), "it begins with the first lost message")
	require.Equal(t, 2+50, b.node.count())
	for n, m := range b.node.all()[1:] {
		require.Equal(t, n, number(t, m))
	}
}

// TestAdapter_ForgetsDeadNodes: after four heartbeats here, ten seconds in production.
func TestAdapter_ForgetsDeadNodes(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := startAt(t, s, quick, withASocket)
	// Redis still counts the dead node, but no request waits for it.
	subscriber(t, s, "socket.io-request#/drivers#")
	subscriber(t, s, redisadapter.StateChannel("socket.io", ns))
	fastest := time.Hour
	for try := 0; try < 5 && fastest >= 10*quick; try++ { // a busy machine takes longer
		uid := fmt.Sprint("realtime-dead", try)
		s.Publish(redisadapter.NodesChannel("socket.io"), fmt.Sprintf(`{"v":1,"uid":%q,"name":"x","op":"hello"}`, uid))
		began := time.Now()
		joined := "joined " + uid
		testkit.Eventually(t, "it is known", func() bool { return slices.Contains(a.node.peerChanges(), joined) })
		if peers := a.Peers(); len(peers) > 0 { // not forgotten yet
			require.Equal(t, "x ("+uid+")", peers[0].String())
		}
		testkit.Eventually(t, "it is forgotten", func() bool { return len(a.Peers()) == 0 })
		fastest = min(fastest, time.Since(began))
	}
	require.Less(t, fastest, 10*quick)
	require.NoError(t, a.Request(t.Context(), everySocket, func(realtime.ClusterAnswer) {}))
}

// TestAdapter_ForgottenNodeReturns: a node that was taken for dead is known again when it sends a
// heartbeat, and its messages count all the time.
func TestAdapter_ForgottenNodeReturns(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := startAt(t, s, quick, nil)
	const stale = "realtime-0123456789abcdef"
	beat := func() { s.Publish(redisadapter.NodesChannel("socket.io"), `{"v":1,"uid":"`+stale+`","op":"beat"}`) }
	beat()
	testkit.Eventually(t, "it is forgotten", func() bool { return slices.Contains(a.node.peerChanges(), "died "+stale) })
	publishAsNode(t, s, "socket.io#/drivers#driver:1#", wire.Message{Kind: wire.Broadcast, UID: stale, Namespace: ns, Rooms: []string{room}, Args: text(`"test"`, `7`)})
	testkit.Eventually(t, "its message arrives", func() bool { return a.node.count() == 1 })
	beat()
	testkit.Eventually(t, "it is known again", func() bool {
		return slices.Equal(a.node.peerChanges(), []string{"joined " + stale, "died " + stale, "joined " + stale})
	})
	require.NoError(t, a.Check(t.Context()))
}

// TestAdapter_SameIDTwice: two copies of one process drop each other's messages as their own, so
// both say so, and the one that remains has a gap.
func TestAdapter_SameIDTwice(t *testing.T) {
	t.Parallel()
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a, other := startAt(t, s, quick, change), startAt(t, s, quick, change)
			waitForPeers(t, a, other)
			b := &peer{node: &recorder{}, log: &testkit.Log{}}
			b.Adapter = newAdapter(t, redisadapter.Options{URL: s.URL(), Namespaces: []string{ns}, StartAlone: true, Sharded: name == "sharded"})
			b.SetUID(a.UID())
			b.Hurry(quick)
			require.NoError(t, b.Start(t.Context(), b.node))
			testkit.Eventually(t, "both are red", func() bool { return a.Check(t.Context()) != nil && b.Check(t.Context()) != nil })
			testkit.Eventually(t, "it says why", func() bool {
				err := a.Check(t.Context())
				return err != nil && strings.Contains(err.Error(), "another process has this node's id")
			})
			testkit.Eventually(t, "the other one is green", func() bool { return other.Check(t.Context()) == nil })
			testkit.Eventually(t, "the host knows", func() bool { return slices.Contains(a.node.health(), false) })
			b.close(t)
			testkit.Eventually(t, "the one that remains is green", func() bool { return a.Check(t.Context()) == nil })
			testkit.Eventually(t, "the gap is reported", func() bool {
				changes := a.node.health()
				return changes[len(changes)-1] && slices.ContainsFunc(a.gaps(), func(g realtime.Gap) bool { return g.Reason == "another process had this node's id" })
			})
			require.Positive(t, a.log.Times("another process has this node's id"))
			requireReaches(t, other, a)
		})
	}
}

// TestAdapter_Close: Redis and the other nodes forget the node at once, so that no request
// waits for it.
func TestAdapter_Close(t *testing.T) {
	t.Parallel()
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a, b := startAt(t, s, 5*time.Second, change), startAt(t, s, 5*time.Second, change)
			waitForPeers(t, a, b)
			state := redisadapter.StateChannel("socket.io", ns)
			require.Equal(t, 2, s.Subscribers(state))
			b.close(t)
			require.Equal(t, 1, s.Subscribers(state))
			require.Positive(t, s.Commands("UNSUBSCRIBE")+s.Commands("SUNSUBSCRIBE"))
			began := time.Now()
			testkit.Eventually(t, "it is forgotten", func() bool { return len(a.Peers()) == 0 })
			require.NoError(t, a.Request(t.Context(), everySocket, func(realtime.ClusterAnswer) {}))
			require.Less(t, time.Since(began), 10*time.Second, "heartbeats would show it after 20 s")
			require.ErrorIs(t, b.Publish(t.Context(), event(0)), realtime.ErrClosed)
			require.ErrorIs(t, b.Check(t.Context()), realtime.ErrClosed)
			require.ErrorIs(t, b.Start(t.Context(), b.node), realtime.ErrClosed)
		})
	}
}

// A host that calls realtime.New again while Redis is away learns that it needs a new adapter.
func TestAdapter_NewAgain(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.Stop()
	o := realtime.Options{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Logger: quiet,
		Cluster: realtime.Cluster{Adapter: newAdapter(t, redisadapter.Options{URL: s.URL()})},
	}
	_, err := realtime.New(o)
	require.ErrorContains(t, err, "connection refused")
	_, err = realtime.New(o)
	require.EqualError(t, err, "realtime: starting the adapter: redisadapter: the adapter cannot start again, also after a failed realtime.New; make a new one: closed")
	require.ErrorIs(t, err, realtime.ErrClosed)
}

// TestAdapter_Close_SubscriptionsEndInOrder: a server that asks while another one closes counts it
// only as long as that one answers, so the subscriptions to requests end first.
func TestAdapter_Close_SubscriptionsEndInOrder(t *testing.T) {
	t.Parallel()
	const other = "/other"
	for name, change := range bothProtocol {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a := start(t, s, func(o *redisadapter.Options, r *recorder) {
				o.Namespaces = []string{ns, other}
				if change != nil {
					change(o, r)
				}
			})
			a.close(t)
			want := []string{"UNSUBSCRIBE", "PUNSUBSCRIBE"} // the first ends all subscriptions but those of patterns at once
			if name == "sharded" {
				want = nil
				for _, channel := range []string{
					"socket.io#/drivers#", "socket.io#/other#",
					"socket.io#/drivers#" + a.UID() + "#", redisadapter.StateChannel("socket.io", ns),
					"socket.io#/other#" + a.UID() + "#", redisadapter.StateChannel("socket.io", other),
					redisadapter.NodesChannel("socket.io"),
				} {
					want = append(want, "SUNSUBSCRIBE "+channel)
				}
			}
			require.Equal(t, want, s.Ended())
		})
	}
}

// TestAdapter_RequestEndsWhenANodeDies: a request stops waiting for a dead node.
func TestAdapter_RequestEndsWhenANodeDies(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := startAt(t, s, quick, nil), startAt(t, s, quick, withASocket)
	waitForPeers(t, a, b)
	s.Publish(redisadapter.NodesChannel("socket.io"), `{"v":1,"uid":"realtime-dead","op":"hello"}`)
	subscriber(t, s, "socket.io-request#/drivers#")
	subscriber(t, s, redisadapter.StateChannel("socket.io", ns))
	testkit.Eventually(t, "it is known", func() bool { return len(a.Peers()) == 2 })
	got := 0
	require.NoError(t, a.Request(t.Context(), everySocket, func(realtime.ClusterAnswer) { got++ }), "it has not waited until its time was over")
	require.Equal(t, 1, got)
}

// TestAdapter_SlotMoves: Redis ends a sharded subscription when its slot moves.
func TestAdapter_SlotMoves(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := startAt(t, s, 2*patience, inSharded), startAt(t, s, 2*patience, inSharded)
	requireReaches(t, a, b)
	s.Unsubscribe()
	began := time.Now()
	requireReaches(t, a, b)
	requireReaches(t, b, a)
	testkit.Eventually(t, "the gap is reported", func() bool { return a.gapCount() > 0 && b.gapCount() > 0 })
	require.Less(t, time.Since(began), patience, "it was not the probes that found out")
}

func TestAdapter_CloseWhileRedisIsFrozen(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	s.Freeze(true)
	defer s.Freeze(false)
	_ = a.Publish(t.Context(), event(0))
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	began := time.Now()
	_ = a.Close(ctx) // it may return an error: queued messages are lost
	require.Less(t, time.Since(began), 12*time.Second)
}

// TestAdapter_ClientOfTheHost: the adapter uses the host's client and does not close it.
func TestAdapter_ClientOfTheHost(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	client, err := rueidis.NewClient(rueidis.ClientOption{InitAddress: []string{s.Addr()}, DisableCache: true})
	require.NoError(t, err)
	defer client.Close()
	own := func(o *redisadapter.Options, _ *recorder) { o.URL, o.Client = "", client }
	a, b := start(t, s, own), start(t, s, nil)
	requireReaches(t, a, b)
	requireReaches(t, b, a)
	s.Cut()
	requireReaches(t, b, a)
	a.close(t)
	require.NoError(t, client.Do(t.Context(), client.B().Ping().Build()).Error())
}

// TestAdapter_WarnsOfStreams: Node's streams adapter uses the same prefix.
func TestAdapter_WarnsOfStreams(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, nil)
	require.Zero(t, a.log.Times("same prefix"))
	subscriber(t, s, "socket.io#/drivers#")
	b := start(t, s, nil)
	require.Equal(t, 1, b.log.Times("same prefix"))
}

// textlessError is a panic value whose text never comes.
type textlessError struct{ hold chan struct{} }

func (v textlessError) Error() string { <-v.hold; return "" }

// A call of the node that panics or ends the goroutine is not the last one, and Close does
// not wait for it.
func TestAdapter_SignalThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	hold := make(chan struct{})
	t.Cleanup(func() { close(hold) })
	for name, do := range map[string]func(){
		"panic": func() { panic("planned") }, "exit": runtime.Goexit, "panic without text": func() { panic(textlessError{hold}) },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var calls atomic.Int32
			a := start(t, startRedis(t), func(_ *redisadapter.Options, r *recorder) {
				r.onGap = func(realtime.Gap) {
					if calls.Add(1) <= 2 {
						do()
					}
				}
			})
			for range 3 {
				a.Gap(realtime.Gap{})
			}
			testkit.Eventually(t, "the last gap is reported", func() bool { return calls.Load() >= 3 })
		})
	}
}

// A Deliver that panics or ends the goroutine loses its message and no later one.
func TestAdapter_DeliverThatDoesNotReturn(t *testing.T) {
	t.Parallel()
	for name, do := range map[string]func(){"panic": func() { panic("planned") }, "exit": runtime.Goexit} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			var calls atomic.Int32
			a, b := start(t, s, nil), start(t, s, func(_ *redisadapter.Options, r *recorder) {
				r.deliver = func(realtime.ClusterMessage) {
					if calls.Add(1) == 1 {
						do()
					}
				}
			})
			requireReaches(t, a, b)
			require.Greater(t, calls.Load(), int32(1))
		})
	}
}

// Whoever invents nodes that die does not fill the log.
func TestAdapter_InventedNodes_DoNotFillTheLog(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := startAt(t, s, quick, nil)
	const invented = 1000
	for n := range invented {
		s.Publish(redisadapter.NodesChannel("socket.io"), fmt.Sprintf(`{"v":1,"uid":"invented-%d","op":"beat"}`, n))
	}
	testkit.Eventually(t, "they have died", func() bool { // all, unless a busy machine has missed some
		changes := len(a.node.peerChanges())
		return changes > 0 && changes%2 == 0 && len(a.Peers()) == 0
	})
	require.Less(t, a.log.Times("a node stopped sending heartbeats"), invented/2)
}

// While received messages wait too long, the node is as good as disconnected.
func TestAdapter_MessagesWait_CheckFails(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := startAt(t, s, quick, nil)
	release := make(chan struct{})
	var blocked atomic.Bool
	b := startAt(t, s, quick, func(_ *redisadapter.Options, r *recorder) {
		r.deliver = func(realtime.ClusterMessage) {
			blocked.Store(true)
			<-release
		}
	})
	waitForPeers(t, a, b)
	require.NoError(t, a.Publish(t.Context(), event(0)))
	testkit.Eventually(t, "the host blocks", blocked.Load)
	require.NoError(t, a.Publish(t.Context(), event(1)))
	testkit.Eventually(t, "Check fails", func() bool { return b.Check(t.Context()) != nil })
	require.ErrorContains(t, b.Check(t.Context()), "messages arrive faster")
	st := b.AdapterStats()
	require.Equal(t, 1, st.Incoming)
	require.Positive(t, st.IncomingBytes)
	require.Positive(t, st.Wait)
	testkit.Eventually(t, "the node is told", func() bool { return slices.Equal(b.node.health(), []bool{false}) })
	require.Len(t, b.Peers(), 1, "heartbeats arrive")
	close(release)
	testkit.Eventually(t, "the node is told", func() bool { return slices.Equal(b.node.health(), []bool{false, true}) })
	require.NoError(t, b.Check(t.Context()))
	testkit.Eventually(t, "nothing waits", func() bool { return b.AdapterStats().Incoming == 0 && b.AdapterStats().Wait == 0 })
	require.Equal(t, 1, b.log.Times("messages of other nodes wait to be handled"))
	require.Equal(t, 1, b.log.Times("handled in time again"))
}

// While no probe comes back their age grows, and while Redis takes no message, messages wait and are
// then lost.
func TestAdapter_Stats(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a, b := startAt(t, s, quick, nil), startAt(t, s, quick, nil)
	requireReaches(t, a, b)
	testkit.Eventually(t, "a probe has just come back", func() bool { return b.AdapterStats().ProbeAge < 10*quick })
	st := b.AdapterStats()
	require.Zero(t, st.Lost)
	s.Deafen(true)
	testkit.Eventually(t, "no probe comes back", func() bool { return b.AdapterStats().ProbeAge > 20*quick })
	s.Deafen(false)
	testkit.Eventually(t, "probes come back", func() bool { return b.AdapterStats().ProbeAge < 10*quick })

	testkit.Eventually(t, "messages wait", func() bool {
		if a.Check(t.Context()) != nil { // not connected again: it queues nothing
			return false
		}
		s.Freeze(true)
		defer s.Freeze(false)
		for range 100 { // the first batch is under way, and the next ones wait
			_ = a.Publish(t.Context(), event(0))
			if st := a.AdapterStats(); st.Outgoing > 0 && st.OutgoingBytes > 0 {
				return true
			}
		}
		return false
	})
	testkit.Eventually(t, "they were sent or lost", func() bool { return a.AdapterStats().Outgoing == 0 })
	before := a.AdapterStats().Lost
	s.Stop()
	testkit.Eventually(t, "messages are lost", func() bool {
		_ = a.Publish(t.Context(), event(0))
		return a.AdapterStats().Lost > before
	})
}

// A failure that is noticed late, as by a process that was stopped: the gap begins when the node
// still received, and not shortly before it noticed.
func TestAdapter_NoticesAFailureLate(t *testing.T) {
	t.Parallel()
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a := startAt(t, s, quick, change)
			s.Freeze(true)
			frozen := time.Now()
			a.RoomChanged("/new", "room") // the link waits longer for the subscription than for probes
			testkit.Eventually(t, "health is red", func() bool { return a.Check(t.Context()) != nil })
			s.Freeze(false)
			testkit.Eventually(t, "the gap is reported", func() bool { return a.gapCount() > 0 })
			require.False(t, a.gaps()[0].Since.After(frozen), "what was lost meanwhile is in no gap")
		})
	}
}

// A node that could connect, but received nothing, when it started alone.
func TestAdapter_StartsAlone_RedisIsDeaf(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.Deafen(true)
	began := time.Now()
	a := startAt(t, s, quick, func(o *redisadapter.Options, _ *recorder) { o.StartAlone = true })
	started := time.Now()
	require.Error(t, a.Check(t.Context()))
	s.Deafen(false)
	testkit.Eventually(t, "the gap is reported", func() bool { return a.gapCount() == 1 })
	require.WithinRange(t, a.gaps()[0].Since, began, started)
}

// A Redis that answers, but delivers no messages.
func TestAdapter_RedisIsDeafAtTheStart(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	s.Deafen(true)
	a := newAdapter(t, redisadapter.Options{URL: s.URL()})
	a.Hurry(quick)
	err := a.Start(t.Context(), &recorder{})
	require.ErrorContains(t, err, "redisadapter: ")
	require.NotContains(t, err.Error(), "redisadapter: redisadapter: ")
}
