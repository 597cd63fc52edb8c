// Offers on several nodes: the node that handles an offer need not have the driver's devices, and may die.

package realtime_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// offerCluster is a cluster of nodes with a bus each, that can be cut off and killed.
type offerCluster struct {
	nodes []*realtimetest.Server
	links []*realtimetest.HubNode
	hub   *realtimetest.Hub
}

func newOfferCluster(t *testing.T, n int, configure ...func(o *realtime.Options)) *offerCluster {
	t.Helper()
	c := &offerCluster{hub: realtimetest.NewHub()}
	for range n {
		c.add(t, configure...)
	}
	synctest.Wait()
	time.Sleep(time.Second) // they know each other
	return c
}

func (c *offerCluster) add(t *testing.T, configure ...func(o *realtime.Options)) *realtimetest.Server {
	t.Helper()
	link := c.hub.Node()
	c.links = append(c.links, link)
	node := realtimetest.NewServer(t, slices.Concat([]func(o *realtime.Options){nothingDropped(t)}, configure, []func(o *realtime.Options){withAnswers, func(o *realtime.Options) { o.Cluster.Adapter = link }})...)
	c.nodes = append(c.nodes, node)
	return node
}

// nothingDropped makes it an error of the test if a node refuses what another one of this library has sent.
func nothingDropped(t *testing.T) func(o *realtime.Options) {
	return func(o *realtime.Options) {
		o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { t.Errorf("message dropped: %+v", i) }}
	}
}

// Devices on all nodes receive the offer, and the node that has handled it reports the first receipt.
func TestOffers_DevicesOnOtherNodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3)
		log := readOffers(t, c.nodes...)
		mine := readOffers(t, c.nodes[0])
		phone, tablet := c.nodes[1].Driver(t, "d1"), c.nodes[2].Driver(t, "d1")
		other := c.nodes[1].Driver(t, "d2")
		tablet.Stall()
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
		mine.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
		time.Sleep(2100 * time.Millisecond)
		tablet.Resume()
		require.Equal(t, []string{"o1", "o1"}, []string{gotOffer(t, tablet), gotOffer(t, tablet)}, "again after 2 s")
		late := c.nodes[2].Driver(t, "d1")
		require.Equal(t, "o1", gotOffer(t, late))
		time.Sleep(time.Minute)
		for _, d := range []*realtimetest.Client{phone, tablet, late, other} {
			realtimetest.ExpectNone(t, d, realtime.EventAssignmentOffered)
		}
		log.expect()
	})
}

// A driver without a device on any node is told from one whose device elsewhere is silent.
func TestOffers_UndeliveredOnOtherNodes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3)
		log := readOffers(t, c.nodes...)
		c.nodes[1].Driver(t, "d1").Stall()
		synctest.Wait()
		time.Sleep(time.Second)
		c.nodes[0].Publish(t, offerTo("d1", "silent", 20))
		c.nodes[2].Publish(t, offerTo("d2", "nobody", 20))
		time.Sleep(3100 * time.Millisecond)
		require.ElementsMatch(t, []string{"undelivered silent d1 no_receipt", "undelivered nobody d2 no_device"}, log.take())
		time.Sleep(5 * time.Second)
		phone := c.nodes[0].Driver(t, "d2")
		require.Equal(t, "nobody", gotOffer(t, phone))
		log.expect("delivered nobody d2 " + phone.ID() + " heartbeat 8.1s")
		time.Sleep(time.Minute)
		log.expect()
	})
}

// Nodes of whose death nobody knows yet have made offers: a node that begins learns of all of them.
func TestOffers_NewNodeAfterAnUnknownDeath(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 4)
		for n := range 40 {
			c.nodes[n%2].Publish(t, offerTo(fmt.Sprint("d", n), fmt.Sprint("o", n), 20))
		}
		synctest.Wait()
		for _, dead := range c.links[:2] {
			dead.Cut()
		}
		fresh := c.add(t)
		time.Sleep(2 * time.Second)
		for n := range 40 {
			require.Equal(t, fmt.Sprint("o", n), gotOffer(t, fresh.Driver(t, fmt.Sprint("d", n))))
		}
	})
}

// The node that has handled the offer dies: exactly one other node takes over, and the expiry
// survives.
func TestOffers_NodeDies(t *testing.T) {
	for _, died := range []string{"died", "left"} {
		t.Run(died, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				unreachable := make(chan string, 10)
				c := newOfferCluster(t, 4, func(o *realtime.Options) {
					o.ExpireOffers = true
					o.Unreachable = func(_ context.Context, user string, _ realtime.MissedEvent) { unreachable <- user }
				})
				log := readOffers(t, c.nodes[1:]...)
				c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
				c.nodes[0].Publish(t, offerTo("d2", "o2", 20))
				synctest.Wait()
				if died == "died" {
					c.links[0].Kill()
				} else {
					c.nodes[0].Close()
				}
				time.Sleep(time.Second)
				phone := c.nodes[1].Driver(t, "d2") // the receipt comes after the death
				require.Equal(t, "o2", gotOffer(t, phone))
				time.Sleep(9 * time.Second)
				require.ElementsMatch(t, []string{"undelivered o1 d1 no_device", "delivered o2 d2 " + phone.ID() + " heartbeat 1s"}, log.take())
				if died == "left" {
					require.Equal(t, "d1", <-unreachable)
					require.Empty(t, unreachable)
				}
				time.Sleep(20 * time.Second)
				require.ElementsMatch(t, []string{"expired o1 d1", "expired o2 d2"}, log.take())
				time.Sleep(time.Minute)
				log.expect()
			})
		})
	}
}

// Whichever node has handled an offer and dies: one of the others reports it 5 s after the offer. The order of the others
// has no place for the one that has died.
func TestOffers_TakeOverTakesTwoSeconds(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 4)
		log := readOffers(t, c.nodes[1:]...)
		var want []string
		for i := range 20 {
			c.nodes[0].Publish(t, offerTo("d1", fmt.Sprint("o", i), 20))
			want = append(want, fmt.Sprintf("undelivered o%d d1 no_device", i))
		}
		synctest.Wait()
		c.links[0].Kill()
		time.Sleep(4900 * time.Millisecond)
		log.expect()
		time.Sleep(300 * time.Millisecond)
		require.ElementsMatch(t, want, log.take())
		time.Sleep(10 * time.Second)
		log.expect()
	})
}

// slowReports is a bus that takes its time for reports of offers.
type slowReports struct {
	realtime.EventBus
	takes time.Duration
}

func (b slowReports) Publish(ctx context.Context, e realtime.Envelope) error {
	if strings.HasSuffix(e.Name, ".undelivered") {
		time.Sleep(b.takes)
	}
	return b.EventBus.Publish(ctx, e)
}

// If the bus is so slow that another node publishes the report too, with the same id, the host's push is
// sent once all the same.
func TestOffers_UnreachableOnceOnASlowBus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		unreachable := make(chan string, 10)
		counted := func(o *realtime.Options) {
			o.Unreachable = func(_ context.Context, user string, e realtime.MissedEvent) {
				unreachable <- user + " " + string(e.Reason)
			}
		}
		c := newOfferCluster(t, 1, counted, func(o *realtime.Options) { o.Bus = slowReports{o.Bus, 4 * time.Second} })
		c.add(t, counted)
		c.add(t, counted)
		time.Sleep(time.Second)
		log := readOffers(t, c.nodes...)
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		time.Sleep(15 * time.Second)
		require.Equal(t, []string{"undelivered o1 d1 no_device", "undelivered o1 d1 no_device"}, log.take(), "by two nodes")
		require.Equal(t, "d1 no_device", <-unreachable)
		require.Empty(t, unreachable)
	})
}

// The same on a bus that every node hears.
func TestOffers_TakeOverOnABusThatAllHear(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := realtimetest.NewBus()
		c := newOfferCluster(t, 4, func(o *realtime.Options) { o.Bus, o.Cluster.BusFanOut = bus, true })
		log := readOffers(t, c.nodes[1])
		const offers = 200 // node 0 is the first for each of them with a chance of 1 in 4
		var want []string
		for i := range offers {
			c.nodes[1].Publish(t, offerTo("d1", fmt.Sprint("o", i), 20))
			want = append(want, fmt.Sprintf("undelivered o%d d1 no_device", i))
		}
		synctest.Wait()
		c.nodes[0].Close()
		time.Sleep(3200 * time.Millisecond)
		got := log.take()
		require.Less(t, len(got), offers, "node 0 would have reported some of them")
		time.Sleep(1800 * time.Millisecond)
		require.ElementsMatch(t, want, append(got, log.take()...))
		time.Sleep(10 * time.Second)
		log.expect()
	})
}

// What another node has reported is not reported again by a node that hears of it and of the receipt together.
func TestOffers_ToldByAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2)
		log := readOffers(t, c.nodes...)
		c.nodes[0].Publish(t, offerTo("d1", "o1", 40))
		synctest.Wait()
		c.links[0].Cut()
		phone := c.nodes[1].Driver(t, "d1")
		require.Equal(t, "o1", gotOffer(t, phone))
		time.Sleep(8 * time.Second)
		require.ElementsMatch(t, []string{"undelivered o1 d1 no_device", "delivered o1 d1 " + phone.ID() + " heartbeat 0s"}, log.take())
		c.links[0].Heal()
		time.Sleep(5 * time.Second)
		log.expect()
	})
}

// The same on a bus that every node hears, and which says so.
func TestOffers_ToldOnTheBus(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := realtimetest.NewBus()
		c := newOfferCluster(t, 3, func(o *realtime.Options) { o.Bus, o.Cluster.BusFanOut = bus, true })
		log := readOffers(t, c.nodes[0])
		phone := c.nodes[1].Driver(t, "d1")
		synctest.Wait()
		c.links[1].Cut()
		for i := range 10 { // some of them are reported by node 1 first, others by one of those that do not hear it
			c.nodes[0].Publish(t, offerTo("d1", fmt.Sprint("o", i), 40))
		}
		time.Sleep(8 * time.Second)
		var delivered []string
		for _, r := range log.take() {
			if strings.HasPrefix(r, "delivered") {
				delivered = append(delivered, r)
			}
		}
		slices.Sort(delivered)
		require.Len(t, delivered, 10)
		for i, r := range delivered {
			require.Equal(t, fmt.Sprintf("delivered o%d d1 %s heartbeat 0s", i, phone.ID()), r)
		}
	})
}

// A node that does not hear the others may not know that an offer was accepted. It does not report it as expired, and
// asks when it hears them again.
func TestOffers_AcceptedWhileANodeIsCutOff(t *testing.T) {
	for cut := range 3 {
		t.Run(fmt.Sprint("node ", cut), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 3, func(o *realtime.Options) { o.ExpireOffers = true })
				log := readOffers(t, c.nodes...)
				phone := c.nodes[1].Driver(t, "d1")
				c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
				require.Equal(t, "o1", gotOffer(t, phone))
				synctest.Wait()
				c.links[cut].Cut()
				time.Sleep(time.Second)
				_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: "o1"})
				require.NoError(t, err)
				c.nodes[(cut+1)%3].Publish(t, realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "o1", DriverID: "d1"})
				time.Sleep(40 * time.Second)
				c.links[cut].Heal()
				time.Sleep(time.Minute)
				log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
			})
		})
	}
}

// The end of an offer comes when it has expired, and nobody has reported that yet, because the node that would has died
// or does not hear the others. The other nodes learn of it.
func TestOffers_EndComesLate(t *testing.T) {
	for name, end := range map[string]realtime.DomainEvent{
		"accepted":       realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"rejected":       realtime.AssignmentRejected{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"trip cancelled": realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledByPassenger},
	} {
		for _, how := range []string{"died", "cut off"} {
			t.Run(name+", "+how, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					c := newOfferCluster(t, 4, func(o *realtime.Options) { o.ExpireOffers = true })
					log := readOffers(t, c.nodes...)
					phone := c.nodes[1].Driver(t, "d1")
					c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
					require.Equal(t, "o1", gotOffer(t, phone))
					time.Sleep(time.Second)
					if how == "died" {
						c.links[0].Kill()
						log = readOffers(t, c.nodes[1:]...)
					} else {
						c.links[0].Cut()
					}
					log.take()
					time.Sleep(19*time.Second + 500*time.Millisecond)
					c.nodes[1].Publish(t, end)
					time.Sleep(5 * time.Second)
					if how == "cut off" {
						c.links[0].Heal()
					}
					time.Sleep(time.Minute)
					log.expect()
				})
			})
		}
	}
}

// Only the trips that nodes compare after a gap say that the trip has ended, because the node that has handled its end
// has died.
func TestOffers_TripHasEndedInAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3, func(o *realtime.Options) { o.ExpireOffers = true })
		log := readOffers(t, c.nodes[:2]...)
		c.nodes[0].Publish(t, offerTo("d1", "o1", 30))
		time.Sleep(4 * time.Second)
		log.expect("undelivered o1 d1 no_device")
		c.links[0].Cut()
		c.nodes[2].Publish(t, realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledByPassenger})
		synctest.Wait()
		c.links[2].Kill()
		c.links[0].Heal()
		time.Sleep(3 * time.Second)
		realtimetest.ExpectNone(t, c.nodes[0].Driver(t, "d1"), realtime.EventAssignmentOffered)
		time.Sleep(2 * time.Minute)
		log.expect()
	})
}

// The node on which the driver has accepted is heard again right before the expiry.
func TestOffers_AcceptedOnANodeThatIsHeardAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3, func(o *realtime.Options) { o.ExpireOffers = true })
		log := readOffers(t, c.nodes...)
		phone := c.nodes[1].Driver(t, "d1")
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		synctest.Wait()
		c.links[1].Cut()
		time.Sleep(time.Second)
		_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: "o1"})
		require.NoError(t, err)
		time.Sleep(18980 * time.Millisecond)
		c.links[1].Heal()
		time.Sleep(time.Minute)
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
	})
}

// An offer that nobody has answered while no node heard the others expires all the same: when they hear each other
// again, or 45 s later.
func TestOffers_ExpireWhileNoNodeHearsTheOthers(t *testing.T) {
	for after, want := range map[time.Duration]string{30 * time.Second: "32s", 10 * time.Minute: "1m5s"} {
		t.Run(after.String(), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 3, func(o *realtime.Options) { o.ExpireOffers = true })
				log := readOffers(t, c.nodes...)
				c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
				synctest.Wait()
				for _, l := range c.links {
					l.Cut()
				}
				var expired []string
				for second := range 20 * 60 {
					if time.Duration(second)*time.Second == after {
						for _, l := range c.links {
							l.Heal()
						}
					}
					time.Sleep(time.Second)
					for _, r := range log.take() {
						if r == "expired o1 d1" {
							expired = append(expired, (time.Duration(second+1) * time.Second).String())
						}
					}
				}
				require.Len(t, expired, 1)
				at, err := time.ParseDuration(expired[0])
				require.NoError(t, err)
				least, err := time.ParseDuration(want)
				require.NoError(t, err)
				require.InDelta(t, least.Seconds(), at.Seconds(), 1)
			})
		})
	}
}

// The end of an offer may be faster than the offer, which comes from another node.
func TestOffers_EndComesFirst(t *testing.T) {
	for name, end := range map[string]realtime.DomainEvent{
		"cancelled":      realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"trip cancelled": realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledByPassenger},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 1)
				phone := c.nodes[0].Driver(t, "d1")
				other := c.hub.Node()
				require.NoError(t, other.Start(t.Context(), idleNode{}))
				defer func() { require.NoError(t, other.Close(t.Context())) }()
				c.nodes[0].Publish(t, end)
				synctest.Wait()
				s := &realtime.NodeState{}
				require.NoError(t, s.UnmarshalJSON([]byte(`{"offer":{"id":"o1","begun":{"eventId":"e1","tripId":"t1","driverId":"d1","payload":{"assignmentId":"o1"},"leftMs":20000}}}`)))
				require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: "/drivers", State: s}))
				synctest.Wait()
				realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
				realtimetest.ExpectNone(t, c.nodes[0].Driver(t, "d1"), realtime.EventAssignmentOffered)
				time.Sleep(3 * time.Second)
				c.nodes[0].Publish(t, realtime.AssignmentOffered{TripID: "t2", AssignmentID: "o1", DriverID: "d1", TTLSec: 20, At: time.Now()})
				require.Equal(t, "o1", gotOffer(t, phone), "a new one")
			})
		})
	}
}

// What ends an offer comes at the same moment as the offer, from another node: the offer does not run.
func TestOffers_EndComesAtTheSameTime(t *testing.T) {
	for name, end := range map[string]func(n int) realtime.DomainEvent{
		"cancelled": func(n int) realtime.DomainEvent {
			return realtime.AssignmentCancelled{TripID: fmt.Sprint("t", n), AssignmentID: fmt.Sprint("o", n), DriverID: "d1"}
		},
		"trip cancelled": func(n int) realtime.DomainEvent {
			return realtime.TripCancelled{TripID: fmt.Sprint("t", n), PassengerID: "p1", CancelledBy: realtime.CancelledByPassenger}
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 1)
				other := c.hub.Node()
				require.NoError(t, other.Start(t.Context(), idleNode{}))
				defer func() { require.NoError(t, other.Close(t.Context())) }()
				for n := range 3000 {
					s := &realtime.NodeState{}
					require.NoError(t, s.UnmarshalJSON(fmt.Appendf(nil, `{"offer":{"id":"o%d","begun":{"eventId":"e1","tripId":"t%d","driverId":"d1","payload":{"assignmentId":"o1"},"leftMs":20000}}}`, n, n)))
					var both sync.WaitGroup
					both.Go(func() {
						_ = other.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: "/drivers", State: s})
					})
					env, err := realtime.NewEnvelope(end(n))
					require.NoError(t, err)
					both.Go(func() { _ = c.nodes[0].Bus.Publish(t.Context(), env) })
					both.Wait()
					synctest.Wait()
				}
				realtimetest.ExpectNone(t, c.nodes[0].Driver(t, "d1"), realtime.EventAssignmentOffered)
			})
		})
	}
}

// A node that was cut off tells the others that an offer has ended. That does not end a later one with its assignment.
func TestOffers_EndOfAnEarlierOfferAfterAGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3)
		phone := c.nodes[2].Driver(t, "d1")
		c.nodes[0].Publish(t, offerTo("d1", "o1", 60))
		require.Equal(t, "o1", gotOffer(t, phone))
		_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
		require.NoError(t, err)
		synctest.Wait()
		c.links[2].Cut()
		time.Sleep(time.Second)
		c.nodes[0].Publish(t, offerTo("d2", "o1", 60))
		time.Sleep(time.Second)
		c.links[2].Heal()
		time.Sleep(10 * time.Second)
		for _, node := range c.nodes {
			require.Equal(t, "o1", gotOffer(t, node.Driver(t, "d2")))
		}
	})
}

// What another node has learned of an offer does not touch a later one with that assignment. A node of an older version
// does not say which one it means.
func TestOffers_LearnedOfAnEarlierOffer(t *testing.T) {
	for name, learned := range map[string]string{
		"received": `"received":{"socket":"s"}`, "told": `"told":[0,1]`, "missed": `"missed":true`, "ended": `"ended":true`,
	} {
		for _, which := range []string{`"eventId":"earlier",`, `"driverId":"d1",`, `"eventId":"later",`, `"driverId":"d2",`, ``} {
			t.Run(name+" "+which, func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					unreachable := make(chan string, 10)
					c := newOfferCluster(t, 1, func(o *realtime.Options) {
						o.Unreachable = func(_ context.Context, user string, _ realtime.MissedEvent) { unreachable <- user }
					})
					other := c.hub.Node()
					require.NoError(t, other.Start(t.Context(), idleNode{}))
					defer func() { require.NoError(t, other.Close(t.Context())) }()
					publishAs(t, c.nodes[0], "earlier", offerTo("d1", "o1", 60))
					time.Sleep(time.Second)
					publishAs(t, c.nodes[0], "later", offerTo("d2", "o1", 60))
					synctest.Wait()
					s := &realtime.NodeState{}
					require.NoError(t, s.UnmarshalJSON(fmt.Appendf(nil, `{"offer":{"id":"o1",%s%s}}`, which, learned)))
					require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: "/drivers", State: s}))
					time.Sleep(5 * time.Second)
					if earlier := strings.Contains(which, "earlier") || strings.Contains(which, "d1"); earlier {
						require.Len(t, unreachable, 1)
						require.Equal(t, "d2", <-unreachable)
					}
					require.Empty(t, unreachable)
				})
			})
		}
	}
}

// publishAs publishes an event with that id on the bus of a node.
func publishAs(t *testing.T, node *realtimetest.Server, id string, e realtime.DomainEvent) {
	t.Helper()
	env, err := realtime.NewEnvelope(e)
	require.NoError(t, err)
	env.ID = id
	require.NoError(t, node.Bus.Publish(t.Context(), env))
}

// The bus delivers an offer on another node again when it has ended, was replaced or has expired: the driver does not get it.
func TestOffers_AgainAfterTheEnd(t *testing.T) {
	for name, c := range map[string]struct {
		after time.Duration
		later bool
	}{"ended": {after: time.Second}, "replaced": {after: time.Second, later: true}, "expired": {after: 21 * time.Second}, "forgotten": {after: 5 * time.Minute}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				cluster := newOfferCluster(t, 2)
				phone, next := cluster.nodes[0].Driver(t, "d1"), cluster.nodes[0].Driver(t, "d2")
				synctest.Wait()
				offer := offerTo("d1", "o1", 20)
				publishAs(t, cluster.nodes[0], "e1", offer)
				require.Equal(t, "o1", gotOffer(t, phone))
				_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
				require.NoError(t, err)
				if c.later {
					publishAs(t, cluster.nodes[0], "e2", offerTo("d2", "o1", 20))
					require.Equal(t, "o1", gotOffer(t, next))
				}
				time.Sleep(c.after)
				publishAs(t, cluster.nodes[1], "e1", offer)
				synctest.Wait()
				realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
				if c.later {
					require.Equal(t, "o1", gotOffer(t, cluster.nodes[1].Driver(t, "d2")), "it runs")
				}
			})
		})
	}
}

// A node was cut off while a long offer was rejected, for so long that short ones are forgotten.
func TestOffers_LongOfferEndsInALongGap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2)
		phone := c.nodes[0].Driver(t, "d1")
		c.nodes[0].Publish(t, offerTo("d1", "o1", 3600))
		require.Equal(t, "o1", gotOffer(t, phone))
		synctest.Wait()
		c.links[1].Cut()
		_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
		require.NoError(t, err)
		time.Sleep(30 * time.Minute)
		c.links[1].Heal()
		time.Sleep(10 * time.Second)
		for _, d := range []*realtimetest.Client{phone, c.nodes[0].Driver(t, "d1"), c.nodes[1].Driver(t, "d1")} {
			realtimetest.ExpectNone(t, d, realtime.EventAssignmentOffered)
		}
	})
}

// The trip ends on a node that does not know the offer: the others learn of the trip, and end it.
func TestOffers_TripEndsWhereTheOfferIsUnknown(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2, func(o *realtime.Options) { o.ExpireOffers = true })
		log := readOffers(t, c.nodes...)
		synctest.Wait()
		realtime.LimitOffers(c.nodes[1].Realtime, 0)
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		synctest.Wait()
		c.nodes[1].Publish(t, realtime.TripCancelled{TripID: "t1", PassengerID: "p1", CancelledBy: realtime.CancelledByPassenger})
		synctest.Wait()
		realtimetest.ExpectNone(t, c.nodes[0].Driver(t, "d1"), realtime.EventAssignmentOffered)
		time.Sleep(40 * time.Second)
		log.expect()
	})
}

// A node that tracks as many offers as it may sends the others too.
func TestOffers_TooManyOnAnotherNode(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2)
		synctest.Wait()
		realtime.LimitOffers(c.nodes[1].Realtime, 0)
		phone := c.nodes[1].Driver(t, "d1")
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		c.links[1].Cut()
		c.links[1].Heal()
		time.Sleep(5 * time.Second)
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
	})
}

// A node that joins learns of the offers of a node that has died or left, and its drivers get them.
func TestOffers_OfANodeThatIsGone(t *testing.T) {
	for _, died := range []bool{false, true} {
		t.Run(fmt.Sprint("died: ", died), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				c := newOfferCluster(t, 4)
				for i := range 8 {
					c.nodes[0].Publish(t, offerTo("d1", fmt.Sprint("o", i), 30))
				}
				synctest.Wait()
				if died {
					c.links[0].Kill()
				} else {
					require.NoError(t, c.nodes[0].Realtime.Shutdown(t.Context()))
				}
				synctest.Wait()
				joined := c.add(t)
				time.Sleep(1500 * time.Millisecond)
				phone := joined.Driver(t, "d1")
				var got []string
				for range 8 {
					got = append(got, gotOffer(t, phone))
				}
				slices.Sort(got)
				require.Equal(t, []string{"o0", "o1", "o2", "o3", "o4", "o5", "o6", "o7"}, got)
			})
		})
	}
}

// A node that joins, or was cut off, learns which offers run, and what has become of them.
func TestOffers_NodesThatMissedThem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 3)
		log := readOffers(t, c.nodes...)
		behind := c.nodes[1].Driver(t, "d1")
		synctest.Wait()
		c.links[1].Cut()
		synctest.Wait()
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		c.nodes[0].Publish(t, offerTo("d1", "ended", 20))
		synctest.Wait()
		c.nodes[2].Publish(t, realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "ended", DriverID: "d1"})
		synctest.Wait()
		realtimetest.ExpectNone(t, behind, realtime.EventAssignmentOffered)
		c.links[1].Heal()
		time.Sleep(1500 * time.Millisecond)
		require.Equal(t, "o1", gotOffer(t, behind))
		realtimetest.ExpectNone(t, behind, realtime.EventAssignmentOffered)
		got := log.take()
		require.Len(t, got, 1)
		require.Contains(t, got[0], "delivered o1 d1 "+behind.ID()+" heartbeat ")

		joined := c.add(t)
		time.Sleep(1500 * time.Millisecond)
		late := joined.Driver(t, "d1")
		require.Equal(t, "o1", gotOffer(t, late))
		realtimetest.ExpectNone(t, late, realtime.EventAssignmentOffered)
		time.Sleep(time.Minute)
		log.expect()

		// A receipt that the handling node has missed.
		c.nodes[0].Publish(t, offerTo("d1", "o2", 20))
		synctest.Wait()
		require.Len(t, log.take(), 1)
		for _, d := range []*realtimetest.Client{behind, late} {
			require.Equal(t, "o2", gotOffer(t, d))
			d.Close()
		}
		c.nodes[0].Publish(t, offerTo("d1", "o3", 20))
		synctest.Wait()
		c.links[0].Cut()
		phone := c.nodes[2].Driver(t, "d1")
		require.Equal(t, []string{"o2", "o3"}, []string{gotOffer(t, phone), gotOffer(t, phone)})
		time.Sleep(time.Second)
		c.links[0].Heal()
		time.Sleep(1500 * time.Millisecond)
		got = log.take()
		require.Len(t, got, 1)
		require.Contains(t, got[0], "delivered o3 d1 "+phone.ID()+" heartbeat ")
		time.Sleep(time.Minute)
		log.expect()
	})
}

// A bus that every node hears: each report is made once.
func TestOffers_BusFanOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		bus := realtimetest.NewBus()
		srvs := realtimetest.NewCluster(t, 3, withAnswers, func(o *realtime.Options) { o.Bus, o.Cluster.BusFanOut, o.ExpireOffers = bus, true, true })
		time.Sleep(time.Second)
		log, admin := readOffers(t, srvs[0]), srvs[1].Admin(t, "a1")
		phone := srvs[2].Driver(t, "d1")
		srvs[0].Publish(t, offerTo("d1", "o1", 20))
		srvs[0].Publish(t, offerTo("d2", "o2", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		time.Sleep(10 * time.Second)
		require.ElementsMatch(t, []string{"delivered o1 d1 " + phone.ID() + " heartbeat 0s", "undelivered o2 d2 no_device"}, log.take())
		realtimetest.Expect(t, admin, realtime.EventAssignmentDelivered)
		realtimetest.Expect(t, admin, realtime.EventAssignmentUndelivered)
		realtimetest.ExpectNone(t, admin, realtime.EventAssignmentDelivered, realtime.EventAssignmentUndelivered)
		late := srvs[0].Driver(t, "d2")
		require.Equal(t, "o2", gotOffer(t, late))
		time.Sleep(30 * time.Second)
		require.ElementsMatch(t, []string{"delivered o2 d2 " + late.ID() + " heartbeat 10s", "expired o1 d1", "expired o2 d2"}, log.take())
	})
}

// Whoever can publish as a node can neither make the server send what is no JSON, nor crash it, nor fill
// its memory.
func TestOffers_HostileStates(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		dropped := make(chan realtime.DropReason, 1000)
		c := newOfferCluster(t, 1, func(o *realtime.Options) {
			o.Trace = &realtime.Trace{ClusterDropped: func(_ context.Context, i realtime.ClusterDroppedInfo) { dropped <- i.Reason }}
		})
		phone := c.nodes[0].Driver(t, "d1")
		other := c.hub.Node()
		require.NoError(t, other.Start(t.Context(), idleNode{}))
		defer func() { require.NoError(t, other.Close(t.Context())) }()
		send := func(namespace, state string) int {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON([]byte(state)), state)
			require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{
				Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: namespace, State: s,
			}))
			synctest.Wait()
			n := len(dropped)
			for len(dropped) > 0 {
				require.Equal(t, realtime.DropMalformed, <-dropped)
			}
			return n
		}
		begun := func(change string) string {
			s := `{"offer":{"id":"o1","begun":{"eventId":"e1","tripId":"t1","driverId":"d1","payload":{"assignmentId":"o1"},"leftMs":20000}}}`
			if from, to, ok := strings.Cut(change, " > "); ok {
				require.Contains(t, s, from)
				return strings.Replace(s, from, to, 1)
			}
			return s
		}
		long := strings.Repeat("x", 1000)
		for _, bad := range []string{
			`"o1","begun" > "","begun"`, `"o1","begun" > "` + long + `","begun"`, `"e1" > ""`, `"t1" > ""`, `"d1" > ""`, `"d1" > "a\u0000"`,
			`"leftMs":20000 > "leftMs":0`, `"leftMs":20000 > "leftMs":-5`, `"leftMs":20000 > "leftMs":20000,"agoMs":-1`,
			`{"assignmentId":"o1"} > "` + strings.Repeat(long, 5000) + `"`, `"payload":{"assignmentId":"o1"}, > `,
			`{"assignmentId":"o1"} > ` + strings.Repeat("[", 5000) + strings.Repeat("]", 5000),
			`"driverId" > "vehicleId":"` + long + `","driverId"`,
		} {
			require.Equal(t, 1, send("/drivers", begun(bad)), bad)
		}
		for _, bad := range []string{
			`{"offer":{}}`, `{"offer":{"id":"o1"}}`, `{"offer":{"id":"o1","eventId":"` + long + `","ended":true}}`, `{"offer":{"id":"o1","driverId":"a\u0000","ended":true}}`, `{"offer":{"id":"o1","told":[7]}}`, `{"offer":{"id":"o1","told":[-1]}}`, `{"offer":{"id":"o1","told":[0,1,2,0]}}`,
			`{"offer":{"id":"o1","received":{}}}`, `{"offer":{"id":"o1","received":{"socket":"s","by":"magic"}}}`,
		} {
			require.Equal(t, 1, send("/drivers", bad), bad)
		}
		require.Equal(t, 1, send("/admin", begun("")))
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)

		require.Zero(t, send("/drivers", `{"offer":{"id":"unknown","received":{"socket":"s"},"told":[0],"ended":true}}`))
		require.Zero(t, send("/drivers", begun(`"leftMs":20000 > "leftMs":9223372036854775807,"agoMs":9223372036854775807`)))
		require.Equal(t, "o1", gotOffer(t, phone))
		require.Zero(t, send("/drivers", begun("")), "a repeat")
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
		for range 100 {
			require.Zero(t, send("/drivers", `{"offersOf":true}`))
		}
		realtime.LimitOffers(c.nodes[0].Realtime, 10)
		for i := range 20 {
			s := &realtime.NodeState{}
			require.NoError(t, s.UnmarshalJSON(fmt.Appendf(nil, `{"offer":{"id":"x%d","begun":{"eventId":"e","tripId":"t","driverId":"x%d","payload":{},"leftMs":1000}}}`, i, i)))
			require.NoError(t, other.Publish(t.Context(), realtime.ClusterMessage{Version: realtime.ClusterVersion, Op: realtime.OpState, Namespace: "/drivers", State: s}))
		}
		synctest.Wait()
		c.nodes[0].Publish(t, offerTo("d1", "mine", 20))
		require.Equal(t, "mine", gotOffer(t, phone), "it is sent without tracking")
	})
}

// otherSystem is a node of another system: it knows broadcasts only.
type otherSystem struct {
	idleNode
	got chan realtime.ClusterMessage
}

func (o otherSystem) Deliver(m realtime.ClusterMessage) {
	if m.Op == realtime.OpBroadcast {
		o.got <- m
	}
}

// A node of another system gets an offer as any event, and the nodes of this library get it once.
func TestOffers_NodesOfAnotherSystem(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		c := newOfferCluster(t, 2)
		other := otherSystem{got: make(chan realtime.ClusterMessage, 8)}
		link := c.hub.Node()
		require.NoError(t, link.Start(t.Context(), other))
		synctest.Wait()
		phone := c.nodes[1].Driver(t, "d1")
		c.nodes[0].Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		synctest.Wait()
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
		var offers []realtime.ClusterMessage
		for len(other.got) > 0 {
			if m := <-other.got; m.Namespace == realtime.NamespaceDrivers {
				offers = append(offers, m)
			}
		}
		require.Len(t, offers, 1)
		require.Equal(t, []string{"driver:d1"}, offers[0].Rooms)
		require.JSONEq(t, `"trip:assignment:offered"`, string(offers[0].Event.Args[0]))
		require.Len(t, offers[0].Event.Args, 2)
		require.NoError(t, link.Close(t.Context()))
	})
}
