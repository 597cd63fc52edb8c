// The conformance suite for event buses. Each sentence of EventBus's documentation is a
// test.

package realtimetest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// patience is the time that a suite waits for what must happen; settling is the time
// that it watches for what must not.
const (
	patience = 20 * time.Second
	settling = 50 * time.Millisecond
)

// TestEventBus checks that a bus does what realtime.EventBus promises. newBus returns a
// new bus that receives no events of other buses, and closes it with t.Cleanup. The suite
// ignores an event that is delivered again, as a bus that retries may do.
func TestEventBus(t *testing.T, newBus func(t *testing.T) realtime.EventBus) {
	t.Helper()
	for name, test := range map[string]func(t *testing.T, b realtime.EventBus){
		"every subscriber gets every event as it was published": testBusDelivers,
		"a key's events come in order and one at a time":        testBusOrder,
		"a slow key does not delay other keys":                  testBusConcurrency,
		"a subscription starts with Subscribe":                  testBusBegin,
		"cancel ends a subscription and waits for its handlers": testBusCancel,
		"after a handler's error events are still delivered":    testBusError,
		"a handler may publish":                                 testBusPublishInHandler,
		"Publish returns when its ctx ends":                     testBusContext,
	} {
		t.Run(name, func(t *testing.T) { test(t, newBus(t)) })
	}
}

// busRecorder is a handler that records each event once.
type busRecorder struct {
	mu     sync.Mutex // guards the fields below
	events []realtime.Envelope
	seen   map[string]bool
}

func (r *busRecorder) handle(_ context.Context, e realtime.Envelope) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.seen == nil {
		r.seen = map[string]bool{}
	}
	if !r.seen[e.ID] {
		r.seen[e.ID] = true
		r.events = append(r.events, e)
	}
	return nil
}

func (r *busRecorder) all() []realtime.Envelope {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.events)
}

func (r *busRecorder) ids() []string {
	var ids []string
	for _, e := range r.all() {
		ids = append(ids, e.ID)
	}
	return ids
}

func subscribe(t *testing.T, b realtime.EventBus, handler func(context.Context, realtime.Envelope) error) (cancel func()) {
	t.Helper()
	cancel, err := b.Subscribe(handler)
	if err != nil {
		t.Fatalf("Subscribe: %v", err)
	}
	cancel = sync.OnceFunc(cancel)
	t.Cleanup(cancel)
	return cancel
}

func publish(t *testing.T, b realtime.EventBus, es ...realtime.Envelope) {
	t.Helper()
	for _, e := range es {
		if err := b.Publish(t.Context(), e); err != nil {
			t.Fatalf("Publish: %v", err)
		}
	}
}

// event returns an event whose id is its key and number.
func event(key string, n int) realtime.Envelope {
	return realtime.Envelope{
		ID: fmt.Sprintf("%s/%d", key, n), Name: "test.happened", Key: key,
		At: time.Date(2026, 5, 4, 10, 20, 30, 123e6, time.UTC), Data: fmt.Appendf(nil, `{"n":%d}`, n),
	}
}

// eventually waits until ok reports true. It is not testkit's, which only tests may import:
// hosts compile this package.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); {
		if time.Now().After(deadline) {
			t.Fatalf("not within %v: %s", patience, what)
		}
		time.Sleep(time.Millisecond)
	}
}

func testBusDelivers(t *testing.T, b realtime.EventBus) {
	var one, two busRecorder
	subscribe(t, b, one.handle)
	subscribe(t, b, two.handle)
	large := event("large", 1)
	large.Data = []byte(`"` + strings.Repeat("x", 256<<10) + `"`)
	odd := event("clé \u0000 \"'\\ 🚕", 1)
	odd.Name, odd.Data = "host.élan", []byte("{\"a\": \"\\u00e9 🚕\",\n \"b\":1e400}")
	keyless := event("", 1)
	traced := event("traced", 1)
	traced.Headers = map[string]string{"traceparent": "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01", "tracestate": "a=\"b\",\n🚕%", "empty": ""}
	sent := []realtime.Envelope{event("a", 1), large, odd, keyless, traced}
	publish(t, b, sent...)
	for name, r := range map[string]*busRecorder{"first": &one, "second": &two} {
		eventually(t, "the "+name+" subscriber gets everything", func() bool { return len(r.all()) >= len(sent) })
		for _, got := range r.all() {
			i := slices.IndexFunc(sent, func(e realtime.Envelope) bool { return e.ID == got.ID })
			if i < 0 {
				t.Fatalf("the %s subscriber got %q, which was not published", name, got.ID)
			}
			want := sent[i]
			if got.Name != want.Name || got.Key != want.Key || !got.At.Equal(want.At) || !bytes.Equal(got.Data, want.Data) || !maps.Equal(got.Headers, want.Headers) {
				t.Errorf("the %s subscriber got\n%q, want\n%q", name, clipped(got), clipped(want))
			}
		}
	}
}

func clipped(e realtime.Envelope) string {
	return fmt.Sprintf("%.300s", fmt.Sprintf("%s %s %s %s %q %s", e.ID, e.Name, e.Key, e.At, e.Headers, e.Data))
}

func testBusOrder(t *testing.T, b realtime.EventBus) {
	const keys, each = 20, 50
	var all busRecorder
	var running [keys]atomic.Int32
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		var key, n int
		if _, err := fmt.Sscanf(e.ID, "%d/%d", &key, &n); err != nil || key >= keys {
			t.Errorf("got %q, which was not published", e.ID)
			return nil
		}
		if running[key].Add(1) > 1 {
			t.Errorf("two events of the key %d at once", key)
		}
		defer running[key].Add(-1)
		if n%10 == 0 {
			time.Sleep(time.Millisecond)
		}
		return all.handle(ctx, e)
	})
	var publishing sync.WaitGroup
	for key := range keys {
		publishing.Go(func() {
			for n := range each {
				if err := b.Publish(t.Context(), event(strconv.Itoa(key), n)); err != nil {
					t.Errorf("Publish: %v", err)
				}
			}
		})
	}
	publishing.Wait()
	eventually(t, "every event arrives", func() bool { return len(all.all()) == keys*each })
	next := map[string]int{}
	for _, e := range all.all() {
		if want := event(e.Key, next[e.Key]).ID; e.ID != want {
			t.Fatalf("got %s where %s is due", e.ID, want)
		}
		next[e.Key]++
	}
}

func testBusConcurrency(t *testing.T, b realtime.EventBus) {
	const keys = 100
	var running, handled atomic.Int32
	two := make(chan struct{})
	met := sync.OnceFunc(func() { close(two) })
	subscribe(t, b, func(context.Context, realtime.Envelope) error {
		if running.Add(1) > 1 {
			met()
		}
		defer running.Add(-1)
		select {
		case <-two:
		case <-time.After(patience):
			t.Error("a handler waits, and no event of another key is handled meanwhile")
			met()
		}
		handled.Add(1)
		return nil
	})
	for key := range keys {
		publish(t, b, event(strconv.Itoa(key), 1))
	}
	eventually(t, "every key's event is handled", func() bool { return handled.Load() >= keys })
}

func testBusBegin(t *testing.T, b realtime.EventBus) {
	var early, late busRecorder
	entered, release := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		enter()
		<-release
		return early.handle(ctx, e)
	})
	// One event is being handled and one waits when the other handler subscribes.
	publish(t, b, event("a", 1), event("a", 2))
	select {
	case <-entered:
	case <-time.After(patience):
		t.Error("the handler was not called")
	}
	subscribe(t, b, late.handle)
	close(release)
	publish(t, b, event("a", 3), event("a", 4))
	eventually(t, "the early subscriber gets everything", func() bool { return len(early.all()) == 4 })
	eventually(t, "the late subscriber gets the events after it", func() bool { return len(late.all()) >= 2 })
	if got := late.ids(); !slices.Equal(got, []string{"a/3", "a/4"}) {
		t.Errorf("the late subscriber got %v, want a/3 and a/4", got)
	}
}

func testBusCancel(t *testing.T, b realtime.EventBus) {
	var staying busRecorder
	subscribe(t, b, staying.handle)
	var calls atomic.Int32
	entered, release := make(chan struct{}), make(chan struct{})
	enter := sync.OnceFunc(func() { close(entered) })
	var returned atomic.Bool
	cancel := subscribe(t, b, func(context.Context, realtime.Envelope) error {
		calls.Add(1)
		enter()
		<-release
		time.Sleep(time.Millisecond)
		returned.Store(true)
		return nil
	})
	publish(t, b, event("a", 1))
	select {
	case <-entered:
	case <-time.After(patience):
		t.Fatal("the handler was not called")
	}
	publish(t, b, event("a", 2))
	canceled := make(chan struct{})
	go func() {
		cancel()
		close(canceled)
	}()
	select {
	case <-canceled:
		t.Error("cancel returned while a handler ran")
	case <-time.After(settling):
	}
	close(release)
	select {
	case <-canceled:
	case <-time.After(patience):
		t.Fatal("cancel did not return when the handler had")
	}
	if !returned.Load() {
		t.Error("cancel returned before the handler")
	}
	before := calls.Load()
	publish(t, b, event("a", 3), event("b", 1))
	eventually(t, "the other subscriber gets everything", func() bool { return len(staying.all()) == 4 })
	time.Sleep(settling)
	if calls.Load() != before {
		t.Error("the handler was called after cancel had returned")
	}
}

func testBusError(t *testing.T, b realtime.EventBus) {
	var other, failing busRecorder
	var failed atomic.Bool
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.ID == "a/1" && failed.CompareAndSwap(false, true) {
			return errors.New("a planned failure")
		}
		return failing.handle(ctx, e)
	})
	subscribe(t, b, other.handle)
	publish(t, b, event("a", 1), event("a", 2), event("b", 1))
	eventually(t, "the other subscriber gets everything", func() bool { return len(other.all()) == 3 })
	eventually(t, "the failed handler gets what follows", func() bool {
		ids := failing.ids()
		return slices.Contains(ids, "a/2") && slices.Contains(ids, "b/1")
	})
}

func testBusPublishInHandler(t *testing.T, b realtime.EventBus) {
	var got busRecorder
	subscribe(t, b, func(ctx context.Context, e realtime.Envelope) error {
		if e.Key == "cause" {
			for _, key := range []string{"effect", "cause of nothing"} {
				if err := b.Publish(ctx, event(key+e.ID, 1)); err != nil {
					t.Errorf("Publish in a handler: %v", err)
				}
			}
		}
		return got.handle(ctx, e)
	})
	const causes = 20
	for n := range causes {
		publish(t, b, event("cause", n))
	}
	eventually(t, "causes and effects arrive", func() bool { return len(got.all()) == 3*causes })
}

func testBusContext(t *testing.T, b realtime.EventBus) {
	var got busRecorder
	subscribe(t, b, got.handle)
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = b.Publish(ended, event("late", 1)) // it may succeed or fail
	}()
	select {
	case <-done:
	case <-time.After(patience):
		t.Fatal("Publish does not return, although its ctx has ended")
	}
	// Canceling the publisher's ctx later does not affect the handlers.
	brief, cancel := context.WithCancel(t.Context())
	if err := b.Publish(brief, event("a", 1)); err != nil {
		t.Fatalf("Publish: %v", err)
	}
	cancel()
	eventually(t, "the event arrives", func() bool { return slices.Contains(got.ids(), "a/1") })
}
