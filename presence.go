// Presence: who has a socket, told on the bus. A phone that changes networks
// makes no noise: who is back within the grace time has not been away.

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
	// presenceQueue bounds what waits for a bus that is slow.
	presenceQueue = 1 << 16
	// presenceTries is how often a bus is tried.
	presenceTries = 3
	// presenceBatch is how many other nodes are asked for at once.
	presenceBatch = 256
	// presenceAsk is how long they have to say that a user is with them.
	presenceAsk = 2 * time.Second
)

// presence counts the sockets of each user in each namespace.
//
// presence.mu guards everything below it. What is to be published is queued under
// it, which gives the order, and published by one goroutine, which exists while
// there is something in the queue.
type presence struct {
	rt *Server
	on bool // somebody could hear of it

	mu      sync.Mutex
	stopped bool
	users   map[presenceKey]presenceState
	queue   []DomainEvent
	running bool
	dropped int
	idle    chan struct{} // closed when the queue is empty, once stopped
}

type presenceKey struct {
	ns   *Namespace
	user string
}

type presenceState struct {
	sockets int
	away    *away // who has none, within the grace time
}

type away struct {
	timer timingwheel.Timer
	last  PresenceDisconnected
}

func (p *presence) init(rt *Server) {
	p.rt = rt
	p.on = rt.opts.Timeouts.PresenceGrace >= 0 && rt.opts.Bus != nil // else the bus is the server's own
	p.users = map[presenceKey]presenceState{}
}

func (p *presence) of(s *Socket) (presenceKey, Identity, bool) {
	id := s.Identity()
	return presenceKey{s.ns, id.UserID}, id, id.UserID != "" && p.on
}

// arrived counts a socket in.
func (p *presence) arrived(s *Socket) {
	key, id, ok := p.of(s)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.users[key]
	state.sockets++
	if state.away != nil {
		p.rt.wheel.Stop(&state.away.timer)
		state.away = nil
	}
	p.users[key] = state
	if !known {
		p.publishLocked(PresenceConnected{Presence{
			UserID: id.UserID, UserType: id.UserType, Namespace: s.ns.name, Sockets: 1, At: time.Now().UTC(),
		}})
	}
}

// departed counts a socket out that was counted in.
func (p *presence) departed(s *Socket, reason DisconnectReason) {
	key, id, ok := p.of(s)
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
		gone := &away{last: PresenceDisconnected{Presence{
			UserID: id.UserID, UserType: id.UserType, Namespace: s.ns.name, Reason: reason, At: time.Now().UTC(),
		}}}
		gone.timer.F = func() { p.graceOver(key, gone) }
		state.away = gone
		p.users[key] = state
		p.rt.wheel.Arm(&gone.timer, p.rt.opts.Timeouts.PresenceGrace)
	}
}

func (p *presence) graceOver(key presenceKey, gone *away) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.stopped || p.users[key].away != gone {
		return // back in the meantime
	}
	delete(p.users, key)
	p.publishLocked(gone.last)
}

func (p *presence) publishLocked(e DomainEvent) {
	if p.stopped {
		return
	}
	if len(p.queue) >= presenceQueue {
		p.dropped++
		return
	}
	p.queue = append(p.queue, e)
	if !p.running {
		p.running = true
		go p.run()
	}
}

// run publishes what is queued, in batches, since each has to ask other nodes.
func (p *presence) run() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for len(p.queue) > 0 {
		queue, dropped := p.queue, p.dropped
		p.queue, p.dropped = nil, 0
		p.mu.Unlock()
		if dropped > 0 {
			p.rt.log.Error("realtime: the bus is too slow for presence", "lost", dropped)
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
	elsewhere := p.elsewhere(batch)
	for _, e := range batch {
		gone, leaves := e.(PresenceDisconnected)
		if leaves && elsewhere[presenceKey{p.rt.lookup(gone.Namespace), gone.UserID}] {
			continue
		}
		if p.publish(e) && leaves && p.rt.clustered {
			p.rt.shareState(gone.Namespace, NodeState{left: &gone.Presence})
		}
	}
}

// publish reports whether the bus has taken the event.
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

// elsewhere returns who of those that are about to be told of as gone is with
// another node. A node that does not answer has its users counted as gone: they
// are told of again when they connect anew, while one who is never told of as
// gone would stay for ever.
func (p *presence) elsewhere(batch []DomainEvent) map[presenceKey]bool {
	if !p.rt.clustered {
		return nil
	}
	rooms := map[*Namespace][]Room{}
	for _, e := range batch {
		if gone, ok := e.(PresenceDisconnected); ok {
			ns := p.rt.lookup(gone.Namespace)
			rooms[ns] = append(rooms[ns], ownRoom(ns.name, gone.UserID))
		}
	}
	found := map[presenceKey]bool{}
	ctx, cancel := context.WithTimeout(p.rt.ctx, presenceAsk)
	defer cancel()
	for ns, of := range rooms {
		m := ns.To(of...).message(ClusterMessage{Op: OpFetchSockets})
		err := p.rt.clusterRequest(ctx, m, func(a ClusterAnswer) {
			if a.Socket != nil && !a.Socket.Connecting {
				found[presenceKey{ns, a.Socket.Identity.UserID}] = true
			}
		})
		if err != nil {
			p.rt.log.Warn("realtime: presence asked other nodes in vain", withStack(err, "error", err)...)
		}
	}
	return found
}

// contradict is what a node does when another one has told of a user as gone. If
// he has come here since that node asked, the bus hears so behind it; if he has
// left here too, within the grace time, he need not be told of again.
func (p *presence) contradict(ns *Namespace, gone Presence) {
	key := presenceKey{ns, gone.UserID}
	p.mu.Lock()
	defer p.mu.Unlock()
	state, known := p.users[key]
	switch {
	case !known:
	case state.away != nil:
		p.rt.wheel.Stop(&state.away.timer)
		delete(p.users, key)
	default:
		p.publishLocked(PresenceConnected{Presence{
			UserID: gone.UserID, UserType: gone.UserType, Namespace: ns.name, Sockets: 1, At: time.Now().UTC(),
		}})
	}
}

// stop publishes what is queued and nothing more.
func (p *presence) stop(ctx context.Context) error {
	p.mu.Lock()
	p.stopped = true
	for key, state := range p.users {
		if state.away != nil {
			p.rt.wheel.Stop(&state.away.timer)
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
