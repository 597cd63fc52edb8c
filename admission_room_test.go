// Which connections are closed to make room for others.

package realtime_test

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// Connections without a user do not fill Limits.Connections: one account with any number of
// connections that leave again, or that are anonymous, makes room.
func TestLimits_ConnectionsWithoutUserMakeRoom(t *testing.T) {
	const connections = 60
	for name, says := range map[string][]string{
		"logs in and leaves":      {"40/passengers,%s", "41/passengers,"},
		"does it again":           {"40/passengers,%s", "41/passengers,", "40/passengers,%s", "41/passengers,"},
		"anonymous":               {"40/support,"},
		"anonymous, and leaves":   {"40/support,", "41/support,"},
		"stays as anonymous":      {"40/passengers,%s", "40/support,", "41/passengers,"},
		"is anonymous, and tries": {"40/support,", `40/drivers,{"token":"bad"}`},
		"one socket too many":     {"40/full,%s"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t, func(o *realtime.Options) {
					o.Unlimited = false
					o.Limits.Connections, o.Limits.ConnectionsPerIP, o.Limits.UnauthenticatedPerIP = connections, 5, 5
					o.Limits.SocketsPerUser = -1
					o.TrustedProxies = []netip.Prefix{netip.MustParsePrefix("192.0.2.0/24")} // where the clients of a test come from
					if name == "one socket too many" {
						o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = 1, true
					}
				})
				addNamespace(t, srv, "/support", realtime.NamespaceOptions{Anonymous: true})
				addNamespace(t, srv, "/full", realtime.NamespaceOptions{})
				login := `{"token":` + quote(srv.Login("p1", realtime.UserPassenger)) + `}`
				a := &attacker{srv: srv}
				attack := func(n int) {
					for i := range n {
						if !a.open(fmt.Sprintf("[2001:db8:1:%x::1]:1234", i/5)) {
							continue
						}
						for _, packet := range says {
							peer, sid, _ := strings.Cut(a.sids[len(a.sids)-1], " ")
							a.request(http.MethodPost, peer, "&sid="+sid, strings.ReplaceAll(packet, "%s", login))
							synctest.Wait()
						}
					}
				}
				attack(3 * connections)
				for round := range 3 {
					driver := srv.Driver(t, fmt.Sprint("d", round)) // stays
					attack(connections)
					require.True(t, driver.Connected())
				}
				var others []*realtimetest.Client
				for i := range 2 * connections / 3 { // they have users: no room for the rest
					r, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(fmt.Sprint("o", i), realtime.UserDriver)),
						realtimetest.Header("X-Forwarded-For", fmt.Sprintf("203.0.113.%d", i)))
					require.NoError(t, err)
					others = append(others, r)
				}
				attack(connections)
				for _, c := range others {
					require.True(t, c.Connected())
				}
			})
		})
	}
}

// A site whose tokens keep the verifier busy makes room for other sites, even if all
// unauthenticated connections have a handshake in progress.
func TestLimits_HandshakesOfTheBusiestSiteMakeRoom(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Unlimited = false
			o.Tokens = slowTokens{o.Tokens}
			o.Limits.Unauthenticated, o.Limits.UnauthenticatedPerIP = 80, 5
		})
		a := &attacker{srv: srv}
		opened := 0
		for site := range 9 {
			for i := range 15 {
				if a.open(fmt.Sprintf("198.51.%d.%d:1234", site, i)) {
					opened++
					peer, sid, _ := strings.Cut(a.sids[len(a.sids)-1], " ")
					a.request(http.MethodPost, peer, "&sid="+sid, connectPacket(realtime.NamespaceDrivers, "evil"))
					synctest.Wait()
				}
			}
		}
		begun := time.Now()
		require.Less(t, opened, 9*15)
		for i := range 10 {
			srv.Driver(t, fmt.Sprint("d", i)).Close()
		}
		require.Less(t, time.Since(begun), time.Second, "while the verifier is asked about theirs")
	})
}

// slowTokens is a verifier that is slow for tokens of an attacker's choice.
type slowTokens struct{ realtime.TokenVerifier }

func (s slowTokens) VerifyToken(ctx context.Context, token, ns string) (realtime.Claims, error) {
	if token == "evil" {
		<-ctx.Done()
		return realtime.Claims{}, ctx.Err()
	}
	return s.TokenVerifier.VerifyToken(ctx, token, ns)
}
