// Presence events that the bus gives an order that nobody wanted.

package realtime_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// deafBus is a bus on which a node only publishes: other nodes handle the events.
type deafBus struct{ *realtimetest.Bus }

func (deafBus) Subscribe(func(context.Context, realtime.Envelope) error) (func(), error) {
	return func() {}, nil
}

// A bus may accept presence.disconnected after the node that published it has died, and after the
// user has connected to another node. The node that handles it has this corrected.
func TestPresenceCheck_EventThatComesLate(t *testing.T) {
	disconnected := realtime.PresenceDisconnected{Presence: realtime.Presence{
		UserID: "d1", UserType: realtime.UserDriver, Namespace: realtime.NamespaceDrivers, Reason: realtime.DisconnectTransportClose,
	}}
	for name, c := range map[string]struct {
		handles int                                                   // the node that handles events
		then    func(t *testing.T, n gapSite, d *realtimetest.Client) // after the event has come
		want    []string
	}{
		"the user's node handles it": {handles: 1, want: []string{"-/drivers d1 transport close", "+/drivers d1"}},
		"another node handles it":    {handles: 0, want: []string{"-/drivers d1 transport close", "+/drivers d1"}},
		"the user's node has a gap meanwhile": {0, func(_ *testing.T, n gapSite, _ *realtimetest.Client) {
			n.cut.Cut()
			time.Sleep(time.Second)
			n.cut.Heal()
		}, []string{"-/drivers d1 transport close", "+/drivers d1"}},
		"the next event says that they are connected": {0, func(t *testing.T, n gapSite, _ *realtimetest.Client) {
			time.Sleep(50 * time.Millisecond)
			n.a.Publish(t, realtime.PresenceConnected{Presence: realtime.Presence{
				UserID: "d1", UserType: realtime.UserDriver, Namespace: realtime.NamespaceDrivers, Sockets: 1,
			}})
		}, []string{"-/drivers d1 transport close", "+/drivers d1"}},
		"the user comes back within their grace time": {0, func(t *testing.T, n gapSite, d *realtimetest.Client) {
			d.Close()
			time.Sleep(time.Second)
			n.b.Driver(t, "d1")
		}, []string{"-/drivers d1 transport close", "+/drivers d1"}},
		"the user's grace time ends": {0, func(_ *testing.T, _ gapSite, d *realtimetest.Client) { d.Close() },
			[]string{"-/drivers d1 transport close", "-/drivers d1 client namespace disconnect"}},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				bus, number := realtimetest.NewBus(), 0
				n := newGapSite(t, withPresence, func(o *realtime.Options) {
					if o.Bus = bus; number != c.handles {
						o.Bus = deafBus{bus}
					}
					number++
				})
				heard := &presenceReader{servers: []*realtimetest.Server{{Bus: bus}}}
				driver := n.b.Driver(t, "d1")
				time.Sleep(time.Minute)
				require.Equal(t, []string{"+/drivers d1"}, heard.take(t))
				env, err := realtime.NewEnvelope(disconnected)
				require.NoError(t, err)
				require.NoError(t, bus.Publish(t.Context(), env))
				synctest.Wait()
				if c.then != nil {
					c.then(t, n, driver)
				}
				time.Sleep(30 * time.Minute)
				require.Equal(t, c.want, heard.take(t))
			})
		})
	}
}

// What is no presence event of a user is ignored.
func TestPresenceCheck_Malformed(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withPresence)
		srv.Driver(t, "d1")
		for _, data := range []string{"", "null", "[]", `{"userId":"d1"}`, `{"userId":"d1","nsp":"/none"}`, `{"userId":"","nsp":"/drivers"}`} {
			require.NoError(t, srv.Bus.Publish(t.Context(), realtime.Envelope{ID: data, Name: "presence.disconnected", Key: "d1", Data: []byte(data)}))
		}
		time.Sleep(time.Minute)
		require.Len(t, srv.Bus.Published(), 7)
	})
}
