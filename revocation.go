// Revocation: the rights of a user or of a login session end. Unlike a disconnection it
// also concerns who is just connecting, and what is remembered of the repositories.

package realtime

// room is where the sockets are whose rights end; the zero Room when it says nobody's.
func (r Revocation) room(ns *Namespace) Room {
	if r.SessionID != "" {
		return SessionRoom(r.SessionID)
	}
	return ownRoom(ns.name, r.UserID)
}

// revoke ends the sockets of a user or a session in every namespace, on all nodes, or
// with local on this one. Per namespace, so that it stays behind what was emitted to
// them before.
func (rt *Server) revoke(r Revocation, local bool) {
	rt.forgetRows()
	rt.each(func(ns *Namespace) {
		ns.revokeLocal(r)
		if !local && rt.clustered {
			m := ClusterMessage{Op: OpRevoke, Namespace: ns.name, Rooms: names([]Room{r.room(ns)}), Revoke: &r}
			_ = rt.clusterPublish(m) // logged
		}
	})
}

// forgetRows makes the next handshake ask the repositories.
func (rt *Server) forgetRows() {
	rt.users.Reset()
	rt.sessions.Reset()
}

// revokeLocal ends this node's sockets of a namespace, those that are connecting too.
func (ns *Namespace) revokeLocal(r Revocation) {
	room := r.room(ns)
	ns.rt.pending.revoke(ns.name, room.name)
	ns.To(room).disconnectLocal()
}
