//go:build unix

// Offers: the cluster as a stage on which package offerbook plays offers to drivers of its own. The
// host's table of offers is in the parent, which the nodes ask over HTTP.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"net/http"
	"strings"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

const (
	// offeredTrip is how the trips of these offers begin.
	offeredTrip = "xo"
	// survives is how much later the other nodes do what a node that died would have done.
	survives = 4 * time.Second
	// answerTime is how long the host tries to publish what a driver has answered.
	answerTime = time.Minute
)

// slackOf returns by how much later than usual things may have happened to an offer within a period. If
// only nodes have died, the others must do what is to be done, unless the one that had just handled the
// offer may have died with it.
func (o *oracle) slackOf(handled, from, to time.Time) (late time.Duration, ok bool) {
	late, ok = o.lag.since(from), true
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, s := range o.spansLocked() {
		switch {
		case !s.meets(from.Add(-healing), to):
		case s.what == delayPath:
			late += 2 * time.Second
		case s.what != killNode && s.what != leaveNode,
			handled.IsZero() || handled.After(s.from.Add(-unsent)) && handled.Before(s.from.Add(slack)):
			return late, false
		default:
			late += survives
		}
	}
	if !handled.IsZero() {
		late += max(0, handled.Sub(from))
	}
	return late, ok
}

// stage is the world as an offerbook.Stage.
type stage struct{ *world }

// Node implements offerbook.Stage.
func (s stage) Node(rng *rand.Rand) any {
	if l := s.ready(rng); l != nil {
		return l
	}
	return nil
}

// Connect implements offerbook.Stage. All devices of a driver have one session.
func (s stage) Connect(ctx context.Context, at any, driver string, claim *comeback.Claim) *realtimetest.Client {
	s.rows.setUser(realtime.User{ID: driver, Type: realtime.UserDriver, Active: true})
	s.rows.setSession(realtime.Session{ID: driver + "/1", UserID: driver})
	access := token(driver, driver+"/1")
	opts := []realtimetest.Option{realtimetest.Token(access), comeback.KnowsOffsets()}
	if claim != nil {
		opts = append(opts, realtimetest.Auth(claim.Auth(access)))
	}
	ctx, cancel := context.WithTimeout(ctx, dialTime+s.lag.since(time.Now().Add(-dialTime)))
	defer cancel()
	c, err := realtimetest.Dial(ctx, at.(*life).url, realtime.NamespaceDrivers, opts...) //nolint:errcheck,forcetypeassert // Node returns no other
	if err != nil {
		s.count.Add("offers: logins that failed", 1)
		return nil
	}
	return c
}

// Publish implements offerbook.Stage.
func (s stage) Publish(ctx context.Context, rng *rand.Rand, id string, e realtime.DomainEvent) bool {
	return s.publish(ctx, rng, id, e)
}

// Settle implements offerbook.Stage.
func (s stage) Settle(ctx context.Context) bool {
	began := time.Now()
	if !stresskit.Sleep(ctx, settling+s.lag.since(began.Add(-settling))) {
		return false
	}
	s.oracle.mu.Lock()
	defer s.oracle.mu.Unlock()
	for _, x := range s.oracle.spansLocked() {
		if x.meets(began.Add(-healing), time.Now()) {
			return false
		}
	}
	return true
}

// Bound implements offerbook.Stage.
func (s stage) Bound() time.Duration { return ackTime + s.lag.since(time.Now().Add(-ackTime)) }

// playOffers plays offers until ctx ends.
func (w *world) playOffers(ctx context.Context, number int) {
	w.book.Play(ctx, w.rng(offerStream, number), stage{w}, fmt.Sprint(offeredTrip, number))
}

// offerAnswer is a driver's answer, from a node to the host.
type offerAnswer struct {
	Driver  string `json:"driver"`
	ID      string `json:"id"`
	Accepts bool   `json:"accepts"`
}

// offerOutcome is what the host says.
type offerOutcome struct {
	Trip string        `json:"trip,omitempty"`
	Code realtime.Code `json:"code,omitempty"`
}

// answer decides about a driver's answer, and publishes it, as an outbox does.
func (w *world) answer(in offerAnswer) offerOutcome {
	var e realtime.DomainEvent
	var err error
	out := offerOutcome{}
	if in.Accepts {
		out.Trip, e, _, err = w.book.Accept(in.Driver, in.ID)
	} else {
		e, _, err = w.book.Reject(in.Driver, in.ID)
	}
	var refusal *realtime.Error
	switch {
	case errors.As(err, &refusal):
		out.Code = refusal.Code
	case err != nil:
		out.Code = realtime.CodeNotFound
	case e != nil:
		w.running.Go(func() {
			ctx, cancel := context.WithTimeout(context.Background(), answerTime)
			defer cancel()
			w.publish(ctx, rand.New(rand.NewPCG(w.config.seed, uint64(len(in.ID)))), "", e)
		})
	}
	return out
}

// answers is the host's endpoint for answers.
func answers(answer func(in offerAnswer) offerOutcome) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		var in offerAnswer
		if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
			http.Error(w, err.Error(), http.StatusBadRequest)
			return
		}
		_ = json.NewEncoder(w).Encode(answer(in)) // who does not read it has ended
	}
}

// answer asks the host.
func (r *rows) answer(ctx context.Context, in offerAnswer) (trip string, err error) {
	b, err := json.Marshal(in)
	if err != nil {
		return "", err
	}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, r.url+"/answer", bytes.NewReader(b))
	if err != nil {
		return "", err
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	var out offerOutcome
	if err := json.NewDecoder(resp.Body).Decode(&out); err != nil {
		return "", err
	}
	if out.Code != "" {
		return "", realtime.Errorf(out.Code, "the host says so")
	}
	return out.Trip, nil
}

// AcceptOffer implements realtime.OfferService.
func (r *rows) AcceptOffer(ctx context.Context, driver, id string) (trip string, err error) {
	return r.answer(ctx, offerAnswer{driver, id, true})
}

// RejectOffer implements realtime.OfferService.
func (r *rows) RejectOffer(ctx context.Context, driver, id, _ string) error {
	_, err := r.answer(ctx, offerAnswer{driver, id, false})
	return err
}

// ofBook reports whether a trip belongs to the offers of the book, which judges them.
func ofBook(trip string) bool { return strings.HasPrefix(trip, offeredTrip) }
