// How much of presence waits for a bus, and which orphans wait for it.

package realtime

import (
	"context"
	"log/slog"
	"strconv"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/roster"
)

// When the queue for a slow bus is full, further events are dropped and counted.
func TestPresence_QueueIsBounded(t *testing.T) {
	t.Parallel()
	p := &presence{publishes: true, max: 4, running: true} // the bus is busy with others
	for i := range 7 {
		p.publishLocked(PresenceConnected{Presence{UserID: strconv.Itoa(i)}})
	}
	require.Len(t, p.queue, 4)
	require.Equal(t, "3", p.queue[3].EventKey())
	require.Equal(t, 3, p.dropped)
}

// A user of a dead node who connects here, while the orphans are computed, is not published as
// disconnected: it would be the last event about a user who is here.
func TestPresence_OrphanWhoIsHere(t *testing.T) {
	t.Parallel()
	drivers := &Namespace{name: NamespaceDrivers}
	p := &presence{
		rt:        &Server{namespaces: map[string]*Namespace{NamespaceDrivers: drivers}},
		publishes: true, max: 4, running: true, // the bus is busy with others
		users:   map[presenceKey]presenceState{{drivers, "d1"}: {sockets: 1}, {drivers, "d2"}: {leave: &pendingLeave{}}},
		leaving: map[presenceKey]UserType{},
	}
	var orphans []roster.Orphan
	for _, id := range []string{"d1", "d2", "d3"} {
		orphans = append(orphans, roster.Orphan{User: roster.User{Namespace: NamespaceDrivers, ID: id}, Type: "driver"})
	}
	p.orphaned(orphans, DisconnectNodeLost, time.Now())
	require.Len(t, p.queue, 1)
	require.Equal(t, "d3", p.queue[0].EventKey())
}

// An event that failed does not follow the user's next one, which is in the queue already.
func TestPresence_OutdatedEventsAreNotQueuedAgain(t *testing.T) {
	t.Parallel()
	drivers := &Namespace{name: NamespaceDrivers}
	connected := func(id string) DomainEvent {
		return PresenceConnected{Presence{UserID: id, Namespace: NamespaceDrivers}}
	}
	disconnected := func(id string) DomainEvent {
		return PresenceDisconnected{Presence{UserID: id, Namespace: NamespaceDrivers}}
	}
	p := &presence{
		publishes: true, max: 4, running: true, // the bus is busy with others
		users: map[presenceKey]presenceState{{drivers, "came"}: {sockets: 1}, {drivers, "came back"}: {sockets: 1}},
	}
	p.failed.last = map[presenceKey]failedEvent{
		{drivers, "came"}: {event: connected("came")}, {drivers, "came back"}: {event: disconnected("came back")},
		{drivers, "left"}: {event: disconnected("left")}, {drivers, "left again"}: {event: connected("left again")},
	}
	p.queueFailed()
	require.ElementsMatch(t, []DomainEvent{connected("came"), disconnected("left")}, p.queue)
	require.Len(t, p.failed.last, 4)
}

// slowEvents is a slow bus that records which users were published as disconnected.
type slowEvents struct {
	startupEvents
	mu           sync.Mutex // guards disconnected
	disconnected map[string]int
}

func (b *slowEvents) Publish(_ context.Context, env Envelope) error {
	time.Sleep(10 * time.Millisecond)
	if env.Name == (PresenceDisconnected{}).EventName() {
		b.mu.Lock()
		defer b.mu.Unlock()
		b.disconnected[env.Key]++
	}
	return nil
}

// The users of a dead node are published, however many they are and however slow the bus is.
func TestPresence_MoreOrphansThanTheQueueHolds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const users = 100
		host := &startupBus{during: func(*Server) {}}
		bus := &slowEvents{startupEvents: startupEvents{host}, disconnected: map[string]int{}}
		rt, err := New(Options{
			Tokens: host, Users: host, Sessions: host, Bus: bus, Cluster: Cluster{Adapter: host}, Logger: slog.New(slog.DiscardHandler),
		})
		require.NoError(t, err)
		defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
		rt.presence.max = 8
		peer := Peer{ID: "b"}
		node{rt}.PeerJoined(peer)
		s := &sharedUsers{Node: "b"}
		for n := range users {
			s.Added = append(s.Added, sharedUser{strconv.Itoa(n), UserDriver})
		}
		require.True(t, rt.peerUsers.apply(rt.Drivers(), peer.ID, s))
		node{rt}.PeerLost(peer, true)
		time.Sleep(time.Minute)
		synctest.Wait()
		bus.mu.Lock()
		defer bus.mu.Unlock()
		require.Len(t, bus.disconnected, users)
		for id, times := range bus.disconnected {
			require.Equal(t, 1, times, id)
		}
	})
}
