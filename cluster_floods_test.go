// Floods: another node, or whoever can publish as one, asks often or invents much.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// fieldCounter counts the states that a node publishes, by their first field.
type fieldCounter struct {
	realtime.Adapter
	mu   sync.Mutex // guards sent
	sent map[string]int
}

func (c *fieldCounter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if m.Op == realtime.OpState {
		var fields map[string]json.RawMessage
		b, err := json.Marshal(m.State)
		if err != nil || json.Unmarshal(b, &fields) != nil {
			panic(string(b))
		}
		c.mu.Lock()
		for name := range fields {
			c.sent[name]++
		}
		c.mu.Unlock()
	}
	return c.Adapter.Publish(ctx, m)
}

// take returns the number of states with a field since the last call.
func (c *fieldCounter) take(field string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	n := c.sent[field]
	clear(c.sent)
	return n
}

// floodSite is a server and a node that publishes whatever it wants.
type floodSite struct {
	srv     *realtimetest.Server
	sent    *fieldCounter
	hostile *realtimetest.HubNode
}

func newFloodSite(t *testing.T, configure ...func(o *realtime.Options)) *floodSite {
	t.Helper()
	hub := realtimetest.NewHub()
	f := &floodSite{sent: &fieldCounter{Adapter: hub.Node(), sent: map[string]int{}}, hostile: hub.Node()}
	f.srv = realtimetest.NewServer(t, append(configure, withoutLookup, func(o *realtime.Options) { o.Cluster.Adapter = f.sent })...)
	require.NoError(t, f.hostile.Start(t.Context(), idleNode{}))
	t.Cleanup(func() { require.NoError(t, f.hostile.Close(context.Background())) })
	soon()
	return f
}

func (f *floodSite) publish(t *testing.T, m realtime.ClusterMessage) {
	t.Helper()
	m.Version = realtime.ClusterVersion
	require.NoError(t, f.hostile.Publish(t.Context(), m))
}

func (f *floodSite) state(t *testing.T, namespace, text string) {
	t.Helper()
	s := &realtime.NodeState{}
	require.NoError(t, s.UnmarshalJSON([]byte(text)))
	f.publish(t, realtime.ClusterMessage{Op: realtime.OpState, Namespace: namespace, State: s})
}

// However often a node is asked, it sends everything at most once a second and kind; and the last
// request is answered too.
func TestCluster_FloodOfRequests(t *testing.T) {
	const trips, users = 300, 300
	for name, c := range map[string]struct {
		request string
		answer  string // the field of the answers
		full    int    // messages of one full answer
	}{
		"rooms":       {`{"roomsOf":{}}`, "rooms", 1},
		"users":       {`{"usersOf":{"node":"n%d","agoMs":1000}}`, "users", 2 + 2}, // the other namespaces have none
		"disconnects": {`{"usersOf":{"node":"n%d","agoMs":1000000}}`, "disconnects", 2},
		"trips":       {`{"compare":{}}`, "trips", 3 * 5},
		"a trip":      {`{"trip":{"kind":1,"tripId":"t1","at":"1999-01-01T00:00:00Z","passengerId":"p0"}}`, "known", 3 * 500},
		"of a driver": {`{"tripsOf":"d1"}`, "known", 3 * 500},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				f := newFloodSite(t, withPresence)
				for i := range users {
					f.srv.Passenger(t, fmt.Sprint("p", i))
				}
				for i := range trips {
					f.srv.Publish(t, realtime.DriverAssigned{TripID: fmt.Sprint("t", i), PassengerID: fmt.Sprint("p", i), DriverID: fmt.Sprint("d", i)})
				}
				if name == "a trip" {
					f.srv.Publish(t, realtime.NoDriversFound{TripID: "t1"})
				}
				if name == "disconnects" {
					clients := []*realtimetest.Client{}
					for i := range users {
						clients = append(clients, f.srv.Driver(t, fmt.Sprint("d", i)))
					}
					for _, c := range clients {
						c.Close()
					}
					time.Sleep(time.Minute)
				}
				soon()
				f.sent.take("")
				const seconds = 5
				ask := func(i int) {
					text := c.request
					if strings.Contains(text, "%d") {
						text = fmt.Sprintf(text, i)
					}
					f.state(t, realtime.NamespacePassengers, text)
					if name == "disconnects" {
						f.state(t, realtime.NamespaceDrivers, text)
					}
				}
				for i := range 1000 * seconds {
					ask(i)
					time.Sleep(time.Millisecond)
				}
				synctest.Wait()
				n := f.sent.take(c.answer)
				require.NotZero(t, n)
				require.LessOrEqual(t, n, (seconds+2)*c.full)
				soon()
				f.sent.take("")
				soon()
				require.Zero(t, f.sent.take(c.answer), "at rest")
				ask(0)
				ask(1)
				soon()
				n = f.sent.take(c.answer)
				require.NotZero(t, n, "the next request is answered")
				require.LessOrEqual(t, n, 2*c.full)
			})
		})
	}
}

// A node that says again and again that it has forgotten whom it has published as disconnected makes
// this one publish its users at most once in ten seconds.
func TestCluster_FloodOfIncomplete(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFloodSite(t, withPresence)
		h := &presenceReader{servers: []*realtimetest.Server{f.srv}}
		for i := range 10 {
			f.srv.Passenger(t, fmt.Sprint("p", i))
		}
		soon()
		require.Len(t, h.take(t), 10)
		for range 25 * 100 {
			f.state(t, realtime.NamespacePassengers, `{"disconnects":{"incomplete":true}}`)
			time.Sleep(10 * time.Millisecond)
		}
		soon()
		n := len(h.take(t))
		require.GreaterOrEqual(t, n, 10)
		require.LessOrEqual(t, n, 40)
		time.Sleep(time.Minute)
		require.LessOrEqual(t, len(h.take(t)), 10)
		f.state(t, realtime.NamespacePassengers, `{"disconnects":{"incomplete":true}}`)
		soon()
		require.Len(t, h.take(t), 10, "the next one counts at once")
	})
}

// Announcements with numbers that do not follow each other make a node ask for the rooms of all
// nodes, but seldom.
func TestCluster_FloodOfGapsInRooms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		f := newFloodSite(t)
		f.sent.take("")
		for i := range 5000 {
			f.state(t, realtime.NamespacePassengers, fmt.Sprintf(`{"rooms":{"n":%d,"first":%t,"last":true}}`, 10*i, i%2 == 0))
			time.Sleep(2 * time.Millisecond)
		}
		synctest.Wait()
		require.LessOrEqual(t, f.sent.take("roomsOf"), 2*15)
	})
}

// Gaps that are reported often are one gap for the other nodes, which begins with the first.
func TestCluster_FloodOfGaps(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		one, two := hub.Node(), hub.Node()
		sent := &fieldCounter{Adapter: one, sent: map[string]int{}}
		realtimetest.NewServer(t, withoutLookup, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = sent })
		realtimetest.NewServer(t, withoutLookup, withPresence, func(o *realtime.Options) { o.Cluster.Adapter = two })
		soon()
		sent.take("")
		for range 1000 {
			one.Cut()
			one.Heal()
			time.Sleep(10 * time.Millisecond)
		}
		soon()
		n := sent.take("usersOf")
		require.NotZero(t, n)
		require.LessOrEqual(t, n, 3*12, "one for each namespace")
	})
}

// Other nodes put a socket into at most 4096 rooms; the host of its own node may put it into more.
func TestCluster_RemoteJoinsAreBounded(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var calls traced
		f := newFloodSite(t, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { calls.addf("%s", i.Reason) }}
		})
		f.srv.Driver(t, "d1")
		drivers := f.srv.Realtime.Drivers()
		rooms := func() int {
			found, err := drivers.All().Local().Sockets(t.Context())
			require.NoError(t, err)
			require.Len(t, found, 1)
			return len(found[0].Rooms)
		}
		join := func(from, n int) {
			m := realtime.ClusterMessage{Op: realtime.OpJoin, Namespace: realtime.NamespaceDrivers, All: true}
			for i := range n {
				m.Targets = append(m.Targets, realtime.NewRoom("zone", fmt.Sprint(from+i)).String())
			}
			f.publish(t, m)
			synctest.Wait()
		}
		join(0, 4000)
		require.Empty(t, calls.take())
		before := rooms()
		require.Greater(t, before, 4000)
		join(1000, 6000)
		require.Equal(t, 4096, rooms())
		require.Equal(t, []string{string(realtime.DropLimit)}, calls.take())
		join(0, 4000) // it is in these
		require.Empty(t, calls.take())
		for i := range 200 { // trips that another node invents
			f.state(t, realtime.NamespaceDrivers, fmt.Sprintf(`{"trip":{"kind":2,"tripId":"x%d","at":%q,"driverId":"d1"}}`, i, time.Now().Format(time.RFC3339)))
		}
		synctest.Wait()
		require.Equal(t, 4096, rooms())
		drivers.All().Join(realtime.NewRoom("zone", "of the host"))
		require.Equal(t, 4097, rooms())
	})
}
