// Revocation: the access of a user or of a login session ends. Unlike Broadcast.Disconnect
// it also refuses pending handshakes and empties the cache of repository rows.

package realtime

// room returns the room of the revoked sockets, or the zero Room if the revocation names
// neither a user nor a session, or one that no socket can have.
func (r Revocation) room(ns *Namespace) Room {
	if r.SessionID != "" {
		return SessionRoom(r.SessionID)
	}
	return ownRoom(ns.name, r.UserID)
}

// revoke disconnects the sockets of a user or a session in every namespace, on all nodes,
// or only on this one if local is true. It sends one message per namespace: the adapter
// keeps its order after the earlier emits in that namespace.
func (rt *Server) revoke(r Revocation, local bool) {
	rt.forgetRows()
	rt.each(func(ns *Namespace) {
		room := r.room(ns)
		if room == (Room{}) {
			return // the other nodes would refuse it
		}
		ns.revokeLocal(r)
		if !local && rt.clustered {
			_ = rt.clusterPublish(ClusterMessage{Op: OpRevoke, Namespace: ns.name, Rooms: names([]Room{room}), Revoke: &r}) // logged
		}
	})
}

// forgetRows empties the caches, so that the next handshake calls the repositories.
func (rt *Server) forgetRows() {
	rt.users.Reset()
	rt.sessions.Reset()
}

// revokeLocal disconnects this node's sockets of a namespace and refuses its pending
// handshakes.
func (ns *Namespace) revokeLocal(r Revocation) {
	room := r.room(ns)
	ns.rt.pending.revoke(ns.name, room.name)
	ns.To(room).disconnectLocal()
}

// userOfSession returns the user of a login session that has a socket on this node, or "".
func (rt *Server) userOfSession(sessionID string) (userID string) {
	rt.each(func(ns *Namespace) {
		for _, inner := range ns.To(SessionRoom(sessionID)).selectLocal() {
			if s, ok := socketOf(inner); ok && userID == "" {
				userID = s.Identity().UserID
			}
		}
	})
	return userID
}
