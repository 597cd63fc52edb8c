// Namespaces: the three of the contract and the host's own, and how an inbound
// event finds its typed handler.

package realtime

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"sync"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// The built-in namespaces.
const (
	NamespaceDrivers    = "/drivers"
	NamespacePassengers = "/passengers"
	NamespaceAdmin      = "/admin"
)

// builtinNamespace is one of the three: the user type that it is for, the room of
// all sockets of a user, and the rooms that every socket joins.
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

// builtinByName returns nil for a namespace of the host's own.
func builtinByName(name string) *builtinNamespace {
	for i := range builtinNamespaces {
		if builtinNamespaces[i].name == name {
			return &builtinNamespaces[i]
		}
	}
	return nil
}

// homeOf returns the built-in namespace that a user type is for, and nil for a type
// of the host's own.
func homeOf(t UserType) *builtinNamespace {
	for i := range builtinNamespaces {
		if builtinNamespaces[i].userType == t {
			return &builtinNamespaces[i]
		}
	}
	return nil
}

// NamespaceOptions configures a namespace of the host's own.
type NamespaceOptions struct {
	// UserTypes may enter; none listed: every type.
	UserTypes []UserType
	// Anonymous admits everybody without a token; Identity is zero then.
	Anonymous bool
	// Authorize, when set, has the last word on an identity that passed the
	// usual checks. An *Error refuses with its code and message, any other
	// error with CodeUnavailable. It may block, within ctx, and is called
	// concurrently.
	Authorize func(ctx context.Context, r AuthorizeRequest) error
	// Interceptors wrap the calls of the namespace, inside of Options.Interceptors.
	Interceptors []Interceptor
}

// AuthorizeRequest is who wants to enter a namespace, or to go on in it with a fresh
// token.
type AuthorizeRequest struct {
	// Identity is who it is, by token and repositories.
	Identity Identity
	// Socket is the socket that is to be, of which only ID, Namespace, RemoteAddr,
	// Transport and the values of SocketKeys mean something yet; with auth:refresh it is
	// the socket that renews itself.
	Socket *Socket
	// Auth is the object that the client has sent with its CONNECT, as "auth" of a stock
	// client, without the field "token"; nil when there is none, and with auth:refresh. A
	// CONNECT with one of more than 16 KiB is refused with CodeInvalidPayload. The
	// server does not keep it.
	Auth json.RawMessage
}

// Namespace is one of the server's namespaces: where handlers, interceptors and hooks
// are registered and broadcasts begin. All methods may be called concurrently. What is
// registered counts for the events and sockets after that, so that it is best registered
// before the server is mounted. No lock is held while a handler, interceptor or hook
// runs, which may therefore register others.
type Namespace struct {
	rt    *Server
	name  string
	opts  NamespaceOptions
	inner *socketio.Namespace

	authorizes *hostcall.Kind  // calls of NamespaceOptions.Authorize
	listening  *hostcall.Queue // calls of listeners

	interceptors *interceptors

	mu           sync.RWMutex // guards what follows; of the last two the slices only grow
	handlers     map[string]*route
	listeners    map[string][]func(args Raw)
	onConnect    []*connectHook
	onDisconnect []*disconnectHook
}

// connectHook is a function of OnConnect.
type connectHook struct {
	f     func(ctx context.Context, s *Socket) error
	calls hostcall.Handler
}

// disconnectHook is a function of OnDisconnect. Its calls are of a kind of their own,
// so that others are made though it hangs.
type disconnectHook struct {
	f     func(ctx context.Context, s *Socket, reason DisconnectReason)
	calls *hostcall.Kind
}

// route is what answers an event.
type route struct {
	handle   CallFunc
	describe func() EventDoc // nil for one that has no type
	calls    hostcall.Handler
}

// Name returns the namespace's name, such as "/drivers".
func (ns *Namespace) Name() string { return ns.name }

// OnConnect adds a function that is called for each new socket, after its hello and
// before any of its events. Several run in the order in which they were added. What
// they emit follows hello; the first error disconnects the socket, and the functions
// after it are not called. Each may block, within its ctx, and is called concurrently
// for different sockets. It panics when f is nil.
func (ns *Namespace) OnConnect(f func(ctx context.Context, s *Socket) error) {
	if f == nil {
		panic("realtime: OnConnect: the function is nil")
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.onConnect = append(ns.onConnect, &connectHook{f: f})
}

// OnDisconnect adds a function that is called once for each socket that has ended,
// after the last of its events, with the reason. Several run in the order in which they
// were added, whatever becomes of the others. Socket.Rooms still returns the rooms that
// the socket was in. It may block, within ctx, which ends after twice
// Timeouts.Handler, and is called concurrently for different sockets: at most 256
// calls of f run at once, others wait. A call that has not returned by then is
// abandoned; when 256 are, further ones are not made, which is logged. It panics when f
// is nil.
func (ns *Namespace) OnDisconnect(f func(ctx context.Context, s *Socket, reason DisconnectReason)) {
	if f == nil {
		panic("realtime: OnDisconnect: the function is nil")
	}
	calls := hostcall.NewKind(hostcall.Limits{
		Timeout: 2 * ns.rt.opts.Timeouts.Handler, Running: disconnectsAtOnce, Abandoned: abandonedPerHandler,
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

// Handle makes h answer the call in a namespace, instead of what answered it
// before, the library's own handlers included. One socket's events are handled
// one at a time, in the order in which they were sent; those of different
// sockets concurrently. ctx ends with Timeouts.Handler, which says what
// becomes of a handler that does not heed it, and with the server. Out is
// acknowledged as {ok:true, data}; an *Error as {ok:false,
// error}; any other error is logged and acknowledged as CodeInternal. It panics when ns
// or h is nil, and when the name is longer than Limits.EventName.
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

// HandleRaw makes h answer an event on its arguments as they stand on the wire,
// binary ones included. What h returns are the ack's arguments, without the
// {ok} envelope; an error is acknowledged as for a Call. Typed calls are the
// norm; this is for what has no type. The arguments are h's to keep. It panics when ns or
// h is nil, for a name for which NewEvent does, and for one longer than
// Limits.EventName.
func (ns *Namespace) HandleRaw(event string, h func(ctx context.Context, s *Socket, args Raw) (Raw, error)) {
	ns.mustHandle("HandleRaw", event, h != nil)
	ns.handle(event, nil, func(ctx context.Context, r *CallRequest) (Raw, error) { return h(ctx, r.socket, r.Args()) })
}

// OnServerEmit adds a listener for ServerEmit of other nodes. The listeners of a
// namespace are called one at a time, in the order of the events; one that does not
// return within about twice Timeouts.Handler is left to itself, and when too
// many events wait further ones are dropped, which is logged. It panics when f is nil.
func (ns *Namespace) OnServerEmit(event string, f func(args Raw)) {
	if f == nil {
		panic("realtime: OnServerEmit: the function is nil")
	}
	ns.mu.Lock()
	defer ns.mu.Unlock()
	ns.listeners[event] = append(ns.listeners[event], f)
}

// ServerEmit tells the other nodes' listeners of event. It says nothing to any
// client and nothing to this node. The adapter's error is logged.
func (ns *Namespace) ServerEmit(_ context.Context, event string, args ...any) error {
	raw := make([]json.RawMessage, len(args))
	for i, a := range args {
		b, err := json.Marshal(a)
		if err != nil {
			return errorf("encoding %s: %w", event, err)
		}
		raw[i] = b
	}
	return ns.rt.clusterPublish(ClusterMessage{Op: OpServerEmit, Namespace: ns.name, Event: wholeEvent(event, raw, nil)})
}

// mustHandle panics when no client could reach a handler, or nothing would handle its
// event: registering has no error to return.
func (ns *Namespace) mustHandle(method, event string, given bool) {
	problem := ""
	switch err := checkEventName(event); {
	case ns == nil:
		problem = "the namespace is nil; Server.Of returns nil for one that does not exist"
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
	ns.handlers[event] = &route{handle: h, describe: describe}
}

func (ns *Namespace) route(event string) *route {
	ns.mu.RLock()
	defer ns.mu.RUnlock()
	return ns.handlers[event]
}

// overflow is socketio's Hooks.Overflow: an event for which there is no room.
func (ns *Namespace) overflow(inner *socketio.Socket, e *socketio.Event) {
	if s, ok := inner.Data.(*Socket); ok && s.admitted && e.WantsAck() {
		e.Ack(nil, failure(errTooOften).bytes()...)
	}
}

// clientError turns an error of the host's code, once inspected, into what the client may see. Any
// other than an *Error is logged, once, here.
func (rt *Server) clientError(err error, namespace, event string, s *Socket) *Error {
	var e *Error
	if errors.As(err, &e) && e != nil {
		return e
	}
	code, message := CodeOf(err), "internal error"
	if code == CodeUnavailable {
		message = errUnavailable.Message
	}
	attrs := []any{"namespace", namespace, "event", event, "socket", s.ID(), "user", s.Identity().UserID, "error", err}
	level := slog.LevelError
	if over := rt.handling.Err() != nil; over && errors.Is(err, context.Canceled) || (over || s.inner.Closed()) && errors.Is(err, ErrClosed) {
		level = slog.LevelDebug // Shutdown ended it, or the client left
	}
	rt.log.Log(context.Background(), level, "realtime: handler failed", withStack(err, attrs...)...)
	return &Error{Code: code, Message: message}
}

// decodeBody decodes an event's first argument; an absent one is like {}.
func decodeBody[In any](e *socketio.Event, in *In) error {
	if _, none := any(in).(*None); none {
		return nil
	}
	body := []byte("{}")
	if len(e.Args) > 0 {
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

// invalidPayload says what is wrong with a body, without repeating it.
func invalidPayload(err error) *Error {
	var e *Error
	if errors.As(err, &e) {
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
		return Raw{}, fmt.Errorf("encoding the result: %w", err)
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
	if err != nil { // cannot happen: strings
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
