// Connections: accepting the HTTP request that opens a connection, and what the server keeps of
// it. No *http.Request is kept.

package realtime

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// connState is the server's state of a connection, in the Data of its socketio.Conn. Only
// admission changes its part after the connection was accepted.
type connState struct {
	admission.Conn
	request *requestData // nil if the request has nothing of it
}

// requestData is what the server keeps of the request that opened a connection.
type requestData struct {
	token  string          // of the Authorization header, or of the query if Compat allows it
	values context.Context //nolint:containedctx // the result of Options.ConnContext, for its values; nil if unset

	// Without a token, for the log: where there may be one that is not read.
	otherScheme, inQuery bool

	offsets bool // its client knows the offsets of recovery
	lists   bool // see passesLists
}

// The requestData of all connections that have nothing else of it.
var (
	onlyOffsets = requestData{offsets: true}
	onlyLists   = requestData{lists: true}
)

// connOf returns the state of a connection.
func connOf(c *socketio.Conn) *connState { return stateOf(c.Data) }

// stateOf returns the state of a connection from the Data of its socketio.Conn.
func stateOf(data any) *connState {
	return data.(*connState) //nolint:errcheck,forcetypeassert // accept returns nothing else
}

func (c *connState) token() string {
	if c.request == nil {
		return ""
	}
	return c.request.token
}

// knowsOffsets reports whether the client is known to store offsets.
func (c *connState) knowsOffsets() bool { return c.request != nil && c.request.offsets }

// passesLists reports whether the client passes a list to the handler of an event with more than its payload,
// an offset or the function that acks it, so that apps that expect the payload break: Dart's. In a browser it cannot be told
// from others.
func (c *connState) passesLists() bool { return c.request != nil && c.request.lists }

// values returns the result of Options.ConnContext, or nil.
func (c *connState) values() context.Context {
	if c.request == nil {
		return nil
	}
	return c.request.values
}

// with returns ctx with the values of Options.ConnContext.
func (c *connState) with(ctx context.Context) context.Context {
	if values := c.values(); values != nil {
		return connContext{ctx, values}
	}
	return ctx
}

// connContext is a context that also has the values of another one.
type connContext struct {
	context.Context
	values context.Context //nolint:containedctx // for its values
}

// Value implements context.Context. The context's own values come first: package context
// finds its internal ones there, and needs no goroutine to cancel derived contexts.
func (c connContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// AfterFunc calls f after the context has ended. With this method package context needs no
// goroutine to cancel derived contexts.
func (c connContext) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.Context, f) }

// accept is socketio's Config.Accept: it accepts a connection and returns its state, or
// refuses it.
func (rt *Server) accept(r *http.Request, protocol int) (any, *socketio.Busy) {
	c := &connState{}
	status, reached := rt.admission.Admit(&c.Conn, r)
	if reached != admission.NoLimit {
		rt.requestLimited(r, c, admissionLimits[reached])
	}
	if status != 0 {
		return nil, busy(status)
	}
	b := requestData{offsets: rt.opts.Recovery.Enabled && knowsOffsets(r), lists: strings.HasPrefix(r.UserAgent(), "Dart/")}
	b.token = bearer(r.Header.Get("Authorization"))
	if b.token == "" && protocol < 4 && rt.opts.Compat.LegacyQueryToken {
		b.token = copyToken(stripBearer(r.URL.Query().Get("token")))
	}
	if b.token == "" {
		b.otherScheme, b.inQuery = r.Header.Get("Authorization") != "", strings.Contains(r.URL.RawQuery, "token=")
	}
	var err error
	if b.values, err = rt.connValues(r, c); err != nil {
		rt.admission.Release(&c.Conn)
		if r.Context().Err() == nil { // the client has not canceled the request
			rt.hostFailed("Options.ConnContext", err, "address", c.Addr().String())
		}
		return nil, busy(http.StatusInternalServerError)
	}
	switch b {
	case requestData{}:
	case onlyOffsets:
		c.request = &onlyOffsets
	case onlyLists:
		c.request = &onlyLists
	default:
		c.request = &b
	}
	return c, nil
}

// connectTimeout is socketio's Config.FirstTimeout: it grows where connections have ended without
// a CONNECT. Such a connection says nothing of its user, so an address is all that it can count for.
func (rt *Server) connectTimeout(data any) time.Duration {
	if place, ok := stateOf(data).Network(); ok {
		return rt.comebacks.Timeout(uint64(place))
	}
	return rt.opts.Timeouts.Connect
}

// welcome forgets the connections that have ended without a CONNECT at the address of this one.
func (rt *Server) welcome(c *connState) {
	if place, ok := c.Network(); ok {
		rt.comebacks.Welcome(uint64(place))
	}
}

// socketLeft is socketio's Config.Left: a socket has left its connection, which may be evicted
// if it has no user now.
func (rt *Server) socketLeft(inner *socketio.Socket) {
	s, ok := socketOf(inner)
	if !ok {
		return
	}
	conn := inner.Conn()
	end := func() { conn.Close(socketio.ReasonForcedClose) }
	if reached := rt.admission.Left(&s.conn().Conn, !s.ns.opts.Anonymous, end); reached != admission.NoLimit {
		rt.connLimited(conn, LimitInfo{Limit: admissionLimits[reached]})
	}
}

// busy returns the answer to a request that is not accepted. Clients try again after one to
// five seconds.
func busy(status int) *socketio.Busy {
	return &socketio.Busy{Status: status, RetryAfter: time.Second + rand.N(4*time.Second)}
}

var errNilContext = errors.New("it returned a nil context")

// connValues calls Options.ConnContext, if it is set.
func (rt *Server) connValues(r *http.Request, c *connState) (context.Context, error) {
	f := rt.opts.ConnContext
	if f == nil {
		return nil, nil
	}
	values, err := hostcall.Do(r.Context(), rt.host.connContext, c.source(), func(context.Context) (context.Context, error) {
		return f(rt.ctx, r), nil
	})
	if err == nil && (values == nil || isTypedNil(values)) {
		err = errNilContext
	}
	if err != nil {
		return nil, err
	}
	return values, nil
}
