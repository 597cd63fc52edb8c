// Package origin decides which web pages may connect, and writes the CORS headers. The
// same check applies to polling requests, websocket handshakes and upgrades. Native
// apps send no Origin.
package origin

import (
	"net/http"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"
)

const (
	// maxOrigin is longer than any origin: a scheme, 253 bytes of a host's name, a port.
	maxOrigin = 320
	// maxHeaders is the longest Access-Control-Request-Headers that is answered, since
	// the answer repeats it.
	maxHeaders = 1024
)

// Policy is a set of allowed origins. It is immutable and may be used concurrently.
type Policy struct {
	allowed     []string // canonical
	any         bool
	credentials bool
	required    bool
}

// New returns the policy that admits the listed origins, or any origin if "*" is among
// them. Entries that Canonical does not accept are ignored. credentials lets browsers
// send cookies, but not if any origin is admitted; required refuses requests without an
// Origin.
func New(allowed []string, credentials, required bool) *Policy {
	p := &Policy{credentials: credentials, required: required, any: slices.Contains(allowed, "*")}
	for _, origin := range allowed {
		if c, ok := Canonical(origin); ok {
			p.allowed = append(p.allowed, c)
		}
	}
	return p
}

// Verdict says what to do with a request.
type Verdict uint8

// The verdicts.
const (
	Pass      Verdict = iota // serve it
	Refuse                   // answer it with 403
	Preflight                // nothing: Check has answered it
)

// Check checks a request, sets the CORS headers of its response, and answers it if it is
// a preflight.
func (p *Policy) Check(w http.ResponseWriter, r *http.Request) Verdict {
	header := w.Header()
	header.Add("Vary", "Origin")
	origins := r.Header["Origin"]
	if !p.Allows(origins, r.Host) {
		return Refuse
	}
	if len(origins) > 0 {
		switch {
		case p.any:
			header.Set("Access-Control-Allow-Origin", "*")
		default:
			header.Set("Access-Control-Allow-Origin", origins[0])
			if p.credentials {
				header.Set("Access-Control-Allow-Credentials", "true")
			}
		}
	}
	if r.Method != http.MethodOptions {
		return Pass
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST")
	header.Set("Access-Control-Max-Age", "600")
	if h := r.Header.Get("Access-Control-Request-Headers"); h != "" && len(h) <= maxHeaders {
		header.Add("Vary", "Access-Control-Request-Headers")
		header.Set("Access-Control-Allow-Headers", h)
	}
	w.WriteHeader(http.StatusNoContent)
	return Preflight
}

// Allows reports whether a request to host with these Origin headers may connect. A
// page of the host itself always may.
func (p *Policy) Allows(origins []string, host string) bool {
	if len(origins) == 0 {
		return !p.required
	}
	if len(origins) > 1 {
		return false
	}
	origin, ok := Canonical(origins[0])
	if !ok { // "null" too, which any sandboxed page can send
		return false
	}
	return p.any || slices.Contains(p.allowed, origin) || isHost(origin, host)
}

// isHost reports whether a canonical origin names the host and port of the request.
func isHost(origin, host string) bool {
	scheme, _, _ := strings.Cut(origin, "://")
	own, ok := Canonical(scheme + "://" + host)
	return ok && own == origin
}

// Canonical returns an origin in lower case and without its scheme's default port. ok
// is false when it is not an origin. Browsers write host names in ASCII, so anything
// else is refused: strings.ToLower would turn other letters into ASCII ones, such as
// the Kelvin sign into k.
func Canonical(origin string) (canonical string, ok bool) {
	if len(origin) > maxOrigin || !isASCII(origin) {
		return "", false
	}
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if scheme == "" || strings.ToLower(origin) != scheme+"://"+host {
		return "", false
	}
	switch scheme {
	case "http":
		host = strings.TrimSuffix(host, ":80")
	case "https":
		host = strings.TrimSuffix(host, ":443")
	}
	return scheme + "://" + host, true
}

// Problem returns why a configured origin can never match a page's, or "" if it can.
func Problem(configured string) string {
	canonical, ok := Canonical(configured)
	switch scheme, host, _ := strings.Cut(canonical, "://"); {
	case strings.EqualFold(configured, "null"):
		return "any page without an origin of its own sends null"
	case strings.Contains(configured, "*"):
		return "there are no patterns; list each origin, or \"*\" for all"
	case !ok:
		return "it must be scheme://host or scheme://host:port, in ASCII, without a path"
	case scheme == "ws" || scheme == "wss":
		return "the origin of a page that opens a websocket is http or https"
	case scheme == "file":
		return "a page of a file sends null"
	case !isPort(host):
		return "its port must be a number from 1 to 65535 without leading zeros"
	case (scheme == "http" || scheme == "https") && !isHostname(host):
		return "browsers write an IP address in its short form, such as 192.0.2.1 or [2001:db8::1]"
	}
	return ""
}

// isHostname reports whether a host is a name, or an IP address as browsers write it.
func isHostname(host string) bool {
	host = (&url.URL{Host: host}).Hostname()
	name := strings.TrimSuffix(host, ".")
	last := name[strings.LastIndexByte(name, '.')+1:]
	digits, hex := strings.CutPrefix(last, "0x")
	number := strings.Trim(last, "0123456789") == "" || hex && strings.Trim(digits, "0123456789abcdef") == ""
	if !number && !strings.Contains(host, ":") {
		return true
	}
	addr, err := netip.ParseAddr(host)
	return err == nil && !addr.Is4In6() && addr.String() == host
}

// isPort reports whether a host has no port, or a valid one as browsers write it.
func isPort(host string) bool {
	i := strings.LastIndexByte(host, ':')
	if i < 0 || strings.HasSuffix(host, "]") { // an IPv6 address without a port
		return true
	}
	port := host[i+1:]
	n, err := strconv.ParseUint(port, 10, 16)
	return err == nil && n > 0 && port[0] != '0'
}

func isASCII(s string) bool {
	for i := range len(s) {
		if s[i] >= 0x80 {
			return false
		}
	}
	return true
}
