// How a node answers the requests of others: many at once, slow ones, and those that come to nothing.

package redisadapter_test

import (
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisadapter"
)

const tooMany = "request of another node not answered: too many at once"

// requestOf returns a request for the sockets of the room, or those of a server or of clients.
func requestOf(op realtime.ClusterOp) realtime.ClusterMessage {
	m := event(1)
	m.Op = op
	if op == realtime.OpServerAsk {
		m.Rooms = nil
	}
	return m
}

// answersTo answers as a server with one client does.
func answersTo(m realtime.ClusterMessage) []realtime.ClusterAnswer {
	switch m.Op {
	case realtime.OpCount:
		return []realtime.ClusterAnswer{{Count: 1}}
	case realtime.OpServerAsk:
		return []realtime.ClusterAnswer{replied(`1`)}
	default:
		return []realtime.ClusterAnswer{{Asked: 1}, acked(`"ok"`)}
	}
}

func replied(value string) realtime.ClusterAnswer {
	r := raw(value)
	return realtime.ClusterAnswer{Reply: &r}
}

func acked(value string) realtime.ClusterAnswer {
	r := raw(value)
	return realtime.ClusterAnswer{Ack: &r}
}

// result is what a request has returned.
type result struct {
	answers []realtime.ClusterAnswer
	err     error
}

// requesting makes a request in a goroutine.
func requesting(t *testing.T, from *peer, op realtime.ClusterOp) <-chan result {
	t.Helper()
	done := make(chan result, 1)
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	go func() {
		var r result
		r.err = from.Request(ctx, requestOf(op), func(a realtime.ClusterAnswer) { r.answers = append(r.answers, a) })
		done <- r
	}()
	return done
}

func (p *peer) request(t *testing.T, op realtime.ClusterOp) result {
	t.Helper()
	return <-requesting(t, p, op)
}

// gate holds the answers to requests of one operation until open is called.
type gate struct {
	op      realtime.ClusterOp
	release chan struct{}

	mu   sync.Mutex // guards held
	held int
}

func newGate(op realtime.ClusterOp) *gate { return &gate{op: op, release: make(chan struct{})} }

func (g *gate) answer(m realtime.ClusterMessage) []realtime.ClusterAnswer {
	if m.Op == g.op {
		g.mu.Lock()
		g.held++
		g.mu.Unlock()
		<-g.release
	}
	return answersTo(m)
}

func (g *gate) count() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	return g.held
}

// gated starts two nodes, the second with that gate. It answers two requests of each kind at the same
// time, and two more wait.
func gated(t *testing.T, g *gate) (a, b *peer) {
	t.Helper()
	s := startRedis(t)
	long := func(o *redisadapter.Options, _ *recorder) { o.RequestTimeout = patience }
	a = start(t, s, long)
	b = start(t, s, func(o *redisadapter.Options, r *recorder) {
		long(o, r)
		r.answer = g.answer
		r.prepare = func(a *redisadapter.Adapter) { a.LimitAnswers(2, 2, 1<<20) }
	})
	t.Cleanup(func() { close(g.release) })
	waitForPeers(t, a, b)
	return a, b
}

// Requests that wait for clients, or for the host, take no slot of the others. Those without a slot wait
// for one, and those that may not wait are refused: the node that asks the host gets null.
func TestAnswers_KindsDoNotWaitForEachOther(t *testing.T) {
	t.Parallel()
	for _, slow := range []realtime.ClusterOp{realtime.OpAsk, realtime.OpServerAsk, realtime.OpCount} {
		t.Run(string(slow), func(t *testing.T) {
			t.Parallel()
			g := newGate(slow)
			a, b := gated(t, g)
			for range 2 {
				requesting(t, a, slow)
			}
			testkit.Eventually(t, "both are answered", func() bool { return g.count() == 2 })
			for _, op := range []realtime.ClusterOp{realtime.OpAsk, realtime.OpServerAsk, realtime.OpCount} {
				if op != slow {
					require.Equal(t, result{answers: answersTo(requestOf(op))}, a.request(t, op), op)
				}
			}

			waiting := []<-chan result{requesting(t, a, slow), requesting(t, a, slow)}
			testkit.Eventually(t, "two wait", func() bool { return b.Answering(slow) == 4 })
			if slow == realtime.OpServerAsk {
				require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("null")}}, a.request(t, slow))
			} else {
				requesting(t, a, slow)
			}
			testkit.Eventually(t, "the fifth is refused", func() bool { return b.log.Times(tooMany) == 1 })
			require.Zero(t, b.log.Times("malformed"))
			require.Equal(t, 2, g.count())
			for range 4 {
				g.release <- struct{}{}
			}
			for _, w := range waiting {
				require.Equal(t, result{answers: answersTo(requestOf(slow))}, <-w)
			}
		})
	}
}

// The size of the requests that a node answers is bounded too. One is always answered.
func TestAnswers_AreBoundedInBytes(t *testing.T) {
	t.Parallel()
	g := newGate(realtime.OpServerAsk)
	s := startRedis(t)
	a := start(t, s, nil)
	b := start(t, s, func(_ *redisadapter.Options, r *recorder) {
		r.answer = g.answer
		r.prepare = func(a *redisadapter.Adapter) { a.LimitAnswers(100, 100, 1) }
	})
	waitForPeers(t, a, b)
	first := requesting(t, a, realtime.OpServerAsk)
	testkit.Eventually(t, "one is answered", func() bool { return g.count() == 1 })
	require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("null")}}, a.request(t, realtime.OpServerAsk))
	close(g.release)
	require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("1")}}, <-first)
	require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("1")}}, a.request(t, realtime.OpServerAsk))
}

// A request that waits for a slot until its time is over is refused. One whose node gives up, or that the
// adapter has when it closes, is not: nothing is wrong.
func TestAnswers_WaitWithinTheirTime(t *testing.T) {
	t.Parallel()
	g := newGate(realtime.OpServerAsk)
	s := startRedis(t)
	a := start(t, s, func(o *redisadapter.Options, _ *recorder) { o.RequestTimeout = patience })
	b := start(t, s, func(o *redisadapter.Options, r *recorder) {
		o.RequestTimeout = 200 * time.Millisecond
		r.answer = g.answer
		r.prepare = func(a *redisadapter.Adapter) { a.LimitAnswers(1, 10, 1<<20) }
	})
	waitForPeers(t, a, b)
	first := requesting(t, a, realtime.OpServerAsk)
	testkit.Eventually(t, "one is answered", func() bool { return g.count() == 1 })
	require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("null")}}, a.request(t, realtime.OpServerAsk))
	require.Equal(t, 1, b.log.Times(tooMany))
	close(g.release)
	require.NoError(t, (<-first).err)
}

func TestAnswers_NobodyWaits(t *testing.T) {
	t.Parallel()
	g := newGate(realtime.OpServerAsk)
	a, b := gated(t, g)
	for range 2 {
		requesting(t, a, realtime.OpServerAsk)
	}
	testkit.Eventually(t, "both are answered", func() bool { return g.count() == 2 })
	ctx, cancel := context.WithCancel(t.Context())
	given := make(chan error)
	go func() { given <- a.Request(ctx, requestOf(realtime.OpServerAsk), func(realtime.ClusterAnswer) {}) }()
	testkit.Eventually(t, "it waits", func() bool { return b.Answering(realtime.OpServerAsk) == 3 })
	cancel()
	require.ErrorIs(t, <-given, context.Canceled)
	testkit.Eventually(t, "it waits no longer", func() bool { return b.Answering(realtime.OpServerAsk) == 2 })
	require.Zero(t, b.log.Times(tooMany))
}

// A client's ack that cannot be sent to the other node is missing there, so that node gets an error.
func TestAnswers_AckThatCannotBeSent(t *testing.T) {
	t.Parallel()
	deep := strings.Repeat("[", 40) + strings.Repeat("]", 40)
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a := start(t, s, change)
			b := start(t, s, func(o *redisadapter.Options, r *recorder) {
				o.Sharded, o.MaxDepth = protocol == "sharded", 32
				r.answer = func(m realtime.ClusterMessage) []realtime.ClusterAnswer {
					if m.Op == realtime.OpAsk {
						return []realtime.ClusterAnswer{{Asked: 2}, acked(deep), acked(`1`)}
					}
					return answersTo(m)
				}
			})
			waitForPeers(t, a, b)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			acks, failed := make(chan realtime.ClusterAnswer, 2), make(chan error, 1)
			go func() {
				failed <- a.Request(ctx, requestOf(realtime.OpAsk), func(r realtime.ClusterAnswer) {
					if r.Ack != nil {
						acks <- r
					}
				})
			}()
			require.Equal(t, acked(`1`), <-acks)
			testkit.Eventually(t, "it has answered", func() bool { return b.Answering(realtime.OpAsk) == 0 })
			require.NoError(t, a.request(t, realtime.OpCount).err, "behind what it has answered")
			cancel()
			var silent *redisadapter.SilentError
			require.ErrorAs(t, <-failed, &silent)
			require.Len(t, silent.Nodes, 1)
			require.Empty(t, acks)
			require.Equal(t, 1, b.log.Times("answer not sent"))
		})
	}
}

// A handler of OnServerAsk has less time than the node that asks waits, so that null arrives there.
func TestAnswers_HandlerHasLessTime(t *testing.T) {
	t.Parallel()
	for timeout, want := range map[time.Duration]time.Duration{time.Second: 900 * time.Millisecond, time.Minute: 59500 * time.Millisecond} {
		t.Run(timeout.String(), func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			left := make(chan time.Duration, 1)
			with := func(o *redisadapter.Options, r *recorder) {
				o.RequestTimeout = timeout
				r.answer = answersTo
				r.await = func(ctx context.Context) {
					deadline, _ := ctx.Deadline()
					left <- time.Until(deadline)
				}
			}
			a, b := start(t, s, with), start(t, s, with)
			waitForPeers(t, a, b)
			require.NoError(t, a.request(t, realtime.OpServerAsk).err)
			require.LessOrEqual(t, <-left, want)
			require.NoError(t, a.request(t, realtime.OpCount).err)
			require.LessOrEqual(t, <-left, timeout)
		})
	}
}

// A node that closes answers null before it says that it leaves. The other node has got that before it
// handles the answer, if it is busy.
func TestAnswers_NodeCloses(t *testing.T) {
	t.Parallel()
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			busy, answered := make(chan struct{}), make(chan struct{})
			a := start(t, s, func(o *redisadapter.Options, r *recorder) {
				o.Sharded, o.RequestTimeout = protocol == "sharded", patience
				r.deliver = func(realtime.ClusterMessage) { <-busy }
			})
			b := start(t, s, func(o *redisadapter.Options, r *recorder) {
				if change != nil {
					change(o, r)
				}
				o.RequestTimeout = patience
				r.await = func(ctx context.Context) {
					close(answered)
					<-ctx.Done()
				}
				r.answer = func(realtime.ClusterMessage) []realtime.ClusterAnswer {
					return []realtime.ClusterAnswer{replied("null")}
				}
			})
			waitForPeers(t, a, b)
			asking := requesting(t, a, realtime.OpServerAsk)
			<-answered
			require.NoError(t, b.Publish(t.Context(), event(1)))
			b.close(t)
			testkit.Eventually(t, "the node has left", func() bool { return len(a.Peers()) == 0 })
			close(busy)
			require.Equal(t, result{answers: []realtime.ClusterAnswer{replied("null")}}, <-asking)
		})
	}
}

// If a node leaves that has not answered a ServerAsk, the error names it. Its sockets need no answer.
func TestAnswers_NodeLeavesSilently(t *testing.T) {
	t.Parallel()
	for _, op := range []realtime.ClusterOp{realtime.OpServerAsk, realtime.OpCount} {
		t.Run(string(op), func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			g := newGate(op)
			with := func(name string, answer func(realtime.ClusterMessage) []realtime.ClusterAnswer) *peer {
				return start(t, s, func(o *redisadapter.Options, r *recorder) {
					o.Name, o.RequestTimeout, r.answer = name, patience, answer
				})
			}
			a, b, c := with("a", nil), with("the one that leaves", g.answer), with("c", answersTo)
			waitForPeers(t, a, b, c)
			asking := requesting(t, a, op)
			testkit.Eventually(t, "it is asked", func() bool { return g.count() == 1 })
			closing := make(chan error, 1)
			go func() { closing <- b.Close(t.Context()) }()
			got := <-asking
			require.Equal(t, answersTo(requestOf(op)), got.answers, "the other one's")
			if op == realtime.OpServerAsk {
				var silent *redisadapter.SilentError
				require.ErrorAs(t, got.err, &silent)
				require.Len(t, silent.Nodes, 1)
				require.Contains(t, silent.Nodes[0], "the one that leaves")
				require.Zero(t, silent.Others)
				require.NotErrorIs(t, got.err, context.DeadlineExceeded)
			} else {
				require.NoError(t, got.err)
			}
			close(g.release)
			require.NoError(t, <-closing)
		})
	}
}
