// Package hostcall is the only way to call the host's code: its hooks, repositories
// and services. That code may panic, end its goroutine with runtime.Goexit, or never
// return. A panic becomes an error, no caller of Do or Lookup waits after the timeout or
// the end of its ctx, and the number of goroutines in the process stays bounded.
//
//   - Do calls a function and waits for its result, up to a timeout. Lookup does so
//     for rows: concurrent lookups of one id share a call, and rows are cached.
//   - Watchdog observes calls that run on the caller's own goroutine: handlers, which
//     are too many and too short for a goroutine and a timer each.
//   - Queue calls functions one after another without a caller that waits: hooks that
//     only observe.
//   - Notices informs the host of changes with Do, and tries again later if no call could
//     start.
//
// A call that exceeded its time and still runs is abandoned. Go cannot stop a
// goroutine, so its result is dropped and it is counted until it returns. When too
// many calls of a kind are abandoned, no new ones start.
//
// Other packages call three parts of the host themselves, and recover their panics: its
// slog.Handler, which runs where something is logged; its net.Conn, whose reader and writer
// engineio owns; and the handlers of a bus, for which Publish does not wait.
package hostcall

import (
	"errors"
	"fmt"
)

var (
	// ErrTimeout says that a call did not return in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrBusy says that a call did not start: the maximum number of calls was running
	// for as long as it could wait.
	ErrBusy = errors.New("not called: too many calls are running")
	// ErrBusyHandler is ErrBusy for the limit of one handler.
	ErrBusyHandler = fmt.Errorf("%w of this handler", ErrBusy)
	// ErrAbandoned says that a call did not start: too many earlier calls are
	// abandoned.
	ErrAbandoned = errors.New("not called: too many earlier calls have not returned")
)

// Guard calls f on the caller's goroutine and returns a panic as a *PanicError. When f
// calls runtime.Goexit, Guard cannot return: it calls exited with the error, and the
// goroutine ends. Use it where f cannot block, or where a Watchdog observes the call.
func Guard(f func() error, exited func(error)) (err error) {
	returned := false
	defer func() {
		if !returned {
			exited(newExitError())
		}
	}()
	err = caught(f)
	returned = true
	return err
}

// caught calls f and returns a panic as a *PanicError. The methods of the panic's value
// may end the goroutine.
func caught(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return f()
}
