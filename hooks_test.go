// Each of the host's hooks, when it panics, ends its goroutine or hangs: the process
// and the others go on.

package realtime_test

import (
	"bytes"
	"context"
	"log/slog"
	"runtime"
	"sync"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hooks is a host of whose hooks one fails, once.
//
// hooks.mu guards everything but release.
type hooks struct {
	mu      sync.Mutex
	armed   string
	fault   string
	struck  bool
	log     bytes.Buffer
	release chan struct{} // ends what hangs
}

// at is what each hook begins with.
func (h *hooks) at(hook string) {
	h.mu.Lock()
	strikes := h.armed == hook && !h.struck
	h.struck = h.struck || strikes
	fault := h.fault
	h.mu.Unlock()
	if !strikes {
		return
	}
	switch fault {
	case "panic":
		panic("planned in " + hook)
	case "Goexit":
		runtime.Goexit()
	case "hang":
		<-h.release
	}
}

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
	hookedParties struct {
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
	h.at("TokenVerifier.VerifyToken")
	return h.TokenVerifier.VerifyToken(ctx, token, ns)
}

func (h hookedUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	h.at("UserRepo.FindUser")
	return h.UserRepo.FindUser(ctx, id)
}

func (h hookedUsers) FindUsers(ctx context.Context, ids []string) (found []realtime.User, err error) {
	h.at("UserBatchRepo.FindUsers")
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
	h.at("SessionRepo.FindSession")
	return h.SessionRepo.FindSession(ctx, sid)
}

func (h hookedSessions) FindSessions(ctx context.Context, sids []string) (found []realtime.Session, err error) {
	h.at("SessionBatchRepo.FindSessions")
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
	h.at("TripLookup.ActiveTrips")
	return h.TripLookup.ActiveTrips(ctx, user)
}

func (h hookedTrips) ActiveTripsOf(ctx context.Context, users []string) (map[string][]string, error) {
	h.at("TripBatchLookup.ActiveTripsOf")
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
	h.at("PartyLookup.FindParties")
	return h.PartyLookup.FindParties(ctx, trip)
}

func (h hookedDrivers) UpdateStatus(ctx context.Context, id string, in realtime.StatusUpdate) (realtime.Availability, error) {
	h.at("DriverService.UpdateStatus")
	return h.DriverService.UpdateStatus(ctx, id, in)
}

func (h hookedDrivers) UpdateLocation(ctx context.Context, id string, in realtime.LocationPing) (realtime.LocationUpdate, bool, error) {
	h.at("DriverService.UpdateLocation")
	return h.DriverService.UpdateLocation(ctx, id, in)
}

func (h hookedDrivers) SetTrip(ctx context.Context, id, trip string) (realtime.Availability, error) {
	h.at("DriverService.SetTrip")
	return h.DriverService.SetTrip(ctx, id, trip)
}

func (h hookedOffers) AcceptOffer(context.Context, string, string) (string, error) {
	h.at("OfferService.AcceptOffer")
	return "t1", nil
}

func (h hookedOffers) RejectOffer(context.Context, string, string, string) error {
	h.at("OfferService.RejectOffer")
	return nil
}

func (h hookedBus) Publish(ctx context.Context, e realtime.Envelope) error {
	h.at("EventBus.Publish")
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
	h.at("Adapter.Publish")
	return h.HubNode.Publish(ctx, m)
}

func (h hookedAdapter) Request(ctx context.Context, m realtime.ClusterMessage, answer func(realtime.ClusterAnswer)) error {
	h.at("Adapter.Request")
	return h.HubNode.Request(ctx, m, answer)
}

func (h hookedAdapter) Close(ctx context.Context) error {
	h.at("Adapter.Close")
	return h.HubNode.Close(ctx)
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

func (b *hookedBody) UnmarshalJSON([]byte) error { bodies.at("In.UnmarshalJSON"); return nil }
func (b *hookedBody) Validate() error            { bodies.at("In.Validate"); return nil }
func (hookedResult) MarshalJSON() ([]byte, error) {
	bodies.at("Out.MarshalJSON")
	return []byte(`{}`), nil
}
