// Package roster stores which users have a socket on which other node. When a node dies, the
// roster decides for each user of that node which of the remaining nodes publishes that the
// user is disconnected. The package is pure: it knows no sockets, messages or clock.
package roster

import (
	"sync"
	"time"
)

// User is a user in a namespace.
type User struct{ Namespace, ID string }

// Roster holds the users of the other nodes. Its methods may be called concurrently.
type Roster struct {
	max int

	mu    sync.Mutex       // guards the fields below, and all nodes
	nodes map[string]*node // by the id of the peer
	users int              // the number of users of all nodes
	news  uint64           // counts the calls of Joined, Named and Add
	early map[string]bool  // the peer ids in nodes from which messages came before Joined
	// overflowed says that early was full once: of any node that joins later, users may be missing.
	overflowed bool
	// forgotten has the peer ids of forgotten nodes, from which a late message may still arrive.
	forgotten map[string]bool
}

// maxForgotten is the maximum number of ids of forgotten nodes that a roster keeps. At that
// number it drops all of them.
const maxForgotten = 1024

// maxEarly is the maximum number of nodes of which the roster stores something before Joined: the
// ids may be invented. A further one makes it forget them all.
const maxEarly = 64

// node is another node.
type node struct {
	name   string          // the same on all nodes; empty: not known yet
	users  map[User]string // the type of each user
	lost   bool            // it has left or died
	lostAt time.Time       // with lost: when
	leaves bool            // it has sent its users for the last time
	joined uint64          // Roster.news when it joined last
	heard  uint64          // Roster.news when it last said something of its users
}

// New returns an empty roster for at most that many users on all nodes together. Further users
// are not recorded.
func New(users int) *Roster {
	return &Roster{max: users, nodes: map[string]*node{}, early: map[string]bool{}, forgotten: map[string]bool{}}
}

// Joined records that a node is connected. peer identifies the node on this node only. again
// reports whether it was lost or forgotten: some of its users may then be missing.
func (r *Roster) Joined(peer string) (again bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	forgotten := r.forgotten[peer]
	delete(r.forgotten, peer)
	missed := r.overflowed && r.nodes[peer] == nil
	n := r.nodeLocked(peer)
	delete(r.early, peer)
	again = forgotten || missed || n.lost
	n.lost, n.leaves = false, false
	r.news++
	n.joined = r.news
	return again
}

// nodeLocked returns a node, a new one if it is not known, or nil if it was forgotten.
func (r *Roster) nodeLocked(peer string) *node {
	n := r.nodes[peer]
	if n == nil && !r.forgotten[peer] {
		if len(r.early) >= maxEarly {
			for other := range r.early {
				r.forgetLocked(other)
			}
			r.overflowed = true
		}
		n = &node{users: map[User]string{}}
		r.nodes[peer] = n
		r.early[peer] = true
	}
	return n
}

// Forget removes a node and its users.
func (r *Roster) Forget(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.forgetLocked(peer)
}

func (r *Roster) forgetLocked(peer string) {
	if n := r.nodes[peer]; n != nil {
		r.users -= len(n.users)
		delete(r.nodes, peer)
		delete(r.early, peer)
	}
	if len(r.forgotten) >= maxForgotten {
		clear(r.forgotten)
	}
	r.forgotten[peer] = true
}

// Clear removes the users of a node in a namespace. The node sends all of them afterwards.
func (r *Roster) Clear(peer, namespace string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[peer]
	if n == nil {
		return
	}
	for u := range n.users {
		if u.Namespace == namespace {
			r.removeLocked(n, u)
		}
	}
}

// Add records that a node has a user, unless the roster is full.
func (r *Roster) Add(peer string, u User, userType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodeLocked(peer)
	if n == nil {
		return
	}
	if _, ok := n.users[u]; !ok {
		if r.users >= r.max {
			return
		}
		r.users++
	}
	n.users[u] = userType
	r.heardLocked(n)
}

// Named records the name that identifies a node on all nodes.
func (r *Roster) Named(peer, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodeLocked(peer); n != nil {
		n.name = name
		r.heardLocked(n)
	}
}

func (r *Roster) heardLocked(n *node) {
	r.news++
	n.heard = r.news
}

// Remove records that a node no longer has a user.
func (r *Roster) Remove(peer string, u User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodes[peer]; n != nil {
		r.removeLocked(n, u)
	}
}

func (r *Roster) removeLocked(n *node, u User) {
	if _, ok := n.users[u]; ok {
		delete(n.users, u)
		r.users--
	}
}

// Leaves records that a node shuts down: it publishes no user any more.
func (r *Roster) Leaves(peer string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodeLocked(peer); n != nil {
		n.leaves = true
	}
}

// stays reports whether the node is there, and does not shut down.
func (n *node) stays() bool { return !n.lost && !n.leaves }

// Others reports whether there is another node that does not shut down.
func (r *Roster) Others() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.joined > 0 && n.stays() {
			return true
		}
	}
	return false
}

// Elsewhere reports whether a node that does not shut down, and is not lost, has the user.
func (r *Roster) Elsewhere(u User) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.elsewhereLocked(u)
}

func (r *Roster) elsewhereLocked(u User) bool {
	for _, n := range r.nodes {
		if _, ok := n.users[u]; ok && n.stays() {
			return true
		}
	}
	return false
}

// Lost records that a node has left or died at that time, and reports whether it is known. A node
// without users is known too, until Orphans: the last message with its users may still arrive.
func (r *Roster) Lost(peer string, at time.Time) (known bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[peer]
	if n == nil {
		r.forgetLocked(peer)
		return false
	}
	n.lost, n.lostAt = true, at
	return true
}

// Disconnected removes a user from all nodes that were lost at that time, because a node has then
// published that the user is disconnected. If that was earlier, the user may have come to the lost
// node after it.
func (r *Roster) Disconnected(u User, at time.Time) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.lost && !n.lostAt.After(at) {
			r.removeLocked(n, u)
		}
	}
}

// Place returns the place of this node, named self, in the order that the nodes which stay have for a
// user. The first place is 0. The node of the Peer except, which may be empty, has no place.
func (r *Roster) Place(self, except string, u User) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	names := []string{self}
	for peer, other := range r.nodes {
		if other.stays() && other.name != "" && peer != except {
			names = append(names, other.name)
		}
	}
	return placeOf(self, names, u)
}

// Orphan is a user of a lost node.
type Orphan struct {
	User
	Type string
}

// Orphans removes from a lost node the users whom this node, named self, is to publish as
// disconnected, and returns them. For each user the nodes that stay have an order,
// which is the same on all nodes that know the same nodes; a user is returned if self has
// that place in the order, or an earlier one. The first place is 0. A node that has joined after
// the lost one last said something has no place: it may not know the user.
//
// Users whom another node has are removed and not returned; those who are returned are removed from
// the other lost nodes too. The roster does not know whom this
// node has. more reports whether the lost node still has users. A node without users is
// forgotten.
func (r *Roster) Orphans(peer, self string, place int) (orphans []Orphan, more bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[peer]
	if n == nil || !n.lost {
		return nil, false
	}
	names := []string{self}
	for _, other := range r.nodes {
		if other.stays() && other.name != "" && other.joined > 0 && other.joined < n.heard {
			names = append(names, other.name)
		}
	}
	for u, userType := range n.users {
		switch {
		case r.elsewhereLocked(u):
			r.removeLocked(n, u)
		case placeOf(self, names, u) <= place:
			orphans = append(orphans, Orphan{u, userType})
			for _, other := range r.nodes {
				if other.lost {
					r.removeLocked(other, u)
				}
			}
		}
	}
	if more = len(n.users) > 0; !more {
		r.forgetLocked(peer)
	}
	return orphans, more
}

// AllOrphans returns the users of all nodes that are lost or shut down, except those whom another
// node has.
func (r *Roster) AllOrphans() (orphans []Orphan) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.stays() {
			continue
		}
		for u, userType := range n.users {
			if !r.elsewhereLocked(u) {
				orphans = append(orphans, Orphan{u, userType})
			}
		}
	}
	return orphans
}

// placeOf returns the place of a name in the order that the names have for a user.
func placeOf(name string, names []string, u User) (place int) {
	own := weight(name, u)
	for _, other := range names {
		if w := weight(other, u); w < own || w == own && other < name {
			place++
		}
	}
	return place
}

func weight(name string, u User) uint64 {
	x := uint64(14695981039346656037) // FNV-1a
	for _, s := range [...]string{u.Namespace, u.ID, name} {
		for i := range len(s) {
			x = (x ^ uint64(s[i])) * 1099511628211
		}
		x *= 1099511628211 // a zero byte ends a text
	}
	x ^= x >> 33 // FNV's high bits hardly depend on the last bytes
	x *= 0xff51afd7ed558ccd
	x ^= x >> 33
	return x
}

// Len returns the number of users on all nodes.
func (r *Roster) Len() int {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.users
}
