// Offers in whole runs.

package main

import (
	"bytes"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

// These tests are not parallel: a run counts the goroutines of the process.

func TestRun_Offers(t *testing.T) {
	for name, seed := range map[string]uint64{"each event to one node": 1, "each event to all": 2} {
		t.Run(name, func(t *testing.T) {
			var out bytes.Buffer
			require.Zero(t, run(config{
				seed: seed, length: time.Minute, seen: "offers: expired", least: 9 * time.Second, clients: 4, out: &out, recovery: true, offers: 12,
			}), "%s", &out)
			for _, want := range []string{"breaches 0", "offers: delivered, by", "offers to a connected device"} {
				require.Contains(t, out.String(), want)
			}
		})
	}
}

// A bus that loses offers, and one that gives them a new id on their way, are found.
func TestRun_FindsFaultsOfOffers(t *testing.T) {
	var out bytes.Buffer
	wanted := []string{"did not receive it", "but it was not reported as undelivered", "came with the event id"}
	n := run(config{
		seed: 1, length: 2 * time.Minute, enough: wanted, clients: 4, out: &out, offers: 20,
		meddle: func(e realtime.Envelope) []realtime.Envelope {
			switch of := strings.HasPrefix(e.Key, offeredTrip) && e.Name == "trip.assignment.offered"; {
			case of && strings.ContainsAny(e.Key[len(e.Key)-1:], "02468"):
				return nil
			case of:
				e.ID += "-changed"
			}
			return []realtime.Envelope{e}
		},
	})
	require.NotZero(t, n)
	for _, want := range wanted {
		require.Contains(t, out.String(), want)
	}
}
