// Package realtimetest is to package realtime what net/http/httptest is to
// net/http: a server in one call, fakes for what a host plugs in, and a client
// that speaks the real protocol. A test takes milliseconds and no port:
//
//	srv := realtimetest.NewServer(t)
//	driver, admin := srv.Driver(t, "d1"), srv.Admin(t, "a1")
//	_, err := realtimetest.Call(t.Context(), driver, realtime.DriverStatusUpdate, goOnline)
//	update := realtimetest.Expect(t, admin, realtime.EventAdminDriverAvailability)
//
// # The server
//
// [NewServer] returns a [Server] with everything in memory: the users, login
// sessions, tokens, trips and the event bus of the options are the fakes in its
// fields, which a test fills, breaks (Fail) or holds up (Block). A function
// changes the options first, to put the host's own services in. A host that
// tests its whole handler serves it on a [Listener] and gives its clients the
// option [Over]; [Dial] reaches any Socket.IO server.
//
// # Clients
//
// [Server.Driver], [Server.Passenger] and [Server.Admin] log a user in and
// connect; called again for the same user they are another device of his.
// [Server.Dial] connects with whatever a test wants to see refused. A [Client] is
// used with the same typed descriptors as the server: [Call] for what it asks,
// [Answer] for what it is asked, [Expect] and [ExpectNone] for what it is told,
// with the Raw methods where there is no type. Polling and Upgrade choose
// another transport; Drop, Stall and Close are the ways in which a client goes.
//
// # Time
//
// Inside testing/synctest everything works on fake time: expiry, heartbeats and
// grace times pass in no time, and [ExpectNone] proves silence. The in-memory
// network is durably blocking, so [testing/synctest.Wait] waits for the server
// too. Outside of a bubble it works as well, in real time. Either way nothing of
// a server is left when its test ends.
//
// # Several nodes
//
// [NewCluster] starts servers that are nodes of one cluster, joined by a [Hub],
// which can cut a node off. [TestAdapter] and [TestEventBus] are what adapters
// and buses of others have to pass.
package realtimetest
