package realtimetest_test

import (
	"context"
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

func TestSOS(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
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
	})
}
