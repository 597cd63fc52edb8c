// Events that a client sends again to another node.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// keptCalls is an adapter whose CallKeeper can fail, and which records what it is given.
type keptCalls struct {
	*realtimetest.HubNode

	mu     sync.Mutex // guards the fields below
	before func(ctx context.Context, method, key string) error
	values []string
	made   []string // the methods
}

func (k *keptCalls) call(ctx context.Context, method, key string, value []byte) error {
	k.mu.Lock()
	k.made = append(k.made, method)
	k.values = append(k.values, key+" "+string(value))
	before := k.before
	k.mu.Unlock()
	if before == nil {
		return nil
	}
	return before(ctx, method, key)
}

// fail has each call of the keeper begin with f, if it is not nil.
func (k *keptCalls) fail(f func(ctx context.Context, method, key string) error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	k.before = f
}

// calls returns the methods that were called, and forgets them.
func (k *keptCalls) calls() []string {
	synctest.Wait()
	k.mu.Lock()
	defer k.mu.Unlock()
	made := k.made
	k.made = nil
	return made
}

func (k *keptCalls) ClaimCall(ctx context.Context, key string, value []byte, d time.Duration) ([]byte, error) {
	if err := k.call(ctx, "claim", key, value); err != nil {
		return nil, err
	}
	return k.HubNode.ClaimCall(ctx, key, value, d)
}

func (k *keptCalls) FindCall(ctx context.Context, key string) ([]byte, error) {
	if err := k.call(ctx, "find", key, nil); err != nil {
		return nil, err
	}
	return k.HubNode.FindCall(ctx, key)
}

func (k *keptCalls) KeepCall(ctx context.Context, key string, value []byte, d time.Duration) error {
	if err := k.call(ctx, "keep", key, value); err != nil {
		return err
	}
	return k.HubNode.KeepCall(ctx, key, value, d)
}

func (k *keptCalls) ForgetCall(ctx context.Context, key string) error {
	if err := k.call(ctx, "forget", key, nil); err != nil {
		return err
	}
	return k.HubNode.ForgetCall(ctx, key)
}

// shops is a cluster whose nodes count purchases together.
type shops struct {
	nodes    []*realtimetest.Server
	adapters []*keptCalls
	made     atomic.Int64 // on all nodes
	log      logBuffer

	mu     sync.Mutex // guards before
	before func(ctx context.Context, node int) error
}

func newShops(t *testing.T, n int, configure ...func(o *realtime.Options)) *shops {
	t.Helper()
	s := &shops{}
	hub := realtimetest.NewHub()
	for i := range n {
		a := &keptCalls{HubNode: hub.Node()}
		join := func(o *realtime.Options) {
			o.Cluster.Adapter = a
			o.Namespaces = map[string]realtime.NamespaceOptions{"/shop": {}}
		}
		srv := realtimetest.NewServer(t, append(configure, join, logTo(&s.log))...)
		s.nodes, s.adapters = append(s.nodes, srv), append(s.adapters, a)
		s.sell(i)
	}
	return s
}

func (s *shops) sell(node int) {
	for _, ns := range []*realtime.Namespace{s.nodes[node].Realtime.Drivers(), s.nodes[node].Realtime.Of("/shop")} {
		purchase.Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ struct {
			Cents int `json:"cents"`
		},
		) (int, error) {
			made := int(s.made.Add(1))
			s.mu.Lock()
			before := s.before
			s.mu.Unlock()
			if before != nil {
				if err := before(ctx, node); err != nil {
					return 0, err
				}
			}
			return made, nil
		})
	}
}

// selling has each purchase call f.
func (s *shops) selling(f func(ctx context.Context, node int) error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.before = f
}

const keyed = `{"cents":5,"idempotencyKey":"k1"}`

// buy has a driver come to a node, buy there, and leave. It returns the ack.
func (s *shops) buy(t *testing.T, node int, body string) string {
	t.Helper()
	c := s.nodes[node].Driver(t, "d1")
	defer c.Close()
	ack := ackOf(t, c.Within(time.Minute), "test:purchase", body)
	synctest.Wait() // the other nodes know it
	return ack
}

// begin has a driver begin to buy at a node, and does not wait for the ack.
func (s *shops) begin(t *testing.T, node int, body string) *realtimetest.Client {
	t.Helper()
	c := s.nodes[node].Driver(t, "d1")
	require.NoError(t, c.EmitRaw("test:purchase", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}}))
	synctest.Wait()
	return c
}

func bought(n int) string { return fmt.Sprintf(`{"ok":true,"data":%d}`, n) }

func isUnavailable(t *testing.T, ack string) {
	t.Helper()
	require.Equal(t, realtime.CodeUnavailable, refusalOf(t, ack).Error.Code)
}

// A repeat gets the first ack on each node, also when the first one is gone; other users, namespaces and
// keys have nothing to do with it.
func TestRepeatsNodes_AreAnsweredWithTheFirstAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 3)
		require.Equal(t, bought(1), s.buy(t, 0, keyed))
		for range 2 {
			for node := range s.nodes {
				require.Equal(t, bought(1), s.buy(t, node, keyed))
			}
		}
		require.Equal(t, bought(2), s.buy(t, 2, `{"cents":5,"idempotencyKey":"k2"}`))
		require.NoError(t, s.nodes[2].Realtime.Shutdown(t.Context()))
		require.Equal(t, bought(2), s.buy(t, 0, `{"cents":5,"idempotencyKey":"k2"}`))
		s.adapters[0].Kill()
		require.Equal(t, bought(2), s.buy(t, 1, `{"cents":5,"idempotencyKey":"k2"}`))
		require.EqualValues(t, 2, s.made.Load())

		require.Equal(t, bought(3), ackOf(t, s.nodes[1].Driver(t, "d2"), "test:purchase", keyed))
		require.Equal(t, bought(4), ackOf(t, connect(t, s.nodes[1], "/shop", "d1", realtime.UserDriver), "test:purchase", keyed))
		require.Equal(t, bought(5), s.buy(t, 1, `{"cents":5}`))
		require.Equal(t, bought(6), s.buy(t, 1, `{"cents":5}`))
	})
}

// An event costs one call of the adapter before it is handled, and none without a key.
func TestRepeatsNodes_CallsOfTheAdapter(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		var before []string
		s.selling(func(context.Context, int) error {
			before = s.adapters[0].calls()
			return nil
		})
		s.buy(t, 0, `{"cents":5}`)
		require.Empty(t, before)
		require.Empty(t, s.adapters[0].calls())
		s.buy(t, 0, keyed)
		require.Equal(t, []string{"claim"}, before)
		require.Equal(t, []string{"keep"}, s.adapters[0].calls())
		s.buy(t, 0, keyed)
		require.Empty(t, s.adapters[0].calls())
		s.buy(t, 1, keyed)
		s.buy(t, 1, keyed)
		require.Equal(t, []string{"claim"}, s.adapters[1].calls(), "the other node remembers it too")
	})
}

// The ack does not wait until the other nodes know of it. Shutdown does.
func TestRepeatsNodes_AckDoesNotWait(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.adapters[0].fail(func(_ context.Context, method, _ string) error {
			if method == "keep" {
				time.Sleep(900 * time.Millisecond)
			}
			return nil
		})
		c := s.nodes[0].Driver(t, "d1")
		began := time.Now()
		require.Equal(t, bought(1), ackOf(t, c, "test:purchase", keyed))
		require.Less(t, time.Since(began), 100*time.Millisecond)
		require.NoError(t, s.nodes[0].Realtime.Shutdown(t.Context()))
		require.Equal(t, bought(1), s.buy(t, 1, keyed))
		require.EqualValues(t, 1, s.made.Load())
	})
}

// While the first call runs, repeats on other nodes wait for its ack, however long that takes within the
// time of a handler.
func TestRepeatsNodes_WaitForTheFirst(t *testing.T) {
	for _, takes := range []time.Duration{10 * time.Millisecond, time.Second, 9 * time.Second} {
		t.Run(takes.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShops(t, 3)
				s.selling(func(context.Context, int) error { time.Sleep(takes); return nil })
				s.begin(t, 0, keyed).Close()
				var acks sync.WaitGroup
				for i := range 4 {
					c := s.nodes[1+i%2].Driver(t, "d1").Within(time.Minute)
					acks.Go(func() {
						ack, err := c.CallRaw(t.Context(), "test:purchase", realtime.Raw{Args: []json.RawMessage{json.RawMessage(keyed)}})
						if err != nil || len(ack.Args) != 1 || string(ack.Args[0]) != bought(1) {
							t.Errorf("%v %v", ack, err)
						}
					})
				}
				acks.Wait()
				require.EqualValues(t, 1, s.made.Load())
				s.adapters[1].calls()
				require.Equal(t, bought(1), s.buy(t, 1, keyed))
				require.Empty(t, s.adapters[1].calls())
			})
		})
	}
}

// A repeat looks for the ack seldom.
func TestRepeatsNodes_FewLooks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.selling(func(context.Context, int) error { time.Sleep(9 * time.Second); return nil })
		s.begin(t, 0, keyed)
		require.Equal(t, bought(1), s.buy(t, 1, keyed))
		require.Less(t, len(s.adapters[1].calls()), 16)
	})
}

// A call that was abandoned runs until it returns, for the other nodes too. A repeat waits no longer than a handler may run.
func TestRepeatsNodes_OfAnAbandonedCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2, func(o *realtime.Options) { o.Timeouts.Handler = time.Second })
		goOn := make(chan struct{})
		s.selling(func(context.Context, int) error { <-goOn; return nil })
		isUnavailable(t, s.buy(t, 0, keyed))
		time.Sleep(time.Minute)
		c := s.nodes[1].Driver(t, "d1")
		began := time.Now()
		isUnavailable(t, ackOf(t, c, "test:purchase", keyed))
		require.LessOrEqual(t, time.Since(began), 1100*time.Millisecond)
		close(goOn)
		synctest.Wait()
		require.Equal(t, bought(1), s.buy(t, 1, keyed))
		require.EqualValues(t, 1, s.made.Load())
	})
}

// A node that dies in the middle blocks a key for ten seconds. A repeat that waits is not handled, the next one is.
func TestRepeatsNodes_NodeDies(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		goOn := make(chan struct{})
		s.selling(func(_ context.Context, node int) error {
			if node == 0 {
				<-goOn
			}
			return nil
		})
		s.begin(t, 0, keyed)
		time.Sleep(7 * time.Second) // its claim was renewed
		s.adapters[0].Kill()
		began := time.Now()
		isUnavailable(t, s.buy(t, 1, keyed))
		require.Less(t, time.Since(began), 10*time.Second)
		require.Equal(t, bought(2), s.buy(t, 1, keyed))
		close(goOn)
		synctest.Wait()
		require.Equal(t, bought(2), s.buy(t, 1, keyed))
	})
}

// A node that has lost a claim, because it was cut off for long, does not take it back, and does not remove
// what the other one has stored.
func TestRepeatsNodes_ClaimThatIsLost(t *testing.T) {
	for _, err := range []error{nil, realtime.Errorf(realtime.CodeUnavailable, "no")} {
		t.Run(fmt.Sprint(err), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShops(t, 4, func(o *realtime.Options) { o.Timeouts.Handler = time.Minute })
				goOn := make(chan struct{})
				s.selling(func(_ context.Context, node int) error {
					if node == 0 {
						<-goOn
						return err
					}
					return nil
				})
				s.begin(t, 0, keyed)
				s.adapters[0].Cut()
				time.Sleep(15 * time.Second)
				require.Equal(t, bought(2), s.buy(t, 1, keyed))
				s.adapters[0].Heal()
				time.Sleep(10 * time.Second) // enough for a renewal
				require.Equal(t, bought(2), s.buy(t, 2, keyed))
				close(goOn)
				synctest.Wait()
				require.Equal(t, bought(2), s.buy(t, 1, keyed))
				last := 1 // the ack that was stored last
				if err != nil {
					last = 2
				}
				require.Equal(t, bought(last), s.buy(t, 3, keyed))
				require.EqualValues(t, 2, s.made.Load())
			})
		})
	}
}

// The same key with another body is a conflict on each node, while the first call runs and after it. The right
// body still gets the first ack, on the node of the conflict too.
func TestRepeatsNodes_OtherBody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.selling(func(context.Context, int) error { time.Sleep(time.Second); return nil })
		conflict := func() {
			t.Helper()
			began := time.Now()
			refused := refusalOf(t, s.buy(t, 1, `{"cents":6,"idempotencyKey":"k1"}`))
			require.Equal(t, realtime.CodeConflict, refused.Error.Code)
			require.Equal(t, []string{"idempotencyKey"}, refused.Error.Fields)
			require.Less(t, time.Since(began), 100*time.Millisecond)
		}
		c := s.begin(t, 0, keyed)
		conflict()
		require.Equal(t, bought(1), ackOf(t, c, "test:purchase", keyed))
		conflict()
		require.Equal(t, bought(1), s.buy(t, 1, keyed))
		conflict()
		require.EqualValues(t, 1, s.made.Load())
	})
}

// After an ack that says to try again any node makes the call, at once. Other refusals are acks.
func TestRepeatsNodes_OfFailures(t *testing.T) {
	for code, calls := range map[realtime.Code]int64{
		realtime.CodeConflict: 1, realtime.CodeForbidden: 1, "mine": 1,
		realtime.CodeUnavailable: 6, realtime.CodeInternal: 6, realtime.CodeRateLimited: 6,
	} {
		t.Run(string(code), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShops(t, 2)
				s.selling(func(context.Context, int) error { return realtime.Errorf(code, "no") })
				phones := []*realtimetest.Client{s.nodes[0].Driver(t, "d1"), s.nodes[1].Driver(t, "d1")}
				for _, node := range []int{0, 1, 1, 0, 0, 1} {
					began := time.Now()
					require.Equal(t, code, refusalOf(t, ackOf(t, phones[node], "test:purchase", keyed)).Error.Code)
					require.Less(t, time.Since(began), 10*time.Millisecond)
					if calls == 1 {
						synctest.Wait()
					}
				}
				require.Equal(t, calls, s.made.Load())
			})
		})
	}
	t.Run("the adapter is slow", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newShops(t, 2)
			s.selling(func(context.Context, int) error { return realtime.Errorf(realtime.CodeUnavailable, "no") })
			s.adapters[0].fail(func(_ context.Context, method, _ string) error {
				if method == "forget" {
					time.Sleep(200 * time.Millisecond)
				}
				return nil
			})
			phones := []*realtimetest.Client{s.nodes[0].Driver(t, "d1"), s.nodes[1].Driver(t, "d1")}
			isUnavailable(t, ackOf(t, phones[0], "test:purchase", keyed))
			s.selling(nil)
			require.Equal(t, bought(2), ackOf(t, phones[1], "test:purchase", keyed), "the key was free before the ack came")
		})
	})
	t.Run("the adapter is slow, and the ack cannot be sent", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newShops(t, 2, func(o *realtime.Options) { o.Limits.OutboxBytes = 1 << 16 })
			s.adapters[0].fail(func(_ context.Context, method, _ string) error {
				if method == "forget" {
					time.Sleep(200 * time.Millisecond)
				}
				return nil
			})
			size := 1 << 17
			for _, srv := range s.nodes {
				srv.Realtime.Drivers().HandleRaw("sized", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
					return realtime.Raw{Args: []json.RawMessage{json.RawMessage(quote(strings.Repeat("x", size)))}}, nil
				})
			}
			phones := []*realtimetest.Client{s.nodes[0].Driver(t, "d1"), s.nodes[1].Driver(t, "d1")}
			require.Equal(t, realtime.CodeInternal, refusalOf(t, ackOf(t, phones[0], "sized", keyed)).Error.Code)
			size = 1
			require.Equal(t, `"x"`, ackOf(t, phones[1], "sized", keyed), "the key was free before the ack came")
		})
	})
	t.Run("while a repeat waits", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newShops(t, 2)
			s.selling(func(context.Context, int) error { time.Sleep(time.Second); return errors.New("no") })
			s.begin(t, 0, keyed)
			isUnavailable(t, s.buy(t, 1, keyed))
			require.EqualValues(t, 1, s.made.Load())
			require.Equal(t, realtime.CodeInternal, refusalOf(t, s.buy(t, 1, keyed)).Error.Code)
		})
	})
	t.Run("an ack that cannot be sent", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s := newShops(t, 2, func(o *realtime.Options) { o.Limits.OutboxBytes = 1 << 16 })
			for _, srv := range s.nodes {
				srv.Realtime.Drivers().HandleRaw("large", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
					s.made.Add(1)
					return realtime.Raw{Args: []json.RawMessage{json.RawMessage(quote(strings.Repeat("x", 1<<17)))}}, nil
				})
			}
			for i := range 4 {
				require.Equal(t, realtime.CodeInternal, refusalOf(t, ackOf(t, s.nodes[i%2].Driver(t, "d1"), "large", keyed)).Error.Code)
				synctest.Wait()
			}
			require.EqualValues(t, 4, s.made.Load())
		})
	})
}

// An ack is stored up to a few KiB, with binary data and every character as they were. Of a larger one the
// other nodes know that there is one: they do not make the call again.
func TestRepeatsNodes_SizeOfTheAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2, func(o *realtime.Options) { o.Limits.OutboxBytes = 32 << 20 })
		for _, srv := range s.nodes {
			srv.Realtime.Drivers().HandleRaw("sized", func(_ context.Context, _ *realtime.Socket, args realtime.Raw) (realtime.Raw, error) {
				s.made.Add(1)
				var in struct{ Size, Files int }
				if err := json.Unmarshal(args.Args[0], &in); err != nil {
					return realtime.Raw{}, err
				}
				ack := realtime.Raw{Args: []json.RawMessage{json.RawMessage(quote(strings.Repeat("<", in.Size)))}}
				for n := range in.Files {
					ack.Args = append(ack.Args, json.RawMessage(fmt.Sprintf(`{ "_placeholder" :true,"num":%d}`, n)))
					ack.Attachments = append(ack.Attachments, []byte{0, 0xff, byte(n)})
				}
				return ack, nil
			})
		}
		call := func(node int, body string) realtime.Raw {
			t.Helper()
			ack, err := s.nodes[node].Driver(t, "d1").CallRaw(t.Context(), "sized", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}})
			require.NoError(t, err)
			synctest.Wait()
			return ack
		}
		for i, size := range []string{`"size":0`, `"size":100`, `"size":900`, `"size":0,"files":3`} {
			body := fmt.Sprintf(`{%s,"idempotencyKey":"k%d"}`, size, i)
			require.Equal(t, call(0, body), call(1, body), size)
			require.EqualValues(t, i+1, s.made.Load())
		}
		for i, size := range []string{`"size":1300`, `"size":100000`} {
			body := fmt.Sprintf(`{%s,"idempotencyKey":"l%d"}`, size, i)
			first := call(0, body)
			isUnavailable(t, string(call(1, body).Args[0]))
			require.Equal(t, first, call(0, body))
			require.EqualValues(t, 5+i, s.made.Load())
		}
		const huge = `{"size":2000000,"idempotencyKey":"m"}` // no node remembers it
		require.Equal(t, call(0, huge), call(1, huge))
		require.EqualValues(t, 8, s.made.Load())
		for _, v := range s.adapters[0].values {
			require.Less(t, len(v), 8<<10+100)
		}
	})
}

// If the adapter fails, or does not answer, an event is handled as on one node, a moment later at most.
func TestRepeatsNodes_AdapterFails(t *testing.T) {
	down := errors.New("down")
	for name, f := range map[string]func(ctx context.Context) error{
		"error":             func(context.Context) error { return down },
		"no answer":         func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() },
		"no answer for 5 s": func(context.Context) error { time.Sleep(5 * time.Second); return down },
		"panic":             func(context.Context) error { panic("down") },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShops(t, 2)
				for _, a := range s.adapters {
					a.fail(func(ctx context.Context, _, _ string) error { return f(ctx) })
				}
				c := s.nodes[0].Driver(t, "d1")
				began := time.Now()
				require.Equal(t, bought(1), ackOf(t, c, "test:purchase", keyed))
				require.LessOrEqual(t, time.Since(began), 310*time.Millisecond)
				require.Equal(t, bought(1), ackOf(t, c, "test:purchase", keyed), "this node remembers it")
				require.Equal(t, bought(2), ackOf(t, s.nodes[1].Driver(t, "d1"), "test:purchase", keyed))
				time.Sleep(time.Minute)
				require.Contains(t, s.log.String(), "CallKeeper.ClaimCall")
				require.NotContains(t, s.log.String(), "k1")
			})
		})
	}
}

// Redis took a claim and did not answer in time: the node stores the ack all the same, and can make the call again
// at once.
func TestRepeatsNodes_AnswerOfTheAdapterIsLost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		lost := errors.New("the answer is lost")
		lose := func(what string) {
			s.adapters[0].fail(func(ctx context.Context, method, key string) error {
				if method != what {
					return nil
				}
				if what == "claim" {
					_, err := s.adapters[0].HubNode.ClaimCall(ctx, key, []byte(s.adapters[0].last(key)), 10*time.Second)
					require.NoError(t, err)
				}
				return lost
			})
		}
		lose("claim")
		require.Equal(t, bought(1), s.buy(t, 0, keyed))
		require.Equal(t, bought(1), s.buy(t, 1, keyed))

		const again = `{"cents":5,"idempotencyKey":"k2"}`
		s.selling(func(context.Context, int) error { return realtime.Errorf(realtime.CodeUnavailable, "no") })
		isUnavailable(t, s.buy(t, 0, again))
		lose("forget")
		isUnavailable(t, s.buy(t, 0, again))
		s.selling(nil)
		began := time.Now()
		require.Equal(t, bought(4), s.buy(t, 0, again))
		require.Less(t, time.Since(began), 100*time.Millisecond)
		require.Equal(t, bought(4), s.buy(t, 1, again))
	})
}

// A node that could not release a key claims it anew with its next try: the claim does not end when the former one
// would have.
func TestRepeatsNodes_KeyThatWasNotReleased(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.adapters[0].fail(func(_ context.Context, method, _ string) error {
			if method == "forget" {
				return errors.New("down")
			}
			return nil
		})
		s.selling(func(context.Context, int) error { return realtime.Errorf(realtime.CodeUnavailable, "no") })
		isUnavailable(t, s.buy(t, 0, keyed))
		time.Sleep(9 * time.Second)
		s.selling(func(context.Context, int) error { time.Sleep(5 * time.Second); return nil })
		s.begin(t, 0, keyed)
		time.Sleep(2 * time.Second)
		require.Equal(t, bought(2), s.buy(t, 1, keyed))
		require.EqualValues(t, 2, s.made.Load())
	})
}

// last returns the value that was given last for a key.
func (k *keptCalls) last(key string) string {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, v := range slices.Backward(k.values) {
		if value, ok := strings.CutPrefix(v, key+" "); ok && value != "" {
			return value
		}
	}
	return ""
}

// The adapter fails while a repeat waits: the call may still run, so it is not made twice.
func TestRepeatsNodes_AdapterFailsWhileOneWaits(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.selling(func(context.Context, int) error { time.Sleep(6 * time.Second); return nil })
		s.begin(t, 0, keyed)
		end := time.Now().Add(4 * time.Second)
		s.adapters[1].fail(func(_ context.Context, method, _ string) error {
			if method == "find" && time.Now().Before(end) {
				return errors.New("down")
			}
			return nil
		})
		require.Equal(t, bought(1), s.buy(t, 1, keyed))
		require.EqualValues(t, 1, s.made.Load())
		require.Contains(t, s.log.String(), "CallKeeper.FindCall")
	})
}

// What is no value of this server is an error of the adapter.
func TestRepeatsNodes_BadValues(t *testing.T) {
	hash := `"body":"` + strings.Repeat("A", 43) + `="`
	for _, value := range []string{
		"", "null", "{}", "[]", "x", `{"node":"n"}`, `{"node":"n","body":"AAAA"}`, `{"node":"` + strings.Repeat("n", 65) + `",` + hash + `}`, `{` + hash + `}`,
		`{"node":"n",` + hash + `,"answer":{"args":["MQ=="]}}`, `{"node":"n",` + hash + `,"ended":true,"answer":{"args":["eA=="]}}`,
		`{"node":"n",` + hash + `,"ended":true,"more":"` + strings.Repeat("x", 8<<10) + `"}`,
	} {
		t.Run(value[:min(len(value), 100)], func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := newShops(t, 1)
				s.adapters[0].fail(func(ctx context.Context, _, key string) error {
					return s.adapters[0].HubNode.KeepCall(ctx, key, []byte(value), time.Minute)
				})
				require.Equal(t, bought(1), s.buy(t, 0, keyed))
				require.Contains(t, s.log.String(), "CallKeeper.ClaimCall")
			})
		})
	}
}

// When a user's oldest ack makes room on a node, the other nodes forget it too: what a user has them keep is bounded.
func TestRepeatsNodes_Bounds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2, func(o *realtime.Options) { o.Limits.RememberedCalls = 3 })
		require.Equal(t, bought(1), s.buy(t, 0, keyed))
		for i := range 3 {
			s.buy(t, 0, fmt.Sprintf(`{"cents":5,"idempotencyKey":"y%d"}`, i))
		}
		require.Equal(t, []string{"claim", "keep", "claim", "keep", "claim", "keep", "claim", "keep", "forget"}, s.adapters[0].calls())
		require.Equal(t, bought(5), s.buy(t, 1, keyed))
		require.Equal(t, bought(2), s.buy(t, 1, `{"cents":5,"idempotencyKey":"y0"}`))

		time.Sleep(2*time.Minute + time.Second)
		require.Equal(t, bought(6), s.buy(t, 1, `{"cents":5,"idempotencyKey":"y0"}`), "forgotten after two minutes")
	})
}

// What the adapter keeps names neither the user nor the key, nor what the client has sent.
func TestRepeatsNodes_WhatIsKept(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := newShops(t, 2)
		s.buy(t, 0, `{"cents":5,"phone":"+5355512345","idempotencyKey":"secret-key"}`)
		ackOf(t, s.nodes[0].Driver(t, "somebody"), "test:purchase", `{"cents":5,"phone":"+5355512345","idempotencyKey":"secret-key"}`)
		synctest.Wait()
		values := s.adapters[0].values
		require.Len(t, values, 4)
		for _, v := range values {
			for _, secret := range []string{"d1", "somebody", "drivers", "purchase", "secret", "55512345", "cents"} {
				require.NotContains(t, strings.ToLower(v), secret)
			}
			require.Regexp(t, `^[A-Za-z0-9_-]{43} `, v)
		}
		hashOf := func(v string) string {
			var c struct{ Body string }
			_, value, _ := strings.Cut(v, " ")
			require.NoError(t, json.Unmarshal([]byte(value), &c))
			require.Len(t, c.Body, 44)
			return c.Body
		}
		require.Equal(t, hashOf(values[0]), hashOf(values[1]))
		require.NotEqual(t, hashOf(values[0]), hashOf(values[2]), "the same body of another user")
	})
}

// Any order of tries, at all nodes and at once, whose handlers take any time, also too long, and fail now and then, while
// the adapter is slow: a call is not made twice at once, nor after an outcome, and each try gets that outcome or is to be sent again.
func TestRepeatsNodes_AnyOrder(t *testing.T) {
	for seed := range uint64(10) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				random := rand.New(rand.NewPCG(seed, 1))
				var mu sync.Mutex // guards random, the maps and outcomes
				pick := func(n int) int {
					mu.Lock()
					defer mu.Unlock()
					return random.IntN(n)
				}
				running, outcome, made := map[string]bool{}, map[string]string{}, map[string]int{}
				outcomes := 0
				s := newShops(t, 3, func(o *realtime.Options) { o.Timeouts.Handler = 4 * time.Second })
				for _, a := range s.adapters {
					a.fail(func(context.Context, string, string) error {
						time.Sleep(time.Duration(pick(60)) * time.Millisecond)
						return nil
					})
				}
				for _, n := range s.nodes {
					n.Realtime.Drivers().HandleRaw("any", func(_ context.Context, _ *realtime.Socket, r realtime.Raw) (realtime.Raw, error) {
						key := string(r.Args[0])
						mu.Lock()
						if running[key] || outcome[key] != "" {
							t.Errorf("%s made again: running %v, outcome %s", key, running[key], outcome[key])
						}
						running[key] = true
						made[key]++
						n := made[key]
						takes, how := []int{0, 5, 300, 3000, 3990, 7000, 9000, 20000}[random.IntN(8)], random.IntN(4)
						mu.Unlock()
						time.Sleep(time.Duration(takes) * time.Millisecond)
						mu.Lock()
						defer mu.Unlock()
						running[key] = false
						switch how {
						case 0:
							return realtime.Raw{}, errors.New("no")
						case 1:
							outcome[key] = fmt.Sprintf("conflict %d", n)
							return realtime.Raw{}, realtime.Errorf(realtime.CodeConflict, "conflict %d", n)
						}
						outcome[key] = fmt.Sprint(n)
						return realtime.Raw{Args: []json.RawMessage{json.RawMessage(fmt.Sprint(n))}}, nil
					})
				}
				var all sync.WaitGroup
				for range 6 {
					all.Go(func() {
						for range 15 {
							time.Sleep(time.Duration(pick(4000)) * time.Millisecond)
							node, body := s.nodes[pick(3)], fmt.Sprintf(`{"idempotencyKey":"k%d"}`, pick(4))
							c, err := node.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(node.Login("d1", realtime.UserDriver)))
							if err != nil {
								t.Error(err)
								return
							}
							ack, err := c.Within(time.Minute).CallRaw(t.Context(), "any", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}})
							c.Close()
							if err != nil {
								t.Error(err)
								return
							}
							mu.Lock()
							switch got := string(ack.Args[0]); {
							case strings.Contains(got, `"unavailable"`), strings.Contains(got, `"internal"`): // it is to be sent again
							case outcome[body] == "" || !strings.Contains(got, outcome[body]):
								t.Errorf("%s: ack %s, outcome %q", body, got, outcome[body])
							default:
								outcomes++
							}
							mu.Unlock()
						}
					})
				}
				all.Wait()
				require.Greater(t, outcomes, 20)
			})
		})
	}
}

func TestRepeatsNodes_AdapterThatIsNoCallKeeper(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		for range 2 {
			srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = plainAdapter{hub.Node()} })
			made := countPurchases(srv.Realtime.Drivers(), nil)
			for range 2 {
				require.Equal(t, bought(1), ackOf(t, srv.Driver(t, "d1"), "test:purchase", keyed))
			}
			require.EqualValues(t, 1, made.Load())
		}
	})
}
