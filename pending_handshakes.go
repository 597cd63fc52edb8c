// Pending handshakes: the handshakes in progress. A revocation refuses those that may have
// read the user or the session before it, and a client that disconnects cancels the calls of
// the host's code in its handshakes.

package realtime

import (
	"context"
	"encoding/json"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/chain"
	"github.com/rodando/realtime/internal/socketio"
)

// pendingHandshakes is the table of handshakes in progress. Its methods may be called
// concurrently.
type pendingHandshakes struct {
	gaps atomic.Uint64 // the number of gaps (see Node.Gap) so far

	mu sync.Mutex // guards the fields below, and the last fields of every handshake

	byConn map[*connState]*handshake    // the first of a list, by handshake.next[ofConn]
	byRoom map[handshakeRoom]*handshake // the first of a list, by handshake.next[ofUser] or next[ofSession]
	// The rooms of a handshake are unknown until its token is verified. The table
	// therefore keeps the revocations that come meanwhile: each has a number, and is
	// dropped when every handshake that began before it has verified its token.
	verifying   chain.List[*handshake]   // those that verify their token, in the order in which they began
	number      uint64                   // of the last revocation
	revoked     map[handshakeRoom]uint64 // the number of the last revocation of a room
	revocations []revokedRoom            // the entries of revoked, in order
}

// handshakeRoom is a room that a handshake would join.
type handshakeRoom struct{ namespace, room string }

type revokedRoom struct {
	key    handshakeRoom
	number uint64
}

// handshake is a handshake in progress: of a connecting socket, or of auth:refresh, which runs
// the same checks.
type handshake struct {
	s       *Socket         // the connecting socket; nil for auth:refresh
	renews  *Socket         // the socket that sent auth:refresh, otherwise nil
	auth    json.RawMessage // AuthorizeRequest.Auth
	claim   claim           // to a socket that the client had
	former  *socketio.Away  // that socket, if the client gets it back; used only by the goroutine of the handshake
	start   time.Time
	revoked atomic.Bool        // its user or session was revoked meanwhile
	decided atomic.Bool        // see decide
	cancel  context.CancelFunc // cancels its calls of the host; nil for auth:refresh
	gaps    uint64             // pendingHandshakes.gaps before its rows were read; used only by the goroutine of the handshake
	own     [2]Room            // the user's and the session's, once the token is verified; likewise

	// pendingHandshakes.mu guards these.
	began     uint64                 // the number of the last revocation before it
	verifying chain.Node[*handshake] // in pendingHandshakes.verifying
	userID    string
	rooms     [2]handshakeRoom // the user's and the session's, in which it is listed; zero before identify
	next      [3]*handshake    // in the lists that it is in
}

// The lists that a handshake is in: indexes of handshake.next, and the first two of handshake.rooms.
const (
	ofUser = iota
	ofSession
	ofConn
)

// decide reports whether the caller decides how the handshake ends: only the first caller
// does.
func (h *handshake) decide() bool { return h.decided.CompareAndSwap(false, true) }

// open adds the handshake of a connecting socket to those of its connection.
func (p *pendingHandshakes) open(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.byConn == nil {
		p.byConn = map[*connState]*handshake{}
	}
	c := h.conn()
	h.next[ofConn] = p.byConn[c]
	p.byConn[c] = h
}

func (h *handshake) conn() *connState { return h.s.conn() }

// refreshes reports whether this is an auth:refresh: no socket is connecting.
func (h *handshake) refreshes() bool { return h.s == nil }

// socket returns the socket that connects, or that sent auth:refresh.
func (h *handshake) socket() *Socket {
	if h.refreshes() {
		return h.renews
	}
	return h.s
}

// disconnected cancels the calls to the host for a connection that has closed.
func (p *pendingHandshakes) disconnected(c *connState) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for h := p.byConn[c]; h != nil; h = h.next[ofConn] {
		h.cancel()
	}
}

// begin is called before the token is verified.
func (p *pendingHandshakes) begin(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.began, h.verifying.Value = p.number, h
	p.verifying.Push(&h.verifying)
}

// identify adds the handshake to those that would join the user's and the session's room. It
// reports false if one of them was revoked after begin.
func (p *pendingHandshakes) identify(h *handshake, namespace string, c Claims) bool {
	h.own = [2]Room{ownRoom(namespace, c.Subject), SessionRoom(c.SessionID)}
	p.mu.Lock()
	defer p.mu.Unlock()
	h.userID = c.Subject
	if p.byRoom == nil {
		p.byRoom = map[handshakeRoom]*handshake{}
	}
	for i, r := range h.own {
		if r.name == "" {
			continue
		}
		key := handshakeRoom{namespace, r.name}
		if p.revoked[key] > h.began {
			h.revoked.Store(true)
		}
		h.rooms[i], h.next[i] = key, p.byRoom[key]
		p.byRoom[key] = h
	}
	p.verifiedLocked(h)
	return !h.revoked.Load()
}

// slot returns the index in h.next of the list of a room that h is in.
func (h *handshake) slot(key handshakeRoom) int {
	if h.rooms[ofUser] == key {
		return ofUser
	}
	return ofSession
}

// verifiedLocked removes a handshake from those that verify their token, and the revocations
// that no other handshake needs.
func (p *pendingHandshakes) verifiedLocked(h *handshake) {
	if !p.verifying.Remove(&h.verifying) {
		return
	}
	oldest := p.number
	if first := p.verifying.Oldest(); first != nil {
		oldest = first.Value.began
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

// user returns the id of the handshake's user, or "" before the token is verified.
func (p *pendingHandshakes) user(h *handshake) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return h.userID
}

// done removes a handshake from the table. It is idempotent.
func (p *pendingHandshakes) done(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.verifiedLocked(h)
	for i, key := range h.rooms {
		if key == (handshakeRoom{}) {
			continue
		}
		removeHandshake(p.byRoom, key, h, i)
		h.rooms[i] = handshakeRoom{}
	}
	if !h.refreshes() {
		h.cancel()
		removeHandshake(p.byConn, h.conn(), h, ofConn)
	}
}

// removeHandshake removes a handshake from the list of a key, which is linked by next[slot].
func removeHandshake[K comparable](from map[K]*handshake, key K, h *handshake, slot int) {
	first := from[key]
	for at := &first; *at != nil; at = &(*at).next[slot] {
		if *at == h {
			*at = h.next[slot]
			h.next[slot] = nil
			break
		}
	}
	if first == nil {
		delete(from, key)
	} else {
		from[key] = first
	}
}

// revoke refuses the pending handshakes that would join the room.
func (p *pendingHandshakes) revoke(namespace, room string) {
	for _, h := range p.markRevoked(namespace, room) {
		if !h.refreshes() && h.decide() {
			h.s.ns.refuseHandshake(h, errRevokedMeanwhile)
		}
	}
}

// markRevoked flags the pending handshakes that would join the room, and returns them.
func (p *pendingHandshakes) markRevoked(namespace, room string) []*handshake {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.number++
	key := handshakeRoom{namespace, room}
	if p.verifying.Oldest() != nil {
		if p.revoked == nil {
			p.revoked = map[handshakeRoom]uint64{}
		}
		p.revoked[key] = p.number
		p.revocations = append(p.revocations, revokedRoom{key, p.number})
	}
	var found []*handshake
	for h := p.byRoom[key]; h != nil; h = h.next[h.slot(key)] {
		h.revoked.Store(true)
		found = append(found, h)
	}
	return found
}
