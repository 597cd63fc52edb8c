package engineio

// What only tests need to see.

// Polled reports whether a poll is open.
func (s *Session) Polled() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.poll != nil
}

// Posting reports whether a POST is under way.
func (s *Session) Posting() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.posting
}

// Queued returns how much is unsent.
func (s *Session) Queued() (messages, bytes int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.out.len(), s.out.bytes
}

// Probing reports whether a websocket is about to take over.
func (s *Session) Probing() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.probe != nil
}

// FireTimer is what the session's timer calls.
func (s *Session) FireTimer() { s.timedOut() }
