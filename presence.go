// Presence: the server publishes on the bus which users have a socket. A user who
// reconnects within Timeouts.PresenceGrace is not reported as disconnected.

package realtime

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// presenceQueue is the maximum number of events that wait for the bus.
	presenceQueue = 1 << 16
	// presenceTries is how often the server tries to publish an event.
	presenceTries = 3
	// presenceBatch is the maximum number of users in one request to the other nodes.
	presenceBatch = 256
	// presenceTimeout is the timeout of that request.
	presenceTimeout = 2 * time.Second
)

// presence counts the sockets of each user in each namespace. Its methods may be called
// concurrently.
type presence struct {
	rt      *Server
	enabled bool // Options.Bus is set, and PresenceGrace is not negative
	max     int  // of queue; presenceQueue, or less in a test

	// mu guards the fields below. Events are queued while it is held, which keeps their
	// order. One goroutine publishes them, and ends when the queue is empty.
	mu      sync.Mutex
	stopped bool
	users   map[presenceKey]presenceState
	queue   []DomainEvent
	running bool          // the publishing goroutine exists
	dropped int           // events that did not fit into the queue
	idle    chan struct{} // closed when the queue is empty, once stopped
}

type presenceKey struct {
	ns   *Namespace
	user string
}

type presenceState struct {
	sockets int
	leave   *pendingLeave // set while the user has no socket and the grace time runs
}

// pendingLeave is the event that is published if the user does not reconnect within the
// grace time.
type pendingLeave struct {
	timer timingwheel.Timer
	last  PresenceDisconnected
}

func (p *presence) init(rt *Server) {
	p.rt, p.max = rt, presenceQueue
	p.enabled = rt.opts.Timeouts.PresenceGrace >= 0 && rt.opts.Bus != nil // a nil Bus is replaced later by a bus that the host cannot read
	p.users = map[presenceKey]presenceState{}
}

func (p *presence) keyOf(s *Socket) (presenceKey, Identity, bool) {
	id := s.Identity()
	return presenceKey{s.ns, id.UserID}, id, id.UserID != "" && p.enabled
}

// socketConnected counts a new socket.
func (p *presence) socketConnected(s *Socket) {
	key, id, ok := p.keyOf(s)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.users[key]
	state.sockets++
	if state.leave != nil {
		p.rt.wheel.Stop(&state.leave.timer)
		state.leave = nil
	}
	p.users[key] = state
	if !known {
		p.publishLocked(PresenceConnected{Presence{
			UserID: id.UserID, UserType: id.UserType, Namespace: s.ns.name, Sockets: 1, At: time.Now().UTC(),
		}})
	}
}

// socketDisconnected counts the end of a socket that socketConnected has counted.
func (p *presence) socketDisconnected(s *Socket, reason DisconnectReason) {
	key, id, ok := p.keyOf(s)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state := p.users[key]
	state.sockets--
	switch {
	case state.sockets > 0:
		p.users[key] = state
	case p.stopped:
		delete(p.users, key)
	default:
		leave := &pendingLeave{last: PresenceDisconnected{Presence{
			UserID: id.UserID, UserType: id.UserType, Namespace: s.ns.name, Reason: reason, At: time.Now().UTC(),
		}}}
		leave.timer.F = func() { p.graceOver(key, leave) }
		state.leave = leave
		p.users[key] = state
		p.rt.wheel.Arm(&leave.timer, p.rt.opts.Timeouts.PresenceGrace)
	}
}

// graceOver publishes that the user has disconnected, unless the user has reconnected.
func (p *presence) graceOver(key presenceKey, leave *pendingLeave) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.users[key].leave != leave {
		return // the user has reconnected
	}
	delete(p.users, key)
	p.publishLocked(leave.last)
}

func (p *presence) publishLocked(e DomainEvent) {
	if p.stopped {
		return
	}
	if len(p.queue) >= p.max {
		p.dropped++
		return
	}
	p.queue = append(p.queue, e)
	if !p.running {
		p.running = true
		go p.run()
	}
}

// run publishes the queued events in batches: each batch needs one request to the other
// nodes.
func (p *presence) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		queue, dropped := p.queue, p.dropped
		p.queue, p.dropped = nil, 0
		p.mu.Unlock()
		if dropped > 0 {
			p.rt.log.Error("realtime: presence events dropped: the bus is too slow", "dropped", dropped)
		}
		for batch := range slices.Chunk(queue, presenceBatch) {
			p.publishAll(batch)
		}
		p.mu.Lock()
	}
	p.running = false
	if p.idle != nil {
		close(p.idle)
		p.idle = nil
	}
}

func (p *presence) publishAll(batch []DomainEvent) {
	onOtherNodes := p.onOtherNodes(batch)
	for _, e := range batch {
		left, leaves := e.(PresenceDisconnected)
		if leaves && onOtherNodes[presenceKey{p.rt.lookup(left.Namespace), left.UserID}] {
			continue
		}
		if p.publish(e) && leaves && p.rt.clustered {
			p.rt.shareState(left.Namespace, stateContent{Left: &left.Presence})
		}
	}
}

// publish reports whether the bus has accepted the event.
func (p *presence) publish(e DomainEvent) bool {
	env, err := NewEnvelope(e)
	for try := 1; err == nil; try++ {
		err = hostcall.Run(p.rt.ctx, p.rt.host.presence, func(ctx context.Context) error { return p.rt.opts.Bus.Publish(ctx, env) })
		if err == nil {
			return true
		}
		if try == presenceTries {
			break
		}
		select {
		case <-time.After(time.Duration(try) * 200 * time.Millisecond):
			err = nil
		case <-p.rt.ctx.Done():
		}
	}
	p.rt.log.Error("realtime: presence not published", withStack(err, "event", e.EventName(), "user", e.EventKey(), "error", err)...)
	return false
}

// onOtherNodes returns the users of the batch who have a socket on another node. The users
// of a node that does not answer count as disconnected: they are published again when they
// reconnect, while a user who is never published as disconnected would stay connected for
// the host forever.
func (p *presence) onOtherNodes(batch []DomainEvent) map[presenceKey]bool {
	if !p.rt.clustered {
		return nil
	}
	rooms := map[*Namespace][]Room{}
	for _, e := range batch {
		if left, ok := e.(PresenceDisconnected); ok {
			ns := p.rt.lookup(left.Namespace)
			rooms[ns] = append(rooms[ns], ownRoom(ns.name, left.UserID))
		}
	}
	found := map[presenceKey]bool{}
	ctx, cancel := context.WithTimeout(p.rt.ctx, presenceTimeout)
	defer cancel()
	for ns, own := range rooms {
		m := ns.To(own...).message(ClusterMessage{Op: OpFetchSockets})
		err := p.rt.clusterRequest(ctx, m, func(a ClusterAnswer) {
			if a.Socket != nil && !a.Socket.Connecting {
				found[presenceKey{ns, a.Socket.Identity.UserID}] = true
			}
		})
		if err != nil {
			p.rt.log.Warn("realtime: presence could not query the other nodes", withStack(err, "error", err)...)
		}
	}
	return found
}

// onPeerDisconnected handles the presence.disconnected that another node has published. If
// the user has a socket here now, it publishes presence.connected after it. If the user's
// grace time runs here, it ends without another event.
func (p *presence) onPeerDisconnected(ns *Namespace, left Presence) {
	key := presenceKey{ns, left.UserID}
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.users[key]
	switch {
	case !known:
	case state.leave != nil:
		p.rt.wheel.Stop(&state.leave.timer)
		delete(p.users, key)
	default:
		p.publishLocked(PresenceConnected{Presence{
			UserID: left.UserID, UserType: left.UserType, Namespace: ns.name, Sockets: 1, At: time.Now().UTC(),
		}})
	}
}

// stop waits, within ctx, until the queued events are published. Later ones are dropped.
func (p *presence) stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	for key, state := range p.users {
		if state.leave != nil {
			p.rt.wheel.Stop(&state.leave.timer)
			delete(p.users, key)
		}
	}
	var idle chan struct{}
	if p.running {
		idle = make(chan struct{})
		p.idle = idle
	}
	p.mu.Unlock()
	if idle == nil {
		return nil
	}
	select {
	case <-idle:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
