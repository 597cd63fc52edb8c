// Each of the host's hooks, when it panics, ends its goroutine or hangs: the process
// and the others go on.

package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hooks is a host of whose hooks one fails, once.
type hooks struct {
	mu      sync.Mutex // guards the fields below but release
	armed   string
	fault   string
	struck  bool
	log     bytes.Buffer
	release chan struct{} // ends what hangs
}

// at is what each hook begins with that returns no error.
func (h *hooks) at(hook string) { _ = h.fails(hook) }

// fails is what each hook begins with that does.
func (h *hooks) fails(hook string) error {
	h.mu.Lock()
	strikes := h.armed == hook && !h.struck
	h.struck = h.struck || strikes
	fault := h.fault
	h.mu.Unlock()
	if !strikes {
		return nil
	}
	if how, ok := strings.CutPrefix(fault, "error: "); ok {
		return badError{h, how}
	}
	if how, ok := strings.CutPrefix(fault, "panic: "); ok {
		panic(badError{h, how})
	}
	h.strike(hook, fault)
	return nil
}

func (h *hooks) strike(hook, fault string) {
	switch fault {
	case "panic":
		panic("planned in " + hook)
	case "Goexit":
		runtime.Goexit()
	case "hang":
		<-h.release
	}
}

// badError is an error, or the value of a panic, that fails whoever looks at it.
type badError struct {
	h   *hooks
	how string
}

func (e badError) fail() {
	if e.how == "panic" {
		panic(e) // so that printing what it panicked with panics too
	}
	e.h.strike("an error", e.how)
}

func (e badError) Error() string        { e.fail(); return "bad" }
func (e badError) Unwrap() error        { e.fail(); return nil }
func (e badError) Is(error) bool        { e.fail(); return false }
func (e badError) As(any) bool          { e.fail(); return false }
func (e badError) LogValue() slog.Value { e.fail(); return slog.Value{} }

func (h *hooks) arm(hook, fault string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.armed, h.fault = hook, fault
}

func (h *hooks) hit() bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.struck
}

func (h *hooks) logged() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.String()
}

// Write takes the log's lines.
func (h *hooks) Write(b []byte) (int, error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.log.Write(b)
}

type (
	hookedTokens struct {
		realtime.TokenVerifier
		*hooks
	}
	hookedUsers struct {
		realtime.UserRepo
		*hooks
	}
	hookedSessions struct {
		realtime.SessionRepo
		*hooks
	}
	hookedTrips struct {
		realtime.TripLookup
		*hooks
	}
	hookedSnapshots struct{ *hooks }
	hookedParties   struct {
		realtime.PartyLookup
		*hooks
	}
	hookedDrivers struct {
		realtime.DriverService
		*hooks
	}
	hookedOffers struct{ *hooks }
	hookedBus    struct {
		realtime.EventBus
		*hooks
	}
	hookedAdapter struct {
		*realtimetest.HubNode
		*hooks
	}
	hookedLog struct {
		slog.Handler
		*hooks
	}
)

func (h hookedTokens) VerifyToken(ctx context.Context, token, ns string) (realtime.Claims, error) {
	if err := h.fails("TokenVerifier.VerifyToken"); err != nil {
		return realtime.Claims{}, err
	}
	return h.TokenVerifier.VerifyToken(ctx, token, ns)
}

func (h hookedUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if err := h.fails("UserRepo.FindUser"); err != nil {
		return realtime.User{}, err
	}
	return h.UserRepo.FindUser(ctx, id)
}

func (h hookedUsers) FindUsers(ctx context.Context, ids []string) (found []realtime.User, err error) {
	if err := h.fails("UserBatchRepo.FindUsers"); err != nil {
		return nil, err
	}
	for _, id := range ids {
		u, err := h.UserRepo.FindUser(ctx, id)
		if err != nil {
			return nil, err
		}
		found = append(found, u)
	}
	return found, nil
}

func (h hookedSessions) FindSession(ctx context.Context, sid string) (realtime.Session, error) {
	if err := h.fails("SessionRepo.FindSession"); err != nil {
		return realtime.Session{}, err
	}
	return h.SessionRepo.FindSession(ctx, sid)
}

func (h hookedSessions) FindSessions(ctx context.Context, sids []string) (found []realtime.Session, err error) {
	if err := h.fails("SessionBatchRepo.FindSessions"); err != nil {
		return nil, err
	}
	for _, sid := range sids {
		s, err := h.SessionRepo.FindSession(ctx, sid)
		if err != nil {
			return nil, err
		}
		found = append(found, s)
	}
	return found, nil
}

func (h hookedTrips) ActiveTrips(ctx context.Context, user string) ([]string, error) {
	if err := h.fails("TripLookup.ActiveTrips"); err != nil {
		return nil, err
	}
	return h.TripLookup.ActiveTrips(ctx, user)
}

func (h hookedSnapshots) FindSnapshot(context.Context, string, realtime.Identity) (realtime.Snapshot, error) {
	return realtime.Snapshot{}, h.fails("SnapshotLookup.FindSnapshot")
}

func (h hookedTrips) ActiveTripsOf(ctx context.Context, users []string) (map[string][]string, error) {
	if err := h.fails("TripBatchLookup.ActiveTripsOf"); err != nil {
		return nil, err
	}
	found := map[string][]string{}
	for _, user := range users {
		trips, err := h.TripLookup.ActiveTrips(ctx, user)
		if err != nil {
			return nil, err
		}
		found[user] = trips
	}
	return found, nil
}

func (h hookedParties) FindParties(ctx context.Context, trip string) (realtime.TripParties, error) {
	if err := h.fails("PartyLookup.FindParties"); err != nil {
		return realtime.TripParties{}, err
	}
	return h.PartyLookup.FindParties(ctx, trip)
}

func (h hookedDrivers) UpdateStatus(ctx context.Context, id string, in realtime.StatusUpdate) (realtime.Availability, error) {
	if err := h.fails("DriverService.UpdateStatus"); err != nil {
		return realtime.Availability{}, err
	}
	return h.DriverService.UpdateStatus(ctx, id, in)
}

func (h hookedDrivers) UpdateLocation(ctx context.Context, id string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	if err := h.fails("DriverService.UpdateLocation"); err != nil {
		return realtime.LocationUpdate{}, false, err
	}
	return h.DriverService.UpdateLocation(ctx, id, in)
}

func (h hookedDrivers) SetTrip(ctx context.Context, id, trip string) (realtime.Availability, error) {
	if err := h.fails("DriverService.SetTrip"); err != nil {
		return realtime.Availability{}, err
	}
	return h.DriverService.SetTrip(ctx, id, trip)
}

func (h hookedOffers) AcceptOffer(context.Context, string, string) (string, error) {
	if err := h.fails("OfferService.AcceptOffer"); err != nil {
		return "", err
	}
	return "t1", nil
}

func (h hookedOffers) RejectOffer(context.Context, string, string, string) error {
	if err := h.fails("OfferService.RejectOffer"); err != nil {
		return err
	}
	return nil
}

func (h hookedBus) Publish(ctx context.Context, e realtime.Envelope) error {
	if err := h.fails("EventBus.Publish"); err != nil {
		return err
	}
	return h.EventBus.Publish(ctx, e)
}

func (h hookedBus) Subscribe(f func(context.Context, realtime.Envelope) error) (func(), error) {
	h.at("EventBus.Subscribe")
	cancel, err := h.EventBus.Subscribe(f)
	return func() { h.at("EventBus.Subscribe's cancel"); cancel() }, err
}

func (h hookedAdapter) Start(ctx context.Context, n realtime.Node) error {
	h.at("Adapter.Start")
	return h.HubNode.Start(ctx, n)
}

func (h hookedAdapter) Publish(ctx context.Context, m realtime.ClusterMessage) error {
	if err := h.fails("Adapter.Publish"); err != nil {
		return err
	}
	return h.HubNode.Publish(ctx, m)
}

func (h hookedAdapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	if err := h.fails("Adapter.Request"); err != nil {
		return err
	}
	return h.HubNode.Request(ctx, m, answer)
}

func (h hookedAdapter) Close(ctx context.Context) error {
	h.at("Adapter.Close")
	return h.HubNode.Close(ctx)
}

func (h hookedAdapter) Check(ctx context.Context) error {
	if err := h.fails("AdapterChecker.Check"); err != nil {
		return err
	}
	return h.HubNode.Check(ctx)
}

func (h hookedAdapter) AdapterStats() realtime.AdapterStats {
	h.at("AdapterReporter.AdapterStats")
	return realtime.AdapterStats{Outgoing: 1}
}

func (h hookedAdapter) Claim(ctx context.Context, key string, d time.Duration) (bool, error) {
	if err := h.fails("Claimer.Claim"); err != nil {
		return false, err
	}
	return h.HubNode.Claim(ctx, key, d)
}

func (h hookedAdapter) Unclaim(ctx context.Context, key string) error {
	if err := h.fails("Claimer.Unclaim"); err != nil {
		return err
	}
	return h.HubNode.Unclaim(ctx, key)
}

func (h hookedAdapter) ClaimCall(ctx context.Context, key string, value []byte, d time.Duration) ([]byte, error) {
	if err := h.fails("CallKeeper.ClaimCall"); err != nil {
		return nil, err
	}
	return h.HubNode.ClaimCall(ctx, key, value, d)
}

func (h hookedAdapter) FindCall(ctx context.Context, key string) ([]byte, error) {
	if err := h.fails("CallKeeper.FindCall"); err != nil {
		return nil, err
	}
	return h.HubNode.FindCall(ctx, key)
}

func (h hookedAdapter) KeepCall(ctx context.Context, key string, value []byte, d time.Duration) error {
	if err := h.fails("CallKeeper.KeepCall"); err != nil {
		return err
	}
	return h.HubNode.KeepCall(ctx, key, value, d)
}

func (h hookedAdapter) ForgetCall(ctx context.Context, key string) error {
	if err := h.fails("CallKeeper.ForgetCall"); err != nil {
		return err
	}
	return h.HubNode.ForgetCall(ctx, key)
}

func (h hookedAdapter) RoomChanged(ns, room string) {
	h.at("RoomWatcher.RoomChanged")
	h.HubNode.RoomChanged(ns, room)
}

func (h hookedLog) Handle(ctx context.Context, r slog.Record) error {
	h.at("Options.Logger")
	return h.Handler.Handle(ctx, r)
}

var hookedCall = realtime.NewCall[hookedBody, hookedResult]("hooked")

type (
	hookedBody   struct{ Fault string }
	hookedResult struct{ Fault string }
)

// bodies is the host whose event's types these are. One bubble uses it at a time.
var bodies *hooks

func (b *hookedBody) UnmarshalJSON([]byte) error { return bodies.fails("In.UnmarshalJSON") }
func (b *hookedBody) Validate() error            { return bodies.fails("In.Validate") }
func (hookedResult) MarshalJSON() ([]byte, error) {
	if err := bodies.fails("Out.MarshalJSON"); err != nil {
		return nil, err
	}
	return []byte(`{}`), nil
}
