// Health: whether the node receives messages from other nodes, and since when it may have
// missed some.

package redisadapter

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// Check implements realtime.AdapterChecker. It returns nil while the node receives
// messages: each second the node publishes a probe and must receive it, and no message waits
// for more than ten seconds to be handled. Check does not block.
func (a *Adapter) Check(context.Context) error {
	if err := a.connected(); err != nil {
		return err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.late
}

// connected returns an error unless probes arrive.
func (a *Adapter) connected() error {
	a.mu.Lock()
	defer a.mu.Unlock()
	switch {
	case a.closed:
		return realtime.ErrClosed
	case !a.started:
		return errNotStarted
	case a.client.Load() == nil:
		return errNotConnected
	}
	for _, err := range a.health {
		if err != nil {
			return err
		}
	}
	return nil
}

// errLate is the error of Check while received messages wait too long.
var errLate = errors.New("redisadapter: messages arrive faster than the server handles them")

// checkDelays sets whether the received messages of a namespace wait too long.
func (a *Adapter) checkDelays(now time.Time) {
	var longest time.Duration
	a.namespaces.Range(func(_, ns any) bool {
		longest = max(longest, ns.(*namespace).delay(now)) //nolint:errcheck,forcetypeassert // namespaces holds nothing else
		return true
	})
	a.mu.Lock()
	before := a.late
	a.late = nil
	if longest > a.timing.late {
		a.late = errLate
	}
	late := a.late
	a.mu.Unlock()
	switch {
	case late != nil && before == nil:
		a.log.Error("redisadapter: messages of other nodes wait to be handled", "for", longest)
		a.receiving(late)
	case late == nil && before != nil:
		a.log.Info("redisadapter: messages of other nodes are handled in time again")
		if a.connected() == nil {
			a.receiving(nil)
		}
	}
}

// gaps stores since when messages may be lost.
type gaps struct {
	mu    sync.Mutex          // guards the fields below
	since map[*link]time.Time // since when each link that does not receive may have lost messages
	last  realtime.Gap        // the last one that was reported
	said  time.Time           // when it was
}

// signals are calls of the node about this adapter and the other nodes. They are made one
// at a time, in order, and not on the goroutine that reads a connection.
type signals struct {
	mu      sync.Mutex // guards the fields below
	queue   []func()
	gaps    int           // the number of gaps in queue
	more    *realtime.Gap // those that have no place in it, as one of all nodes; nil: there are none
	running bool          // a goroutine makes the calls
	deaf    bool          // the last report to Node.Receiving was that the node does not receive
}

// maxGaps is the maximum number of gaps that wait: further ones are reported as one.
const maxGaps = 16

// underWay is how long a message may be under way from the node that emits it to Redis: the
// connection of that node fails then.
const underWay = writeTimeout

// lostSince returns since when messages may be lost that were to be received after all that
// reached Redis before received, if that is detected now.
func (a *Adapter) lostSince(received, now time.Time) time.Time {
	since, detected := received.Add(-underWay), now.Add(-(missedProbes+1)*a.timing.probe)
	if detected.Before(since) {
		return detected
	}
	return since
}

// checkJoinedLocked sets joined once all links of Start receive.
func (a *Adapter) checkJoinedLocked() {
	all := a.opened
	for _, err := range a.health {
		all = all && err == nil
	}
	a.joined = a.joined || all
}

// linkDown is called by a link each time it fails.
func (a *Adapter) linkDown(l *link, err error) {
	a.mu.Lock()
	before := a.health[l]
	a.health[l] = fmt.Errorf("redisadapter: not connected to Redis: %w", err)
	a.mu.Unlock()
	if before == nil {
		a.gaps.mu.Lock()
		if a.gaps.since == nil {
			a.gaps.since = map[*link]time.Time{}
		}
		a.gaps.since[l] = a.lostSince(l.receivedUntil(), time.Now())
		a.gaps.mu.Unlock()
		a.receiving(err)
		a.log.Error("redisadapter: not receiving from other nodes", "error", err)
	}
}

// linkUp is called by a link when the first probe of a connection has arrived.
func (a *Adapter) linkUp(l *link) {
	a.mu.Lock()
	a.health[l] = nil
	a.checkJoinedLocked()
	a.mu.Unlock()
	if a.Check(a.ctx) == nil {
		a.receiving(nil)
	}
	a.gaps.mu.Lock()
	since, was := a.gaps.since[l]
	delete(a.gaps.since, l)
	a.gaps.mu.Unlock()
	if !was {
		return
	}
	now := time.Now()
	a.peers.refresh(now)
	a.log.Info("redisadapter: receiving from other nodes again", "after", now.Sub(since))
	a.notify(notice{Op: opHello, Ago: int64(now.Sub(since))})
	a.gap(realtime.Gap{Since: since, Until: now, Reason: "not connected to Redis"})
}

// heardAgain is called when another node receives again, which it did not since that time. If this
// node had a gap meanwhile, what it then asked the other node has not arrived: the gap is reported
// once more, so that this node asks again.
func (a *Adapter) heardAgain(peer string, since time.Time) {
	a.gaps.mu.Lock()
	last, said := a.gaps.last, a.gaps.said
	a.gaps.mu.Unlock()
	if !said.IsZero() && !said.Before(since) {
		last.Peer, last.Reason = peer, "another node did not receive a request of this node"
		a.gap(last)
	}
}

// publishFailed is called by the publisher when the first message is lost.
func (a *Adapter) publishFailed(lost int, err error) {
	a.log.Error("redisadapter: messages to other nodes are lost", "messages", lost, "error", err)
}

// publishHealed is called by the publisher when it succeeds again. It notifies the other
// nodes that messages of this node were lost.
func (a *Adapter) publishHealed(lost int, since time.Time) {
	ago := time.Since(since) + writeTimeout
	a.log.Info("redisadapter: publishing to other nodes works again", "lost", lost)
	a.notify(notice{Op: opLost, Ago: int64(ago)})
}

// overflowed is called when a namespace's queue was full. The first lost message reached Redis at
// since or later.
func (a *Adapter) overflowed(namespace string, lost int, since time.Time) {
	a.log.Error("redisadapter: queue of received messages overflowed", "namespace", namespace, "lost", lost)
	a.gap(realtime.Gap{Since: since.Add(-underWay), Until: time.Now(), Reason: "messages arrived faster than the server handled them"})
}

// gap reports a gap to the node.
func (a *Adapter) gap(g realtime.Gap) {
	a.gaps.mu.Lock()
	a.gaps.last, a.gaps.said = g, time.Now()
	a.gaps.mu.Unlock()
	a.signals.mu.Lock()
	defer a.signals.mu.Unlock()
	a.queueGapLocked(g)
}

func (a *Adapter) queueGapLocked(g realtime.Gap) {
	if a.signals.gaps >= maxGaps {
		a.signals.more = withGap(a.signals.more, g)
		return
	}
	a.signals.gaps++
	a.signalLocked(func() {
		a.signals.mu.Lock()
		a.signals.gaps--
		if more := a.signals.more; more != nil {
			a.signals.more = nil
			a.queueGapLocked(*more)
		}
		a.signals.mu.Unlock()
		a.node.Gap(g)
	})
}

// withGap returns a gap of all nodes that covers g and the other one, which may be nil.
func withGap(other *realtime.Gap, g realtime.Gap) *realtime.Gap {
	g.Peer = ""
	if other != nil && other.Since.Before(g.Since) {
		g.Since = other.Since
	}
	if other != nil && other.Until.After(g.Until) {
		g.Until = other.Until
	}
	return &g
}

// receiving reports to the node that it does not receive, because of err, or that it receives
// again, if err is nil. It does nothing if the last report was the same.
func (a *Adapter) receiving(err error) {
	a.signals.mu.Lock()
	defer a.signals.mu.Unlock()
	if a.signals.deaf != (err != nil) {
		a.signals.deaf = err != nil
		a.signalLocked(func() { a.node.Receiving(err) })
	}
}

// signal queues f, a call of the node. It does not wait for it.
func (a *Adapter) signal(f func()) {
	a.signals.mu.Lock()
	defer a.signals.mu.Unlock()
	a.signalLocked(f)
}

func (a *Adapter) signalLocked(f func()) {
	a.signals.queue = append(a.signals.queue, f)
	if !a.signals.running && a.enter() {
		a.signals.running = true
		go a.runSignals()
	}
}

func (a *Adapter) runSignals() {
	done := false
	defer func() {
		if !done { // the node has ended this goroutine with runtime.Goexit
			go a.runSignals()
			return
		}
		a.leave()
	}()
	for {
		a.signals.mu.Lock()
		if len(a.signals.queue) == 0 || a.isClosed() {
			a.signals.queue, a.signals.running = nil, false
			a.signals.mu.Unlock()
			done = true
			return
		}
		f := a.signals.queue[0]
		a.signals.queue = a.signals.queue[1:]
		a.signals.mu.Unlock()
		a.guard("a signal", f)
	}
}

// malformedEvery is the minimum time between two log records about malformed messages.
const malformedEvery = 10 * time.Second

// malformed counts a dropped message, and logs at most once per malformedEvery. It does
// not log the message, which may contain anything.
func (a *Adapter) malformed(namespace string, err error) {
	a.mu.Lock()
	a.bad++
	bad := a.bad
	quiet := time.Since(a.badLog) < malformedEvery
	if !quiet {
		a.bad, a.badLog = 0, time.Now()
	}
	a.mu.Unlock()
	if !quiet && !errors.Is(err, realtime.ErrClosed) {
		a.log.Warn("redisadapter: dropped malformed messages", "namespace", namespace, "messages", bad, "error", err)
	}
}
