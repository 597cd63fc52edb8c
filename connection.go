// Connections: what the server keeps of the request that opened one.

package realtime

import (
	"context"
	"errors"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// connState is what the server keeps of a connection: its socketio Conn's Data. It does
// not change once the connection is accepted, but for what admission keeps.
type connState struct {
	admission.Conn
	brought *brought // nil for most
}

// brought is what the request of a connection has brought, if anything.
type brought struct {
	token  string          // of the Authorization header, or of the query where that is allowed
	values context.Context //nolint:containedctx // what Options.ConnContext has returned, for its values; nil without
}

func (c *connState) token() string {
	if c.brought == nil {
		return ""
	}
	return c.brought.token
}

// values is nil unless Options.ConnContext is set.
func (c *connState) values() context.Context {
	if c.brought == nil {
		return nil
	}
	return c.brought.values
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

// Value implements context.Context. The context's own come first: among them is what
// package context looks for, to end what is derived without a goroutine.
func (c connContext) Value(key any) any {
	if v := c.Context.Value(key); v != nil {
		return v
	}
	return c.values.Value(key)
}

// AfterFunc is context.AfterFunc of the context.
func (c connContext) AfterFunc(f func()) (stop func() bool) { return context.AfterFunc(c.Context, f) }

// accept is socketio's Config.Accept: it lets a connection in, or not.
func (rt *Server) accept(r *http.Request, protocol int) (any, *socketio.Busy) {
	c := &connState{}
	status, reached := rt.admission.Admit(&c.Conn, r)
	if reached != admission.NoLimit {
		rt.requestLimited(r, c, admissionLimits[reached])
	}
	if status != 0 {
		return nil, busy(status)
	}
	var b brought
	b.token = bearer(r.Header.Get("Authorization"))
	if b.token == "" && protocol < 4 && rt.opts.Compat.LegacyQueryToken {
		b.token = clipped(stripBearer(r.URL.Query().Get("token")))
	}
	var err error
	if b.values, err = rt.connValues(r); err != nil {
		rt.admission.Release(&c.Conn)
		if r.Context().Err() == nil { // the client waits
			rt.hostFailed("Options.ConnContext", err, "address", c.Addr().String())
		}
		return nil, busy(http.StatusInternalServerError)
	}
	if b != (brought{}) {
		c.brought = &b
	}
	return c, nil
}

func busy(status int) *socketio.Busy {
	return &socketio.Busy{Status: status, RetryAfter: time.Second + rand.N(4*time.Second)}
}

var errNilContext = errors.New("it returned a nil context")

// connValues asks Options.ConnContext what it wants to keep of a request.
func (rt *Server) connValues(r *http.Request) (context.Context, error) {
	f := rt.opts.ConnContext
	if f == nil {
		return nil, nil
	}
	values, err := hostcall.Do(r.Context(), rt.host.connContext, nil, func(context.Context) (context.Context, error) {
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
