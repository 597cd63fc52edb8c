// What clients claim, and what is counted.

package comeback_test

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/cmd/internal/comeback"
	"github.com/rodando/realtime/internal/cmd/internal/stresskit"
	"github.com/rodando/realtime/realtimetest"
)

func TestClaim_Recovers(t *testing.T) {
	t.Parallel()
	s := realtimetest.NewServer(t, func(o *realtime.Options) { o.Recovery.Enabled = true })
	c := s.Driver(t, "d1", realtimetest.Polling(), comeback.KnowsOffsets())
	c.Stall()
	k, ok := comeback.Of(c)
	require.True(t, ok)
	_, before, ok := comeback.Greeting(k.Received)
	require.True(t, ok)
	require.Zero(t, before)
	require.Len(t, k.Received[0].Args, 2)
	c.Drop()
	s.Publish(t, realtime.AdminTripMessage{TripID: "t1", AdminID: "a1", To: realtime.MessageToDriver, DriverID: "d1", Message: "hello"})
	again, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(k.Auth(s.Login("d1", realtime.UserDriver))))
	require.NoError(t, err)
	realtimetest.Expect(t, again, realtime.EventHello)
	hello, before, ok := comeback.Greeting(again.Received())
	require.True(t, ok)
	require.Equal(t, 1, before)
	require.True(t, comeback.Recovered(hello))

	var counts stresskit.Counts
	comeback.Count(&counts, comeback.SameNode, hello)
	comeback.Count(&counts, comeback.SameNode, realtime.HelloPayload{})
	var out strings.Builder
	comeback.Print(&out, &counts)
	require.Equal(t, "recovery to the same node: 1 of 2, 50 %\n", out.String())
}

func TestOf_WithoutRecovery(t *testing.T) {
	t.Parallel()
	c := realtimetest.NewServer(t).Driver(t, "d1")
	_, ok := comeback.Of(c)
	require.False(t, ok)
}

func TestPayload(t *testing.T) {
	t.Parallel()
	args := func(texts ...string) (all []json.RawMessage) {
		for _, a := range texts {
			all = append(all, json.RawMessage(a))
		}
		return all
	}
	for name, c := range map[string]struct {
		args     []json.RawMessage
		recovery bool
		ok       bool
	}{
		"one":                           {args(`{}`), false, true},
		"one, with recovery":            {args(`{}`), true, true},
		"none":                          {nil, true, false},
		"an offset":                     {args(`{}`, `"x"`), true, true},
		"an offset, without recovery":   {args(`{}`, `"x"`), false, false},
		"what is no offset":             {args(`{}`, `1`), true, false},
		"something besides the offset":  {args(`{}`, `1`, `"x"`), true, false},
		"an empty one that can't exist": {args(`{}`, ``), true, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			_, ok := comeback.Payload(c.args, c.recovery)
			require.Equal(t, c.ok, ok)
		})
	}
}
