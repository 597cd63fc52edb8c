// Shutdown: the order in which the parts of a server stop, and the host's HTTP server with them.

package realtime

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// Shutdown ends the server, and the host's http.Server on which it is mounted, in the order in
// which no event is lost:
//
//   - new connections get 503 with Retry-After;
//   - the domain events that were published before are delivered;
//   - each connection takes no more events; when the handlers of those it has taken have
//     returned and their acks are sent, at most two seconds later, every socket gets
//     server:drain, and the connection is closed after that was sent. Polling clients, whose
//     requests are open, come first; one that has lost its network is awaited for
//     Timeouts.PingTimeout. This goes on at the rate of Limits.DrainRate;
//   - httpServer.Shutdown waits for the other requests, which may still publish, and handlers
//     and OnDisconnect return. The ctx of handlers ends two seconds after the drain has begun;
//   - the events that were published meanwhile are delivered, the other nodes receive them too,
//     and the subscription to the bus ends. Publish on the server's own bus returns ErrClosed
//     from now on, and not earlier;
//   - calls of Options.Unreachable, OnServerAsk and OnServerEmit return. No further ones begin: another node
//     reports the offers that nobody has received, and answers to ServerAsk are null;
//   - another node confirms that it knows the users of this one, whom it publishes as disconnected
//     if they do not come back, and the trips of which this one has handled events. While none
//     answers, because Redis is away for instance, this takes up to 10 seconds; then this node
//     publishes the users itself;
//   - a node that has begun lately and gets the events for Options.Recovery from this one gets them
//     all, which takes up to 10 seconds;
//   - the adapter is closed.
//
// No step uses up the time: the second one takes at most half of the time until the deadline of
// ctx, and each other one leaves 1.5 seconds to the later ones, or a fifth of the time if that is
// less. Connections that remain then are closed at once. The error says all that could not be
// finished, and names the events whose handlers still run. The log has the number of connections
// that were closed before server:drain was sent to them, because the client read nothing for
// Timeouts.Close or because time was up.
//
// Never call Shutdown from a handler or from an HTTP request. Shutdown may be called several
// times and concurrently, and so may Server.Shutdown: a later call waits, within its ctx, for the
// first one, and returns the same error. httpServer may be nil; a host with several of them
// passes the one whose requests publish, and shuts the others down after that. Close a bus of
// yours, and what your services use, after Shutdown.
func Shutdown(ctx context.Context, httpServer *http.Server, rt *Server) error {
	first := false
	rt.ending.once.Do(func() { first = true })
	if first {
		defer close(rt.ending.done)
		rt.ending.http = httpServer
		rt.ending.err = rt.end(ctx)
		return rt.ending.err
	}
	select {
	case <-rt.ending.done:
	default:
		select {
		case <-rt.ending.done:
		case <-ctx.Done():
			return unfinished("another call is under way", ctx.Err())
		}
	}
	if httpServer == nil || httpServer == rt.ending.http {
		return rt.ending.err
	}
	return errors.Join(rt.ending.err, rt.stopHTTP(ctx, httpServer)(ctx))
}

// Shutdown is the function Shutdown without an http.Server: call http.Server.Shutdown when it has
// returned. A request that publishes later than that gets ErrClosed, unless the bus is the
// host's.
func (rt *Server) Shutdown(ctx context.Context) error { return Shutdown(ctx, nil, rt) }

// ending is the state of Shutdown. The first call sets http and err before it closes done.
type ending struct {
	once sync.Once
	done chan struct{}
	http *http.Server
	err  error
}

// end runs the steps of Shutdown. No step waits longer than ctx for the host's code.
func (rt *Server) end(ctx context.Context) error {
	rt.stopping.Store(true)
	rt.sio.Stop()
	cut := rt.sio.Cut()
	most := func(f func(ctx context.Context) error) error { return step(ctx, mostOf, f) }
	errs := []error{step(ctx, halfOf, rt.deliverPublished)}
	began := time.Now()
	errs = append(errs, most(func(most context.Context) error {
		rt.drain(most)
		return unfinished("connections cut off", rt.await(ctx, func(context.Context) error { return rt.sio.Shutdown(most) }))
	}))
	if cut = rt.sio.Cut() - cut; cut > 0 {
		rt.log.Warn("realtime: connections were cut off before server:drain was sent", "connections", cut)
	}
	requests := rt.stopHTTP(ctx, rt.ending.http)
	_ = most(requests) // the calls below return the errors of these three
	_ = most(func(ctx context.Context) error {
		ctx, cancel := context.WithDeadline(ctx, began.Add(handlersFinish)) // a connection's last handlers have had their time in drain
		defer cancel()
		return rt.waitForHooks(ctx)
	})
	rt.cancelHandlers()
	_ = most(rt.waitForHooks)
	errs = append(errs, most(rt.stopBus), most(requests), most(rt.lastCalls))
	errs = append(errs, unfinished("acks not known to the other nodes", most(rt.peerCalls.wait)))
	errs = append(errs, unfinished("presence not published", most(rt.handOver))) // without a subscription: what another node handles it can correct
	errs = append(errs, unfinished("a node that has begun lacks events for Recovery", most(rt.peerSockets.logsSent)))
	rt.cancel()
	errs = append(errs, unfinished("messages not handed to the adapter", rt.host.cluster.Wait(ctx)))
	if !rt.adapterClosed.Swap(true) {
		errs = append(errs, unfinished("adapter not closed", rt.await(ctx, rt.adapter.Close)))
	}
	_ = rt.host.trace.Wait(ctx) // the queue logs the calls that it drops
	rt.wheel.Close()
	rt.sampled.Flush(ctx)
	return errors.Join(errs...)
}

// reserve is what most steps of Shutdown leave to the later ones, or a fifth of the time that is
// left if that is less.
const reserve = 1500 * time.Millisecond

// halfOf and mostOf return how much of the time that is left a step may take.
func halfOf(left time.Duration) time.Duration { return left / 2 }
func mostOf(left time.Duration) time.Duration { return left - min(left/5, reserve) }

// step calls f with a ctx that ends after the given part of the time until the deadline of ctx.
func step(ctx context.Context, part func(left time.Duration) time.Duration, f func(ctx context.Context) error) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, part(time.Until(deadline)))
		defer cancel()
	}
	return f(ctx)
}

// stopHTTP closes the listeners of an http.Server, which may be nil, and begins to wait, within
// ctx, for its requests. wait waits for that, within its own ctx.
func (rt *Server) stopHTTP(ctx context.Context, s *http.Server) (wait func(ctx context.Context) error) {
	if s == nil {
		return func(context.Context) error { return nil }
	}
	ended := make(chan struct{})
	var err error
	go func() {
		defer close(ended)
		err = rt.await(ctx, s.Shutdown) // only once: it calls the functions of http.Server.RegisterOnShutdown each time
	}()
	return func(ctx context.Context) error {
		select {
		case <-ended:
			return unfinished("http.Server.Shutdown", err)
		case <-ctx.Done():
			return unfinished("http.Server.Shutdown", ctx.Err())
		}
	}
}

// waitForHooks waits, within ctx, until every handler, OnDisconnect and listener has returned.
func (rt *Server) waitForHooks(ctx context.Context) error {
	err := rt.await(ctx, func(context.Context) error { rt.sio.Wait(); return nil })
	errs := []error{unfinished("handlers still run"+rt.runningHandlers(), err)}
	rt.each(func(ns *Namespace) {
		for _, h := range ns.disconnectHooks() {
			errs = append(errs, unfinished("OnDisconnect of "+ns.name+" still runs", h.calls.Wait(ctx)))
		}
		errs = append(errs, unfinished("OnServerEmit of "+ns.name+" still runs", ns.listening.Wait(ctx)))
	})
	return errors.Join(errs...)
}

// lastCalls is waitForHooks, and waits for the calls of OnServerAsk and of Options.Unreachable too. Further ones that other
// nodes or the time of an offer cause do not begin: another node reports the offer.
func (rt *Server) lastCalls(ctx context.Context) error {
	rt.host.unreachable.Close()
	rt.each(func(ns *Namespace) {
		ns.answering.Close()
		ns.listening.Close()
	})
	errs := []error{rt.waitForHooks(ctx), unfinished("Options.Unreachable still runs", rt.host.unreachable.Wait(ctx))}
	rt.each(func(ns *Namespace) {
		errs = append(errs, unfinished("OnServerAsk of "+ns.name+" still runs", ns.answering.Wait(ctx)))
	})
	return errors.Join(errs...)
}

// maxNamed is how many events runningHandlers names.
const maxNamed = 10

// runningHandlers names the events whose handlers run, those with the most calls first.
func (rt *Server) runningHandlers() string {
	calls := map[string]int{}
	for _, o := range rt.watchdog.Running() {
		if c, ok := o.(*call); ok {
			calls[c.socket.ns.name+" "+c.Event()]++
		}
	}
	if len(calls) == 0 {
		return ""
	}
	names := slices.SortedFunc(maps.Keys(calls), func(a, b string) int {
		return cmp.Or(cmp.Compare(calls[b], calls[a]), cmp.Compare(a, b))
	})
	list := make([]string, 0, min(len(names), maxNamed)+1)
	for _, name := range names[:min(len(names), maxNamed)] {
		list = append(list, fmt.Sprintf("%d of %s", calls[name], name))
	}
	if len(names) > maxNamed {
		list = append(list, "...")
	}
	return " (" + strings.Join(list, ", ") + ")"
}

// deliverPublished ends the sweep and the presence of users, and waits, within ctx, until the
// domain events are delivered that were published before and are in this process.
func (rt *Server) deliverPublished(ctx context.Context) error {
	return errors.Join(
		unfinished("sweep still runs", step(ctx, halfOf, rt.sweep.stop)),
		unfinished("presence not published", step(ctx, halfOf, rt.presence.stop)),
		unfinished("domain events not delivered", step(ctx, halfOf, rt.flushBus)),
		unfinished("domain events wait for Options.Parties", rt.publisher.parties.flush(ctx)),
	)
}

// flushBus waits, within ctx, until the events that a MemoryBus holds are handled. Another bus
// keeps its events until it has handed them out.
func (rt *Server) flushBus(ctx context.Context) error {
	if rt.memoryBus != nil && rt.subscription != nil {
		return rt.memoryBus.flush(ctx, rt.subscription)
	}
	return nil
}

// stopBus delivers the events that were published meanwhile, and ends the subscription.
func (rt *Server) stopBus(ctx context.Context) error {
	errs := []error{unfinished("domain events not delivered", rt.flushBus(ctx))}
	if rt.ownBus != nil {
		errs = append(errs, unfinished("bus not drained", rt.ownBus.Close(ctx)))
	}
	if bus, ok := busAs[LeavingBus](rt.opts.Bus); ok && rt.unsubscribe != nil {
		errs = append(errs, unfinished("the bus still gets events", rt.await(ctx, bus.Leave)))
	}
	if rt.unsubscribe != nil {
		errs = append(errs, unfinished("a domain event is being handled", rt.await(ctx, func(context.Context) error { rt.unsubscribe(); return nil })))
	}
	errs = append(errs, unfinished("domain events wait for Options.Parties", rt.publisher.parties.stop(ctx)))
	return errors.Join(errs...)
}

// shutdownGrace is the minimum time of each step of Shutdown, also when ctx has ended:
// most steps need only a moment.
const shutdownGrace = 100 * time.Millisecond

// await calls f and waits for it, within ctx.
func (rt *Server) await(ctx context.Context, f func(ctx context.Context) error) error {
	return hostcall.Finish(ctx, rt.host.shutdown, shutdownGrace, f)
}

// unfinished returns err with the step of Shutdown that it belongs to, or nil if err is nil.
func unfinished(what string, err error) error {
	if err == nil {
		return nil
	}
	return errorf("shutdown: %s: %w", what, hostcall.Original(err))
}
