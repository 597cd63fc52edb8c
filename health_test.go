// Server.Check: with and without an adapter that knows its state.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestServer_Check(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		adapter := hub.Node()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
		require.NoError(t, srv.Realtime.Check(t.Context()))
		adapter.Cut()
		require.EqualError(t, srv.Realtime.Check(t.Context()), "realtime: the node is cut off")
		srv.Driver(t, "d1") // it serves its own clients all the same
		adapter.Heal()
		require.NoError(t, srv.Realtime.Check(t.Context()))
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		require.ErrorIs(t, srv.Realtime.Check(ctx), context.Canceled)
	})
}

// plainAdapter is an adapter that knows nothing of its state.
type plainAdapter struct{ realtime.Adapter }

func TestServer_CheckOfAnAdapterWithoutCheck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		adapter := realtimetest.NewHub().Node()
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = plainAdapter{adapter} })
		adapter.Cut()
		require.NoError(t, srv.Realtime.Check(t.Context()))
		require.NoError(t, realtimetest.NewServer(t).Realtime.Check(t.Context()), "one node has no adapter")
	})
}

// A node whose repository fails gets no new clients, until a handshake is decided or no client has
// come for a while. One user's row that fails is not that.
func TestServer_CheckOfUndecidedHandshakes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		check := func() error { return srv.Realtime.Check(t.Context()) }
		fail := func(user string) {
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(user, realtime.UserDriver)))
			require.Error(t, err)
		}
		srv.Sessions.Fail(errors.New("the database is away"))
		for range 20 {
			fail("alone")
		}
		require.NoError(t, check())
		for _, user := range []string{"b", "c", "d"} {
			fail(user)
		}
		require.NoError(t, check())
		fail("e")
		require.EqualError(t, check(), "realtime: handshakes can't be decided: unavailable")
		require.ErrorIs(t, check(), realtime.ErrUnavailable)
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token("forged"))
		require.Error(t, err)
		require.Error(t, check(), "a forged token proves nothing of the database")
		srv.Sessions.Fail(nil)
		srv.Driver(t, "f")
		require.NoError(t, check())
		srv.Sessions.Fail(errors.New("the database is away"))
		for _, user := range []string{"b", "c", "d", "e", "f"} {
			fail(user)
		}
		require.Error(t, check())
		time.Sleep(16 * time.Second)
		require.NoError(t, check(), "a client must come to show that the database is back")
	})
}

// A load balancer must not send clients to a server that is about to close their
// connections.
func TestServer_CheckAtShutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		release := make(chan struct{})
		srv.Realtime.Drivers().OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { <-release })
		srv.Driver(t, "d1")
		done := make(chan error)
		go func() { done <- srv.Realtime.Shutdown(t.Context()) }()
		synctest.Wait()
		require.ErrorIs(t, srv.Realtime.Check(t.Context()), realtime.ErrClosed, "while it shuts down")
		close(release)
		require.NoError(t, <-done)
		require.Equal(t, realtime.ErrClosed, srv.Realtime.Check(t.Context()))
	})
}

// hungAdapter is an adapter whose Check does not return until its test ends.
type hungAdapter struct {
	realtime.Adapter
	release chan struct{}
}

func (a hungAdapter) Check(context.Context) error {
	<-a.release
	return errors.New("late")
}

// Checks that hang are abandoned, and their number is bounded.
func TestServer_CheckThatHangs(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		release := make(chan struct{})
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Cluster.Adapter = hungAdapter{realtimetest.NewHub().Node(), release}
		})
		for range 100 {
			began := time.Now()
			require.Error(t, srv.Realtime.Check(t.Context()))
			require.LessOrEqual(t, time.Since(began), time.Second)
		}
		close(release)
		synctest.Wait()
		require.EqualError(t, srv.Realtime.Check(t.Context()), "realtime: late")
	})
}

// A health endpoint: a load balancer stops sending clients to a node that is shutting
// down, or that does not receive from the other nodes.
func ExampleServer_Check() {
	rt, err := realtime.New(realtime.Options{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{},
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		if err := rt.Check(r.Context()); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	ask := func() {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/healthz", nil))
		fmt.Println(strings.TrimSpace(fmt.Sprint(w.Code, " ", w.Body)))
	}
	ask()
	if err := rt.Shutdown(context.Background()); err != nil {
		fmt.Println(err)
	}
	ask()
	// Output:
	// 200
	// 503 realtime: closed
}
