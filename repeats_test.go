// Events that a client sends again, because it received no ack.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
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

// purchase is a call that must not be made twice.
var purchase = realtime.NewCall[struct {
	Cents int `json:"cents"`
}, int]("test:purchase")

// countPurchases handles purchases, of which each costs one more, and returns their number. before is
// called within each, and may be nil; its error is the handler's.
func countPurchases(ns *realtime.Namespace, before func(ctx context.Context) error) *atomic.Int64 {
	n := new(atomic.Int64)
	purchase.Handle(ns, func(ctx context.Context, _ *realtime.Socket, _ struct {
		Cents int `json:"cents"`
	},
	) (int, error) {
		made := int(n.Add(1))
		if before != nil {
			if err := before(ctx); err != nil {
				return 0, err
			}
		}
		return made, nil
	})
	return n
}

// A repeat is answered with the first ack, also on another socket of the user; other users,
// namespaces, events and keys have nothing to do with it.
func TestRepeats_AreAnsweredWithTheFirstAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Namespaces = map[string]realtime.NamespaceOptions{"/shop": {}}
		})
		made, elsewhere := countPurchases(srv.Realtime.Drivers(), nil), countPurchases(srv.Realtime.Of("/shop"), nil)
		other := new(atomic.Int64)
		srv.Realtime.Drivers().HandleRaw("test:other", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			other.Add(1)
			return realtime.Raw{}, nil
		})
		phone := srv.Driver(t, "d1")
		const body = `{"cents":5,"idempotencyKey":"k1"}`
		for range 3 {
			require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, phone, "test:purchase", body))
		}
		phone.Close()
		tablet := srv.Driver(t, "d1")
		require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, tablet, "test:purchase", body))
		require.NoError(t, tablet.EmitRaw("test:purchase", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}}), "without an ack")
		synctest.Wait()
		require.EqualValues(t, 1, made.Load())

		require.Equal(t, `{"ok":true,"data":2}`, ackOf(t, tablet, "test:purchase", `{"cents":5,"idempotencyKey":"k2"}`))
		require.Equal(t, `{"ok":true,"data":3}`, ackOf(t, srv.Driver(t, "d2"), "test:purchase", body))
		require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, connect(t, srv, "/shop", "d1", realtime.UserDriver), "test:purchase", body))
		require.EqualValues(t, 1, elsewhere.Load())
		for range 2 {
			_, err := tablet.CallRaw(t.Context(), "test:other", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}})
			require.NoError(t, err)
		}
		require.EqualValues(t, 1, other.Load())
		for n := range 2 { // no key
			require.Equal(t, fmt.Sprintf(`{"ok":true,"data":%d}`, 4+n), ackOf(t, tablet, "test:purchase", `{"cents":5}`))
		}
	})
}

// While the first call runs, the repeats wait for its ack, however many there are.
func TestRepeats_WaitForTheFirst(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		goOn := make(chan struct{})
		made := countPurchases(srv.Realtime.Drivers(), func(context.Context) error { <-goOn; return nil })
		const body = `{"cents":5,"idempotencyKey":"k1"}`
		lost := srv.Driver(t, "d1")
		require.NoError(t, lost.EmitRaw("test:purchase", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}}))
		synctest.Wait()
		lost.Close()
		var acks sync.WaitGroup
		for range 4 {
			c := srv.Driver(t, "d1")
			acks.Go(func() {
				ack, err := c.CallRaw(t.Context(), "test:purchase", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}})
				if err != nil || len(ack.Args) != 1 || string(ack.Args[0]) != `{"ok":true,"data":1}` {
					t.Errorf("%v %v", ack, err)
				}
			})
		}
		time.Sleep(2 * time.Second)
		close(goOn)
		acks.Wait()
		require.EqualValues(t, 1, made.Load())
	})
}

// A repeat waits no longer than a handler may run. A first call that was abandoned is not made again
// while it runs, and what it comes to in the end is remembered.
func TestRepeats_OfAnAbandonedCall(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Logger, o.Timeouts.Handler = discarded(), time.Second })
		goOn := make(chan struct{})
		made := countPurchases(srv.Realtime.Drivers(), func(context.Context) error { <-goOn; return nil })
		const body = `{"cents":5,"idempotencyKey":"k1"}`
		require.Contains(t, ackOf(t, srv.Driver(t, "d1"), "test:purchase", body), "unavailable")
		c := srv.Driver(t, "d1")
		began := time.Now()
		require.Contains(t, ackOf(t, c, "test:purchase", body), "unavailable")
		require.LessOrEqual(t, time.Since(began), 1100*time.Millisecond)
		close(goOn)
		synctest.Wait()
		require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, c, "test:purchase", body))
		require.EqualValues(t, 1, made.Load())
	})
}

// A refusal is an answer too, unless it says to try again.
func TestRepeats_OfFailures(t *testing.T) {
	for code, calls := range map[realtime.Code]int64{
		realtime.CodeConflict: 1, realtime.CodeInvalidPayload: 1, realtime.CodeForbidden: 1, realtime.CodeNotFound: 1,
		realtime.CodeUnavailable: 3, realtime.CodeInternal: 3, realtime.CodeRateLimited: 3,
	} {
		t.Run(string(code), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				made := countPurchases(srv.Realtime.Drivers(), func(context.Context) error { return realtime.Errorf(code, "no") })
				c := srv.Driver(t, "d1")
				for range 3 {
					require.Equal(t, code, refusalOf(t, ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":"k1"}`)).Error.Code)
				}
				require.Equal(t, calls, made.Load())
			})
		})
	}
	t.Run("a panic", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Logger = discarded() })
			made := countPurchases(srv.Realtime.Drivers(), func(context.Context) error { panic("no") })
			c := srv.Driver(t, "d1")
			for range 3 {
				require.Equal(t, realtime.CodeInternal, refusalOf(t, ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":"k1"}`)).Error.Code)
			}
			require.EqualValues(t, 3, made.Load())
		})
	})
}

func TestRepeats_Keys(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		made := countPurchases(srv.Realtime.Drivers(), nil)
		c := srv.Driver(t, "d1")
		for _, key := range []string{`5`, `true`, `{}`, `["k"]`, quote(strings.Repeat("k", 129))} {
			refused := refusalOf(t, ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":`+key+`}`))
			require.Equal(t, realtime.CodeInvalidPayload, refused.Error.Code, key)
			require.Equal(t, []string{"idempotencyKey"}, refused.Error.Fields, key)
		}
		require.Zero(t, made.Load())
		for _, none := range []string{`"idempotencyKey":null`, `"idempotencyKey":""`, `"more":{"idempotencyKey":"k1"}`, `"more":"\"idempotencyKey\""`} {
			was := made.Load()
			for range 2 {
				ackOf(t, c, "test:purchase", `{"cents":5,`+none+`}`)
			}
			require.Equal(t, was+2, made.Load(), none)
		}
		was := made.Load()
		for range 2 {
			require.Equal(t, fmt.Sprintf(`{"ok":true,"data":%d}`, was+1), ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":`+quote(strings.Repeat("ñ", 64))+`}`))
		}
		require.Contains(t, ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":"other"}`), `"ok":true`)
		refused := refusalOf(t, ackOf(t, c, "test:purchase", `{"cents":6,"idempotencyKey":"other"}`))
		require.Equal(t, realtime.CodeConflict, refused.Error.Code, "another body")
		require.Equal(t, []string{"idempotencyKey"}, refused.Error.Fields)
		require.Equal(t, was+2, made.Load())
	})
}

// What a handler of the library emits, it emits once; no interceptor sees a repeat.
func TestRepeats_EmitNothing(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		seen := new(atomic.Int64)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Interceptors = []realtime.Interceptor{func(next realtime.CallFunc) realtime.CallFunc {
				return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
					seen.Add(1)
					return next(ctx, r)
				}
			}}
		})
		watcher, c := srv.Admin(t, "a1"), srv.Driver(t, "d1")
		first := ackOf(t, c, "driver:status:update", `{"isOnline":true,"idempotencyKey":"k1"}`)
		time.Sleep(time.Second)
		require.Equal(t, first, ackOf(t, c, "driver:status:update", `{"isOnline":true,"idempotencyKey":"k1"}`))
		require.Equal(t, []string{"hello", "admin:driver:availability:update"}, namesOf(watcher))
		require.Equal(t, []string{"hello", "driver:availability:update"}, namesOf(c))
		require.EqualValues(t, 1, seen.Load())
	})
}

// A call that changes its socket is made on each socket.
func TestRepeats_OfCallsThatChangeTheSocket(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		for range 2 {
			c := srv.Admin(t, "a1")
			require.Equal(t, `{"ok":true,"data":{"tripId":"t1"}}`, ackOf(t, c, "admin:trip:join", `{"tripId":"t1","idempotencyKey":"k1"}`))
			found, err := srv.Realtime.Admin().To(realtime.TripRoom("t1")).Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, found, 1)
			require.Equal(t, c.ID(), found[0].ID)
			c.Close()
			synctest.Wait()
		}
	})
}

// An ack is remembered for two minutes, and at most so many of a user: one who uses many keys
// forgets their own only.
func TestRepeats_Bounds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.RememberedCalls = 3 })
		made := countPurchases(srv.Realtime.Drivers(), nil)
		victim, hostile := srv.Driver(t, "d1"), srv.Driver(t, "d2")
		const body = `{"cents":5,"idempotencyKey":"k1"}`
		require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, victim, "test:purchase", body))
		for i := range 1000 {
			ackOf(t, hostile, "test:purchase", fmt.Sprintf(`{"cents":5,"idempotencyKey":"x%d"}`, i))
		}
		time.Sleep(119 * time.Second)
		require.Equal(t, `{"ok":true,"data":1}`, ackOf(t, victim, "test:purchase", body))
		for i := range 3 {
			ackOf(t, victim, "test:purchase", fmt.Sprintf(`{"cents":5,"idempotencyKey":"y%d"}`, i))
		}
		was := made.Load()
		require.Equal(t, fmt.Sprintf(`{"ok":true,"data":%d}`, was+1), ackOf(t, victim, "test:purchase", body), "forgotten for three others")
		time.Sleep(2 * time.Minute)
		require.Equal(t, fmt.Sprintf(`{"ok":true,"data":%d}`, was+2), ackOf(t, victim, "test:purchase", body), "forgotten after two minutes")
	})
}

func TestRepeats_SwitchedOff(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.RememberedCalls = -1 })
		made := countPurchases(srv.Realtime.Drivers(), nil)
		c := srv.Driver(t, "d1")
		for range 2 {
			ackOf(t, c, "test:purchase", `{"cents":5,"idempotencyKey":"k1"}`)
		}
		require.EqualValues(t, 2, made.Load())
	})
}

// A client that did not ask for an ack may ask for it when it repeats the event. An ack that cannot be sent is then
// an error as well, and not the end of the connection, each time that the app tries.
func TestRepeats_OfAnEventWithoutAnAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Limits.OutboxBytes = 1 << 16 })
		size := 1
		srv.Realtime.Drivers().HandleRaw("sized", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{Args: []json.RawMessage{json.RawMessage(quote(strings.Repeat("x", size)))}}, nil
		})
		phone := srv.Driver(t, "d1")
		for key, n := range map[string]int{"small": 1, "large": 1 << 17} {
			size = n
			body := fmt.Sprintf(`{"idempotencyKey":%q}`, key)
			require.NoError(t, phone.EmitRaw("sized", realtime.Raw{Args: []json.RawMessage{json.RawMessage(body)}}))
			ack := ackOf(t, phone, "sized", body)
			if n == 1 {
				require.Equal(t, `"x"`, ack)
			} else {
				require.Equal(t, realtime.CodeInternal, refusalOf(t, ack).Error.Code)
			}
		}
		require.True(t, phone.Connected())
	})
}
