// Replaced sessions: after a login session was replaced by another one, its sockets have a grace
// time to send auth:refresh, or the server carries them over. Each node does so for its own
// sockets, so that it happens even if the node that handled the event stops meanwhile.

package realtime

import (
	"sync"
	"time"

	"github.com/rodando/realtime/internal/timingwheel"
)

// afterGrace is how long after its grace time a sweep still leaves a session alone: the connections
// of its sockets are closing, and must not be told something else.
const afterGrace = time.Minute

// replacedSessions knows the replaced sessions whose grace time runs. Its methods may be called
// concurrently and do not block.
type replacedSessions struct {
	rt *Server

	mu   sync.Mutex     // guards held
	held map[string]int // how many grace times of a session run
}

// carriedSession is a replaced session whose sockets are carried over to the one that replaced it.
type carriedSession struct {
	UserID    string    `json:"user"`
	Old       string    `json:"old"`
	New       string    `json:"new"`
	ExpiresAt time.Time `json:"expiresAt"`
}

func (c carriedSession) valid() bool {
	return validID(c.UserID) && validID(c.Old) && validID(c.New) && !c.ExpiresAt.IsZero()
}

// inGrace reports whether a sweep leaves the sockets of the session alone.
func (r *replacedSessions) inGrace(sessionID string) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.held[sessionID] > 0
}

// during holds a session for its grace time, and then calls end on a goroutine of its own.
func (r *replacedSessions) during(sessionID string, end func()) {
	r.count(sessionID, 1)
	wheel := r.rt.wheel
	wheel.Arm(&timingwheel.Timer{F: func() {
		wheel.Arm(&timingwheel.Timer{F: func() { r.count(sessionID, -1) }}, afterGrace)
		go end()
	}}, r.rt.opts.Timeouts.RefreshGrace)
}

func (r *replacedSessions) count(sessionID string, n int) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.held == nil {
		r.held = map[string]int{}
	}
	if r.held[sessionID] += n; r.held[sessionID] == 0 {
		delete(r.held, sessionID)
	}
}

// expireLater closes the sockets that are still in a replaced session after
// Timeouts.RefreshGrace, on all nodes. by is the new session, or empty.
func (r *replacedSessions) expireLater(sessionID, by string) {
	if r.shares() {
		r.rt.shareState(everyShareNamespace, stateContent{Replaced: sessionID, ReplacedBy: by})
	}
	r.expireHereLater(sessionID)
}

// shares reports whether the other nodes learn of a replaced session from this one.
func (r *replacedSessions) shares() bool { return r.rt.clustered && !r.rt.opts.Cluster.BusFanOut }

// expireHereLater is expireLater for the sockets of this node.
func (r *replacedSessions) expireHereLater(sessionID string) {
	r.during(sessionID, func() {
		r.rt.each(func(ns *Namespace) {
			for _, inner := range ns.To(SessionRoom(sessionID)).selectLocal() {
				if s, ok := socketOf(inner); ok {
					s.expire(time.Now())
				}
			}
		})
	})
}

// carry moves the sockets of a replaced session to the new one, on all nodes. It sends one message
// per namespace: the adapter keeps its order with a revocation of the new session.
func (r *replacedSessions) carry(c carriedSession) {
	r.rt.each(func(ns *Namespace) {
		r.carryHere(ns, c)
		if r.shares() {
			r.rt.shareState(ns.name, stateContent{Carried: &c})
		}
	})
}

// carryHere moves the sockets of this node in a namespace. It does so again at the end of the grace
// time, for those whose handshake read the old session before it was replaced.
func (r *replacedSessions) carryHere(ns *Namespace, c carriedSession) {
	move := func() {
		for _, inner := range ns.To(SessionRoom(c.Old)).selectLocal() {
			if s, ok := socketOf(inner); ok {
				s.carry(c)
			}
		}
	}
	move()
	if c.Old != c.New {
		r.during(c.Old, move)
	}
}

// carry moves the socket to the session that replaced its own, with that one's expiry. In the same
// session it only extends the expiry.
func (s *Socket) carry(c carriedSession) {
	if id := s.Identity(); id.SessionID != c.Old || id.UserID != c.UserID {
		return
	}
	// The socket joins the new session's room before it leaves the old one, as in refresh.
	s.inner.Join(SessionRoom(c.New).name)
	s.mu.Lock()
	id := s.identity
	still := id.SessionID == c.Old // it may have sent auth:refresh meanwhile
	if still && (c.Old != c.New || c.ExpiresAt.After(s.expiresAtLocked())) {
		s.renewLocked(Identity{UserID: id.UserID, UserType: id.UserType, SessionID: c.New}, c.ExpiresAt)
	}
	s.mu.Unlock()
	switch {
	case still && c.Old != c.New:
		s.inner.Leave(SessionRoom(c.Old).name)
	case !still && id.SessionID != c.New:
		s.inner.Leave(SessionRoom(c.New).name)
	}
}
