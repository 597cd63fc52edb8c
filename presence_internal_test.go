// How much of presence waits for a bus, and which orphans wait for it.

package realtime

import (
	"strconv"
	"testing"
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
		users: map[presenceKey]presenceState{{drivers, "d1"}: {sockets: 1}, {drivers, "d2"}: {leave: &pendingLeave{}}},
	}
	var orphans []roster.Orphan
	for _, id := range []string{"d1", "d2", "d3"} {
		orphans = append(orphans, roster.Orphan{User: roster.User{Namespace: NamespaceDrivers, ID: id}, Type: "driver"})
	}
	p.orphaned(orphans, DisconnectNodeLost, time.Now())
	require.Len(t, p.queue, 1)
	require.Equal(t, "d3", p.queue[0].EventKey())
}
