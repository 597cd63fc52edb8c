// Drain: how the sockets of a node that goes away are sent to the others.

package realtime

import (
	"context"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/socketio"
)

// drainPause is the time between two batches of connections.
const drainPause = 20 * time.Millisecond

// drain tells every socket to come back elsewhere and closes its connection, at
// the pace of Options.DrainRate, or as fast as it takes to be done within most of
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
		for _, s := range ns.inner.Select(socketio.Target{}) {
			if c := s.Conn(); !seen[c] && s.Opened() {
				seen[c] = true
				conns = append(conns, c)
			}
		}
	})
	return conns
}

func (rt *Server) drainSome(ctx context.Context, conns []*socketio.Conn) {
	batch := max(1, int(float64(rt.opts.DrainRate)*drainPause.Seconds()))
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
	wait := rand.Int64N(rt.opts.DrainDelay.Milliseconds() + 1)
	for _, inner := range c.Sockets() {
		if s, ok := inner.Data.(*Socket); ok {
			_ = EventServerDrain.Emit(s, ServerDrainPayload{ReconnectAfterMS: wait}) // gone, if this fails
		}
	}
	c.Session().Close(engineio.ReasonShuttingDown)
}
