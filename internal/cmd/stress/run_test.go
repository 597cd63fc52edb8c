// Whole runs, short ones: a sound one, and some with a bus that goes wrong.

package main

import (
	"bytes"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// These tests are not parallel: a run counts the goroutines of the process.

func TestRun(t *testing.T) {
	for name, seed := range map[string]uint64{"each event to one node": 1, "each event to all": 2} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.Zero(t, run(config{seed: seed, length: 4 * time.Second, clients: 40, out: &out, recovery: true}), "%s", &out)
			for _, want := range []string{"breaches 0", "connects", "trip events", "deliveries checked", "goroutines"} {
				require.Contains(t, out.String(), want)
			}
		})
	}
}

// Faults do not affect honest clients.
func TestRun_WithTrouble(t *testing.T) {
	for name, seed := range map[string]uint64{"each event to one node": 1, "each event to all": 2} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.Zero(t, run(config{
				seed: seed, length: time.Minute, least: 4 * time.Second, seen: "scenes: ended trips", clients: 40, out: &out, recovery: true,
				troubles: troubles{redeliver: true, reorder: true, hang: true}, crowd: 100, addresses: 20,
			}), "%s", &out)
			for _, want := range []string{"breaches 0", "scenes: ended trips"} {
				require.Contains(t, out.String(), want)
			}
		})
	}
}

// meddler changes, drops or repeats an event of the bus.
type meddler func(e realtime.Envelope) []realtime.Envelope

func TestRun_FindsFaults(t *testing.T) {
	for name, c := range map[string]struct {
		meddle meddler
		want   string
	}{
		"events are lost": {func(e realtime.Envelope) []realtime.Envelope {
			if e.Name == "trip.started" {
				return nil
			}
			return []realtime.Envelope{e}
		}, "was lost"},
		"events come twice": {func(e realtime.Envelope) []realtime.Envelope {
			again := e
			again.ID += "-again" // the server knows the id of a repeat
			return []realtime.Envelope{e, again}
		}, "which nobody published"},
		"events change places": {late("trip.arriving.started"), "after a later event"},
		"events go to strangers": {func(e realtime.Envelope) []realtime.Envelope {
			if e.Name == "trip.requested" {
				e.Data = bytes.Replace(e.Data, []byte(`"passengerId":"p`), []byte(`"passengerId":"p1`), 1)
			}
			return []realtime.Envelope{e}
		}, "not for this client"},
		"revocations are lost": {func(e realtime.Envelope) []realtime.Envelope {
			if e.Name == "auth.session.revoked" {
				return nil
			}
			return []realtime.Envelope{e}
		}, "that was handled, but it is still in its rooms"},
	} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			n := run(config{seed: 1, length: 2 * time.Minute, enough: []string{c.want}, clients: 40, out: &out, meddle: c.meddle})
			require.NotZero(t, n, "%s", &out)
			require.Contains(t, out.String(), c.want)
		})
	}
}

// late delivers events of one name after the next event of their trip.
func late(name string) meddler {
	var mu sync.Mutex
	held := map[string]realtime.Envelope{}
	return func(e realtime.Envelope) []realtime.Envelope {
		mu.Lock()
		defer mu.Unlock()
		if e.Name == name {
			held[e.Key] = e
			return nil
		}
		es := []realtime.Envelope{e}
		if h, ok := held[e.Key]; ok {
			es = append(es, h)
			delete(held, e.Key)
		}
		return es
	}
}
