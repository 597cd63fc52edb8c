// How much of presence waits for a bus.

package realtime

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
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
