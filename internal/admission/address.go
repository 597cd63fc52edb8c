// The address of a client, also behind trusted proxies.

package admission

import (
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Address returns the address that a request comes from; it is not valid when the
// request has no IP address. known is false when the address does not identify a client:
// there is none, or a private one that is not in trusted, which is taken for a proxy in
// front of any number of clients. forwarded then reports whether the request carries
// X-Forwarded-For.
func Address(r *http.Request, trusted []netip.Prefix) (from netip.Addr, known, forwarded bool) {
	addr, ok := parse(r.RemoteAddr)
	if !ok {
		return netip.Addr{}, false, false
	}
	lines := r.Header["X-Forwarded-For"]
	if contains(trusted, addr) {
		addr = client(lines, trusted, addr)
	}
	if private(addr) && !contains(trusted, addr) {
		return addr, false, len(lines) > 0
	}
	return addr, true, false
}

// ByProxy reports whether a request comes from a trusted proxy.
func ByProxy(r *http.Request, trusted []netip.Prefix) bool {
	addr, ok := parse(r.RemoteAddr)
	return ok && contains(trusted, addr)
}

// client returns the client's address. It reads X-Forwarded-For from right to left and
// stops at the first address that is not a trusted proxy, or before one that is not valid.
// What a client itself wrote stands further left and is never used.
func client(headers []string, trusted []netip.Prefix, peer netip.Addr) netip.Addr {
	for _, line := range slices.Backward(headers) {
		for more := line != ""; more; {
			i := strings.LastIndexByte(line, ',')
			hop := line[i+1:]
			line, more = line[:max(i, 0)], i >= 0
			addr, ok := parse(strings.TrimSpace(hop))
			if !ok {
				return peer
			}
			peer = addr
			if !contains(trusted, peer) {
				return peer
			}
		}
	}
	return peer
}

// parse reads an address with or without a port. It returns an IPv4 address that is written
// as an IPv6 one (mapped, or by NAT64) as IPv4.
func parse(s string) (netip.Addr, bool) {
	if len(s) > 64 {
		return netip.Addr{}, false
	}
	if host, _, err := net.SplitHostPort(s); err == nil {
		s = host
	}
	addr, err := netip.ParseAddr(strings.Trim(s, "[]"))
	if err != nil {
		return netip.Addr{}, false
	}
	addr = addr.Unmap().WithZone("")
	if nat64.Contains(addr) { // the client's IPv4 address is in the last 32 bits
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr, true
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052
	inner = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598: carrier-grade NAT, or inside a cluster
		netip.MustParsePrefix("0.0.0.0/8"),     // RFC 1122: this host
	}
)

// private reports whether an address is not a public one.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || contains(inner, addr)
}

// Network is the unit that limits per address count: an IPv4 address, or an IPv6 /64,
// which is what a provider assigns to one network.
type Network uint64

// mapped is the prefix of IPv4 addresses in a Network; no public IPv6 address begins
// with it.
const mapped = 0xffff << 32

func network(addr netip.Addr) Network {
	if addr.Is4() {
		b := addr.As4()
		return mapped | Network(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return Network(binary.BigEndian.Uint64(b[:8]))
}

// Site returns the IPv6 /48 or IPv4 /24 of a network: the largest range that a provider
// assigns to one customer without further questions.
func (n Network) Site() Network {
	if n>>32 == mapped>>32 {
		return n &^ 0xff
	}
	return n &^ 0xffff
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
