// User limit: Limits.SocketsPerUser, counted on all nodes. A node asks the others only about a
// user whom one of them is known to have too, and not during the handshake, unless extra
// sockets are refused.

package realtime

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/roster"
)

const (
	// userLimitBatch is the maximum number of users in one request to the other nodes.
	userLimitBatch = 64
	// userLimitDelay is how long users are collected for a request.
	userLimitDelay = 50 * time.Millisecond
	// userLimitTimeout is the timeout of a request. The sockets of a node that has not
	// answered by then do not count.
	userLimitTimeout = 2 * time.Second
)

// userLimit applies Limits.SocketsPerUser to the sockets of all nodes. Its methods may be
// called concurrently.
type userLimit struct {
	rt *Server

	mu       sync.Mutex           // guards the fields below
	due      map[presenceKey]bool // the users whose sockets are to be counted
	checking bool                 // the checking goroutine exists
}

func (l *userLimit) init(rt *Server) { l.rt, l.due = rt, map[presenceKey]bool{} }

// elsewhere returns the user of a socket. ok reports whether another node is known to have
// sockets of the user too.
func (l *userLimit) elsewhere(s *Socket) (key presenceKey, ok bool) {
	if !l.rt.clustered || l.rt.opts.Limits.SocketsPerUser < 0 {
		return key, false
	}
	key = presenceKey{s.ns, s.Identity().UserID}
	return key, key.user != "" && l.rt.peerUsers.roster.Elsewhere(roster.User{Namespace: s.ns.name, ID: key.user})
}

// connected is called when a socket has connected. It counts the user's sockets soon, if
// another node is known to have some too. It does not block.
func (l *userLimit) connected(s *Socket) {
	if key, ok := l.elsewhere(s); ok {
		l.check(key)
	}
}

// check counts the sockets of a user on all nodes soon, and disconnects those beyond the limit.
// It does not block.
func (l *userLimit) check(key presenceKey) {
	if l.rt.opts.Limits.SocketsPerUser < 0 {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due[key] = true
	if !l.checking {
		l.checking = true
		go l.run()
	}
}

// run counts the sockets of the users that are due until there are none.
func (l *userLimit) run() {
	for l.rt.pause(userLimitDelay) {
		var ns *Namespace
		var users []string
		l.mu.Lock()
		for key := range l.due {
			if ns == nil {
				ns = key.ns
			}
			if key.ns != ns {
				continue
			}
			users = append(users, key.user)
			delete(l.due, key)
			if len(users) == userLimitBatch {
				break
			}
		}
		if ns == nil {
			l.checking = false
			l.mu.Unlock()
			return
		}
		l.mu.Unlock()
		l.enforce(ns, users)
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.checking = false
}

// socketsOf returns the sockets of users on all nodes, by user id. The oldest come first.
func (l *userLimit) socketsOf(parent context.Context, ns *Namespace, users ...string) map[string][]RemoteSocket {
	rooms := make([]Room, len(users))
	for i, user := range users {
		rooms[i] = ownRoom(ns.name, user)
	}
	ctx, cancel := context.WithTimeout(parent, userLimitTimeout)
	defer cancel()
	sockets, err := ns.To(rooms...).Sockets(ctx)
	if err != nil && parent.Err() == nil { // otherwise the client has disconnected, or the server ends
		l.rt.log.Warn("realtime: Limits.SocketsPerUser does not count the sockets of some nodes", "error", err)
	}
	slices.SortFunc(sockets, func(a, b RemoteSocket) int {
		return cmp.Or(cmp.Compare(a.ConnectedAt, b.ConnectedAt), cmp.Compare(a.ID, b.ID))
	})
	by := map[string][]RemoteSocket{}
	for _, s := range sockets {
		by[s.Identity.UserID] = append(by[s.Identity.UserID], s)
	}
	return by
}

// enforce disconnects the oldest sockets of users who have too many on all nodes, or closes the
// connections of the newest if extra sockets are refused. A socket whose handshake is in progress does not count:
// its user is counted again when it has connected, and until then it could only be refused.
func (l *userLimit) enforce(ns *Namespace, users []string) {
	limit := l.rt.opts.Limits.SocketsPerUser
	by := l.socketsOf(l.rt.ctx, ns, users...)
	for _, user := range users {
		sockets := slices.DeleteFunc(by[user], func(s RemoteSocket) bool { return s.Connecting })
		if len(sockets) <= limit {
			continue
		}
		extra := sockets[:len(sockets)-limit]
		if l.rt.opts.Limits.RefuseExtraSockets {
			extra = sockets[limit:]
		}
		ended := Broadcast{ns: ns}
		for _, s := range extra {
			ended.rooms = append(ended.rooms, s.ID)
		}
		if f := l.rt.opts.Trace.Limited; f != nil {
			i := LimitInfo{SocketInfo: SocketInfo{Namespace: ns.name, UserID: user}, Limit: LimitSocketsPerUser}
			callTrace(l.rt, context.Background(), f, i)
		}
		if l.rt.opts.Limits.RefuseExtraSockets {
			ended.Close() // its client tries again, as one that is refused may, and is then refused
		} else {
			ended.Disconnect()
		}
	}
}

// refuses reports whether a connecting socket exceeds the limit, on all nodes. If no other node
// is known to have sockets of its user, it returns false at once. Otherwise it waits for the
// other nodes, within ctx and userLimitTimeout. Of the sockets that are connecting too only the
// older ones count, so that not all of them are refused.
func (l *userLimit) refuses(ctx context.Context, s *Socket) bool {
	key, ok := l.elsewhere(s)
	if !ok {
		return false
	}
	others, found := 0, false
	for _, r := range l.socketsOf(ctx, s.ns, key.user)[key.user] {
		switch {
		case r.ID == s.ID():
			found = true
		case !found || !r.Connecting: // whatever the clock of its node says, it has connected before
			others++
		}
	}
	return found && others >= l.rt.opts.Limits.SocketsPerUser
}
