// The users of other nodes: nodes tell each other which users they have, so that a node can
// publish that the users of a node that has died are disconnected. peer_disconnects.go corrects
// what was published while messages between the nodes were lost.

package realtime

import (
	"context"
	"maps"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/roster"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	// maxPeerUsers is the maximum number of users of other nodes that a node remembers.
	// Each takes about 100 bytes.
	maxPeerUsers = 1 << 20
	// usersBatch is the maximum number of users in a message.
	usersBatch = 256
	// usersPause is the time between two messages, so that a revocation does not wait for
	// all users of a large node.
	usersPause = 5 * time.Millisecond
	// usersDelay is how long a node collects changes, and requests for its users.
	usersDelay = 50 * time.Millisecond
	// orphanStep is how long a node waits for the node before it. For each user of a dead
	// node the other nodes have an order: the first one publishes that the user is
	// disconnected, and each next one does so orphanStep later if nobody has.
	orphanStep = 10 * time.Second
	// orphanPause is how long users of a dead node wait if the queue for the bus has no space.
	orphanPause = 100 * time.Millisecond
)

// sharedUsers are users of the sender in the message's namespace, all of them or those that
// have changed.
type sharedUsers struct {
	Node    string       `json:"node"`              // the sender's peerUsers.id
	First   bool         `json:"first,omitempty"`   // the first message with all users: the receiver drops the users that it knows
	Leaves  bool         `json:"leaves,omitempty"`  // the sender shuts down, and nobody is connected to it any more
	Added   []sharedUser `json:"added,omitempty"`   // they have a socket on the sender, their grace time runs there, or it has not published yet that they have left
	Removed []string     `json:"removed,omitempty"` // the ids of those to whom nothing of that applies any more
}

type sharedUser struct {
	ID   string   `json:"id"`
	Type UserType `json:"type,omitempty"`
}

// peerUsers exchanges users with the other nodes. Its methods may be called concurrently and
// do not block.
type peerUsers struct {
	rt     *Server
	id     string // of this node, for the other nodes of this library
	roster *roster.Roster

	mu          sync.Mutex                 // guards the fields below
	peers       map[string]bool            // the ids of the Peers that are connected
	changed     map[presenceKey]userChange // since they were shared last
	all         bool                       // all users are to be shared
	sharing     bool                       // the sharing goroutine exists
	disconnects disconnects                // see peer_disconnects.go
	watches     map[string]*orphanWatch    // by the id of the dead node's Peer

	requesting collapsed
	listed     time.Time // when all users were last shared; only the sharing goroutine uses it
}

type userChange struct {
	userType UserType
	here     bool
}

// orphanWatch waits for the users of a dead node to connect to other nodes.
type orphanWatch struct {
	timer  timingwheel.Timer
	place  int // only publishOrphans uses it: this node publishes the users in whose order it has this place or an earlier one
	reason DisconnectReason
	at     time.Time // when the node was lost
}

func (u *peerUsers) init(rt *Server) {
	u.rt, u.id, u.roster = rt, uuid.NewString(), roster.New(maxPeerUsers)
	u.peers, u.changed, u.watches = map[string]bool{}, map[presenceKey]userChange{}, map[string]*orphanWatch{}
	u.disconnects.init(u)
}

// joined records that another node is connected, and sends all users of this node.
func (u *peerUsers) joined(peer string) {
	if u.roster.Joined(peer) { // it may not know that it was taken for dead
		u.request()
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if w := u.watches[peer]; w != nil {
		u.rt.wheel.Stop(&w.timer)
		delete(u.watches, peer)
	}
	u.peers[peer] = true
	u.shareAllLocked()
}

// lost waits for PresenceGrace, so that the users of a node that has left or died can connect
// to other nodes.
func (u *peerUsers) lost(peer string, reason DisconnectReason) {
	u.disconnects.lost(peer)
	u.mu.Lock()
	defer u.mu.Unlock()
	delete(u.peers, peer)
	if !u.rt.presence.publishes {
		u.roster.Forget(peer)
		return
	}
	w := &orphanWatch{reason: reason, at: time.Now().UTC()}
	if !u.roster.Lost(peer, w.at) || u.watches[peer] != nil {
		return
	}
	w.timer.F = func() { go u.publishOrphans(peer, w) } // it takes milliseconds for many users
	u.watches[peer] = w
	u.rt.wheel.Arm(&w.timer, u.rt.opts.Timeouts.PresenceGrace)
}

// publishOrphans publishes that those users of a dead node are disconnected in whose order it
// is this node's turn.
func (u *peerUsers) publishOrphans(peer string, w *orphanWatch) {
	if !u.watched(peer, w) {
		return
	}
	orphans, more := u.roster.Orphans(peer, u.id, w.place)
	w.place++
	for {
		if orphans = u.rt.presence.orphaned(orphans, w.reason, w.at); len(orphans) == 0 {
			break
		}
		if !u.rt.pause(orphanPause) || !u.watched(peer, w) {
			return
		}
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	switch {
	case u.watches[peer] != w:
	case more:
		u.rt.wheel.Arm(&w.timer, orphanStep)
	default:
		delete(u.watches, peer)
	}
}

// watched reports whether the node is still lost, and this one does not shut down.
func (u *peerUsers) watched(peer string, w *orphanWatch) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.watches[peer] == w && !u.rt.stopping.Load()
}

// change records that a user has their first socket on this node, or is not here any more.
func (u *peerUsers) change(key presenceKey, userType UserType, here bool) {
	if !u.rt.clustered {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if len(u.peers) == 0 {
		return
	}
	u.changed[key] = userChange{userType, here}
	u.shareLocked()
}

func (u *peerUsers) shareAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.shareAllLocked()
}

func (u *peerUsers) shareAllLocked() {
	u.all = true
	u.shareLocked()
}

func (u *peerUsers) shareLocked() {
	if !u.sharing {
		u.sharing = true
		go u.share()
	}
}

// share sends the changes, or all users, until there is nothing to send. All users are sent at
// most once in answerEvery.
func (u *peerUsers) share() {
	for u.rt.pause(usersDelay) {
		u.mu.Lock()
		changed, all := u.changed, u.all && time.Since(u.listed) >= answerEvery
		if len(changed) == 0 && !u.all {
			u.sharing = false
			u.mu.Unlock()
			return
		}
		u.changed = map[presenceKey]userChange{}
		if all {
			u.all, u.listed = false, time.Now()
		}
		u.mu.Unlock()
		if all {
			changed = u.rt.presence.all() // what has changed since then is sent after it
		}
		u.send(u.rt.ctx, changed, all, false)
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.sharing = false
}

// send sends changes, or all users, until ctx ends.
func (u *peerUsers) send(ctx context.Context, changed map[presenceKey]userChange, all, leaves bool) {
	by := map[*Namespace]*sharedUsers{}
	if all {
		u.rt.each(func(ns *Namespace) { by[ns] = &sharedUsers{} })
	}
	for key, c := range changed {
		s := by[key.ns]
		if s == nil {
			s = &sharedUsers{}
			by[key.ns] = s
		}
		if c.here {
			s.Added = append(s.Added, sharedUser{key.user, c.userType})
		} else {
			s.Removed = append(s.Removed, key.user)
		}
	}
	for ns, s := range by {
		first := all
		for first || len(s.Added)+len(s.Removed) > 0 {
			added, removed := s.Added[:min(len(s.Added), usersBatch)], s.Removed[:min(len(s.Removed), usersBatch)]
			s.Added, s.Removed = s.Added[len(added):], s.Removed[len(removed):]
			u.rt.shareState(ns.name, stateContent{Users: &sharedUsers{u.id, first, leaves, added, removed}})
			first = false
			if len(s.Added)+len(s.Removed) > 0 && !pauseIn(ctx, usersPause) {
				return
			}
		}
	}
}

// apply records the users of another node. It reports whether the message is valid.
func (u *peerUsers) apply(ns *Namespace, peer string, s *sharedUsers) bool {
	if len(s.Added) > usersBatch || len(s.Removed) > usersBatch || !validID(s.Node) || !validIDs(s.Removed...) {
		return false
	}
	if slices.ContainsFunc(s.Added, func(e sharedUser) bool { return !validID(e.ID) || !e.Type.valid() }) {
		return false
	}
	if peer == "" {
		return true // the adapter does not report when a node dies
	}
	u.roster.Named(peer, s.Node)
	if s.Leaves {
		u.roster.Leaves(peer)
	}
	if s.First {
		u.roster.Clear(peer, ns.name)
	}
	userType := ""
	for _, e := range s.Added {
		if userType != string(e.Type) { // otherwise users share the text
			userType = string(e.Type)
		}
		u.roster.Add(peer, roster.User{Namespace: ns.name, ID: e.ID}, userType)
		if key := (presenceKey{ns, e.ID}); u.rt.presence.hasSocket(key) {
			u.rt.userLimit.check(key)
		}
	}
	for _, id := range s.Removed {
		u.roster.Remove(peer, roster.User{Namespace: ns.name, ID: id})
	}
	return true
}

// request asks the other nodes for their users, and sends those of this node: the others may have
// missed them.
func (u *peerUsers) request() {
	u.shareAll()
	u.requesting.soon(u.rt, 0, answerEvery, func() { u.disconnects.request(usersRequest{Node: u.id}, time.Now()) })
}

// missed asks the other nodes after a gap.
func (u *peerUsers) missed(g Gap) {
	u.mu.Lock()
	peers := slices.Collect(maps.Keys(u.peers))
	u.mu.Unlock()
	u.shareAll()
	u.disconnects.missed(g, peers)
}

// answer answers a request of another node. It reports whether the request is valid.
func (u *peerUsers) answer(ns *Namespace, r *usersRequest) bool {
	if !validID(r.Node) || r.AgoMS < 0 {
		return false
	}
	if !r.Again {
		u.shareAll()
	}
	u.disconnects.answer(ns, r)
	return true
}
