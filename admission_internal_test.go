// What admission remembers, and of whom.

package realtime

import (
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func newAdmission(o Options) *admission {
	rt := &Server{opts: o.defaults(), log: slog.New(slog.DiscardHandler)}
	rt.admission.init(rt)
	return &rt.admission
}

func from(address string) *http.Request {
	return &http.Request{RemoteAddr: address, Header: http.Header{}}
}

// Addresses without a connection are forgotten, and there are never too many.
func TestSourcesAreForgotten(t *testing.T) {
	t.Parallel()
	a := newAdmission(Options{Rates: Rates{Handshake: Rate{PerSecond: 1e9, Burst: 1}}})
	stay, busy := a.enter(from("203.0.113.1:1"))
	require.Nil(t, busy)
	for i := range 10_000 {
		v, busy := a.enter(from(fmt.Sprintf("[2001:db8:%x::1]:1", i)))
		require.Nil(t, busy)
		a.leave(v)
	}
	require.LessOrEqual(t, len(a.sources), 1025)
	require.Same(t, stay.from, a.sources[netip.MustParseAddr("203.0.113.1")])
	a.leave(stay)
	require.Zero(t, a.all)
	require.Zero(t, a.unauthenticated)
}

// Beyond maxSources addresses share what one has.
func TestTooManySources(t *testing.T) {
	t.Parallel()
	a := newAdmission(Options{Limits: Limits{Connections: -1, Unauthenticated: -1}})
	var all []*visitor
	for i := range maxSources + 100 {
		v, busy := a.enter(from(fmt.Sprintf("[2001:db8:%x:%x::1]:1", i>>16, i&0xffff)))
		require.Nil(t, busy)
		all = append(all, v)
	}
	require.Len(t, a.sources, maxSources)
	require.Equal(t, 100, a.crowd.connections)
	_, busy := a.enter(from("203.0.113.1:1"))
	require.NotNil(t, busy, "the crowd has as many that are not logged in as one address may have")
	for _, v := range all {
		a.leave(v)
	}
	require.Zero(t, a.crowd.connections)
}

// A private address that is no trusted proxy counts for nobody, and is told of
// when it forwards.
func TestPrivatePeers(t *testing.T) {
	t.Parallel()
	a := newAdmission(Options{Limits: Limits{ConnectionsPerIP: 1}})
	var log strings.Builder
	a.rt.log = slog.New(slog.NewTextHandler(&log, nil))
	for _, peer := range []string{"127.0.0.1:1", "10.0.0.1:1", "192.168.1.1:1", "[::1]:1", "[fd00::1]:1", "[fe80::1%eth0]:1", "@", "", "pipe"} {
		for range 3 {
			_, busy := a.enter(from(peer))
			require.Nil(t, busy, peer)
		}
	}
	require.Empty(t, a.sources)
	require.Empty(t, log.String())
	for range 2 {
		r := from("10.0.0.1:1")
		r.Header.Set("X-Forwarded-For", "203.0.113.7")
		_, busy := a.enter(r)
		require.Nil(t, busy)
	}
	require.Equal(t, 1, strings.Count(log.String(), "TrustedProxies"))
	require.NotContains(t, log.String(), "203.0.113.7")
}

func BenchmarkEnter(b *testing.B) {
	a := newAdmission(Options{Limits: Limits{Connections: -1}, Rates: Rates{Handshake: Rate{PerSecond: -1}}})
	r := from("203.0.113.1:1")
	b.ReportAllocs()
	for b.Loop() {
		v, _ := a.enter(r)
		a.authenticated(v)
		a.leave(v)
	}
}
