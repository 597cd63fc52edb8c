// The address of a client, behind proxies and in private networks.

package admission

import (
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
)

// A private address that is not a trusted proxy stands for any number of clients, and
// no limit per address applies to it.
func TestAddress_PrivateNetworksAreUnlimited(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.ConnectionsPerIP = 1
	warned := 0
	c.UnnamedProxy = func(netip.Addr) { warned++ }
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24"), netip.MustParsePrefix("10.9.0.0/16")}
	a := New(c)
	peers := []string{
		"127.0.0.1:1", "10.0.0.1:1", "192.168.1.1:1", "172.16.0.1:1", "169.254.1.1:1", "100.64.0.1:1", "100.127.255.254:1", "0.0.0.0:1", "0.1.2.3:1",
		"[::1]:1", "[::]:1", "[fd00::1]:1", "[fc00::1]:1", "[fe80::1%eth0]:1", "[::ffff:10.0.0.1]:1", "[::ffff:100.64.0.1]:1", "[64:ff9b::10.0.0.1]:1", "@", "", "pipe",
	}
	for _, peer := range peers {
		for range 3 {
			require.Zero(t, statusOf(a.Admit(new(Conn), from(peer))), peer)
			r := from("192.0.2.1:1") // the same address, forwarded by a trusted proxy
			r.Header.Set("X-Forwarded-For", strings.TrimSuffix(peer, ":1"))
			if peer != "" && peer != "@" && peer != "pipe" {
				require.Zero(t, statusOf(a.Admit(new(Conn), r)), peer)
			}
		}
	}
	require.Empty(t, a.addresses)
	require.Equal(t, 1, warned, "about the untrusted proxy in front of the trusted one")
	for _, peer := range []string{
		"100.63.255.255:1", "100.128.0.1:1", "203.0.113.1:1", "1.0.0.1:1", "[2001:db8::1]:1", "[64:ff9b::203.0.113.2]:1", "[64:ff9b::203.0.113.3]:1", "[::ffff:203.0.113.4]:1", "10.9.0.1:1",
	} {
		require.Zero(t, statusOf(a.Admit(new(Conn), from(peer))), peer)
		require.Equal(t, http.StatusTooManyRequests, statusOf(a.Admit(new(Conn), from(peer))), peer)
	}
}

func TestAddress_WarnsOnceOfAnUntrustedProxy(t *testing.T) {
	t.Parallel()
	c := defaults()
	var warned []netip.Addr
	c.UnnamedProxy = func(proxy netip.Addr) { warned = append(warned, proxy) }
	a := New(c)
	require.Zero(t, statusOf(a.Admit(new(Conn), from("100.64.0.1:1"))))
	require.Empty(t, warned, "the request was not forwarded")
	for range 3 {
		r := from("100.64.0.1:1")
		r.Header.Set("X-Forwarded-For", "203.0.113.7")
		require.Zero(t, statusOf(a.Admit(new(Conn), r)))
	}
	require.Equal(t, []netip.Addr{netip.MustParseAddr("100.64.0.1")}, warned)
	require.Empty(t, a.addresses)
}

func TestNetwork(t *testing.T) {
	t.Parallel()
	of := func(s string) Network {
		addr, ok := parse(s)
		require.True(t, ok, s)
		return network(addr)
	}
	for _, c := range []struct {
		a, b                  string
		sameNetwork, sameSite bool
	}{
		{"203.0.113.1", "203.0.113.1", true, true},
		{"203.0.113.1", "203.0.113.254", false, true},
		{"203.0.113.1", "203.0.112.1", false, false},
		{"203.0.113.1", "::ffff:203.0.113.1", true, true},
		{"2001:db8:1:2::1", "2001:db8:1:2:ffff::1", true, true},
		{"2001:db8:1:2::1", "2001:db8:1:3::1", false, true},
		{"2001:db8:1:2::1", "2001:db8:1:ff02::1", false, true},
		{"2001:db8:1::1", "2001:db8:2::1", false, false},
		{"64:ff9b::203.0.113.1", "203.0.113.1", true, true},
		{"64:ff9b::203.0.113.1", "64:ff9b::203.0.112.1", false, false},
	} {
		require.Equal(t, c.sameNetwork, of(c.a) == of(c.b), c)
		require.Equal(t, c.sameSite, of(c.a).Site() == of(c.b).Site(), c)
	}
}

// counted returns the network of a known address, and 0 otherwise.
func counted(addr netip.Addr, known bool) Network {
	if !known {
		return 0
	}
	return network(addr)
}

// FuzzForwarded checks Address with arbitrary peers and X-Forwarded-For headers, one
// per line. What a client may have written itself, left of the first hop that is not
// trusted, is never used.
func FuzzForwarded(f *testing.F) {
	trusted := []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("2001:db8:1::/48"), netip.MustParsePrefix("127.0.0.1/32")}
	for _, peer := range []string{
		"10.0.0.1:1", "127.0.0.1:65535", "203.0.113.1:1", "192.168.0.1:1", "[2001:db8:1::1]:1", "[2001:db8:2::1]:1", "[::ffff:10.0.0.1]:1", "[fe80::1%eth0]:1",
		"", "@", "unix", "10.0.0.1", ":1", "[::1]",
	} {
		for _, header := range []string{
			"", "203.0.113.9", "203.0.113.9, 10.0.0.2", "198.51.100.1, 203.0.113.9, 10.0.0.2", "198.51.100.1\n203.0.113.9\n10.0.0.2", "10.0.0.3,10.0.0.2", "10.0.0.3",
			"unknown, 10.0.0.2", ",", ",10.0.0.2", "198.51.100.1\n,10.0.0.2", ",,10.0.0.2", "203.0.113.9:80", "[2001:db8:9::1]:80, 10.0.0.1", "::ffff:203.0.113.9", "::ffff:10.0.0.1", "2001:db8:9::1%eth0", "999.1.1.1",
			"010.0.0.1", "1.2.3.4 10.0.0.2", " 203.0.113.9 \t", "203.0.113.9\n", "\n203.0.113.9", strings.Repeat("10.0.0.1,", 5_000), strings.Repeat(",", 5_000), strings.Repeat("1", 5_000),
			"10.0.0.1\x00", "\xff", "for=203.0.113.9", "0x0a.0.0.1", "2001:db8:1::2", "]203.0.113.9[",
		} {
			f.Add(peer, header)
		}
	}
	c := defaults()
	c.TrustedProxies, c.ConnectionsPerIP, c.Handshake.PerSecond, c.UnauthenticatedRate.PerSecond = trusted, 1, -1, -1
	a := New(c)
	f.Fuzz(func(t *testing.T, peer, header string) {
		ask := func(lines ...string) (Network, bool) {
			addr, known, _ := Address(&http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": lines}}, trusted)
			return counted(addr, known), known
		}
		lines := strings.Split(header, "\n")
		got, gotKnown := ask(lines...)
		addr, known, _ := Address(from(peer), trusted)
		direct := counted(addr, known)
		first, isAddress := parse(peer)
		if !isAddress || !contains(trusted, first) {
			require.Equal(t, direct, got, "the header of an untrusted peer must not count")
			require.Equal(t, known, gotKnown)
			return
		}

		// A second implementation: from the right, the first hop that is not a trusted proxy.
		var hops []string
		for _, line := range lines {
			if line != "" {
				hops = append(hops, strings.Split(line, ",")...)
			}
		}
		want, end := first, false
		for _, hop := range slices.Backward(hops) {
			addr, ok := parse(strings.TrimSpace(hop))
			if ok {
				want = addr
			}
			if end = !ok || !contains(trusted, addr); end {
				break
			}
		}
		require.Equal(t, contains(trusted, want) || !private(want), gotKnown)
		if gotKnown {
			require.Equal(t, network(want), got)
		}
		for _, forged := range []string{"198.51.100.77", "10.9.9.9", "nonsense", ","} {
			inFront, _ := ask(append([]string{forged}, lines...)...)
			joined, _ := ask(append([]string{forged + "," + lines[0]}, lines[1:]...)...)
			if end {
				require.Equal(t, got, inFront, "forged: %s", forged)
				require.Equal(t, got, joined, "forged: %s", forged)
			}
		}

		r := &http.Request{RemoteAddr: peer, Header: http.Header{"X-Forwarded-For": lines}}
		var one, another Conn
		require.Zero(t, statusOf(a.Admit(&one, r)))
		if status, _ := a.Admit(&another, r); status == 0 {
			require.False(t, gotKnown, "the limit per address is one")
			a.Release(&another)
		}
		a.Release(&one)
		require.Zero(t, a.connections)
		require.Zero(t, a.unauthenticated.n)
	})
}

// What a connection keeps of its address is all of it, counted or not.
func TestConn_Addr(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")}
	a := New(c)
	for _, test := range []struct {
		peer, forwarded, want string
		counted               bool
	}{
		{"203.0.113.1:1", "", "203.0.113.1", true},
		{"203.0.113.1:1", "198.51.100.9", "203.0.113.1", true},
		{"192.0.2.1:1", "198.51.100.9", "198.51.100.9", true},
		{"192.0.2.1:1", "10.0.0.9", "10.0.0.9", false},
		{"[2001:db8::1:2:3:4]:1", "", "2001:db8::1:2:3:4", true},
		{"[::ffff:203.0.113.1]:1", "", "203.0.113.1", true},
		{"[64:ff9b::203.0.113.2]:1", "", "203.0.113.2", true},
		{"127.0.0.1:1", "198.51.100.9", "127.0.0.1", false},
		{"[::1]:1", "", "::1", false},
		{"[fd00::5%eth0]:1", "", "fd00::5", false},
		{"@", "", "invalid IP", false},
	} {
		r := from(test.peer)
		if test.forwarded != "" {
			r.Header.Set("X-Forwarded-For", test.forwarded)
		}
		conn := new(Conn)
		require.Zero(t, statusOf(a.Admit(conn, r)))
		require.Equal(t, test.want, conn.Addr().String())
		_, counted := conn.Network()
		require.Equal(t, test.counted, counted, test.peer)
		a.Release(conn)
	}
	require.Zero(t, a.connections)
	require.LessOrEqual(t, unsafe.Sizeof(Conn{}), uintptr(40), "there is one for each idle connection")
}
func statusOf(status int, _ Limit) int { return status }
