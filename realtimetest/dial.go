// Connecting: where to, over what, as whom, and how it can be refused.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"

	"github.com/rodando/realtime"
)

// Option says how a client connects. The default is a websocket, with the token
// in the CONNECT payload.
type Option func(*dial)

type transport int

const (
	overWebSocket transport = iota
	overPolling
	overBoth
)

type dial struct {
	url       url.URL
	over      func(ctx context.Context, network, addr string) (net.Conn, error)
	header    http.Header
	transport transport
	sid       string
	token     string
	auth      any // the CONNECT payload, when it is not the token's
	hasAuth   bool
}

// Polling connects over HTTP long-polling, and stays there.
func Polling() Option { return func(d *dial) { d.transport = overPolling } }

// Upgrade connects over long-polling and moves to a websocket, before anything
// else is said.
func Upgrade() Option { return func(d *dial) { d.transport = overBoth } }

// Token puts an access token into the CONNECT payload.
func Token(token string) Option { return func(d *dial) { d.token = token } }

// Auth sends a CONNECT payload of any shape, in place of the token's; nil sends
// none.
func Auth(payload any) Option { return func(d *dial) { d.auth, d.hasAuth = payload, true } }

// Header adds a header to the HTTP requests, such as Authorization or Origin.
func Header(name, value string) Option { return func(d *dial) { d.header.Add(name, value) } }

// Session is the login session that a method of Server connects a user with,
// another than SessionID's: a device of its own.
func Session(sid string) Option { return func(d *dial) { d.sid = sid } }

// Over connects by a function in place of the network, such as
// Listener.DialContext.
func Over(dialContext func(ctx context.Context, network, addr string) (net.Conn, error)) Option {
	return func(d *dial) { d.over = dialContext }
}

// ConnectError is a refused CONNECT.
type ConnectError struct {
	Code    realtime.Code // empty for "Invalid namespace"
	Message string
}

// Error implements error.
func (e *ConnectError) Error() string {
	if e.Code == "" {
		return "connect refused: " + e.Message
	}
	return fmt.Sprintf("connect refused: %s: %s", e.Code, e.Message)
}

// Dial connects to a namespace of a Socket.IO server, such as
// Dial(ctx, "http://127.0.0.1:3000", "/drivers", Token(token)); the path is
// realtime.Path unless the URL has one. It returns when the server has answered
// CONNECT. The error is a *ConnectError, a *HandshakeError, or one that wraps
// realtime.ErrClosed when the server closed the connection instead of an
// answer. The caller closes the client.
func Dial(ctx context.Context, url, namespace string, opts ...Option) (*Client, error) {
	d, err := newDial(url, opts)
	if err != nil {
		return nil, err
	}
	return d.dial(ctx, namespace)
}

func newDial(rawURL string, opts []Option) (*dial, error) {
	u, err := url.Parse(rawURL)
	if err != nil {
		return nil, err
	}
	if u.Path == "" || u.Path == "/" {
		u.Path = realtime.Path
	}
	d := &dial{url: *u, header: http.Header{}}
	for _, o := range opts {
		o(d)
	}
	return d, nil
}

func (d *dial) dial(ctx context.Context, namespace string) (*Client, error) {
	c := newConn(d)
	if err := c.engine.open(ctx, d.transport); err != nil {
		return nil, fmt.Errorf("connecting to %s: %w", d.url.Host, err)
	}
	client, err := c.join(ctx, namespace, d)
	if err == nil {
		return client, nil
	}
	if ctx.Err() != nil {
		c.engine.drop()
	}
	c.engine.finish()
	return nil, err
}

// payload is what CONNECT carries, nil for nothing.
func (d *dial) payload() ([]byte, error) {
	switch {
	case d.hasAuth && d.auth == nil, !d.hasAuth && d.token == "":
		return nil, nil
	case d.hasAuth:
		return json.Marshal(d.auth)
	}
	return json.Marshal(map[string]string{"token": d.token})
}

// connectError reads the payload of a CONNECT_ERROR.
func connectError(payload []byte) error {
	var p struct {
		Message string
		Data    struct{ Code realtime.Code }
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return errors.Join(&ConnectError{Message: string(payload)}, err)
	}
	return &ConnectError{Code: p.Data.Code, Message: p.Message}
}
