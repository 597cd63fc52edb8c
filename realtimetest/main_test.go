// Helpers of the tests.

package realtimetest_test

import (
	"context"
	"fmt"
	"runtime"
	"sync"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// failing is a test that is expected to fail. It records the messages.
type failing struct {
	testing.TB
	mu       sync.Mutex // guards messages
	messages []string
}

func (f *failing) Helper() {}

func (f *failing) Context() context.Context { return f.TB.Context() }

func (f *failing) Errorf(format string, args ...any) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.messages = append(f.messages, fmt.Sprintf(format, args...))
}

func (f *failing) Fatalf(format string, args ...any) {
	f.Errorf(format, args...)
	runtime.Goexit()
}

func (f *failing) Fatal(args ...any) { f.Fatalf("%s", fmt.Sprint(args...)) }

// failure returns the first message with which f fails a test, or "" if it does not.
func failure(t testing.TB, f func(t testing.TB)) string {
	t.Helper()
	ft := &failing{TB: t}
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ft)
	}()
	<-done
	ft.mu.Lock()
	defer ft.mu.Unlock()
	if len(ft.messages) == 0 {
		return ""
	}
	return ft.messages[0]
}
