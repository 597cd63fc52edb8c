// Origins: which web pages may connect. The same check stands before polling
// requests, websocket handshakes and upgrades; native apps send no Origin.

package realtime

import (
	"net/http"
	"net/url"
	"slices"
	"strings"

	"github.com/rodando/realtime/internal/engineio"
)

// originPolicy is Options' part about origins, made ready.
type originPolicy struct {
	allowed     []string // canonical
	any         bool
	credentials bool
	required    bool
}

func newOriginPolicy(o *Options) originPolicy {
	p := originPolicy{credentials: o.AllowCredentials, required: o.RequireOrigin, any: slices.Contains(o.AllowedOrigins, "*")}
	for _, origin := range o.AllowedOrigins {
		if c, ok := canonicalOrigin(origin); ok {
			p.allowed = append(p.allowed, c)
		}
	}
	return p
}

// admit answers what a foreign page or a preflight gets, and reports whether
// the request is to be served.
func (p originPolicy) admit(rt *Server, w http.ResponseWriter, r *http.Request) bool {
	header := w.Header()
	header.Add("Vary", "Origin")
	origins := r.Header["Origin"]
	if !p.allows(origins, r.Host) {
		rt.log.Warn("realtime: origin not allowed; if it should be, add it to Options.AllowedOrigins",
			"origin", strings.Join(origins, ", "), "host", r.Host)
		engineio.Forbidden(w)
		return false
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
		return true
	}
	header.Set("Access-Control-Allow-Methods", "GET, POST")
	header.Set("Access-Control-Max-Age", "600")
	if h := r.Header.Get("Access-Control-Request-Headers"); h != "" {
		header.Add("Vary", "Access-Control-Request-Headers")
		header.Set("Access-Control-Allow-Headers", h)
	}
	w.WriteHeader(http.StatusNoContent)
	return false
}

func (p originPolicy) allows(origins []string, host string) bool {
	if len(origins) == 0 {
		return !p.required
	}
	if len(origins) > 1 {
		return false
	}
	origin, ok := canonicalOrigin(origins[0])
	if !ok { // among them "null", which any sandboxed page can send
		return false
	}
	return p.any || slices.Contains(p.allowed, origin) || isOwnHost(origin, host)
}

// isOwnHost reports whether a canonical origin names the host and port that the
// request went to.
func isOwnHost(origin, host string) bool {
	scheme, _, _ := strings.Cut(origin, "://")
	own, ok := canonicalOrigin(scheme + "://" + host)
	return ok && own == origin
}

// canonicalOrigin writes an origin in lower case and without its scheme's
// default port; ok is false when it is none.
func canonicalOrigin(origin string) (canonical string, ok bool) {
	u, err := url.Parse(origin)
	if err != nil || u.Hostname() == "" || u.User != nil || u.Path != "" || u.RawQuery != "" || u.Fragment != "" || u.ForceQuery {
		return "", false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if scheme == "" || !strings.EqualFold(origin, scheme+"://"+host) {
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
