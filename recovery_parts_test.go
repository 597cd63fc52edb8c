// Recovery on a node that lacks something, and asks the others.

package realtime_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A client comes to a node that has begun after its former one had died, and after events that it has missed.
// From there it goes on as from any node.
func TestRecoveryParts_NewNode(t *testing.T) {
	t.Parallel()
	c := newNodes(t, 3)
	room := realtime.DriverRoom("d1")
	former := c.servers[0].Driver(t, "d1")
	other := c.servers[1].Driver(t, "d2")
	for node := range c.servers {
		c.emit(node, room, node)
		require.Equal(t, node, realtimetest.Expect(t, former, note))
	}
	c.settle()
	former.Stall()
	c.emit(0, room, 10)
	c.emit(1, room, 11)
	c.kill(0)
	former.Drop()
	c.emit(2, room, 12)
	c.kill(2)
	c.emit(1, room, 13)
	c.emit(1, realtime.DriverRoom("d2"), 99)
	fresh := c.start()
	client, hello := back(t, fresh, former, "d1")
	recovers(t, client, hello, former, 10, 11, 12, 13)
	require.Equal(t, 99, realtimetest.Expect(t, other, note))
	c.emit(3, room, 20)
	c.emit(1, room, 21)
	for _, want := range []int{10, 11, 12, 13, 20, 21} {
		require.Equal(t, want, realtimetest.Expect(t, client, note))
	}

	// To the node that has helped, to another new one, and home.
	c.settle()
	c.cut(3, client)
	c.emit(3, room, 30)
	second, hello := back(t, c.servers[1], client, "d1")
	recovers(t, second, hello, former, 30)
	c.settle()
	c.cut(1, second)
	c.emit(3, room, 40)
	c.emit(1, room, 41)
	third, hello := back(t, c.start(), second, "d1")
	recovers(t, third, hello, former, 40, 41)
	c.settle()
	c.cut(4, third)
	c.emit(1, room, 50)
	home, hello := back(t, c.servers[3], third, "d1")
	recovers(t, home, hello, former, 50)
	realtimetest.ExpectNone(t, other, note)
	all, err := c.servers[1].Realtime.Drivers().To(room).Sockets(t.Context())
	require.NoError(t, err)
	require.Len(t, all, 1)
}

// A client that has received a part of a part goes on where it has stopped, on any node.
func TestRecoveryParts_BreaksAgain(t *testing.T) {
	t.Parallel()
	for received := range 5 {
		for _, to := range []string{"the same node", "the node that has helped"} {
			t.Run(fmt.Sprint(received, " received, to ", to), func(t *testing.T) {
				t.Parallel()
				c := newNodes(t, 2)
				room := realtime.DriverRoom("d1")
				former := c.servers[0].Driver(t, "d1")
				c.emit(1, room, 0)
				require.Equal(t, 0, realtimetest.Expect(t, former, note))
				c.settle()
				former.Stall()
				c.emit(0, room, 1)
				c.emit(1, room, 2)
				c.kill(0)
				former.Drop()
				fresh := c.start()
				c.settle()
				client, hello := back(t, fresh, former, "d1")
				recovers(t, client, hello, former, 1, 2)
				c.emit(1, room, 3)
				c.emit(2, room, 4)
				for _, want := range []int{1, 2, 3, 4} {
					require.Equal(t, want, realtimetest.Expect(t, client, note))
				}
				c.settle()
				c.cut(2, client)
				on := map[string]*realtimetest.Server{"the same node": fresh, "the node that has helped": c.servers[1]}[to]
				again, hello := backFrom(t, on, client, "d1", append([]string{former.Offset()}, offsetsOf(t, client)...)[received])
				recovers(t, again, hello, former, append([]int(nil), []int{1, 2, 3, 4}[received:]...)...)
			})
		}
	}
}

// backFrom is back for a driver who has received the events up to an offset.
func backFrom(t *testing.T, s *realtimetest.Server, former *realtimetest.Client, user, offset string) (*realtimetest.Client, realtime.HelloPayload) {
	t.Helper()
	c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(map[string]string{"token": s.Login(user, realtime.UserDriver), "pid": former.PID(), "offset": offset}))
	require.NoError(t, err)
	return c, realtimetest.Expect(t, c, realtime.EventHello)
}

// offsetsOf returns the offsets of the notes that a client has received.
func offsetsOf(t *testing.T, c *realtimetest.Client) (offsets []string) {
	t.Helper()
	for _, r := range c.Received() {
		if r.Event == note.Name() {
			var offset string
			require.NoError(t, json.Unmarshal(r.Args[len(r.Args)-1], &offset))
			offsets = append(offsets, offset)
		}
	}
	return offsets
}

// A node that had a gap asks those that had none.
func TestRecoveryParts_Gap(t *testing.T) {
	t.Parallel()
	c := newNodes(t, 3)
	room := realtime.DriverRoom("d1")
	former := c.servers[0].Driver(t, "d1")
	c.emit(1, room, 1)
	require.Equal(t, 1, realtimetest.Expect(t, former, note))
	c.settle()
	c.cut(0, former)
	c.adapters[1].Cut()
	notes(t, c.servers[2], room, 2)
	c.gapIn(1)
	c.emit(0, room, 3)
	client, hello := back(t, c.servers[1], former, "d1")
	recovers(t, client, hello, former, 2, 3)
}

// What another node sends is checked before a client gets it.
func TestRecoveryParts_Attachments(t *testing.T) {
	t.Parallel()
	c := newNodes(t, 2)
	room := realtime.DriverRoom("d1")
	former := c.servers[0].Driver(t, "d1")
	c.settle()
	c.cut(0, former)
	to := c.servers[1].Realtime.Drivers().To(room)
	require.NoError(t, to.EmitRaw("photo", realtime.Raw{Args: []json.RawMessage{json.RawMessage(`{"_placeholder":true,"num":0}`), json.RawMessage(`"text"`)}, Attachments: [][]byte{{1, 2, 3}}}))
	for n := range 600 { // several messages
		require.NoError(t, note.Emit(to, n))
	}
	c.kill(0)
	client, hello := back(t, c.start(), former, "d1")
	require.True(t, *hello.Recovered)
	require.Equal(t, 601, *hello.Missed)
	numbers := make([]int, 600)
	for n := range numbers {
		numbers[n] = n
	}
	require.Equal(t, numbers, receivedNotes(t, client))
	i := slices.IndexFunc(client.Received(), func(e realtimetest.Received) bool { return e.Event == "photo" })
	require.Equal(t, [][]byte{{1, 2, 3}}, client.Received()[i].Attachments)
	require.JSONEq(t, `"text"`, string(client.Received()[i].Args[1]))
}
