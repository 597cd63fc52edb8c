// Server: a host creates it, mounts it, publishes domain events on it and shuts it down.

package realtime

import (
	"context"
	"errors"
	"fmt"
	"hash/maphash"
	"log/slog"
	"maps"
	"net/http"
	"runtime/debug"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/comebacks"
	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/logsample"
	"github.com/rodando/realtime/internal/origin"
	"github.com/rodando/realtime/internal/ratelimit"
	"github.com/rodando/realtime/internal/repeats"
	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/timingwheel"
)

// Path is where clients look for the server unless they are configured otherwise.
const Path = "/socket.io/"

// Server is the realtime side of a host: an http.Handler that Socket.IO clients connect
// to, and the publisher of the host's domain events. New returns one; the zero value is
// not usable. All methods may be called concurrently. They may also be called after
// Shutdown; ServeHTTP then answers 503.
type Server struct {
	opts     Options      // New sets this field and those before ending; they do not change later
	log      *slog.Logger // drops repeated lines: clients can cause most of them
	auditLog *slog.Logger // writes every line to the host's logger
	sampled  *logsample.Handler
	origins  *origin.Policy
	adapter  Adapter
	// adapterClosed is set before Shutdown closes the adapter, and if its Start has failed.
	adapterClosed atomic.Bool
	stopping      atomic.Bool // set when Shutdown begins
	// clustered says that there may be other nodes.
	clustered bool

	wheel  *timingwheel.Wheel
	sio    *socketio.Server
	ctx    context.Context //nolint:containedctx // the server's lifetime: it ends before the adapter is closed
	cancel context.CancelFunc
	// handlerCtx is the parent of all handler contexts. It is canceled up to two seconds
	// after the last connection closed, so that running handlers can finish.
	handlerCtx     context.Context //nolint:containedctx // the lifetime of handlers
	cancelHandlers context.CancelFunc

	admission     *admission.Control
	comebacks     *comebacks.Table
	limiter       *ratelimit.Limiter // limits events; nil: no limits
	repeats       *repeats.Table     // the acks of events with an idempotency key
	repeatSeed    maphash.Seed
	host          hostCalls
	watchdog      hostcall.Watchdog // abandons handlers that do not return
	users         *hostcall.Lookup[User]
	sessions      *hostcall.Lookup[Session]
	sweep         sweep
	recovery      recovery
	peerSockets   peerSockets
	peerCalls     peerCalls
	replaced      replacedSessions
	presence      presence
	presenceCheck presenceCheck
	peerUsers     peerUsers
	peerRooms     peerRooms
	userLimit     userLimit
	offers        offers
	tracking      tracking
	pending       pendingHandshakes
	undecided     undecidedHandshakes
	events        *registry
	publisher     *publisher
	busHandover   busHandover
	cluster       clusterState
	unsubscribe   func()        // ends the subscription to the bus
	memoryBus     *MemoryBus    // the one that the bus is or wraps; nil: none
	subscription  *subscription // if there is a memoryBus
	ownBus        *MemoryBus    // set if Options.Bus is nil

	ending ending

	mu         sync.RWMutex // guards namespaces
	namespaces map[string]*Namespace
}

// New returns a server with the namespaces /drivers, /passengers and /admin and those of
// Options.Namespaces. It starts the adapter, subscribes to the bus and opens no listener.
// The error reports every mistake in o at once, in the order of the fields.
func New(o Options) (*Server, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	around, err := interceptorsOf(&o)
	if err != nil {
		return nil, err
	}
	o = o.defaults()
	o.Logger = slog.New(guardedLog{o.Logger.Handler()})
	rt := &Server{
		opts: o, auditLog: o.Logger, sampled: logsample.New(o.Logger.Handler()), adapter: o.Cluster.Adapter,
		origins:    origin.New(o.Origins.Allowed, o.Origins.Credentials, o.Origins.Required),
		namespaces: map[string]*Namespace{}, ending: ending{done: make(chan struct{})}, events: newRegistry(o.Events),
	}
	rt.log = slog.New(rt.sampled)
	rt.ctx, rt.cancel = context.WithCancel(context.Background())
	rt.handlerCtx, rt.cancelHandlers = context.WithCancel(context.Background())
	if rt.adapter == nil {
		rt.adapter = noAdapter{}
	} else {
		rt.clustered = true
	}
	if o.Drivers == nil {
		rt.opts.Drivers = NewMemoryDrivers()
	}
	if o.TokenSessions {
		o.Sessions = noSessions{}
		rt.opts.Sessions = o.Sessions
	}
	rt.admission = rt.newAdmission()
	rt.comebacks = comebacks.New(o.Timeouts.Connect)
	rt.limiter = newLimiter(&rt.opts)
	rt.host.init(rt)
	rt.startEngine()
	rt.repeats, rt.repeatSeed = rt.newRepeats(), maphash.MakeSeed()
	rt.watchdog.Start(hostcall.WatchdogConfig{
		Wheel: rt.wheel, Parent: rt.handlerCtx, Timeout: o.Timeouts.Handler,
		Calls: o.Limits.Handlers, PerHandler: o.Limits.HandlersPerEvent,
	})
	rt.users = hostcall.NewLookup(hostcall.LookupConfig[User]{
		Find: o.Users.FindUser, Cacheable: func(u User) bool { return u.Active },
		Cache: o.Timeouts.RepoCache, Limits: o.repoLimits(), Wheel: rt.wheel,
	})
	rt.sessions = hostcall.NewLookup(hostcall.LookupConfig[Session]{
		Find: o.Sessions.FindSession, Cacheable: func(s Session) bool {
			return !s.Revoked && (s.AccessTokenExpiresAt.IsZero() || s.AccessTokenExpiresAt.After(time.Now()))
		},
		Cache: o.Timeouts.RepoCache, Limits: o.repoLimits(), Wheel: rt.wheel,
	})
	rt.presence.init(rt)
	rt.presenceCheck.init(rt)
	rt.peerUsers.init(rt)
	rt.peerRooms.init(rt)
	rt.userLimit.init(rt)
	rt.offers.init(rt, maxOffers)
	rt.tracking.init(rt, maxTracked)
	rt.sweep.init(rt)
	rt.replaced.rt = rt
	rt.recovery.window = o.Recovery.Window
	rt.peerSockets.init(rt)
	rt.peerCalls.init(rt)
	rt.busHandover.rt = rt
	for _, b := range builtinNamespaces {
		rt.addLocked(b.name, NamespaceOptions{UserTypes: append([]UserType{b.userType}, o.UserTypes[b.name]...)}, around[b.name]) // no lock needed: rt is not shared yet
	}
	rt.handleBuiltins()
	for _, name := range slices.Sorted(maps.Keys(o.Namespaces)) {
		rt.addLocked(name, o.Namespaces[name], around[name])
	}
	rt.publisher = newPublisher(rt)
	if err := rt.subscribe(); err != nil {
		return nil, errors.Join(err, rt.Shutdown(context.Background()))
	}
	rt.sweep.start()
	if rt.clustered { // this node knows no trip and no user of the others yet
		rt.publisher.exchange.compare()
		rt.peerUsers.request()
		rt.offers.missed()
		rt.peerSockets.begin()
		rt.peerSockets.request()
	}
	return rt, nil
}

// startEngine creates the timing wheel and the socketio server.
func (rt *Server) startEngine() {
	o := &rt.opts
	// The tick is at most 1/20 of the shorter heartbeat timeout, so firing one tick early is negligible.
	rt.wheel = timingwheel.New(min(50*time.Millisecond, max(time.Millisecond, min(o.Timeouts.PingInterval, o.Timeouts.PingTimeout)/20)))
	rt.sio = socketio.New(socketio.Config{
		Limits: socketio.Limits{
			Attachments: o.Limits.Attachments, Depth: o.Limits.Depth, Values: o.Limits.Values, EventName: o.Limits.EventName, Namespace: 256,
		},
		AttachmentBytes: max(o.Limits.AttachmentBytes, o.Limits.MaxPayload),
		ConnectTimeout:  o.Timeouts.Connect,
		FirstTimeout:    rt.connectTimeout,
		QueuedEvents:    o.Limits.QueuedEvents,
		QueuedBytes:     2 * o.Limits.MaxPayload,
		Namespaces:      o.Limits.Namespaces,
		PendingAcks:     o.Limits.PendingAcks,
		EIO3Query:       8 * maxTokenLength, // leaves space for an oversized token, which is then refused as invalid_token
		Wheel:           rt.wheel,
		Limited:         rt.exceeded,
		UpgradeFailed:   rt.upgradeFailed,
		Heartbeat:       rt.heartbeat(),
		Recovery:        o.Recovery.config(claimerOf(o, rt.adapter) != nil),
		Failed:          rt.connectionFailed,
		Accept:          rt.accept,
		Opened:          func(data any, end func()) { rt.admission.Opened(&stateOf(data).Conn, end) },
		Left:            rt.socketLeft,
		Refused:         rt.connectRefused,
		Closed: func(data any) {
			c := stateOf(data)
			rt.pending.disconnected(c)
			rt.admission.Release(&c.Conn)
		},
		Engine: socketio.EngineConfig{
			PingInterval:      o.Timeouts.PingInterval,
			PingTimeout:       o.Timeouts.PingTimeout,
			UpgradeTimeout:    o.Timeouts.Upgrade,
			CloseTimeout:      o.Timeouts.Close,
			WriteTimeout:      o.Timeouts.Write,
			MaxPayload:        o.Limits.MaxPayload,
			MaxPackets:        o.Limits.PacketsPerBody,
			MaxIncomingBytes:  max(64<<20, 8*max(o.Limits.MaxPayload, o.Limits.AttachmentBytes)), // space for a few messages of the maximum size
			MaxOutboxBytes:    o.Limits.OutboxBytes,
			MaxOutboxMessages: o.Limits.OutboxMessages,
			NoPolling:         !slices.Contains(o.Transports, TransportPolling),
			NoWebSocket:       !slices.Contains(o.Transports, TransportWebSocket),
			AllowEIO3:         o.Compat.AllowEIO3,
			DoubleUTF8:        true,
			RetryAfter:        o.Timeouts.DrainDelay,
			Logger:            rt.log,
			Failed:            rt.engineFailed,
		},
	})
}

// subscribe connects the server to the bus and to the other nodes.
func (rt *Server) subscribe() error {
	if err := hostcall.Run(rt.ctx, rt.host.setup, rt.startAdapter); err != nil {
		return errorf("starting the adapter: %w", hostcall.Original(err))
	}
	if rt.opts.Bus == nil {
		rt.ownBus = NewMemoryBus()
		rt.opts.Bus = rt.ownBus
	}
	rt.publisher.parties.learn()
	to, err := hostcall.Do(rt.ctx, rt.host.setup, nil, func(context.Context) (to busSubscription, err error) { // a call that is abandoned changes nothing of rt
		if to.memory, _ = busAs[*MemoryBus](rt.opts.Bus); to.memory == nil {
			rt.busHandover.register() // before Subscribe: the bus may give this node events at once
			to.cancel, err = rt.opts.Bus.Subscribe(rt.publisher.subscription)
			return to, err
		}
		to.subscription = &subscription{handler: rt.publisher.handle, server: true}
		to.cancel, err = to.memory.subscribe(to.subscription)
		return to, err
	})
	if err != nil {
		return errorf("subscribing to the bus: %w", hostcall.Original(err))
	}
	rt.memoryBus, rt.subscription, rt.unsubscribe = to.memory, to.subscription, to.cancel
	return nil
}

// startAdapter starts the adapter with rt.ctx, which ends before the adapter is closed. An adapter that
// returns an error is not closed: it may be the one of another server.
func (rt *Server) startAdapter(context.Context) error {
	err := rt.adapter.Start(rt.ctx, node{rt})
	if err != nil {
		rt.adapterClosed.Store(true)
	}
	return err
}

// busSubscription is the server's subscription to its bus.
type busSubscription struct {
	memory       *MemoryBus    // the one that the bus is or wraps; nil: none
	subscription *subscription // if there is one
	cancel       func()
}

// Drivers returns the namespace /drivers.
func (rt *Server) Drivers() *Namespace { return rt.lookup(NamespaceDrivers) }

// Passengers returns the namespace /passengers.
func (rt *Server) Passengers() *Namespace { return rt.lookup(NamespacePassengers) }

// Admin returns the namespace /admin.
func (rt *Server) Admin() *Namespace { return rt.lookup(NamespaceAdmin) }

func (rt *Server) lookup(name string) *Namespace {
	rt.mu.RLock()
	defer rt.mu.RUnlock()
	return rt.namespaces[name]
}

// Of returns the namespace with that name, or nil if it does not exist.
func (rt *Server) Of(name string) *Namespace { return rt.lookup(name) }

// Namespace adds a namespace of the host's own and returns it. New adds the namespaces of
// Options.Namespaces. "/" is the one that some clients, such as the C++ one, always join: make it
// anonymous for them. Unless the namespace is anonymous, its sockets join the UserRoom and the
// SessionRoom of their user. The error says what is wrong with the name or the options,
// or that the namespace exists already.
func (rt *Server) Namespace(name string, o NamespaceOptions) (*Namespace, error) {
	if err := checkNamespace(name, o); err != nil {
		return nil, err
	}
	around, err := newInterceptors(rt.opts.Interceptors, o.Interceptors)
	if err != nil {
		return nil, err
	}
	rt.mu.Lock()
	defer rt.mu.Unlock()
	if rt.namespaces[name] != nil {
		return nil, fmt.Errorf("realtime: namespace %q exists; Of returns it", name)
	}
	return rt.addLocked(name, o, around), nil
}

func (rt *Server) addLocked(name string, o NamespaceOptions, around *interceptors) *Namespace {
	ns := &Namespace{rt: rt, name: name, opts: o, interceptors: around, handlers: map[string]*route{}, listeners: map[string][]func(Raw){},
		answerers: map[string]func(context.Context, Raw) (any, error){},
	}
	ns.authorizes = hostcall.NewKind(rt.opts.clientCallLimits(rt.opts.Timeouts.Repo))
	ns.answering = hostcall.NewKind(hostcall.Limits{Timeout: rt.opts.Timeouts.Handler, Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	ns.listening = rt.queue(listenerQueue, rt.opts.Timeouts.Handler, "OnServerEmit", nil)
	hooks := socketio.Hooks{Anonymous: o.Anonymous, Connect: ns.connect, Event: ns.dispatch, Wake: ns.woken, Overflow: ns.overflow, Disconnect: ns.disconnected, Panic: ns.onPanic}
	if rt.peerSockets.claimer != nil {
		hooks.Moved = ns.moved
	}
	if rooms := rt.host.rooms; rt.clustered {
		hooks.Room = func(room string) {
			rt.peerRooms.change(ns, room)
			if rooms != nil {
				rooms.Give(watchedRoom{name, room})
			}
		}
	}
	ns.inner = rt.sio.Namespace(name, hooks)
	if !o.Anonymous {
		AuthRefresh.Handle(ns, ns.refresh)
	}
	rt.namespaces[name] = ns
	return ns
}

// onPanic is socketio's Hooks.Panic. The panic is a fault of this library, because the
// host's code is called through package hostcall. It ends a connection, not the process.
func (ns *Namespace) onPanic(s *socketio.Socket, v any) {
	id := ""
	if s != nil {
		id = s.ID()
	}
	ns.rt.log.Error("realtime: panic", "namespace", ns.name, "socket", id, "error", hostcall.PanicText(v), "stack", string(debug.Stack()))
}

// each calls f for every namespace, in no particular order and without a lock.
func (rt *Server) each(f func(ns *Namespace)) {
	rt.mu.RLock()
	all := slices.Collect(maps.Values(rt.namespaces))
	rt.mu.RUnlock()
	for _, ns := range all {
		f(ns)
	}
}

// ServeHTTP implements http.Handler. Mount it at Path, and not inside an http.TimeoutHandler, which
// ends polls and permits no websocket. The timeouts of an http.Server do no harm.
func (rt *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	if rt.checkOrigin(w, r) {
		rt.sio.ServeHTTP(w, r)
	}
}

// Publish puts a domain event on the bus; the server that receives it from the bus emits
// it to its audience. Events of one trip, driver or user reach each socket in the order in
// which they were published. A nil error means that the bus has accepted the event, not
// that a client has received it. Publish may block, within ctx, as the bus does.
//
// Publish returns an error for nil, a nil pointer, an event that lacks a required field,
// and a type that is neither the library's nor in Options.Events. A MemoryBus passes the
// event on without copying it: do not change what it points to after Publish.
func (rt *Server) Publish(ctx context.Context, e DomainEvent) error {
	v, err := rt.events.valueOf(e)
	if err != nil {
		return prefixed(err)
	}
	bus, direct := rt.opts.Bus.(*MemoryBus)
	inProcess := rt.memoryBus != nil
	var env Envelope
	if v.about().hosts { // its methods are the host's code
		env, err = hostcall.Do(ctx, rt.host.events, nil, func(context.Context) (Envelope, error) { return packed(v, inProcess) })
	} else {
		env, err = packed(v, inProcess)
	}
	switch {
	case err != nil:
		return prefixed(err)
	case direct:
		return bus.Publish(ctx, env)
	}
	return prefixed(hostcall.Run(ctx, rt.host.bus, func(ctx context.Context) error { return rt.opts.Bus.Publish(ctx, env) }))
}

// packed checks an event and returns its envelope. If inProcess is true the envelope holds
// the event itself in place of its JSON.
func packed(v builtin, inProcess bool) (env Envelope, err error) {
	if err := checkDomain(v); err != nil {
		return env, err
	}
	env = Envelope{ID: newEventID(), Name: v.EventName(), Key: v.EventKey(), At: time.Now().UTC(), event: v}
	if inProcess {
		return env, nil
	}
	return env.encoded()
}

// DisconnectUser publishes UserAccessChanged: every socket of the user, in every namespace
// and on every node, gets auth:session_revoked with the reason and is disconnected. Call
// it when a user was banned, deactivated or given another type. It may block, within ctx.
func (rt *Server) DisconnectUser(ctx context.Context, userID, reason string) error {
	return rt.Publish(ctx, UserAccessChanged{UserID: userID, Reason: reason})
}

// DisconnectSession publishes SessionRevoked: every socket of the login session gets
// auth:session_revoked with the reason and is disconnected. It may block, within ctx.
func (rt *Server) DisconnectSession(ctx context.Context, sessionID, reason string) error {
	return rt.Publish(ctx, SessionRevoked{SessionID: sessionID, Reason: reason})
}
