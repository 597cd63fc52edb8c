// Everything that a node sends the others passes their checks, whatever its clients, its host and the bus have given it.

package realtime_test

import (
	"bytes"
	"fmt"
	"log/slog"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestNodeState_NothingOfAnotherNodeIsRefused(t *testing.T) {
	long, tooLong := strings.Repeat("x", 256), strings.Repeat("y", 257)
	for name, configure := range map[string]func(o *realtime.Options){
		"plain":    func(*realtime.Options) {},
		"recovery": func(o *realtime.Options) { o.Recovery.Enabled = true },
		"presence": func(o *realtime.Options) { o.Timeouts.PresenceGrace = time.Second },
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 3, configure, func(o *realtime.Options) { o.ExpireOffers = true })
				c.nodes[1].Passenger(t, "p1")
				for _, id := range []string{"d1", "ñandú", long[:200]} {
					for i, node := range c.nodes {
						d := node.Driver(t, id)
						if i == 0 {
							d.Stall()
						}
					}
				}
				var events []realtime.DomainEvent
				now := time.Now()
				ids := []string{"", "d1", "ñandú", "a\x00", "\xff", long[:200], long, tooLong}
				for i, id := range ids {
					trip, past := fmt.Sprint("t", i), now.Add(-time.Hour)
					for _, trip := range []string{trip, id} {
						events = append(
							events,
							realtime.TripRequested{TripID: trip, PassengerID: id, At: past},
							realtime.AssignmentOffered{TripID: trip, AssignmentID: id, PassengerID: id, DriverID: "d1", TTLSec: 20, At: now},
							realtime.AssignmentOffered{TripID: trip, AssignmentID: "o" + trip, PassengerID: id, DriverID: id, VehicleID: id, TTLSec: 20, At: now},
							realtime.AssignmentOffered{TripID: trip, AssignmentID: "expired" + trip, DriverID: "d1", TTLSec: 1, At: past},
							realtime.AssignmentOffered{TripID: trip, AssignmentID: "later" + trip, DriverID: "d1", ExpiresAt: now.Add(1000 * time.Hour), At: now},
							realtime.AssignmentDelivered{TripID: trip, AssignmentID: "later" + trip, DriverID: "d1", SocketID: id, By: "magic"},
							realtime.AssignmentUndelivered{TripID: trip, AssignmentID: id, DriverID: id},
							realtime.AssignmentRejected{TripID: trip, AssignmentID: id, DriverID: id},
							realtime.AssignmentAccepted{TripID: trip, AssignmentID: id, PassengerID: id, DriverID: id, At: past},
							realtime.DriverAssigned{TripID: trip, PassengerID: id, DriverID: id, At: now.Add(100 * time.Hour)},
							realtime.AssignmentExpired{TripID: trip, AssignmentID: id, DriverID: id},
							realtime.AssignmentCancelled{TripID: trip, AssignmentID: id, DriverID: id, At: past},
							realtime.NoDriversFound{TripID: trip, PassengerID: id},
							realtime.DriverAssigned{TripID: trip, PassengerID: "p1", DriverID: "d1"},
						)
					}
					events = append(
						events,
						realtime.TripCancelled{TripID: id, PassengerID: id, DriverID: id, CancelledBy: realtime.CancelledByPassenger},
						realtime.DriverLocationChanged{LocationUpdate: realtime.LocationUpdate{DriverID: id, LastLocation: realtime.Position{Lat: 1, Lng: 1}}},
						realtime.SessionRefreshed{UserID: "d1", OldSessionID: id, NewSessionID: "n"},
						realtime.SessionRefreshed{UserID: "d1", OldSessionID: "n", NewSessionID: id},
						realtime.SessionRefreshed{UserID: id, OldSessionID: id, NewSessionID: "n", ExpiresAt: now.Add(time.Hour)},
						realtime.SessionRefreshed{UserID: id, OldSessionID: "n", NewSessionID: id, ExpiresAt: now.Add(time.Hour)},
						realtime.SessionRefreshed{UserID: id, OldSessionID: id, NewSessionID: id, ExpiresAt: now.Add(-time.Hour)},
						realtime.SessionRevoked{SessionID: id, UserID: id},
						realtime.UserAccessChanged{UserID: id},
						realtime.PresenceDisconnected{Presence: realtime.Presence{UserID: id, UserType: realtime.UserType(id), Namespace: "/drivers"}},
						realtime.PresenceConnected{Presence: realtime.Presence{UserID: id, Namespace: id}},
					)
				}
				gap := func(links ...*realtimetest.HubNode) {
					for _, l := range links {
						l.Cut()
					}
					time.Sleep(time.Second)
					for _, l := range links {
						l.Heal()
					}
					time.Sleep(3 * time.Second)
				}
				for i, e := range events {
					env, err := realtime.NewEnvelope(e)
					if err != nil {
						continue // no host can publish it
					}
					require.NoError(t, c.nodes[i%3].Bus.Publish(t.Context(), env))
					synctest.Wait()
				}
				for _, node := range c.nodes {
					_, err := recall.Send(node.Realtime.Drivers().All(), long)
					require.NoError(t, err)
					_, err = recall.Send(node.Realtime.Drivers().To(realtime.DriverRoom("d1"), realtime.DriverRoom(long)).Except(realtime.TripRoom("t1")), "")
					require.NoError(t, err)
				}
				gap(c.links[0])
				gap(c.links...)
				time.Sleep(20 * time.Second)
				gap(c.links...)
				c.nodes[0].Close()
				time.Sleep(5 * time.Second)
				gap(c.links[1:]...)
			})
		})
	}
}

// An event that fits into the limits of one node and not of another one is not sent there, and the log says so: it is not
// malformed.
func TestNodeState_LimitsOfNodesDiffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 1)
		var log bytes.Buffer
		small := c.add(t, func(o *realtime.Options) {
			o.Limits.OutboxBytes = 16 << 10
			o.Logger = slog.New(slog.NewTextHandler(&log, nil))
		})
		time.Sleep(time.Second)
		here, there := c.nodes[0].Driver(t, "d1"), small.Driver(t, "d1")
		large := offerTo("d1", "o1", 20)
		large.Currency = strings.Repeat("x", 20<<10)
		c.nodes[0].Publish(t, large)
		require.Equal(t, "o1", gotOffer(t, here))
		_, err := recall.Send(c.nodes[0].Realtime.Drivers().All(), large.Currency)
		require.NoError(t, err)
		realtimetest.Expect(t, here, got)
		c.links[0].Cut()
		c.links[0].Heal()
		time.Sleep(3 * time.Second)
		realtimetest.ExpectNone(t, there, realtime.EventAssignmentOffered)
		realtimetest.ExpectNone(t, there, got)
		for _, event := range []string{"trip:assignment:offered", "vehicle:recall"} {
			require.Contains(t, log.String(), `msg="realtime: event not emitted" namespace=/drivers event=`+event)
		}
	})
}
