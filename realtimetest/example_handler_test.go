// An example of the test of a handler.

package realtimetest_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"

	"github.com/rodando/realtime/realtimetest"
)

// exampleT stands for the *testing.T of a test, which an example does not have.
type exampleT struct {
	testing.TB
	cleanups []func()
	failures []string
}

func (t *exampleT) Helper()                  {}
func (t *exampleT) Output() io.Writer        { return io.Discard }
func (t *exampleT) Context() context.Context { return context.Background() }
func (t *exampleT) Cleanup(f func())         { t.cleanups = append(t.cleanups, f) }
func (t *exampleT) Fatal(args ...any)        { panic(fmt.Sprint(args...)) }

func (t *exampleT) Fatalf(format string, args ...any) { t.Fatal(fmt.Sprintf(format, args...)) }

func (t *exampleT) Errorf(format string, args ...any) {
	t.failures = append(t.failures, fmt.Sprintf(format, args...))
}

// A test of a handler: NewServer starts a server with fakes for the host's services, and real
// clients connect to it in memory.
func ExampleNewServer() {
	t := &exampleT{} // a test has its *testing.T
	srv := realtimetest.NewServer(t)
	handleSOS(srv.Realtime)
	passenger, admin := srv.Passenger(t, "p1"), srv.Admin(t, "a1")
	_, err := realtimetest.Call(t.Context(), passenger, CallSOS, SOS{Text: "help"})
	fmt.Println("ack:", err)
	fmt.Println("admin:", realtimetest.Expect(t, admin, SOSRaised))
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
	fmt.Println(len(t.failures), "failures", t.failures)
	// Output:
	// ack: <nil>
	// admin: {p1 help}
	// 0 failures []
}
