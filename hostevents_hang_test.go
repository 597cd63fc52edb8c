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

// stages are where a stuck event hangs, by its id.
var stages sync.Map // of *stage

type stage struct {
	method  string
	release chan struct{}
}

// stuck is an event one of whose methods does not return.
type stuck struct {
	ID string `json:"id"`
}

// hangs does not return while the event is to hang in that method.
func (e stuck) hangs(method string) {
	if s, ok := stages.Load(e.ID); ok && s.(*stage).method == method {
		<-s.(*stage).release
	}
}

func (stuck) EventName() string  { return "test.stuck" }
func (e stuck) EventKey() string { e.hangs("EventKey"); return "t1" }
func (e stuck) Validate() error  { e.hangs("Validate"); return nil }

func (e stuck) MarshalJSON() ([]byte, error) {
	e.hangs("MarshalJSON")
	return json.Marshal(map[string]string{"id": e.ID})
}

func (e *stuck) UnmarshalJSON(b []byte) error {
	var m map[string]string
	if err := json.Unmarshal(b, &m); err != nil {
		return err
	}
	e.ID = m["id"]
	e.hangs("UnmarshalJSON")
	return nil
}

type stuckPayload struct {
	realtime.EventMeta
	ID string `json:"id"`
}

// MarshalJSON implements json.Marshaler.
func (p stuckPayload) MarshalJSON() ([]byte, error) {
	stuck{p.ID}.hangs("payload")
	return json.Marshal(map[string]any{"eventId": p.EventID, "at": p.At, "id": p.ID})
}

var eventStuck = realtime.NewEvent[stuckPayload]("test:stuck")

func (e stuck) Deliveries(m realtime.EventMeta) []realtime.Delivery {
	e.hangs("Deliveries")
	return []realtime.Delivery{eventStuck.Deliver(stuckPayload{m, e.ID}, realtime.ToAdmins(), realtime.ToDriver("d1"), realtime.ToPassenger("p1"))}
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
					o.Events = []realtime.DomainEventType{realtime.NewDomainEvent("Something got stuck.", stuck{"example"})}
					if !c.inProcess {
						o.Bus = newSerialBus()
					}
				})
				admin, driver, passenger := srv.Admin(t, "a1"), srv.Driver(t, "d1"), srv.Passenger(t, "p1")
				s := &stage{c.method, make(chan struct{})}
				stages.Store(id, s)
				defer stages.Delete(id)
				defer close(s.release)
				ctx, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				begun := time.Now()
				err := srv.Realtime.Publish(ctx, stuck{id})
				if c.publishes {
					require.ErrorIs(t, err, context.DeadlineExceeded)
					require.Equal(t, time.Second, time.Since(begun))
				} else {
					require.NoError(t, err)
				}
				require.NoError(t, srv.Realtime.Publish(t.Context(), stuck{"well"}))
				for _, client := range all(admin, driver, passenger) {
					require.Equal(t, "well", realtimetest.Expect(t, client.Within(time.Minute), eventStuck).ID)
					realtimetest.ExpectNone(t, client, eventStuck)
				}
				require.LessOrEqual(t, time.Since(begun), 6*time.Second, "Timeouts.Repo, once")
			})
		})
	}
}
