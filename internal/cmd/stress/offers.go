// Offers: the nodes as a stage on which package offerbook plays offers to drivers of its own.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/offerbook"
	"github.com/rodando/realtime/realtimetest"
)

// offeredTrip is how the trips of these offers begin: admins ignore them, as trips of scenes.
const offeredTrip = sceneTrip + "o"

// stage is the world as an offerbook.Stage.
type stage struct{ *world }

// newBook returns the book of a world. A service that hangs holds up what is behind it on the bus.
func (w *world) newBook() *offerbook.Book {
	return offerbook.New(w.count, func(text string) { w.oracle.breachf("%s", text) }, func(handled, from, _ time.Time) (late time.Duration, ok bool) {
		lag := w.lag.since(from)
		if late = 5 * lag; !handled.IsZero() {
			late += max(0, handled.Sub(from))
		}
		if w.has(hang) {
			late += hangsBus
		}
		return late, lag <= tooBusy && !w.oracle.isDraining()
	})
}

// playOffers plays offers, several at a time, until ctx ends.
func (w *world) playOffers(ctx context.Context) {
	for k := range w.config.offers {
		w.scenes.Go(func() { w.book.Play(ctx, w.rng(offerStream, k), stage{w}, fmt.Sprint(offeredTrip, k)) })
	}
}

// Node implements offerbook.Stage.
func (s stage) Node(rng *rand.Rand) any { return s.nodes[rng.IntN(len(s.nodes))] }

// Connect implements offerbook.Stage. All devices of a driver have one session.
func (s stage) Connect(ctx context.Context, at any, driver string, claim *comeback.Claim) *realtimetest.Client {
	s.users.Set(realtime.User{ID: driver, Type: realtime.UserDriver, Active: true})
	_, token := s.login(driver, 0)
	number := int(s.guests.Add(1))
	opts := []realtimetest.Option{realtimetest.Token(token), from(honest(number)), comeback.KnowsOffsets()}
	if claim != nil {
		opts = append(opts, realtimetest.Auth(claim.Auth(token)))
	}
	if number%5 == 0 {
		opts = append(opts, realtimetest.Polling())
	}
	n := at.(*node) //nolint:errcheck,forcetypeassert // Node returns no other
	return s.dialAgain(ctx, n, driver, realtime.NamespaceDrivers, opts...)
}

// Publish implements offerbook.Stage.
func (s stage) Publish(_ context.Context, _ *rand.Rand, id string, e realtime.DomainEvent) bool {
	return s.publish(id, e)
}

// Settle implements offerbook.Stage.
func (s stage) Settle(context.Context) bool { return s.settle() }

// Bound implements offerbook.Stage.
func (s stage) Bound() time.Duration { return s.patience() }

// offers is the OfferService. The offers of the book have a table. Every other one exists, and belongs to
// the trip of its name.
type offers struct{ host *host }

// AcceptOffer implements realtime.OfferService.
func (o offers) AcceptOffer(ctx context.Context, driver, assignment string) (string, error) {
	if trip, e, known, err := o.host.w.book.Accept(driver, assignment); known {
		if e != nil {
			o.host.w.publish("", e)
		}
		return trip, err
	}
	err := o.host.trouble(ctx, "OfferService.AcceptOffer", driver, hungService)
	return "trip of " + assignment, err
}

// RejectOffer implements realtime.OfferService.
func (o offers) RejectOffer(ctx context.Context, driver, assignment, _ string) error {
	if e, known, err := o.host.w.book.Reject(driver, assignment); known {
		if e != nil {
			o.host.w.publish("", e)
		}
		return err
	}
	return o.host.trouble(ctx, "OfferService.RejectOffer", driver, hungService)
}
