// The rooms of other nodes: nodes tell each other which rooms they have, so that a driver's
// position is published only if another node may have a receiver for it.

package realtime

import (
	"encoding/binary"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/google/uuid"

	"github.com/rodando/realtime/internal/peerrooms"
)

const (
	// maxPeerRooms is the maximum number of rooms of all other nodes that a node remembers. Each
	// takes 10 to 20 bytes.
	maxPeerRooms = 1 << 20
	// maxOwnRooms is the number of rooms of this node above which it announces that it may have
	// every room. It sends a list again when it has half as many.
	maxOwnRooms = 1 << 18
	// roomsBatch is the maximum number of rooms in a message.
	roomsBatch = 2048
	// roomsPause is the time between two messages of a list.
	roomsPause = 5 * time.Millisecond
	// roomsDelay is the time for which a node collects changes after it has sent some.
	roomsDelay = 50 * time.Millisecond
	// roomsEvery is the minimum time between two lists of all rooms.
	roomsEvery = time.Second
	// roomsExpected is how long other nodes have to announce that they have put sockets into a
	// room, after this node has learned that they do.
	roomsExpected = 2 * time.Second
	// A node that lacks the rooms of another one asks for them after roomsFirstAsk, then after
	// twice that time, and so on, roomsAsks times. A node of an earlier version does not answer.
	roomsFirstAsk = time.Second
	roomsAsks     = 6
)

// sharedRooms has rooms of the sender, in all namespaces: all of them or those that have changed.
// A room is a peerrooms.Hash of 8 bytes, big endian.
type sharedRooms struct {
	Number uint64 `json:"n"` // one more than in the previous message
	First  bool   `json:"first,omitempty"`
	Last   bool   `json:"last,omitempty"`
	// With First: the ids of requests that the list answers.
	Answers []string `json:"answers,omitempty"`
	Every   bool     `json:"every,omitempty"`
	Added   []byte   `json:"added,omitempty"`
	Removed []byte   `json:"removed,omitempty"`
}

// roomsRequest asks the other nodes for all of their rooms.
type roomsRequest struct {
	ID string `json:"id,omitempty"` // new after each gap
}

// maxRoomsRequests is the maximum number of requests that a list answers.
const maxRoomsRequests = 256

// peerRooms exchanges rooms with the other nodes. Its methods may be called concurrently and do
// not block.
type peerRooms struct {
	rt    *Server
	table *peerrooms.Table
	// died says that another node was taken for dead. It may live and still know this one, also
	// when no other node is known here.
	died atomic.Bool

	mu      sync.Mutex // guards the fields below
	changed map[changedRoom]struct{}
	all     bool                // all rooms are to be shared
	sharing bool                // the sharing goroutine exists
	asks    int                 // how often the other nodes may still be asked
	asking  bool                // the asking goroutine exists
	askSoon bool                // the other nodes will be asked soon
	asked   time.Time           // when they were last asked
	id      string              // of this node's requests
	answers map[string]struct{} // the ids of the requests since the last list

	// Only the sharing goroutine uses these.
	number uint64    // of the next message
	every  bool      // this node has announced every room
	listed time.Time // when it has last sent a list
	max    int       // maxOwnRooms, or less in a test
}

type changedRoom struct {
	ns   *Namespace
	name string
}

func (u *peerRooms) init(rt *Server) {
	u.rt, u.table, u.max = rt, peerrooms.New(maxPeerRooms), maxOwnRooms
	u.changed, u.answers = map[changedRoom]struct{}{}, map[string]struct{}{}
}

// announced reports whether nodes announce a room of that name. Nothing that may be lost is sent
// to a session, and a socket's id and the name of another system's room have no colon.
func announced(room string) bool {
	return strings.Contains(room, ":") && !strings.HasPrefix(room, sessionPrefix)
}

// elsewhere reports whether another node may have one of the rooms. An event that may be lost
// need not be published if not. A socket of another node that has just joined a room, because its
// client or the host on that node wanted it, may not have been announced yet.
func (u *peerRooms) elsewhere(ns *Namespace, rooms []string) bool {
	for _, name := range rooms {
		if !announced(name) {
			return true
		}
	}
	return u.table.Elsewhere(ns.name, rooms)
}

// expect records that other nodes may put sockets into rooms now, as this one does.
func (u *peerRooms) expect(ns *Namespace, rooms []string) {
	if !u.rt.clustered {
		return
	}
	until := time.Now().Add(roomsExpected)
	for _, name := range rooms {
		u.table.Expect(peerrooms.Hash(ns.name, name), until)
	}
}

// joined records that another node is connected. The nodes send each other all rooms.
func (u *peerRooms) joined(peer string) {
	u.table.Joined(peer)
	u.shareAll()
	u.mu.Lock()
	gap := u.id != "" // its list, which it sends by itself, does not count
	u.mu.Unlock()
	u.await(gap)
}

// missed records that announcements of a node may be missing, or of all nodes if peer is empty. A
// list that does not answer a later request may have been sent before the missing ones.
func (u *peerRooms) missed(peer string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.id = uuid.NewString()
	u.table.Missed(peer)
}

// asksFor records a request of another node, which the next list answers.
func (u *peerRooms) asksFor(r *roomsRequest) bool {
	if r.ID != "" && !validID(r.ID) {
		return false
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if r.ID != "" && len(u.answers) < maxRoomsRequests {
		u.answers[r.ID] = struct{}{}
	}
	u.all = true
	u.shareLocked()
	return true
}

// request asks the other nodes for their rooms, and sends all rooms of this node.
func (u *peerRooms) request() {
	if u.table.Alone() {
		return
	}
	u.shareAll() // they may have missed this node's too
	u.await(true)
}

// await asks the other nodes for their rooms until all are known: soon, or after a while.
func (u *peerRooms) await(now bool) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.asks = roomsAsks
	if now && !u.askSoon {
		u.askSoon = true
		go u.ask(max(roomsDelay, roomsEvery-time.Since(u.asked))) // further gaps until then are answered too
	}
	if !u.asking {
		u.asking = true
		go u.runAsking()
	}
}

// ask asks the other nodes for their rooms after a delay.
func (u *peerRooms) ask(after time.Duration) {
	running := u.rt.pause(after)
	u.mu.Lock()
	u.askSoon, u.asked = false, time.Now()
	id := u.id
	u.mu.Unlock()
	if running {
		u.rt.shareState(everyShareNamespace, stateContent{RoomsOf: &roomsRequest{id}})
	}
}

func (u *peerRooms) runAsking() {
	for {
		u.mu.Lock()
		wait := roomsFirstAsk << (roomsAsks - u.asks)
		u.mu.Unlock()
		running := u.rt.pause(wait)
		u.mu.Lock()
		if !running || u.asks == 0 || u.table.Complete() {
			u.asking = false
			u.mu.Unlock()
			return
		}
		u.asks--
		u.mu.Unlock()
		u.ask(0)
	}
}

// change records that a room may have begun or ended on this node.
func (u *peerRooms) change(ns *Namespace, room string) {
	if !announced(room) || u.table.Alone() && !u.died.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.changed[changedRoom{ns, room}] = struct{}{}
	u.shareLocked()
}

func (u *peerRooms) shareAll() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.all = true
	u.shareLocked()
}

func (u *peerRooms) shareLocked() {
	if !u.sharing {
		u.sharing = true
		go u.share()
	}
}

// share sends the changes, or all rooms, until there is nothing to send. The first change is sent
// at once.
func (u *peerRooms) share() {
	for running := true; ; running = u.rt.pause(roomsDelay) {
		u.mu.Lock()
		if !running || len(u.changed) == 0 && !u.all {
			u.sharing = false
			u.mu.Unlock()
			return
		}
		changed := u.changed
		u.changed = map[changedRoom]struct{}{}
		all := u.all && time.Since(u.listed) >= roomsEvery
		if all {
			u.all = false
		}
		u.mu.Unlock()
		if !u.send(changed, all) {
			u.mu.Lock()
			u.all = true // the other nodes ignore changes until they have a list
			u.mu.Unlock()
		}
	}
}

// send sends all rooms, or the changes. It reports whether the other nodes can know this node's
// rooms from what was sent.
func (u *peerRooms) send(changed map[changedRoom]struct{}, all bool) bool {
	count := 0
	u.rt.each(func(ns *Namespace) { count += ns.inner.Rooms() })
	switch {
	case count > u.max:
		if u.every && !all {
			return true
		}
		u.every, u.listed = true, time.Now()
		return u.publish(sharedRooms{First: true, Last: true, Every: true, Answers: u.answered()})
	case u.every && count > u.max/2:
		return !all || u.publish(sharedRooms{First: true, Last: true, Every: true, Answers: u.answered()})
	case all:
		u.every, u.listed = false, time.Now()
		return u.sendList()
	case u.every:
		return false
	}
	var s sharedRooms
	for c := range changed {
		room := peerrooms.Hash(c.ns.name, c.name)
		if c.ns.inner.HasRoom(c.name) {
			s.Added = binary.BigEndian.AppendUint64(s.Added, room)
		} else {
			s.Removed = binary.BigEndian.AppendUint64(s.Removed, room)
		}
		if len(s.Added)+len(s.Removed) == 8*roomsBatch {
			if !u.publish(s) {
				return false
			}
			s = sharedRooms{}
		}
	}
	return len(s.Added)+len(s.Removed) == 0 || u.publish(s)
}

// answered returns the ids of the requests that a list answers which begins now.
func (u *peerRooms) answered() []string {
	u.mu.Lock()
	defer u.mu.Unlock()
	ids := slices.Collect(maps.Keys(u.answers))
	clear(u.answers)
	return ids
}

func (u *peerRooms) sendList() bool {
	answers := u.answered()
	var rooms []byte // what changes from now on is sent afterwards
	u.rt.each(func(ns *Namespace) {
		ns.inner.EachRoom(func(name string) {
			if announced(name) {
				rooms = binary.BigEndian.AppendUint64(rooms, peerrooms.Hash(ns.name, name))
			}
		})
	})
	for first := true; ; first = false {
		batch := rooms[:min(len(rooms), 8*roomsBatch)]
		rooms = rooms[len(batch):]
		last := len(rooms) == 0
		if !u.publish(sharedRooms{First: first, Last: last, Added: batch, Answers: answers}) {
			return false
		}
		answers = nil
		if last {
			return true
		}
		u.rt.pause(roomsPause)
	}
}

// publish sends a message with the next number.
func (u *peerRooms) publish(s sharedRooms) (sent bool) {
	s.Number = u.number
	u.number++
	return u.rt.clusterPublish(ClusterMessage{Op: OpState, Namespace: everyShareNamespace, State: &NodeState{stateContent{Rooms: &s}}}) == nil
}

// apply records the rooms of another node. It reports whether the message is valid.
func (u *peerRooms) apply(peer string, s *sharedRooms) bool {
	added, ok := numbersOf(s.Added)
	removed, valid := numbersOf(s.Removed)
	if !ok || !valid || len(s.Answers) > maxRoomsRequests {
		return false
	}
	if peer == "" {
		return true // the adapter does not report other nodes
	}
	update := peerrooms.Update{Number: s.Number, First: s.First, Last: s.Last, Every: s.Every, Added: added, Removed: removed}
	u.mu.Lock() // so that no gap comes between
	update.Fresh = slices.Contains(s.Answers, u.id)
	missing := u.table.Apply(peer, update)
	u.mu.Unlock()
	if missing {
		u.await(true)
	}
	return true
}

// numbersOf decodes the rooms of a message. ok is false if there are too many or if one is cut.
func numbersOf(b []byte) (rooms []uint64, ok bool) {
	if len(b) > 8*roomsBatch || len(b)%8 != 0 {
		return nil, false
	}
	rooms = make([]uint64, 0, len(b)/8)
	for ; len(b) > 0; b = b[8:] {
		rooms = append(rooms, binary.BigEndian.Uint64(b))
	}
	return rooms, true
}
