// Dart's client, which passes a list to the handler of an event with more than its payload.

package realtime_test

import (
	"slices"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// dart makes a client look like Dart's.
var dart = realtimetest.Header("User-Agent", "Dart/3.5 (dart:io)")

// The client sends a pid when it comes back, as others that know offsets do. Its events have no offset all the same.
func TestRecovery_DartComesBack(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Driver(t, "d1", dart)
		for range 2 {
			cut(t, s, former)
			notes(t, s, realtime.DriverRoom("d1"), 1)
			c, _ := back(t, s, former, "d1", dart)
			notes(t, s, realtime.DriverRoom("d1"), 2)
			require.Eventually(t, func() bool { return slices.Contains(receivedNotes(t, c), 2) }, realtimetest.Timeout, time.Millisecond)
			for _, r := range c.Received() {
				require.Len(t, r.Args, 1, r.Event)
			}
			former = c
		}
	})
}

// An offer asks the client for no ack.
func TestOffers_DartIsNotAskedForAnAck(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, withAnswers)
		log := readOffers(t, srv)
		acks := func(opts ...realtimetest.Option) (*realtimetest.Client, *atomic.Bool) {
			c, asked := srv.Driver(t, "d1", opts...), &atomic.Bool{}
			c.AnswerRaw(realtime.EventAssignmentOffered.Name(), func(realtime.Raw) realtime.Raw { asked.Store(true); return realtime.Raw{} })
			return c, asked
		}
		phone, asked := acks(dart)
		srv.Publish(t, offerTo("d1", "o1", 20))
		require.Equal(t, "o1", gotOffer(t, phone))
		log.expect("delivered o1 d1 " + phone.ID() + " heartbeat 0s")
		other, otherAsked := acks()
		require.Equal(t, "o1", gotOffer(t, other))
		phone.Stall()
		srv.Publish(t, offerTo("d1", "o2", 20))
		time.Sleep(2500 * time.Millisecond) // it is sent again
		phone.Resume()
		for range 2 {
			require.Equal(t, "o2", gotOffer(t, phone))
		}
		synctest.Wait()
		require.False(t, asked.Load())
		require.True(t, otherAsked.Load())
	})
}
