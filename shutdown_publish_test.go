// Shutdown and what the host does meanwhile: its HTTP requests, what they publish, and further
// calls of Shutdown.

package realtime_test

import (
	"context"
	"fmt"
	"net/http"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// restServer is the http.Server of a host: the Socket.IO server, and a REST API whose requests
// wait for release and then publish an event.
type restServer struct {
	*http.Server
	network *realtimetest.Listener
	begun   chan struct{}
	release chan struct{}
}

func newRESTServer(t *testing.T, rt *realtime.Server) *restServer {
	t.Helper()
	s := &restServer{network: realtimetest.NewListener(), begun: make(chan struct{}, 8), release: make(chan struct{})}
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	mux.HandleFunc("POST /trips", func(w http.ResponseWriter, r *http.Request) {
		s.begun <- struct{}{}
		<-s.release
		if err := rt.Publish(r.Context(), realtime.TripRequested{TripID: "t1", PassengerID: "p1"}); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
		}
	})
	s.Server = &http.Server{Handler: mux, ReadHeaderTimeout: time.Minute}
	served := make(chan error, 1)
	go func() { served <- s.Serve(s.network) }()
	t.Cleanup(func() {
		_ = s.Close()
		<-served
	})
	return s
}

// post makes a request to the REST API and returns its status, or 0.
func (s *restServer) post(t *testing.T) <-chan int {
	t.Helper()
	status := make(chan int, 1)
	go func() {
		client := http.Client{Transport: &http.Transport{DialContext: s.network.DialContext, DisableKeepAlives: true}}
		res, err := client.Post("http://host/trips", "", nil)
		if err != nil {
			status <- 0
			return
		}
		_ = res.Body.Close()
		status <- res.StatusCode
	}()
	<-s.begun
	return status
}

// withBus runs a test with the server's own bus, with a MemoryBus of the host's, and with one in
// other buses.
func withBus(t *testing.T, test func(t *testing.T, bus func(o *realtime.Options))) {
	t.Helper()
	for name, bus := range map[string]func() realtime.EventBus{
		"own bus":    func() realtime.EventBus { return nil },
		"host's bus": func() realtime.EventBus { return realtime.NewMemoryBus() },
		"wrapped":    func() realtime.EventBus { return wrapper{wrapper{realtime.NewMemoryBus(), nil}, nil} },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) { test(t, func(o *realtime.Options) { o.Bus = bus() }) })
		})
	}
}

// Events that were published before Shutdown reach the clients before server:drain.
func TestShutdown_SendsWhatWasPublished(t *testing.T) {
	withBus(t, func(t *testing.T, bus func(o *realtime.Options)) {
		srv := realtimetest.NewServer(t, bus)
		admin := srv.Admin(t, "a1", realtimetest.Polling())
		const n = 300
		for i := range n {
			require.NoError(t, srv.Realtime.Publish(t.Context(), realtime.TripRequested{TripID: fmt.Sprint("t", i), PassengerID: "p1"}))
		}
		require.NoError(t, srv.Realtime.Shutdown(t.Context()))
		for range n {
			realtimetest.Expect(t, admin, realtime.EventTripRequested)
		}
		realtimetest.Expect(t, admin, realtime.EventServerDrain)
	})
}

// What hooks and handlers publish while the server shuts down reaches the other nodes.
func TestShutdown_PublishWorksUntilItEnds(t *testing.T) {
	withBus(t, func(t *testing.T, bus func(o *realtime.Options)) {
		nodes := realtimetest.NewCluster(t, 2, bus)
		rt := nodes[0].Realtime
		admin := nodes[1].Admin(t, "a1")
		publish := func(trip string) error {
			return rt.Publish(context.Background(), realtime.TripRequested{TripID: trip, PassengerID: "p1"})
		}
		published := make(chan error, 2)
		rt.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			time.Sleep(1500 * time.Millisecond)
			published <- publish("handler")
			return realtime.Raw{}, nil
		})
		rt.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) {
			time.Sleep(time.Second)
			published <- publish("hook")
		})
		require.NoError(t, nodes[0].Driver(t, "d1").Emit("work"))
		synctest.Wait()
		require.NoError(t, rt.Shutdown(t.Context()))
		require.NoError(t, <-published)
		require.NoError(t, <-published)
		require.Equal(t, "handler", realtimetest.Expect(t, admin, realtime.EventTripRequested).TripID)
		require.Equal(t, "hook", realtimetest.Expect(t, admin, realtime.EventTripRequested).TripID)
	})
}

// A REST request that is under way when everything ends can publish: the other nodes receive the
// event. Polls end at once, and hold up nothing.
func TestShutdown_RequestsThatPublish(t *testing.T) {
	withBus(t, func(t *testing.T, bus func(o *realtime.Options)) {
		nodes := realtimetest.NewCluster(t, 2, bus)
		rt := nodes[0].Realtime
		admin := nodes[1].Admin(t, "a1")
		host := newRESTServer(t, rt)
		token := nodes[0].Login("d1", realtime.UserDriver)
		var drivers []*realtimetest.Client
		for _, transport := range [][]realtimetest.Option{nil, {realtimetest.Polling()}} {
			d, err := realtimetest.Dial(t.Context(), "http://host", realtime.NamespaceDrivers,
				append(transport, realtimetest.Token(token), realtimetest.Over(host.network.DialContext))...)
			require.NoError(t, err)
			drivers = append(drivers, d)
		}
		status := host.post(t)
		began := time.Now()
		done := make(chan error, 1)
		go func() { done <- realtime.Shutdown(t.Context(), host.Server, rt) }()
		for _, d := range drivers {
			realtimetest.Expect(t, d, realtime.EventServerDrain)
			require.Contains(t, endOfTransport, d.Disconnected(t))
		}
		time.Sleep(5 * time.Second)
		require.Empty(t, done, "a request is under way")
		close(host.release)
		require.NoError(t, <-done)
		require.Equal(t, http.StatusOK, <-status)
		require.Less(t, time.Since(began), 7*time.Second)
		require.Equal(t, "t1", realtimetest.Expect(t, admin, realtime.EventTripRequested).TripID)
		_, err := host.network.DialContext(t.Context(), "tcp", "host:80")
		require.Error(t, err)
	})
}

// New connections get 503 while the sockets are drained.
func TestShutdown_RefusesNewConnections(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		host := newRESTServer(t, srv.Realtime)
		srv.Realtime.Drivers().HandleRaw("work", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			time.Sleep(time.Second)
			return realtime.Raw{}, nil
		})
		require.NoError(t, srv.Driver(t, "d1").Emit("work"))
		synctest.Wait()
		done := make(chan error, 1)
		go func() { done <- realtime.Shutdown(t.Context(), host.Server, srv.Realtime) }()
		synctest.Wait()
		_, err := realtimetest.Dial(t.Context(), "http://host", realtime.NamespaceDrivers, realtimetest.Over(host.network.DialContext))
		var refused *realtimetest.HandshakeError
		require.ErrorAs(t, err, &refused)
		require.Equal(t, http.StatusServiceUnavailable, refused.Status)
		require.NoError(t, <-done)
	})
}

// A request that does not end is in the error, and keeps no other step from being done. The
// functions of RegisterOnShutdown are called once.
func TestShutdown_RequestsThatHang(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		adapter := &stuckAdapter{}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Bus, o.Cluster.Adapter = nil, adapter })
		host := newRESTServer(t, srv.Realtime)
		registered := make(chan struct{}, 8)
		host.RegisterOnShutdown(func() { registered <- struct{}{} })
		driver := srv.Driver(t, "d1")
		status := host.post(t)
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		defer cancel()
		began := time.Now()
		err := realtime.Shutdown(ctx, host.Server, srv.Realtime)
		require.LessOrEqual(t, time.Since(began), 10*time.Second)
		require.ErrorIs(t, err, context.DeadlineExceeded)
		require.ErrorIs(t, err, errStuckAdapter)
		require.EqualError(t, err, "realtime: shutdown: http.Server.Shutdown: context deadline exceeded\n"+
			"realtime: shutdown: adapter not closed: "+errStuckAdapter.Error())
		realtimetest.Expect(t, driver, realtime.EventServerDrain)
		require.True(t, adapter.closed)
		require.Len(t, registered, 1)
		close(host.release)
		require.Equal(t, http.StatusInternalServerError, <-status, "the bus is closed")
	})
}

// Every call returns what could not be finished, whichever of the two functions it is.
func TestShutdown_SecondCallReturnsTheSame(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = &stuckAdapter{} })
		host, other := newRESTServer(t, srv.Realtime), newRESTServer(t, srv.Realtime)
		errs := make(chan error, 2)
		for range 2 {
			go func() { errs <- realtime.Shutdown(t.Context(), host.Server, srv.Realtime) }()
		}
		first := <-errs
		require.ErrorIs(t, first, errStuckAdapter)
		require.Equal(t, first, <-errs)
		require.Equal(t, first, srv.Realtime.Shutdown(t.Context()))
		ended, cancel := context.WithCancel(t.Context())
		cancel()
		require.Equal(t, first, realtime.Shutdown(ended, nil, srv.Realtime), "also if its ctx has ended")

		require.ErrorIs(t, realtime.Shutdown(t.Context(), other.Server, srv.Realtime), errStuckAdapter)
		_, err := other.network.DialContext(t.Context(), "tcp", "host:80")
		require.Error(t, err, "another http.Server is shut down all the same")
	})
}
