// Package hostcall is the one way to call the host's code: its hooks, its
// repositories, its services. Whatever that code does (panic, end its goroutine with
// runtime.Goexit, never return) costs the caller an error and a bounded amount of
// time, and the process a bounded number of goroutines.
//
//   - Do waits for an answer, within a time; Lookup does so for rows that many want
//     at once.
//   - Watchdog looks after calls that run on the caller's goroutine, because they are
//     many and short: handlers.
//   - Queue calls, in order and without anybody waiting, what only wants to know.
//
// A call that has exceeded its time and still runs is abandoned: nothing can end a
// goroutine, so its result is dropped, it is counted until it returns, and when too
// many of its kind are, no more are begun.
package hostcall

import (
	"errors"
	"fmt"
)

var (
	// ErrTimeout says that a call did not return in time.
	ErrTimeout = errors.New("no answer in time")
	// ErrBusy says that a call was not begun: as many as may run at once were running
	// all the time.
	ErrBusy = errors.New("not called: too many calls are running")
	// ErrBusyHandler is ErrBusy of one handler, though others may have room.
	ErrBusyHandler = fmt.Errorf("%w of this handler", ErrBusy)
	// ErrAbandoned says that a call was not begun: too many of the earlier ones are
	// abandoned.
	ErrAbandoned = errors.New("not called: too many earlier calls have not returned")
)

// Guard calls f on the caller's goroutine, whose panic is an error. When f ends the
// goroutine exited is called instead, on it, with the error; then the goroutine ends.
// Use it where f is known not to block, or where a Watchdog looks.
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

// caught calls f, whose panic is an error. What the panic's value says of itself may
// end the goroutine too.
func caught(f func() error) (err error) {
	defer func() {
		if v := recover(); v != nil {
			err = newPanicError(v)
		}
	}()
	return f()
}
