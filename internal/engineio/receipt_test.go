// Receipts by heartbeat: which pong proves that a client has read the messages, and which does not.

package engineio_test

import (
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// receiver is a session with an open gate, and the numbers of the messages that were received.
type receiver struct {
	t    *testing.T
	h    *handler
	gate engineio.Gate
	got  chan string
}

func newReceiver(t *testing.T, h *handler) *receiver {
	r := &receiver{t: t, h: h, got: make(chan string, 1000)}
	h.OpenGate(&r.gate)
	return r
}

// send sends a message with a receipt, and reports whether there will be one.
func (r *receiver) send(data string) bool {
	r.t.Helper()
	sent, receipts := r.h.SendReceipted(&r.gate, func() { r.got <- data }, text(data))
	require.True(r.t, sent)
	return receipts
}

// expect checks which messages were received since the last call.
func (r *receiver) expect(want ...string) {
	r.t.Helper()
	synctest.Wait()
	var got []string
	for len(r.got) > 0 {
		got = append(got, <-r.got)
	}
	require.Equal(r.t, want, got)
}

func TestSession_ReceiptIsThePongBehindTheMessage(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages)
		c, p := s.websocket(), s.polling()
		ws, polled := newReceiver(t, c.h), newReceiver(t, p.h)

		require.True(t, ws.send("a"))
		require.True(t, ws.send("b"))
		c.expect("4a", "2", "4b", "2")
		c.send("4an event proves nothing")
		ws.expect()
		c.send("3")
		ws.expect("a")
		c.send("3")
		ws.expect("b")
		c.send("3", "3", "3")
		ws.expect()

		require.True(t, polled.send("a"))
		p.h.Send(text("between"))
		require.True(t, polled.send("b"))
		p.postOK("3") // nothing was sent yet
		polled.expect()
		p.expect("4a", "2", "4between", "4b", "2")
		p.postOK("3")
		polled.expect("a")
		p.postOK(joined("3", "3"))
		polled.expect("b")
	})
}

// A pong that nobody asked for proves nothing, however many come.
func TestSession_PongThatNobodyAskedForIsNoReceipt(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		r := newReceiver(t, p.h)
		for range 5 {
			p.postOK(joined("3", "3", "3"))
			require.True(t, r.send("a"))
			p.postOK(joined("3", "3"))
			r.expect()
			p.expect("4a", "2")
			r.expect()
			p.postOK("3")
			r.expect("a")
		}
		// Nor one for a ping of the heartbeat that is still queued.
		testkit.Eventually(t, "no ping", func() bool { n, _ := p.h.Queued(); return n == 1 })
		p.postOK("3")
		require.True(t, r.send("b"))
		p.expect("2", "4b", "2")
		p.postOK("3")
		r.expect()
		p.postOK("3")
		r.expect("b")
	})
}

// Pings of the heartbeat that are not answered come first, also those that overtake the message.
func TestSession_ReceiptAmongPingsOfTheHeartbeat(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages)
		c, p := s.websocket(), s.polling()
		r, q := newReceiver(t, c.h), newReceiver(t, p.h)
		for range 3 { // three pings are answered by other packets only
			c.ping()
			c.send("4alive")
			p.expect("2")
			p.postOK("4alive")
		}
		require.True(t, r.send("a"))
		c.expect("4a", "2")
		require.True(t, q.send("a"))
		p.expect("4a", "2")
		c.ping() // and one comes after it
		c.send("3", "3", "3")
		p.expect("2")
		p.postOK(joined("3", "3", "3"))
		r.expect()
		q.expect()
		c.send("3")
		r.expect("a")
		p.postOK("3")
		q.expect("a")
		require.True(t, r.send("a2")) // while that one is not answered
		c.expect("4a2", "2")
		c.send("3")
		p.postOK("3")
		r.expect()
		c.send("3")
		r.expect("a2")
		require.True(t, q.send("b"))
		require.True(t, r.send("b"))
		c.expect("4b", "2")
		c.send("3")
		r.expect("b")

		// While b waits, a ping overtakes it.
		testkit.Eventually(t, "no ping", func() bool { n, _ := p.h.Queued(); return n == 3 })
		require.True(t, q.send("c"))
		p.expect("2", "4b", "2", "4c", "2")
		p.postOK("3")
		q.expect()
		p.postOK("3")
		q.expect("b")
		p.postOK("3")
		q.expect("c")
	})
}

// The transport changes between the ping and the pong, and between the message and the ping.
func TestSession_ReceiptAcrossAnUpgrade(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		r := newReceiver(t, p.h)
		require.True(t, r.send("before"))
		p.expect("4before", "2")
		c := p.probe()
		require.True(t, r.send("during"))
		p.h.Send(text("more"))
		c.send("5", "3") // the pong that the client has kept meanwhile
		c.expect("4during", "2", "4more")
		r.expect("before")
		c.send("3")
		r.expect("during")
		c.send("3")
		r.expect()

		// The same, polled in the middle of an upgrade and answered after it.
		p = s.polling()
		r = newReceiver(t, p.h)
		c = p.probe()
		require.True(t, r.send("polled"))
		p.expect("4polled", "2")
		p.postOK("3")
		r.expect("polled")
		require.True(t, r.send("polled too"))
		p.expect("4polled too", "2")
		c.send("5", "3")
		r.expect("polled too")
	})
}

// Clients of EIO3 send the pings: there is no proof. An ack of the app is one.
func TestSession_NoReceiptByHeartbeatEIO3(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, allowEIO3)
		c := s.websocketEIO3("")
		r := newReceiver(t, c.h)
		require.False(t, r.send("a"))
		c.expect("4a")
		c.send("2")
		c.expect("3")
		r.expect()
	})
}

// The number of awaited receipts is bounded, and so is what is known of a client that answers no
// ping. The messages are sent all the same.
func TestSession_ReceiptsAreBounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages)
		p := s.polling()
		r := newReceiver(t, p.h)
		const most = 64
		var want []string
		for i := range most {
			want = append(want, strconv.Itoa(i))
			require.True(t, r.send(want[i]))
		}
		require.False(t, r.send("too many"))
		for left := 2*most + 1; left > 0; {
			_, body := p.poll()
			left -= strings.Count(body, "\x1e") + 1
		}
		for range most {
			p.postOK("3")
		}
		r.expect(want...)
		require.True(t, r.send("again"))
		p.expect("4again", "2")
		p.postOK("3")
		r.expect("again")

		for range 300 {
			p.expect("2")
			p.postOK("4alive")
		}
		require.False(t, r.send("nothing is known"))
		p.expect("4nothing is known")
		for range 400 {
			p.postOK("3")
		}
		require.False(t, r.send("nor now"))
		p.expect("4nor now")
		r.expect()
	})
}

// The same of a client that answers no ping while a receipt is awaited.
func TestSession_ReceiptOfASilentClientIsGivenUp(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t, recordMessages)
		p := s.polling()
		r := newReceiver(t, p.h)
		require.True(t, r.send("a"))
		p.expect("4a", "2")
		for range 600 {
			p.expect("2")
			p.postOK("4alive")
		}
		require.False(t, r.send("b"))
		p.expect("4b")
		for range 700 {
			p.postOK("3")
		}
		r.expect()
	})
}

// A gate that is not open, or a session that has ended, sends nothing.
func TestSession_SendReceiptedNeedsAnOpenGate(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		s := startInMemory(t)
		p := s.polling()
		var g engineio.Gate
		never := func() { t.Error("received") }
		sent, receipts := p.h.SendReceipted(&g, never, text("a"))
		require.False(t, sent || receipts)
		p.h.OpenGate(&g)
		sent, receipts = p.h.SendReceipted(&g, never, text("b"))
		require.True(t, sent && receipts)
		p.h.Close(engineio.ReasonForcedClose)
		p.expect("4b", "2")
		p.postOK("3")
		sent, receipts = p.h.SendReceipted(&g, never, text("c"))
		require.False(t, sent || receipts)
		p.expectGone()
	})
}

// The measurement of heartbeats ignores the pongs of receipts.
func TestSession_HeartbeatIsNotMeasuredByReceipts(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		measured := make(chan time.Duration, 100)
		s := startInMemory(t, func(set *setup) {
			set.engine.Heartbeat = func(_ engineio.Handler, d time.Duration) { measured <- d }
		})
		p := s.polling()
		r := newReceiver(t, p.h)
		require.True(t, r.send("a"))
		p.expect("4a", "2")
		p.expect("2")
		p.postOK("3")
		r.expect("a")
		require.Empty(t, measured)
		p.postOK("3")
		synctest.Wait()
		require.Len(t, measured, 1)
	})
}
