// Notices: calls that tell the host that something has changed. A notice that cannot be given
// now is given later.

package hostcall

import (
	"context"
	"errors"
	"sync"
	"time"
)

const (
	// noticeRetry is how long after a failed attempt the next one is made.
	noticeRetry = time.Second
	// missedFrom is the number of missed notices from which each addition may drop those
	// that no longer matter.
	missedFrom = 1024
)

// NoticesConfig configures Notices. All fields are required.
type NoticesConfig[K comparable] struct {
	// Kind bounds the calls.
	Kind *Kind
	// Call says that a subject has changed. It reads the subject's state itself, so
	// several notices of one subject may become one, and may come late.
	Call func(subject K)
	// Matters reports whether a missed notice of a subject must still be given when
	// there are many.
	Matters func(subject K) bool
	// Failed is called with the error of a call. After ErrBusy and ErrAbandoned the notice
	// is given later; if these occur again then, Failed is not called again.
	Failed func(subject K, err error)
}

// Notices gives notices: it calls NoticesConfig.Call. If too many calls run or are abandoned,
// the notice is missed and given later. Its methods may be called concurrently.
type Notices[K comparable] struct {
	cfg NoticesConfig[K]
	ctx context.Context //nolint:containedctx // ends the goroutine that retries

	mu       sync.Mutex     // guards the fields below
	missed   map[K]struct{} // the subjects of missed notices
	retrying bool           // a goroutine gives the missed notices
	sweepAt  int            // the number of missed notices at which those that no longer matter are dropped
}

// NewNotices returns Notices. After ctx has ended, missed notices are not given.
func NewNotices[K comparable](ctx context.Context, cfg NoticesConfig[K]) *Notices[K] {
	return &Notices[K]{cfg: cfg, ctx: ctx, missed: map[K]struct{}{}, sweepAt: missedFrom}
}

// Give gives a notice and waits for the call, as Run does.
func (n *Notices[K]) Give(subject K) {
	if err := n.call(subject); err != nil {
		n.cfg.Failed(subject, err)
		if notCalled(err) {
			n.miss(subject)
		}
	}
}

func (n *Notices[K]) call(subject K) error {
	return Run(context.Background(), n.cfg.Kind, func(context.Context) error {
		n.cfg.Call(subject)
		return nil
	})
}

func notCalled(err error) bool { return errors.Is(err, ErrBusy) || errors.Is(err, ErrAbandoned) }

// miss remembers a notice that was not given.
func (n *Notices[K]) miss(subject K) {
	n.mu.Lock()
	full := len(n.missed) >= n.sweepAt
	n.mu.Unlock()
	if full {
		n.sweep()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.missed[subject] = struct{}{}
	if !n.retrying && n.ctx.Err() == nil {
		n.retrying = true
		go n.retry()
	}
}

// sweep drops the missed notices that no longer matter.
func (n *Notices[K]) sweep() {
	n.mu.Lock()
	subjects := make([]K, 0, len(n.missed))
	for s := range n.missed {
		subjects = append(subjects, s)
	}
	n.mu.Unlock()
	var dropped []K
	for _, s := range subjects {
		if !n.cfg.Matters(s) {
			dropped = append(dropped, s)
		}
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	for _, s := range dropped {
		delete(n.missed, s)
	}
	n.sweepAt = max(missedFrom, 2*len(n.missed))
}

// retry gives the missed notices, one at a time, until there are none.
func (n *Notices[K]) retry() {
	wait := time.NewTimer(noticeRetry)
	defer wait.Stop()
	for {
		select {
		case <-wait.C:
		case <-n.ctx.Done():
			return
		}
		for {
			subject, ok := n.take()
			if !ok {
				return
			}
			err := n.call(subject)
			if notCalled(err) {
				n.miss(subject)
				break
			}
			if err != nil {
				n.cfg.Failed(subject, err)
			}
		}
		wait.Reset(noticeRetry)
	}
}

// take removes one of the missed notices and returns its subject. If there is none, the
// goroutine that retries must end.
func (n *Notices[K]) take() (subject K, ok bool) {
	n.mu.Lock()
	defer n.mu.Unlock()
	for subject = range n.missed {
		delete(n.missed, subject)
		return subject, true
	}
	n.retrying = false
	return subject, false
}
