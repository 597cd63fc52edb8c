// Host calls: the kinds of calls of the host's code, and the limits of each. All of them go
// through package hostcall. The calls of the adapter, and the errors and the log handler of the
// host, are here too.

package realtime

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/admission"
	"github.com/rodando/realtime/internal/hostcall"
)

const (
	// abandonedFactor is the maximum number of abandoned calls of most kinds, as a multiple
	// of Limits.RepoConcurrency.
	abandonedFactor = 16
	// disconnectsAtOnce is the maximum number of concurrent calls of one function of
	// OnDisconnect, and of abandoned ones: each holds a goroutine and its socket.
	disconnectsAtOnce = 256
	// callsPerSource is the maximum number of calls for one address, abandoned ones
	// included, of the kinds whose argument the client chooses, such as its token.
	callsPerSource = 32
	// callsPerRow is the maximum number of calls for one row of Users or Sessions, or for the
	// trips or the snapshot of one user, or the parties of one trip, abandoned ones included. There are several
	// at once only after revocations, or if a user connects several times at once.
	callsPerRow = 8
	// siteShare: at most 1/siteShare of these calls are for one site.
	siteShare = 8
	// abandonedEvents is the maximum number of abandoned calls of methods of the host's
	// events.
	abandonedEvents = 64
	// abandonedRows is the maximum number of abandoned calls of a sweep that read one row.
	abandonedRows = 64
	// adapterTimeout is the timeout of Adapter.Publish, RoomWatcher.RoomChanged and
	// AdapterChecker.Check, which must not block.
	adapterTimeout = time.Second
	// publishCall names the calls of Adapter.Publish in the log.
	publishCall = "Adapter.Publish"
	// connContextTimeout is the timeout of Options.ConnContext, which must not block.
	connContextTimeout = time.Second
	// abandonAgain is how long after the last abandoned call more calls may be abandoned, for
	// kinds with a small maximum: see hostcall.Limits.Again.
	abandonAgain = time.Minute
	// setupFactor is the timeout of the start of the adapter and the bus, as a multiple of
	// Timeouts.Repo.
	setupFactor = 6
)

// hostCalls holds the kinds of calls with a caller that waits, and the queues of calls
// without one.
type hostCalls struct {
	verify, trips, parties *hostcall.Kind // TokenVerifier, TripLookup for a handshake, PartyLookup
	snapshots              *hostcall.Kind // SnapshotLookup
	positions              *hostcall.Kind // TripLookup, for a position
	events                 *hostcall.Kind // the methods of the host's own events
	sweep                  sweepCalls
	presence               *hostcall.Kind                 // the bus, for presence
	bus                    *hostcall.Kind                 // the bus, for Publish
	connContext            *hostcall.Kind                 // Options.ConnContext
	unreachable            *hostcall.Kind                 // Options.Unreachable
	recovery               *hostcall.Kind                 // Options.Recovery.Rooms
	request, roomChanged   *hostcall.Kind                 // the adapter
	catchUp                *hostcall.Kind                 // CatchUpAdapter.CatchUp
	claims                 *hostcall.Kind                 // Claimer.Claim and Unclaim
	callAsks, callStores   *hostcall.Kind                 // CallKeeper: what a client may wait for, and the acks
	check                  *hostcall.Kind                 // AdapterChecker.Check
	rooms                  *hostcall.Notices[watchedRoom] // for an adapter that is a RoomWatcher; otherwise nil
	setup, shutdown        *hostcall.Kind                 // the adapter and the bus, when the server starts and ends

	trace   *hostcall.Queue // functions of Options.Trace
	dropped droppedTrace
	cluster *hostcall.Queue // messages for the adapter
	direct  bool            // they need no queue: it is a DirectPublisher
}

// sweepCalls has the kinds of calls of the sweep. Each repository has its own, so one that
// hangs does not prevent calls of the others.
type sweepCalls struct{ users, sessions, trips sweepCall }

// sweepCall has the kinds of calls of one repository: those that read a batch of rows, and
// those that read one row.
type sweepCall struct {
	batch, row *hostcall.Kind
	rows       rowCalls
}

func (h *hostCalls) init(rt *Server) {
	o := &rt.opts
	many := abandonedFactor * o.Limits.RepoConcurrency
	few := func(running, abandoned int) *hostcall.Kind { // a small maximum: a few calls that hang would end the kind
		return hostcall.NewKind(hostcall.Limits{Timeout: o.Timeouts.Repo, Running: running, Abandoned: abandoned, Again: abandonAgain, Inspect: inspect})
	}
	untimed := func(running, abandoned int) *hostcall.Kind {
		return hostcall.NewKind(hostcall.Limits{Running: running, Abandoned: abandoned, Inspect: inspect})
	}
	h.verify = hostcall.NewKind(o.clientCallLimits(o.Timeouts.Repo))
	h.recovery = hostcall.NewKind(o.clientCallLimits(o.Timeouts.Repo))
	limits := o.repoLimits()
	h.positions = hostcall.NewKind(limits)
	limits.Running = many
	h.trips, h.parties, h.snapshots = hostcall.NewKind(limits), hostcall.NewKind(limits), hostcall.NewKind(limits)
	h.connContext = hostcall.NewKind(o.clientCallLimits(connContextTimeout))
	for _, s := range []*sweepCall{&h.sweep.users, &h.sweep.sessions, &h.sweep.trips} {
		s.batch, s.row = few(1, 1), few(sweepConcurrency, abandonedRows)
	}
	h.events = few(many, abandonedEvents)
	h.presence = few(1, presenceTries)
	h.unreachable = few(many, abandonedEvents)
	h.bus = untimed(1<<16, 1024)
	h.request = hostcall.NewKind(hostcall.Limits{Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	h.catchUp = hostcall.NewKind(hostcall.Limits{Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	h.claims = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	h.callAsks = hostcall.NewKind(hostcall.Limits{Timeout: callPatience, Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	h.callStores = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	h.roomChanged = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 1024, Abandoned: 64, Again: abandonAgain, Inspect: inspect})
	if w, ok := rt.adapter.(RoomWatcher); ok {
		h.rooms = rt.roomNotices(w)
	}
	h.check = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 64, Abandoned: 16, Again: abandonAgain, Inspect: inspect})
	h.setup = hostcall.NewKind(hostcall.Limits{Timeout: setupFactor * o.Timeouts.Repo, Running: 2, Abandoned: 2, Inspect: inspect})
	h.shutdown = untimed(8, 8)
	h.trace = rt.queue(traceQueue, time.Second, "Trace", rt.traceDropped)
	h.cluster = rt.queue(1<<14, adapterTimeout, publishCall, nil)
	_, h.direct = rt.adapter.(DirectPublisher)
}

// queue returns a queue of calls without a caller that waits. what names them in the log.
// dropped, if not nil, is called with the number of dropped calls.
func (rt *Server) queue(size int, timeout time.Duration, what string, dropped func(calls int)) *hostcall.Queue {
	return hostcall.NewQueue(hostcall.QueueConfig{
		Size: size, Timeout: timeout, Abandoned: 16,
		Failed: func(err error) { rt.hostFailed(what, err) },
		Dropped: func(n int) {
			rt.log.Error("realtime: calls dropped: the host is too slow", "call", what, "dropped", n)
			if dropped != nil {
				dropped(n)
			}
		},
	})
}

// repoLimits returns the limits of the calls of Users, Sessions, Trips, Parties and Snapshots. Their source
// is the id that is looked up: a row whose calls never return, because of a lock for instance,
// must not use up the calls of the others, however often its user tries to connect. Where there
// are many such rows, the others are read again after abandonAgain.
func (o *Options) repoLimits() hostcall.Limits {
	many := abandonedFactor * o.Limits.RepoConcurrency
	return hostcall.Limits{
		Timeout: o.Timeouts.Repo, Running: o.Limits.RepoConcurrency, Abandoned: many, Again: abandonAgain,
		PerSource: min(callsPerRow, many), Inspect: inspect,
	}
}

// clientCallLimits returns the limits of calls whose argument the client chooses: it may choose
// one that makes them hang, so each address and each site has a share of them. A call with a
// nil source, for an address that does not identify a client, belongs to no share.
func (o *Options) clientCallLimits(timeout time.Duration) hostcall.Limits {
	many := abandonedFactor * o.Limits.RepoConcurrency
	perSource := min(callsPerSource, max(1, many/32))
	return hostcall.Limits{
		Timeout: timeout, Running: many, Abandoned: many, Inspect: inspect,
		PerSource: perSource, PerGroup: max(perSource, many/siteShare),
		Group: func(source any) any { return source.(admission.Network).Site() }, //nolint:errcheck,forcetypeassert // connState.source returns only this type
	}
}

// source returns the network that a call counts for, or nil if the address does not identify a
// client.
func (c *connState) source() any {
	if n, ok := c.Network(); ok {
		return n
	}
	return nil
}

// inspect returns a safe copy of an error of the host's code. It must be called within the
// call that returned the error, because the error's methods are the host's code too. The
// methods of the copy are safe to call anywhere.
func inspect(err error) error {
	if e, ok := err.(*Error); ok && e != nil { //nolint:errorlint // what is wrapped is the host's
		return err
	}
	return inspector.Inspect(err)
}

var inspector = hostcall.Inspector{
	Known: []error{
		ErrNotFound, ErrUnavailable, ErrTokenInvalid, ErrTokenExpired, ErrClosed,
		context.DeadlineExceeded, context.Canceled,
	},
	Find: func(err error) error {
		if e, ok := asError(err); ok {
			return e
		}
		return nil
	},
}

// hostFailed logs the error of a call of the host's code without a caller to return it to.
func (rt *Server) hostFailed(what string, err error, attrs ...any) {
	attrs = append(attrs, "call", what, "error", err)
	rt.log.Error("realtime: call of the host's code failed", withStack(err, attrs...)...)
}

// withStack returns the attributes of a log line, with the stack if err is a panic.
func withStack(err error, attrs ...any) []any {
	if stack := hostcall.Stack(err); stack != "" {
		attrs = append(attrs, "stack", stack)
	}
	return attrs
}

// clusterPublish passes a message to the adapter, in the order of the calls, and waits until
// Adapter.Publish has returned. It does not wait for an adapter that is slow. It logs the
// adapter's error. It returns an error if the queue of messages is full or stalled.
func (rt *Server) clusterPublish(m ClusterMessage) error {
	m.Version = ClusterVersion
	if rt.host.direct {
		rt.publishDirectly(m)
		return nil
	}
	return rt.publishInOrder(m)
}

// clusterHand is clusterPublish for a caller that holds a lock: it passes the message on, and does
// what remains when the caller calls then.
func (rt *Server) clusterHand(m ClusterMessage) (then func()) {
	m.Version = ClusterVersion
	if !rt.host.direct {
		wait, ok := rt.host.cluster.AddThen(func() { rt.adapterPublish(m) })
		if !ok {
			rt.peerSockets.lostMessage()
			return func() {}
		}
		return wait
	}
	var failed []error
	err := hostcall.Guard(func() error { return rt.adapter.Publish(context.Background(), m) }, func(err error) { failed = append(failed, err) })
	if err != nil || len(failed) > 0 {
		rt.peerSockets.lostMessage()
	}
	return func() {
		for _, err := range failed {
			rt.hostFailed(publishCall, err)
		}
		if err != nil {
			rt.adapterFailed(inspect(err), "namespace", m.Namespace, "op", m.Op)
		}
	}
}

func (rt *Server) publishDirectly(m ClusterMessage) {
	failed := func(err error) { rt.hostFailed(publishCall, err) }
	if err := hostcall.Guard(func() error { rt.adapterPublish(m); return nil }, failed); err != nil {
		failed(err)
	}
}

func (rt *Server) publishInOrder(m ClusterMessage) error {
	if !rt.host.cluster.AddAndWait(func() { rt.adapterPublish(m) }) { // the queue logs the dropped message
		return errorf("adapter: %w", ErrUnavailable)
	}
	return nil
}

func (rt *Server) adapterPublish(m ClusterMessage) {
	published := false
	defer func() { // also after a panic
		if !published {
			rt.peerSockets.lostMessage()
		}
	}()
	err := rt.adapter.Publish(context.Background(), m)
	published = err == nil
	if err != nil {
		rt.adapterFailed(inspect(err), "namespace", m.Namespace, "op", m.Op)
	}
}

// adapterFailed logs an error of the adapter. After Shutdown has closed the adapter, an error is
// expected, from calls that Shutdown did not wait for, and has the level debug.
func (rt *Server) adapterFailed(err error, attrs ...any) {
	level := slog.LevelError
	if rt.adapterClosed.Load() {
		level = slog.LevelDebug
	}
	rt.log.Log(context.Background(), level, "realtime: adapter failed", append(attrs, "error", err)...)
}

// requestGrace is how long after the end of its ctx a request waits for the adapter, whose error
// names the nodes that have not answered.
const requestGrace = 100 * time.Millisecond

// clusterRequest sends a request to the other nodes, after the messages that were published
// before. It calls answer for one answer at a time, and not after it has returned.
func (rt *Server) clusterRequest(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer)) error {
	m.Version = ClusterVersion
	if err := rt.host.cluster.Wait(ctx); err != nil {
		return err
	}
	var mu sync.Mutex // guards returned
	returned := false
	later, cancel := endsLater(ctx, requestGrace)
	defer cancel()
	err := hostcall.Run(later, rt.host.request, func(context.Context) error {
		return rt.adapter.Request(ctx, m, func(a ClusterAnswer) {
			mu.Lock()
			defer mu.Unlock()
			if !returned {
				answer(a)
			}
		})
	})
	mu.Lock()
	defer mu.Unlock()
	returned = true
	if later.Err() != nil {
		return ctx.Err()
	}
	return err
}

// endsLater returns a context that ends d after ctx has ended.
func endsLater(ctx context.Context, d time.Duration) (context.Context, context.CancelFunc) {
	later, cancel := context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, func() { time.AfterFunc(d, cancel) })
	return later, func() {
		stop()
		cancel()
	}
}

// watchedRoom is a room whose changes the adapter watches.
type watchedRoom struct{ namespace, name string }

// roomNotices returns the notices that call RoomChanged when a room may have begun or ended.
// After the last change of each room there is a call: without it, an adapter that subscribes to
// rooms one by one would miss the room's messages.
func (rt *Server) roomNotices(w RoomWatcher) *hostcall.Notices[watchedRoom] {
	return hostcall.NewNotices(rt.ctx, hostcall.NoticesConfig[watchedRoom]{
		Kind:    rt.host.roomChanged,
		Call:    func(r watchedRoom) { w.RoomChanged(r.namespace, r.name) },
		Matters: func(r watchedRoom) bool { return node{rt}.HasRoom(r.namespace, r.name) },
		Failed:  func(r watchedRoom, err error) { rt.hostFailed("Adapter.RoomChanged", err, "namespace", r.namespace) },
	})
}

// guardedLog wraps the host's slog.Handler: a panic of it only loses the log record.
type guardedLog struct{ slog.Handler }

func (g guardedLog) Enabled(ctx context.Context, l slog.Level) (ok bool) {
	defer func() { _ = recover() }()
	return g.Handler.Enabled(ctx, l)
}

func (g guardedLog) Handle(ctx context.Context, r slog.Record) (err error) {
	defer func() { _ = recover() }()
	return g.Handler.Handle(ctx, r)
}

func (g guardedLog) WithAttrs(attrs []slog.Attr) (h slog.Handler) {
	defer func() {
		if recover() != nil {
			h = g
		}
	}()
	return guardedLog{g.Handler.WithAttrs(attrs)}
}

func (g guardedLog) WithGroup(name string) (h slog.Handler) {
	defer func() {
		if recover() != nil {
			h = g
		}
	}()
	return guardedLog{g.Handler.WithGroup(name)}
}
