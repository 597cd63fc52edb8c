// What tests of the outside reach of the inside.

package realtime

// LimitWaiting sets how many events may wait for Options.Parties.
func (rt *Server) LimitWaiting(n int) { rt.publisher.parties.max = n }
