// Expectations and calls of a test, with typed descriptors.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/rodando/realtime"
)

// Expect waits for the next event of e's name and returns its payload. Each call takes
// one event, in order of arrival; events of other names stay for other calls. It fails
// the test, with a list of the client's events, if none arrives within the client's
// timeout or the client is disconnected.
func Expect[T any](t testing.TB, c *Client, e realtime.Event[T]) T {
	t.Helper()
	payload, err := Next(t.Context(), c, e)
	if err != nil {
		t.Fatalf("%s: %s: %v\n%s", c, e.Name(), err, c.history())
	}
	return payload
}

// Next is Expect without a test: it returns the error. That is realtime.ErrClosed if the
// client is disconnected, so that no more events can arrive.
func Next[T any](ctx context.Context, c *Client, e realtime.Event[T]) (T, error) {
	var payload T
	r, err := c.NextRaw(ctx, e.Name())
	if err != nil || len(r.Args) == 0 {
		return payload, err
	}
	if _, none := any(payload).(realtime.None); none {
		return payload, nil
	}
	if err := json.Unmarshal(r.Args[0], &payload); err != nil {
		return payload, fmt.Errorf("payload %s: %w", clip(r.Args[:1]), err)
	}
	return payload, nil
}

// NextRaw is Next with arguments as they are on the wire.
func (c *Client) NextRaw(ctx context.Context, event string) (r Received, err error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	found := false
	err = c.await(ctx, func() bool {
		r, found = c.takeLocked(event)
		return found || c.reason != ""
	})
	switch {
	case err != nil:
		return r, fmt.Errorf("not within %v: %w", c.timeout, err)
	case !found:
		return r, realtime.ErrClosed
	}
	return r, nil
}

// takeLocked takes the oldest event of that name that was not taken before.
func (s *socket) takeLocked(event string) (Received, bool) {
	for i, r := range s.received {
		if r.Event == event && !s.taken[i] {
			s.taken[i] = true
			return r, true
		}
	}
	return Received{}, false
}

// Named has an event's name. Every realtime.Event implements it.
type Named interface{ Name() string }

// ExpectNone fails the test if one of the events has arrived and was not taken by
// Expect, or is on its way. Without events it fails on any event but hello.
//
// It does not sleep. In a testing/synctest bubble it waits until every goroutine is
// blocked, which proves that no event arrives before time advances. Outside of a bubble
// it waits for Server.Settle and for one round trip; there it does not notice what a
// handler or a service still does on another goroutine.
func ExpectNone(t testing.TB, c *Client, events ...Named) {
	t.Helper()
	if err := c.quiet(t.Context()); err != nil {
		t.Fatalf("%s: %v\n%s", c, err, c.history())
	}
	unwanted := map[string]bool{}
	for _, e := range events {
		unwanted[e.Name()] = true
	}
	c.mu.Lock()
	var found []string
	for i, r := range c.received {
		if !c.taken[i] && (unwanted[r.Event] || len(events) == 0 && r.Event != realtime.EventHello.Name()) {
			found = append(found, r.Event)
		}
	}
	c.mu.Unlock()
	if found != nil {
		t.Errorf("%s received unexpected events: %s\n%s", c, strings.Join(found, ", "), c.history())
	}
}

// settleEvent is an event that no server handles. The server answers with CodeNotFound,
// after everything that it sent before.
const settleEvent = "realtimetest:settle"

// quiet waits until nothing is on its way to the client.
func (c *Client) quiet(ctx context.Context) error {
	if bubbleSettled() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	if c.settled != nil {
		if err := c.settled(ctx); err != nil {
			return fmt.Errorf("the server has not settled: %w", err)
		}
	}
	_, err := c.call(ctx, settleEvent, realtime.Raw{})
	if errors.Is(err, realtime.ErrClosed) {
		return nil // nothing more can arrive
	}
	if err != nil {
		return fmt.Errorf("the round trip that shows that nothing is on its way failed: %w", err)
	}
	return nil
}

// bubbleSettled calls synctest.Wait. It reports false outside of a bubble, or if another
// goroutine waits already, where that panics.
func bubbleSettled() (ok bool) {
	defer func() {
		if p := recover(); p != nil {
			ok = false
		}
	}()
	synctest.Wait()
	return true
}

// Call sends a call and returns the server's answer. The error is a *realtime.Error if
// the server refused; otherwise it wraps realtime.ErrAckTimeout or realtime.ErrClosed.
func Call[In, Out any](ctx context.Context, c *Client, call realtime.Call[In, Out], in In) (Out, error) {
	var out Out
	var args realtime.Raw
	if _, none := any(in).(realtime.None); !none {
		b, err := json.Marshal(in)
		if err != nil {
			return out, fmt.Errorf("encoding %s: %w", call.Name(), err)
		}
		args.Args = append(args.Args, b)
	}
	ack, err := c.CallRaw(ctx, call.Name(), args)
	if err != nil {
		return out, fmt.Errorf("%s: %w", call.Name(), err)
	}
	var envelope struct {
		OK    *bool           `json:"ok"`
		Data  json.RawMessage `json:"data"`
		Error *realtime.Error `json:"error"`
	}
	if len(ack.Args) != 1 {
		return out, fmt.Errorf("%s: the ack has %d arguments, not one", call.Name(), len(ack.Args))
	}
	if err := json.Unmarshal(ack.Args[0], &envelope); err != nil {
		return out, fmt.Errorf("%s: ack %s: %w", call.Name(), clip(ack.Args), err)
	}
	switch {
	case envelope.OK == nil || !*envelope.OK && envelope.Error == nil:
		return out, fmt.Errorf("%s: ack %s is not {ok, data or error}", call.Name(), clip(ack.Args))
	case !*envelope.OK:
		return out, envelope.Error
	}
	if _, none := any(out).(realtime.None); none || envelope.Data == nil {
		return out, nil
	}
	if err := json.Unmarshal(envelope.Data, &out); err != nil {
		return out, fmt.Errorf("%s: ack %s: %w", call.Name(), clip(ack.Args), err)
	}
	return out, nil
}
