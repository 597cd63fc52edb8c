// Handlers that do not return. Nothing can end a goroutine, so what is left is to
// answer in its place and to have the client come back on a socket that works.

package realtime

import (
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/socketio"
	"github.com/rodando/realtime/internal/wheel"
)

const (
	// maxStuck is how many calls of one handler may have been given up and be still
	// under way. Beyond that its events are refused, until some return: each holds a
	// goroutine and its socket.
	maxStuck = 256
	// lanes is how many parts the list of calls has, so that cores do not fight over
	// one lock.
	lanes = 16
)

// call is one event, or OnConnect, while the host's code handles it. It is the
// context that the code gets.
//
// The lane's mutex guards prev and next.
type call struct {
	lazyContext
	s     *Socket
	event string
	e     *socketio.Event // nil for OnConnect
	start time.Time
	stuck *atomic.Int32 // of its handler
	over  atomic.Bool   // it has returned or was given up, whichever came first

	prev, next *call
}

// calls are those under way, which are looked at now and then as long as there are
// any: a timer for each would cost more than most handlers do.
type calls struct {
	rt       *Server
	watching atomic.Bool // the timer is armed, or about to be
	timer    wheel.Timer
	lanes    [lanes]lane
	socket   atomic.Uint32 // the last one that was given a lane
}

// lane is a list of calls.
//
// lane.mu guards it.
type lane struct {
	mu    sync.Mutex
	first *call
}

func (c *calls) init(rt *Server) {
	c.rt = rt
	c.timer.F = func() { go c.look() }
}

// lane returns where the calls of a new socket are listed.
func (c *calls) lane() uint8 { return uint8(c.socket.Add(1) % lanes) }

// begin lists a call of a socket's, which has one at a time.
func (c *calls) begin(s *Socket, event string, e *socketio.Event, stuck *atomic.Int32, start time.Time) *call {
	now := &call{s: s, event: event, e: e, start: start, stuck: stuck}
	now.lazyContext.begin(c.rt.handling, start.Add(c.rt.opts.HandlerTimeout))
	l := &c.lanes[s.lane]
	l.mu.Lock()
	if now.next = l.first; now.next != nil {
		now.next.prev = now
	}
	l.first = now
	l.mu.Unlock()
	c.watch()
	return now
}

// end takes a call off the list that has returned, and reports whether it had not
// been given up.
func (c *calls) end(over *call) bool {
	over.stop()
	l := &c.lanes[over.s.lane]
	l.mu.Lock()
	if over.next != nil {
		over.next.prev = over.prev
	}
	if over.prev != nil {
		over.prev.next = over.next
	} else {
		l.first = over.next
	}
	l.mu.Unlock()
	if over.over.CompareAndSwap(false, true) {
		return true
	}
	over.stuck.Add(-1)
	return false
}

func (c *calls) watch() {
	if !c.watching.Load() && c.watching.CompareAndSwap(false, true) {
		c.rt.wheel.Arm(&c.timer, c.rt.opts.HandlerTimeout)
	}
}

// look gives up the calls that have had twice their time.
func (c *calls) look() {
	c.watching.Store(false) // before it looks, so that a call that begins meanwhile is seen or arms the timer
	now := time.Now()
	var late []*call
	wait := false
	for i := range c.lanes {
		l := &c.lanes[i]
		l.mu.Lock()
		for under := l.first; under != nil; under = under.next {
			switch {
			case under.over.Load(): // given up before
			case now.Sub(under.start) >= 2*c.rt.opts.HandlerTimeout:
				late = append(late, under)
			default:
				wait = true
			}
		}
		l.mu.Unlock()
	}
	for _, under := range late {
		under.giveUp(now.Sub(under.start))
	}
	if wait {
		c.watch()
	}
}

// giveUp answers the event and closes the connection: the socket's further events
// would wait for ever, since they come one at a time. OnDisconnect does not wait.
func (c *call) giveUp(took time.Duration) {
	if !c.over.CompareAndSwap(false, true) {
		return
	}
	c.stuck.Add(1)
	s, ns := c.s, c.s.ns
	ns.rt.log.Error("realtime: handler does not return", "namespace", ns.name, "event", c.event, "socket", s.ID(), "user", s.Identity().UserID, "after", took)
	if c.e != nil {
		if c.e.WantsAck() {
			c.e.Ack(nil, failure(errStuck).bytes()...)
		}
		if f := ns.rt.opts.Trace.Handled; f != nil {
			f(ns.name, c.event, took, CodeUnavailable)
		}
	}
	s.inner.Abandon()
	s.Close()
}
