// What tests of the outside reach of the inside.

package realtime

// LimitWaiting sets how many events may wait for Options.Parties.
func (rt *Server) LimitWaiting(n int) { rt.publisher.parties.max = n }

// FireExpiry calls what the timer of the socket's expiry calls, as if it had fired before
// it was armed anew.
func (s *Socket) FireExpiry() { s.expired() }
