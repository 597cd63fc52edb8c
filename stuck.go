// Handlers that do not return. Nothing can end a goroutine, so what is left is to
// answer in its place and to have the client come back on a socket that works.

package realtime

import (
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/wheel"
)

// maxStuck is how many calls of one handler may have been given up and be still
// under way. Beyond that its events are refused, until some return: each holds a
// goroutine and its socket.
const maxStuck = 256

// watch waits for one call of a handler, or of OnConnect, to return.
type watch struct {
	s     *Socket
	event string
	e     *socketio.Event // nil for OnConnect
	start time.Time
	stuck *atomic.Int32

	timer wheel.Timer
	over  atomic.Bool // it has returned or was given up, whichever came first
}

// begin starts the time. A handler that heeds its ctx returns at half of it.
func (w *watch) begin() {
	rt := w.s.ns.rt
	w.timer.F = func() { go w.giveUp() }
	rt.wheel.Arm(&w.timer, 2*rt.opts.HandlerTimeout)
}

// returned says that the call has, and reports whether that was in time.
func (w *watch) returned() bool {
	w.s.ns.rt.wheel.Stop(&w.timer)
	if w.over.CompareAndSwap(false, true) {
		return true
	}
	w.stuck.Add(-1)
	return false
}

// giveUp answers the event and closes the connection: the socket's further events
// would wait for ever, since they come one at a time.
func (w *watch) giveUp() {
	if !w.over.CompareAndSwap(false, true) {
		return
	}
	w.stuck.Add(1)
	s, ns := w.s, w.s.ns
	took := time.Since(w.start)
	ns.rt.log.Error("realtime: handler does not return", "namespace", ns.name, "event", w.event, "socket", s.ID(), "user", s.Identity().UserID, "after", took)
	if w.e != nil {
		if w.e.WantsAck() {
			w.e.Ack(nil, failure(errStuck).bytes()...)
		}
		if f := ns.rt.opts.Trace.Handled; f != nil {
			f(ns.name, w.event, took, CodeUnavailable)
		}
	}
	s.Close()
}
