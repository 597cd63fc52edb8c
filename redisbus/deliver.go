// Delivery: calling the handlers for one event, within Options.HandlerTimeout.

package redisbus

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/hostcall"
)

var (
	errLate  = errors.New("the handler has not returned within Options.HandlerTimeout")
	errStuck = errors.New("the handler was not called: an earlier call for this partition was abandoned and still runs")
	errExit  = errors.New("the handler has ended its goroutine")
)

// deliver calls the handlers concurrently with an event, and those that fail again. It returns
// nil if all have handled it, errStopped if the session has ended, and otherwise the reason for
// setting the event aside.
func (s *session) deliver(e realtime.Envelope, to []*subscription) error {
	if len(to) == 1 {
		return s.attempt(e, to[0])
	}
	errs := make([]error, len(to))
	var calls sync.WaitGroup
	for i, sub := range to {
		calls.Go(func() { errs[i] = s.attempt(e, sub) })
	}
	calls.Wait()
	for _, err := range errs {
		if err == errStopped { //nolint:errorlint // errors.Is would call methods of the handlers' errors
			return err
		}
	}
	return errors.Join(errs...)
}

// attempt calls a handler until it has handled an event, or must not be called again for it. When the node leaves, the
// handlers of an event that was begun are all called: otherwise another node would hand it to all again.
func (s *session) attempt(e realtime.Envelope, to *subscription) error {
	began, wait := time.Now(), s.b.timing.retry
	for n := 1; ; n++ {
		if s.handling.Err() != nil || n > 1 && s.going.Err() != nil || !s.owns() {
			return errStopped
		}
		s.m.begin(s.part)
		err := s.call(e, to)
		switch {
		case err == nil:
			return nil
		case err == errNobody || s.handling.Err() != nil || !s.owns(): //nolint:errorlint // as in deliver
			return errStopped // also if the process was stopped: the event is another node's now
		case err == errLate, err == errStuck, n >= s.b.opts.Attempts, time.Since(began) >= s.b.opts.HandlerTimeout: //nolint:errorlint // as in deliver
			return err
		}
		sleep(s.going, wait)
		wait = min(2*wait, 10*s.b.timing.retry)
	}
}

// call calls a handler once and waits until it has returned or was abandoned. It also waits when
// the session's contexts have ended, because a session ends after its handlers.
func (s *session) call(e realtime.Envelope, to *subscription) error {
	if ok, err := s.b.begin(to); !ok {
		return err
	}
	defer to.running.Done()
	// The handler's error is a value here: hostcall.Do would call methods of an error.
	result, err := hostcall.Do(context.Background(), to.calls, s.part.index, func(context.Context) (failed, error) {
		var ctx hostcall.Context
		ctx.Start(s.handling, time.Now().Add(s.b.opts.HandlerTimeout))
		defer ctx.End()
		return failed{call(&ctx, to, e)}, nil
	})
	switch {
	case err == nil:
		return result.err
	case errors.Is(err, hostcall.ErrTimeout):
		return errLate
	case errors.Is(err, hostcall.ErrAbandoned), errors.Is(err, hostcall.ErrBusy):
		return errStuck
	}
	return errExit // call recovers panics
}

// failed holds the error that a handler has returned, or nil.
type failed struct{ err error }

// begin reports whether the handler may be called. If so, the caller must call s.running.Done
// after the call. A subscription that has ended needs no call, and no error, while there are
// others.
func (b *Bus) begin(s *subscription) (ok bool, err error) {
	b.mu.Lock()
	defer b.mu.Unlock()
	switch {
	case !s.ended:
		s.running.Add(1)
		return true, nil
	case len(b.subscriptions) == 0:
		return false, errNobody
	}
	return false, nil
}

// handlerError wraps an error of a handler with its text. Its Error method does not call that of
// the handler's error, which may panic, for instance if it is a nil pointer of an error type. The
// host finds the handler's error with errors.Is and errors.As.
type handlerError struct {
	text string
	err  error
}

func (e *handlerError) Error() string { return e.text }
func (e *handlerError) Unwrap() error { return e.err }

func call(ctx context.Context, s *subscription, e realtime.Envelope) (err error) {
	defer func() {
		if r := recover(); r != nil {
			err = fmt.Errorf("the handler panicked: %v\n%s", r, debug.Stack())
		}
	}()
	if err = s.handler(ctx, e); err != nil {
		err = &handlerError{err.Error(), err}
	}
	return err
}
