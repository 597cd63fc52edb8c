// Benchmarks of the most frequent operations: an acked event, a message to one and to
// many sockets, and joining and leaving rooms. They use no network; the timer is
// stopped while the outboxes are emptied.

package socketio

import (
	"fmt"
	"testing"
)

// openMany opens n connections, each with a socket in namespace "/" and room "r".
func openMany(b *testing.B, n int, event func(*Socket, *Event)) (*quiet, []*Socket) {
	b.Helper()
	b.ReportAllocs()
	q := newQuiet(Config{Limits: testLimits, AttachmentBytes: 1e6, QueuedEvents: 1000, QueuedBytes: 1e6})
	b.Cleanup(q.close)
	return q, q.openMany(b, n, event, func(s *Socket) bool { return s.Admit("r") && s.Open() })
}

// openMany opens n connections, each with a socket in namespace "/", which enter admits and opens.
func (q *quiet) openMany(tb testing.TB, n int, event func(*Socket, *Event), enter func(*Socket) bool) (sockets []*Socket) {
	tb.Helper()
	opened := make(chan *Socket)
	q.sio.Namespace("/", Hooks{
		Connect: func(s *Socket, _ []byte) {
			if enter(s) {
				opened <- s
			}
		},
		Event:      event,
		Disconnect: func(*Socket, string) {},
	})
	for range n {
		c := q.conn()
		if err := c.Message([]byte("0"), false); err != nil {
			tb.Fatal(err)
		}
		sockets = append(sockets, <-opened)
		q.poll(c)
	}
	return sockets
}

// drainEvery empties the outboxes after every so many iterations, with the timer
// stopped.
func (q *quiet) drainEvery(b *testing.B, i, every int) {
	if i%every != 0 {
		return
	}
	b.StopTimer()
	for _, c := range q.conns {
		q.poll(c)
	}
	b.StartTimer()
}

func BenchmarkPingToAck(b *testing.B) {
	ok := []byte(`{"ok":true}`)
	q, sockets := openMany(b, 1, func(_ *Socket, e *Event) { e.Ack(nil, ok) })
	c := sockets[0].Conn()
	in := []byte(`212["driver:location:ping",{"lat":23.1136,"lng":-82.3666,"heading":90,"speed":8.3}]`)
	i := 0
	for b.Loop() {
		if err := c.Message(in, false); err != nil {
			b.Fatal(err)
		}
		c.Serve()
		i++
		q.drainEvery(b, i, 200)
	}
}

func BenchmarkEmit(b *testing.B) {
	for _, n := range []int{1, 1000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			q, _ := openMany(b, n, nil)
			t := Target{Rooms: []string{"r"}}
			arg := []byte(`{"lat":23.1136,"lng":-82.3666,"heading":90,"speed":8.3}`)
			i := 0
			for b.Loop() {
				q.sio.Lookup("/").Emit(t, EventMessage("/", NoID, "driver:location:update", arg))
				i++
				q.drainEvery(b, i, 200)
			}
		})
	}
}

// Two rooms have to be compared.
func BenchmarkEmitTwoRooms(b *testing.B) {
	q, sockets := openMany(b, 100, nil)
	for _, s := range sockets[:10] {
		s.Join("trip")
	}
	t := Target{Rooms: []string{"r", "trip"}}
	i := 0
	for b.Loop() {
		q.sio.Lookup("/").Emit(t, EventMessage("/", NoID, "x"))
		i++
		q.drainEvery(b, i, 200)
	}
}

func BenchmarkJoinLeave(b *testing.B) {
	for _, n := range []int{10, 10_000} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.ReportAllocs()
			ns := newNamespace("/", Hooks{}, nil)
			for range n {
				ns.join(&Socket{ns: ns}, "r")
			}
			s := &Socket{ns: ns}
			for b.Loop() {
				s.Join("r")
				s.Leave("r")
			}
		})
	}
}
