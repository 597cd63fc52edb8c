// Methods of the host's own events that do not return, and what waits with them.

package realtime_test

import (
	"context"
	"encoding/json"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hangPoints says, for the id of a hangingEvent, in which method it hangs.
var hangPoints sync.Map // of *stage

type hangPoint struct {
	method  string
	release chan struct{}
}

// hangingEvent is a domain event; one of its methods may hang.
type hangingEvent struct {
	ID string `json:"id"`
}

// hangIn blocks if the event is to hang in that method.
func (e hangingEvent) hangIn(method string) {
	if s, ok := hangPoints.Load(e.ID); ok && s.(*hangPoint).method == method {
		<-s.(*hangPoint).release
	}
}

func (hangingEvent) EventName() string  { return "test.stuck" }
func (e hangingEvent) EventKey() string { e.hangIn("EventKey"); return "t1" }
func (e hangingEvent) Validate() error  { e.hangIn("Validate"); return nil }

func (e hangingEvent) MarshalJSON() ([]byte, error) {
	e.hangIn("MarshalJSON")
	return json.Marshal(map[string]string{"id": e.ID})
}

func (e *hangingEvent) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	e.ID = m["id"]
	e.hangIn("UnmarshalJSON")
	return nil
}

type hangingPayload struct {
	realtime.EventMeta
	ID string `json:"id"`
}

// MarshalJSON implements json.Marshaler.
func (p hangingPayload) MarshalJSON() ([]byte, error) {
	hangingEvent{p.ID}.hangIn("payload")
	return json.Marshal(map[string]any{"eventId": p.EventID, "at": p.At, "id": p.ID})
}

var eventStuck = realtime.NewEvent[hangingPayload]("test:stuck")

func (e hangingEvent) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	e.hangIn("Deliveries")
	return []realtime.Delivery{eventStuck.Deliver(hangingPayload{m, e.ID}, realtime.ToAdmins(), realtime.ToDriver("d1"), realtime.ToPassenger("p1"))}
}

// A method that hangs costs its event, and the others of its key the time of one call
// of the host's code. Publish waits for one no longer than its ctx.
func TestHostEvent_MethodThatHangs(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		method    string
		publishes bool // Publish calls it
		inProcess bool
	}{
		{"EventKey", true, true},
		{"Validate", true, true},
		{"MarshalJSON", true, false},
		{"UnmarshalJSON", false, false},
		{"Deliveries", false, true},
		{"Deliveries", false, false},
		{"payload", false, true},
	} {
		name := c.method
		if !c.inProcess {
			name += " on a bus elsewhere"
		}
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				id := t.Name()
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("Something got stuck.", hangingEvent{"example"})}
					if !c.inProcess {
						o.Bus = newSerialBus()
					}
				})
				admin, driver, passenger := srv.Admin(t, "a1"), srv.Driver(t, "d1"), srv.Passenger(t, "p1")
				s := &hangPoint{c.method, make(chan struct{})}
				hangPoints.Store(id, s)
				defer hangPoints.Delete(id)
				defer close(s.release)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				err := srv.Realtime.Publish(ctx, hangingEvent{id})
				if c.publishes {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, time.Second, time.Since(begun))
				} else {
					require.NoError(t, err)
				}
				require.NoError(t, srv.Realtime.Publish(t.Context(), hangingEvent{"well"}))
				for _, client := range all(admin, driver, passenger) {
					require.Equal(t, "well", realtimetest.Expect(t, client.Within(time.Minute), eventStuck).ID)
					realtimetest.ExpectNone(t, client, eventStuck)
				}
				require.LessOrEqual(t, time.Since(begun), 6*time.Second, "Timeouts.Repo, once")
			})
		})
	}
}
