// Pending handshakes: the handshakes in progress. A revocation refuses those that may have
// read the user or the session before it, and a client that disconnects cancels the calls of
// the host's code in its handshakes.

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

// pendingHandshakes is the table of handshakes in progress. Its methods may be called
// concurrently.
type pendingHandshakes struct {
	gaps atomic.Uint64 // the number of gaps (see Node.Gap) so far

	mu sync.Mutex // guards the fields below, and the last fields of every handshake

	byConn map[*connState][]*handshake
	byRoom map[string][]*handshake
	// The rooms of a handshake are unknown until its token is verified. The table
	// therefore keeps the revocations that come meanwhile: each has a number, and is
	// dropped when every handshake that began before it has verified its token.
	verifying   list.List         // of *handshake, in the order in which they began
	number      uint64            // of the last revocation
	revoked     map[string]uint64 // the number of the last revocation of a room
	revocations []revokedRoom     // the entries of revoked, in order
}

type revokedRoom struct {
	key    string
	number uint64
}

// handshake is a handshake in progress: of a connecting socket, or of auth:refresh, which runs
// the same checks.
type handshake struct {
	s       *Socket         // the connecting socket; nil for auth:refresh
	renews  *Socket         // the socket that sent auth:refresh, otherwise nil
	auth    json.RawMessage // AuthorizeRequest.Auth
	start   time.Time
	revoked atomic.Bool        // its user or session was revoked meanwhile
	decided atomic.Bool        // see decide
	cancel  context.CancelFunc // cancels its calls of the host; nil for auth:refresh
	gaps    uint64             // pendingHandshakes.gaps before its rows were read; used only by the goroutine of the handshake

	// pendingHandshakes.mu guards these.
	began     uint64        // the number of the last revocation before it
	verifying *list.Element // nil once its token is verified
	userID    string
	listedIn  [2]string // the keys of pendingHandshakes.byRoom: the user's and the session's; empty before identify
}

// decide reports whether the caller decides how the handshake ends: only the first caller
// does.
func (h *handshake) decide() bool { return h.decided.CompareAndSwap(false, true) }

// open adds the handshake of a connecting socket to those of its connection.
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
	for _, h := range p.byConn[c] {
		h.cancel()
	}
}

// begin is called before the token is verified.
func (p *pendingHandshakes) begin(h *handshake) {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.began = p.number
	h.verifying = p.verifying.PushBack(h)
}

// identify adds the handshake to those of its user's and its session's room. It reports
// false if one of them was revoked after begin.
func (p *pendingHandshakes) identify(h *handshake, namespace string, c Claims) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	h.userID = c.Subject
	if p.byRoom == nil {
		p.byRoom = map[string][]*handshake{}
	}
	for i, r := range [...]Room{ownRoom(namespace, c.Subject), SessionRoom(c.SessionID)} {
		key := handshakeKey(namespace, r.name)
		if p.revoked[key] > h.began {
			h.revoked.Store(true)
		}
		h.listedIn[i] = key
		p.byRoom[key] = append(p.byRoom[key], h)
	}
	p.verifiedLocked(h)
	return !h.revoked.Load()
}

// verifiedLocked removes a handshake from verifying, and the revocations that no other
// handshake needs.
func (p *pendingHandshakes) verifiedLocked(h *handshake) {
	if h.verifying == nil {
		return
	}
	p.verifying.Remove(h.verifying)
	h.verifying = nil
	oldest := p.number
	if first := p.verifying.Front(); first != nil {
		oldest = first.Value.(*handshake).began //nolint:errcheck,forcetypeassert // the list holds *handshake only
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
	for _, key := range h.listedIn {
		removeHandshake(p.byRoom, key, h)
	}
	h.listedIn = [2]string{}
	if !h.refreshes() {
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
