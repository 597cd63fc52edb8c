// Interceptors: functions of the host that run around the handlers of clients' events.

package realtime

import (
	"context"
	"errors"
	"maps"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// CallRequest is an event of a client while the server handles it. Its methods may be called
// concurrently. Do not use it after the call has returned. The zero CallRequest, for a test,
// has no socket and no arguments.
type CallRequest struct {
	socket    *Socket         // nil only in a zero CallRequest
	event     *socketio.Event // nil for OnConnect, and in a zero CallRequest
	route     *route
	emissions []Delivery // events that a handler of the library queues; reply emits them before the ack
}

// Socket returns the socket that sent the event.
func (r *CallRequest) Socket() *Socket { return r.socket }

// Namespace returns the namespace that the socket is in.
func (r *CallRequest) Namespace() *Namespace {
	if r.socket == nil {
		return nil
	}
	return r.socket.ns
}

// Event returns the event's name.
func (r *CallRequest) Event() string {
	if r.event == nil {
		return "connect"
	}
	return r.event.Name
}

// Args returns the event's arguments in wire format. Do not change them. Call.Input
// returns the decoded value.
func (r *CallRequest) Args() Raw {
	if r.event == nil {
		return Raw{}
	}
	return rawOf(r.event.Args, r.event.Attachments)
}

// WantsAck reports whether the client waits for an ack.
func (r *CallRequest) WantsAck() bool { return r.event != nil && r.event.WantsAck() }

// handle calls the handler. It returns a panic as an error, so that interceptors see it.
func (r *CallRequest) handle(ctx context.Context) (ack Raw, err error) {
	err = hostcall.Guard(func() (err error) {
		ack, err = r.route.handle(ctx, r)
		return err
	}, func(error) {})
	return ack, err
}

// CallFunc handles an event. It returns the ack's arguments in wire format, or an error. For
// arguments that are not JSON, or have a placeholder without attachment, the client gets
// CodeInternal.
type CallFunc func(ctx context.Context, r *CallRequest) (Raw, error)

// Interceptor wraps the calls of clients: it returns a function that runs in place of
// next, for every event that has a handler, the library's own events included.
//
// That function may call next, with its own ctx or one derived from it and the same
// request. Or it may not call next and return an ack or an error of its own, which the
// client gets like a handler's. next returns the ack, or the error of the call; CodeOf
// returns the code that the client gets for it. A panic of the handler is returned as an
// error too. The function is called concurrently, and Timeouts.Handler applies to it as to
// a handler. It is not called for events without a handler or that a limit refuses, and not for a
// repeat with an idempotencyKey, which gets the ack that the first one got.
//
// An Interceptor itself is called once for each namespace that it is added to, before
// any event: by New, by Server.Namespace, or by Namespace.Use.
type Interceptor func(next CallFunc) CallFunc

// Input decodes the call's input from a request, for an interceptor. The result is what the
// handler gets. The error is what the client gets if the payload is invalid.
func (c Call[In, Out]) Input(r *CallRequest) (In, error) {
	var in In
	err := decodeBody(r.event, &in)
	return in, err
}

// Result returns the ack for a result of the call, for an interceptor that answers without
// the handler.
func (c Call[In, Out]) Result(out Out) (Raw, error) { return success(out) }

// Use adds interceptors to the namespace, inside those that it has. The order from the
// outside is Options.Interceptors, NamespaceOptions.Interceptors, then those of Use in the
// order in which they were added. A call that is running passes through them only if it has
// not reached its handler yet. Use panics if ns or an interceptor is nil, or if one returns
// nil; then it adds none.
func (ns *Namespace) Use(all ...Interceptor) {
	ns.mustExist("Use")
	ns.interceptors.add(all...)
}

// interceptors is the list of a namespace's interceptors, the outermost first. Its methods
// may be called concurrently; call takes no lock.
type interceptors struct {
	first atomic.Pointer[interceptorNode]

	mu   sync.Mutex // guards last
	last *interceptorNode
}

// interceptorNode is an interceptor in the list.
type interceptorNode struct {
	run  CallFunc                        // what the interceptor returned
	next atomic.Pointer[interceptorNode] // nil: the handler is next
}

// call calls the first interceptor, or the handler if there is none.
func (i *interceptors) call(ctx context.Context, r *CallRequest) (Raw, error) {
	first := i.first.Load()
	if first == nil {
		return r.route.handle(ctx, r)
	}
	ack, err := first.run(ctx, r)
	if err == nil { // the ack may be the interceptor's
		err = ack.check()
	}
	return ack, err
}

// callNext is the function that the interceptor gets as next.
func (i *interceptorNode) callNext(ctx context.Context, r *CallRequest) (Raw, error) {
	if next := i.next.Load(); next != nil {
		return next.run(ctx, r)
	}
	return r.handle(ctx)
}

// add appends interceptors to the list.
func (i *interceptors) add(all ...Interceptor) {
	added := make([]*interceptorNode, len(all))
	for n, wrap := range all {
		if wrap == nil {
			panic("realtime: an interceptor is nil")
		}
		node := &interceptorNode{}
		if node.run = wrap(node.callNext); node.run == nil {
			panic("realtime: an interceptor returned nil")
		}
		added[n] = node
	}
	i.mu.Lock()
	defer i.mu.Unlock()
	for _, node := range added {
		if i.last == nil {
			i.first.Store(node)
		} else {
			i.last.next.Store(node)
		}
		i.last = node
	}
}

// interceptorsOf returns the interceptors of each namespace that New creates, by the
// namespace's name.
func interceptorsOf(o *Options) (map[string]*interceptors, error) {
	own := map[string][]Interceptor{}
	for _, b := range builtinNamespaces {
		own[b.name] = nil
	}
	for name, n := range o.Namespaces {
		own[name] = n.Interceptors
	}
	of := map[string]*interceptors{}
	for _, name := range slices.Sorted(maps.Keys(own)) {
		var err error
		if of[name], err = newInterceptors(o.Interceptors, own[name]); err != nil {
			return nil, err
		}
	}
	return of, nil
}

// newInterceptors returns the interceptors of a new namespace. It returns an error if one of
// them is nil, panics, or returns nil.
func newInterceptors(server, own []Interceptor) (*interceptors, error) {
	all := &interceptors{}
	err := hostcall.Guard(func() error {
		all.add(slices.Concat(server, own)...)
		return nil
	}, func(error) {})
	if err != nil {
		return nil, errorf("Interceptors: %w", err)
	}
	return all, nil
}

// CodeOf returns the code that a client gets for an error of a handler: that of the *Error
// which it is or wraps, CodeUnavailable for ErrUnavailable and
// context.DeadlineExceeded, CodeInternal for any other error, and "" for nil.
func CodeOf(err error) Code {
	switch e, ok := asError(err); {
	case err == nil:
		return ""
	case ok:
		return e.Code
	case errors.Is(err, context.DeadlineExceeded), errors.Is(err, ErrUnavailable):
		return CodeUnavailable
	}
	return CodeInternal
}
