// Recovery: a client that has lost its connection gets its socket back after it has passed every
// check of a handshake again. Package socketio keeps the events; here it is decided who may return.

package realtime

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"net/http"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/logsample"
	"github.com/rodando/realtime/internal/socketio"
)

// config returns what package socketio needs, or nil if recovery is off. everything says that clients of
// other nodes come here.
func (r *Recovery) config(everything bool) *socketio.RecoveryConfig {
	if !r.Enabled {
		return nil
	}
	return &socketio.RecoveryConfig{Window: r.Window, Events: r.Events, Bytes: r.Bytes, Sockets: r.Sockets, Everything: everything}
}

// numbers lists the numbers of Recovery.
func (r *Recovery) numbers() []setting[int] {
	return []setting[int]{
		{"Events", &r.Events, 100_000, 1, false},
		{"Bytes", &r.Bytes, 64 << 20, 1 << 16, false},
		{"Sockets", &r.Sockets, 100_000, 1, false},
	}
}

const defaultRecoveryWindow = 2 * time.Minute

// defaults returns the options with the defaults in place of zero values.
func (r Recovery) defaults() Recovery {
	r.Window = cmp.Or(r.Window, defaultRecoveryWindow)
	for _, s := range r.numbers() {
		*s.at = cmp.Or(*s.at, s.fallback)
	}
	return r
}

func (r Recovery) check(m *mistakes) {
	m.addf(!r.Enabled && (r.Window != 0 || r.Events != 0 || r.Bytes != 0 || r.Sockets != 0 || r.AllClients || r.Rooms != nil), "Options.Recovery has fields that are set, and Enabled is not; set it, or leave out the others")
	m.addf(r.Window < 0, "Options.Recovery.Window is negative; leave it out for %v", defaultRecoveryWindow)
	m.addf(r.Window > 0 && r.Window < time.Second, "Options.Recovery.Window %s", tooShort(r.Window, time.Second))
	m.addf(r.Window > maxTimeout, "Options.Recovery.Window is %v; it must be %v or less", r.Window, maxTimeout)
	for _, s := range r.numbers() {
		m.addf(*s.at < 0, "Options.Recovery.%s is negative; leave it out for %d", s.name, s.fallback)
		m.addf(*s.at > 0 && *s.at < s.least, "Options.Recovery.%s is %d; it must be %d or more", s.name, *s.at, s.least)
		m.addf(*s.at > maxNumber, "Options.Recovery.%s is %d; it must be %d or less", s.name, *s.at, maxNumber)
	}
}

// knowsOffsets reports whether a client is one that stores offsets, as far as its first request tells:
// it is the JavaScript client of 4.8 or later, whose parameter "t" has a new form, or it begins with a
// websocket, and is not one of those whose apps break on an argument that they do not expect. Older
// JavaScript clients that begin with a websocket look the same; their apps ignore the argument.
func knowsOffsets(r *http.Request) bool {
	q := r.URL.Query()
	t := q.Get("t")
	if q.Get("transport") == string(TransportPolling) {
		return len(t) == 8 && strings.Trim(t, "0123456789abcdefghijklmnopqrstuvwxyz") == ""
	}
	agent := r.UserAgent()
	return !strings.Contains(t, ".") && !strings.Contains(agent, "Python") && !strings.HasPrefix(agent, "Dart/") // Python's "t" is a decimal number
}

// claim is what the CONNECT of a client that had a socket contains.
type claim struct {
	pid    json.RawMessage // nil if there is none
	offset json.RawMessage // likewise
}

// takeClaim removes the claim from the members of an auth object.
func takeClaim(auth map[string]json.RawMessage) (c claim) {
	c.pid, c.offset = auth["pid"], auth["offset"]
	delete(auth, "pid")
	delete(auth, "offset")
	return c
}

// recoverable makes a socket recoverable, whose handshake has passed the checks of the user and the
// session. If the client has a claim to a socket, the socket becomes that one.
func (ns *Namespace) recoverable(ctx context.Context, s *Socket, h *handshake) {
	if !ns.inner.Recovers() || ns.opts.Anonymous || s.inner.Conn().Protocol() < 4 {
		return
	}
	var pid, offset string
	claims := len(h.claim.pid) > 0 && json.Unmarshal(h.claim.pid, &pid) == nil
	offsets := socketio.OffsetsBehind
	if claims || ns.rt.opts.Recovery.AllClients || s.conn().knowsOffsets() {
		offsets = socketio.OffsetsInside
	}
	s.inner.Recoverable(offsets)
	p, ok := socketio.ParsePID(pid)
	if !claims || !ok || !ns.rt.hearsAll() {
		return
	}
	var from *string
	if len(h.claim.offset) > 0 && !bytes.Equal(h.claim.offset, []byte("null")) {
		if json.Unmarshal(h.claim.offset, &offset) != nil {
			return
		}
		from = &offset
	}
	ctx, cancel := context.WithTimeout(ctx, reclaimTime)
	defer cancel()
	pause := reclaimPause
	for tries := 1; ; tries++ {
		var again bool
		if h.former, again = ns.reclaim(ctx, s, p, from, tries); !again || !pauseIn(ctx, pause) {
			return
		}
		pause = min(2*pause, maxReclaimPause)
	}
}

// hearsAll reports whether the node receives what other nodes emit, as far as the adapter knows. Otherwise a
// client would miss it.
func (rt *Server) hearsAll() bool { return !rt.clustered || rt.cluster.receiving() }

const (
	// reclaimTime is how long a handshake waits for the former socket of its client.
	reclaimTime = 4 * time.Second
	// reclaimPause is the time between the first two looks whether it is free. It doubles, up to
	// maxReclaimPause.
	reclaimPause    = 10 * time.Millisecond
	maxReclaimPause = 200 * time.Millisecond
)

// claimTries is how often a node tries to be the first one that recovers a socket, in 1.3 s. That it is not may
// be because the client has tried before, and its handshake is not over, or because this node knows an older state.
const claimTries = 10

// reclaim makes a socket the former one of its client, which it returns, or nil. again says that another
// handshake of the client has it at present. tries counts the calls.
func (ns *Namespace) reclaim(ctx context.Context, s *Socket, p socketio.PID, offset *string, tries int) (a *socketio.Away, again bool) {
	if former := ns.inner.Connected(p); former != nil {
		f, ok := socketOf(former)
		if !ok || !ns.rt.recovery.same(f.Identity(), s.Identity()) {
			return nil, false
		}
		if !former.Opened() {
			return nil, true
		}
		if !former.Supersede(ctx) && !former.Closed() {
			return nil, false
		}
	}
	a = ns.inner.Away(ctx, p.ID(), p.Socket())
	if a == nil {
		if ns.inner.Connected(p) != nil {
			return nil, true
		}
		var stale bool
		if a, stale = ns.rt.peerSockets.claim(ctx, s, p, offset); a == nil {
			return nil, stale && tries < claimTries
		}
	}
	if owner, ok := a.Owner.(Identity); !ok || !ns.rt.recovery.same(owner, s.Identity()) {
		return nil, false
	}
	if !ns.rt.peerSockets.first(ctx, ns, a) {
		return nil, tries < claimTries
	}
	ok, taken := s.inner.Resume(a, p, offset)
	if !ok {
		ns.rt.peerSockets.again(ns, a)
		return nil, taken || ns.inner.Connected(p) != nil // it has become the socket meanwhile
	}
	return a, false
}

// formerRooms returns those of a resumed socket's former rooms that are neither joined at each connect nor those
// of running trips: the trips that an admin watches, and rooms of the host. leave are rooms that it had left.
func (ns *Namespace) formerRooms(ctx context.Context, s *Socket, h *handshake) (join, leave []Room, err error) {
	var own []Room // of the host
	var then []string
	for _, r := range h.former.Rooms {
		then = append(then, r.Name)
	}
	for _, r := range roomsNamed(then) {
		_, trip := tripOf(r.name)
		switch {
		case r.name == h.former.Socket:
		case trip && ns.name == NamespaceAdmin:
			join = append(join, r)
		case !trip && !ns.isBuiltinRoom(r, s):
			own = append(own, r)
		}
	}
	if ns.name == NamespaceAdmin && !slices.Contains(then, AdminDriversRoom.name) {
		leave = []Room{AdminDriversRoom}
	}
	if len(own) == 0 {
		return join, leave, nil
	}
	if ns.rt.opts.Recovery.Rooms == nil {
		ns.rt.log.Info("realtime: events of the host's rooms are not recovered", "namespace", ns.name,
			logsample.Remedy, "set Options.Recovery.Rooms, unless only volatile events go to these rooms")
		return join, leave, nil
	}
	rooms, err := callHost(ctx, ns.rt.host.recovery, h.source(), h, func(ctx context.Context) ([]Room, error) {
		return ns.rt.opts.Recovery.Rooms(ctx, s, own)
	})
	return append(join, rooms...), leave, err
}

// isBuiltinRoom reports whether a socket joins a room at each connect, or joined it in an earlier
// session.
func (ns *Namespace) isBuiltinRoom(r Room, s *Socket) bool {
	b := builtinByName(ns.name)
	return b != nil && slices.Contains(b.common, r) || r == ownRoom(ns.name, s.Identity().UserID) || strings.HasPrefix(r.name, sessionPrefix)
}

// firstMessages returns what a socket receives first: the events that it has missed and hello if its
// client recovers, otherwise hello and then what its user must know. The socket must be in its
// rooms, so that it receives what happens meanwhile behind them.
func (ns *Namespace) firstMessages(ctx context.Context, s *Socket, h *handshake) ([]*socketio.Message, error) {
	id := s.Identity()
	hello := HelloPayload{OK: true, Namespace: ns.name, SessionID: id.SessionID, UserID: id.UserID, ServerTime: Time{time.Now()}}
	var first []*socketio.Message
	if h.former != nil {
		first, hello.Missed = ns.catchUp(ctx, s, h)
		s.recovered = hello.Missed != nil
	}
	if ns.inner.Recovers() {
		hello.Recovered = &s.recovered
	}
	arg, err := json.Marshal(hello)
	if err != nil {
		return nil, errorf("encoding hello: %w", err)
	}
	first = append(first, s.inner.First(EventHello.name, arg)...)
	if s.recovered {
		return first, nil
	}
	snapshot, err := ns.snapshot(ctx, s, h)
	if err != nil {
		return nil, err
	}
	for i, e := range snapshot {
		emit := s.inner.First
		if i == len(snapshot)-1 {
			emit = s.inner.FirstRequired
		}
		first = append(first, emit(e.name, e.arg)...)
	}
	return first, nil
}

// catchUp returns the events that a resumed socket has missed, and their number, which is nil if its client
// connects as a new one.
func (ns *Namespace) catchUp(ctx context.Context, s *Socket, h *handshake) (missed []*socketio.Message, n *int) {
	join, leave, err := ns.formerRooms(ctx, s, h)
	if err != nil {
		ns.rt.hostFailed("Options.Recovery.Rooms", err, "namespace", ns.name)
	}
	part, whole := ns.rt.peerSockets.part(ctx, s, h.former, join)
	if err != nil || !whole || !ns.rt.hearsAll() || ns.changedHands(s, h.former) {
		_, _, _ = s.inner.Catch(false, nil)
		return nil, nil
	}
	// Not before: a client that connects as a new one would get what is sent to these rooms meanwhile.
	s.Join(join...)
	s.Leave(leave...)
	missed, events, ok := s.inner.Catch(true, part)
	if !ok {
		s.Leave(join...)
		s.Join(leave...)
		return nil, nil
	}
	for _, r := range join {
		if id, trip := tripOf(r.name); trip && ns.rt.publisher.trips.Ended(id) {
			s.Leave(r) // its end was among the events that were missed
		}
	}
	return missed, &events
}

// changedHands reports whether another driver may have had a trip of this one while their client was away. What was
// sent to the trip's room meanwhile is not for this one.
func (ns *Namespace) changedHands(s *Socket, former *socketio.Away) bool {
	if ns.name != NamespaceDrivers {
		return false
	}
	lost := time.Now().Add(-ns.lostFor(former))
	for _, r := range former.Rooms {
		id, trip := tripOf(r.Name)
		if trip && ns.rt.publisher.trips.Interrupted(id, s.Identity().UserID, lost) {
			return true
		}
	}
	return false
}

// lostFor returns how long ago a client was lost, or, if its node was, how long ago that was heard.
func (ns *Namespace) lostFor(former *socketio.Away) time.Duration {
	if former.Here() {
		return ns.inner.Left(former)
	}
	return time.Since(former.Lost)
}

// recovery knows which login sessions were replaced lately. Its methods may be called concurrently.
type recovery struct {
	window time.Duration

	mu       sync.Mutex // guards the fields below
	replaced map[string]replacement
	order    []string // the keys of replaced, and some that are not any more, in the order in which they came
}

// replacement is the session that has taken the place of another one.
type replacement struct {
	by string
	at time.Time
}

// maxReplaced is the maximum number of replaced sessions that are known.
const maxReplaced = 1 << 16

// replace records that a session has taken the place of another one.
func (r *recovery) replace(old, by string) {
	if r.window == 0 || old == by {
		return
	}
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	for len(r.order) > 0 && (len(r.order) >= maxReplaced || now.Sub(r.replaced[r.order[0]].at) > r.window) {
		delete(r.replaced, r.order[0])
		r.order = r.order[1:]
	}
	if r.replaced == nil {
		r.replaced = map[string]replacement{}
	}
	r.replaced[old] = replacement{by, now}
	r.order = append(r.order, old)
}

// maxReplacements is how often a session can have been replaced while its client was away.
const maxReplacements = 8

// same reports whether a user may have the socket of another identity: it is theirs, in the same
// session or one that was replaced by it.
func (r *recovery) same(former, now Identity) bool {
	if former.UserID != now.UserID || former.UserType != now.UserType {
		return false
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	session := former.SessionID
	for range maxReplacements {
		if session == now.SessionID {
			return true
		}
		next, ok := r.replaced[session]
		if !ok {
			return false
		}
		session = next.by
	}
	return false
}
