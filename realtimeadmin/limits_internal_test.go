// What the view keeps in memory is bounded.

package realtimeadmin

import (
	"encoding/binary"
	"fmt"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestRing_Bounded(t *testing.T) {
	t.Parallel()
	r := ring{most: 100_000}
	for i := range 100_000 {
		e := entry{Event: fmt.Sprint(i), key: "k"}
		if i%7 == 0 {
			e.To = make([]audience, i%50)
		}
		r.add(e)
		if r.bytes > r.most || cap(r.list) > 1500 {
			t.Fatalf("after %d entries: %d bytes, room for %d", i, r.bytes, cap(r.list))
		}
	}
	size := 0
	for i := r.first; i < len(r.list); i++ {
		size += r.list[i].size()
	}
	require.Equal(t, size, r.bytes)
	found, more := r.newest(3, func(*entry) bool { return true })
	require.True(t, more)
	require.Equal(t, []string{"99997", "99998", "99999"}, []string{found[0].Event, found[1].Event, found[2].Event})
	found, more = r.newest(3, func(e *entry) bool { return e.Event == "99999" })
	require.False(t, more)
	require.Len(t, found, 1)

	r.add(entry{Event: strings.Repeat("x", 200_000)}) // alone it is too much
	require.Zero(t, r.bytes)
	found, _ = r.newest(3, func(*entry) bool { return true })
	require.Empty(t, found)
}

// Wrong tokens from more addresses than are remembered share one limit, and an address has room again
// later.
func TestGuesses_Bounded(t *testing.T) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		g := guesses{start: time.Now()}
		addr := func(i int) netip.Addr {
			var a [16]byte
			binary.BigEndian.PutUint64(a[:], 0x2001_0db8_0000_0000+uint64(i))
			return netip.AddrFrom16(a)
		}
		for i := range maxAddresses {
			g.wrong(addr(i))
		}
		require.Len(t, g.by, maxAddresses)
		for i := range 5 {
			require.Zero(t, g.wait(addr(maxAddresses+i)))
			g.wrong(addr(maxAddresses + i))
		}
		require.Len(t, g.by, maxAddresses)
		require.Positive(t, g.wait(addr(maxAddresses+100)), "they share one")
		require.Zero(t, g.wait(addr(1)), "this one has its own")
		time.Sleep(time.Minute)
		require.Zero(t, g.wait(addr(maxAddresses)))
		g.wrong(addr(maxAddresses))
		require.Len(t, g.by, 1)
		for range 5 {
			g.wrong(netip.Addr{})
		}
		require.Positive(t, g.wait(netip.Addr{}), "a request without an address")
	})
}

func TestRecords_RefusalsAreBounded(t *testing.T) {
	t.Parallel()
	r := newRecords(Options{Memory: 1 << 20})
	for i := range 2 * maxRefusals {
		r.refuse(refusal{refusedLimit, fmt.Sprint(i), ""})
	}
	require.Len(t, r.refused, maxRefusals)
	_, refusals, _ := r.summary()
	require.Len(t, refusals, shownRefusals)
}

func TestRecords_ShownAudience(t *testing.T) {
	t.Parallel()
	cell := realtime.NewRoom("cell", "23.1,-82.3 driver:+535 ")
	for text, shown := range map[string]string{
		"nobody":                               "nobody …",
		realtime.ToDriver("d1").String():       "/drivers driver:d1",
		realtime.ToAdmins().String():           "/admin admin:all",
		realtime.ToUser("u1").String():         "every namespace user:u1",
		realtime.ToSession("s1").String():      "every namespace session:s1",
		realtime.ToAll("/drivers").String():    "/drivers everybody",
		realtime.ToDriver("a secret").String(): "/drivers driver:a …",
		realtime.ToRoom("/drivers", cell, realtime.DriverRoom("d1")).String():             "/drivers …",
		realtime.ToRoom("/drivers", realtime.DriverRoom("d1"), cell).String():             "/drivers driver:d1 …",
		realtime.ToRoom("/admin", realtime.AdminAllRoom, realtime.TripRoom("t")).String(): "/admin admin:all trip:t",
	} {
		require.Equal(t, shown, newRecords(Options{}).shownAudience(text))
		require.Equal(t, text, newRecords(Options{HostRooms: true}).shownAudience(text))
	}
	require.Equal(t, "é", clip("éé", 3))
}
