// Odds and ends of docs/security.md that have no better place.

package realtime_test

import (
	"bytes"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// The log has the actions of admins: who did what to which trip. A revocation names the session
// and its user.
func TestServer_AuditsAdmins(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		admin := srv.Admin(t, "a1")
		driver := srv.Driver(t, "d1")
		for _, event := range []string{"admin:trip:join", "admin:trip:leave", "admin:drivers:leave", "admin:drivers:join"} {
			ackOf(t, admin, event, `{"tripId":"t1"}`)
			require.Contains(t, ackOf(t, driver, event, `{"tripId":"t2"}`), "not_found")
		}
		lines := logs.lines(t, "realtime: admin audit")
		require.Len(t, lines, 4)
		for i, event := range []string{"admin:trip:join", "admin:trip:leave", "admin:drivers:leave", "admin:drivers:join"} {
			require.Equal(t, event, lines[i]["event"])
			require.Equal(t, "a1", lines[i]["user"])
			require.Equal(t, admin.ID(), lines[i]["socket"])
			require.Equal(t, i < 2, lines[i]["trip"] == "t1")
		}

		require.NoError(t, srv.Realtime.DisconnectSession(t.Context(), realtimetest.SessionID("d1"), "stolen"))
		synctest.Wait() // else the next call may end the socket first
		require.NoError(t, srv.Realtime.DisconnectUser(t.Context(), "d1", "banned by a1"))
		synctest.Wait()
		publish(t, srv, realtime.UserAccessChanged{UserID: "d2", Change: realtime.AccessRoleChanged})
		lines = logs.lines(t, "realtime: session revoked, disconnecting its sockets")
		require.Len(t, lines, 1)
		require.Equal(t, "stolen", lines[0]["reason"])
		require.Equal(t, realtimetest.SessionID("d1"), lines[0]["sid"])
		require.Equal(t, "d1", lines[0]["user"], "of the socket, as the event has none")
		lines = logs.lines(t, "realtime: user access changed, disconnecting the user's sockets")
		require.Len(t, lines, 2)
		require.Equal(t, "d1", lines[0]["user"])
		require.Equal(t, "banned by a1", lines[0]["reason"])
		require.Equal(t, string(realtime.AccessRoleChanged), lines[1]["change"])
	})
}

// A token in a query, which every proxy on the way writes into its log, is none.
func TestHandshake_QueryTokensAreIgnored(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		token := logs.secret(srv.Login("d1", realtime.UserDriver))
		a := originClient{srv: srv}
		query := "&token=" + token + "&access_token=" + token + "&auth=" + token
		res, body := a.request(t, true, "GET", overPolling+query, "")
		require.Equal(t, 200, res.StatusCode)
		sid := "&sid=" + strings.Split(body, `"`)[3]
		a.request(t, true, "POST", overPolling+query+sid, "40/drivers?token="+token+",")
		require.Equal(t, refusalPacket(realtime.NamespaceDrivers, realtime.CodeMissingToken, "Missing token"), a.poll(t, sid))
	})
}

// TestSecurityDoc_NamesTests: every test that docs/security.md names exists.
func TestSecurityDoc_NamesTests(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/security.md")
	require.NoError(t, err)
	exist := map[string]bool{}
	require.NoError(t, filepath.WalkDir(".", func(path string, _ fs.DirEntry, err error) error {
		if err != nil || !strings.HasSuffix(path, "_test.go") {
			return err
		}
		file, err := os.ReadFile(path)
		for _, m := range regexp.MustCompile(`(?m)^func ((?:Test|Fuzz)\w+)\(`).FindAllSubmatch(file, -1) {
			exist[string(m[1])] = true
		}
		return err
	}))
	names := regexp.MustCompile(`\b(?:Test|Fuzz)[A-Z]\w+`).FindAll(doc, -1)
	require.Greater(t, len(names), 50)
	for _, name := range names {
		require.True(t, exist[string(bytes.TrimSpace(name))], "docs/security.md names %s", name)
	}
}
