package engineio_test

import (
	"io"
	"math/rand/v2"
	"slices"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

const (
	pingInterval = 25 * time.Second
	pingTimeout  = 20 * time.Second
	tick         = 50 * time.Millisecond // of the timing wheel: a timer may fire one tick early
)

// within checks that something took at most d, and not much less.
func within(t *testing.T, d, took time.Duration) {
	t.Helper()
	require.LessOrEqual(t, took, d)
	require.Greater(t, took, d-2*tick)
}

// silence measures how long a session lasts from now.
func silence(h *handler) <-chan time.Duration {
	began, lasted := time.Now(), make(chan time.Duration, 1)
	go func() {
		reason := <-h.closed
		if reason == engineio.ReasonPingTimeout {
			lasted <- time.Since(began)
		}
		close(lasted)
	}()
	return lasted
}

func TestSession_SilentWebSocketTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		c := s.websocket()
		began := time.Now()
		lasted := silence(c.h)
		_ = c.conn.SetReadDeadline(time.Time{})
		b, err := c.in.Peek(3)
		require.NoError(t, err)
		require.Equal(t, "\x81\x012", string(b))
		within(t, pingInterval, time.Since(began))
		within(t, pingInterval+pingTimeout, <-lasted)
		require.Zero(t, s.Len())
	})
}

func TestSession_SilentPollingTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		began := time.Now()
		lasted := silence(p.h)
		p.expect("2")
		within(t, pingInterval, time.Since(began))
		p.expectGone()
		within(t, pingInterval+pingTimeout, <-lasted)
		require.Zero(t, s.Len())
		p.expectUnknown()
	})
}

// A polling client that never polls gets no ping, and times out.
func TestSession_AbsentPollingTimesOut(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		within(t, pingInterval+pingTimeout, <-silence(s.polling().h))
		require.Zero(t, s.Len())
	})
}

// Each pong, however late, starts another interval; when the pongs stop, the session
// times out.
func TestSession_PongsKeepItAlive(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		ws, p := s.websocket(), s.polling()
		for range 20 {
			ws.ping()
			p.expect("2")
			time.Sleep(time.Duration(rand.Int64N(int64(pingTimeout - 4*tick))))
			ws.send("3")
			p.postOK("3")
			synctest.Wait()
		}
		require.Equal(t, 2, s.Len())
		a, b := silence(ws.h), silence(p.h)
		go func() { _, _ = io.Copy(io.Discard, ws.in) }() // a pipe has no buffer
		within(t, pingInterval+pingTimeout, <-a)
		within(t, pingInterval+pingTimeout, <-b)
	})
}

// ping reads the ping that is due.
func (c *wsClient) ping() {
	c.t.Helper()
	_ = c.conn.SetReadDeadline(time.Time{})
	b := make([]byte, 3)
	for i := range b {
		var err error
		b[i], err = c.in.ReadByte()
		require.NoError(c.t, err)
	}
	require.Equal(c.t, "\x81\x012", string(b))
}

// Any whole packet after a ping proves that the client lives: on a slow line its pong stands
// behind events. What came before the ping proves nothing.
func TestSession_AnyPacketAnswersAPing(t *testing.T) {
	t.Parallel()
	for name, packet := range map[string]string{"a message": "4a", "a noop": "6", "a pong": "3"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			synctest.Test(t, func(t *testing.T) {
				s := startInMemory(t, recordMessages)
				c, p := s.websocket(), s.polling()
				for range 9 {
					c.send("3", packet)
					p.postOK(joined("3", packet))
					time.Sleep(2 * time.Second)
				}
				for range 3 { // the pong itself is overdue each time
					c.ping()
					p.expect("2")
					time.Sleep(pingTimeout - time.Second)
					c.send(packet)
					p.postOK(packet)
					time.Sleep(2 * time.Second)
					c.send("3")
					p.postOK("3")
					synctest.Wait()
				}
				require.Equal(t, 2, s.Len())
				// The part of a packet is none.
				c.ping()
				p.expect("2")
				began := time.Now()
				c.write(frameBytes(opText, "4a")) // a fragment
				c.write(frameBytes(0x80|opPing, "from a proxy"))
				go func() { _, _ = io.Copy(io.Discard, c.in) }()
				a, b := silence(c.h), silence(p.h)
				<-a
				<-b
				within(t, pingTimeout, time.Since(began))
			})
		})
	}
}

// The same for a client of protocol 3, whose ping stands behind events.
func TestSession_AnyPacketIsAPingEIO3(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages, allowEIO3)
		c := s.websocketEIO3("")
		for range 3 {
			time.Sleep(pingInterval + pingTimeout - time.Second)
			c.send("4a")
			synctest.Wait()
		}
		require.Equal(t, 1, s.Len())
		within(t, pingInterval+pingTimeout, <-silence(c.h))
	})
}

func TestSession_HeartbeatAcrossAnUpgrade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		p.expect("2")
		c := p.upgrade()
		c.send("3")
		c.ping()
		within(t, pingInterval+pingTimeout-pingInterval, <-silence(p.h))
	})
}

// A timer callback that begins when a close or a pong has come first does nothing: the
// close keeps its time to deliver, and the next ping is not early.
func TestSession_TimerThatWasOvertaken(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		p.h.Send(text("sent first"))
		p.h.Close(engineio.ReasonForcedClose)
		p.h.FireTimer()
		p.expect("4sent first")
		p.expectGone()

		c := s.websocket()
		c.ping()
		c.send("3")
		synctest.Wait()
		c.h.FireTimer()
		began := time.Now()
		c.ping()
		within(t, pingInterval, time.Since(began))
	})
}

// A client of protocol 4 must not send pings.
func TestSession_PingFromTheClient(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		for _, packet := range []string{"2", "2probe"} {
			c := s.websocket()
			c.send(packet)
			require.Equal(t, engineio.ReasonParseError, <-c.h.closed)
			op, _, err := c.frame()
			require.NoError(t, err)
			require.EqualValues(t, opClose, op)

			p := s.polling()
			status, _ := p.post(packet)
			require.Equal(t, 400, status)
			require.Equal(t, engineio.ReasonParseError, <-p.h.closed)
		}
	})
}

// A ping overtakes the messages that wait: a client closes the connection if no ping comes within
// interval and timeout, and a poll of a slow line takes 16 of thousands.
func TestSession_PingOvertakesWhatWaits(t *testing.T) {
	t.Run("polling", func(t *testing.T) {
		t.Parallel()
		synctest.Test(t, func(t *testing.T) {
			s := startInMemory(t, recordMessages)
			p := s.polling()
			const n = 16 * 500 // at two polls a second it takes some minutes
			for i := range n {
				require.True(t, p.h.Send(text(strconv.Itoa(i))))
			}
			began, pings, next := time.Now(), 0, 0
			last := began
			for next < n {
				time.Sleep(time.Second / 2)
				_, body := p.poll()
				for packet := range strings.SplitSeq(body, "\x1e") {
					if packet == "2" {
						require.Less(t, time.Since(last), pingInterval+pingTimeout/2)
						pings, last = pings+1, time.Now()
						p.postOK("3")
						continue
					}
					require.Equal(t, "4"+strconv.Itoa(next), packet)
					next++
				}
			}
			require.InDelta(t, time.Since(began).Seconds()/pingInterval.Seconds(), pings, 2)
		})
	})
	// What the kernel has comes first.
	onEach(t, func(t *testing.T, c carrier) {
		s := start(t, c, smallBuffers, recordMessages, func(set *setup) { set.engine.PingInterval = 2 * time.Second })
		ws, sent := s.stall()
		for _, packet := range numbered("4", 1000) {
			require.True(t, ws.h.Send(text(packet[1:])))
		}
		before, _ := ws.h.Queued()
		testkit.Eventually(t, "no ping", func() bool {
			messages, _ := ws.h.Queued()
			return messages > before
		})
		want := slices.Concat(sent, numbered("4", 1000))
		ping := -1
		for next := 0; next < len(want); {
			_, payload, err := ws.frame()
			require.NoError(t, err)
			if string(payload) == "2" {
				ping = next
				continue
			}
			require.Equal(t, want[next], string(payload))
			next++
		}
		require.GreaterOrEqual(t, ping, 0)
		require.LessOrEqual(t, ping, len(sent))
	})
}
