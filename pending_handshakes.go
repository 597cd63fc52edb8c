// The handshakes that are under way, so that a revocation wins over one that has read
// the state before it, and so that nothing is asked for a client that has left.

package realtime

import (
	"container/list"
	"context"
	"encoding/json"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// pendingHandshakes knows who is being checked right now.
type pendingHandshakes struct {
	mu sync.Mutex // guards what follows, and what a handshake says that it guards

	byConn map[*connState][]*handshake
	byRoom map[string][]*handshake
	// A handshake whose token is being verified has no rooms yet, so what is
	// revoked meanwhile is remembered: each revocation has a number, and is forgotten
	// when no handshake is left that is older.
	verifying   list.List // of *handshake, in the order in which they began
	number      uint64
	revoked     map[string]uint64 // the number of the last revocation of a room
	revocations []revokedRoom     // those in revoked, in order
}

type revokedRoom struct {
	key    string
	number uint64
}

// handshake is one check under way: of a connecting socket, or of auth:refresh, which
// has no s.
type handshake struct {
	s       *Socket
	renews  *Socket         // of auth:refresh
	auth    json.RawMessage // of a CONNECT, for Authorize
	start   time.Time
	revoked atomic.Bool
	decided atomic.Bool
	cancel  context.CancelFunc // of its questions to the host; nil for auth:refresh

	// pendingHandshakes.mu guards these.
	began     uint64        // the number of the last revocation before it
	verifying *list.Element // nil once its token is verified
	userID    string
	listedIn  []string // the keys of pendingHandshakes.byRoom
}

// decide reports whether the caller is the one who says how the handshake ends.
func (h *handshake) decide() bool { return h.decided.CompareAndSwap(false, true) }

// open lists a connecting socket's handshake under its connection.
func (p *pendingHandshakes) open(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byConn == nil {
		p.byConn = map[*connState][]*handshake{}
	}
	c := h.conn()
	p.byConn[c] = append(p.byConn[c], h)
}

func (h *handshake) conn() *connState { return h.s.conn() }

// disconnected ends the questions for a connection that has closed.
func (p *pendingHandshakes) disconnected(c *connState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, h := range p.byConn[c] {
		h.cancel()
	}
}

// begin is called before the token is looked at.
func (p *pendingHandshakes) begin(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.began = p.number
	h.verifying = p.verifying.PushBack(h)
}

// identify lists the handshake under what the token says, and reports whether
// that has not been revoked since begin.
func (p *pendingHandshakes) identify(h *handshake, namespace string, c Claims) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.userID = c.Subject
	if p.byRoom == nil {
		p.byRoom = map[string][]*handshake{}
	}
	for _, r := range [...]Room{ownRoom(namespace, c.Subject), SessionRoom(c.SessionID)} {
		key := handshakeKey(namespace, r.name)
		if p.revoked[key] > h.began {
			h.revoked.Store(true)
		}
		h.listedIn = append(h.listedIn, key)
		p.byRoom[key] = append(p.byRoom[key], h)
	}
	p.verifiedLocked(h)
	return !h.revoked.Load()
}

func (p *pendingHandshakes) verifiedLocked(h *handshake) {
	if h.verifying == nil {
		return
	}
	p.verifying.Remove(h.verifying)
	h.verifying = nil
	oldest := p.number
	if first := p.verifying.Front(); first != nil {
		oldest = first.Value.(*handshake).began
	}
	n := 0
	for ; n < len(p.revocations) && p.revocations[n].number <= oldest; n++ {
		if r := p.revocations[n]; p.revoked[r.key] == r.number {
			delete(p.revoked, r.key)
		}
	}
	if p.revocations = p.revocations[n:]; len(p.revocations) == 0 {
		p.revocations = nil
	}
}

// user returns whose handshake it is, as far as known.
func (p *pendingHandshakes) user(h *handshake) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.userID
}

// done forgets a handshake; it is idempotent.
func (p *pendingHandshakes) done(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verifiedLocked(h)
	for _, key := range h.listedIn {
		removeHandshake(p.byRoom, key, h)
	}
	h.listedIn = nil
	if h.s != nil {
		h.cancel()
		removeHandshake(p.byConn, h.conn(), h)
	}
}

func removeHandshake[K comparable](from map[K][]*handshake, key K, h *handshake) {
	rest := slices.DeleteFunc(from[key], func(o *handshake) bool { return o == h })
	if len(rest) == 0 {
		delete(from, key)
	} else {
		from[key] = rest
	}
}

// revoke refuses the handshakes that are about to enter the room.
func (p *pendingHandshakes) revoke(namespace, room string) {
	for _, h := range p.mark(namespace, room) {
		if h.s != nil && h.decide() {
			h.s.ns.refuseConnect(h, errRevokedMeanwhile)
		}
	}
}

// mark marks them as revoked, and returns them.
func (p *pendingHandshakes) mark(namespace, room string) []*handshake {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	key := handshakeKey(namespace, room)
	if p.verifying.Len() > 0 {
		if p.revoked == nil {
			p.revoked = map[string]uint64{}
		}
		p.revoked[key] = p.number
		p.revocations = append(p.revocations, revokedRoom{key, p.number})
	}
	found := slices.Clone(p.byRoom[key])
	for _, h := range found {
		h.revoked.Store(true)
	}
	return found
}

func handshakeKey(namespace, room string) string { return namespace + "\x00" + room }
