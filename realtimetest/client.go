// The client: Socket.IO 5 as a stock client speaks it, and a record of all that
// it was told.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/rodando/realtime"
)

// Client is one client in one namespace. It answers heartbeats, remembers every
// event and does not reconnect. All methods may be called concurrently.
type Client struct {
	*socket
	timeout time.Duration
}

// Timeout is how long a client waits for what a test expects, unless Within
// says otherwise. In a testing/synctest bubble that is fake time.
const Timeout = 5 * time.Second

// Received is an event as it arrived.
type Received struct {
	Event string
	realtime.Raw
	At time.Time
}

// Within returns the same client with another time to wait for what is
// expected of it.
func (c *Client) Within(d time.Duration) *Client { return &Client{c.socket, d} }

// Join connects to another namespace over the same connection. Of the options
// those that make the CONNECT payload count. A refusal leaves the connection as
// it is.
func (c *Client) Join(ctx context.Context, namespace string, opts ...Option) (*Client, error) {
	d := &dial{}
	for _, o := range opts {
		o(d)
	}
	joined, err := c.conn.join(ctx, namespace, d)
	if err != nil {
		return nil, err
	}
	joined.settled = c.settled
	return joined, nil
}

// ID returns the socket's id, as Socket.ID on the server.
func (c *Client) ID() string { return c.id }

// Namespace returns the namespace's name.
func (c *Client) Namespace() string { return c.namespace }

// Transport returns what the connection is over now, "websocket" or "polling".
func (c *Client) Transport() string { return c.conn.engine.transportName() }

// Upgrade moves a client that is over polling to a websocket while it is in its
// namespace, as stock clients do. What either side sends meanwhile arrives. An
// error before the move leaves the connection as it is.
func (c *Client) Upgrade(ctx context.Context) error {
	if c.Transport() != "polling" {
		return errors.New("the connection is over a websocket already")
	}
	return c.conn.engine.upgrade(ctx)
}

// Strays returns how many packets came that a server may not send: an ack that
// nobody waited for, such as a second one, or anything behind its DISCONNECT. An
// ack that came after its call was given up counts too.
func (c *Client) Strays() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strays
}

// Received returns every event so far, in the order of arrival.
func (c *Client) Received() []Received {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received)
}

// Emit sends an event that asks for no ack.
func (c *Client) Emit(event string, args ...any) error {
	var raw realtime.Raw
	for _, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			return fmt.Errorf("encoding %s: %w", event, err)
		}
		raw.Args = append(raw.Args, b)
	}
	return c.EmitRaw(event, raw)
}

// EmitRaw sends an event by its arguments as they go on the wire, binary ones
// included.
func (c *Client) EmitRaw(event string, args realtime.Raw) error {
	return c.emit(noID, event, args)
}

// CallRaw sends an event that asks for an ack, and returns the ack. The error
// is realtime.ErrAckTimeout or realtime.ErrClosed.
func (c *Client) CallRaw(ctx context.Context, event string, args realtime.Raw) (realtime.Raw, error) {
	ctx, cancel := context.WithTimeout(ctx, c.timeout)
	defer cancel()
	return c.call(ctx, event, args)
}

// Connected reports whether the client is in its namespace.
func (c *Client) Connected() bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason == ""
}

// Reason returns why the client is disconnected, in the words of the JavaScript
// client, and "" while it is connected.
func (c *Client) Reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Disconnected waits until the client is disconnected and returns the reason,
// in the words of the JavaScript client; see ReasonServer.
func (c *Client) Disconnected(t testing.TB) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), c.timeout)
	defer cancel()
	var reason string
	err := c.await(ctx, func() bool {
		reason = c.reason
		return reason != ""
	})
	if err != nil {
		t.Fatalf("%s is still connected after %v\n%s", c, c.timeout, c.history())
	}
	return reason
}

// Close leaves the namespace, as disconnect() of a stock client does, and the
// connection when no other namespace is left on it; then it waits until the
// connection is gone, a second at most. What was sent before arrives.
func (c *Client) Close() {
	last := c.conn.leave(c.socket)
	c.disconnected(ReasonClient)
	if last {
		c.conn.engine.stall(false)
		c.conn.engine.finish()
	}
}

// Drop cuts the connection without a word, as a crash does. The server sees its
// end, but for one over polling that is between two polls: that is missed by its
// heartbeats. For a network that swallows everything see Stall.
func (c *Client) Drop() {
	c.conn.engine.drop()
	c.conn.engine.wait()
}

// Stall stops reading: what the server sends fills the connection's buffers,
// and heartbeats are not answered. What had been read by then is still
// recorded.
func (c *Client) Stall() { c.conn.engine.stall(true) }

// Resume ends a Stall.
func (c *Client) Resume() { c.conn.engine.stall(false) }

// String says which client it is, for messages of tests.
func (c *Client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("client %s of %s", c.name, c.namespace)
}

// Answer makes a client acknowledge a query with what f returns, until another
// Answer for it. f may block; each question has a goroutine.
func Answer[In, Out any](c *Client, q realtime.Query[In, Out], f func(In) Out) {
	c.AnswerRaw(q.Name(), func(args realtime.Raw) realtime.Raw {
		var in In
		if len(args.Args) > 0 {
			if err := json.Unmarshal(args.Args[0], &in); err != nil {
				return realtime.Raw{} // no ack fits; the server's decoding fails
			}
		}
		out := f(in)
		if _, none := any(out).(realtime.None); none {
			return realtime.Raw{}
		}
		b, err := json.Marshal(out)
		if err != nil {
			return realtime.Raw{}
		}
		return realtime.Raw{Args: []json.RawMessage{b}}
	})
}

// AnswerRaw is Answer by arguments as they go on the wire.
func (c *Client) AnswerRaw(event string, f func(args realtime.Raw) realtime.Raw) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[event] = f
}
