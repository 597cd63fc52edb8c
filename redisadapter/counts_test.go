// Counts and pages of sockets: between Go nodes an answer is a number, or has at most the page's
// sockets. Other nodes answer with all of their sockets.

package redisadapter_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/realtimetest"
	"github.com/rodando/realtime/redisadapter"
	"github.com/rodando/realtime/redisadapter/internal/wire"
)

// manySockets answers as a server with sockets s000, s001 and so on.
func manySockets(n int) func(m realtime.ClusterMessage) []realtime.ClusterAnswer {
	return func(m realtime.ClusterMessage) (answers []realtime.ClusterAnswer) {
		if m.Op == realtime.OpCount {
			return []realtime.ClusterAnswer{{Count: n}}
		}
		for i := range n {
			s := someSocket
			s.ID = fmt.Sprintf("s%03d", i)
			if s.ID > m.After && (m.Limit == 0 || len(answers) < m.Limit) {
				answers = append(answers, realtime.ClusterAnswer{Socket: &s})
			}
		}
		return answers
	}
}

// answersIn returns the published answers that contain a text.
func answersIn(s *redistest.Server, has string) (texts []string) {
	for _, m := range s.Published() {
		if strings.Contains(m.Text, "sockets") && strings.Contains(m.Text, has) {
			texts = append(texts, m.Text)
		}
	}
	return texts
}

// What is published is read from Redis.
func TestAdapter_CountsAndPages(t *testing.T) {
	t.Parallel()
	for protocol, change := range bothProtocol {
		t.Run(protocol, func(t *testing.T) {
			t.Parallel()
			s := startRedis(t)
			a := start(t, s, change)
			b := start(t, s, func(o *redisadapter.Options, r *recorder) {
				o.Sharded, r.answer = protocol == "sharded", manySockets(200)
			})
			waitForPeers(t, a, b)
			total := 0
			require.NoError(t, a.Request(t.Context(), realtime.ClusterMessage{Op: realtime.OpCount, Namespace: ns, All: true}, func(r realtime.ClusterAnswer) { total += r.Count }))
			require.Equal(t, 200, total)
			answers := answersIn(s, b.UID())
			require.Len(t, answers, 1)
			require.Contains(t, answers[0], `"count":200`)
			require.NotContains(t, answers[0], "s000")
			require.Less(t, len(answers[0]), 256)

			var ids []string
			page := realtime.ClusterMessage{Op: realtime.OpFetchSockets, Namespace: ns, Rooms: []string{room}, After: "s100", Limit: 3}
			require.NoError(t, a.Request(t.Context(), page, func(r realtime.ClusterAnswer) { ids = append(ids, r.Socket.ID) }))
			require.Equal(t, []string{"s101", "s102", "s103"}, ids)
		})
	}
}

// formerNode is a subscriber with the name of a Go node that does not know counts and pages: it
// answers with all of its sockets.
func formerNode(t *testing.T, s *redistest.Server, ids ...string) {
	t.Helper()
	subscriber(t, s, "socket.io-request#/drivers#")(func(msg string) {
		m, err := classicNode.Request(msg)
		if err != nil || m.Kind != wire.Fetch {
			return
		}
		all := wire.Message{Kind: wire.Fetched, UID: "realtime-former", RequestID: m.RequestID}
		for _, id := range ids {
			all.Sockets = append(all.Sockets, wire.Socket{ID: id, Rooms: []string{room}})
		}
		publishAsNode(t, s, "socket.io-response#/drivers#", all)
	})
}

// A node of a former version, or a Node server, is counted by its sockets, and the asking server
// makes a page of them.
func TestServer_CountsFormerNodes(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	server := realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Cluster.Adapter = newAdapter(t, redisadapter.Options{URL: s.URL()})
	})
	var ids []string
	for i := range 3000 {
		ids = append(ids, fmt.Sprintf("f%04d", i))
	}
	formerNode(t, s, ids...)
	drivers := server.Realtime.Drivers()
	n, err := drivers.To(realtime.DriverRoom("1")).Count(t.Context())
	require.NoError(t, err)
	require.Equal(t, len(ids), n)
	for at := 0; at < len(ids); at += 700 {
		after := ""
		if at > 0 {
			after = ids[at-1]
		}
		page, err := drivers.To(realtime.DriverRoom("1")).SocketsPage(t.Context(), after, 700)
		require.NoError(t, err)
		got := slices.Collect(func(yield func(string) bool) {
			for _, s := range page {
				yield(s.ID)
			}
		})
		require.Equal(t, ids[at:min(at+700, len(ids))], got)
	}
}

// A Go node answers a Node server's request with all of its sockets.
func TestAdapter_NodeGetsAllSockets(t *testing.T) {
	t.Parallel()
	s := startRedis(t)
	a := start(t, s, func(_ *redisadapter.Options, r *recorder) { r.answer = manySockets(50) })
	publishAsNode(t, s, "socket.io-request#/drivers#", wire.Message{Kind: wire.Fetch, UID: "node01", RequestID: "r1"})
	answer := published(t, s, "the answer", func(m redistest.Message) bool {
		return strings.Contains(m.Text, a.UID()) && strings.Contains(m.Text, `"r1"`)
	})
	require.NotContains(t, answer.Text, `"count"`)
	m, err := classicNode.Answer(answer.Text)
	require.NoError(t, err)
	require.Len(t, m.Sockets, 50)
}
