// Judging: what became of an offer, compared with the promise.

package offerbook

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// receiptTime is Timeouts.OfferReceipt of the nodes, its default.
	receiptTime = 3 * time.Second
	// takeOver is how much later another node reports what the first one has not.
	takeOver = 2*time.Second + 2*time.Second
	// underWay is how long anything may be under way.
	underWay = time.Second
	// slightly is how inexact the times are.
	slightly = 100 * time.Millisecond
)

// Device is a device of a driver, when it has ended.
type Device struct {
	ID, User string
	Dialed   time.Time // before it connected
	Hello    time.Time
	Silent   time.Time // since when it reads nothing; zero: it reads
	Until    time.Time // when its connection ended
	Received []realtimetest.Received
}

// reads returns until when the device reads.
func (d *Device) reads() time.Time {
	if d.Silent.IsZero() {
		return d.Until
	}
	return earlier(d.Until, d.Silent)
}

// earlier returns the earlier of two times; a zero time is none.
func earlier(a, b time.Time) time.Time {
	if a.IsZero() || !b.IsZero() && b.Before(a) {
		return b
	}
	return a
}

// receipts returns when the device received an offer, and records a breach for another event id.
func (j *judgement) receipts(d *Device) (at []time.Time) {
	for _, r := range d.Received {
		var p struct {
			AssignmentID string `json:"assignmentId"`
			EventID      string `json:"eventId"`
		}
		if r.Event != realtime.EventAssignmentOffered.Name() || len(r.Args) == 0 || json.Unmarshal(r.Args[0], &p) != nil || p.AssignmentID != j.o.ID {
			continue
		}
		if p.EventID != j.o.EventID {
			j.breachf("came with the event id %q, not %q", p.EventID, j.o.EventID)
		}
		at = append(at, r.At)
	}
	return at
}

// judgement is the state of judging one offer.
type judgement struct {
	b     *Book
	o     *Offer    // a copy
	first time.Time // when the first device received it; zero: none
	sure  time.Time // likewise, of those that stayed long enough to say so
}

func (j *judgement) breachf(format string, args ...any) {
	j.b.breach(fmt.Sprintf("offer %s: ", j.o.ID) + fmt.Sprintf(format, args...))
}

// late returns by how much later than usual things may have happened.
func (j *judgement) late(from, to time.Time) (late time.Duration, ok bool) {
	late, ok = j.b.slack(j.o.handled, from, to)
	// An offer that has expired before a node handles it is sent like any event.
	return late, ok && !j.o.handled.After(j.o.Expires.Add(-underWay))
}

// Judge judges an offer that has ended, some time ago, and whose devices have ended too.
func (b *Book) Judge(o *Offer, devices []Device) {
	j := &judgement{b: b, o: b.snapshot(o)}
	for i := range devices {
		j.device(&devices[i])
	}
	j.reports(devices)
	j.unreported()
	j.answers()
	j.account()
}

// device judges what one device received.
func (j *judgement) device(d *Device) {
	at := j.receipts(d)
	if len(at) == 0 {
		j.unreached(d)
		return
	}
	j.first = earlier(j.first, at[0])
	if d.reads().Sub(at[0]) > underWay {
		j.sure = earlier(j.sure, at[0])
	}
	if d.User != j.o.Driver {
		j.breachf("%s received it, but it is %s's", d.User, j.o.Driver)
	}
	late, ok := j.late(j.o.At, at[len(at)-1])
	if len(at) > 2 && ok {
		j.breachf("a device received it %d times", len(at))
	}
	last := at[len(at)-1]
	switch over := earlier(j.o.Ended, j.o.Expires); {
	case !ok:
	case !j.o.Ended.IsZero() && d.Dialed.After(j.o.Ended):
		j.breachf("a device that connected %v after its end received it", d.Dialed.Sub(j.o.Ended))
	case last.After(over.Add(underWay + late)):
		j.breachf("a device received it %v after its end", last.Sub(over))
	}
	j.b.received(d.Hello.After(j.o.At), at[0].Sub(j.o.At))
	if len(at) > 1 {
		j.b.count.Add("offers: sent again to a device that had it", len(at)-1)
	}
}

// received records how long an offer took to a device.
func (b *Book) received(later bool, took time.Duration) {
	which := 0
	if later {
		which = 1
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.took[which] = append(b.took[which], took)
}

// unreached records a breach if a device should have received the offer, which it has not.
func (j *judgement) unreached(d *Device) {
	from, until := d.Hello, earlier(earlier(d.reads(), j.o.Ending), j.o.Expires)
	if from.Before(j.o.Taken) {
		from = j.o.Taken
	}
	late, ok := j.late(j.o.At, until)
	if d.User == j.o.Driver && ok && until.Sub(from) > underWay+late {
		j.breachf("a device that could be reached for %v did not receive it", until.Sub(from))
	}
}

// reports judges what the server has reported on the bus.
func (j *judgement) reports(devices []Device) {
	for name, r := range j.o.heard {
		if len(r.ids) > 1 {
			j.breachf("%d different events %s", len(r.ids), name)
		}
		if r.n > 1 {
			j.b.count.Add("offers: reports that were published again, with the same id", r.n-1)
		}
		if r.DriverID != j.o.Driver {
			j.breachf("%s names %q, not %q", name, r.DriverID, j.o.Driver)
		}
	}
	if d, ok := j.o.heard[delivered]; ok {
		j.delivered(d, devices)
	}
	if u, ok := j.o.heard[undelivered]; ok {
		j.undelivered(u, devices)
	}
	if x, ok := j.o.heard[expired]; ok {
		late, fine := j.late(j.o.At, x.at)
		switch {
		case x.at.Before(j.o.Expires.Add(-slightly)):
			j.breachf("expired %v too early", j.o.Expires.Sub(x.at))
		case fine && !j.o.Ended.IsZero() && j.o.Ended.Before(j.o.Expires.Add(-underWay-late)):
			j.breachf("expired, but it was %s %v before", j.o.state, j.o.Expires.Sub(j.o.Ended))
		}
	}
}

func (j *judgement) delivered(r report, devices []Device) {
	got := slices.ContainsFunc(devices, func(d Device) bool { return d.ID == r.SocketID && len(j.receipts(&d)) > 0 })
	switch {
	case j.first.IsZero():
		j.breachf("was delivered, but no device has received it")
	case !got:
		j.breachf("was delivered to a device that has not received it")
	case r.By != string(realtime.ReceivedByAck) && r.By != string(realtime.ReceivedByHeartbeat):
		j.breachf("was delivered by %q", r.By)
	}
}

// reportAt is when an offer without a receipt is reported.
func (j *judgement) reportAt() time.Time { return earlier(j.o.At.Add(receiptTime), j.o.Expires) }

func (j *judgement) undelivered(r report, devices []Device) {
	late, ok := j.late(j.o.At, r.at)
	known := j.sure.Add(underWay + late) // from then on the server knew that it was received
	switch {
	case r.at.Before(j.reportAt().Add(-slightly)):
		j.breachf("was reported as undelivered after %v", r.at.Sub(j.o.At))
	case !ok:
		return
	case !j.sure.IsZero() && known.Before(j.reportAt()):
		j.breachf("was reported as undelivered, but a device received it after %v", j.sure.Sub(j.o.At))
	case r.at.After(j.reportAt().Add(takeOver + late)):
		j.breachf("was reported as undelivered only after %v", r.at.Sub(j.o.At))
	}
	throughout := late < underWay && slices.ContainsFunc(devices, func(d Device) bool {
		return d.Hello.Before(j.o.At) && d.Until.After(r.at) && (d.Silent.IsZero() || r.at.Sub(d.Silent) < receiptTime+underWay) // later the server may have noticed
	})
	switch {
	case r.Reason == string(realtime.UndeliveredNoDevice) && throughout:
		j.breachf("undelivered because of no device, but one was connected")
	case r.Reason == string(realtime.UndeliveredNoReceipt) && !slices.ContainsFunc(devices, func(d Device) bool { return d.Dialed.Before(r.at) }):
		j.breachf("undelivered because of no receipt, but there was no device")
	case r.Reason != string(realtime.UndeliveredNoDevice) && r.Reason != string(realtime.UndeliveredNoReceipt):
		j.breachf("undelivered because of %q", r.Reason)
	}
}

// unreported records a breach for each report that did not come.
func (j *judgement) unreported() {
	has := func(name string) bool { return j.o.heard[name].n > 0 }
	late, ok := j.late(j.o.At, time.Now())
	if !ok {
		j.b.count.Add("offers: missing reports are not judged, there was a fault", 1)
		return
	}
	known := j.sure.Add(underWay + late) // from then on the server knew that it was received
	soon := j.reportAt().Add(underWay + late)
	switch {
	case !has(delivered) && !j.sure.IsZero() && known.Before(earlier(j.o.Ending, j.o.Expires)):
		j.breachf("a device received it after %v, but it was not reported as delivered", j.sure.Sub(j.o.At))
	case !has(undelivered) && (j.first.IsZero() || j.first.After(soon)) && (j.o.Ending.IsZero() || j.o.Ending.After(soon)):
		j.breachf("no device received it within %v, but it was not reported as undelivered", soon.Sub(j.o.At))
	case !has(expired) && j.o.Ending.IsZero():
		j.breachf("has not expired")
	}
}

// answers judges what the host was asked, and what it has published.
func (j *judgement) answers() {
	if j.o.calls > j.o.MaxCalls {
		j.breachf("the host was asked to accept it %d times, the driver's apps have asked %d times", j.o.calls, j.o.MaxCalls)
	}
	if j.o.state == Accepted && j.o.heard[accepted].n == 0 {
		if _, ok := j.late(j.o.At, time.Now()); ok {
			j.breachf("was accepted, but the bus has not heard it")
		}
	}
}

// account counts what has become of the offer.
func (j *judgement) account() {
	c := func(what string) { j.b.count.Add("offers: "+what, 1) }
	j.b.count.Add("offers", 1)
	reported := false
	if d, ok := j.o.heard[delivered]; ok {
		c("delivered, by " + d.By)
		reported = true
	}
	if u, ok := j.o.heard[undelivered]; ok {
		c("undelivered, " + u.Reason)
		reported = true
	}
	if !reported {
		c("ended or left before it was reported")
	}
	if j.o.state == Open {
		c("expired")
	} else {
		c(string(j.o.state))
	}
}
