// A namespace: its sockets and rooms, and the selection of the receivers of a message.

package socketio

import (
	"hash/maphash"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/engineio"
)

// shards is the number of parts of the index of rooms; it reduces contention on their
// locks.
const shards = 32

// Namespace is a set of sockets with rooms. A socket is also in a room of its own,
// whose name is its id. All methods may be called concurrently.
type Namespace struct {
	name  string
	hooks Hooks
	log   *recoveryLog // nil: no recovery
	seed  maphash.Seed
	ids   atomic.Int64 // the next ack id
	// order is that of the socket admitted last.
	order atomic.Uint64
	shard [shards]shard
}

// shard holds the rooms and the sockets whose names hash to it.
type shard struct {
	mu      sync.RWMutex // guards the maps, and the members of their rooms
	rooms   map[string]*room
	sockets map[string]*Socket
}

type room struct {
	name    string
	members []*member
	first   [1]*member // backing array of members for one member, as most rooms have
}

// member is the membership of a socket in a room. Joining and leaving are O(1): the
// last member moves to the place of the one that leaves.
type member struct {
	socket *Socket
	room   *room
	pos    int // index in room.members; guarded by shard.mu
}

func newNamespace(name string, h Hooks, log *recoveryLog) *Namespace {
	n := &Namespace{name: name, hooks: h, log: log, seed: maphash.MakeSeed()}
	for i := range n.shard {
		n.shard[i].rooms = map[string]*room{}
		n.shard[i].sockets = map[string]*Socket{}
	}
	return n
}

// Name returns the name of the namespace, with its slash.
func (n *Namespace) Name() string { return n.name }

// nextOrder returns the order of a socket that is admitted now: the time, in microseconds
// since 1970, or more if another socket has that order.
func (n *Namespace) nextOrder() uint64 {
	for {
		last := n.order.Load()
		next := max(last+1, uint64(max(0, time.Now().UnixMicro())))
		if n.order.CompareAndSwap(last, next) {
			return next
		}
	}
}

// Len returns the number of admitted and open sockets. It visits every shard.
func (n *Namespace) Len() int {
	count := 0
	for i := range n.shard {
		sh := &n.shard[i]
		sh.mu.RLock()
		count += len(sh.sockets)
		sh.mu.RUnlock()
	}
	return count
}

// Count returns the number of open sockets by the transport of their connection. It visits every
// socket.
func (n *Namespace) Count() (polling, websocket int) {
	for _, s := range n.Select(Target{All: true}) {
		switch {
		case !s.Opened():
		case s.conn.Transport() == "polling":
			polling++
		default:
			websocket++
		}
	}
	return polling, websocket
}

// NextID returns an ack id that no other emit of the namespace uses.
func (n *Namespace) NextID() int64 { return n.ids.Add(1) - 1 }

func (n *Namespace) shardOf(name string) *shard {
	return &n.shard[maphash.String(n.seed, name)%shards]
}

func (n *Namespace) add(s *Socket) {
	sh := n.shardOf(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	sh.sockets[s.id] = s
}

func (n *Namespace) remove(s *Socket) {
	sh := n.shardOf(s.id)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	if sh.sockets[s.id] == s {
		delete(sh.sockets, s.id)
	}
}

// join adds a socket to a room. first says that the room was empty.
func (n *Namespace) join(s *Socket, name string) (m *member, first bool) {
	sh := n.shardOf(name)
	sh.mu.Lock()
	defer sh.mu.Unlock()
	r := sh.rooms[name]
	if r == nil {
		r = &room{name: name}
		r.members = r.first[:0]
		sh.rooms[name] = r
		first = true
	}
	m = &member{socket: s, room: r, pos: len(r.members)}
	r.members = append(r.members, m)
	return m, first
}

// leave removes a member from its room and reports whether the room is empty now.
func (n *Namespace) leave(m *member) (emptied bool) {
	sh, r := n.shardOf(m.room.name), m.room
	sh.mu.Lock()
	defer sh.mu.Unlock()
	last := len(r.members) - 1
	r.members[m.pos] = r.members[last]
	r.members[m.pos].pos = m.pos
	r.members[last] = nil
	r.members = r.members[:last]
	if last == 0 {
		delete(sh.rooms, r.name)
		return true
	}
	if cap(r.members) > 64 && last < cap(r.members)/4 {
		r.members = slices.Clone(r.members) // shrink after a large room emptied
	}
	return false
}

// watched reports whether somebody wants to know which rooms became empty, or no longer are.
func (n *Namespace) watched() bool { return n.hooks.Room != nil }

// notifyRooms calls the Room hook for each room. There are none unless the namespace is watched.
func (n *Namespace) notifyRooms(rooms []string) {
	for _, name := range rooms {
		func() {
			defer n.recoverPanic(nil)
			n.hooks.Room(name)
		}()
	}
}

// recoverPanic is deferred around hooks. It passes a panic to the Panic hook and closes
// the connection of s, unless s is nil.
func (n *Namespace) recoverPanic(s *Socket) {
	if n.hooks.Panic == nil {
		return
	}
	if v := recover(); v != nil {
		n.hooks.Panic(s, v)
		if s != nil {
			s.conn.session.Close(engineio.ReasonForcedClose)
		}
	}
}

// HasRoom reports whether a room has a socket on this node.
func (n *Namespace) HasRoom(name string) bool {
	sh := n.shardOf(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.rooms[name] != nil
}

// Has reports whether a name selects a socket of this node: it is the name of a room or the
// id of a socket.
func (n *Namespace) Has(name string) bool {
	sh := n.shardOf(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.rooms[name] != nil || sh.sockets[name] != nil
}

// EachRoom calls f for each room with a socket on this node.
func (n *Namespace) EachRoom(f func(name string)) {
	var names []string
	for i := range n.shard {
		sh := &n.shard[i]
		sh.mu.RLock()
		names = slices.AppendSeq(names[:0], maps.Keys(sh.rooms))
		sh.mu.RUnlock()
		for _, name := range names {
			f(name)
		}
	}
}

// Rooms returns the number of rooms with a socket on this node. It visits every shard.
func (n *Namespace) Rooms() int {
	count := 0
	for i := range n.shard {
		sh := &n.shard[i]
		sh.mu.RLock()
		count += len(sh.rooms)
		sh.mu.RUnlock()
	}
	return count
}

// RoomLen returns the number of sockets in a room on this node.
func (n *Namespace) RoomLen(name string) int {
	sh := n.shardOf(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if r := sh.rooms[name]; r != nil {
		return len(r.members)
	}
	return 0
}

// Socket returns the admitted or open socket with an id, or nil.
func (n *Namespace) Socket(id string) *Socket {
	sh := n.shardOf(id)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	return sh.sockets[id]
}

// Target selects sockets: those in any of Rooms, or all of them if All is set, without those in
// any of Except. A name is the name of a room or the id of a socket. The zero Target selects
// none.
type Target struct {
	All           bool
	Rooms, Except []string
}

// selections are the slices into which Emit selects.
var selections = sync.Pool{New: func() any { return new([]*Socket) }}

// Emit queues messages once on every selected socket. The messages are shared, so each
// socket costs only the queueing. It returns the number of sockets that took them.
func (n *Namespace) Emit(t Target, ms ...*Message) (receivers int) {
	found := selections.Get().(*[]*Socket) //nolint:errcheck,forcetypeassert // the pool holds nothing else
	*found = n.appendSelected((*found)[:0], t)
	for _, s := range *found {
		if s.Send(ms...) {
			receivers++
		}
	}
	clear(*found)
	selections.Put(found)
	return receivers
}

// Select returns the selected sockets.
func (n *Namespace) Select(t Target) []*Socket { return n.appendSelected(nil, t) }

// appendSelected appends the selected sockets to found, which must be empty.
func (n *Namespace) appendSelected(found []*Socket, t Target) []*Socket {
	rooms := t.Rooms
	if t.All {
		rooms = nil
		for i := range n.shard {
			sh := &n.shard[i]
			sh.mu.RLock()
			for _, s := range sh.sockets {
				found = append(found, s)
			}
			sh.mu.RUnlock()
		}
	}
	for _, name := range rooms {
		found = n.appendMembers(found, name)
	}
	if len(rooms) < 2 && len(t.Except) == 0 {
		return found
	}
	skip := make(map[*Socket]struct{}, len(found))
	var out []*Socket
	for _, name := range t.Except {
		out = n.appendMembers(out, name)
	}
	for _, s := range out {
		skip[s] = struct{}{}
	}
	return slices.DeleteFunc(found, func(s *Socket) bool {
		_, ok := skip[s]
		skip[s] = struct{}{}
		return ok
	})
}

// appendMembers appends the sockets of a room.
func (n *Namespace) appendMembers(to []*Socket, name string) []*Socket {
	sh := n.shardOf(name)
	sh.mu.RLock()
	defer sh.mu.RUnlock()
	if r := sh.rooms[name]; r != nil {
		to = slices.Grow(to, len(r.members))
		for _, m := range r.members {
			to = append(to, m.socket)
		}
	} else if s := sh.sockets[name]; s != nil {
		to = append(to, s)
	}
	return to
}
