// What recovery costs where nothing is to be recovered.

package socketio

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/eventlog"
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

// What the log counts is about what its events take in memory, whatever they are, also when the oldest ones have gone.
func TestRecovery_Memory(t *testing.T) { // not parallel: it measures the heap
	const kept, emitted = 5000, 12_000
	room := func(n int) string { return fmt.Sprintf("trip:6f1c0f9e-0000-4000-8000-%012d", n) }
	rooms := func(from int) (all []string) {
		for n := range 200 {
			all = append(all, room(from+n))
		}
		return all
	}
	one, short := Target{Rooms: []string{"one"}}, []json.RawMessage{json.RawMessage(`{"lat":23.1136,"lng":-82.3666}`)}
	long := []json.RawMessage{json.RawMessage(`"` + strings.Repeat("x", 2000) + `"`)}
	for name, c := range map[string]struct {
		every int // so many of the emits are left out, but for one
		emit  func(n *Namespace, i int)
	}{
		"one room":  {1, func(n *Namespace, _ int) { n.EmitEvent(one, &Outgoing{Name: "moved"}, short) }},
		"everybody": {1, func(n *Namespace, _ int) { n.EmitEvent(Target{All: true}, &Outgoing{Name: "moved"}, short) }},
		"a room of its own": {1, func(n *Namespace, i int) {
			n.EmitEvent(Target{Rooms: []string{room(i)}}, &Outgoing{Name: "moved"}, short)
		}},
		"many rooms": {50, func(n *Namespace, i int) { n.EmitEvent(Target{Rooms: rooms(200 * i)}, &Outgoing{Name: "moved"}, short) }},
		"exceptions": {50, func(n *Namespace, _ int) {
			n.EmitEvent(Target{Rooms: []string{"one"}, Except: rooms(0)}, &Outgoing{Name: "moved"}, short)
		}},
		"attachments": {1, func(n *Namespace, _ int) {
			n.EmitEvent(one, &Outgoing{Name: "moved", Attachments: [][]byte{{1}, {2}, {3}}}, short)
		}},
		"long": {1, func(n *Namespace, _ int) { n.EmitEvent(one, &Outgoing{Name: "moved"}, long) }},
		"keys": {1, func(n *Namespace, i int) {
			n.EmitEvent(Target{Rooms: []string{"away", room(i)}}, &Outgoing{Name: "moved", Key: room(i)}, short)
		}},
		"one key": {1, func(n *Namespace, i int) {
			n.EmitEvent(Target{Rooms: []string{"away"}}, &Outgoing{Name: "moved", Key: "car 1"}, short)
			if i%20 == 0 {
				n.EmitEvent(one, &Outgoing{Name: "moved"}, short)
			}
		}},
	} {
		t.Run(name, func(t *testing.T) {
			q := newQuiet(Config{
				Limits: testLimits, AttachmentBytes: 1e6, QueuedEvents: 1000, QueuedBytes: 1e6,
				Recovery: &RecoveryConfig{Window: time.Minute, Events: kept / c.every, Bytes: 1e8, Sockets: 10},
			})
			t.Cleanup(q.close)
			q.openMany(t, 0, nil, nil)
			n := q.sio.Lookup("/")
			n.log.Pause()
			n.log.Leave(&Away{Rooms: []eventlog.Room{{Name: "away"}}})
			n.log.End()
			before := heap()
			for i := range emitted / c.every {
				c.emit(n, i)
			}
			took := heap() - before
			_, counted, _ := n.log.Len()
			t.Logf("%d bytes counted, %d taken", counted, took)
			require.Less(t, took, counted+counted/2)
			require.Less(t, counted, 2*took)
		})
	}
}
