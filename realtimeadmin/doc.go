// Package realtimeadmin is an operator's view of a realtime.Server: one page with the nodes, their
// sockets, what a user has open on all nodes, the timeline of a trip as it was delivered, slow
// consumers, and what was refused and why.
//
//	view, err := realtimeadmin.New(realtimeadmin.Options{Token: token})
//	...
//	rt, err := realtime.New(realtime.Options{Trace: view.Trace(), ...})
//	...
//	view.Watch(rt)
//	mux.Handle("/operators/", http.StripPrefix("/operators", view))
//
// A host with a Trace of its own passes both to realtime.JoinTraces. Nothing is served, and New
// returns an error, unless the host says who may see it: with Options.Token, or with
// Options.Operator, behind its own login.
//
// # What it shows
//
// The view reads, with one exception: it disconnects the sockets of a login session, and logs who
// did. It has ids of users, trips, sessions and sockets, names of events and rooms, numbers and times. It
// has no payloads, tokens, addresses, phone numbers or coordinates, and of rooms of the host's own
// only their number, because an id that a host chooses may be a place; see Options.HostRooms.
//
// # Several nodes
//
// Each node remembers what it has delivered itself, up to Options.Memory, and forgets it when it ends.
// The node that serves a request asks the others with Namespace.ServerEmit, in /admin, and waits up
// to Options.Timeout. What it shows says which nodes have not answered. It knows of the others what
// realtime.AdapterStats.Peers says: with an adapter that does not report that, it shows
// itself alone, and only the sockets of a user are those of all nodes. Each node needs a View.
//
// # Acknowledgements
//
// Clients do not acknowledge domain events, so a timeline shows for how many sockets an
// event was queued, and next to that what the trip's people did meanwhile: their calls and how
// these were acknowledged, when they connected, and why their sockets ended.
package realtimeadmin
