// Connecting: options, Dial and refusals.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"strings"

	"github.com/rodando/realtime"
)

// Option configures how a client connects. The default is a websocket, with the token
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
	sessionID string
	token     string
	former    *Client
	auth      any // the CONNECT payload, if hasAuth
	hasAuth   bool
}

// Polling connects over HTTP long-polling without an upgrade.
func Polling() Option { return func(d *dial) { d.transport = overPolling } }

// Upgrade connects over long-polling and upgrades to a websocket before it sends
// CONNECT.
func Upgrade() Option { return func(d *dial) { d.transport = overBoth } }

// Token puts an access token into the CONNECT payload.
func Token(token string) Option { return func(d *dial) { d.token = token } }

// Auth sets the whole CONNECT payload in place of the one with the token; nil sends
// none.
func Auth(payload any) Option { return func(d *dial) { d.auth, d.hasAuth = payload, true } }

// Query adds parameters to the URL, such as "t=1".
func Query(query string) Option {
	return func(d *dial) { d.url.RawQuery = strings.TrimPrefix(d.url.RawQuery+"&"+query, "&") }
}

// Recover sends the pid and the offset of a client that has lost its connection, as stock clients of
// Socket.IO 4.6 and later do when they reconnect. It adds them to the payload with the token.
func Recover(former *Client) Option { return func(d *dial) { d.former = former } }

// Header adds a header to the HTTP requests, such as Authorization or Origin.
func Header(name, value string) Option { return func(d *dial) { d.header.Add(name, value) } }

// Session sets the login session with which Server.Driver, Passenger or Admin connects,
// as another device would. Defaults to SessionID of the user.
func Session(sessionID string) Option { return func(d *dial) { d.sessionID = sessionID } }

// Over connects with dialContext in place of the network; see Listener.DialContext.
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
// CONNECT, or when ctx ends. The error is a *ConnectError, a *HandshakeError, or wraps
// realtime.ErrClosed if the server closed the connection without an answer. The caller
// must close the client.
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

// payload returns the payload of CONNECT, or nil for none.
func (d *dial) payload() ([]byte, error) {
	switch {
	case d.hasAuth && d.auth == nil, !d.hasAuth && d.token == "":
		return nil, nil
	case d.hasAuth:
		return json.Marshal(d.auth)
	}
	payload := map[string]string{"token": d.token}
	if d.former != nil {
		d.former.claim(payload)
	}
	return json.Marshal(payload)
}

// connectError reads the payload of a CONNECT_ERROR.
func connectError(payload []byte) error {
	var p struct {
		Message string `json:"message"`
		Data    struct {
			Code realtime.Code `json:"code"`
		} `json:"data"`
	}
	if err := json.Unmarshal(payload, &p); err != nil {
		return errors.Join(&ConnectError{Message: string(payload)}, err)
	}
	return &ConnectError{Code: p.Data.Code, Message: p.Message}
}
