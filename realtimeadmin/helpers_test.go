// Helpers: servers with views, and what the page asks them.

package realtimeadmin_test

import (
	"context"
	"encoding/json"
	"io"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/realtimeadmin"
	"github.com/rodando/realtime/realtimetest"
)

const token = "a token of operators that nobody can guess"

// node is a server with its view.
type node struct {
	*realtimetest.Server
	view *realtimeadmin.View
	log  *testkit.Log
}

// start starts n nodes. The options lack what the test does not care about.
func start(t *testing.T, n int, o realtimeadmin.Options, configure ...func(o *realtime.Options)) []node {
	t.Helper()
	var nodes []node
	watched := func(ro *realtime.Options) {
		log := &testkit.Log{}
		mine := o
		if mine.Operator == nil && mine.Token == "" {
			mine.Token = token
		}
		mine.Logger = slog.New(slog.NewTextHandler(log, nil))
		view, err := realtimeadmin.New(mine)
		require.NoError(t, err)
		ro.Trace = view.Trace()
		nodes = append(nodes, node{nil, view, log})
	}
	configure = append(configure, watched)
	var servers []*realtimetest.Server
	if n == 1 {
		servers = append(servers, realtimetest.NewServer(t, configure...))
	} else {
		servers = realtimetest.NewCluster(t, n, configure...)
	}
	for i, srv := range servers {
		nodes[i].Server = srv
		nodes[i].view.Watch(srv.Realtime)
	}
	return nodes
}

// request sends a request as the page does.
func request(t *testing.T, h http.Handler, method, path string, body io.Reader, change ...func(r *http.Request)) *httptest.ResponseRecorder {
	t.Helper()
	r := httptest.NewRequestWithContext(t.Context(), method, path, body)
	r.Header.Set("Authorization", "Bearer "+token)
	r.Header.Set("X-Realtime-Admin", "1")
	r.Header.Set("Sec-Fetch-Site", "same-origin")
	for _, f := range change {
		f(r)
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// ask returns what the page receives for a query.
func (n node) ask(t *testing.T, path string) (answer answer) {
	t.Helper()
	w := request(t, n.view, http.MethodGet, path, nil)
	require.Equal(t, http.StatusOK, w.Code, w.Body.String())
	require.NoError(t, json.Unmarshal(w.Body.Bytes(), &answer), w.Body.String())
	return answer
}

// answer is what the page receives, as far as the tests look at it.
type answer struct {
	Nodes, Silent, Failed []realtime.Peer
	More, Partial         bool
	Reports               []struct {
		Ready      bool
		Namespaces []struct {
			Name                      string
			Polling, WebSocket, Rooms int
		}
		Connections int
		Slow        []entry
		Refusals    []struct {
			Kind, Reason, Namespace string
			Total, Recent           int
		}
		TraceDropped int
	}
	Sockets []struct {
		ID, Node, Namespace, Session string
		Rooms                        []string
		OtherRooms                   int
	}
	Entries []entry
}

type entry struct {
	Node, Kind, Event, EventID, Who, Namespace, Socket, User, Transport, Code, Reason string
	Messages, Bytes                                                                   int
	To                                                                                []struct {
		Event, Audience string
		Receivers       int
		OtherNodes      bool
	}
}

// ids returns the ids of nodes.
func ids(peers []realtime.Peer) string {
	var all []string
	for _, p := range peers {
		all = append(all, p.ID)
	}
	return strings.Join(all, " ")
}

// lines returns the entries in words.
func lines(entries []entry) (all []string) {
	for _, e := range entries {
		line := []string{e.Node, e.Kind, e.Event, e.User, e.Who, e.Code, e.Reason}
		for _, a := range e.To {
			line = append(line, a.Event, a.Audience, strings.Repeat("*", a.Receivers))
			if a.OtherNodes {
				line = append(line, "+")
			}
		}
		all = append(all, strings.Join(strings.Fields(strings.Join(line, " ")), " "))
	}
	return all
}

var note = realtime.NewEvent[string]("note")

func bubble(t *testing.T, f func(t *testing.T)) { testkit.Bubble(t, f) }

// settle waits until the functions of Trace have been called.
func settle(t *testing.T, nodes ...node) {
	t.Helper()
	for _, n := range nodes {
		require.NoError(t, n.Settle(context.WithoutCancel(t.Context())))
	}
	synctest.Wait()
}
