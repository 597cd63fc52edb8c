package engineio_test

import (
	"fmt"
	"strconv"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// smallBuffers makes the kernel buffer little for a client that does not read.
func smallBuffers(set *setup) { set.sendBuffer = 16 << 10 }

// stall opens a websocket whose client does not read, and sends until it stays not
// writable. It returns the messages sent.
func (s *server) stall() (c *wsClient, sent []string) {
	s.t.Helper()
	c = s.websocket()
	require.NoError(s.t, c.rawTCP().SetReadBuffer(32<<10))
	for blocked := 0; blocked < 50; time.Sleep(time.Millisecond) {
		if !c.h.Writable() {
			blocked++
			continue
		}
		blocked = 0
		packet := fmt.Sprint("4", len(sent), large(20_000))
		sent = append(sent, packet)
		require.True(s.t, c.h.Send(text(packet[1:])))
	}
	return c, sent
}

func latest(key, data string) *engineio.Message {
	m := text(data)
	m.Key = key
	return m
}

func volatile(data string) *engineio.Message {
	m := text(data)
	m.Volatile = true
	return m
}

// Messages are dropped or replaced only for a client that does not read.
func TestSession_SendVolatileAndKeyed(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, smallBuffers)

		ws := s.websocket()
		var want []string
		ws.h.Cork() // queued is not the same as not writable
		for i := range 50 {
			require.True(t, ws.h.Send(latest("k", strconv.Itoa(i))))
			require.True(t, ws.h.Send(volatile(strconv.Itoa(i))))
			want = append(want, fmt.Sprint("4", i), fmt.Sprint("4", i))
		}
		ws.h.Uncork()
		ws.expect(want...)

		slow, sent := s.stall()
		require.True(t, slow.h.Send(latest("a", "a0")))
		require.True(t, slow.h.Send(text("fixed")))
		require.True(t, slow.h.Send(latest("b", "b0")))
		for i := range 100 {
			require.True(t, slow.h.Send(latest("a", fmt.Sprint("a", i+1))))
			require.True(t, slow.h.Send(volatile("dropped")))
			require.True(t, slow.h.Send(latest("b", fmt.Sprint("b", i+1))))
		}
		messages, _ := slow.h.Queued()
		require.LessOrEqual(t, messages, len(sent)+3)
		slow.expect(append(sent, "4a100", "4fixed", "4b100")...)
		testkit.Eventually(t, "not writable again", slow.h.Writable)
		require.True(t, slow.h.Send(volatile("kept")))
		slow.expect("4kept")
	})
}

// A polling client without a poll for a second is not writable.
func TestSession_SendVolatileOnPolling(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		time.Sleep(900 * time.Millisecond)
		require.True(t, p.h.Writable())
		p.h.Send(latest("k", "1"))
		p.h.Send(latest("k", "2"))
		p.h.Send(volatile("3"))
		time.Sleep(200 * time.Millisecond)
		require.False(t, p.h.Writable())
		p.h.Send(latest("k", "4"))
		p.h.Send(volatile("5"))
		p.h.Send(text("6"))
		p.expect("41", "44", "43", "46")
		poll := p.start(t.Context())
		time.Sleep(10 * time.Second)
		require.True(t, p.h.Writable())
		p.h.Send(volatile("7"))
		require.Equal(t, "47", (<-poll).body)
	})
}

// A client that does not read is closed once its outbox is full. It uses no more memory
// than that, and does not affect others.
func TestSession_SlowConsumer(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		const limit = 1 << 20
		s := start(t, c, smallBuffers, func(set *setup) { set.engine.MaxOutboxBytes = limit })
		const n = 400
		var want []string
		for i := range n {
			want = append(want, fmt.Sprint("4", i, large(10_000)))
		}
		slow := s.websocket()
		require.NoError(t, slow.rawTCP().SetReadBuffer(32<<10))
		const keepUp = 4
		var healthy []*wsClient
		read := make(chan error, keepUp)
		for range keepUp {
			ws := s.websocket()
			healthy = append(healthy, ws)
			go func() {
				for _, w := range want {
					op, got, err := ws.frame()
					if err == nil && (op != opText || string(got) != w) {
						err = fmt.Errorf("%d %.20q instead of %.20q", op, got, w)
					}
					if err != nil {
						read <- err
						return
					}
				}
				read <- nil
			}()
		}
		refused := 0
		for _, w := range want {
			m := text(w[1:])
			if !slow.h.Send(m) {
				refused++
			}
			_, bytes := slow.h.Queued()
			require.LessOrEqual(t, bytes, limit)
			for _, ws := range healthy {
				testkit.Eventually(t, "a reader does not get through", func() bool {
					_, bytes := ws.h.Queued()
					return bytes < limit/2
				})
				require.True(t, ws.h.Send(m), "one that reads was cut off")
			}
		}
		for range keepUp {
			require.NoError(t, receive(t, read))
		}
		require.Greater(t, refused, n/4)
		require.Equal(t, engineio.ReasonSlowConsumer, slow.h.ended(t))
		require.False(t, slow.h.Writable())
		require.Equal(t, keepUp, s.Len())
	})
}

func TestSession_SlowConsumerByMessages(t *testing.T) {
	t.Parallel()
	s := start(t, tcp, func(set *setup) { set.engine.MaxOutboxMessages = 100 })
	p := s.polling()
	for i := range 100 {
		require.True(t, p.h.Send(text(strconv.Itoa(i))))
	}
	require.True(t, p.h.Send(volatile("no room")))
	messages, _ := p.h.Queued()
	require.Equal(t, 100, messages)
	require.False(t, p.h.Send(text("one too many")))
	require.Equal(t, engineio.ReasonSlowConsumer, p.h.ended(t))
	messages, bytes := p.h.Queued()
	require.Zero(t, messages)
	require.Zero(t, bytes)
	p.expectUnknown()
}

// A client that reads nothing for WriteTimeout is closed, even if its outbox is not
// full; a client that reads slowly is not.
func TestSession_WriteTimeout(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		for try := 1; !writeTimesOut(t, c); try++ {
			require.Less(t, try, 10, "the machine is too busy to read slowly")
		}
	})
}

// writeTimesOut reports whether it could be seen: the machine may be too busy, so that the client that reads slowly does
// not read for most of the limit.
func writeTimesOut(t *testing.T, c carrier) (seen bool) {
	t.Helper()
	const limit = 2 * time.Second
	s := start(t, c, smallBuffers, func(set *setup) { set.engine.WriteTimeout = limit })
	stuck, _ := s.stall()
	slow, sent := s.stall()
	last := time.Now()
	for len(sent) < 100 {
		sent = append(sent, "4"+large(20_000))
		slow.h.Send(text(sent[len(sent)-1][1:]))
	}
	began := time.Now()
	for _, packet := range sent {
		_, got, err := slow.frame()
		if time.Since(last) > limit/2 {
			return false
		}
		last = time.Now()
		require.NoError(t, err)
		require.Equal(t, packet, string(got))
		if time.Since(began) < 2*limit {
			time.Sleep(limit / 30)
		}
	}
	require.Greater(t, time.Since(began), 2*limit)
	require.Equal(t, engineio.ReasonSlowConsumer, stuck.h.ended(t))
	require.Empty(t, slow.h.closed)
	slow.send("4a")
	slow.expect("4a")
	return true
}

// Pings of a client that does not read are not answered without limit.
func TestSession_PingFloodIsBounded(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, smallBuffers)
		ws, sent := s.stall()
		before, _ := ws.h.Queued()
		ws.write([]byte(strings.Repeat(string(frameBytes(0x80|opPing, large(125))), 5000)))
		ws.send("4a")
		testkit.Eventually(t, "the pings were not read", func() bool {
			messages, _ := ws.h.Queued()
			return messages == before+2 // the last pong and the echo
		})
		ws.expect(sent...)
		op, _, err := ws.frame()
		require.NoError(t, err)
		require.EqualValues(t, opPong, op)
		ws.expect("4a")
	})
}

// Messages of one Send stay together, whatever other goroutines send.
func TestSession_SendKeepsMessagesTogether(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		const senders, n = 4, 200
		var sending sync.WaitGroup
		for i := range senders {
			sending.Go(func() {
				for j := range n {
					data := fmt.Sprint(i, " ", j)
					ws.h.Send(text(data), engineio.BinaryMessage([]byte(data)), text(data))
				}
			})
		}
		next := [senders]int{}
		for range senders * n {
			data := ws.text()
			ws.expectBinary(data[1:])
			ws.expect(data)
			var i, j int
			_, err := fmt.Sscanf(data, "4%d %d", &i, &j)
			require.NoError(t, err)
			require.Equal(t, next[i], j, "reordered")
			next[i]++
		}
		sending.Wait()
	})
}

// Messages sent between Cork and Uncork leave in one write.
func TestSession_CorkJoinsWrites(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		ws := s.websocket()
		synctest.Wait() // who has written the open packet would take what is sent next
		ws.h.Cork()
		for i := range 10 {
			ws.h.Send(text(strconv.Itoa(i)))
			synctest.Wait() // nothing is being written
		}
		ws.h.Uncork()
		b := make([]byte, 1000)
		n, err := ws.conn.Read(b) // a pipe returns one write at a time
		require.NoError(t, err)
		require.Equal(t, 10*4, n)

		ws.h.Cork()
		ws.h.Uncork() // after an Uncork with nothing to flush, later messages still leave
		ws.h.Send(text("later"))
		ws.expect("4later")

		p := s.polling()
		poll := p.start(t.Context())
		synctest.Wait()
		p.h.Cork()
		p.h.Send(text("a"))
		synctest.Wait()
		require.Empty(t, poll)
		p.h.Send(text("b"))
		p.h.Uncork()
		require.Equal(t, joined("4a", "4b"), (<-poll).body)
	})
}

// Corking and sending on many goroutines loses no flush.
func TestSession_CorkRaces(t *testing.T) {
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c)
		ws := s.websocket()
		const senders, n = 4, 300
		for i := range senders {
			go func() {
				for j := range n {
					if (i+j)%3 == 0 {
						ws.h.Cork()
						ws.h.Send(text("a"))
						ws.h.Send(text("a"))
						ws.h.Uncork()
					} else {
						ws.h.Send(text("a"), text("a"))
					}
				}
			}()
		}
		for range 2 * senders * n {
			ws.expect("4a")
		}
	})
}
