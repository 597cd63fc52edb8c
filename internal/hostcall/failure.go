// The errors and panics of the host's code, inspected once and made safe to use.

package hostcall

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"runtime/debug"
	"slices"
	"strings"
	"time"
)

// maxText is the number of bytes that are kept of an error's text, maxStack of a stack.
const (
	maxText  = 64 << 10
	maxStack = 16 << 10
)

// Failure stands for an error of the host's code. The methods of the host's own error
// (Error, Unwrap, Is, As, LogValue) are the host's code too and may panic, end the
// goroutine or hang; a nil pointer of an error type is enough. An Inspector calls them
// once, within the host call. A Failure's own methods are safe to call anywhere.
type Failure struct { //nolint:errname // it stands in for errors of any kind
	text  string
	parts []error // errors that the host's is or wraps; none of them is the host's own
	host  error
}

// Error implements error.
func (f *Failure) Error() string { return f.text }

// Unwrap returns the errors that errors.Is and errors.As find in it.
func (f *Failure) Unwrap() []error { return f.parts }

// Original returns the host's own error for a Failure, so that it can be returned to the
// host, and any other error unchanged.
func Original(err error) error {
	if f, ok := err.(*Failure); ok { //nolint:errorlint // it is never wrapped where this is asked
		return f.host
	}
	return err
}

// Inspector turns errors of the host's code into Failures. It must be called within the
// host call, because it calls the error's methods: see Limits.Inspect and Guard.
type Inspector struct {
	Known []error // errors that callers look for with errors.Is
	// Find returns the library's own error that an error is or wraps, for callers that
	// look for it with errors.As, or nil.
	Find func(error) error
}

// Inspect returns a *Failure for an error of the host's. It returns nil, an error of this
// package and an error in Known unchanged.
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

// isOurs reports whether an error is of this package or in Known. It only compares, and
// calls no method of the error.
func (i *Inspector) isOurs(err error) bool {
	//nolint:errorlint // what is wrapped is the host's
	switch err {
	case ErrTimeout, ErrBusy, ErrBusyHandler, ErrAbandoned:
		return true
	}
	switch e := err.(type) { //nolint:errorlint // as above
	case *Failure:
		return e != nil
	case *PanicError:
		return e != nil
	}
	return slices.Contains(i.Known, err)
}

// PanicError reports that the host's code panicked, or ended its goroutine with
// runtime.Goexit. It has no Unwrap: even if the panic's value is an error, callers must
// not mistake it for one that was returned.
type PanicError struct {
	text  string
	stack string
}

// newPanicError is called within the host call, because the methods of the panic's value
// are the host's code.
func newPanicError(value any) *PanicError {
	return &PanicError{
		text:  text(func() string { return fmt.Sprintf("panic: %v", value) }),
		stack: stack(),
	}
}

// panicTexts bounds the calls of PanicText. Abandoned ones are those of a value whose
// methods hang. It has no timeout, whose timer would be shared by tests with clocks of their own.
var panicTexts = NewKind(Limits{Running: 16, Abandoned: 16})

// PanicText returns the text of a value that was recovered outside of a host call. The
// value's methods are the host's code, so they are called on another goroutine, for at
// most a second. nil stands for runtime.Goexit.
func PanicText(v any) string {
	switch v := v.(type) {
	case nil:
		return exitText
	case string:
		return cut(v, maxText)
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	s, err := Do(ctx, panicTexts, nil, func(context.Context) (string, error) {
		return text(func() string { return fmt.Sprint(v) }), nil
	})
	if err != nil {
		return fmt.Sprintf("a value of type %T, whose text is not available", v)
	}
	return s
}

const exitText = "the goroutine was ended by runtime.Goexit"

func newExitError() *PanicError {
	return &PanicError{exitText, stack()}
}

// Error implements error.
func (p *PanicError) Error() string { return p.text }

// Stack returns the stack of the *PanicError that err is or wraps, or "" if there is
// none. err must not be the host's own error.
func Stack(err error) string {
	if p, ok := errors.AsType[*PanicError](err); ok {
		return p.stack
	}
	return ""
}

func stack() string { return cut(string(debug.Stack()), maxStack) }

// text calls a method of the host's that returns a text.
func text(f func() string) (s string) {
	defer func() {
		if recover() != nil {
			s = "an error whose text panicked"
		}
	}()
	return cut(f(), maxText)
}

// quietly calls f, which calls a method of the host's. It returns false if f panics.
func quietly(f func() bool) (is bool) {
	defer func() { _ = recover() }()
	return f()
}

// cut returns the first n bytes of s. It copies them, so that s can be freed.
func cut(s string, n int) string {
	if len(s) <= n {
		return s
	}
	return strings.Clone(s[:n])
}
