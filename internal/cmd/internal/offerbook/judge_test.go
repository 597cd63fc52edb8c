// The judge finds what is wrong, and nothing else.

package offerbook

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

var noon = time.Date(2026, 5, 4, 12, 0, 0, 0, time.UTC)

func at(seconds float64) time.Time { return noon.Add(time.Duration(seconds * float64(time.Second))) }

// history is an offer that was made at noon for 5 s, received at once, accepted at 2 s, and reported as
// delivered; and the driver's device, which was connected until 9 s.
type history struct {
	*Book
	o       *Offer
	devices []Device
	texts   []string
	late    time.Duration
	fault   bool
}

func newHistory(t *testing.T) *history {
	t.Helper()
	h := &history{}
	h.Book = New(&stresskit.Counts{}, func(text string) { h.texts = append(h.texts, text) }, func(time.Time, time.Time, time.Time) (time.Duration, bool) { return h.late, !h.fault })
	h.o = h.begin("t1", noon, 5*time.Second)
	h.o.Taken, h.o.MaxCalls, h.o.Ending, h.o.Ended = at(0.01), 1, at(2), at(2.1)
	h.o.state, h.o.calls = Accepted, 1
	h.hears(realtime.AssignmentAccepted{}.EventName(), at(2), report1{DriverID: "dt1"})
	h.hears(delivered, at(0.03), report1{DriverID: "dt1", SocketID: "s1", By: "heartbeat"})
	h.devices = []Device{{ID: "s1", User: "dt1", Dialed: at(-2), Hello: at(-1), Until: at(9), Received: []realtimetest.Received{offered(0.02, "offered-t1")}}}
	return h
}

func (h *history) hears(name string, when time.Time, r report1) {
	h.o.heard[name] = report{ids: []string{name}, n: 1, at: when, report1: r}
}

func (h *history) quiet(names ...string) {
	for _, name := range names {
		delete(h.o.heard, name)
	}
}

// opens takes the answer back: the offer expires.
func (h *history) opens() {
	h.o.state, h.o.calls, h.o.Ending, h.o.Ended = Open, 0, time.Time{}, time.Time{}
	h.quiet(accepted)
	h.hears(expired, at(5), report1{DriverID: "dt1"})
}

// missed makes nobody receive the offer, which expires.
func (h *history) missed(reason string, devices ...Device) {
	h.opens()
	h.quiet(delivered)
	h.hears(undelivered, at(3.1), report1{DriverID: "dt1", Reason: reason})
	h.devices = devices
}

func offered(when float64, event string) realtimetest.Received {
	return realtimetest.Received{Event: "trip:assignment:offered", At: at(when), Raw: realtime.Raw{Args: []json.RawMessage{
		json.RawMessage(fmt.Sprintf(`{"assignmentId":"offer-t1","eventId":%q}`, event)),
	}}}
}

func TestBook_FindsFaults(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		fault func(h *history)
		want  string
	}{
		"another event id": {func(h *history) {
			h.devices[0].Received = append(h.devices[0].Received, offered(2.02, "other"))
		}, `came with the event id "other", not "offered-t1"`},
		"a stranger's device": {func(h *history) {
			h.devices = append(h.devices, Device{ID: "s2", User: "d2", Until: at(9), Received: []realtimetest.Received{offered(0.02, "offered-t1")}})
		}, "d2 received it, but it is dt1's"},
		"three times": {func(h *history) {
			h.devices[0].Received = append(h.devices[0].Received, offered(1, "offered-t1"), offered(1.5, "offered-t1"))
		}, "received it 3 times"},
		"sent again after the answer": {func(h *history) {
			h.devices[0].Received = append(h.devices[0].Received, offered(4, "offered-t1"))
		}, "received it 1.9s after its end"},
		"to a device that connects after the answer": {func(h *history) {
			h.devices = append(h.devices, Device{ID: "s2", User: "dt1", Dialed: at(2.2), Hello: at(2.3), Until: at(9), Received: []realtimetest.Received{offered(2.4, "offered-t1")}})
		}, "a device that connected 100ms after its end received it"},
		"after it has expired": {func(h *history) {
			h.opens()
			h.devices[0].Received = append(h.devices[0].Received, offered(6.5, "offered-t1"))
		}, "received it 1.5s after its end"},
		"a device that is passed over": {func(h *history) {
			h.devices = append(h.devices, Device{ID: "s2", User: "dt1", Hello: at(0.5), Until: at(9)})
		}, "a device that could be reached for 1.5s did not receive it"},
		"a connected device that is passed over": {func(h *history) {
			h.missed("no_receipt", Device{ID: "s1", User: "dt1", Dialed: at(-2), Hello: at(-1), Until: at(9)})
		}, "a device that could be reached for 4.99s did not receive it"},
		"delivered twice": {func(h *history) {
			r := h.o.heard[delivered]
			r.ids = append(r.ids, "again")
			h.o.heard[delivered] = r
		}, "2 different events trip.assignment.delivered"},
		"undelivered twice": {func(h *history) {
			h.missed("no_device")
			r := h.o.heard[undelivered]
			r.ids = append(r.ids, "again")
			h.o.heard[undelivered] = r
		}, "2 different events trip.assignment.undelivered"},
		"accepted twice": {func(h *history) {
			r := h.o.heard[accepted]
			r.ids = append(r.ids, "again")
			h.o.heard[accepted] = r
		}, "2 different events trip.assignment.accepted"},
		"accepted twice by one key":    {func(h *history) { h.o.calls = 2 }, "asked to accept it 2 times, the driver's apps have asked 1 times"},
		"an acceptance without effect": {func(h *history) { h.quiet(accepted) }, "was accepted, but the bus has not heard it"},
		"a report of another driver": {func(h *history) {
			h.hears(delivered, at(0.03), report1{DriverID: "d2", SocketID: "s1", By: "ack"})
		}, `names "d2", not "dt1"`},
		"delivered to nobody": {func(h *history) {
			h.devices[0].Received, h.devices[0].Until = nil, at(0.1)
		}, "was delivered, but no device has received it"},
		"delivered to another device": {func(h *history) {
			h.hears(delivered, at(0.03), report1{DriverID: "dt1", SocketID: "s9", By: "ack"})
		}, "to a device that has not received it"},
		"delivered by magic": {func(h *history) {
			h.hears(delivered, at(0.03), report1{DriverID: "dt1", SocketID: "s1", By: "magic"})
		}, `was delivered by "magic"`},
		"not reported as delivered": {func(h *history) { h.quiet(delivered) }, "but it was not reported as delivered"},
		"undelivered, although received": {func(h *history) {
			h.opens()
			h.hears(undelivered, at(3.1), report1{DriverID: "dt1", Reason: "no_receipt"})
		}, "was reported as undelivered, but a device received it after 20ms"},
		"undelivered too early": {func(h *history) {
			h.missed("no_device")
			h.hears(undelivered, at(2), report1{DriverID: "dt1", Reason: "no_device"})
		}, "was reported as undelivered after 2s"},
		"undelivered too late": {func(h *history) {
			h.missed("no_device")
			h.hears(undelivered, at(8), report1{DriverID: "dt1", Reason: "no_device"})
		}, "was reported as undelivered only after 8s"},
		"never undelivered": {func(h *history) {
			h.missed("no_device")
			h.quiet(undelivered)
		}, "no device received it within 4s, but it was not reported as undelivered"},
		"undelivered to no device, but there is one": {func(h *history) {
			h.missed("no_device", Device{ID: "s1", User: "dt1", Hello: at(-1), Silent: at(-0.5), Until: at(9)})
		}, "because of no device, but one was connected"},
		"undelivered to devices that are none": {func(h *history) { h.missed("no_receipt") }, "because of no receipt, but there was no device"},
		"undelivered for no reason":            {func(h *history) { h.missed("") }, `undelivered because of ""`},
		"expired too early": {func(h *history) {
			h.opens()
			h.hears(expired, at(4), report1{DriverID: "dt1"})
		}, "expired 1s too early"},
		"expired although it was accepted": {func(h *history) { h.hears(expired, at(5), report1{DriverID: "dt1"}) }, "expired, but it was accepted 2.9s before"},
		"not expired": {func(h *history) {
			h.opens()
			h.quiet(expired)
		}, "has not expired"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			c.fault(h)
			h.Judge(h.o, h.devices)
			require.NotEmpty(t, h.texts)
			require.Contains(t, strings.Join(h.texts, "; "), c.want)
			require.Contains(t, h.texts[0], "offer offer-t1: ")
		})
	}
}

func TestBook_AllowsCorrectHistories(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		allowed func(h *history)
		count   string
	}{
		"accepted":               {func(*history) {}, "offers: accepted"},
		"expired":                {func(h *history) { h.opens() }, "offers: expired"},
		"nobody is there":        {func(h *history) { h.missed("no_device") }, "offers: undelivered, no_device"},
		"sent again to a device": {func(h *history) { h.devices[0].Received = append(h.devices[0].Received, offered(2.05, "offered-t1")) }, "offers: sent again to a device that had it"},
		"published again, one id": {func(h *history) {
			r := h.o.heard[delivered]
			r.n++
			h.o.heard[delivered] = r
		}, "offers: reports that were published again, with the same id"},
		"a silent device": {func(h *history) {
			h.missed("no_receipt", Device{ID: "s1", User: "dt1", Dialed: at(-2), Hello: at(-1), Silent: at(-0.5), Until: at(9)})
		}, "offers: undelivered, no_receipt"},
		"first undelivered, then delivered": {func(h *history) {
			h.opens()
			h.hears(undelivered, at(3.1), report1{DriverID: "dt1", Reason: "no_device"})
			h.hears(delivered, at(4), report1{DriverID: "dt1", SocketID: "s1", By: "ack"})
			h.devices[0].Dialed, h.devices[0].Hello, h.devices[0].Received = at(3.7), at(3.8), []realtimetest.Received{offered(3.9, "offered-t1")}
		}, "offers: delivered, by ack"},
		"withdrawn before it was received": {func(h *history) {
			h.quiet(delivered, accepted)
			h.o.state, h.o.calls, h.devices = Cancelled, 0, nil
		}, "offers: ended or left before it was reported"},
		"it was received just before it expired": {func(h *history) {
			h.opens()
			h.quiet(delivered)
			h.hears(undelivered, at(3.1), report1{DriverID: "dt1", Reason: "no_device"})
			h.devices[0].Dialed, h.devices[0].Hello, h.devices[0].Received = at(4.5), at(4.6), []realtimetest.Received{offered(4.7, "offered-t1")}
		}, "offers: undelivered, no_device"},
		"it was received, and the device left at once": {func(h *history) {
			h.missed("no_receipt", Device{ID: "s1", User: "dt1", Dialed: at(-2), Hello: at(-1), Until: at(0.1), Received: h.devices[0].Received})
		}, "offers: undelivered, no_receipt"},
		"the machine lags": {func(h *history) {
			h.late = 3 * time.Second
			h.devices = append(h.devices, Device{ID: "s2", User: "dt1", Hello: at(0.5), Until: at(9)})
			h.devices[0].Received = append(h.devices[0].Received, offered(4, "offered-t1"))
		}, "offers: accepted"},
		"it was handled when it had almost expired": {func(h *history) {
			h.missed("", Device{ID: "s1", User: "dt1", Hello: at(-1), Until: at(9)})
			h.quiet(undelivered, expired)
			h.o.handled = at(4.5)
		}, "offers: missing reports are not judged, there was a fault"},
		"there was a fault": {func(h *history) {
			h.fault = true
			h.quiet(delivered, accepted)
		}, "offers: missing reports are not judged, there was a fault"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			h := newHistory(t)
			c.allowed(h)
			h.Judge(h.o, h.devices)
			require.Empty(t, h.texts)
			require.Equal(t, 1, h.count.Of(c.count))
			require.Equal(t, 1, h.count.Of("offers"))
		})
	}
}

func TestBook_Table(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	o := h.begin("t2", time.Now(), time.Minute)
	trip, e, known, err := h.Accept(o.Driver, o.ID)
	require.NoError(t, err)
	require.True(t, known)
	require.Equal(t, "t2", trip)
	require.Equal(t, o.ID, e.(realtime.AssignmentAccepted).AssignmentID)
	_, e, _, err = h.Accept(o.Driver, o.ID)
	require.NoError(t, err)
	require.Nil(t, e, "a repeat changes nothing")
	_, known, err = h.Reject(o.Driver, o.ID)
	require.True(t, known)
	require.ErrorContains(t, err, "is accepted")
	require.Equal(t, 2, o.calls)
	_, _, known, err = h.Accept("d9", o.ID)
	require.ErrorIs(t, err, realtime.ErrNotFound)
	require.False(t, known)
	o = h.begin("t3", time.Now().Add(-time.Minute), time.Second)
	_, e, _, err = h.Accept(o.Driver, o.ID)
	require.ErrorContains(t, err, "has expired")
	require.Nil(t, e)
	o = h.begin("t4", time.Now(), time.Minute)
	e, _, err = h.Reject(o.Driver, o.ID)
	require.NoError(t, err)
	require.Equal(t, o.ID, e.(realtime.AssignmentRejected).AssignmentID)
}

func TestBook_Heard(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	o := h.begin("t2", time.Now(), time.Minute)
	for _, id := range []string{"1", "1", "2"} {
		h.Heard(realtime.Envelope{ID: id, Name: delivered, Data: []byte(`{"assignmentId":"offer-t2","driverId":"dt2","socketId":"s2","by":"ack"}`)})
		h.Heard(realtime.Envelope{ID: id, Name: delivered, Data: []byte(`{"assignmentId":"of a trip"}`)})
		h.Heard(realtime.Envelope{ID: id, Name: "trip.started", Data: []byte(`{"assignmentId":"offer-t2"}`)})
		h.Heard(realtime.Envelope{ID: id, Name: delivered, Data: []byte(`nonsense`)})
	}
	require.Len(t, o.heard, 1)
	r := o.heard[delivered]
	require.Equal(t, 3, r.n)
	require.Equal(t, []string{"1", "2"}, r.ids)
	require.Equal(t, report1{DriverID: "dt2", SocketID: "s2", By: "ack"}, r.report1)
	h.end(o)
	require.Len(t, h.offers, 1)
}

func TestBook_Handled(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.Handled("offered-t1", at(2))
	h.Handled("offered-t1", at(1))
	h.Handled("offer-t1", at(0))
	h.Handled("offered-t9", at(0))
	require.Equal(t, at(1), h.snapshot(h.o).handled)
}

func TestBook_Print(t *testing.T) {
	t.Parallel()
	h := newHistory(t)
	h.Judge(h.o, h.devices)
	var out strings.Builder
	h.Print(&out)
	require.Equal(t, "offers to a connected device: 1 received, p50 20ms, p99 20ms, longest 20ms\n", out.String())
}
