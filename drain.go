// Drain: how Shutdown asks the clients to reconnect to another node, and closes their
// connections.

package realtime

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/socketio"
)

const (
	// handlersFinish is how long running handlers may go on after their connection takes no more
	// events.
	handlersFinish = 2 * time.Second
	// closeTime is what closing a connection takes at least: handlers are not awaited then.
	closeTime = 500 * time.Millisecond
	// slowCloseTime is what it takes if the client does not close.
	slowCloseTime = 1500 * time.Millisecond
)

// spreadOf returns how much of the time that is left for all connections goes by until the last
// one is told to reconnect.
func spreadOf(left time.Duration) time.Duration {
	return min(left*4/5, max(left/2, left-slowCloseTime))
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

// drainConns drains connections.
func (rt *Server) drainConns(ctx context.Context, conns []*socketio.Conn) {
	batch := max(1, int(float64(rt.opts.Limits.DrainRate)*drainPause.Seconds()))
	var latest time.Time // until when handlers are awaited at most; zero: no limit
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		pauses := max(1, int(spreadOf(left)/drainPause))
		batch = max(batch, (len(conns)+pauses-1)/pauses)
		latest = deadline.Add(-min(closeTime, left/2))
	}
	busy := map[*socketio.Conn]time.Time{} // until when handlers are awaited
	for some := range slices.Chunk(pollingFirst(conns), batch) {
		until := time.Now().Add(handlersFinish)
		if !latest.IsZero() && latest.Before(until) {
			until = latest
		}
		for _, c := range some {
			c.Drain()
			wakeHeld(c)
			busy[c] = until
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

// pollingFirst returns the connections with those in front that poll: their requests are open,
// and they take longest to close.
func pollingFirst(conns []*socketio.Conn) []*socketio.Conn {
	var polling, others []*socketio.Conn
	for _, c := range conns {
		if c.Transport() == "polling" {
			polling = append(polling, c)
		} else {
			others = append(others, c)
		}
	}
	return append(polling, others...)
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
			_ = EventServerDrain.Emit(last{s}, ServerDrainPayload{ReconnectAfterMS: wait}) // it fails if the socket has closed
		}
	}
	c.Close(socketio.ReasonShuttingDown)
}
