// Namespaces: the three built-in ones and the host's own, the registration of handlers and
// hooks, the decoding of clients' payloads and the encoding of acks.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// The built-in namespaces.
const (
	NamespaceDrivers    = "/drivers"
	NamespacePassengers = "/passengers"
	NamespaceAdmin      = "/admin"
)

// builtinNamespace is a built-in namespace: its user type, the room of all sockets of a
// user, and the rooms that every socket joins.
type builtinNamespace struct {
	name     string
	userType UserType
	ownRoom  func(userID string) Room
	common   []Room
}

var builtinNamespaces = [...]builtinNamespace{
	{NamespaceDrivers, UserDriver, DriverRoom, nil},
	{NamespacePassengers, UserPassenger, PassengerRoom, nil},
	{NamespaceAdmin, UserAdmin, AdminUserRoom, []Room{AdminAllRoom, AdminDriversRoom}},
}

// builtinByName returns the built-in namespace with that name, or nil.
func builtinByName(name string) *builtinNamespace {
	for i := range builtinNamespaces {
		if builtinNamespaces[i].name == name {
			return &builtinNamespaces[i]
		}
	}
	return nil
}

// builtinByUserType returns the built-in namespace of a user type, or nil.
func builtinByUserType(t UserType) *builtinNamespace {
	for i := range builtinNamespaces {
		if builtinNamespaces[i].userType == t {
			return &builtinNamespaces[i]
		}
	}
	return nil
}

// NamespaceOptions configures a namespace of the host's own.
type NamespaceOptions struct {
	// UserTypes lists the user types that may connect. Defaults to every type.
	UserTypes []UserType
	// Anonymous connects every client without a token. The Identity of its sockets is
	// zero. Defaults to false.
	Anonymous bool
	// Authorize decides whether an identity that passed the other checks may connect. An
	// *Error refuses with its code and message, any other error with CodeUnavailable. It
	// may block, within ctx, and is called concurrently. Defaults to none: every such
	// identity may connect.
	Authorize func(ctx context.Context, r AuthorizeRequest) error
	// Interceptors wrap the calls of the namespace, inside Options.Interceptors. Defaults
	// to none.
	Interceptors []Interceptor
}

// AuthorizeRequest is what Authorize decides about: a client that connects to a namespace,
// or that renews its token with auth:refresh.
type AuthorizeRequest struct {
	// Identity is the client's identity, from the token and the repositories.
	Identity Identity
	// Socket is the new socket, before it is connected: only ID, Namespace, RemoteAddr,
	// Transport and SocketKeys work yet. For auth:refresh it is the existing socket.
	Socket *Socket
	// Auth is the auth object of the client's CONNECT without its field "token". It is
	// nil if the client sent none, and for auth:refresh. A CONNECT with an object of more
	// than 16 KiB is refused with CodeInvalidPayload. The server does not keep the object
	// after the handshake.
	Auth json.RawMessage
}

// Namespace is one of the server's namespaces: a host registers handlers, interceptors and
// hooks on it, and starts broadcasts from it. Server has the methods that return one; the
// zero value is not usable. All methods may be called concurrently, also from handlers and
// hooks. A registration applies to later events and sockets, so register before you mount
// the server.
type Namespace struct {
	rt    *Server
	name  string
	opts  NamespaceOptions
	inner *socketio.Namespace

	authorizes *hostcall.Kind  // calls of NamespaceOptions.Authorize
	answering  *hostcall.Kind  // calls of handlers of OnServerAsk
	listening  *hostcall.Queue // calls of listeners

	interceptors *interceptors

	inheriting atomic.Bool // see inherit

	mu           sync.RWMutex // guards the fields below; the slices of the last two are only appended to
	handlers     map[string]*route
	listeners    map[string][]func(args Raw)
	answerers    map[string]func(ctx context.Context, args Raw) (any, error) // of ServerAsk
	onConnect    []*connectHook
	onDisconnect []*disconnectHook
}

// connectHook is a function that OnConnect added.
type connectHook struct {
	f     func(ctx context.Context, s *Socket) error
	calls hostcall.Handler
}

// disconnectHook is a function that OnDisconnect added. Each has its own hostcall.Kind, so
// that a function that hangs does not block the others.
type disconnectHook struct {
	f     func(ctx context.Context, s *Socket, reason DisconnectReason)
	calls *hostcall.Kind
}

// route is the registered handler of an event.
type route struct {
	handle   CallFunc
	describe func() EventDoc // nil for HandleRaw
	onSocket bool            // it changes the socket, see repeats.go
	newest   bool            // beyond the rate only the newest event is handled, see bursts.go
	calls    hostcall.Handler
}

// Name returns the namespace's name, such as "/drivers".
func (ns *Namespace) Name() string { return ns.name }

// OnConnect adds a function that the server calls for each new socket, also one with which a client
// recovers (Socket.Recovered), after its hello and before any of its events. Several functions run in the order in which they were added.
// Their emits arrive after hello. The first error or panic disconnects the socket, and the
// later functions are not called. A function may block, within ctx, which ends after
// Timeouts.Handler. It is called concurrently for different sockets. OnConnect panics if ns or
// f is nil.
func (ns *Namespace) OnConnect(f func(ctx context.Context, s *Socket) error) {
	ns.mustExist("OnConnect")
	if f == nil {
		panic("realtime: OnConnect: the function is nil")
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.onConnect = append(ns.onConnect, &connectHook{f: f})
}

// OnDisconnect adds a function that the server calls once for each socket that was
// connected and has closed, after the last of its events, with the reason. Several
// functions run in the order in which they were added; a panic of one does not prevent the
// next. Socket.Rooms still returns the rooms that the socket was in.
//
// A function may block, within ctx, which ends after twice Timeouts.Handler. It is called
// concurrently for different sockets: at most 256 calls of f run at once, others wait. A
// call that has not returned when ctx ends is abandoned. While 256 calls of f are
// abandoned, the server skips further calls and logs an error. OnDisconnect panics if ns or f
// is nil.
func (ns *Namespace) OnDisconnect(f func(ctx context.Context, s *Socket, reason DisconnectReason)) {
	ns.mustExist("OnDisconnect")
	if f == nil {
		panic("realtime: OnDisconnect: the function is nil")
	}
	calls := hostcall.NewKind(hostcall.Limits{
		Timeout: 2 * ns.rt.opts.Timeouts.Handler, Running: disconnectsAtOnce, Abandoned: disconnectsAtOnce,
	})
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.onDisconnect = append(ns.onDisconnect, &disconnectHook{f: f, calls: calls})
}

func (ns *Namespace) connectHooks() []*connectHook {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.onConnect
}

func (ns *Namespace) disconnectHooks() []*disconnectHook {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.onDisconnect
}

// Handle registers h as the handler of the call in a namespace. It replaces an earlier
// handler, also one of the library's own. The events of one socket are handled one at a
// time, in the order in which the client sent them; those of different sockets are handled
// concurrently.
//
// ctx ends after Timeouts.Handler and when the server has shut down; Timeouts.Handler says
// what happens to a handler that ignores it. Out is acknowledged as {ok:true, data} and
// an *Error as {ok:false, error}. Any other error is logged and acknowledged as
// CodeInternal. Handle panics if ns or h is nil, and if the name is longer than
// Limits.EventName.
//
// If the payload has a field idempotencyKey, a string of at most 128 bytes, h is called once for the
// user and that key, and a client that repeats the event gets the first ack, for two minutes. With several nodes that is
// so for all of them if Cluster.Adapter is a CallKeeper, and otherwise for each. After a fault of the adapter, or the death of a node, h may be called twice. An app sends no
// key with a call whose handler acts on the socket, as Socket.Join does.
func (c Call[In, Out]) Handle(ns *Namespace, h func(ctx context.Context, s *Socket, in In) (Out, error)) {
	ns.mustHandle("Handle", c.name, h != nil)
	c.handle(ns, func(ctx context.Context, r *CallRequest, in In) (Out, error) { return h(ctx, r.socket, in) })
}

// handle is Handle for the library's own handlers.
func (c Call[In, Out]) handle(ns *Namespace, h func(ctx context.Context, r *CallRequest, in In) (Out, error)) {
	ns.handle(c.name, c.describe, func(ctx context.Context, r *CallRequest) (Raw, error) {
		in, err := c.Input(r)
		if err != nil {
			return Raw{}, err
		}
		out, err := h(ctx, r, in)
		if err != nil {
			return Raw{}, err
		}
		return success(out)
	})
}

// HandleRaw registers h as the handler of an event without a Go type: h gets the event's
// arguments as they are on the wire, binary ones included, and may keep them. It returns
// the ack's arguments, without the {ok} envelope; an error is acknowledged as for a Call, and
// arguments that are not JSON, or have a placeholder without attachment, as CodeInternal.
// Prefer Call.Handle where the payload has a type. HandleRaw panics if ns or h is nil, if
// the name is one that NewEvent refuses, and if it is longer than Limits.EventName.
func (ns *Namespace) HandleRaw(event string, h func(ctx context.Context, s *Socket, args Raw) (Raw, error)) {
	ns.mustHandle("HandleRaw", event, h != nil)
	ns.handle(event, nil, func(ctx context.Context, r *CallRequest) (Raw, error) {
		ack, err := h(ctx, r.socket, r.Args())
		if err == nil {
			err = ack.check()
		}
		return ack, err
	})
}

const noNamespace = "the namespace is nil; Server.Of returns nil for one that does not exist"

// mustExist panics if the namespace is nil.
func (ns *Namespace) mustExist(method string) {
	if ns == nil {
		panic("realtime: " + method + ": " + noNamespace)
	}
}

// mustHandle panics if a handler cannot be registered or no client could reach it; the
// methods that register handlers return no error.
func (ns *Namespace) mustHandle(method, event string, given bool) {
	var problem string
	switch err := checkEventName(event); {
	case ns == nil:
		problem = noNamespace
	case !given:
		problem = "the handler is nil"
	case err != nil:
		problem = err.Error()
	case len(event) > ns.rt.opts.Limits.EventName:
		problem = fmt.Sprintf("the name has %d bytes, and Limits.EventName is %d", len(event), ns.rt.opts.Limits.EventName)
	default:
		return
	}
	panic(fmt.Sprintf("realtime: %s of %q: %s", method, event, problem))
}

func (ns *Namespace) handle(event string, describe func() EventDoc, h CallFunc) {
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.handlers[event] = &route{handle: h, describe: describe, onSocket: actsOnSocket(event)}
}

func (ns *Namespace) route(event string) *route {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.handlers[event]
}

// overflow is socketio's Hooks.Overflow: it answers an event that the queue has no memory for,
// or that has arrived too late at a drain.
func (ns *Namespace) overflow(_ *socketio.Socket, e *socketio.Event) {
	err := errTooOften
	if ns.rt.stopping.Load() {
		err = errUnavailable
	}
	if e.WantsAck() {
		e.Ack(nil, failure(err).bytes()...)
	}
}

// clientError returns the *Error that the client gets for an error of the host's code, which
// must be the result of inspect. It logs an error that is not an *Error; its callers do not.
func (rt *Server) clientError(err error, namespace, event string, s *Socket) *Error {
	if e, ok := asError(err); ok {
		return e
	}
	code, message := CodeOf(err), "internal error"
	if code == CodeUnavailable {
		message = errUnavailable.Message
	}
	attrs := []any{"namespace", namespace, "event", event, "socket", s.ID(), "user", s.Identity().UserID, "error", err}
	level := slog.LevelError
	if over := rt.handlerCtx.Err() != nil; over && errors.Is(err, context.Canceled) || (over || s.inner.Closed()) && errors.Is(err, ErrClosed) {
		level = slog.LevelDebug // Shutdown canceled it, or the client disconnected
	}
	rt.log.Log(context.Background(), level, "realtime: handler failed", withStack(err, attrs...)...)
	return &Error{Code: code, Message: message}
}

// decodeBody decodes and validates an event's first argument. A missing one counts as {}. For
// None it reads nothing.
func decodeBody[In any](e *socketio.Event, in *In) error {
	if _, none := any(in).(*None); none {
		return nil
	}
	body := []byte("{}")
	if e != nil && len(e.Args) > 0 {
		body = e.Args[0]
	}
	var err error
	if u, ok := any(in).(json.Unmarshaler); ok {
		err = u.UnmarshalJSON(body) // the packet's parser has validated it
	} else {
		err = json.Unmarshal(body, in)
	}
	if err != nil {
		return invalidPayload(err)
	}
	if v, ok := any(in).(interface{ Validate() error }); ok {
		if err := v.Validate(); err != nil {
			return invalidPayload(err)
		}
	}
	return nil
}

// invalidPayload returns an *Error that says what is wrong with a body and does not
// contain it.
func invalidPayload(err error) *Error {
	if e, ok := asError(err); ok {
		return e
	}
	var t *json.UnmarshalTypeError
	if errors.As(err, &t) && t.Field != "" {
		return &Error{Code: CodeInvalidPayload, Message: t.Field + " has the wrong type", Fields: []string{t.Field}}
	}
	if errors.As(err, &t) {
		return &Error{Code: CodeInvalidPayload, Message: "the payload has the wrong type"}
	}
	return &Error{Code: CodeInvalidPayload, Message: "the payload is not valid"}
}

var ackOK = Raw{Args: []json.RawMessage{json.RawMessage(`{"ok":true}`)}}

// success is the ack of a handled call.
func success(out any) (Raw, error) {
	if _, none := out.(None); none {
		return ackOK, nil
	}
	data, err := json.Marshal(out)
	if err != nil {
		return Raw{}, errorf("encoding the result: %w", err)
	}
	b := make([]byte, 0, len(data)+20)
	b = append(append(append(b, `{"ok":true,"data":`...), data...), '}')
	return Raw{Args: []json.RawMessage{b}}, nil
}

func failure(e *Error) Raw {
	b, err := json.Marshal(struct {
		OK    bool   `json:"ok"`
		Error *Error `json:"error"`
	}{Error: e})
	if err != nil { // cannot happen: strings marshal
		b = []byte(`{"ok":false,"error":{"code":"internal","message":"internal error"}}`)
	}
	return Raw{Args: []json.RawMessage{b}}
}

func (r Raw) bytes() [][]byte {
	args := make([][]byte, len(r.Args))
	for i, a := range r.Args {
		args[i] = a
	}
	return args
}

func rawOf(args, attachments [][]byte) Raw {
	r := Raw{Args: make([]json.RawMessage, len(args)), Attachments: attachments}
	for i, a := range args {
		r.Args[i] = a
	}
	return r
}
