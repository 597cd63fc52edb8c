// Package testkit holds what the tests of several packages share. Only tests import it.
package testkit

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"
)

// Bubble runs f in a synctest bubble, in parallel with other tests.
func Bubble(t *testing.T, f func(t *testing.T)) {
	t.Helper()
	t.Parallel()
	synctest.Test(t, f)
}

// patience is how long Eventually waits. A loaded machine is slow.
const patience = 90 * time.Second

// Eventually waits until a condition holds. After 90 seconds it fails the test; what names
// the condition, or the fault.
func Eventually(t testing.TB, what string, holds func() bool) {
	t.Helper()
	if !Within(patience, holds) {
		t.Fatalf("timed out: %s", what)
	}
}

// Within waits at most d until a condition holds, and reports whether it did. It calls
// holds on the caller's goroutine, so that a test which counts goroutines can use it.
func Within(d time.Duration, holds func() bool) bool {
	for end := time.Now().Add(d); !holds(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return false
		}
	}
	return true
}

// Pass lets some time pass in many small steps, for what goes on beside the test: while the process does not run, on a
// machine that is too busy, only a step of it passes.
func Pass(d time.Duration) {
	const steps = 50
	for range steps {
		time.Sleep(d / steps)
	}
}

// Log is a log that a test reads. Its methods may be called concurrently.
type Log struct {
	mu   sync.Mutex // guards text
	text strings.Builder
}

// Write implements io.Writer, for a slog.Handler.
func (l *Log) Write(b []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.Write(b)
}

// String returns what was written.
func (l *Log) String() string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.text.String()
}

// Times returns how often the log contains s.
func (l *Log) Times(s string) int { return strings.Count(l.String(), s) }

// PipeListener is a net.Listener whose connections are those of net.Pipe: they work in a
// bubble, and a write blocks until the other end reads.
type PipeListener struct {
	conns  chan net.Conn
	closed chan struct{}
	close  func()
}

// NewPipeListener returns an open listener.
func NewPipeListener() *PipeListener {
	closed := make(chan struct{})
	return &PipeListener{conns: make(chan net.Conn), closed: closed, close: sync.OnceFunc(func() { close(closed) })}
}

// Accept implements net.Listener.
func (l *PipeListener) Accept() (net.Conn, error) {
	select {
	case c := <-l.conns:
		return c, nil
	case <-l.closed:
		return nil, net.ErrClosed
	}
}

// Close implements net.Listener.
func (l *PipeListener) Close() error {
	l.close()
	return nil
}

// Addr implements net.Listener.
func (l *PipeListener) Addr() net.Addr { return &net.UnixAddr{Name: "memory", Net: "unix"} }

// DialContext connects to the listener; network and address are ignored.
func (l *PipeListener) DialContext(ctx context.Context, _, _ string) (net.Conn, error) {
	client, server := net.Pipe()
	select {
	case l.conns <- server:
		return client, nil
	case <-l.closed:
		return nil, net.ErrClosed
	case <-ctx.Done():
		return nil, ctx.Err()
	}
}
