// Shutdown: in which order a server ends, and how the sockets of a node that goes
// away are sent to the others.

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

// Shutdown ends the server: new connections get 503 with Retry-After, what was
// published before is delivered, every socket is told server:drain and its
// transport closed once that has arrived, at the pace of Limits.DrainRate, the
// bus is unsubscribed and the adapter closed. Handlers in flight have two seconds
// after that before their ctx ends. It returns when no connection is left and every
// handler and OnDisconnect has returned. When ctx ends first the rest is cut off,
// and the error says what could not be finished. How many connections ended before
// their sockets were sent server:drain, because the client took nothing for
// Timeouts.Close or ctx ended, is in the log. Of the time that ctx leaves, the
// bus takes no more than half. Call it before http.Server.Shutdown, which does not
// see websockets, and not from a handler. It is idempotent: a further call waits,
// within its ctx, for the first, which is the one that is told of failures.
func (rt *Server) Shutdown(ctx context.Context) (err error) {
	first := false
	rt.ending.Do(func() { first = true })
	if first {
		defer close(rt.ended)
		return rt.end(ctx)
	}
	select {
	case <-rt.ended:
		return nil
	case <-ctx.Done():
		return unfinished("another call is under way", ctx.Err())
	}
}

// handlersFinish is what handlers in flight get once the connections are closed.
const handlersFinish = 2 * time.Second

// end ends the server. Whatever the host's code does, no step takes longer than ctx.
func (rt *Server) end(ctx context.Context) error {
	rt.sio.Stop()
	cut := rt.sio.Cut()
	errs := []error{unfinished("sweep still runs", rt.sweep.stop(ctx)), rt.endBus(ctx)}
	rt.drain(ctx)
	errs = append(errs, unfinished("connections cut off", rt.await(ctx, rt.sio.Shutdown)))
	if cut = rt.sio.Cut() - cut; cut > 0 {
		rt.log.Warn("realtime: connections were cut off before server:drain was sent", "connections", cut)
	}
	rt.cancel()
	finish, stop := context.WithTimeout(ctx, handlersFinish)
	_ = rt.hooksReturn(finish) // asked again below
	stop()
	rt.cancelHandling()
	errs = append(errs, rt.hooksReturn(ctx))
	if err := rt.host.cluster.Wait(ctx); err != nil {
		errs = append(errs, unfinished("messages not handed to the adapter", err))
	}
	rt.adapterClosed.Store(true)
	errs = append(errs, unfinished("adapter not closed", rt.await(ctx, rt.adapter.Close)))
	_ = rt.host.trace.Wait(ctx) // what is not counted is logged
	rt.wheel.Close()
	rt.sampled.Flush(ctx)
	return errors.Join(errs...)
}

// hooksReturn returns when every handler, OnDisconnect and listener has returned.
func (rt *Server) hooksReturn(ctx context.Context) error {
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

// endBus has what was published before delivered. A bus that hangs must leave the
// time in which the sockets are told to go elsewhere.
func (rt *Server) endBus(ctx context.Context) error {
	if deadline, ok := ctx.Deadline(); ok {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, time.Until(deadline)/2)
		defer cancel()
	}
	errs := []error{unfinished("presence not published", rt.presence.stop(ctx))}
	if rt.ownBus != nil {
		errs = append(errs, unfinished("bus not drained", rt.ownBus.Close(ctx)))
	}
	if rt.unbus != nil {
		errs = append(errs, unfinished("a domain event is being handled", rt.await(ctx, func(context.Context) error { rt.unbus(); return nil })))
	}
	errs = append(errs, unfinished("domain events wait for Options.Parties", rt.publisher.parties.stop(ctx)))
	return errors.Join(errs...)
}

// shutdownGrace is what each step of Shutdown gets at least: what is to be closed is
// closed though no time is left, and mostly done in a moment.
const shutdownGrace = 100 * time.Millisecond

// await calls f and waits for it, no longer than ctx.
func (rt *Server) await(ctx context.Context, f func(ctx context.Context) error) error {
	return hostcall.Finish(ctx, rt.host.shutdown, shutdownGrace, f)
}

// unfinished says what err is about.
func unfinished(what string, err error) error {
	if err == nil {
		return nil
	}
	return errorf("shutdown: %s: %w", what, hostcall.Original(err))
}

// drainPause is the time between two batches of connections.
const drainPause = 20 * time.Millisecond

// drain tells every socket to come back elsewhere and closes its connection, at
// the pace of Limits.DrainRate, or as fast as it takes to be done within most of
// the time that ctx leaves.
func (rt *Server) drain(ctx context.Context) {
	seen := map[*socketio.Conn]bool{}
	// Handshakes that were under way may have passed meanwhile.
	for conns := rt.unseen(seen); len(conns) > 0; conns = rt.unseen(seen) {
		rt.drainSome(ctx, conns)
		if ctx.Err() != nil {
			return
		}
	}
}

// unseen returns the connections that have a socket and are not in seen, and puts
// them there.
func (rt *Server) unseen(seen map[*socketio.Conn]bool) (conns []*socketio.Conn) {
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

func (rt *Server) drainSome(ctx context.Context, conns []*socketio.Conn) {
	batch := max(1, int(float64(rt.opts.Limits.DrainRate)*drainPause.Seconds()))
	if deadline, ok := ctx.Deadline(); ok {
		pauses := max(1, int(time.Until(deadline)*4/5/drainPause))
		batch = max(batch, (len(conns)+pauses-1)/pauses)
	}
	for some := range slices.Chunk(conns, batch) {
		for _, c := range some {
			rt.sendAway(c)
		}
		if len(some) < batch {
			return
		}
		select {
		case <-time.After(drainPause):
		case <-ctx.Done():
			return // the engine cuts off who is left
		}
	}
}

// sendAway closes a connection, all of whose sockets are told before.
func (rt *Server) sendAway(c *socketio.Conn) {
	wait := rand.Int64N(rt.opts.Timeouts.DrainDelay.Milliseconds() + 1)
	for _, inner := range c.Sockets() {
		if s, ok := inner.Data.(*Socket); ok {
			_ = EventServerDrain.Emit(s, ServerDrainPayload{ReconnectAfterMS: wait}) // gone, if this fails
		}
	}
	c.Close(socketio.ReasonShuttingDown)
}
