// Offers that arrive: who has received one, who gets it again, and what is published about it.

package realtime_test

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"runtime"
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

// answers is an OfferService in which each offer belongs to the driver d1 and the trip t1.
type answers struct {
	mu       sync.Mutex // guards accepted
	accepted map[string]int
}

func (a *answers) AcceptOffer(_ context.Context, driverID, assignmentID string) (string, error) {
	if driverID != "d1" {
		return "", realtime.ErrNotFound
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	a.accepted[assignmentID]++
	return "t1", nil
}

func (a *answers) RejectOffer(_ context.Context, driverID, _, _ string) error {
	if driverID != "d1" {
		return realtime.ErrNotFound
	}
	return nil
}

func withAnswers(o *realtime.Options) { o.Offers = &answers{accepted: map[string]int{}} }

func offerTo(driver, id string, ttl int) realtime.AssignmentOffered {
	return realtime.AssignmentOffered{TripID: "t1", AssignmentID: id, PassengerID: "p1", DriverID: driver, VehicleID: "v1", TTLSec: ttl, At: time.Now()}
}

// offerLog reads what the servers publish about offers.
type offerLog struct {
	t    *testing.T
	srvs []*realtimetest.Server
	seen map[*realtimetest.Server]int
	ids  map[string]string // of the first report of each kind
}

func readOffers(t *testing.T, srvs ...*realtimetest.Server) *offerLog {
	return &offerLog{t: t, srvs: srvs, seen: map[*realtimetest.Server]int{}, ids: map[string]string{}}
}

// take returns what was published since the last call.
func (l *offerLog) take() (all []string) {
	l.t.Helper()
	synctest.Wait()
	for _, s := range l.srvs {
		published := s.Bus.Published()
		for _, env := range published[l.seen[s]:] {
			name, ok := strings.CutPrefix(env.Name, "trip.assignment.")
			if !ok || !slices.Contains([]string{"delivered", "undelivered", "expired"}, name) {
				continue
			}
			var e struct {
				AssignmentID, TripID, DriverID, SocketID, By, Reason string
				LatencyMS                                            int64
			}
			data, err := json.Marshal(env)
			require.NoError(l.t, err)
			require.NoError(l.t, json.Unmarshal(data, &env))
			require.NoError(l.t, json.Unmarshal(env.Data, &e))
			require.Equal(l.t, "t1", e.TripID)
			require.Equal(l.t, "t1", env.Key)
			if id := l.ids[name+e.AssignmentID]; id != "" {
				require.Equal(l.t, id, env.ID, "a repeat has the id of the first one")
			}
			l.ids[name+e.AssignmentID] = env.ID
			latency := ""
			if name == "delivered" {
				latency = (time.Duration(e.LatencyMS) * time.Millisecond).Round(100 * time.Millisecond).String()
			}
			all = append(all, strings.Join(strings.Fields(fmt.Sprintln(name, e.AssignmentID, e.DriverID, e.SocketID, e.By, latency, e.Reason)), " "))
		}
		l.seen[s] = len(published)
	}
	return all
}

func (l *offerLog) expect(want ...string) {
	l.t.Helper()
	require.Equal(l.t, want, l.take())
}

// gotOffer reads the next offer of a client.
func gotOffer(t *testing.T, c *realtimetest.Client) string {
	t.Helper()
	return realtimetest.Expect(t, c, realtime.EventAssignmentOffered).AssignmentID
}

func TestOffers_DeliveredOnceAtTheFirstReceipt(t *testing.T) {
	for _, transport := range []string{"websocket", "polling"} {
		t.Run(transport, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				var opts []realtimetest.Option
				if transport == "polling" {
					opts = append(opts, realtimetest.Polling())
				}
				srv := realtimetest.NewServer(t, withAnswers)
				log := readOffers(t, srv)
				phone, tablet := srv.Driver(t, "d1", opts...), srv.Driver(t, "d1", opts...)
				other, passenger, admin := srv.Driver(t, "d2"), srv.Passenger(t, "p1"), srv.Admin(t, "a1")
				tablet.Stall()
				srv.Publish(t, offerTo("d1", "o1", 20))
				require.Equal(t, "o1", gotOffer(t, phone))
				log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
				e := realtimetest.Expect(t, admin, realtime.EventAssignmentDelivered)
				require.Equal(t, phone.ID(), e.SocketID)
				require.Equal(t, realtime.ReceivedByHeartbeat, e.By)
				tablet.Resume()
				require.Equal(t, "o1", gotOffer(t, tablet))
				time.Sleep(10 * time.Second)
				log.expect()
				realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
				realtimetest.ExpectNone(t, tablet, realtime.EventAssignmentOffered)
				for _, c := range []*realtimetest.Client{phone, tablet, other, passenger} {
					realtimetest.ExpectNone(t, c, realtime.EventAssignmentDelivered, realtime.EventAssignmentUndelivered)
				}
				realtimetest.ExpectNone(t, other, realtime.EventAssignmentOffered)
				realtimetest.ExpectNone(t, passenger, realtime.EventAssignmentOffered)
			})
		})
	}
}

// An app that acks, on a client whose heartbeat proves nothing.
func TestOffers_DeliveredByAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		log := readOffers(t, srv)
		old := dialOldDriver(t, srv)
		srv.Publish(t, offerTo("d1", "o1", 20))
		packet := old.poll()
		require.Contains(t, packet, `"trip:assignment:offered"`)
		time.Sleep(time.Second)
		log.expect()
		_, id, _ := strings.Cut(packet, ":42/drivers,")
		id, _, _ = strings.Cut(id, "[")
		require.NotEmpty(t, id)
		old.send("43/drivers," + id + "[]")
		got := log.take()
		require.Len(t, got, 1)
		require.Regexp(t, "^delivered o1 d1 [^ ]+ ack 1s$", got[0])
	})
}

// Without a device, undelivered comes once, and the push fallback with it. A device that connects
// gets the offer behind hello.
func TestOffers_NoDevice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		missed := make(chan string, 10)
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) {
			o.Unreachable = func(ctx context.Context, user string, e realtime.MissedEvent) {
				_, deadline := ctx.Deadline()
				require.True(t, deadline)
				require.Contains(t, string(e.Payload), `"eventId":"`+e.EventID+`"`)
				missed <- fmt.Sprint(user, " ", e.Event, " ", e.Reason, " ", time.Until(e.ExpiresAt).Round(time.Second))
			}
		})
		log, admin := readOffers(t, srv), srv.Admin(t, "a1")
		srv.Publish(t, offerTo("d1", "o1", 20))
		time.Sleep(2900 * time.Millisecond)
		log.expect()
		time.Sleep(200 * time.Millisecond)
		log.expect("undelivered o1 d1 no_device")
		require.Equal(t, realtime.UndeliveredNoDevice, realtimetest.Expect(t, admin, realtime.EventAssignmentUndelivered).Reason)
		require.Equal(t, "d1 trip:assignment:offered no_device 17s", <-missed)
		time.Sleep(2 * time.Second)
		phone := srv.Driver(t, "d1")
		synctest.Wait()
		events := phone.Received()
		require.Equal(t, []string{"hello", "trip:assignment:offered"}, []string{events[0].Event, events[1].Event})
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 5.1s")
		other := srv.Driver(t, "d2")
		time.Sleep(15 * time.Second)
		require.Equal(t, "o1", gotOffer(t, phone))
		late := srv.Driver(t, "d1") // it has expired
		for _, c := range []*realtimetest.Client{phone, other, late} {
			realtimetest.ExpectNone(t, c, realtime.EventAssignmentOffered, realtime.EventAssignmentExpired)
		}
		log.expect()
		require.Empty(t, missed)
	})
}

// A device that does not read gets the offer again, once, and its driver counts as having one.
func TestOffers_SilentDevice(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers)
		log, phone := readOffers(t, srv), srv.Driver(t, "d1")
		phone.Stall()
		srv.Publish(t, offerTo("d1", "o1", 20))
		time.Sleep(4 * time.Second)
		log.expect("undelivered o1 d1 no_receipt")
		phone.Resume()
		require.Equal(t, "o1", gotOffer(t, phone))
		require.Equal(t, "o1", gotOffer(t, phone), "again after 2 s")
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 4s")
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)

		// One that comes back meanwhile gets it at once.
		phone.Stall()
		srv.Publish(t, offerTo("d1", "o2", 20))
		time.Sleep(time.Second)
		phone.Drop()
		phone = srv.Driver(t, "d1")
		require.Equal(t, []string{"o1", "o2"}, []string{gotOffer(t, phone), gotOffer(t, phone)}, "both run")
		log.expect("delivered o2 d1 " + phone.ID() + " heartbeat 1s")
	})
}

// What ends an offer: after it nobody gets the offer any more.
func TestOffers_End(t *testing.T) {
	ends := map[string]func(t *testing.T, srv *realtimetest.Server, d *realtimetest.Client){
		"accepted": func(t *testing.T, _ *realtimetest.Server, d *realtimetest.Client) {
			for range 3 { // repeats get the same answer
				out, err := realtimetest.Call(t.Context(), d, realtime.DriverOfferAccept, realtime.OfferAccept{AssignmentID: "o1"})
				require.NoError(t, err)
				require.Equal(t, realtime.OfferAccepted{AssignmentID: "o1", TripID: "t1"}, out)
			}
		},
		"rejected": func(t *testing.T, _ *realtimetest.Server, d *realtimetest.Client) {
			for range 3 {
				_, err := realtimetest.Call(t.Context(), d, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
				require.NoError(t, err)
			}
		},
	}
	for name, e := range map[string]realtime.DomainEvent{
		"accepted elsewhere": realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"rejected elsewhere": realtime.AssignmentRejected{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"expired":            realtime.AssignmentExpired{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"withdrawn":          realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"another accepted":   realtime.AssignmentAccepted{TripID: "t1", AssignmentID: "o2", DriverID: "d2"},
		"trip cancelled":     realtime.TripCancelled{TripID: "t1", CancelledBy: realtime.CancelledByPassenger},
	} {
		ends[name] = func(t *testing.T, srv *realtimetest.Server, _ *realtimetest.Client) { srv.Publish(t, e) }
	}
	for name, end := range ends {
		for _, nodes := range []int{1, 2} {
			t.Run(fmt.Sprint(name, " with nodes: ", nodes), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					srvs := realtimetest.NewCluster(t, nodes, withAnswers, func(o *realtime.Options) { o.ExpireOffers = true })
					here, there := srvs[0], srvs[nodes-1]
					log := readOffers(t, srvs...)
					phone, silent := here.Driver(t, "d1"), there.Driver(t, "d1")
					synctest.Wait()
					silent.Stall()
					there.Publish(t, offerTo("d1", "o1", 20))
					synctest.Wait()
					require.Len(t, log.take(), 1)
					end(t, here, phone)
					synctest.Wait()
					late, lateThere := here.Driver(t, "d1"), there.Driver(t, "d1")
					time.Sleep(5 * time.Second)
					silent.Resume()
					require.Equal(t, "o1", gotOffer(t, silent), "it was sent before")
					for _, c := range []*realtimetest.Client{silent, late, lateThere} {
						realtimetest.ExpectNone(t, c, realtime.EventAssignmentOffered)
					}
					time.Sleep(30 * time.Second)
					if name != "expired" {
						log.expect()
					}
				})
			})
		}
	}
}

// Somebody else's answer neither ends an offer nor proves that it has arrived.
func TestOffers_AnswerOfSomebodyElse(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Offers = obliging{} })
		log, thief := readOffers(t, srv), srv.Driver(t, "d2")
		srv.Publish(t, offerTo("d1", "o1", 20))
		_, err := realtimetest.Call(t.Context(), thief, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
		require.NoError(t, err)
		time.Sleep(4 * time.Second)
		log.expect("undelivered o1 d1 no_device")
		require.Equal(t, "o1", gotOffer(t, srv.Driver(t, "d1")))
	})
}

// obliging is an OfferService that checks nothing.
type obliging struct{}

func (obliging) AcceptOffer(context.Context, string, string) (string, error) { return "t1", nil }
func (obliging) RejectOffer(context.Context, string, string, string) error   { return nil }

// An answer proves that the device has the offer, and which one.
func TestOffers_AnswerIsAReceipt(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.Compat.AllowEIO3 = true })
		log := readOffers(t, srv)
		old := dialOldDriver(t, srv)
		srv.Publish(t, offerTo("d1", "o1", 20))
		require.Contains(t, old.poll(), `"trip:assignment:offered"`)
		log.expect()
		old.send(`42/drivers,7["driver:offer:accept",{"assignmentId":"o1"}]`)
		require.Contains(t, old.poll(), `"tripId":"t1"`)
		got := log.take()
		require.Len(t, got, 1)
		require.Regexp(t, "^delivered o1 d1 [^ ]+ ack 0s$", got[0])
	})
}

// The expiry is published only where the host asks for it.
func TestOffers_Expire(t *testing.T) {
	for _, asked := range []bool{false, true} {
		t.Run(fmt.Sprint(asked), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.ExpireOffers = asked })
				log, phone, admin := readOffers(t, srv), srv.Driver(t, "d1"), srv.Admin(t, "a1")
				srv.Publish(t, offerTo("d1", "o1", 20))
				require.Len(t, log.take(), 1)
				time.Sleep(21 * time.Second)
				if !asked {
					log.expect()
					realtimetest.ExpectNone(t, phone, realtime.EventAssignmentExpired)
					return
				}
				log.expect("expired o1 d1")
				require.Equal(t, "v1", *realtimetest.Expect(t, phone, realtime.EventAssignmentExpired).VehicleID)
				realtimetest.Expect(t, admin, realtime.EventAssignmentExpired)
				time.Sleep(time.Minute)
				log.expect()
			})
		})
	}
}

// An offer that has expired when it is published is sent, and not tracked.
func TestOffers_ExpiredAlready(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.ExpireOffers = true })
		log, phone := readOffers(t, srv), srv.Driver(t, "d1")
		old := offerTo("d1", "o1", 20)
		old.At = old.At.Add(-time.Minute)
		srv.Publish(t, old)
		require.Equal(t, "o1", gotOffer(t, phone))
		time.Sleep(time.Minute)
		log.expect()
	})
}

// The log says so: the clocks may differ.
func TestOffers_ExpiredAlreadyIsLogged(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var log logBuffer
		srv := realtimetest.NewServer(t, withAnswers, logTo(&log))
		old := offerTo("d1", "o1", 20)
		old.At = old.At.Add(-21 * time.Second)
		old.Pickup = &realtime.Place{Lat: 23.1136, Lng: -82.3666}
		srv.Publish(t, old)
		synctest.Wait()
		require.Contains(t, log.String(), `level=WARN msg="realtime: offer not tracked: it has expired already" trip=t1 assignment=o1 expired=`)
		require.NotContains(t, log.String(), "23.1")
	})
}

// A device that has received offers may get as many events with acks as any other.
func TestOffers_ReceivedOnesHoldNoAcks(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.Limits.PendingAcks = 10 })
		var socket *realtime.Socket
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { socket = s; return nil })
		srv.Driver(t, "d1")
		for n := range 10 {
			srv.Publish(t, offerTo("d1", fmt.Sprint("o", n), 60))
		}
		synctest.Wait()
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		_, err := realtime.NewQuery[string, string]("are:you:there").Ask(ctx, socket, "x")
		require.ErrorIs(t, err, context.DeadlineExceeded)
	})
}

// The server keeps no socket of a device that has received an offer and has gone.
func TestOffers_ReceivedOnesHoldNoClosedSockets(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers)
		var socket *realtime.Socket
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { socket = s; return nil })
		phone := srv.Driver(t, "d1")
		srv.Publish(t, offerTo("d1", "o1", 3600))
		require.Equal(t, "o1", gotOffer(t, phone))
		held := realtime.WeakSocket(socket)
		socket = nil
		phone.Close()
		time.Sleep(time.Minute)
		runtime.GC()
		require.Nil(t, held.Value())
	})
}

// The pong for an offer is no receipt of a later one with that assignment.
func TestOffers_PongForAnEarlierOffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers)
		log, c := readOffers(t, srv), openRaw(t, srv)
		c.send(t, connectPacket("/drivers", srv.Login("d1", realtime.UserDriver)))
		c.silent.Store(true)
		for range 2 {
			srv.Publish(t, offerTo("d1", "o1", 60))
			log.expect()
		}
		c.send(t, "3")
		log.expect()
		c.send(t, "3")
		require.Len(t, log.take(), 1)
	})
}

// The bus brings the report of an offer when the host has offered the assignment to another driver. That one's is made too.
func TestOffers_ReportOfAnEarlierOffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		unreachable := make(chan string, 10)
		var srv *realtimetest.Server
		srv = realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) {
			o.Bus = slowReports{o.Bus, time.Second}
			o.Unreachable = func(_ context.Context, user string, _ realtime.MissedEvent) {
				unreachable <- user
				if user == "d1" {
					srv.Publish(t, offerTo("d2", "o1", 60))
				}
			}
		})
		srv.Publish(t, offerTo("d1", "o1", 60))
		time.Sleep(20 * time.Second)
		require.Len(t, unreachable, 2)
		require.Equal(t, []string{"d1", "d2"}, []string{<-unreachable, <-unreachable})
	})
}

// The late report of a receipt is none of a later offer's either.
func TestOffers_ReceiptOfAnEarlierOffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.Bus = lateReceipts{o.Bus} })
		log, phone := readOffers(t, srv), srv.Driver(t, "d1")
		srv.Publish(t, offerTo("d1", "o1", 60))
		require.Equal(t, "o1", gotOffer(t, phone))
		synctest.Wait()
		srv.Publish(t, offerTo("d2", "o1", 60))
		time.Sleep(10 * time.Second)
		log.ids = map[string]string{} // two offers
		require.ElementsMatch(t, []string{"delivered o1 d1 " + phone.ID() + " heartbeat 0s", "undelivered o1 d2 no_device"}, log.take())
	})
}

// lateReceipts is a bus that is slow with receipts.
type lateReceipts struct{ realtime.EventBus }

func (b lateReceipts) Publish(ctx context.Context, e realtime.Envelope) error {
	if strings.HasSuffix(e.Name, ".delivered") {
		time.Sleep(time.Second)
	}
	return b.EventBus.Publish(ctx, e)
}

// What a driver has done with an offer does not end a later one to another driver.
func TestOffers_EndOfAnEarlierOffer(t *testing.T) {
	for name, end := range map[string]realtime.DomainEvent{
		"rejected":  realtime.AssignmentRejected{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"expired":   realtime.AssignmentExpired{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
		"withdrawn": realtime.AssignmentCancelled{TripID: "t1", AssignmentID: "o1", DriverID: "d1"},
	} {
		for _, nodes := range []int{1, 2} {
			t.Run(fmt.Sprint(name, " with nodes: ", nodes), func(t *testing.T) {
				inBubble(t, func(t *testing.T) {
					srvs := realtimetest.NewCluster(t, nodes, withAnswers)
					here, there := srvs[0], srvs[nodes-1]
					here.Publish(t, offerTo("d1", "o1", 60))
					synctest.Wait()
					here.Publish(t, offerTo("d2", "o1", 60))
					synctest.Wait()
					there.Publish(t, end)
					synctest.Wait()
					for _, srv := range srvs {
						require.Equal(t, "o1", gotOffer(t, srv.Driver(t, "d2")))
					}
				})
			})
		}
	}
}

// The host offers the assignment to the same driver again before it has taken the answer to the earlier offer.
func TestOffers_AnswerToAnEarlierOffer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var srv *realtimetest.Server
		srv = realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Offers = rejecting(func() { srv.Publish(t, offerTo("d1", "o1", 60)); time.Sleep(time.Second) })
		})
		phone := srv.Driver(t, "d1")
		srv.Publish(t, offerTo("d1", "o1", 60))
		require.Equal(t, "o1", gotOffer(t, phone))
		_, err := realtimetest.Call(t.Context(), phone, realtime.DriverOfferReject, realtime.OfferReject{AssignmentID: "o1"})
		require.NoError(t, err)
		require.Equal(t, "o1", gotOffer(t, phone))
		require.Equal(t, "o1", gotOffer(t, srv.Driver(t, "d1")), "the later one runs")
	})
}

// rejecting is an OfferService that calls a function when an offer is rejected.
type rejecting func()

func (rejecting) AcceptOffer(context.Context, string, string) (string, error) { return "t1", nil }

func (f rejecting) RejectOffer(context.Context, string, string, string) error {
	f()
	return nil
}

// A repeat of the bus sends nothing; a new offer with the same assignment does.
func TestOffers_Again(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { o.Limits.RememberedEvents = -1 })
		phone := srv.Driver(t, "d1")
		env, err := realtime.NewEnvelope(offerTo("d1", "o1", 20))
		require.NoError(t, err)
		for range 3 {
			require.NoError(t, srv.Bus.Publish(t.Context(), env))
		}
		require.Equal(t, "o1", gotOffer(t, phone))
		realtimetest.ExpectNone(t, phone, realtime.EventAssignmentOffered)
		srv.Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
	})
}

// An old event of the trip that the bus delivers again does not end a later offer.
func TestOffers_OutdatedEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers)
		old := realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d9", At: time.Now()}
		srv.Publish(t, old)
		time.Sleep(time.Second)
		srv.Publish(t, realtime.NoDriversFound{TripID: "t1", PassengerID: "p1", At: time.Now()})
		time.Sleep(time.Second)
		srv.Publish(t, offerTo("d1", "o1", 20))
		synctest.Wait()
		srv.Publish(t, old)
		require.Equal(t, "o1", gotOffer(t, srv.Driver(t, "d1")))
	})
}

// A bus that fails for a moment gets the report all the same.
func TestOffers_BusFails(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		failing := &failingOnce{}
		srv := realtimetest.NewServer(t, withAnswers, func(o *realtime.Options) { failing.EventBus, o.Bus = o.Bus, failing })
		log, phone := readOffers(t, srv), srv.Driver(t, "d1")
		srv.Publish(t, offerTo("d1", "o1", 20))
		time.Sleep(time.Second)
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
	})
}

// failingOnce does not accept the first report of an offer.
type failingOnce struct {
	realtime.EventBus
	once sync.Once
}

func (b *failingOnce) Publish(ctx context.Context, e realtime.Envelope) (err error) {
	if e.Name == "trip.assignment.delivered" {
		b.once.Do(func() { err = realtime.ErrUnavailable })
	}
	if err != nil {
		return err
	}
	return b.EventBus.Publish(ctx, e)
}

// dialOldDriver connects the driver d1 with a client of EIO3.
func dialOldDriver(t *testing.T, srv *realtimetest.Server) *oldClient {
	t.Helper()
	c := dialOld(t, srv, "", http.Header{"Authorization": {"Bearer " + srv.Login("d1", realtime.UserDriver)}})
	c.send("40/drivers,")
	require.Contains(t, c.poll(), `"hello"`)
	return c
}
