//go:build unix

// Calms: between storms everything must be as if nothing had happened.

package main

import (
	"context"
	"fmt"
	"math/rand/v2"
	"net/http"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
)

const (
	// probeTime is how long a probe may be under way.
	probeTime = 3 * time.Second
	// presenceTime is how long the presence events of a user may take in a calm: a node that
	// died is forgotten after up to 10 s, and the second node that may publish its users waits
	// for 10 s more.
	presenceTime = 25 * time.Second
	// strictTime is how long trips run on in a calm after the probes.
	strictTime = 6 * time.Second
)

// calmSince returns since when nothing is in trouble, or the zero time.
func (o *oracle) calmSince() time.Time {
	o.mu.Lock()
	defer o.mu.Unlock()
	since := o.began
	for _, s := range o.spansLocked() {
		if s.to.IsZero() {
			return time.Time{}
		}
		if s.to.After(since) {
			since = s.to
		}
	}
	return since
}

// stopped reports whether a node could not answer at some time since then.
func (o *oracle) stopped(l *life, since time.Time) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	if !l.over.IsZero() || l.killed || l.leaving {
		return true
	}
	for _, s := range l.bad {
		if s.what == stopNode && (s.to.IsZero() || s.to.After(since)) {
			return true
		}
	}
	return false
}

// calm checks what must be true once everything was repaired.
func (w *world) calm(ctx context.Context, number int) {
	began := time.Now()
	w.notef("calm")
	rng := w.rng(probeStream, number)
	w.checkRedis()
	w.checkNodes(began)
	stresskit.Sleep(ctx, healing-time.Since(began)+w.lag.since(began))
	w.probeTrips(rng, number)
	stresskit.Sleep(ctx, strictTime)
	w.checkPresence()
	w.oracle.judge()
	w.oracle.forget(time.Now().Add(-5 * time.Minute))
	w.count.Add("calms", 1)
}

// checkRedis starts Redis again if it has ended although nobody here has killed it.
func (w *world) checkRedis() {
	if w.redis.Answers() {
		return
	}
	w.redis.Kill()
	w.oracle.breachf("Redis has ended by itself, or was killed by somebody else; starting it again: %v", w.redis.Start())
}

// checkNodes waits until every node is well.
func (w *world) checkNodes(began time.Time) {
	for _, p := range w.places {
		for {
			err := w.checkNode(p)
			if err == nil {
				break
			}
			if time.Since(began) > healing+w.lag.since(began) {
				w.oracle.breachf("node %s is not well %v after the last repair: %v", p.name, healing, err)
				break
			}
			time.Sleep(50 * time.Millisecond)
		}
	}
	w.count.Most("slowest recovery of all nodes, ms", int(time.Since(began).Milliseconds()))
}

func (w *world) checkNode(p *place) error {
	l := p.current()
	if l == nil || !l.isReady() {
		return fmt.Errorf("%s is not ready", p.name)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	return ask(ctx, http.MethodGet, l.url+"/check", nil)
}

// probeTrips emits a probe to the room of every running trip, and of some that have ended, each
// through a random node. Exactly the clients of the passenger and the driver must receive it.
func (w *world) probeTrips(rng *rand.Rand, number int) {
	w.frozen.Lock() // no trip changes
	defer w.frozen.Unlock()
	time.Sleep(settling + w.lag.since(time.Now().Add(-settling)))
	running, ended := w.trips.all()
	began := time.Now()
	before := w.oracle.clients()
	probes := map[string]string{} // trips by probe
	for i, trip := range append(running, ended...) {
		id, l := fmt.Sprintf("probe %d.%d", number, i), w.ready(rng)
		if l == nil {
			return // checkNodes has said it
		}
		ctx, cancel := context.WithTimeout(context.Background(), ackTime)
		if err := post(ctx, l.url+"/probe", probePayload{Probe: id, Trip: trip}); err != nil {
			w.oracle.breachf("node %s does not emit a probe: %v", l.name, err)
		}
		cancel()
		if i < len(running) {
			probes[id] = trip
		}
		w.count.Add("probes", 1)
	}
	time.Sleep(probeTime + w.lag.since(began))
	w.oracle.checkProbes(probes, before, began)
}

// clients returns those that are connected.
func (o *oracle) clients() (all []*connection) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for c := range o.open {
		all = append(all, c)
	}
	return all
}

// checkProbes checks that the probes of running trips have arrived at the clients of their
// people that are still connected. That nobody else has received one is checked when the
// connections are judged; that nobody has received one of an ended trip, here.
func (o *oracle) checkProbes(probes map[string]string, before []*connection, began time.Time) {
	for _, c := range before {
		got := map[string]string{} // trips by probe
		for _, a := range arrivals(c.Received(), o.recovery) {
			if a.name == probe.Name() && !a.at.Before(began) {
				got[a.Probe] = a.TripID
			}
		}
		o.checkProbesOf(c, got, probes, began)
	}
}

func (o *oracle) checkProbesOf(c *connection, got, probes map[string]string, began time.Time) {
	o.mu.Lock()
	defer o.mu.Unlock()
	breach := func(format string, args ...any) {
		o.breachLocked(fmt.Sprintf("%s in %s on %s: ", c.user, c.namespace, c.life.name) + fmt.Sprintf(format, args...))
	}
	for id := range got {
		if probes[id] == "" && !o.endMaybeUnknownLocked(got[id]) {
			breach("%s came, but its trip %s has ended; %s", id, got[id], o.lastOfLocked(got[id]))
		}
	}
	if !c.end.IsZero() || c.namespace == realtime.NamespaceAdmin || began.Sub(c.hello) < settling {
		return
	}
	for id, trip := range probes {
		t := o.trips[trip]
		if c.user != t.passenger && c.user != t.driver {
			continue
		}
		o.count.Add("probes that had to arrive", 1)
		if got[id] == "" {
			breach("is not in the room of trip %s, of %s and %s: a probe did not come", trip, t.passenger, t.driver)
		}
	}
}

// checkPresence compares what the presence events say with who is connected.
func (w *world) checkPresence() {
	now := time.Now()
	calm := w.oracle.calmSince()
	if calm.IsZero() {
		return
	}
	for key, s := range w.oracle.usersSince() {
		said := w.online.of(key)
		here := s.connected > 0
		bound := settling + presenceGrace + w.lag.since(now.Add(-healing))
		switch {
		case here && (now.Sub(s.since) < bound || now.Sub(calm) < bound):
		case !here && (now.Sub(s.since) < presenceTime+w.oracle.lateFor(key) || now.Sub(calm) < healing):
		case said.here && !here && w.oracle.nobodyKnows(key):
			w.count.Add("excused: a node died with a user of whom no other could know", 1)
		case said.here != here:
			w.oracle.breachf("%s in %s: connected %v since %.2fs, but presence says %v since %.2fs (%s)", key.user, key.namespace,
				here, s.since.Sub(w.oracle.began).Seconds(), said.here, said.at.Sub(w.oracle.began).Seconds(), said.why)
		default:
			w.count.Add("presence checked", 1)
			if !here {
				w.count.Add("presence checked: of who is away", 1)
			}
		}
	}
}

// stay is how many connections a user has, and since when they have any, or none.
type stay struct {
	connected int
	since     time.Time
}

// usersSince returns the state of every user who has connected.
func (o *oracle) usersSince() map[userKey]stay {
	o.mu.Lock()
	defer o.mu.Unlock()
	users := map[userKey]stay{}
	for key, d := range o.left {
		users[key] = stay{since: d.at}
	}
	for c := range o.open {
		key := userKey{c.namespace, c.user}
		s := users[key]
		if s.connected == 0 || c.hello.Before(s.since) {
			s.since = c.hello
		}
		s.connected++
		users[key] = s
	}
	return users
}
