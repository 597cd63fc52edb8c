// What recovery costs where nothing is to be recovered.

package socketio

import (
	"encoding/json"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// costly returns a namespace with so many sockets in room "r", whose clients get offsets in that way. With
// NoOffsets the server has no recovery.
func costly(t *testing.T, sockets int, o Offsets) *Namespace {
	t.Helper()
	cfg := Config{Limits: testLimits, AttachmentBytes: 1e6, QueuedEvents: 1000, QueuedBytes: 1e6}
	if o != NoOffsets {
		cfg.Recovery = &RecoveryConfig{Window: time.Minute, Events: 1e5, Bytes: 1e8, Sockets: 1e5}
	}
	q := newQuiet(cfg)
	t.Cleanup(q.close)
	q.openMany(t, sockets, nil, func(s *Socket) bool {
		if o != NoOffsets {
			s.Recoverable(o)
		}
		if !s.Admit("r") {
			return false
		}
		first := s.First("hello", json.RawMessage(`{}`))
		return s.Open(append(first, s.FirstRequired("state", json.RawMessage(`{}`))...)...)
	})
	return q.sio.Lookup("/")
}

// A socket on a single node has only its memory, which TestConn_Size measures, also if its client has got a
// snapshot; without recovery it has not even that.
func TestRecovery_IdleSocket(t *testing.T) {
	t.Parallel()
	for _, o := range []Offsets{NoOffsets, OffsetsBehind, OffsetsInside} {
		n := costly(t, 2, o)
		n.EmitEvent(Target{All: true}, &Outgoing{Name: "moved"}, nil)
		for _, s := range n.Select(Target{All: true}) {
			if o == NoOffsets {
				require.Nil(t, s.mem)
				continue
			}
			require.NotNil(t, s.mem)
			require.Nil(t, s.mem.more, "offsets: %d", o)
		}
	}
}

// An event has some allocations, however many sockets get it: its delivery to a socket has none. Without recovery it has
// those of its encoding alone, as before there was recovery.
func TestRecovery_Allocations(t *testing.T) { // not parallel: it counts allocations
	to, args := Target{Rooms: []string{"r"}}, []json.RawMessage{json.RawMessage(`{"lat":23.1136,"lng":-82.3666}`)}
	encoding := leastAllocs(t, NoOffsets, 1, func(n *Namespace) int {
		var one [1]*Message
		return n.Emit(to, AppendEventMessages(one[:0], n.name, NoID, "moved", args, nil)...)
	})
	for o, most := range map[Offsets]float64{NoOffsets: encoding, OffsetsInside: encoding + 8, OffsetsBehind: encoding + 14} {
		for _, sockets := range []int{1, 100} {
			got := leastAllocs(t, o, sockets, func(n *Namespace) int {
				receivers, _ := n.EmitEvent(to, &Outgoing{Name: "moved"}, args)
				return receivers
			})
			require.LessOrEqual(t, got, most, "offsets: %d, sockets: %d", o, sockets)
		}
	}
}

// leastAllocs returns the least number of allocations of several emits, each of which must reach all sockets. A list that has to
// grow, a pool that is empty and other goroutines add to some of them.
func leastAllocs(t *testing.T, o Offsets, sockets int, emit func(n *Namespace) (receivers int)) float64 {
	t.Helper()
	n := costly(t, sockets, o)
	once := func() float64 {
		return testing.AllocsPerRun(1, func() {
			if emit(n) != sockets {
				panic("not all sockets have got it")
			}
		})
	}
	least := once()
	for range 50 {
		least = min(least, once())
	}
	return least
}
