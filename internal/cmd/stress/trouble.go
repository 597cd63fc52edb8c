// Trouble: the faults around the honest clients, and the time limits that still hold for
// these.

package main

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

// The kinds of trouble.
const (
	hang      = "hang"      // the host's services do not answer
	redeliver = "redeliver" // the bus delivers events again
	reorder   = "reorder"   // the bus delays events, and those of one trip change places
	lose      = "lose"      // messages between the nodes are lost
	panics    = "panic"     // the host's code panics, or ends its goroutine
	strangers = "strangers" // clients come that nobody knows
)

var allTroubles = []string{hang, redeliver, reorder, lose, panics, strangers}

// troubles are the kinds of trouble that are switched on. It is a flag.Value.
type troubles map[string]bool

func (t troubles) String() string { return strings.Join(slices.Sorted(maps.Keys(t)), ",") }

// Set implements flag.Value.
func (t troubles) Set(list string) error {
	clear(t)
	for name := range strings.SplitSeq(list, ",") {
		switch {
		case name == "" || name == "none":
		case name == "all":
			for _, each := range allTroubles {
				t[each] = true
			}
		case slices.Contains(allTroubles, name):
			t[name] = true
		default:
			return fmt.Errorf("%q is none of %s, all and none", name, strings.Join(allTroubles, ", "))
		}
	}
	return nil
}

// Users and trips whose ids begin so belong to trouble. All others are honest, and
// nothing that happens to these may be felt by them.
const (
	sceneTrip   = "x"  // a trip of a scene, which judges it itself
	hungService = "hs" // a driver for whom DriverService and OfferService hang
	hungLookup  = "hl" // who is looked up in vain
	hungTrip    = "xh" // a trip whose people are looked up in vain
	bomb        = "b"  // a user on whom the host's code panics
)

const (
	// loginWithin is how long an honest client needs at most to log in, with what a
	// stock client does about a refusal: it tries again.
	loginWithin = 5 * time.Second
	// loginAgain is how long it waits in between.
	loginAgain = 150 * time.Millisecond
	// banWithin is how long a ban takes at most.
	banWithin = time.Second
	// ackWithin is how long an event takes at most whose handler does not wait.
	ackWithin = 2 * time.Second
	// settleWithin is how long the bus is believed and the host's database is not.
	settleWithin = 5 * time.Second
	// repairWithin is how long the audience of a trip may be wrong after a lost
	// message: as long as that, the longest time between two sweeps, and that which
	// one takes.
	repairWithin = settleWithin + 2*sweepInterval + 500*time.Millisecond
	// calmLag is a lag at which those who make trouble hold back: they are to find
	// faults of the server, not of the machine.
	calmLag = 60 * time.Millisecond
	// busyLag is a lag at which deadlines of a second or more may pass.
	busyLag = 300 * time.Millisecond
	// tooBusy is a lag at which nothing can be said of times.
	tooBusy = 3 * time.Second
)

// late records a breach if something took longer than bound. The measured lag of the
// machine extends the bound several times over, since what is measured has several
// steps.
func (w *world) late(what string, began time.Time, bound time.Duration) {
	bound = w.bound(bound)
	took, lag := time.Since(began), w.lag.since(began)
	if lag > tooBusy {
		w.count.Add("times not judged, the machine being too busy", 1)
		return
	}
	w.oracle.tookTooLong(what, took, bound, lag)
}

// bound returns a bound, which is shorter in tests.
func (w *world) bound(d time.Duration) time.Duration {
	if w.config.hurry {
		return d / 10
	}
	return d
}

// calm waits until the machine does not lag, and returns false if ctx ends first.
func (w *world) calm(ctx context.Context) bool {
	for w.lag.since(time.Now().Add(-time.Second)) > calmLag {
		w.count.Add("times that trouble held back", 1)
		if !stresskit.Sleep(ctx, 100*time.Millisecond) {
			return false
		}
	}
	return ctx.Err() == nil
}

// busy reports whether the machine has lagged so much that a deadline of the server may
// have passed.
func (w *world) busy(began time.Time) bool {
	if w.lag.since(began) < busyLag {
		return false
	}
	w.count.Add("times not judged, the machine being too busy", 1)
	return true
}

// patience is how long a device waits for something that must happen; longer if the
// machine lags.
func (w *world) patience() time.Duration {
	return excused(patience, w.lag.since(time.Now().Add(-5*time.Second)))
}

// tookTooLong records a breach if took is more than bound and what the lag excuses.
func (o *oracle) tookTooLong(what string, took, bound, lag time.Duration) {
	if took > excused(bound, lag) {
		o.breachf("%s took %v, but may take %v", what, took.Round(time.Millisecond), bound)
	}
}

// excused returns the bound on a machine with that lag.
func excused(bound, lag time.Duration) time.Duration { return bound + 5*lag }

// allowed returns a ctx that ends after bound and what the lag excuses meanwhile.
func (w *world) allowed(bound time.Duration) (context.Context, context.CancelFunc) {
	ctx, cancel := context.WithCancel(context.Background())
	began := time.Now()
	go func() {
		defer cancel()
		for left := bound; left > 0 && stresskit.Sleep(ctx, left); {
			left = excused(bound, w.lag.since(began)) - time.Since(began)
		}
	}()
	return ctx, cancel
}

// within reports whether f returned in time. f continues if it did not.
func (w *world) within(bound time.Duration, f func()) bool {
	ctx, cancel := w.allowed(bound)
	defer cancel()
	done := make(chan struct{})
	go func() {
		defer close(done)
		f()
	}()
	return wait(ctx, done) == nil
}

// eventually waits for f as long as allowed, and reports whether f became true or cannot
// be judged.
func (w *world) eventually(ctx context.Context, bound time.Duration, f func() bool) bool {
	bound = w.bound(bound)
	began := time.Now()
	for !f() {
		lag := w.lag.since(began)
		if time.Since(began) > excused(bound, lag) {
			return lag > tooBusy || w.oracle.isDraining()
		}
		if !stresskit.Sleep(ctx, 15*time.Millisecond) {
			return true
		}
	}
	return true
}

// honest returns the address of an honest client: each is in a network of its own.
func honest(i int) string {
	return fmt.Sprintf("%d.%d.%d.9", 20+i%60, 1+i/60%250, 1+i*7%250)
}

// from sets a client's address.
func from(address string) realtimetest.Option {
	return realtimetest.Header("X-Forwarded-For", address)
}

// enter logs in a new honest user.
func (w *world) enter(ctx context.Context, n *node, user string, typ realtime.UserType) *realtimetest.Client {
	w.users.Set(realtime.User{ID: user, Type: typ, Active: true})
	_, token := w.login(user, int(w.guests.Add(1)))
	return w.again(ctx, n, user, namespaceOf(typ), token)
}

// again connects with a token, and retries within loginWithin.
func (w *world) again(ctx context.Context, n *node, user, namespace, token string) *realtimetest.Client {
	return w.dialAgain(ctx, n, user, namespace, realtimetest.Token(token), from(honest(int(w.guests.Add(1)))))
}

// dialAgain dials until it has connected, or longer than loginWithin.
func (w *world) dialAgain(ctx context.Context, n *node, user, namespace string, opts ...realtimetest.Option) *realtimetest.Client {
	began := time.Now()
	for {
		dialing, cancel := context.WithTimeout(ctx, loginWithin)
		c, err := realtimetest.Dial(dialing, n.url, namespace, opts...)
		cancel()
		switch {
		case err == nil:
			w.late("the login of "+user, began, loginWithin)
			return c.Within(w.patience())
		case ctx.Err() != nil || w.oracle.isDraining():
			return nil
		case time.Since(began) > excused(w.bound(loginWithin), w.lag.since(began)):
			if w.lag.since(began) <= tooBusy {
				w.oracle.breachf("honest user %s can't log in for %v: %v", user, loginWithin, err)
			}
			return nil
		}
		w.count.Add("logins tried again", 1)
		if !stresskit.Sleep(ctx, loginAgain) {
			return nil
		}
	}
}

func namespaceOf(typ realtime.UserType) string {
	switch typ { //nolint:exhaustive // all others are passengers
	case realtime.UserDriver:
		return realtime.NamespaceDrivers
	case realtime.UserAdmin:
		return realtime.NamespaceAdmin
	}
	return realtime.NamespacePassengers
}

// namespace is one of the node's namespaces.
func (n *node) namespace(name string) *realtime.Namespace {
	switch name {
	case realtime.NamespaceDrivers:
		return n.rt.Drivers()
	case realtime.NamespaceAdmin:
		return n.rt.Admin()
	}
	return n.rt.Passengers()
}

// lag is how much this machine holds up what runs on it, measured by sleeping and by
// talking to itself, without the server. All methods may be called concurrently.
type lag struct {
	mu    sync.Mutex // guards past
	past  []delay
	stop  chan struct{}
	ended sync.WaitGroup
	live  atomic.Int64 // when the measurement under way began, in nanoseconds
}

// delay is one measurement.
type delay struct {
	at   time.Time
	held time.Duration
}

// lagMemory is how long measurements are kept.
const lagMemory = time.Minute

// lagStep is how often it is measured.
const lagStep = 10 * time.Millisecond

func newLag() (*lag, error) {
	l := &lag{stop: make(chan struct{})}
	rtt, end, err := newCanary()
	if err != nil {
		return nil, err
	}
	l.ended.Go(func() {
		defer end()
		for {
			began := time.Now()
			l.live.Store(began.UnixNano())
			select {
			case <-time.After(lagStep):
			case <-l.stop:
				return
			}
			rtt()
			l.add(time.Now(), time.Since(began)-lagStep)
		}
	})
	return l, nil
}

func (l *lag) close() {
	close(l.stop)
	l.ended.Wait()
}

func (l *lag) add(at time.Time, held time.Duration) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if held < 2*time.Millisecond {
		return // nothing that counts
	}
	if i := slices.IndexFunc(l.past, func(d delay) bool { return at.Sub(d.at) < lagMemory }); i > 0 {
		l.past = slices.Delete(l.past, 0, i)
	}
	l.past = append(l.past, delay{at, held})
}

// since returns the longest delay since then, that under way included.
func (l *lag) since(began time.Time) time.Duration {
	longest := max(0, time.Since(time.Unix(0, l.live.Load()))-2*lagStep)
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, d := range slices.Backward(l.past) {
		if d.at.Before(began) {
			break
		}
		longest = max(longest, d.held)
	}
	return longest
}
