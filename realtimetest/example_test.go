package realtimetest_test

import (
	"context"
	"fmt"
	"io"
	"slices"
	"testing"
	"testing/synctest"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

type (
	SOS   struct{ Text string }
	Alert struct{ PassengerID, Text string }
)

var (
	CallSOS   = realtime.NewCall[SOS, realtime.None]("passenger:sos")
	SOSRaised = realtime.NewEvent[Alert]("sos:raised")
)

// handleSOS is the host's code: a passenger's call is sent to every admin.
func handleSOS(rt *realtime.Server) {
	CallSOS.Handle(rt.Passengers(), func(_ context.Context, s *realtime.Socket, in SOS) (realtime.None, error) {
		alert := Alert{PassengerID: s.Identity().UserID, Text: in.Text}
		return realtime.None{}, SOSRaised.Emit(rt.Admin().To(realtime.AdminAllRoom), alert)
	})
}

// sosReachesTheAdmins is the body of the host's test of its handler.
func sosReachesTheAdmins(t testing.TB) {
	srv := realtimetest.NewServer(t)
	handleSOS(srv.Realtime)
	passenger, driver, admin := srv.Passenger(t, "p1"), srv.Driver(t, "d1"), srv.Admin(t, "a1")
	if _, err := realtimetest.Call(t.Context(), passenger, CallSOS, SOS{Text: "help"}); err != nil {
		t.Fatal(err)
	}
	if got := realtimetest.Expect(t, admin, SOSRaised); got.PassengerID != "p1" {
		t.Errorf("the admin received %+v", got)
	}
	realtimetest.ExpectNone(t, driver, SOSRaised)
}

// In a bubble of testing/synctest the test waits for nothing and proves that the driver
// receives no event.
func TestNewServer_Example(t *testing.T) {
	synctest.Test(t, func(t *testing.T) { sosReachesTheAdmins(t) })
}

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
	t := &exampleT{} // in a test: func TestSOS(t *testing.T)
	sosReachesTheAdmins(t)
	for _, f := range slices.Backward(t.cleanups) {
		f()
	}
	fmt.Println(len(t.failures), "failures", t.failures)
	// Output:
	// 0 failures []
}
