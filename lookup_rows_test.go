// Lookups of rows whose calls never return.

package realtime_test

import (
	"context"
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// hungRows is a UserRepo whose calls for some users never return.
type hungRows struct {
	realtime.UserRepo
	hung map[string]bool
	stop chan struct{}
}

func (h hungRows) FindUser(ctx context.Context, id string) (realtime.User, error) {
	if h.hung[id] {
		<-h.stop
	}
	return h.UserRepo.FindUser(ctx, id)
}

// Users whose rows cannot be read, as calls for them never return, keep nobody else from
// logging in, however often their phones try again.
func TestLookup_RowsThatHangKeepNobodyOut(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const concurrency, hung = 4, 3
		repo := hungRows{hung: map[string]bool{}, stop: make(chan struct{})}
		defer close(repo.stop)
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits.RepoConcurrency, o.Compat.RefuseUnavailable = concurrency, true
			repo.UserRepo = o.Users
			o.Users = repo
		})
		for i := range hung {
			repo.hung[fmt.Sprint("x", i)] = true
		}
		for range 40 {
			for id := range repo.hung {
				_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(id, realtime.UserDriver)))
				var refusal *realtimetest.ConnectError
				require.ErrorAs(t, err, &refusal)
				require.Equal(t, realtime.CodeUnavailable, refusal.Code)
			}
			time.Sleep(time.Second)
		}
		require.True(t, srv.Driver(t, "d1").Connected())
	})
}
