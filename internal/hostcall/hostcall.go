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
	"runtime/debug"
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

// PanicError is what a panic of the host's code becomes, or its end by
// runtime.Goexit.
type PanicError struct {
	Value any    // of the panic; nil for runtime.Goexit
	Stack []byte // where it happened
}

// Error implements error. It does not unwrap: the value of a panic has no meaning to
// who calls.
func (p *PanicError) Error() string {
	if p.Value == nil {
		return "the goroutine was ended by runtime.Goexit"
	}
	return fmt.Sprintf("panic: %v", p.Value)
}

// Stack returns where a panic happened that err is or wraps, empty if it is none.
func Stack(err error) string {
	var p *PanicError
	if errors.As(err, &p) {
		return string(p.Stack)
	}
	return ""
}

// Guard calls f on the caller's goroutine, whose panic is an error. When f ends the
// goroutine exited is called instead, on it, with the error; then the goroutine ends.
// Use it where f is known not to block, or where a Watchdog looks.
func Guard(f func() error, exited func(error)) (err error) {
	returned := false
	defer func() {
		switch v := recover(); {
		case v != nil:
			err = &PanicError{v, debug.Stack()}
		case !returned:
			exited(&PanicError{nil, debug.Stack()})
		}
	}()
	err = f()
	returned = true
	return err
}
