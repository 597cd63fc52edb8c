// Package realtimetest is to package realtime what net/http/httptest is to
// net/http: a server in one call, fakes for the services of the host, and a client
// that speaks the real protocol. A test takes milliseconds and opens no port:
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
// fields. A test fills them, makes them fail (Fail) or makes them hang (Block). A
// function that is passed to NewServer changes the options first, for instance to use
// the host's own services. A host that tests its whole handler serves it on a
// [Listener] and gives its clients the option [Over]; [Dial] connects to any Socket.IO
// server.
//
// # Clients
//
// [Server.Driver], [Server.Passenger] and [Server.Admin] log a user in and
// connect; a second call for the same user connects another device.
// [Server.Dial] connects with any options and returns the refusal. A [Client] is used
// with the same typed descriptors as the server: [Call] sends a call, [Answer] answers
// a query, [Expect] and [ExpectNone] check the events received. The Raw methods do the
// same without types. Polling and Upgrade choose another transport; Close, Drop and
// Stall disconnect a client or make it hang.
//
// # Time
//
// Inside a testing/synctest bubble everything runs on fake time: expiry, heartbeats and
// grace times take no real time, and [ExpectNone] proves that no event is on its way.
// Goroutines that wait on the in-memory network are durably blocked, so
// [testing/synctest.Wait] waits for the server too. Outside of a bubble everything runs
// in real time. Either way a server leaves no goroutine when its test ends.
//
// # Several nodes
//
// [NewCluster] starts servers that are nodes of one cluster, joined by a [Hub],
// which can cut a node off. [TestAdapter], [TestEventBus] and [TestEventBusNodes] are the
// conformance suites for adapters and event buses.
package realtimetest
