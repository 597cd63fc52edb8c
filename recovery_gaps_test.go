// Recovery across nodes after gaps: whoever recovers has everything, whatever was lost, and when it was noticed.

package realtime_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A client stays connected in a gap of its node and of the one to which it comes later. A third node has what was lost.
func TestRecoveryGaps_QuietClient(t *testing.T) {
	for name, test := range map[string]struct {
		received, dead bool // the client receives something after the gap; its node is dead then
	}{"quiet": {}, "quiet, and its node is dead": {dead: true}, "it receives something": {received: true}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3, fastBeat)
				room := realtime.DriverRoom("d1")
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				time.Sleep(time.Second)
				c.adapters[0].Cut()
				c.adapters[1].Cut()
				notes(t, c.servers[2], room, 1)
				require.NoError(t, c.hub.Wait(t.Context()))
				time.Sleep(50 * time.Millisecond)
				c.adapters[0].Heal()
				c.adapters[1].Heal()
				c.settle()
				time.Sleep(time.Minute) // the client would have noticed a dead connection
				missed := []int{1}
				if test.received {
					c.emit(2, room, 2)
					require.Equal(t, 2, realtimetest.Expect(t, former, note))
					missed = nil
				}
				if test.dead {
					c.kill(0)
					former.Drop()
				} else {
					c.cut(0, former)
				}
				client, hello := back(t, c.servers[1], former, "d1")
				recovers(t, client, hello, former, missed...)
			})
		})
	}
}

// A node emits something in a gap of another one, and dies in it. That one does not know what it lacks.
func TestRecoveryGaps_DiesInIt(t *testing.T) {
	for name, known := range map[string]bool{"a node that was known": true, "a node that has begun in it": false} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 3)
				former := c.servers[0].Driver(t, "d1")
				c.settle()
				c.cut(0, former)
				time.Sleep(time.Second)
				node := 2
				c.adapters[1].Cut()
				if !known {
					c.start()
					node = 3
					time.Sleep(time.Second)
				}
				notes(t, c.servers[node], realtime.DriverRoom("d1"), 1)
				require.NoError(t, c.hub.Wait(t.Context()))
				time.Sleep(time.Second)
				c.kill(node)
				time.Sleep(time.Second)
				c.adapters[1].Heal()
				c.settle()
				client, hello := back(t, c.servers[1], former, "d1")
				recoversOrIsNew(t, client, hello, former, 1)
			})
		})
	}
}

// What is emitted after a gap arrives before the gap is reported.
func TestRecoveryGaps_ReportedLate(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		a, s := c.odd()
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		c.emit(1, room, 1)
		time.Sleep(time.Second)
		a.drop.Store(true)
		c.emit(1, room, 2)
		a.drop.Store(false)
		c.emit(1, room, 3)
		since := time.Now()
		time.Sleep(time.Second)
		a.node.Load().Gap(realtime.Gap{Since: since.Add(-time.Second), Until: since})
		time.Sleep(2 * time.Second)
		client, hello := back(t, s, former, "d1")
		recovers(t, client, hello, former, 1, 2, 3)
	})
}

// Gaps of one node and of all have the same times: they are several.
func TestRecoveryGaps_AtTheSameTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 4)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		time.Sleep(time.Second)
		c.adapters[1].Cut()
		c.adapters[2].Cut()
		c.servers[1].Driver(t, "d2") // which node 1 says to the others
		notes(t, c.servers[3], room, 1)
		time.Sleep(time.Second)
		require.NoError(t, c.hub.Wait(t.Context()))
		c.adapters[1].Heal()
		c.adapters[2].Heal()
		c.settle()
		client, hello := back(t, c.servers[2], former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// Positions have no marks. Nobody waits for those that were lost in a gap.
func TestRecoveryGaps_Positions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 3)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.settle()
		c.cut(0, former)
		for node, s := range c.servers {
			require.NoError(t, note.Emit(s.Realtime.Drivers().To(room).Latest("position"), node))
		}
		c.emit(2, room, 10)
		time.Sleep(time.Second)
		c.gapOfAll()
		time.Sleep(2 * time.Second)
		client, hello := back(t, c.servers[0], former, "d1")
		recovers(t, client, hello, former, 2, 10) // the newest position, and the event
	})
}
