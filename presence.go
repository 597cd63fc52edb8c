// Presence: the server publishes on the bus which users have a socket. A user who
// reconnects within Timeouts.PresenceGrace is not reported as disconnected.

package realtime

import (
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/roster"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// presenceQueue is the maximum number of events that wait for the bus.
	presenceQueue = 1 << 16
	// presenceTries is how many times the server tries to publish an event before it publishes
	// the next one. See presence_again.go.
	presenceTries = 3
	// presenceBatch is the maximum number of users in one request to the other nodes.
	presenceBatch = 256
	// presenceTimeout is the timeout of that request.
	presenceTimeout = 2 * time.Second
)

// presence counts the sockets of each user in each namespace. Its methods may be called
// concurrently.
type presence struct {
	rt *Server
	// publishes says that Options.Bus is set and PresenceGrace is not negative. Otherwise
	// users are counted only for the other nodes.
	publishes bool
	counts    bool // publishes is set, or there are other nodes
	max       int  // of queue; presenceQueue, or less in a test

	// mu guards the fields below. Events are queued while it is held, which keeps their
	// order. One goroutine publishes them, and ends when the queue is empty.
	mu      sync.Mutex
	stopped bool
	users   map[presenceKey]presenceState
	leaving map[presenceKey]UserType // users whose grace time is over and whose event is not published yet: if this node dies, another one publishes it
	orphans map[presenceKey]UserType // once stopped: users whom another node has to publish, see handover.go
	queue   []DomainEvent
	running bool // the publishing goroutine exists
	dropped int  // events that did not fit into the queue
	failed  failedPresence
	idle    chan struct{} // closed when the queue is empty, once stopped
}

type presenceKey struct {
	ns   *Namespace
	user string
}

type presenceState struct {
	sockets  int
	userType UserType
	came     int64         // when the user's first socket connected, or was published again; microseconds since 1970
	leave    *pendingLeave // set while the user has no socket and the grace time runs
	again    bool          // with leave: the user's next socket is published, see publishAgain
}

// pendingLeave is the event that is published if the user does not reconnect within the
// grace time.
type pendingLeave struct {
	timer timingwheel.Timer
	last  PresenceDisconnected
}

func (p *presence) init(rt *Server) {
	p.rt, p.max = rt, presenceQueue
	p.publishes = rt.opts.Timeouts.PresenceGrace >= 0 && rt.opts.Bus != nil // a nil Bus is replaced later by a bus that the host cannot read
	p.counts = p.publishes || rt.clustered
	p.users, p.leaving, p.orphans = map[presenceKey]presenceState{}, map[presenceKey]UserType{}, map[presenceKey]UserType{}
}

// keyOf returns the user of a socket. ok is false if the user is not counted.
func (p *presence) keyOf(s *Socket) (key presenceKey, id Identity, ok bool) {
	if !p.counts {
		return key, id, false
	}
	id = s.Identity()
	return presenceKey{s.ns, id.UserID}, id, id.UserID != ""
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
	if !known {
		delete(p.leaving, key)
		delete(p.orphans, key)
		state.userType = id.UserType
		p.rt.peerUsers.change(key, id.UserType, true)
	}
	publish := !known || state.again
	if publish {
		state.came, state.again = time.Now().UnixMicro(), false
	}
	p.users[key] = state
	if publish {
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
	case p.stopped: // the other nodes wait for the user, who is about to connect to one of them
		p.orphanLocked(key, state.userType)
	case !p.publishes:
		delete(p.users, key)
		p.rt.peerUsers.change(key, "", false)
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
		return // the user has reconnected, or Shutdown has begun
	}
	delete(p.users, key)
	if p.publishLocked(leave.last) && len(p.leaving) < p.max {
		p.leaving[key] = leave.last.UserType
	} else {
		p.rt.peerUsers.change(key, "", false)
	}
}

// left tells the other nodes that a user is not here any more: the event is published, or need not
// be.
func (p *presence) left(key presenceKey) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, leaving := p.leaving[key]; leaving {
		delete(p.leaving, key)
		p.rt.peerUsers.change(key, "", false)
	}
}

// publishLocked queues an event, and reports whether it has.
func (p *presence) publishLocked(e DomainEvent) bool {
	if p.stopped || !p.publishes {
		return false
	}
	if len(p.queue) >= p.max {
		p.dropped++
		return false
	}
	p.queueLocked(e)
	return true
}

func (p *presence) queueLocked(e DomainEvent) {
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
			if p.rt.ctx.Err() == nil { // otherwise Shutdown has said that they are not published
				p.publishAll(batch)
			}
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
	p.tellAgain(batch)
	onOtherNodes := p.onOtherNodes(batch)
	disconnects := map[*Namespace][]sharedDisconnect{}
	for _, e := range batch {
		left, leaves := e.(PresenceDisconnected)
		if !leaves {
			p.publish(e)
			continue
		}
		ns := p.rt.lookup(left.Namespace)
		key := presenceKey{ns, left.UserID}
		// The bus may have accepted an event that failed, even after the user has connected to
		// another node; that node then publishes them as connected again.
		published := onOtherNodes[key] && p.succeeded(e)
		if published || !onOtherNodes[key] && p.publish(e) {
			disconnects[ns] = append(disconnects[ns], sharedDisconnect{sharedUser: sharedUser{left.UserID, left.UserType}})
			published = true
		}
		if published || onOtherNodes[key] {
			p.left(key)
		}
	}
	if p.rt.clustered {
		for ns, users := range disconnects {
			p.rt.peerUsers.disconnects.published(ns, users)
		}
	}
}

// publish reports whether the bus has accepted the event.
func (p *presence) publish(e DomainEvent) bool {
	env, err := NewEnvelope(e)
	for try := 1; err == nil; try++ {
		err = hostcall.Run(p.rt.ctx, p.rt.host.presence, func(ctx context.Context) error { return p.rt.opts.Bus.Publish(ctx, env) })
		if err == nil {
			p.succeeded(e)
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
	// When Shutdown has ended its calls, its error says that presence was not published: not a line for each user.
	if p.rt.ctx.Err() == nil && p.failedOnce(e) {
		p.rt.log.Error("realtime: presence not published", withStack(err, "event", e.EventName(), "user", e.EventKey(), "error", err)...)
	}
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

// onPeerDisconnected is called when another node has published, or handled says that a node has
// handled, at that time, an event that says that a user is disconnected. It publishes a user who is here again, so that this is the
// last event, unless they were published after that. Of a user whose grace time runs it publishes the
// next socket. The grace time ends with an event as always: their connecting may still be published or
// handled after the event of the other node, or that event may be an old one whose message comes late.
func (p *presence) onPeerDisconnected(key presenceKey, userType UserType, at time.Time, handled bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.users[key]
	switch {
	case !known || !p.publishes || state.came > at.UnixMicro() || handled && state.came == at.UnixMicro():
	case state.leave != nil:
		state.again = true
		p.users[key] = state
	default:
		p.publishAgainLocked(key, state, userType)
	}
}

// hasSocket reports whether a user has a socket here.
func (p *presence) hasSocket(key presenceKey) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.users[key].sockets > 0
}

// all returns every user who has a socket here, whose grace time runs, or who is leaving, and
// those whom another node has to publish because this one shuts down.
func (p *presence) all() map[presenceKey]userChange {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.allLocked()
}

func (p *presence) allLocked() map[presenceKey]userChange {
	all := make(map[presenceKey]userChange, len(p.users))
	for key, state := range p.users {
		all[key] = userChange{state.userType, true}
	}
	for key, userType := range p.leaving {
		all[key] = userChange{userType, true}
	}
	for key, userType := range p.orphans {
		all[key] = userChange{userType, true}
	}
	return all
}

// orphaned publishes that users of a node that has left or died are disconnected, unless
// they have connected to another one, or have a socket or a grace time here. It leaves half of
// the queue to other events, and returns the users who have no space.
func (p *presence) orphaned(orphans []roster.Orphan, reason DisconnectReason, at time.Time) (rest []roster.Orphan) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for i, o := range orphans {
		if len(p.queue) >= p.max/2 {
			return orphans[i:]
		}
		key := presenceKey{p.rt.lookup(o.Namespace), o.ID}
		if _, here := p.users[key]; here {
			continue
		}
		published := p.publishLocked(PresenceDisconnected{Presence{
			UserID: o.ID, UserType: UserType(o.Type), Namespace: o.Namespace, Reason: reason, At: at,
		}})
		switch {
		case p.stopped:
			p.orphanLocked(key, UserType(o.Type))
		case published && len(p.leaving) < p.max:
			p.leaving[key] = UserType(o.Type)
		}
	}
	return nil
}
