package receipts_test

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/receipts"
	"github.com/rodando/realtime/internal/timingwheel"
)

const (
	tick   = 50 * time.Millisecond
	again  = 2 * time.Second
	within = 3 * time.Second
	ack    = 1
)

// node is a table, and what it has done since the last look.
type node struct {
	*receipts.Table[string, string]
	t   *testing.T
	mu  sync.Mutex // guards did
	did []string
}

func newNode(t *testing.T, most int) *node {
	n := &node{t: t}
	w := timingwheel.New(tick)
	t.Cleanup(w.Close)
	n.Table = receipts.New(receipts.Config[string, string]{
		Wheel: w, Again: again, Within: within, Max: most,
		SendAgain: func(v string, devices []string) { n.add("again", v, slices.Sorted(slices.Values(devices))) },
		Report: func(v string, r receipts.Report) {
			switch r.Kind {
			case receipts.Delivered:
				n.add("delivered", v, r.Device, r.By, r.Latency.Round(100*time.Millisecond))
			case receipts.Undelivered:
				n.add("undelivered", v, "devices", r.Devices)
			case receipts.Expired:
				n.add("expired", v)
			}
		},
		Ended: func(v string, devices []string) { n.add("ended", v, slices.Sorted(slices.Values(devices))) },
	})
	return n
}

func (n *node) add(what ...any) {
	n.mu.Lock()
	defer n.mu.Unlock()
	n.did = append(n.did, strings.TrimSuffix(fmt.Sprintln(what...), "\n"))
}

// expect checks what the table has done since the last call.
func (n *node) expect(want ...string) {
	n.t.Helper()
	synctest.Wait()
	n.mu.Lock()
	defer n.mu.Unlock()
	require.Equal(n.t, want, n.did)
	n.did = nil
}

func (n *node) begin(id string, left, delay time.Duration) {
	n.t.Helper()
	ok, full := n.Begin(receipts.Event[string]{Ref: receipts.Ref{ID: id, Same: "1", User: "driver"}, Group: "trip", Left: left, Delay: delay, Value: id})
	require.True(n.t, ok)
	require.False(n.t, full)
}

// send sends an event to a device, and reports whether it had to.
func (n *node) send(id, device string) (called bool) {
	n.Send(ref(id), device, func(v string) bool {
		require.Equal(n.t, id, v)
		called = true
		return true
	})
	return called
}

func ref(id string) receipts.Ref { return receipts.Ref{ID: id, Same: "1"} }

// event is the one that begin begins.
func event(id string) receipts.Event[string] {
	return receipts.Event[string]{Ref: receipts.Ref{ID: id, Same: "1", User: "driver"}, Group: "trip", Left: time.Minute, Value: id}
}

func received(device string) receipts.Receipt { return receipts.Receipt{Device: device, By: ack} }

func bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

func TestTable_FirstReceiptIsDeliveredOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", 20*time.Second, 0)
		require.True(t, n.send("a", "x"))
		require.False(t, n.send("a", "x"), "a device gets it once")
		require.True(t, n.send("a", "y"))
		time.Sleep(time.Second)
		require.True(t, n.Received(ref("a"), "x", received("x")))
		require.False(t, n.Received(ref("a"), "x", received("x")))
		n.expect("delivered a x 1 1s")
		time.Sleep(2 * time.Second)
		n.expect("again a [y]")
		require.True(t, n.Received(ref("a"), "y", received("y")))
		time.Sleep(10 * time.Second)
		n.expect()
		require.True(t, n.End(ref("a"), true))
		n.expect("ended a [x y]")
		require.False(t, n.End(ref("a"), true))
		time.Sleep(time.Hour)
		n.expect()
		require.Zero(t, n.Len())
	})
}

func TestTable_UndeliveredOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", 20*time.Second, 0)
		time.Sleep(within - 2*tick)
		n.expect()
		time.Sleep(3 * tick)
		n.expect("undelivered a devices false")
		require.True(t, n.send("a", "late"), "a new device gets it at once")
		time.Sleep(time.Second)
		require.True(t, n.Received(ref("a"), "late", received("late")))
		n.expect("delivered a late 1 4.1s")
		time.Sleep(17 * time.Second)
		n.expect("ended a [late]", "expired a")
		require.False(t, n.send("a", "later"))
		require.Empty(t, n.Of("driver"))
		time.Sleep(time.Minute)
		n.expect()
		require.Zero(t, n.Len())
	})
}

// A device that does not receive it gets it once again, unless it has closed. The reason tells a
// driver without a device from one whose device is silent.
func TestTable_SendsAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Minute, 0)
		require.True(t, n.send("a", "x"))
		require.True(t, n.send("a", "closed"))
		n.Closed(ref("a"), "closed")
		n.Send(ref("a"), "refused", func(string) bool { return false })
		time.Sleep(again + tick)
		n.expect("again a [x]")
		time.Sleep(within - again)
		n.expect("undelivered a devices true")
		time.Sleep(30 * time.Second)
		n.expect()
		require.True(t, n.send("a", "closed"), "it has come back")
		require.False(t, n.Received(ref("a"), "stranger", received("stranger")))
		n.End(ref("a"), true)
		n.expect("ended a [closed x]")
		require.False(t, n.Received(ref("a"), "x", received("x")))
		n.expect()
	})
}

// After the answer nothing is sent, not even what is about to be: End waits for it.
func TestTable_NothingIsSentAfterTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Minute, 0)
		sending, sent := make(chan struct{}), false
		go n.Send(ref("a"), "x", func(string) bool {
			<-sending
			sent = true
			return true
		})
		synctest.Wait()
		ended := make(chan struct{})
		go func() {
			n.End(ref("a"), true)
			if !sent {
				t.Error("it has not waited")
			}
			close(ended)
		}()
		synctest.Wait()
		n.expect()
		close(sending)
		<-ended
		n.expect("ended a [x]")
		require.False(t, n.send("a", "y"))
		time.Sleep(time.Hour)
		n.expect()
	})
}

// An event that expires before it is undelivered is reported then.
func TestTable_ShortOffer(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Second, 0)
		time.Sleep(time.Second + tick)
		n.expect("ended a []", "undelivered a devices false", "expired a")
	})
}

// The same event begins once, also after its end. Another one of that id replaces it.
func TestTable_BeginsOnce(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 2)
		n.begin("a", time.Minute, 0)
		e := event("a")
		ok, full := n.Begin(e)
		require.False(t, ok || full)
		require.True(t, n.send("a", "x"))
		e.Same = "2"
		ok, _ = n.Begin(e)
		require.True(t, ok)
		later := receipts.Ref{ID: "a", Same: "2"}
		sent := false
		n.Send(later, "x", func(string) bool { sent = true; return true })
		require.True(t, sent)
		n.End(later, true)
		ok, _ = n.Begin(e)
		require.False(t, ok, "it has ended")
		n.expect("ended a [x]", "ended a [x]")
		n.begin("b", time.Minute, 0)
		_, full = n.Begin(receipts.Event[string]{Ref: receipts.Ref{ID: "c", Same: "1"}, Left: time.Minute})
		require.True(t, full)
		require.Equal(t, []receipts.Ref{ref("b")}, n.Of("driver"))
		require.Equal(t, []receipts.Ref{ref("b")}, n.OfGroup("trip"))
		n.End(ref("b"), true)
		require.Empty(t, n.OfGroup("trip"))
		time.Sleep(2*time.Minute - tick)
		require.Equal(t, 2, n.Len(), "other nodes may ask how they have ended, until a minute after the expiry")
		time.Sleep(2 * tick)
		n.begin("c", time.Minute, 0)
	})
}

// Another node reports first; this one does what it has not done.
func TestTable_OtherNodeReportsInItsPlace(t *testing.T) {
	bubble(t, func(t *testing.T) {
		const delay = 2 * time.Second
		n := newNode(t, 10)
		n.begin("told", 20*time.Second, delay)
		n.begin("silent", 20*time.Second, delay)
		time.Sleep(within + time.Second)
		n.Told(ref("told"), receipts.Undelivered)
		n.expect()
		time.Sleep(delay)
		n.expect("undelivered silent devices false")
		n.ReceivedElsewhere(ref("told"), received("there"))
		n.ReceivedElsewhere(ref("silent"), received("there"))
		time.Sleep(time.Second)
		n.Told(ref("told"), receipts.Delivered)
		n.expect()
		time.Sleep(delay)
		n.expect("delivered silent there 1 6s")
		n.End(ref("silent"), false)
		n.expect("ended silent []")
		time.Sleep(20*time.Second - 9*time.Second + tick)
		n.expect("ended told []")
		time.Sleep(delay)
		n.expect("expired told")
	})
}

// A receipt that another node reports before this one knows the event counts.
func TestTable_EarlyReceipt(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.ReceivedElsewhere(ref("a"), received("there"))
		n.begin("a", 20*time.Second, 0)
		n.expect("delivered a there 1 0s")
		for i := range 3000 {
			n.ReceivedElsewhere(ref(fmt.Sprint("invented", i)), received("x"))
		}
		n.begin("invented2500", 20*time.Second, 0)
		n.expect("delivered invented2500 x 1 0s")
		time.Sleep(5 * time.Second)
		n.expect()
	})
}

// An earlier event of that id, which a node that has missed the later one still tracks, does not replace it, also after
// its end.
func TestTable_EarlierEventDoesNotReplaceALaterOne(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Minute, 0)
		require.True(t, n.send("a", "x"))
		earlier := receipts.Event[string]{Ref: receipts.Ref{ID: "a", Same: "earlier", User: "driver"}, Ago: time.Second, Left: time.Minute, Value: "a"}
		ok, full := n.Begin(earlier)
		require.False(t, ok || full)
		require.False(t, n.send("a", "x"))
		n.End(ref("a"), true)
		ok, _ = n.Begin(earlier)
		require.False(t, ok)
		require.Empty(t, n.Of("driver"))
		n.expect("ended a [x]")
	})
}

// What is known of an earlier event with that ID does not touch a later one, nor does the earlier one begin again.
func TestTable_EarlierEventWithThatID(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", 20*time.Second, 0)
		require.True(t, n.send("a", "x"))
		other := event("a")
		other.Same, other.User = "2", "another"
		ok, _ := n.Begin(other)
		require.True(t, ok)
		n.expect("ended a [x]")
		n.Send(receipts.Ref{ID: "a", Same: "2"}, "x", func(string) bool { return true })
		require.False(t, n.Received(ref("a"), "x", received("x")))
		n.ReceivedElsewhere(ref("a"), received("there"))
		n.Told(ref("a"), receipts.Undelivered)
		n.Closed(ref("a"), "x")
		require.False(t, n.End(ref("a"), true))
		require.False(t, n.End(receipts.Ref{ID: "a", User: "driver"}, true))
		_, ok = n.Value(ref("a"))
		require.False(t, ok)
		ok, full := n.Begin(event("a"))
		require.False(t, ok || full, "the bus repeats it")
		require.True(t, n.Known(ref("a")))
		time.Sleep(within + tick)
		n.expect("again a [x]", "undelivered a devices true")
		require.True(t, n.End(receipts.Ref{ID: "a", User: "another"}, true))
		n.expect("ended a [x]")
	})
}

// What comes before its event, of which an earlier one with that ID runs, waits for it.
func TestTable_EarlyForALaterEvent(t *testing.T) {
	for name, early := range map[string]receipts.Ref{"event": {ID: "a", Same: "2"}, "user": {ID: "a", User: "another"}} {
		t.Run(name, func(t *testing.T) {
			bubble(t, func(t *testing.T) {
				n := newNode(t, 10)
				n.begin("a", 20*time.Second, 0)
				n.ReceivedElsewhere(early, received("there"))
				require.False(t, n.End(early, false))
				require.False(t, n.EndedEarly(event("a")))
				later := event("a")
				later.Same, later.User = "2", "another"
				require.True(t, n.EndedEarly(later))
				ok, _ := n.Begin(later)
				require.True(t, ok)
				n.expect("ended a []", "delivered a there 1 0s")
			})
		})
	}
}

// The same event does not begin again when the table has forgotten it.
func TestTable_NeverAgain(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Second, 0)
		time.Sleep(2 * time.Hour)
		require.Zero(t, n.Len())
		require.True(t, n.Known(ref("a")))
		ok, full := n.Begin(event("a"))
		require.False(t, ok || full)
		require.False(t, n.Known(receipts.Ref{ID: "a", Same: "2"}))
	})
}

// An event that has ended is remembered for as long as another node could begin it again, at most for 2 h; only for 10 min
// if there is no room for others.
func TestTable_RemembersTheEnd(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 2)
		n.begin("hour", time.Hour, 0)
		n.begin("day", 24*time.Hour, 0)
		n.End(ref("hour"), true)
		n.End(ref("day"), true)
		time.Sleep(61*time.Minute - tick)
		require.Equal(t, 2, n.Len())
		time.Sleep(2 * tick)
		require.Equal(t, 1, n.Len())
		time.Sleep(59*time.Minute - 2*tick)
		require.Equal(t, 1, n.Len())
		time.Sleep(2 * tick)
		require.Zero(t, n.Len())

		n.begin("first", 24*time.Hour, 0)
		n.begin("second", 24*time.Hour, 0)
		n.End(ref("second"), true)
		time.Sleep(10*time.Minute - tick)
		n.End(ref("first"), true)
		_, full := n.Begin(event("new"))
		require.True(t, full)
		time.Sleep(tick)
		n.begin("new", time.Minute, 0)
		require.Equal(t, 2, n.Len())
		_, ok := n.Value(ref("first"))
		require.True(t, ok, "the other one has ended longer ago")
		_, full = n.Begin(event("newer"))
		require.True(t, full)
	})
}

// A node that hears of the report and not of the receipt knows that there is one.
func TestTable_DeliveredElsewhere(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		for id, delay := range map[string]time.Duration{"first": 0, "next": 2 * time.Second} {
			n.begin(id, 20*time.Second, delay)
			n.Told(ref(id), receipts.Delivered)
		}
		time.Sleep(10 * time.Second)
		n.expect()
	})
}

// An answer right before the expiry reaches this node right after it.
func TestTable_EndComesLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("a", time.Second, 2*time.Second)
		time.Sleep(time.Second + tick)
		n.expect("ended a []")
		require.Equal(t, []receipts.Ref{ref("a")}, n.OfGroup("trip"), "the end of the trip would end it too")
		require.Empty(t, n.States())
		require.True(t, n.End(ref("a"), true), "the other nodes have not heard of it")
		require.False(t, n.End(ref("a"), true))
		require.Empty(t, n.OfGroup("trip"))
		states := n.States()
		require.Len(t, states, 1)
		require.True(t, states[0].Ended && states[0].Local)
		require.Equal(t, []receipts.Kind{receipts.Expired}, states[0].Told)
		n.Told(ref("a"), receipts.Undelivered)
		time.Sleep(time.Hour)
		n.expect()
		require.Empty(t, n.OfGroup("trip"))
		require.Zero(t, n.Len())
	})
}

// The answer comes when the expiry was reported: that is over.
func TestTable_EndComesTooLate(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("mine", 10*time.Second, 0)
		n.begin("theirs", 10*time.Second, 2*time.Second)
		n.Told(ref("theirs"), receipts.Undelivered)
		time.Sleep(10*time.Second + tick)
		n.Told(ref("theirs"), receipts.Expired)
		synctest.Wait()
		require.Empty(t, n.OfGroup("trip"))
		for _, id := range []string{"mine", "theirs"} {
			require.False(t, n.End(ref(id), true))
		}
		require.Empty(t, n.States())
	})
}

// What has ended before is remembered, and never runs.
func TestTable_BeginsEnded(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.ReceivedElsewhere(ref("a"), received("there"))
		ok, full := n.Begin(receipts.Event[string]{Ref: receipts.Ref{ID: "a", Same: "1", User: "driver"}, Group: "trip", Left: 20 * time.Second, Delay: time.Second, Ended: true, Value: "a"})
		require.False(t, ok || full)
		require.False(t, n.send("a", "x"))
		require.Empty(t, n.Of("driver"))
		require.Empty(t, n.OfGroup("trip"))
		require.Empty(t, n.States(), "others tell of it")
		ok, _ = n.Begin(event("a"))
		require.False(t, ok, "a late message")
		time.Sleep(30 * time.Second)
		n.expect("delivered a there 1 0s")
		time.Sleep(time.Hour)
		n.expect()
		require.Zero(t, n.Len())
	})
}

// A node that hears nothing of the others does not know what has ended, or was received.
func TestTable_Hold(t *testing.T) {
	const delay = 2 * time.Second
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.Hold(time.Now().Add(time.Hour))
		n.begin("first", 10*time.Second, 0)
		n.begin("next", 11*time.Second, delay)
		time.Sleep(9 * time.Second)
		n.expect("undelivered first devices false")
		time.Sleep(9 * time.Second)
		n.expect("ended first []", "ended next []")
		n.Hold(time.Now().Add(time.Second))
		time.Sleep(time.Second + tick)
		n.expect("expired first")
		time.Sleep(delay)
		n.expect("undelivered next devices false", "expired next")
		time.Sleep(time.Hour)
		n.expect()
		require.Zero(t, n.Len())

		n.Hold(time.Now().Add(time.Hour))
		n.begin("third", 10*time.Second, 0)
		n.begin("fourth", 11*time.Second, delay)
		time.Sleep(54 * time.Second)
		n.expect("undelivered third devices false", "ended third []", "ended fourth []")
		time.Sleep(time.Second + tick)
		n.expect("expired third")
		time.Sleep(2 * time.Hour)
		n.expect()
		require.Zero(t, n.Len())
	})
}

func TestTable_EndedEarly(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		require.False(t, n.EndedEarly(event("a")))
		require.False(t, n.End(ref("a"), true))
		require.True(t, n.EndedEarly(event("a")))
		time.Sleep(2 * time.Second)
		require.False(t, n.EndedEarly(event("a")))
		for i := range 3000 {
			n.End(ref(fmt.Sprint("invented", i)), false)
		}
		require.False(t, n.EndedEarly(event("invented0")))
		for i := range 500 {
			require.True(t, n.EndedEarly(event(fmt.Sprint("invented", 2999-i))), "the newest ones are kept")
		}
	})
}

func TestTable_States(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		n.begin("mine", time.Minute, 0)
		n.begin("theirs", time.Minute, time.Second)
		n.begin("received", time.Minute, time.Second)
		n.begin("ended", time.Minute, time.Second)
		require.True(t, n.send("received", "x"))
		require.True(t, n.Received(ref("received"), "x", received("x")))
		n.End(ref("ended"), true)
		time.Sleep(1500 * time.Millisecond)
		n.begin("over", time.Minute, time.Second)
		n.End(ref("over"), false)
		all := n.States()
		slices.SortFunc(all, func(a, b receipts.State[string]) int { return len(a.ID) - len(b.ID) })
		require.Len(t, all, 4)
		require.Equal(t, "theirs", all[2].ID)
		require.False(t, all[2].Local)
		all = slices.Delete(all, 2, 3)
		require.Equal(t, []string{"mine", "ended", "received"}, []string{all[0].ID, all[1].ID, all[2].ID})
		require.Equal(t, receipts.State[string]{Ref: ref("mine"), Local: true, Value: "mine", Ago: 1500 * time.Millisecond, Left: time.Minute - 1500*time.Millisecond}, all[0])
		require.True(t, all[1].Ended)
		require.Equal(t, received("x"), all[2].First)
		require.Equal(t, []receipts.Kind{receipts.Delivered}, all[2].Told)
		n.expect("ended ended []", "delivered received x 1 0s", "ended over []")
	})
}

// An event may begin while States waits for the table.
func TestTable_StatesOfAnEventThatBeginsMeanwhile(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 10)
		_, _ = n.Begin(receipts.Event[string]{Ref: receipts.Ref{ID: "a", Same: "1"}, Ago: -time.Second, Left: time.Minute})
		require.Zero(t, n.States()[0].Ago)
	})
}

func TestTable_Concurrently(t *testing.T) {
	bubble(t, func(t *testing.T) {
		n := newNode(t, 100)
		var all sync.WaitGroup
		for i := range 50 {
			all.Go(func() {
				id := fmt.Sprint(i % 10)
				n.Begin(receipts.Event[string]{Ref: receipts.Ref{ID: id, Same: "1", User: "driver"}, Group: "trip", Left: time.Minute, Value: id})
				n.send(id, fmt.Sprint(i))
				n.Received(ref(id), fmt.Sprint(i), received("x"))
				n.ReceivedElsewhere(ref(id), received("y"))
				n.Of("driver")
				n.States()
				n.Closed(ref(id), fmt.Sprint(i))
				n.End(ref(id), true)
			})
		}
		all.Wait()
		time.Sleep(time.Hour)
		synctest.Wait()
		require.Zero(t, n.Len())
		require.Empty(t, n.Of("driver"))
		n.mu.Lock()
		defer n.mu.Unlock()
		require.LessOrEqual(t, len(n.did), 20, "ended and delivered once each")
	})
}
