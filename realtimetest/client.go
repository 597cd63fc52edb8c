// The client: Socket.IO 5 as a stock client speaks it, and a record of the events that
// it received.

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

// Client is one client in one namespace. It answers heartbeats, records every event
// and does not reconnect. All methods may be called concurrently.
type Client struct {
	*socket
	timeout time.Duration
}

// Timeout is the default time that a client waits for what a test expects; see
// Client.Within. In a testing/synctest bubble it is fake time.
const Timeout = 5 * time.Second

// Received is an event that a client received.
type Received struct {
	Event string
	realtime.Raw
	At time.Time
}

// Within returns the same client with another timeout than Timeout.
func (c *Client) Within(d time.Duration) *Client { return &Client{c.socket, d} }

// Join connects to another namespace over the same connection. Only the options that
// set the CONNECT payload apply. A refusal leaves the connection open.
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

// ID returns the socket's id, the same as Socket.ID on the server.
func (c *Client) ID() string { return c.id }

// Recovered reports whether the client has got its former socket back; see the option Recover.
func (c *Client) Recovered() bool { return c.recovered }

// PID returns the secret with which a stock client gets its socket back, or "" if the server has
// given it none.
func (c *Client) PID() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.pid
}

// Offset returns the offset of the newest event that has one, or "".
func (c *Client) Offset() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.offset
}

// claim adds what a stock client sends to get its socket back.
func (c *Client) claim(payload map[string]string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.pid != "" {
		payload["pid"] = c.pid
	}
	if c.offset != "" {
		payload["offset"] = c.offset
	}
}

// Namespace returns the namespace's name.
func (c *Client) Namespace() string { return c.namespace }

// Transport returns the current transport, "websocket" or "polling".
func (c *Client) Transport() string { return c.conn.engine.transportName() }

// Upgrade moves a connected client from polling to a websocket, as stock clients do.
// Nothing that either side sends meanwhile is lost. If an error occurs before the move,
// the connection stays on polling.
func (c *Client) Upgrade(ctx context.Context) error {
	if c.Transport() != "polling" {
		return errors.New("the transport is a websocket already")
	}
	return c.conn.engine.upgrade(ctx)
}

// Strays returns the number of packets received that a server must not send: an ack
// for which no call waits, such as a second one, or anything after its DISCONNECT. An
// ack that arrives after its call's ctx ended counts too.
func (c *Client) Strays() int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.strays
}

// Received returns the events received so far, in order of arrival.
func (c *Client) Received() []Received {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.received)
}

// Emit sends an event without asking for an ack.
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

// EmitRaw is Emit with arguments as they are on the wire, binary ones included.
func (c *Client) EmitRaw(event string, args realtime.Raw) error {
	return c.emit(noID, event, args)
}

// CallRaw sends an event and waits for its ack. The error wraps realtime.ErrAckTimeout
// or is realtime.ErrClosed.
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

// Reason returns why the client is disconnected, one of the constants from ReasonServer
// on, and "" while it is connected.
func (c *Client) Reason() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.reason
}

// Disconnected waits until the client is disconnected and returns Reason. It fails the
// test if that takes longer than the client's timeout.
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

// Close leaves the namespace, as disconnect() of a stock client does. If no other
// namespace uses the connection, it closes that too and waits until it has ended, for
// at most a second. Packets sent before arrive.
func (c *Client) Close() {
	last := c.conn.leave(c.socket)
	c.disconnected(ReasonClient)
	if last {
		c.conn.engine.stall(false)
		c.conn.engine.finish()
	}
}

// Drop cuts the connection without a DISCONNECT, as a crash does. The server notices at
// once, except for a polling client that has no poll under way, which it notices by a
// missing heartbeat. Stall simulates a network that loses everything.
func (c *Client) Drop() {
	c.conn.engine.drop()
	c.conn.engine.wait()
}

// Stall stops reading: packets from the server fill the connection's buffers, and
// heartbeats are not answered. Packets that were read before are still recorded.
func (c *Client) Stall() { c.conn.engine.stall(true) }

// Resume ends a Stall.
func (c *Client) Resume() { c.conn.engine.stall(false) }

// String names the client in test messages.
func (c *Client) String() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return fmt.Sprintf("client %s of %s", c.name, c.namespace)
}

// Answer makes the client answer a query with what f returns. A later Answer for the
// same query replaces it. f runs on a goroutine of its own and may block; it may be
// called concurrently.
func Answer[In, Out any](c *Client, q realtime.Query[In, Out], f func(In) Out) {
	c.AnswerRaw(q.Name(), func(args realtime.Raw) realtime.Raw {
		var in In
		if len(args.Args) > 0 {
			if err := json.Unmarshal(args.Args[0], &in); err != nil {
				return realtime.Raw{} // an ack without arguments: the server fails to decode it
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

// AnswerRaw is Answer with arguments as they are on the wire.
func (c *Client) AnswerRaw(event string, f func(args realtime.Raw) realtime.Raw) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.answers[event] = f
}
