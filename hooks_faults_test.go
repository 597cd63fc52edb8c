// Faults of hooks: how each fault of each hook affects the client and other clients.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"reflect"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hookSite is a server with the hooks, and another node without them.
type hookSite struct {
	*hooks
	srv, other *realtimetest.Server
	hub        *realtimetest.Hub
	adapter    *realtimetest.HubNode // of srv
}

func (s hookSite) dial(t *testing.T, namespace, user string, typ realtime.UserType) (*realtimetest.Client, error) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return s.srv.Dial(ctx, namespace, realtimetest.Token(s.srv.Login(user, typ)))
}

// connectOutcome connects a client and returns the code of its refusal, the reason of
// its disconnection, or "connected".
func connectOutcome(namespace string) func(t *testing.T, s hookSite) string {
	return func(t *testing.T, s hookSite) string {
		c, err := s.dial(t, namespace, "new", realtime.UserDriver)
		if err != nil {
			return codeOf(err)
		}
		time.Sleep(30 * time.Second)
		if !c.Connected() {
			return c.Reason()
		}
		c.Close()
		return "connected"
	}
}

func codeOf(err error) string {
	var e *realtime.Error
	switch {
	case err == nil:
		return "done"
	case errors.As(err, &e):
		return string(e.Code)
	case strings.Contains(err.Error(), "unavailable"):
		return "unavailable"
	}
	return "error"
}

// callOutcome sends a driver's event and returns the code of its ack, or "done".
func callOutcome[In, Out any](call realtime.Call[In, Out], in In) func(t *testing.T, s hookSite) string {
	return callOutcomeIn(realtime.NamespaceDrivers, call, in)
}

func callOutcomeIn[In, Out any](namespace string, call realtime.Call[In, Out], in In) func(t *testing.T, s hookSite) string {
	return func(t *testing.T, s hookSite) string {
		c, err := s.dial(t, namespace, "new", realtime.UserDriver)
		require.NoError(t, err)
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		_, err = realtimetest.Call(ctx, c.Within(time.Minute), call, in)
		return codeOf(err)
	}
}

func publishOutcome(events ...realtime.DomainEvent) func(t *testing.T, s hookSite) string {
	return func(t *testing.T, s hookSite) string {
		for _, e := range events {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			if err := s.srv.Realtime.Publish(ctx, e); err != nil {
				return codeOf(err)
			}
		}
		return "done"
	}
}

func shutdownOutcome(*testing.T, hookSite) string { return "" } // as each does at its end

// hookRow says what calls a hook, and what the client sees when the hook fails: want has
// one entry for every fault, or one for panic and Goexit and one for a hang.
type hookRow struct {
	trigger func(t *testing.T, s hookSite) string
	want    []string
	faults  []string // nil: all three
}

func hookRows() map[string]hookRow {
	refused := []string{"unavailable"}
	handler := []string{"internal", "unavailable"}
	unharmed := []string{"connected"}
	done := []string{"done"}
	old := time.Now().Add(-time.Hour)
	return map[string]hookRow{
		"TokenVerifier.VerifyToken":     {trigger: connectOutcome("/drivers"), want: refused},
		"UserRepo.FindUser":             {trigger: connectOutcome("/drivers"), want: refused},
		"SessionRepo.FindSession":       {trigger: connectOutcome("/drivers"), want: refused},
		"TripLookup.ActiveTrips":        {trigger: connectOutcome("/drivers"), want: refused},
		"SnapshotLookup.FindSnapshot":   {trigger: connectOutcome("/drivers"), want: refused},
		"NamespaceOptions.Authorize":    {trigger: connectOutcome("/support"), want: refused},
		"UserBatchRepo.FindUsers":       {trigger: sweepOutcome, want: unharmed},
		"SessionBatchRepo.FindSessions": {trigger: sweepOutcome, want: unharmed},
		"TripBatchLookup.ActiveTripsOf": {trigger: sweepOutcome, want: unharmed},
		"PartyLookup.FindParties":       {trigger: publishOutcome(realtime.TripStarted{TripID: "t9", At: time.Now()}), want: done},
		"DriverService.UpdateStatus":    {trigger: callOutcome(realtime.DriverStatusUpdate, realtime.StatusUpdate{IsOnline: new(true)}), want: handler},
		"DriverService.UpdateLocation":  {trigger: callOutcome(realtime.DriverLocationPing, at(23)), want: handler},
		"DriverService.SetTrip":         {trigger: callOutcome(realtime.DriverTripSet, realtime.SetTrip{}), want: handler},
		"OfferService.AcceptOffer":      {trigger: callOutcome(realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: "as1"}), want: handler},
		"OfferService.RejectOffer":      {trigger: callOutcome(realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "as1"}), want: handler},
		"EventBus.Publish":              {trigger: publishOutcome(realtime.SessionRevoked{SessionID: "s9"}), want: []string{"error"}},
		"EventBus.Subscribe":            {},
		"EventBus.Subscribe's cancel":   {trigger: shutdownOutcome, want: []string{""}},
		"Adapter.Start":                 {},
		"Adapter.Close":                 {trigger: shutdownOutcome, want: []string{""}},
		"Adapter.Publish":               {trigger: emitOutcome(false), want: done},
		"Adapter.Request": {trigger: func(t *testing.T, s hookSite) string {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			_, err := s.srv.Realtime.Drivers().To(realtime.DriverRoom("d1")).Sockets(ctx)
			return codeOf(err)
		}, want: []string{"error"}},
		"AdapterChecker.Check": {trigger: func(t *testing.T, s hookSite) string {
			return codeOf(s.srv.Realtime.Check(t.Context()))
		}, want: []string{"error"}},
		"AdapterReporter.AdapterStats": {trigger: func(_ *testing.T, s hookSite) string {
			if st := s.srv.Realtime.Stats(); st.Adapter != nil {
				return fmt.Sprint(*st.Adapter)
			}
			return "none"
		}, want: []string{"none"}},
		"Claimer.Claim": {trigger: recoverOutcome, want: []string{"recovered"}},
		"Claimer.Unclaim": {trigger: func(t *testing.T, s hookSite) string {
			former, err := s.dial(t, realtime.NamespaceDrivers, "new", realtime.UserDriver)
			require.NoError(t, err)
			former.Drop()
			synctest.Wait()
			auth := map[string]any{"token": s.srv.Login("new", realtime.UserDriver), "pid": former.PID(), "offset": "made up"}
			_, err = s.srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
			require.NoError(t, err)
			return "done"
		}, want: done},
		"CallKeeper.ClaimCall":  {trigger: keyedOutcome("raw"), want: done},
		"CallKeeper.KeepCall":   {trigger: keyedOutcome("raw"), want: done},
		"CallKeeper.ForgetCall": {trigger: keyedOutcome("fails"), want: []string{"internal"}},
		"CallKeeper.FindCall": {trigger: func(t *testing.T, s hookSite) string {
			slow := realtime.NewCall[realtime.None, realtime.None]("raw")
			slow.Handle(s.other.Realtime.Drivers(), func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
				time.Sleep(2 * time.Second)
				return realtime.None{}, nil
			})
			c := s.other.Driver(t, "new")
			require.NoError(t, c.EmitRaw("raw", keyedBody))
			synctest.Wait()
			return keyedOutcome("raw")(t, s)
		}, want: done},
		"RoomWatcher.RoomChanged": {trigger: connectOutcome("/drivers"), want: unharmed},
		"Trace.Connected":         {trigger: connectOutcome("/drivers"), want: unharmed},
		"Trace.Refused": {trigger: func(t *testing.T, s hookSite) string {
			_, err := s.srv.Dial(t.Context(), "/drivers", realtimetest.Token("bad"))
			require.Error(t, err)
			return "done"
		}, want: done},
		"Trace.Disconnected": {trigger: connectOutcome("/drivers"), want: unharmed},
		"Trace.Heartbeat":    {trigger: sweepOutcome, want: unharmed},
		"Trace.Handled":      {trigger: callOutcome(realtime.DriverTripSet, realtime.SetTrip{}), want: done},
		"Trace.RequestFailed": {trigger: func(_ *testing.T, s hookSite) string {
			r := httptest.NewRequest(http.MethodGet, realtime.Path+"?EIO=4&transport=polling", nil)
			r.Header.Set("Origin", "https://evil.example")
			s.srv.Realtime.ServeHTTP(httptest.NewRecorder(), r)
			return "done"
		}, want: done},
		"Trace.Limited": {trigger: func(t *testing.T, s hookSite) string {
			c, err := s.dial(t, realtime.NamespaceDrivers, "new", realtime.UserDriver)
			require.NoError(t, err)
			_, err = c.CallRaw(t.Context(), strings.Repeat("x", 200), realtime.Raw{})
			require.NoError(t, err)
			return "done"
		}, want: done},
		"Trace.Delivered": {trigger: publishOutcome(realtime.SessionRevoked{SessionID: "s9"}), want: done},
		"Trace.Outdated": {trigger: publishOutcome(
			realtime.TripCompleted{TripID: "t9", PassengerID: "p9", DriverID: "d9", Currency: "CUP", At: old.Add(time.Minute)},
			realtime.TripStarted{TripID: "t9", PassengerID: "p9", DriverID: "d9", At: old}), want: done},
		"Trace.Unknown": {trigger: func(t *testing.T, s hookSite) string {
			return codeOf(s.srv.Bus.Publish(t.Context(), realtime.Envelope{ID: "1", Name: "from.elsewhere", Key: "k", Data: []byte("{}")}))
		}, want: done},
		"Trace.ClusterDropped": {trigger: func(t *testing.T, s hookSite) string {
			ns, err := s.other.Realtime.Namespace("/other-has-it", realtime.NamespaceOptions{})
			require.NoError(t, err)
			return codeOf(ns.ServerEmit(t.Context(), "news"))
		}, want: done},
		"Trace.AdapterChanged": {trigger: cutOff, want: done},
		"Trace.Gap":            {trigger: cutOff, want: done},
		"Trace.PeerJoined":     {trigger: peerJoinsAndLeaves, want: done},
		"Trace.PeerLost":       {trigger: peerJoinsAndLeaves, want: done},
		"Trace.Abandoned": {trigger: func(t *testing.T, s hookSite) string {
			release := make(chan struct{})
			s.srv.Realtime.Drivers().HandleRaw("waits", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
				<-release
				return realtime.Raw{}, nil
			})
			c, err := s.dial(t, realtime.NamespaceDrivers, "new", realtime.UserDriver)
			require.NoError(t, err)
			require.NoError(t, c.Emit("waits"))
			time.Sleep(time.Minute)
			close(release)
			return "done"
		}, want: done},
		"Trace.Emitted": {trigger: func(t *testing.T, s hookSite) string {
			_, err := s.dial(t, realtime.NamespaceDrivers, "new", realtime.UserDriver)
			require.NoError(t, err)
			return codeOf(wireNote.Emit(s.srv.Realtime.Drivers().To(realtime.DriverRoom("new")), "x"))
		}, want: done},
		"Trace.TraceDropped": {trigger: func(t *testing.T, s hookSite) string {
			unknown := func(name string, n int) {
				for i := range n {
					e := realtime.Envelope{ID: fmt.Sprint(name, i), Name: name, Key: "k", Data: []byte("{}")}
					require.NoError(t, s.srv.Bus.Publish(t.Context(), e))
				}
			}
			unknown("hangs", 17)
			time.Sleep(time.Minute)
			unknown("dropped", 1)
			time.Sleep(15 * time.Minute)
			return "done"
		}, want: done},
		"Trace.Unaddressed":      {trigger: publishOutcome(realtime.TripStarted{TripID: "t9", At: time.Now()}), want: done},
		"Namespace.OnConnect":    {trigger: connectOutcome("/support"), want: []string{"io server disconnect", "transport close"}},
		"Namespace.OnDisconnect": {trigger: connectOutcome("/support"), want: unharmed},
		"Namespace.OnServerEmit": {trigger: emitOutcome(true), want: done},
		"Namespace.OnServerAsk": {trigger: func(t *testing.T, s hookSite) string {
			answers, err := s.other.Realtime.Drivers().ServerAsk(t.Context(), "question")
			if err != nil {
				return codeOf(err)
			}
			return string(answers[0].Args[0])
		}, want: []string{"null"}},
		"Recovery.Rooms":      {trigger: recoverOutcome, want: []string{"new"}},
		"Options.ConnContext": {trigger: connectOutcome("/drivers"), want: []string{"error"}},
		"Options.Unreachable": {trigger: func(t *testing.T, s hookSite) string {
			e := realtime.AssignmentOffered{TripID: "t9", AssignmentID: "as9", DriverID: "nobody", TTLSec: 20, At: time.Now()}
			require.NoError(t, s.srv.Realtime.Publish(t.Context(), e))
			time.Sleep(time.Minute)
			return "done"
		}, want: done},
		"Options.Interceptors": {trigger: callOutcome(realtime.DriverTripSet, realtime.SetTrip{}), want: handler},
		"Namespace.Use":        {trigger: callOutcome(realtime.DriverTripSet, realtime.SetTrip{}), want: handler},
		"NamespaceOptions.Interceptors": {
			trigger: callOutcomeIn("/support", realtime.NewCall[realtime.None, realtime.None]("raw"), realtime.None{}), want: handler,
		},
		"Namespace.HandleRaw": {trigger: callOutcome(realtime.NewCall[realtime.None, realtime.None]("raw"), realtime.None{}), want: handler},
		"Call.Handle":         {trigger: callOutcome(hookedCall, hookedBody{}), want: handler},
		"In.UnmarshalJSON":    {trigger: callOutcome(hookedCall, hookedBody{}), want: handler},
		"In.Validate":         {trigger: callOutcome(hookedCall, hookedBody{}), want: handler},
		"Out.MarshalJSON":     {trigger: callOutcome(hookedCall, hookedBody{}), want: handler},
		"Options.Logger":      {trigger: callOutcome(realtime.NewCall[realtime.None, realtime.None]("fails"), realtime.None{}), want: []string{"internal"}, faults: []string{"panic"}},
	}
}

// keyedBody is a body with an idempotency key.
var keyedBody = realtime.Raw{Args: []json.RawMessage{json.RawMessage(`{"idempotencyKey":"k1"}`)}}

// keyedOutcome sends a driver's event with an idempotency key, and returns the code of its ack, or "done".
func keyedOutcome(event string) func(t *testing.T, s hookSite) string {
	return callOutcome(realtime.NewCall[json.RawMessage, realtime.None](event), keyedBody.Args[0])
}

// recoverOutcome has a client with a room of the host lose its connection and come back.
func recoverOutcome(t *testing.T, s hookSite) string {
	former, err := s.dial(t, realtime.NamespaceDrivers, "new", realtime.UserDriver)
	require.NoError(t, err)
	s.srv.Realtime.Drivers().To(realtime.DriverRoom("new")).Join(realtime.NewRoom("vip", "1"))
	synctest.Wait() // it has received what it must have received to recover
	former.Drop()
	synctest.Wait()
	token := realtimetest.Token(s.srv.Login("new", realtime.UserDriver))
	c, err := s.srv.Dial(t.Context(), realtime.NamespaceDrivers, token, realtimetest.Recover(former))
	require.NoError(t, err)
	if c.Recovered() {
		return "recovered"
	}
	return "new"
}

// emitOutcome emits from one node to the listeners of the other one.
func emitOutcome(other bool) func(t *testing.T, s hookSite) string {
	return func(t *testing.T, s hookSite) string {
		from := s.srv
		if other {
			from = s.other
		}
		return codeOf(from.Realtime.Drivers().ServerEmit(t.Context(), "news", 1))
	}
}

func sweepOutcome(t *testing.T, s hookSite) string {
	c, err := s.dial(t, "/drivers", "new", realtime.UserDriver)
	require.NoError(t, err)
	time.Sleep(5 * time.Minute)
	if !c.Connected() {
		return c.Reason()
	}
	return "connected"
}

// cutOff cuts the node off for a moment.
func cutOff(_ *testing.T, s hookSite) string {
	s.adapter.Cut()
	synctest.Wait()
	s.adapter.Heal()
	return "done"
}

// peerJoinsAndLeaves has another node join and leave.
func peerJoinsAndLeaves(t *testing.T, s hookSite) string {
	third := s.hub.Node()
	if err := third.Start(t.Context(), idleNode{}); err != nil {
		return codeOf(err)
	}
	synctest.Wait()
	return codeOf(third.Close(t.Context()))
}

func (h *hooks) options(adapter *realtimetest.HubNode) func(o *realtime.Options) {
	return func(o *realtime.Options) {
		o.Tokens, o.Users, o.Sessions = hookedTokens{o.Tokens, h}, hookedUsers{o.Users, h}, hookedSessions{o.Sessions, h}
		o.Trips, o.Parties, o.Bus = hookedTrips{o.Trips, h}, hookedParties{o.Parties, h}, hookedBus{o.Bus, h}
		o.Snapshots = hookedSnapshots{h}
		o.Drivers, o.Offers = hookedDrivers{realtime.NewMemoryDrivers(), h}, hookedOffers{h}
		o.Cluster.Adapter = hookedAdapter{adapter, h}
		o.Logger = slog.New(hookedLog{slog.NewTextHandler(h, nil), h})
		o.Compat.RefuseUnavailable = true
		o.Timeouts.SweepInterval = time.Minute
		o.Interceptors = []realtime.Interceptor{h.interceptor("Options.Interceptors")}
		o.Recovery = realtime.Recovery{Enabled: true, Rooms: func(_ context.Context, _ *realtime.Socket, then []realtime.Room) ([]realtime.Room, error) {
			return then, h.fails("Recovery.Rooms")
		}}
		o.ConnContext = func(ctx context.Context, _ *http.Request) context.Context {
			h.at("Options.ConnContext")
			return ctx
		}
		o.Unreachable = func(context.Context, string, realtime.MissedEvent) { h.at("Options.Unreachable") }
		o.Trace = &realtime.Trace{
			Connected:     func(context.Context, realtime.ConnectedInfo) { h.at("Trace.Connected") },
			Refused:       func(context.Context, realtime.RefusedInfo) { h.at("Trace.Refused") },
			Disconnected:  func(context.Context, realtime.DisconnectedInfo) { h.at("Trace.Disconnected") },
			Heartbeat:     func(context.Context, realtime.HeartbeatInfo) { h.at("Trace.Heartbeat") },
			Handled:       func(context.Context, realtime.HandledInfo) { h.at("Trace.Handled") },
			Limited:       func(context.Context, realtime.LimitInfo) { h.at("Trace.Limited") },
			Delivered:     func(context.Context, realtime.DeliveredInfo) { h.at("Trace.Delivered") },
			Outdated:      func(context.Context, realtime.OutdatedInfo) { h.at("Trace.Outdated") },
			Unaddressed:   func(context.Context, realtime.UnaddressedInfo) { h.at("Trace.Unaddressed") },
			RequestFailed: func(context.Context, realtime.RequestFailedInfo) { h.at("Trace.RequestFailed") },
			Unknown: func(_ context.Context, i realtime.UnknownInfo) {
				if i.Event == "hangs" {
					time.Sleep(10 * time.Minute)
				}
				h.at("Trace.Unknown")
			},
			Abandoned:      func(context.Context, realtime.AbandonedInfo) { h.at("Trace.Abandoned") },
			Emitted:        func(context.Context, realtime.EmittedInfo) { h.at("Trace.Emitted") },
			TraceDropped:   func(context.Context, realtime.TraceDroppedInfo) { h.at("Trace.TraceDropped") },
			ClusterDropped: func(context.Context, realtime.ClusterDroppedInfo) { h.at("Trace.ClusterDropped") },
			AdapterChanged: func(context.Context, realtime.AdapterChangedInfo) { h.at("Trace.AdapterChanged") },
			Gap:            func(context.Context, realtime.GapInfo) { h.at("Trace.Gap") },
			PeerJoined:     func(context.Context, realtime.PeerInfo) { h.at("Trace.PeerJoined") },
			PeerLost:       func(context.Context, realtime.PeerLostInfo) { h.at("Trace.PeerLost") },
		}
	}
}

func (h *hooks) interceptor(hook string) realtime.Interceptor {
	return func(next realtime.CallFunc) realtime.CallFunc {
		return func(ctx context.Context, r *realtime.CallRequest) (realtime.Raw, error) {
			if err := h.fails(hook); err != nil {
				return realtime.Raw{}, err
			}
			return next(ctx, r)
		}
	}
}

// register registers the host's functions after New.
func (h *hooks) register(t *testing.T, rt *realtime.Server) {
	support, err := rt.Namespace("/support", realtime.NamespaceOptions{
		Authorize:    func(context.Context, realtime.AuthorizeRequest) error { return h.fails("NamespaceOptions.Authorize") },
		Interceptors: []realtime.Interceptor{h.interceptor("NamespaceOptions.Interceptors")},
	})
	require.NoError(t, err)
	support.HandleRaw("raw", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		return realtime.Raw{}, nil
	})
	rt.Drivers().Use(h.interceptor("Namespace.Use"))
	support.OnConnect(func(context.Context, *realtime.Socket) error { return h.fails("Namespace.OnConnect") })
	support.OnDisconnect(func(context.Context, *realtime.Socket, realtime.DisconnectReason) { h.at("Namespace.OnDisconnect") })
	drivers := rt.Drivers()
	drivers.OnServerEmit("news", func(realtime.Raw) { h.at("Namespace.OnServerEmit") })
	drivers.OnServerAsk("question", func(context.Context, realtime.Raw) (any, error) { return "answer", h.fails("Namespace.OnServerAsk") })
	realtime.NewCall[realtime.None, realtime.None]("raw").Handle(drivers, func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
		return realtime.None{}, h.fails("Namespace.HandleRaw")
	})
	realtime.NewCall[realtime.None, realtime.None]("fails").Handle(drivers, func(context.Context, *realtime.Socket, realtime.None) (realtime.None, error) {
		return realtime.None{}, errors.New("down")
	})
	hookedCall.Handle(drivers, func(context.Context, *realtime.Socket, hookedBody) (hookedResult, error) {
		return hookedResult{}, h.fails("Call.Handle")
	})
	rt.Passengers().HandleRaw("alive", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		return realtime.Raw{}, nil
	})
}

func TestHooks_Faults(t *testing.T) {
	for hook, row := range hookRows() {
		if row.trigger == nil {
			continue // TestHooks_FaultsOfNew
		}
		for i, fault := range []string{"panic", "Goexit", "hang"} {
			if row.faults != nil && !slices.Contains(row.faults, fault) {
				continue
			}
			t.Run(hook+"/"+fault, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &hooks{release: make(chan struct{})}
					bodies = h
					hub := realtimetest.NewHub()
					s := hookSite{hooks: h, hub: hub, adapter: hub.Node()}
					s.srv = realtimetest.NewServer(t, h.options(s.adapter))
					s.other = realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
					release := func() {
						select {
						case <-h.release:
						default:
							close(h.release)
						}
					}
					defer release()
					h.register(t, s.srv.Realtime)
					bystander := s.srv.Passenger(t, "bystander")

					h.arm(hook, fault)
					got := row.trigger(t, s)
					require.Equal(t, row.want[min(i/2, len(row.want)-1)], got)
					time.Sleep(time.Minute)
					synctest.Wait()

					_, err := bystander.CallRaw(t.Context(), "alive", realtime.Raw{})
					require.NoError(t, err)
					_, err = s.dial(t, "/passengers", "another", realtime.UserPassenger)
					require.NoError(t, err)
					ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
					defer cancel()
					begun := time.Now()
					err = s.srv.Realtime.Shutdown(ctx)
					require.LessOrEqual(t, time.Since(begun), 61*time.Second)
					require.True(t, h.hit(), "it was called")
					switch {
					case hook == "Options.Logger":
					case err != nil: // what Shutdown says need not be logged
					case slices.Contains([]string{"EventBus.Publish", "Adapter.Request", "AdapterChecker.Check"}, hook): // it is returned
					case fault == "panic":
						require.Contains(t, h.logged(), "planned in "+hook)
						require.Contains(t, h.logged(), "stack=")
					case fault == "Goexit":
						require.Contains(t, h.logged(), "Goexit")
					case fault == "hang":
						require.Contains(t, h.logged(), "level=ERROR")
					}
					again, cancel := context.WithTimeout(t.Context(), time.Second)
					defer cancel()
					_ = s.srv.Realtime.Shutdown(again)
					release()
				})
			})
		}
	}
}

// A bus or an adapter that fails when the server begins is an error of New.
func TestHooks_FaultsOfNew(t *testing.T) {
	for hook, row := range hookRows() {
		if row.trigger != nil {
			continue
		}
		for _, fault := range []string{"panic", "Goexit", "hang"} {
			t.Run(hook+"/"+fault, func(t *testing.T) {
				synctest.Test(t, func(t *testing.T) {
					h := &hooks{release: make(chan struct{})}
					h.arm(hook, fault)
					o := realtime.Options{
						Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, Bus: realtimetest.NewBus(),
					}
					h.options(realtimetest.NewHub().Node())(&o)
					begun := time.Now()
					_, err := realtime.New(o)
					require.Error(t, err)
					require.LessOrEqual(t, time.Since(begun), time.Minute)
					close(h.release)
				})
			})
		}
	}
}

// Every hook has a row above: what a host can plug in is found by reflection.
func TestHooks_EachHasARow(t *testing.T) {
	t.Parallel()
	var hooks []string
	methods := func(typ reflect.Type) {
		for m := range typ.Methods() {
			hooks = append(hooks, typ.Name()+"."+m.Name)
		}
	}
	var fields func(typ reflect.Type)
	fields = func(typ reflect.Type) {
		for f := range typ.Fields() {
			switch f.Type.Kind() {
			case reflect.Interface:
				methods(f.Type)
			case reflect.Func:
				hooks = append(hooks, typ.Name()+"."+f.Name)
			case reflect.Slice:
				if f.Type.Elem().Kind() == reflect.Func {
					hooks = append(hooks, typ.Name()+"."+f.Name)
				}
			case reflect.Struct: // a group of Options
				fields(f.Type)
			case reflect.Pointer:
				require.Contains(t, []string{"Logger", "Trace"}, f.Name, "what is it?")
			}
		}
	}
	fields(reflect.TypeFor[realtime.Options]())
	fields(reflect.TypeFor[realtime.Trace]())
	fields(reflect.TypeFor[realtime.NamespaceOptions]())
	methods(reflect.TypeFor[realtime.UserBatchRepo]())
	methods(reflect.TypeFor[realtime.SessionBatchRepo]())
	methods(reflect.TypeFor[realtime.TripBatchLookup]())
	methods(reflect.TypeFor[realtime.RoomWatcher]())
	methods(reflect.TypeFor[realtime.Claimer]())
	methods(reflect.TypeFor[realtime.CallKeeper]())
	methods(reflect.TypeFor[realtime.AdapterChecker]())
	methods(reflect.TypeFor[realtime.AdapterReporter]())
	namespace := reflect.TypeFor[*realtime.Namespace]()
	for m := range namespace.Methods() {
		for in := range m.Type.Ins() {
			if in.Kind() == reflect.Func || in.Kind() == reflect.Slice && in.Elem().Kind() == reflect.Func {
				hooks = append(hooks, "Namespace."+m.Name)
			}
		}
	}
	// Hooks that reflection does not find.
	hooks = append(hooks, "Call.Handle", "In.UnmarshalJSON", "In.Validate", "Out.MarshalJSON", "Options.Logger", "EventBus.Subscribe's cancel")
	var rows []string
	for hook := range hookRows() {
		rows = append(rows, hook)
	}
	require.ElementsMatch(t, hooks, rows)
}
