// A node inherits a large log, while events come.

package realtime_test

import (
	"context"
	"encoding/base64"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// fill makes the first node emit events of a size, to a driver who is not there.
func (c *nodes) fill(events, size int) {
	c.t.Helper()
	c.fillIn(c.servers[0].Realtime.Drivers(), events, size)
}

// fillIn emits events of a size in a namespace, to nobody.
func (c *nodes) fillIn(ns *realtime.Namespace, events, size int) {
	c.t.Helper()
	text := realtime.NewEvent[string]("text")
	for range events {
		require.NoError(c.t, text.Emit(ns.To(realtime.DriverRoom("d2")), strings.Repeat("x", size)))
	}
}

// lose makes a node tell of sockets with twenty rooms, and end.
func (c *nodes) lose(sockets int) {
	c.t.Helper()
	c.servers[0].Driver(c.t, "d1")
	var record map[string]any
	for _, text := range realtime.SharedSockets(c.servers[0].Realtime) {
		require.NoError(c.t, json.Unmarshal([]byte(text), &record))
	}
	var rooms []map[string]string
	for n := range 20 {
		rooms = append(rooms, map[string]string{"name": fmt.Sprintf("team:%060d", n)})
	}
	record["node"], record["rooms"] = "OTHER-", rooms
	other := &liar{adapter: c.hub.Node()}
	require.NoError(c.t, other.adapter.Start(c.t.Context(), nobody{}))
	for first := true; sockets > 0; first = false {
		var open []map[string]any
		for ; sockets > 0 && len(open) < 64; sockets-- {
			id := make([]byte, 20)
			binary.BigEndian.PutUint64(id, uint64(sockets))
			one := maps.Clone(record)
			one["id"] = base64.RawURLEncoding.EncodeToString(id)
			open = append(open, one)
		}
		text, err := json.Marshal(map[string]any{"sockets": map[string]any{"mark": "OTHER--------", "first": first, "open": open}})
		require.NoError(c.t, err)
		other.say(realtime.NamespaceDrivers, string(text))
	}
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
	require.NoError(c.t, other.adapter.Close(c.t.Context()))
	require.NoError(c.t, c.hub.Wait(c.t.Context()))
}

// firstPage is the first page of a log: when it came, and how old it says its first event to be.
type firstPage struct {
	at  time.Time
	age time.Duration
}

// pageSpy records the pages of the logs of some namespaces that it receives. It is read when the nodes are idle.
type pageSpy struct {
	nobody
	namespaces []string
	onPage     func()

	mu      sync.Mutex // guards the fields below
	bytes   int
	largest int       // the size of the largest page
	began   time.Time // when the first page came
	last    time.Time
	first   []firstPage
	left    []time.Time // when a socket has left, as each page says
}

// spies adds one to the cluster. Without namespaces it sees those of /drivers.
func (c *nodes) spies(onPage func(), namespaces ...string) *pageSpy {
	c.t.Helper()
	if len(namespaces) == 0 {
		namespaces = []string{realtime.NamespaceDrivers}
	}
	s := &pageSpy{onPage: onPage, namespaces: namespaces}
	a := c.hub.Node()
	require.NoError(c.t, a.Start(c.t.Context(), s))
	c.t.Cleanup(func() { _ = a.Close(c.t.Context()) })
	return s
}

// took returns how many bytes it has received since the call before.
func (s *pageSpy) took() int {
	s.mu.Lock()
	defer s.mu.Unlock()
	n := s.bytes
	s.bytes = 0
	return n
}

func (s *pageSpy) Deliver(m realtime.ClusterMessage) {
	if m.Op != realtime.OpState || !slices.Contains(s.namespaces, m.Namespace) {
		return
	}
	text, err := json.Marshal(m.State)
	var page struct {
		LogPage *struct {
			N      int
			Lost   []struct{ LeftMS int64 }
			Events []struct{ AgoMS int64 }
		}
	}
	if err != nil || json.Unmarshal(text, &page) != nil || page.LogPage == nil {
		return
	}
	s.mu.Lock()
	s.bytes += len(text)
	s.largest = max(s.largest, len(text))
	s.last = time.Now()
	if s.began.IsZero() {
		s.began = s.last
	}
	if page.LogPage.N == 0 && len(page.LogPage.Events) > 0 {
		s.first = append(s.first, firstPage{s.last, time.Duration(page.LogPage.Events[0].AgoMS) * time.Millisecond})
	}
	if n := len(page.LogPage.Lost); n > 0 {
		s.left = append(s.left, s.last.Add(-time.Duration(page.LogPage.Lost[n-1].LeftMS)*time.Millisecond))
	}
	s.mu.Unlock()
	s.onPage()
}

// What is emitted meanwhile does not wait behind the log.
func TestRecoveryInherit_Pace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0) // nothing, from nobody
		c.fill(100, 100<<10)
		fresh := c.start()
		began := time.Now()
		client := fresh.Driver(t, "d1")
		for n := 0; realtime.Inheriting(fresh.Realtime); n++ {
			sent := time.Now()
			c.emit(0, realtime.DriverRoom("d1"), n)
			require.Equal(t, n, realtimetest.Expect(t, client, note))
			require.Less(t, time.Since(sent), 10*time.Millisecond)
			time.Sleep(10 * time.Millisecond)
		}
		require.Greater(t, time.Since(began), 800*time.Millisecond, "10 MB, 12 MB a second")
		require.Less(t, time.Since(began), 2*time.Second)
	})
}

// The logs of all namespaces keep to the pace together, also those that go to several nodes.
func TestRecoveryInherit_PaceOfAll(t *testing.T) {
	for name, c := range map[string]struct{ namespaces, fresh int }{
		"three namespaces": {3, 1},
		"three nodes":      {1, 3},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 1)
				n.inherits(0)
				first := n.servers[0].Realtime
				for _, ns := range []*realtime.Namespace{first.Drivers(), first.Passengers(), first.Admin()}[:c.namespaces] {
					n.fillIn(ns, 20, 100<<10)
				}
				s := n.spies(func() {}, realtime.NamespaceDrivers, realtime.NamespacePassengers, realtime.NamespaceAdmin)
				for range c.fresh {
					n.start()
				}
				for node := range n.servers {
					n.inherits(node)
				}
				n.settle()
				require.Len(t, s.first, 3)
				require.Greater(t, s.bytes, 60*(100<<10))
				require.Greater(t, s.last.Sub(s.began), 450*time.Millisecond, "6 MB, 12 MB a second")
				require.Less(t, s.last.Sub(s.began), time.Second)
			})
		})
	}
}

// An event is sent with the names of its rooms, which may be larger than the event.
func TestRecoveryInherit_PaceOfRooms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		var rooms []realtime.Room
		for n := range 200 {
			rooms = append(rooms, realtime.NewRoom("team", fmt.Sprintf("%040d", n)))
		}
		for n := range 500 {
			require.NoError(t, note.Emit(c.servers[0].Realtime.Drivers().To(rooms...), n))
		}
		s := c.spies(func() {})
		c.start()
		c.inherits(1)
		c.settle()
		require.Greater(t, s.bytes, 9<<19)
		require.Greater(t, s.last.Sub(s.began), 350*time.Millisecond, "4.5 MB, 12 MB a second")
		require.Less(t, s.largest, 100<<10)
	})
}

// The sockets of nodes that are gone, with their rooms, keep to the pace too. They are as old as they are, however many
// pages come before them.
func TestRecoveryInherit_Sockets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		c.lose(2500)
		lost := time.Now()
		time.Sleep(5 * time.Second)
		s := c.spies(func() {})
		fresh := c.start()
		c.inherits(1)
		c.settle()
		require.Len(t, realtime.KnownSockets(fresh.Realtime), 2500+1, "and the driver of the first node")
		require.Greater(t, s.bytes, 4<<20)
		require.Greater(t, s.last.Sub(s.began), 300*time.Millisecond, "4 MB, 12 MB a second")
		require.Less(t, s.largest, 100<<10)
		require.Greater(t, len(s.left), 50)
		for _, says := range s.left {
			require.WithinDuration(t, lost, says, 20*time.Millisecond)
		}
	})
}

// The log is as full as it may be and events come, or one event is very large.
func TestRecoveryInherit_Large(t *testing.T) {
	for name, c := range map[string]struct{ before, size, during int }{
		"full":             {90, 100 << 10, 0},
		"full, and events": {90, 100 << 10, 10 << 10},
		"a large event":    {1, 13 << 20, 0},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				limits := func(o *realtime.Options) {
					o.Recovery.Bytes, o.Limits.OutboxBytes = max(8<<20, 2*c.size), max(4<<20, 2*c.size)
				}
				n := newNodes(t, 1, limits)
				n.inherits(0)
				room := realtime.DriverRoom("d1")
				former := n.servers[0].Driver(t, "d1")
				n.fill(c.before, c.size)
				n.emit(0, room, 0)
				require.Equal(t, 0, realtimetest.Expect(t, former, note))
				n.settle()
				former.Stall()
				n.emit(0, room, 1)
				fresh := n.start(limits)
				for realtime.Inheriting(fresh.Realtime) {
					time.Sleep(20 * time.Millisecond)
					if c.during > 0 {
						n.fill(1, c.during)
					}
				}
				n.kill(0)
				former.Drop()
				client, hello := back(t, fresh, former, "d1")
				recovers(t, client, hello, former, 1)
			})
		})
	}
}

// More is emitted than is sent of the log: the node gives up, and the other one stops.
func TestRecoveryInherit_TooMuchComes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		limit := func(o *realtime.Options) { o.Recovery.Bytes = 256 << 10 }
		c := newNodes(t, 1, limit)
		c.inherits(0)
		c.fill(2, 100<<10)
		s := c.spies(func() { c.fill(2, 100<<10) })
		c.start(limit)
		c.inherits(1)
		gaveUp := time.Now()
		time.Sleep(10 * time.Second)
		c.settle()
		require.Less(t, s.last.Sub(gaveUp), time.Second)
		require.Less(t, s.bytes, 1<<20, "half a megabyte, once")
	})
}

// A node that can take over no log any more, or not this one, does not ask every node for it again and again.
func TestRecoveryInherit_CannotEver(t *testing.T) {
	const full = 20 * (100 << 10)
	none := func(*realtime.Options) {}
	for name, c := range map[string]struct {
		limit     func(o *realtime.Options)
		gap       bool
		meanwhile bool // the gap
		most      int
	}{
		"a gap before it asks":             {none, true, false, 0},
		"a gap meanwhile":                  {none, true, true, full + full/10},
		"an event is too large for it":     {func(o *realtime.Options) { o.Limits.OutboxBytes = 64 << 10 }, false, false, full + full/10},
		"the log is much too large for it": {func(o *realtime.Options) { o.Recovery.Bytes = 256 << 10 }, false, false, full / 2},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				n := newNodes(t, 2)
				n.inherits(0)
				n.inherits(1)
				n.fill(20, 100<<10)
				n.settle()
				paged := make(chan struct{}, 1)
				s := n.spies(func() {
					select {
					case paged <- struct{}{}:
					default:
					}
				})
				fresh := n.start(c.limit)
				if c.meanwhile {
					<-paged
				}
				if c.gap {
					n.adapters[2].Cut()
					n.adapters[2].Heal()
				}
				time.Sleep(time.Minute)
				require.NoError(t, n.hub.Wait(t.Context()))
				require.False(t, realtime.Inheriting(fresh.Realtime))
				require.LessOrEqual(t, s.bytes, c.most, "%d times the log", s.bytes/full)
			})
		})
	}
}

// A node that shuts down sends its log to the end.
func TestRecoveryInherit_Shutdown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		room := realtime.DriverRoom("d1")
		former := c.servers[0].Driver(t, "d1")
		c.emit(0, room, 0)
		require.Equal(t, 0, realtimetest.Expect(t, former, note))
		c.settle()
		c.cut(0, former)
		c.emit(0, room, 1)
		c.fill(100, 100<<10)
		fresh := c.start()
		time.Sleep(300 * time.Millisecond)
		require.True(t, realtime.Inheriting(fresh.Realtime))
		began := time.Now()
		require.NoError(t, c.servers[0].Realtime.Shutdown(t.Context()))
		require.Less(t, time.Since(began), time.Second, "10 MB, 12 MB a second")
		c.inherits(1)
		client, hello := back(t, fresh, former, "d1")
		recovers(t, client, hello, former, 1)
	})
}

// It does not wait for longer than it may.
func TestRecoveryInherit_ShutdownInTime(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		c.fill(100, 100<<10)
		fresh := c.start()
		time.Sleep(100 * time.Millisecond)
		require.True(t, realtime.Inheriting(fresh.Realtime))
		ctx, cancel := context.WithTimeout(t.Context(), 600*time.Millisecond)
		defer cancel()
		began := time.Now()
		require.EqualError(t, c.servers[0].Realtime.Shutdown(ctx), "realtime: shutdown: a node that has begun lacks events for Recovery: context deadline exceeded")
		require.LessOrEqual(t, time.Since(began), 600*time.Millisecond)
		c.inherits(1)
	})
}

// An event is as old on the node that inherits it, and on the one that inherits it from there.
func TestRecoveryInherit_Ages(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		c.fill(60, 100<<10) // half a second of pages
		emitted := time.Now()
		s := c.spies(func() {})
		for node := 1; node < 4; node++ {
			c.start()
			c.inherits(node)
			synctest.Wait()
			require.Len(t, s.first, node)
			first := s.first[node-1]
			require.InDelta(t, first.at.Sub(emitted), first.age, float64(100*time.Millisecond))
			c.kill(node - 1)
			time.Sleep(5 * time.Second)
		}
	})
}

// A node that shuts down waits for those alone that get its log, not for those that have left, have died or have given up. Nobody is
// sent what they do not take.
func TestRecoveryInherit_AskerGone(t *testing.T) {
	const size, events = 100 << 10, 300 // 30 MB, more than 2 s
	for name, gone := range map[string]func(c *nodes){
		"killed": func(c *nodes) { c.kill(1) },
		"left":   func(c *nodes) { require.NoError(c.t, c.servers[1].Realtime.Shutdown(c.t.Context())) },
		"has lost something, and cannot take it": func(c *nodes) {
			c.adapters[1].Cut()
			c.adapters[1].Heal()
			time.Sleep(50 * time.Millisecond)
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newNodes(t, 1)
				c.inherits(0)
				c.fill(events, size)
				s := c.spies(func() {})
				c.start()
				time.Sleep(2 * time.Second) // it waits for the spy, which tells of no sockets
				gone(c)
				require.NoError(t, c.hub.Wait(t.Context()))
				sent := s.took()
				require.Greater(t, sent, 1<<20)
				require.Less(t, sent, 15<<20)
				began := time.Now()
				require.NoError(t, c.servers[0].Realtime.Shutdown(t.Context()))
				require.Less(t, time.Since(began), 100*time.Millisecond)
				require.LessOrEqual(t, s.took(), 2*size)
			})
		})
	}
}

// Nodes that end together wait for nobody.
func TestRecoveryInherit_AllShutDown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		c.fill(400, 100<<10)
		for range 3 {
			c.start()
		}
		time.Sleep(300 * time.Millisecond)
		began, done := time.Now(), make(chan error)
		for _, s := range c.servers {
			go func() { done <- s.Realtime.Shutdown(context.Background()) }()
		}
		for range c.servers {
			require.NoError(t, <-done)
		}
		require.Less(t, time.Since(began), time.Second)
	})
}

// A node asks for a log once: the same request again changes nothing, and another one takes the place of the first. An older node does not
// say when it gives up, and does not take it for a request when another one does.
func TestRecoveryInherit_AskedAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newNodes(t, 1)
		c.inherits(0)
		c.servers[0].Driver(t, "d1")
		c.fill(20, 100<<10) // 167 ms
		l := c.teller("LIAR--")
		s := c.spies(func() {})
		var node struct{ Node string }
		require.NoError(t, json.Unmarshal([]byte(l.liar.record), &node))
		ask := func(more string) { l.say(realtime.NamespaceDrivers, `{"logOf":{`+more+`}}`) }
		request := `"node":"` + node.Node + `","log":`
		for range 20 {
			ask(request + `"first"`)
		}
		time.Sleep(time.Second)
		ask(request + `"first"`) // it was sent
		time.Sleep(time.Second)
		require.InDelta(t, 20*100<<10, s.took(), 100<<10, "once")

		for n := range 20 {
			ask(request + fmt.Sprintf(`"again%d"`, n))
		}
		time.Sleep(time.Second)
		require.Less(t, s.took(), 42*(100<<10), "a page of each that was given up")

		ask(request + `"third"`)
		ask(`"log":"another","stop":true`)
		ask(`"log":"third","stop":true`)
		time.Sleep(time.Second)
		require.LessOrEqual(t, s.took(), 120<<10)
	})
}
