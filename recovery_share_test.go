// What a node knows of the sockets of another one, while that tells it all of them again.

package realtime_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// full is how many sockets a message has that is not the last one.
const full = 64

// drivers connects drivers to a node.
func (c *nodes) drivers(node, n int) []*realtimetest.Client {
	c.t.Helper()
	var all []*realtimetest.Client
	for i := range n {
		all = append(all, c.servers[node].Driver(c.t, fmt.Sprint("d", i)))
	}
	time.Sleep(time.Second)
	return all
}

// A node that joins makes the others tell everything again. What they know is valid meanwhile, also if the one that tells is
// killed before the end.
func TestRecoveryShare_Join(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const sockets = 4 * full
		for _, killed := range []time.Duration{40 * time.Millisecond, 52 * time.Millisecond, 60 * time.Millisecond} {
			c := newNodes(t, 2)
			clients := c.drivers(0, sockets)
			time.Sleep(3 * time.Minute) // this node has begun long ago, and asks nobody
			c.start()
			for began := time.Now(); time.Since(began) < killed; time.Sleep(time.Millisecond) {
				require.Len(t, realtime.KnownSockets(c.servers[1].Realtime), sockets)
			}
			c.kill(0)
			for n := 0; n < sockets; n += full {
				clients[n].Drop()
				_, hello := back(t, c.servers[1], clients[n], fmt.Sprint("d", n))
				require.True(t, *hello.Recovered, "killed after %v", killed)
			}
		}
	})
}

// What changes while a node tells everything does not wait for the end.
func TestRecoveryShare_ChangesMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 2)
		clients := c.drivers(0, 12*full) // 60 ms
		time.Sleep(2 * time.Second)
		c.start()
		time.Sleep(55 * time.Millisecond)
		driver, admin := c.servers[0].Driver(t, "fresh"), c.servers[0].Admin(t, "a1")
		clients[0].Drop()
		time.Sleep(55 * time.Millisecond)
		known := fmt.Sprint(realtime.KnownSockets(c.servers[1].Realtime))
		require.Contains(t, known, driver.ID())
		require.Contains(t, known, admin.ID())
		_, hello := back(t, c.servers[1], clients[0], "d0")
		require.True(t, *hello.Recovered)
	})
}

// teller is a node that tells of sockets that do not exist.
type teller struct {
	*liar
	c      *nodes
	record map[string]any
}

// teller adds one to the cluster. node is its name in records.
func (c *nodes) teller(node string) *teller {
	c.t.Helper()
	l := &teller{liar: &liar{adapter: c.hub.Node(), node: node}, c: c}
	for _, l.liar.record = range realtime.SharedSockets(c.servers[0].Realtime) {
		require.NoError(c.t, json.Unmarshal([]byte(l.liar.record), &l.record))
	}
	l.record["node"] = node
	require.NoError(c.t, l.adapter.Start(c.t.Context(), nobody{}))
	c.t.Cleanup(func() { _ = l.adapter.Close(context.Background()) })
	return l
}

// fakeID is the id of a socket that does not exist.
func fakeID(n int) string {
	id := make([]byte, 20)
	binary.BigEndian.PutUint64(id, uint64(n))
	return base64.RawURLEncoding.EncodeToString(id)
}

// told is a message of a teller: sockets that are open, and those whose clients cannot come back.
type told struct {
	first    bool
	from, to int
	turn     int
	gone     []int
}

func (l *teller) tells(messages ...told) {
	l.c.t.Helper()
	for _, m := range messages {
		open := []map[string]any{}
		for n := m.from; n < m.to; n++ {
			one := maps.Clone(l.record)
			one["id"], one["turn"] = fakeID(n), m.turn
			open = append(open, one)
		}
		var gone []string
		for _, n := range m.gone {
			gone = append(gone, fakeID(n))
		}
		text, err := json.Marshal(map[string]any{"sockets": map[string]any{"mark": l.node + "-------", "first": m.first, "open": open, "gone": gone}})
		require.NoError(l.c.t, err)
		time.Sleep(5 * time.Millisecond)
		l.say(realtime.NamespaceDrivers, string(text))
		require.NoError(l.c.t, l.c.hub.Wait(l.c.t.Context()))
	}
}

// fakes returns which of the sockets that do not exist a node knows.
func fakes(s *realtimetest.Server) (known []int) {
	all := realtime.KnownSockets(s.Realtime)
	for n := range 300 {
		if _, ok := all[fakeID(n)]; ok {
			known = append(known, n)
		}
	}
	return known
}

func upto(from, to int) (all []int) {
	for n := from; n < to; n++ {
		all = append(all, n)
	}
	return all
}

// What is not told again is gone when the telling has ended, and not before.
func TestRecoveryShare_NotToldAgain(t *testing.T) {
	for name, c := range map[string]struct {
		messages []told
		known    []int
	}{
		"under way":                  {[]told{{first: true, from: 0, to: full}}, upto(0, 70)},
		"at the end":                 {[]told{{first: true, from: 0, to: full}, {from: full, to: 66}}, upto(0, 66)},
		"the last one is empty":      {[]told{{first: true, from: 0, to: full}, {}}, upto(0, full)},
		"in one message":             {[]told{{first: true, from: 10, to: 20}}, upto(10, 20)},
		"nothing":                    {[]told{{first: true}}, nil},
		"a change afterwards":        {[]told{{first: true, from: 0, to: full}, {}, {from: 100, to: 101}}, append(upto(0, full), 100)},
		"a change alone":             {[]told{{from: 100, to: 101}}, append(upto(0, 70), 100)},
		"begun anew, under way":      {[]told{{first: true, from: 6, to: 70}, {first: true, from: 0, to: full}}, upto(0, 70)},
		"begun anew, at the end":     {[]told{{first: true, from: 6, to: 70}, {first: true, from: 0, to: full}, {}}, upto(0, full)},
		"the second one was cut off": {[]told{{first: true, from: 0, to: full}, {first: true, from: 0, to: full}, {from: full, to: 69}}, upto(0, 69)},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 1)
				n.servers[0].Driver(t, "d1")
				l := n.teller("LIAR--")
				l.tells(told{first: true, from: 0, to: full}, told{from: full, to: 70})
				require.Equal(t, upto(0, 70), fakes(n.servers[0]))
				l.tells(c.messages...)
				require.Equal(t, c.known, fakes(n.servers[0]))
			})
		})
	}
}

// If a part of the telling may be lost, the next one says what is gone.
func TestRecoveryShare_GapMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNodes(t, 2)
		n.servers[0].Driver(t, "d1")
		l := n.teller("LIAR--")
		l.tells(told{first: true, from: 0, to: full}, told{from: full, to: 70}, told{first: true, from: 0, to: full})
		n.adapters[1].Cut()
		time.Sleep(time.Millisecond)
		n.adapters[1].Heal()
		l.tells(told{})
		require.Equal(t, upto(0, full), fakes(n.servers[0]))
		require.Equal(t, upto(0, 70), fakes(n.servers[1]))
		l.tells(told{first: true, from: 0, to: full}, told{})
		require.Equal(t, upto(0, full), fakes(n.servers[1]))
	})
}

// A socket that its client has taken to another node is not taken back, whether it is told again or not.
func TestRecoveryShare_MovedMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNodes(t, 1)
		n.servers[0].Driver(t, "d1")
		l, other := n.teller("LIAR--"), n.teller("OTHER-")
		l.tells(told{first: true, from: 0, to: full}, told{from: full, to: 70}, told{first: true, from: 0, to: full})
		other.tells(told{from: 60, to: 66, turn: 1})
		l.tells(told{from: 6, to: 70}, told{})
		other.tells(told{first: true, from: 60, to: 66, turn: 1})
		l.tells(told{first: true})
		require.Equal(t, upto(60, 66), fakes(n.servers[0]))
		for _, record := range realtime.KnownSockets(n.servers[0].Realtime) {
			require.Contains(t, record, "OTHER-")
		}
	})
}

// A socket that was closed meanwhile stays closed.
func TestRecoveryShare_GoneMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNodes(t, 1)
		n.servers[0].Driver(t, "d1")
		l := n.teller("LIAR--")
		l.tells(told{first: true, from: 0, to: full}, told{from: full, to: 70}, told{first: true, from: 0, to: full}, told{from: full, to: 69, gone: []int{3, 69}})
		require.Equal(t, upto(0, 70), fakes(n.servers[0]))
		time.Sleep(2 * time.Second)
		l.tells(told{from: 100, to: 101})
		require.Equal(t, append(slices.DeleteFunc(upto(0, 69), func(n int) bool { return n == 3 }), 100), fakes(n.servers[0]))
	})
}

// What may be gone takes no space from what is there.
func TestRecoveryShare_Space(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNodes(t, 1, func(o *realtime.Options) { o.Recovery.Sockets = 100 })
		n.servers[0].Driver(t, "d1")
		l := n.teller("LIAR--")
		l.tells(told{first: true, from: 0, to: full}, told{from: full, to: 110})
		require.Equal(t, upto(0, 100), fakes(n.servers[0]))
		time.Sleep(2 * time.Second)
		l.tells(told{first: true, from: 100, to: 100 + full}, told{from: 100 + full, to: 200})
		require.Equal(t, upto(100, 200), fakes(n.servers[0]))
	})
}

// While a node tells of its sockets, the others are asked for one that is not known.
func TestRecoveryShare_AsksMeanwhile(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		n := newNodes(t, 1)
		former := n.servers[0].Driver(t, "d1")
		l := &liar{adapter: n.hub.Node(), node: "LIAR--", part: func(string) []string { return []string{`"n":0,"last":true`} }}
		for _, l.record = range realtime.SharedSockets(n.servers[0].Realtime) {
			break
		}
		n.kill(0)
		fresh := n.start()
		n.inherits(1)
		other := n.teller("OTHER-")
		time.Sleep(3 * time.Minute)
		require.NoError(t, l.adapter.Start(t.Context(), l))
		t.Cleanup(func() { _ = l.adapter.Close(context.Background()) })
		time.Sleep(time.Second)
		_, hello := back(t, fresh, former, "d1")
		require.False(t, *hello.Recovered, "it knows everything")
		other.tells(told{first: true, from: 0, to: full})
		_, hello = back(t, fresh, former, "d1")
		require.True(t, *hello.Recovered)
	})
}
