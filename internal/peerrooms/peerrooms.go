// Package peerrooms stores which rooms the other nodes have, so that a node need not publish
// an event for which no other node has a receiver. The package is pure: it knows no sockets and
// no messages, and of the clock only how long an expected room is remembered.
package peerrooms

import (
	"sync"
	"time"
)

// Hash returns a room's number. It is the same on all nodes. The probability that two of a
// hundred thousand rooms have the same number is one in three billion.
func Hash(namespace, room string) uint64 { return mix(mix(0, namespace), room) }

// mix returns a number that depends on x and on every byte of a text.
func mix(x uint64, s string) uint64 {
	const odd = 0x9e3779b97f4a7c15
	x = (x ^ uint64(len(s))) * odd
	for ; len(s) >= 8; s = s[8:] {
		x = fold(x ^ (uint64(s[0]) | uint64(s[1])<<8 | uint64(s[2])<<16 | uint64(s[3])<<24 |
			uint64(s[4])<<32 | uint64(s[5])<<40 | uint64(s[6])<<48 | uint64(s[7])<<56))
	}
	for i := range len(s) {
		x ^= uint64(s[i]) << (8 * i)
	}
	return fold(x)
}

// fold is a bijection: texts that differ in one word have different numbers.
func fold(x uint64) uint64 {
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	x ^= x >> 32
	x *= 0xd6e8feb86659fd93
	return x ^ x>>32
}

const (
	// maxUnjoined is the maximum number of nodes that have sent their rooms and have not joined
	// yet. At that number they are forgotten.
	maxUnjoined = 16
	// maxExpected is the maximum number of expected rooms. If half of them are expected at once, every
	// room is.
	maxExpected = 4096
)

// Update is a message of a node about its rooms. A list of all of them is one or several
// updates; the first has First set and the last has Last. Later updates have what has changed.
type Update struct {
	Number      uint64 // one more than in the node's previous update
	First, Last bool
	Every       bool // the node has too many rooms for a list: it may have every room
	// Fresh says, with First, that the list answers a request that was made after the last Missed.
	Fresh          bool
	Added, Removed []uint64
}

// Table holds the rooms of the other nodes. Its methods may be called concurrently. All errors
// are in one direction: Elsewhere may report true for a room that no other node has.
type Table struct {
	max int

	mu     sync.RWMutex // guards the fields below, and every node
	only   bool         // all other nodes have joined
	nodes  map[string]*node
	rooms  int  // of all nodes
	missed bool // Missed was called: the messages of a node that joins again may be older than that
	// Expected rooms, and until when.
	expected      map[uint64]time.Time
	expectedEvery time.Time // until when every room is expected
	sweepAt       int       // the number of expected rooms at which old ones are dropped
}

// node is another node.
type node struct {
	joined bool
	known  bool // a list was received, and no later update is missing
	every  bool // it may have every room
	rooms  map[uint64]struct{}
	list   map[uint64]struct{} // the part of a list that has been received; nil: no list is under way
	next   uint64              // the number of the next update
	lost   bool                // an update is missing: wait for a list
	// stale says that updates are missing at a place that is not known. A list may be older than
	// they are, if it was received and not applied yet: wait for one that is Fresh.
	stale bool
}

// New returns a table for at most that many rooms of all nodes together. A node for whose rooms
// there is no space may have every room.
func New(rooms int) *Table {
	return &Table{max: rooms, nodes: map[string]*node{}, expected: map[uint64]time.Time{}, sweepAt: 64}
}

// SetOnly records whether all other nodes have joined. At first it is false: then every room may
// be on a node that is not known.
func (t *Table) SetOnly(only bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.only = only
}

// Joined records that a node is connected.
func (t *Table) Joined(peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[peer]
	if n == nil {
		n = &node{lost: true, stale: t.missed}
		t.nodes[peer] = n
	}
	n.joined = true
}

// Left removes a node.
func (t *Table) Left(peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.forgetLocked(t.nodes[peer])
	delete(t.nodes, peer)
}

// Missed records that updates of a node may be missing, or of all nodes if peer is empty. They may
// have every room until they have sent a list that is Fresh.
func (t *Table) Missed(peer string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.missed = true
	for id, n := range t.nodes {
		if peer == "" || id == peer {
			t.forgetLocked(n)
			n.stale = true
		}
	}
}

// forgetLocked drops what a node has sent.
func (t *Table) forgetLocked(n *node) {
	if n == nil {
		return
	}
	t.rooms -= len(n.rooms) + len(n.list)
	n.rooms, n.list, n.known, n.every, n.lost = nil, nil, false, false, true
}

// Alone reports whether no other node has joined.
func (t *Table) Alone() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, n := range t.nodes {
		if n.joined {
			return false
		}
	}
	return true
}

// Complete reports whether the rooms of all nodes that have joined are known.
func (t *Table) Complete() bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	for _, n := range t.nodes {
		if n.joined && !n.known {
			return false
		}
	}
	return true
}

// Apply applies an update of a node. It reports whether an earlier one is missing, for the first
// update after it: the node is to be asked for a list.
func (t *Table) Apply(peer string, u Update) (missing bool) {
	t.mu.Lock()
	defer t.mu.Unlock()
	n := t.nodes[peer]
	if n == nil {
		if !u.First {
			return false // a late update of a node that has left
		}
		t.forgetUnjoinedLocked()
		n = &node{lost: true, stale: t.missed}
		t.nodes[peer] = n
	}
	switch {
	case u.First && n.stale && !u.Fresh:
		return false
	case u.First:
		if u.Number != n.next {
			t.forgetLocked(n) // the previous list lacks something: it does not do until this one is complete
		}
		n.stale = false
		t.rooms -= len(n.list)
		n.list, n.lost = map[uint64]struct{}{}, false
	case n.lost || u.Number < n.next:
		return false
	case u.Number > n.next:
		t.forgetLocked(n)
		return true
	}
	n.next = u.Number + 1
	if u.Every {
		t.everyLocked(n)
		return false
	}
	t.addLocked(n, u)
	if u.Last && n.list != nil {
		t.rooms -= len(n.rooms)
		n.rooms, n.list, n.known, n.every = n.list, nil, true, false
	}
	return false
}

// addLocked adds and removes rooms. While a list is under way, the rooms of the previous one
// remain until it is complete.
func (t *Table) addLocked(n *node, u Update) {
	to := n.rooms
	if n.list != nil {
		to = n.list
	}
	if to == nil {
		return // it may have every room
	}
	before := len(to)
	for _, r := range u.Added {
		to[r] = struct{}{}
	}
	for _, r := range u.Removed {
		delete(to, r)
	}
	t.rooms += len(to) - before
	if t.rooms > t.max {
		t.everyLocked(n)
	}
}

// everyLocked records that a node may have every room.
func (t *Table) everyLocked(n *node) {
	t.rooms -= len(n.rooms) + len(n.list)
	n.rooms, n.list, n.known, n.every = nil, nil, true, true
}

// forgetUnjoinedLocked removes the nodes that have not joined if there are too many.
func (t *Table) forgetUnjoinedLocked() {
	unjoined := 0
	for _, n := range t.nodes {
		if !n.joined {
			unjoined++
		}
	}
	if unjoined < maxUnjoined {
		return
	}
	for id, n := range t.nodes {
		if !n.joined {
			t.forgetLocked(n)
			delete(t.nodes, id)
		}
	}
}

// Expect records that other nodes may put sockets into a room now, and will send an update
// about it before that time.
func (t *Table) Expect(room uint64, until time.Time) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if len(t.expected) >= t.sweepAt {
		now := time.Now()
		for r, end := range t.expected {
			if !now.Before(end) {
				delete(t.expected, r)
			}
		}
		if len(t.expected) > maxExpected/2 {
			clear(t.expected)
			if t.expectedEvery.Before(until) {
				t.expectedEvery = until
			}
		}
		t.sweepAt = max(64, 2*len(t.expected))
	}
	t.expected[room] = until
}

// Elsewhere reports whether another node may have one of the rooms.
func (t *Table) Elsewhere(namespace string, rooms []string) bool {
	t.mu.RLock()
	defer t.mu.RUnlock()
	if !t.only {
		return true
	}
	nodes := 0
	for _, n := range t.nodes {
		if n.joined {
			nodes++
			if n.every || !n.known {
				return true
			}
		}
	}
	if nodes == 0 {
		return false
	}
	for _, name := range rooms {
		room := Hash(namespace, name)
		for _, n := range t.nodes {
			if n.joined && n.has(room) {
				return true
			}
		}
		if (len(t.expected) > 0 || !t.expectedEvery.IsZero()) && t.expectedLocked(room) {
			return true
		}
	}
	return false
}

func (n *node) has(room uint64) bool {
	_, ok := n.rooms[room]
	if !ok {
		_, ok = n.list[room]
	}
	return ok
}

// expectedLocked reports whether a room is expected.
func (t *Table) expectedLocked(room uint64) bool {
	now := time.Now()
	return now.Before(t.expected[room]) || now.Before(t.expectedEvery)
}
