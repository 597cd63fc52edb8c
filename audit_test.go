// What admins do is in the log: who, what and about which trip. No session id is.

package realtime_test

import (
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestAdminsAreAudited(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		j, kept := keep(t)
		srv := realtimetest.NewServer(t, kept)
		admin := srv.Admin(t, "a1")
		driver := srv.Driver(t, "d1")
		for _, event := range []string{"admin:trip:join", "admin:trip:leave", "admin:drivers:leave", "admin:drivers:join"} {
			ackOf(t, admin, event, `{"tripId":"t1"}`)
			require.Contains(t, ackOf(t, driver, event, `{"tripId":"t2"}`), "not_found")
		}
		lines := j.lines(t, "realtime: admin")
		require.Len(t, lines, 4)
		for i, event := range []string{"admin:trip:join", "admin:trip:leave", "admin:drivers:leave", "admin:drivers:join"} {
			require.Equal(t, event, lines[i]["event"])
			require.Equal(t, "a1", lines[i]["user"])
			require.Equal(t, admin.ID(), lines[i]["socket"])
			require.Equal(t, i < 2, lines[i]["trip"] == "t1")
		}

		j.secret(realtimetest.SessionID("d1"))
		require.NoError(t, srv.Realtime.DisconnectSession(t.Context(), realtimetest.SessionID("d1"), "stolen"))
		require.NoError(t, srv.Realtime.DisconnectUser(t.Context(), "d1", "banned by a1"))
		synctest.Wait()
		publish(t, srv, realtime.UserAccessChanged{UserID: "d2", Change: realtime.AccessRoleChanged})
		lines = j.lines(t, "realtime: session revoked, its sockets end")
		require.Len(t, lines, 1)
		require.Equal(t, "stolen", lines[0]["reason"])
		lines = j.lines(t, "realtime: user's access changed, his sockets end")
		require.Len(t, lines, 2)
		require.Equal(t, "d1", lines[0]["user"])
		require.Equal(t, "banned by a1", lines[0]["reason"])
		require.Equal(t, string(realtime.AccessRoleChanged), lines[1]["change"])
	})
}
