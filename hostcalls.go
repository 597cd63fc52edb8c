// The calls of the host's code: which kinds there are, and how each is bounded. None
// is made but through package hostcall.

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
	// abandonedFactor is how many calls of a kind may be abandoned, as a multiple of
	// Limits.RepoConcurrency.
	abandonedFactor = 16
	// disconnectsAtOnce is how many calls of one function of OnDisconnect run at once,
	// and how many may be abandoned: each holds a goroutine and its socket.
	disconnectsAtOnce = 256
	// callsPerSource is how many calls for what a client chose, such as its token, are made
	// for one address at a time, abandoned ones included.
	callsPerSource = 32
	// siteShare: at most 1/siteShare of those calls are made for one site.
	siteShare = 8
	// abandonedEvents is how many calls of methods of the host's events may be abandoned.
	abandonedEvents = 64
	// abandonedRows is how many calls for one row of a repository the sweep may abandon.
	abandonedRows = 64
	// adapterTimeout is for Adapter.Publish, RoomWatcher.RoomChanged and
	// AdapterChecker.Check, which must not block.
	adapterTimeout = time.Second
	// connContextTimeout is for Options.ConnContext, for which a handshake waits.
	connContextTimeout = time.Second
	// askAgain is how long after the last of too many abandoned calls the host is called
	// again, where few are too many.
	askAgain = time.Minute
	// setupFactor is how long a bus or an adapter has to begin, as a multiple of
	// Timeouts.Repo.
	setupFactor = 6
)

// hostCalls are the kinds of calls that somebody waits for, and the queues of those
// that nobody does.
type hostCalls struct {
	verify, trips, parties *hostcall.Kind
	positions              *hostcall.Kind // TripLookup, for a position
	events                 *hostcall.Kind // the methods of the host's own events
	sweep                  sweepCalls
	presence               *hostcall.Kind                 // the bus, for presence
	bus                    *hostcall.Kind                 // the bus, for Publish
	connContext            *hostcall.Kind                 // Options.ConnContext
	request, roomChanged   *hostcall.Kind                 // the adapter
	check                  *hostcall.Kind                 // AdapterChecker.Check
	rooms                  *hostcall.Notices[watchedRoom] // the adapter, if it watches rooms; else nil
	setup, shutdown        *hostcall.Kind                 // the adapter and the bus, when the server begins and ends

	trace   *hostcall.Queue // functions of Options.Trace
	dropped droppedTrace
	cluster *hostcall.Queue // messages for the adapter
}

// sweepCalls are the sweep's, of each repository apart: one that hangs keeps nobody from
// asking the others.
type sweepCalls struct{ users, sessions, trips sweepCall }

// sweepCall is a batch, and a row, where a call reads one.
type sweepCall struct {
	batch, row *hostcall.Kind
	rows       rowCalls
}

func (h *hostCalls) init(rt *Server) {
	o := &rt.opts
	many := abandonedFactor * o.Limits.RepoConcurrency
	repo := func(running, abandoned int) *hostcall.Kind {
		return hostcall.NewKind(hostcall.Limits{Timeout: o.Timeouts.Repo, Running: running, Abandoned: abandoned, Inspect: inspect})
	}
	few := func(running, abandoned int) *hostcall.Kind { // of which a few that hang are all
		return hostcall.NewKind(hostcall.Limits{Timeout: o.Timeouts.Repo, Running: running, Abandoned: abandoned, Again: askAgain, Inspect: inspect})
	}
	untimed := func(running, abandoned int) *hostcall.Kind {
		return hostcall.NewKind(hostcall.Limits{Running: running, Abandoned: abandoned, Inspect: inspect})
	}
	h.verify = hostcall.NewKind(o.askingFor(o.Timeouts.Repo))
	h.trips, h.parties = repo(many, many), repo(many, many)
	h.connContext = hostcall.NewKind(o.askingFor(connContextTimeout))
	h.positions = repo(o.Limits.RepoConcurrency, o.Limits.RepoConcurrency)
	for _, s := range []*sweepCall{&h.sweep.users, &h.sweep.sessions, &h.sweep.trips} {
		s.batch, s.row = few(1, 1), few(sweepConcurrency, abandonedRows)
	}
	h.events = few(many, abandonedEvents)
	h.presence = few(1, presenceTries)
	h.bus = untimed(1<<16, 1024)
	h.request = hostcall.NewKind(hostcall.Limits{Running: 1024, Abandoned: 64, Again: askAgain, Inspect: inspect})
	h.roomChanged = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 1024, Abandoned: 64, Again: askAgain, Inspect: inspect})
	if w, ok := rt.adapter.(RoomWatcher); ok {
		h.rooms = rt.roomNotices(w)
	}
	h.check = hostcall.NewKind(hostcall.Limits{Timeout: adapterTimeout, Running: 64, Abandoned: 16, Again: askAgain, Inspect: inspect})
	h.setup = hostcall.NewKind(hostcall.Limits{Timeout: setupFactor * o.Timeouts.Repo, Running: 2, Abandoned: 2, Inspect: inspect})
	h.shutdown = untimed(8, 8)
	h.trace = rt.queue(traceQueue, time.Second, "Trace", rt.traceDropped)
	h.cluster = rt.queue(1<<14, adapterTimeout, "Adapter.Publish", nil)
}

// queue returns a queue of calls that nobody waits for. What says in the log whose
// they are; dropped, which may be nil, is told of those that were not made.
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

// askingRepo bounds the questions to a repository, of which Limits.RepoConcurrency
// run at once.
func (o *Options) askingRepo() hostcall.Limits {
	return hostcall.Limits{Timeout: o.Timeouts.Repo, Running: o.Limits.RepoConcurrency, Abandoned: abandonedFactor * o.Limits.RepoConcurrency, Inspect: inspect}
}

// askingFor bounds the calls for what a client chose: it may choose what makes them hang.
// A call whose source is nil, for an address that identifies no client, has no share.
func (o *Options) askingFor(timeout time.Duration) hostcall.Limits {
	many := abandonedFactor * o.Limits.RepoConcurrency
	perSource := min(callsPerSource, max(1, many/32))
	return hostcall.Limits{
		Timeout: timeout, Running: many, Abandoned: many, Inspect: inspect,
		PerSource: perSource, PerGroup: max(perSource, many/siteShare),
		Group: func(source any) any { return source.(admission.Network).Site() }, //nolint:errcheck,forcetypeassert // connState.source is nothing else
	}
}

// source returns the network for which a call is made, nil if its address identifies no
// client.
func (c *connState) source() any {
	if n, ok := c.Network(); ok {
		return n
	}
	return nil
}

// inspect looks at an error of the host's code, as a part of the call that returned it:
// its methods are the host's code too. What it returns is looked at anywhere.
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

// hostFailed logs a call of the host's code that failed and has nobody to return its
// error to.
func (rt *Server) hostFailed(what string, err error, attrs ...any) {
	attrs = append(attrs, "call", what, "error", err)
	rt.log.Error("realtime: call of the host's code failed", withStack(err, attrs...)...)
}

// withStack adds where a panic happened, if err is one, to what is logged.
func withStack(err error, attrs ...any) []any {
	if stack := hostcall.Stack(err); stack != "" {
		attrs = append(attrs, "stack", stack)
	}
	return attrs
}

// clusterPublish hands a message to the adapter, in the order of the calls, and waits
// for it, which it must not make worth mentioning. The adapter's error is logged.
func (rt *Server) clusterPublish(m ClusterMessage) error {
	m.Version = ClusterVersion
	queued := rt.host.cluster.AddAndWait(func() {
		if err := rt.adapter.Publish(context.Background(), m); err != nil {
			rt.adapterFailed(inspect(err), "namespace", m.Namespace, "op", m.Op)
		}
	})
	if !queued { // the queue logs it
		return errorf("adapter: %w", ErrUnavailable)
	}
	return nil
}

// adapterFailed logs an error of the adapter. One that is closed fails: that a call which
// Shutdown did not wait for has reached it is no fault.
func (rt *Server) adapterFailed(err error, attrs ...any) {
	level := slog.LevelError
	if rt.adapterClosed.Load() {
		level = slog.LevelDebug
	}
	rt.log.Log(context.Background(), level, "realtime: adapter failed", append(attrs, "error", err)...)
}

// clusterRequest asks the other nodes, behind what was published before. Answer is
// called one at a time, and not after it has returned.
func (rt *Server) clusterRequest(ctx context.Context, m ClusterMessage, answer func(ClusterAnswer)) error {
	m.Version = ClusterVersion
	if err := rt.host.cluster.Wait(ctx); err != nil {
		return err
	}
	var mu sync.Mutex // guards over
	over := false
	err := hostcall.Run(ctx, rt.host.request, func(ctx context.Context) error {
		return rt.adapter.Request(ctx, m, func(a ClusterAnswer) {
			mu.Lock()
			defer mu.Unlock()
			if !over {
				answer(a)
			}
		})
	})
	mu.Lock()
	defer mu.Unlock()
	over = true
	return err
}

// watchedRoom is a room of which the adapter is told.
type watchedRoom struct{ namespace, name string }

// roomNotices tells an adapter of rooms that begin or end, of each at least once behind
// its last change: an adapter that subscribes room by room receives nothing else.
func (rt *Server) roomNotices(w RoomWatcher) *hostcall.Notices[watchedRoom] {
	return hostcall.NewNotices(rt.ctx, hostcall.NoticesConfig[watchedRoom]{
		Kind:    rt.host.roomChanged,
		Call:    func(r watchedRoom) { w.RoomChanged(r.namespace, r.name) },
		Matters: func(r watchedRoom) bool { return node{rt}.HasRoom(r.namespace, r.name) },
		Failed:  func(r watchedRoom, err error) { rt.hostFailed("Adapter.RoomChanged", err, "namespace", r.namespace) },
	})
}

// guardedLog is the host's slog.Handler, whose panic loses a record and nothing else.
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
