// Numbers about all sessions, for metrics.

package engineio

// Stats describes the sessions at one time.
type Stats struct {
	Polling, WebSocket int // open or closing sessions, by their transport

	OutboxMessages, OutboxBytes int // the unsent messages of all sessions
	LargestOutbox               int // bytes of the session with the most of them
	IncomingBytes               int // of incomplete messages and bodies, see Config.MaxIncomingBytes

	// Since NewServer: volatile messages, and those with a key, that were dropped because the
	// client was not writable or its outbox full; and messages that a newer one of the same key has
	// replaced.
	Dropped, Replaced uint64
}

// Stats visits every session, and takes about a tenth of a microsecond for each.
func (s *Server) Stats() Stats {
	st := Stats{Dropped: s.dropped.Load(), Replaced: s.replaced.Load()}
	for _, ss := range s.allSessions() {
		ss.mu.Lock()
		if ss.ws != nil {
			st.WebSocket++
		} else {
			st.Polling++
		}
		st.OutboxMessages += ss.out.len()
		st.OutboxBytes += ss.out.bytes
		st.LargestOutbox = max(st.LargestOutbox, ss.out.bytes)
		ss.mu.Unlock()
	}
	st.IncomingBytes = s.incoming.held()
	return st
}

// held returns the sum of all reservations.
func (in *incoming) held() int {
	in.mu.Lock()
	defer in.mu.Unlock()
	return in.unknown.bytes + in.known.bytes
}
