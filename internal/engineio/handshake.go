// The headers of a websocket's handshake, in the forms that clients and proxies give them.

package engineio

import (
	"maps"
	"net/http"
	"strings"
)

const (
	headerConnection = "Connection"
	headerUpgrade    = "Upgrade"
	headerProtocol   = "Sec-Websocket-Protocol" // as net/http writes it
)

// isUpgrade reports whether r asks for a websocket.
func isUpgrade(r *http.Request) bool {
	for _, line := range r.Header[headerUpgrade] {
		for value := range strings.SplitSeq(line, ",") {
			value = strings.Trim(value, " \t")
			// The length in bytes must match: EqualFold takes the Kelvin sign for a k.
			if len(value) == len("websocket") && strings.EqualFold(value, "websocket") {
				return true
			}
		}
	}
	return false
}

// plainHandshake returns r with at most one line, as package ws reads no more, for each of the
// headers that are lists: Connection, Upgrade, and Sec-WebSocket-Protocol, of which only the
// protocol that the answer is to name is left. The answer names the first one that the client
// asks for, as Node's does; named says that the answer names one already.
func plainHandshake(r *http.Request, named bool) *http.Request {
	h := r.Header
	protocols := h[headerProtocol]
	if len(h[headerConnection]) < 2 && len(protocols) == 0 && len(h[headerUpgrade]) == 1 && len(h[headerUpgrade][0]) == len("websocket") {
		return r
	}
	plain := *r
	plain.Header = make(http.Header, len(h))
	maps.Copy(plain.Header, h)
	plain.Header[headerConnection] = []string{strings.Join(h[headerConnection], ",")}
	plain.Header[headerUpgrade] = []string{"websocket"}
	delete(plain.Header, headerProtocol)
	if p := firstToken(protocols); p != "" && !named {
		plain.Header[headerProtocol] = []string{p}
	}
	return &plain
}

// firstToken returns the first element of a list that may be on several lines, or "" if that
// is no token.
func firstToken(lines []string) string {
	for _, line := range lines {
		for value := range strings.SplitSeq(line, ",") {
			value = strings.Trim(value, " \t")
			switch {
			case value == "":
			case strings.IndexFunc(value, notInToken) < 0:
				return value
			default:
				return ""
			}
		}
	}
	return ""
}

// notInToken reports whether a token has no such character (RFC 9110, section 5.6.2).
func notInToken(c rune) bool {
	return c <= ' ' || c >= 0x7f || strings.ContainsRune(`"(),/:;<=>?@[\]{}`, c)
}
