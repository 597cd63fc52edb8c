// Playing: one offer to one driver, whose devices are connected, cut, silent or absent, and what the
// driver does about it.

package offerbook

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// Stage is a cluster on which offers are played. All methods may be called concurrently.
type Stage interface {
	// Node returns a random node on which clients can connect, or nil.
	Node(rng *rand.Rand) any
	// Connect connects a driver, with the claim of a connection that is lost, or nil. It returns nil if
	// that fails.
	Connect(ctx context.Context, node any, driver string, claim *comeback.Claim) *realtimetest.Client
	// Publish publishes an event, with an id unless that is empty, and returns when the bus has it.
	Publish(ctx context.Context, rng *rand.Rand, id string, e realtime.DomainEvent) bool
	// Settle waits until what was published and said is known everywhere. It returns false if that can't be
	// known.
	Settle(ctx context.Context) bool
	// Bound is how long a client waits for an ack.
	Bound() time.Duration
}

// play is one offer.
type play struct {
	Stage
	b   *Book
	rng *rand.Rand
	o   *Offer

	watching sync.WaitGroup

	mu      sync.Mutex // guards devices, and the field Until of each
	devices []*device
}

type device struct {
	*realtimetest.Client
	Device
	node any
}

// Play plays offers, one after another, until ctx ends. name is in the names of their drivers and trips.
func (b *Book) Play(ctx context.Context, rng *rand.Rand, s Stage, name string) {
	for n := 0; stresskit.Sleep(ctx, stresskit.Between(rng, 0, time.Second)); n++ {
		p := &play{Stage: s, b: b, rng: rng}
		p.o = b.begin(fmt.Sprintf("%s-%d", name, n), time.Time{}, 0)
		done := p.run(ctx)
		devices := p.leave()
		if done && ctx.Err() == nil {
			b.Judge(p.o, devices)
			if b.stateOf(p.o) == Accepted { // the nodes remember the trip until it ends
				s.Publish(ctx, rng, "", realtime.TripCancelled{TripID: p.o.Trip, PassengerID: p.o.Passenger, DriverID: p.o.Driver, CancelledBy: realtime.CancelledBySystem})
			}
		}
		b.end(p.o)
	}
}

// The ways in which a driver can be reached, and what becomes of an offer.
const (
	connected = iota
	twoDevices
	cut
	silent
	absent
	reaches
)

const (
	runsOut = iota
	acceptOnce
	acceptAgain // from the same device
	acceptTwice // from two devices, or one in two connections
	reject
	withdraw
	outcomes
)

// run plays the offer up to its end, and waits until everything about it is known. It returns false if it
// could not be played.
func (p *play) run(ctx context.Context) bool {
	o, reach, outcome := p.o, p.rng.IntN(reaches), p.rng.IntN(outcomes)
	var first *device
	if reach != absent {
		if first = p.connect(ctx, p.Node(p.rng), nil); first == nil {
			return false
		}
	}
	if reach == twoDevices && p.connect(ctx, p.Node(p.rng), nil) == nil {
		return false
	}
	if reach == silent {
		p.silence(first)
	}
	if reach == cut && p.rng.IntN(2) == 0 {
		p.drop(first)
	}
	if !p.offer(ctx) {
		return false
	}
	var acting sync.WaitGroup
	defer acting.Wait()
	switch reach {
	case cut:
		p.drop(first)
		acting.Go(func() { p.comeBack(ctx, first) })
	case silent, absent:
		acting.Go(func() { p.comeLate(ctx) })
	}
	ttl := max(time.Until(o.Expires), slightly) // the bus may have taken long
	if !stresskit.Sleep(ctx, stresskit.Between(p.rng, ttl/20, ttl*9/10)) {
		return false
	}
	p.finish(ctx, outcome)
	acting.Wait()
	if p.rng.IntN(2) == 0 { // it must not be sent to a device that connects after its end
		if !o.Ended.IsZero() || stresskit.Sleep(ctx, time.Until(o.Expires.Add(underWay))) {
			p.connect(ctx, p.Node(p.rng), nil)
		}
	}
	// Until everything must have been reported.
	known := o.At.Add(receiptTime)
	if o.Ended.IsZero() {
		known = o.Expires
	}
	if !stresskit.Sleep(ctx, time.Until(known.Add(takeOver+underWay))) {
		return false
	}
	late, _ := p.b.slack(p.b.snapshot(o).handled, o.At, time.Now())
	return stresskit.Sleep(ctx, late)
}

// offer publishes the offer.
func (p *play) offer(ctx context.Context) bool {
	o := p.o
	p.b.mu.Lock()
	o.At = time.Now()
	o.Expires = o.At.Add(time.Duration(3+p.rng.IntN(4)) * time.Second)
	p.b.mu.Unlock()
	ok := p.Publish(ctx, p.rng, o.EventID, realtime.AssignmentOffered{
		TripID: o.Trip, AssignmentID: o.ID, PassengerID: o.Passenger, DriverID: o.Driver, ExpiresAt: o.Expires, At: o.At,
	})
	o.Taken = time.Now()
	return ok
}

// connect connects a device of the driver. Half of them send acks.
func (p *play) connect(ctx context.Context, node any, claim *comeback.Claim) *device {
	d := &device{Device: Device{User: p.o.Driver, Dialed: time.Now()}, node: node}
	if node == nil {
		return nil
	}
	if d.Client = p.Connect(ctx, node, p.o.Driver, claim); d.Client == nil {
		return nil
	}
	if p.hash()%2 == 0 {
		d.AnswerRaw(realtime.EventAssignmentOffered.Name(), func(realtime.Raw) realtime.Raw { return realtime.Raw{} })
	}
	hello, err := d.Within(p.Bound()).NextRaw(ctx, realtime.EventHello.Name())
	if err != nil {
		d.Drop()
		return nil
	}
	d.Device.ID, d.Hello = d.Client.ID(), hello.At
	p.mu.Lock()
	p.devices = append(p.devices, d)
	p.mu.Unlock()
	p.watching.Go(func() {
		_, _ = d.Within(24*time.Hour).NextRaw(context.Background(), "stress:never") // it returns when the client is disconnected
		p.ended(d)
	})
	return d
}

// ended records the end of a device.
func (p *play) ended(d *device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	d.Until = earlier(d.Until, time.Now())
}

// gone reports whether the device has lost its connection, as it does when its node dies. That node may have
// asked the host and told nobody of the answer: then another one asks again.
func (d *device) gone() bool { return !d.Connected() }

// hash is a random number for whoever runs beside the play.
func (p *play) hash() int {
	n := len(p.o.ID)
	for _, c := range p.o.ID {
		n = n*31 + int(c)
	}
	return n & 0xffff
}

// drop cuts the connection of a device.
func (p *play) drop(d *device) {
	d.Drop()
	p.ended(d)
}

// silence makes the network of a device carry nothing.
func (p *play) silence(d *device) {
	d.Silent = time.Now()
	d.Stall()
}

// comeBack connects the device again that was cut, half of the time with its pid to the same node.
func (p *play) comeBack(ctx context.Context, d *device) {
	h := p.hash() >> 1
	if !stresskit.Sleep(ctx, time.Duration(100+h%2400)*time.Millisecond) {
		return
	}
	if claim, ok := comeback.Of(d.Client); ok && h%2 == 0 {
		p.connect(ctx, d.node, &claim)
		return
	}
	p.connect(ctx, p.Node(rand.New(rand.NewPCG(1, uint64(h)))), nil)
}

// comeLate connects a device of a driver who was absent or silent, most of the time.
func (p *play) comeLate(ctx context.Context) {
	h := p.hash() >> 1
	if h%4 > 0 && stresskit.Sleep(ctx, time.Duration(200+h%4500)*time.Millisecond) {
		p.connect(ctx, p.Node(rand.New(rand.NewPCG(1, uint64(h)))), nil)
	}
}

// able returns the devices that can answer.
func (p *play) able() (all []*device) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, d := range p.devices {
		if d.Connected() && d.Silent.IsZero() {
			all = append(all, d)
		}
	}
	return all
}

// finish does what the driver or the host does about the offer.
func (p *play) finish(ctx context.Context, outcome int) {
	o := p.o
	able := p.able()
	if outcome == runsOut || outcome != withdraw && len(able) == 0 || time.Until(o.Expires) < 2*slightly {
		return
	}
	began := time.Now()
	var over bool
	switch outcome {
	case withdraw:
		over = p.withdraw(ctx)
	case reject:
		_, err := realtimetest.Call(ctx, able[0].Within(p.Bound()), realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: o.ID})
		over = err == nil
	case acceptTwice:
		over = p.accept(ctx, able[0], able[len(able)-1])
	case acceptAgain:
		over = p.accept(ctx, able[0], able[0])
	default:
		over = p.accept(ctx, able[0])
	}
	if p.b.stateOf(o) == Open && !over {
		return
	}
	o.Ending = began
	if over && p.Settle(ctx) {
		o.Ended = time.Now()
	}
}

// withdraw publishes the host's withdrawal.
func (p *play) withdraw(ctx context.Context) bool {
	o := p.o
	if _, first, err := p.b.answer(o.Driver, o.ID, Cancelled); err != nil || !first {
		return false
	}
	return p.Publish(ctx, p.rng, "", realtime.AssignmentCancelled{TripID: o.Trip, AssignmentID: o.ID, PassengerID: o.Passenger, DriverID: o.Driver, At: time.Now()})
}

// accept sends the acceptance from devices at the same time, half of the time with one key, and reports
// whether all have succeeded. Success and conflict are the only answers.
func (p *play) accept(ctx context.Context, from ...*device) bool {
	o, key := p.o, p.rng.IntN(2) == 0
	began, acks := time.Now(), make([]error, len(from))
	o.MaxCalls = len(from)
	var sending sync.WaitGroup
	for i, d := range from {
		sending.Go(func() {
			body := map[string]string{"assignmentId": o.ID}
			if key {
				body["idempotencyKey"] = o.ID
			}
			call := realtime.NewCall[any, realtime.OfferAccepted](realtime.DriverOfferAccept.Name())
			ack, err := realtimetest.Call[any](ctx, d.Within(p.Bound()), call, body)
			if acks[i] = err; err == nil && ack.TripID != o.Trip {
				p.b.breach(fmt.Sprintf("offer %s: its acceptance is acknowledged with trip %q", o.ID, ack.TripID))
			}
		})
	}
	sending.Wait()
	if _, fine := p.b.slack(p.b.snapshot(o).handled, began, time.Now()); key && fine && !slices.ContainsFunc(from, (*device).gone) {
		o.MaxCalls = 1 // also of devices on several nodes
	}
	for _, err := range acks {
		if refusal, ok := errors.AsType[*realtime.Error](err); ok && (refusal.Code != realtime.CodeConflict || p.b.stateOf(o) == Accepted) {
			if late, fine := p.b.slack(p.b.snapshot(o).handled, o.At, time.Now()); fine && late < underWay {
				p.b.breach(fmt.Sprintf("offer %s: its acceptance is answered with %s", o.ID, refusal.Code))
			}
		}
	}
	return errors.Join(acks...) == nil
}

// stateOf returns the state of an offer.
func (b *Book) stateOf(o *Offer) State {
	b.mu.Lock()
	defer b.mu.Unlock()
	return o.state
}

// leave ends all devices, and returns what they were.
func (p *play) leave() (all []Device) {
	for _, d := range p.devices {
		p.ended(d) // it may have ended before
		if d.Silent.IsZero() && d.Connected() {
			d.Close()
		} else {
			d.Drop()
		}
	}
	p.watching.Wait()
	for _, d := range p.devices {
		d.Device.Received = d.Client.Received()
		all = append(all, d.Device)
	}
	return all
}
