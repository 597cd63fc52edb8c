// Package roster holds which users have a socket on which other node, so that a node can
// say of the users of a node that has died that they are disconnected. It is pure: it knows
// no sockets, messages or clock.
package roster

import (
	"slices"
	"sync"
)

// User is a user in a namespace.
type User struct{ Namespace, ID string }

// Roster holds the users of the other nodes. Its methods may be called concurrently.
type Roster struct {
	max int

	mu    sync.Mutex // guards the fields below, and all nodes
	nodes map[string]*node
	users int             // of all nodes
	gone  map[string]bool // forgotten nodes, of which a late message may still arrive
}

// maxGone is how many forgotten nodes a roster remembers.
const maxGone = 1024

// node is another node, by the id of its peer.
type node struct {
	name  string          // under which all nodes know it; empty: not known yet
	users map[User]string // their types
	lost  bool
}

// New returns an empty roster for at most that many users on all nodes. Of further users the
// roster knows nothing.
func New(users int) *Roster {
	return &Roster{max: users, nodes: map[string]*node{}, gone: map[string]bool{}}
}

// Joined records that a node is there. It reports whether the node was forgotten: then its
// users are unknown.
func (r *Roster) Joined(peer string) (forgotten bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	forgotten = r.gone[peer]
	delete(r.gone, peer)
	r.nodeLocked(peer).lost = false
	return forgotten
}

// nodeLocked returns a node, a new one if it is not known, or nil if it was forgotten.
func (r *Roster) nodeLocked(peer string) *node {
	n := r.nodes[peer]
	if n == nil && !r.gone[peer] {
		n = &node{users: map[User]string{}}
		r.nodes[peer] = n
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
	}
	if len(r.gone) >= maxGone {
		clear(r.gone)
	}
	r.gone[peer] = true
}

// Clear removes the users of a node in a namespace, since the node is about to send all.
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

// Add records that a node has a user. name is the one under which all nodes know the node.
func (r *Roster) Add(peer, name string, u User, userType string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodeLocked(peer)
	if n == nil {
		return
	}
	n.name = name
	if _, ok := n.users[u]; !ok {
		if r.users >= r.max {
			return
		}
		r.users++
	}
	n.users[u] = userType
}

// Named records the name under which all nodes know a node.
func (r *Roster) Named(peer, name string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if n := r.nodeLocked(peer); n != nil {
		n.name = name
	}
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

// Elsewhere reports whether a node that is not lost has the user.
func (r *Roster) Elsewhere(u User) bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.elsewhereLocked(u)
}

func (r *Roster) elsewhereLocked(u User) bool {
	for _, n := range r.nodes {
		if _, ok := n.users[u]; ok && !n.lost {
			return true
		}
	}
	return false
}

// Lost records that a node has left or died, and reports whether it had users. A node
// without users is forgotten.
func (r *Roster) Lost(peer string) (hadUsers bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	n := r.nodes[peer]
	if n == nil || len(n.users) == 0 {
		r.forgetLocked(peer)
		return false
	}
	n.lost = true
	return true
}

// Gone removes a user from all lost nodes, since the user was published as disconnected.
func (r *Roster) Gone(u User) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, n := range r.nodes {
		if n.lost {
			r.removeLocked(n, u)
		}
	}
}

// Orphan is a user of a lost node.
type Orphan struct {
	User
	Type string
}

// Orphans returns the users of a lost node whom no other node is known to have, and for
// whom the node named self stands at that place among the nodes that are not lost; they are
// removed. here says that a user is on the node named self: nobody has to say anything
// then. Each user has an order of nodes of their own, the same on all nodes that know the
// same nodes. more reports whether users remain. A node without users is forgotten.
func (r *Roster) Orphans(peer, self string, place int, here func(User) bool) (orphans []Orphan, more bool) {
	r.mu.Lock()
	n := r.nodes[peer]
	if n == nil || !n.lost {
		r.mu.Unlock()
		return nil, false
	}
	names := []string{self}
	for _, other := range r.nodes {
		if !other.lost && other.name != "" {
			names = append(names, other.name)
		}
	}
	var found []Orphan
	for u, userType := range n.users {
		switch {
		case r.elsewhereLocked(u):
			r.removeLocked(n, u)
		case placeOf(self, names, u) <= place:
			r.removeLocked(n, u)
			found = append(found, Orphan{u, userType})
		}
	}
	if more = len(n.users) > 0; !more {
		r.forgetLocked(peer)
	}
	r.mu.Unlock()
	return slices.DeleteFunc(found, func(o Orphan) bool { return here(o.User) }), more
}

// placeOf returns the place of a name in the order of names of a user.
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
