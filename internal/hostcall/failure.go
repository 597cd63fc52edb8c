// What the host's code fails with: its errors and panics, looked at once.

package hostcall

import (
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"strings"
)

// maxText is how many bytes of an error's text are kept, and maxStack of a stack.
const (
	maxText  = 64 << 10
	maxStack = 16 << 10
)

// Failure is an error of the host's code as it may be looked at anywhere. The methods
// of the host's own (Error, Unwrap, Is, As, LogValue) are the host's code too, which may
// panic, end its goroutine or hang: a nil pointer of an error type is enough. They are
// called once, by an Inspector, where that costs the call alone.
type Failure struct {
	text  string
	parts []error // what it is or wraps, none of it the host's
	host  error
}

// Error implements error.
func (f *Failure) Error() string { return f.text }

// Unwrap is what errors.Is and errors.As find in it.
func (f *Failure) Unwrap() []error { return f.parts }

// Original returns the host's own error behind a Failure, to return it to the host, and
// any other error as it is.
func Original(err error) error {
	if f, ok := err.(*Failure); ok { //nolint:errorlint // it is never wrapped where this is asked
		return f.host
	}
	return err
}

// Inspector turns errors of the host's code into what may be looked at anywhere. It is
// to be called where the host's code is: see Limits.Inspect and Guard.
type Inspector struct {
	Known []error // what callers ask for with errors.Is
	// Find returns the error of the library's that one is or wraps, for callers that
	// ask for it with errors.As; nil if none.
	Find func(error) error
}

// Inspect returns nil for nil, an error that is not the host's as it is, and a *Failure
// in place of any other.
func (i *Inspector) Inspect(err error) error {
	if err == nil || i.isOurs(err) {
		return err
	}
	f := &Failure{host: err}
	for _, known := range i.Known {
		if quietly(func() bool { return errors.Is(err, known) }) {
			f.parts = append(f.parts, known)
		}
	}
	quietly(func() bool {
		if found := i.Find(err); found != nil {
			f.parts = append(f.parts, found)
		}
		var p *PanicError
		if errors.As(err, &p) && p != nil {
			f.parts = append(f.parts, p)
		}
		return true
	})
	f.text = text(func() string {
		if v, ok := err.(slog.LogValuer); ok {
			return v.LogValue().Resolve().String()
		}
		return err.Error()
	})
	return f
}

// isOurs compares, which calls nothing.
func (i *Inspector) isOurs(err error) bool {
	switch err { //nolint:errorlint // what is wrapped is the host's
	case ErrTimeout, ErrBusy, ErrBusyHandler, ErrAbandoned:
		return true
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case *Failure:
		return e != nil
	case *PanicError:
		return e != nil
	}
	for _, known := range i.Known {
		if err == known { //nolint:errorlint // as above
			return true
		}
	}
	return false
}

// PanicError is what a panic of the host's code becomes, or its end by
// runtime.Goexit.
type PanicError struct {
	text  string
	stack string
}

// newPanicError is called where the panic was, since its value's methods are the
// host's code.
func newPanicError(value any) *PanicError {
	return &PanicError{
		text:  text(func() string { return fmt.Sprintf("panic: %v", value) }),
		stack: stack(),
	}
}

func newExitError() *PanicError {
	return &PanicError{"the goroutine was ended by runtime.Goexit", stack()}
}

// Error implements error. It does not unwrap: the value of a panic has no meaning to
// who calls.
func (p *PanicError) Error() string { return p.text }

// Stack returns where a panic happened that err is or wraps, empty if it is none. The
// error is not the host's own.
func Stack(err error) string {
	var p *PanicError
	if errors.As(err, &p) {
		return p.stack
	}
	return ""
}

func stack() string { return cut(string(debug.Stack()), maxStack) }

// text calls a method that says what an error or a value is.
func text(f func() string) (s string) {
	defer func() {
		if recover() != nil {
			s = "an error whose text panicked"
		}
	}()
	return cut(f(), maxText)
}

// quietly calls a method that answers whether an error is another one.
func quietly(f func() bool) (is bool) {
	defer func() { _ = recover() }() // then it is not
	return f()
}

// cut keeps nothing of what it cuts off.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.Clone(s[:n])
}
