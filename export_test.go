// Access to unexported state, for external tests.

package realtime

// SetMaxQueued sets the maximum number of events that wait for Options.Parties.
func (rt *Server) SetMaxQueued(n int) { rt.publisher.parties.max = n }

// FireExpiry calls the function of the socket's expiry timer, as if the timer had fired just
// before the socket was renewed.
func (s *Socket) FireExpiry() { s.expired() }

// SetMaxOwnRooms sets the number of rooms above which the node announces every room. Call it
// before other nodes start.
func (rt *Server) SetMaxOwnRooms(n int) { rt.peerRooms.max = n }

// LimitOffers makes a server forget its offers, and track at most that many from now on.
func LimitOffers(rt *Server, most int) { rt.offers.init(rt, most) }
