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
	// maxOrigin is longer than any origin (a scheme, 253 bytes of a host's name, a port) with the
	// path that some native clients send.
	maxOrigin = 1024
	// maxHeaders is the longest Access-Control-Request-Headers that is answered, since
	// the answer repeats it.
	maxHeaders = 1024
)

// Policy is a set of allowed origins. It is immutable and may be used concurrently.
type Policy struct {
	allowed     []pattern
	any         bool
	credentials bool
	required    bool
}

// New returns the policy that admits the listed origins, or any origin if "*" is among
// them. Entries that have a Problem are ignored. credentials lets browsers send cookies, but
// not if any origin is admitted; required refuses requests without an Origin.
func New(allowed []string, credentials, required bool) *Policy {
	p := &Policy{credentials: credentials, required: required, any: slices.Contains(allowed, "*")}
	for _, entry := range allowed {
		if m, problem := parsePattern(entry); problem == "" {
			p.allowed = append(p.allowed, m)
		}
	}
	return p
}

// Host is the server's own host, as a request names it.
type Host struct {
	Scheme string // if a trusted proxy says it; empty: not known, and any
	Name   string // with the port, if there is one
}

// Verdict says what to do with a request.
type Verdict uint8

// The verdicts.
const (
	Pass      Verdict = iota // serve it
	Refuse                   // answer it with 403
	Preflight                // nothing: Check has answered it
)

// Check checks a request to a host, sets the CORS headers of its response, and answers it if
// it is a preflight.
func (p *Policy) Check(w http.ResponseWriter, r *http.Request, own Host) Verdict {
	header := w.Header()
	header.Add("Vary", "Origin")
	origins := r.Header["Origin"]
	if !p.Allows(origins, own) {
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

// Allows reports whether a request to a host with these Origin headers may connect. A page
// of the host itself always may.
func (p *Policy) Allows(origins []string, own Host) bool {
	if len(origins) == 0 {
		return !p.required
	}
	if len(origins) > 1 {
		return false
	}
	page, ok := parse(origins[0])
	if !ok {
		return false
	}
	return p.any || own.has(page) || slices.ContainsFunc(p.allowed, func(m pattern) bool { return m.matches(page) })
}

// String returns the host with its scheme, if that is known.
func (h Host) String() string {
	if h.Scheme == "" {
		return h.Name
	}
	return h.Scheme + "://" + h.Name
}

// has reports whether a page is one of the host's own.
func (h Host) has(page origin) bool {
	scheme := page.scheme
	if h.Scheme != "" {
		scheme = h.Scheme
	}
	own, ok := parse(scheme + "://" + h.Name)
	return ok && own == page && (page.scheme == "http" || page.scheme == "https")
}

// Forwarded returns the server's own host as a trusted proxy names it, in X-Forwarded-Host and
// X-Forwarded-Proto. What the proxy does not say is that of the request.
func Forwarded(r *http.Request) Host {
	own := Host{Name: r.Host}
	if name := first(r.Header.Get("X-Forwarded-Host")); name != "" {
		own.Name = name
	}
	switch scheme := strings.ToLower(first(r.Header.Get("X-Forwarded-Proto"))); scheme {
	case "http", "https", "ws", "wss":
		own.Scheme = scheme
	}
	return own
}

// first returns the first entry of a list, which the outermost proxy has written.
func first(list string) string {
	entry, _, _ := strings.Cut(list, ",")
	return strings.TrimSpace(entry)
}

// origin is an origin in its canonical form: in lower case, with http or https for ws or wss,
// and without its scheme's default port.
type origin struct {
	scheme string // "null" for that origin
	host   string // with the port, if there is one; empty for null and file://
}

var (
	opaque = origin{scheme: "null"}
	file   = origin{scheme: "file"}
)

// parse reads the Origin header of a request. A path behind the origin, which some native
// clients send, is ignored; browsers send none. Browsers write host names in ASCII, so
// anything else is refused: strings.ToLower would turn other letters into ASCII ones, such as
// the Kelvin sign into k.
func parse(text string) (o origin, ok bool) {
	if len(text) > maxOrigin {
		return o, false
	}
	for i := range len(text) {
		if c := text[i]; c <= ' ' || c >= 0x7f || c == ',' || c == '\\' || c == '#' {
			return o, false // more than one, or something that clients read in different ways
		}
	}
	switch text {
	case "null":
		return opaque, true
	case "file://", "file:///":
		return file, true
	}
	u, err := url.Parse(text)
	if err != nil || u.Hostname() == "" || u.User != nil {
		return o, false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	rest, plain := strings.CutPrefix(strings.ToLower(text), scheme+"://"+host)
	if !plain || rest != "" && rest[0] != '/' && rest[0] != '?' {
		return o, false // with escaped letters, for instance
	}
	switch scheme {
	case "":
		return o, false
	case "http", "ws":
		return origin{"http", strings.TrimSuffix(host, ":80")}, true
	case "https", "wss":
		return origin{"https", strings.TrimSuffix(host, ":443")}, true
	}
	return origin{scheme, host}, true
}

// pattern is an entry of the list of allowed origins.
type pattern struct {
	origin        // without the label or the port that is open
	anyLabel bool // any one label stands before host
	anyPort  bool // host is without a port, and a page may have any
}

func (m pattern) matches(page origin) bool {
	switch {
	case page.scheme != m.scheme:
		return false
	case m.anyLabel:
		label, ok := strings.CutSuffix(page.host, "."+m.host)
		return ok && label != "" && !strings.Contains(label, ".")
	case m.anyPort:
		port, ok := strings.CutPrefix(page.host, m.host)
		return ok && (port == "" || port[0] == ':')
	}
	return page == m.origin
}

// Problem returns why a configured origin can never match a page's, or "" if it can.
func Problem(configured string) string {
	_, problem := parsePattern(configured)
	return problem
}

// AnyPage reports whether a configured origin, which has no Problem, is one that any file or
// any page in a sandbox has.
func AnyPage(configured string) bool {
	o, _ := parse(configured)
	return o == opaque || o == file
}

func parsePattern(entry string) (m pattern, problem string) {
	text := entry
	if scheme, host, ok := strings.Cut(entry, "://*."); ok {
		m.anyLabel, text = true, scheme+"://"+host
	}
	if rest, ok := strings.CutSuffix(text, ":*"); ok {
		m.anyPort, text = true, rest
	}
	if text != "file://" {
		text = strings.TrimSuffix(text, "/")
	}
	var ok bool
	m.origin, ok = parse(text)
	_, after, _ := strings.Cut(text, "://")
	switch name := (&url.URL{Host: m.host}).Hostname(); {
	case strings.Contains(text, "*"):
		return m, "a * stands for one label, as in https://*.example.com, or for the port of localhost, as in http://localhost:*"
	case !ok || strings.ContainsAny(after, "/?"):
		return m, "it must be scheme://host or scheme://host:port, in ASCII, without a path"
	case m.anyPort && (m.anyLabel || name != "localhost" && name != "127.0.0.1" && name != "::1"):
		return m, "only localhost may have any port"
	case m.anyLabel && !strings.Contains(strings.Trim(name, "."), "."):
		return m, "two labels must follow a *, or anybody's domain would match"
	case m.scheme == "file" && m.host != "":
		return m, "a page of a file sends file:// or null"
	case !isPort(m.host):
		return m, "its port must be a number from 1 to 65535 without leading zeros"
	case (m.scheme == "http" || m.scheme == "https") && !isHostname(m.host):
		return m, "browsers write an IP address in its short form, such as 192.0.2.1 or [2001:db8::1]"
	}
	return m, ""
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
