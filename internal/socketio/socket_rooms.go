// Socket: the rooms that it joins and leaves.

package socketio

import "slices"

// Join adds the socket to rooms. It returns false if the socket is closed.
func (s *Socket) Join(rooms ...string) bool {
	s.mu.Lock()
	if s.Closed() {
		s.mu.Unlock()
		return false
	}
	filled := s.joinLocked(rooms)
	s.mu.Unlock()
	s.ns.notifyRooms(filled)
	s.moved()
	return true
}

// JoinUpTo is Join for a socket that is to be in at most that many rooms: it leaves out the rooms
// for which there is no space, and reports whether there are any.
func (s *Socket) JoinUpTo(limit int, rooms ...string) (refused bool) {
	s.mu.Lock()
	if s.Closed() {
		s.mu.Unlock()
		return false
	}
	var fit []string
	for space := limit - len(s.rooms); len(rooms) > 0; rooms = rooms[1:] {
		switch {
		case s.roomLocked(rooms[0]) >= 0 || slices.Contains(fit, rooms[0]):
		case len(fit) < space:
			fit = append(fit, rooms[0])
		default:
			refused = true
		}
	}
	filled := s.joinLocked(fit)
	s.mu.Unlock()
	s.ns.notifyRooms(filled)
	s.moved()
	return refused
}

// moved calls the Moved hook.
func (s *Socket) moved() {
	if f := s.ns.hooks.Moved; f != nil && s.mem != nil && s.Opened() {
		f(s)
	}
}

// joinLocked adds the socket to rooms. If the namespace is watched, it returns those that had no
// socket before.
func (s *Socket) joinLocked(rooms []string) (filled []string) {
	s.rooms = slices.Grow(s.rooms, len(rooms))
	for _, name := range rooms {
		if s.roomLocked(name) >= 0 {
			continue
		}
		s.joining(name)
		m, first := s.ns.join(s, name)
		s.rooms = append(s.rooms, m)
		if first && s.ns.watched() {
			filled = append(filled, name)
		}
	}
	return filled
}

// Leave removes the socket from rooms.
func (s *Socket) Leave(rooms ...string) {
	var emptied []string
	s.mu.Lock()
	for _, name := range rooms {
		if i := s.roomLocked(name); i >= 0 && !s.Closed() {
			emptied = append(emptied, s.leaveRoomsLocked(s.rooms[i:i+1])...)
			s.rooms = slices.Delete(s.rooms, i, i+1)
			s.leaves(name)
		}
	}
	s.mu.Unlock()
	s.ns.notifyRooms(emptied)
	s.moved()
}
