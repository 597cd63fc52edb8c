// Shutdown: the order in which the parts of a server stop, and how its clients are asked
// to reconnect to another node.

package realtime

import (
	"context"
	"errors"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/socketio"
)

// Shutdown ends the server, in this order:
//
//   - new connections get 503 with Retry-After;
//   - the domain events that were published before are delivered, and the subscription to
//     the bus ends; this takes at most half of the time until the deadline of ctx;
//   - each connection takes no more events; when the handlers of those it has taken have
//     returned and their acks are sent, at most two seconds later, every socket gets
//     server:drain, and the connection is closed after that was sent. This goes on at the rate
//     of Limits.DrainRate;
//   - running handlers have two seconds before their ctx ends;
//   - the adapter is closed.
//
// It returns when no connection is left and every handler and OnDisconnect has returned.
// If ctx ends first, the remaining connections are closed at once, and the error says what
// could not be finished. The log has the number of connections that were closed before
// server:drain was sent to them, because the client read nothing for Timeouts.Close or
// because ctx ended.
//
// Call Shutdown before http.Server.Shutdown, which does not wait for WebSocket
// connections, and never from a handler. It may be called several times: a later call
// waits, within its ctx, for the first one, and only the first one returns the errors.
func (rt *Server) Shutdown(ctx context.Context) (err error) {
	first := false
	rt.shutdownOnce.Do(func() { first = true })
	if first {
		defer close(rt.shutdownDone)
		return rt.end(ctx)
	}
	select {
	case <-rt.shutdownDone:
		return nil
	case <-ctx.Done():
		return unfinished("another call is under way", ctx.Err())
	}
}

// handlersFinish is how long running handlers may go on after the connections are closed.
const handlersFinish = 2 * time.Second

// end runs the steps of Shutdown. No step waits longer than ctx for the host's code.
func (rt *Server) end(ctx context.Context) error {
	rt.stopping.Store(true)
	rt.sio.Stop()
	cut := rt.sio.Cut()
	errs := []error{unfinished("sweep still runs", rt.sweep.stop(ctx)), rt.stopBus(ctx)}
	began := time.Now()
	rt.drain(ctx)
	errs = append(errs, unfinished("connections cut off", rt.await(ctx, rt.sio.Shutdown)))
	if cut = rt.sio.Cut() - cut; cut > 0 {
		rt.log.Warn("realtime: connections were cut off before server:drain was sent", "connections", cut)
	}
	rt.cancel()
	finish, stop := context.WithDeadline(ctx, began.Add(handlersFinish)) // a connection's last handlers have had their time in drain
	_ = rt.waitForHooks(finish)                                          // the call below returns the error
	stop()
	rt.cancelHandlers()
	errs = append(errs, rt.waitForHooks(ctx))
	if err := rt.host.cluster.Wait(ctx); err != nil {
		errs = append(errs, unfinished("messages not handed to the adapter", err))
	}
	rt.adapterClosed.Store(true)
	errs = append(errs, unfinished("adapter not closed", rt.await(ctx, rt.adapter.Close)))
	_ = rt.host.trace.Wait(ctx) // the queue logs the calls that it drops
	rt.wheel.Close()
	rt.sampled.Flush(ctx)
	return errors.Join(errs...)
}

// waitForHooks waits, within ctx, until every handler, OnDisconnect and listener has returned.
func (rt *Server) waitForHooks(ctx context.Context) error {
	err := rt.await(ctx, func(context.Context) error { rt.sio.Wait(); return nil })
	errs := []error{unfinished("handlers still run", err)}
	rt.each(func(ns *Namespace) {
		for _, h := range ns.disconnectHooks() {
			errs = append(errs, unfinished("OnDisconnect still runs", h.calls.Wait(ctx)))
		}
		errs = append(errs, unfinished("OnServerEmit still runs", ns.listening.Wait(ctx)))
	})
	return errors.Join(errs...)
}

// stopBus waits until the events that were published before are delivered, and ends the
// subscription. It uses at most half of the remaining time, so that a bus that hangs
// leaves enough for the drain.
func (rt *Server) stopBus(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	errs := []error{unfinished("presence not published", rt.presence.stop(ctx))}
	if rt.ownBus != nil {
		errs = append(errs, unfinished("bus not drained", rt.ownBus.Close(ctx)))
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

// drainPause is the time between two batches of connections.
const drainPause = 20 * time.Millisecond

// drain sends server:drain to every socket and closes its connection, at the rate of
// Limits.DrainRate, or faster if ctx has a deadline that the rate would miss.
func (rt *Server) drain(ctx context.Context) {
	seen := map[*socketio.Conn]bool{}
	// A handshake that was in progress may have connected a new socket meanwhile.
	for conns := rt.newConns(seen); len(conns) > 0; conns = rt.newConns(seen) {
		rt.drainConns(ctx, conns)
		if ctx.Err() != nil {
			return
		}
	}
}

// newConns returns the connections that have a socket and are not in seen, and adds them to
// seen.
func (rt *Server) newConns(seen map[*socketio.Conn]bool) (conns []*socketio.Conn) {
	rt.each(func(ns *Namespace) {
		for _, s := range ns.inner.Select(socketio.Target{All: true}) {
			if c := s.Conn(); !seen[c] && s.Opened() {
				seen[c] = true
				conns = append(conns, c)
			}
		}
	})
	return conns
}

func (rt *Server) drainConns(ctx context.Context, conns []*socketio.Conn) {
	batch := max(1, int(float64(rt.opts.Limits.DrainRate)*drainPause.Seconds()))
	if deadline, ok := ctx.Deadline(); ok {
		pauses := max(1, int(time.Until(deadline)*4/5/drainPause))
		batch = max(batch, (len(conns)+pauses-1)/pauses)
	}
	busy := map[*socketio.Conn]time.Time{} // until when handlers are awaited
	for some := range slices.Chunk(conns, batch) {
		for _, c := range some {
			c.Drain()
			wakeHeld(c)
			busy[c] = time.Now().Add(handlersFinish)
		}
		rt.closeIdle(busy)
		if len(some) == batch && !pauseDrain(ctx) {
			return // the engine closes the remaining connections
		}
	}
	for len(busy) > 0 && pauseDrain(ctx) {
		rt.closeIdle(busy)
	}
}

// pauseDrain waits for drainPause. It returns false if ctx ended.
func pauseDrain(ctx context.Context) bool {
	select {
	case <-time.After(drainPause):
		return true
	case <-ctx.Done():
		return false
	}
}

// closeIdle closes those connections whose handlers have returned or had their time, and
// removes them from busy.
func (rt *Server) closeIdle(busy map[*socketio.Conn]time.Time) {
	for c, until := range busy {
		if !c.Busy() || time.Now().After(until) {
			delete(busy, c)
			rt.closeForShutdown(c)
		}
	}
}

// closeForShutdown sends server:drain to all sockets of a connection, then closes it.
func (rt *Server) closeForShutdown(c *socketio.Conn) {
	wait := rand.Int64N(rt.opts.Timeouts.DrainDelay.Milliseconds() + 1)
	for _, inner := range c.Sockets() {
		if s, ok := socketOf(inner); ok {
			_ = EventServerDrain.Emit(s, ServerDrainPayload{ReconnectAfterMS: wait}) // it fails if the socket has closed
		}
	}
	c.Close(socketio.ReasonShuttingDown)
}
