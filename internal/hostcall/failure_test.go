// Errors and panics of the host's code whose methods fail.

package hostcall_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/hostcall"
	"github.com/rodando/realtime/internal/testkit"
)

var (
	errKnown  = errors.New("known")
	inspector = hostcall.Inspector{
		Known: []error{errKnown, io.EOF},
		Find: func(err error) error {
			if found, ok := errors.AsType[*foundError](err); ok {
				return found
			}
			return nil
		},
	}
)

type foundError struct{}

func (*foundError) Error() string { return "found" }

// hostError is an error of the host's whose methods call do.
type hostError struct{ do func() }

func (e *hostError) Error() string        { e.do(); return "host" }
func (e *hostError) Unwrap() error        { e.do(); return nil }
func (e *hostError) LogValue() slog.Value { e.do(); return slog.StringValue("in the log") }

func TestInspector_Inspect(t *testing.T) {
	t.Parallel()
	require.NoError(t, inspector.Inspect(nil))
	for _, ours := range []error{errKnown, hostcall.ErrTimeout, hostcall.ErrBusy, hostcall.ErrAbandoned} {
		require.Same(t, ours, inspector.Inspect(ours))
	}
	wrapped := fmt.Errorf("reading: %w", errors.Join(errKnown, &foundError{}))
	seen := inspector.Inspect(wrapped)
	require.EqualError(t, seen, wrapped.Error())
	require.ErrorIs(t, seen, errKnown)
	require.NotErrorIs(t, seen, io.EOF)
	var found *foundError
	require.ErrorAs(t, seen, &found)
	require.Same(t, wrapped, hostcall.Original(seen))
	require.Same(t, errKnown, hostcall.Original(errKnown))
	require.Same(t, seen, inspector.Inspect(seen), "once is enough")
	require.EqualError(t, inspector.Inspect(&hostError{func() {}}), "in the log")
	require.Len(t, inspector.Inspect(errors.New(strings.Repeat("x", 1<<20))).Error(), 64<<10)
}

func TestInspector_MethodsThatPanic(t *testing.T) {
	t.Parallel()
	var none *hostError
	for _, err := range []error{none, &hostError{func() { panic("oh") }}, &hostError{func() { panic(&hostError{}) }}} {
		seen := inspector.Inspect(err)
		require.NotErrorIs(t, seen, errKnown)
		require.EqualError(t, seen, "an error whose text panicked")
	}
}

// Do calls the error's methods within the call, so what it returns is safe to use.
func TestDo_Inspects(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: 1, Abandoned: 1, Inspect: inspector.Inspect})
		hold := make(chan struct{})
		fail := func(do func()) error {
			return hostcall.Run(t.Context(), k, func(context.Context) error { return &hostError{do} })
		}
		require.EqualError(t, fail(func() {}), "in the log")
		require.ErrorContains(t, fail(func() { panic("oh") }), "text panicked")
		require.ErrorContains(t, fail(runtime.Goexit), "Goexit")
		require.Zero(t, k.Abandoned())
		require.ErrorIs(t, fail(func() { <-hold }), hostcall.ErrTimeout)
		require.Equal(t, 1, k.Abandoned())
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
	})
}

// The methods of a panic's value are the host's code too.
func TestDo_PanicWhoseTextFails(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		k := hostcall.NewKind(hostcall.Limits{Timeout: time.Second, Running: 1, Abandoned: 1})
		hold := make(chan struct{})
		var value hostError
		fail := func(do func()) error {
			value.do = do
			return hostcall.Run(t.Context(), k, func(context.Context) error { panic(&value) })
		}
		require.EqualError(t, fail(func() {}), "panic: host")
		require.ErrorContains(t, fail(func() { panic(&value) }), "text panicked")
		require.ErrorContains(t, fail(runtime.Goexit), "Goexit")
		require.ErrorIs(t, fail(func() { <-hold }), hostcall.ErrTimeout)
		close(hold)
		require.NoError(t, k.Wait(t.Context()))
	})
}

func TestQueue_PanicWhoseTextFails(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		q := newQueue(100, 1)
		var value hostError
		value.do = func() { panic(&value) }
		made := false
		q.Add(func() { panic(&value) })
		q.Add(func() { panic(&hostError{runtime.Goexit}) })
		q.Add(func() { made = true })
		require.NoError(t, q.Wait(t.Context()))
		require.True(t, made)
		require.Len(t, q.failures(), 2)
	})
}

// hostValue is a panic value whose method calls do.
type hostValue struct{ do func() }

func (v hostValue) String() string { v.do(); return "host" }

func TestPanicText_WhateverTheValueDoes(t *testing.T) {
	testkit.Bubble(t, func(t *testing.T) {
		require.Equal(t, "oh", hostcall.PanicText("oh"))
		require.Equal(t, "7", hostcall.PanicText(7))
		require.Equal(t, "down", hostcall.PanicText(errors.New("down")))
		require.Contains(t, hostcall.PanicText(nil), "Goexit")
		require.Equal(t, "host", hostcall.PanicText(hostValue{func() {}}))
		require.Contains(t, hostcall.PanicText(hostValue{func() { panic("again") }}), "again")
		require.Contains(t, hostcall.PanicText(hostValue{runtime.Goexit}), "hostcall_test.hostValue")
		require.Less(t, len(hostcall.PanicText(strings.Repeat("x", 1<<20))), 1<<17)
		hold := make(chan struct{})
		began := time.Now()
		for range 100 {
			require.Contains(t, hostcall.PanicText(hostValue{func() { <-hold }}), "hostcall_test.hostValue")
		}
		require.LessOrEqual(t, time.Since(began), 20*time.Second, "a few only are waited for")
		require.Contains(t, hostcall.PanicText(errors.New("down")), "errorString", "while those hang")
		close(hold)
		synctest.Wait()
		require.Equal(t, "down", hostcall.PanicText(errors.New("down")))
	})
}
