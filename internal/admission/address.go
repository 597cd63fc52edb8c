// Addresses: where a client comes from, behind proxies that are trusted.

package admission

import (
	"encoding/binary"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
)

// Address returns the address that a request comes from, which is not valid when it has
// none. known is false when that does not say which client's it is: there is none, or it
// is of a private network, which is taken for a proxy that is not in trusted and stands
// for any number of clients; forwarded then says whether it calls itself a proxy.
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

// client walks back from the proxy that connected to the first address that no
// trusted proxy has. What clients wrote themselves stands further left, and is
// never reached.
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

// parse reads an address with or without a port.
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
	if nat64.Contains(addr) { // one translator's, with any number of clients behind it
		b := addr.As16()
		addr = netip.AddrFrom4([4]byte(b[12:]))
	}
	return addr, true
}

var (
	nat64 = netip.MustParsePrefix("64:ff9b::/96") // RFC 6052: the last 32 bits are the client's address
	inner = []netip.Prefix{
		netip.MustParsePrefix("100.64.0.0/10"), // RFC 6598: between a provider and its customers, or a cluster's own
		netip.MustParsePrefix("0.0.0.0/8"),     // RFC 1122: this host
	}
)

// private reports whether an address is not one of the internet's.
func private(addr netip.Addr) bool {
	return addr.IsPrivate() || addr.IsLoopback() || addr.IsLinkLocalUnicast() || addr.IsUnspecified() || contains(inner, addr)
}

// Network is what counts as one address: an IPv4 address, or the first 64 bits of
// an IPv6 one, the part that a provider gives to one network.
type Network uint64

// mapped marks IPv4 addresses among networks; no IPv6 address of the internet
// begins so.
const mapped = 0xffff << 32

func network(addr netip.Addr) Network {
	if addr.Is4() {
		b := addr.As4()
		return mapped | Network(binary.BigEndian.Uint32(b[:]))
	}
	b := addr.As16()
	return Network(binary.BigEndian.Uint64(b[:8]))
}

// site returns what counts as one site, an IPv6 /48 or an IPv4 /24: the most that a
// provider gives to one customer without asking what for.
func (n Network) site() Network {
	if n>>32 == mapped>>32 {
		return n &^ 0xff
	}
	return n &^ 0xffff
}

func contains(prefixes []netip.Prefix, addr netip.Addr) bool {
	return slices.ContainsFunc(prefixes, func(p netip.Prefix) bool { return p.Contains(addr) })
}
