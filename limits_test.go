// Every limit that refuses something calls Trace.Limited, with the name of its field.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// A polling body may have what a client has emitted while it was offline. One of too many packets
// is answered with 400, one that is too large with 413.
func TestLimits_PollingBody(t *testing.T) {
	event := `42/drivers,["x"]`
	body := func(packets int) string { return strings.TrimSuffix(strings.Repeat(event+"\x1e", packets), "\x1e") }
	for name, c := range map[string]struct {
		body   string
		status int
		limit  []realtime.Limit
	}{
		"a megabyte of packets": {body(1_000_000 / (len(event) + 1)), http.StatusOK, nil},
		"more than the limit":   {strings.TrimSuffix(strings.Repeat("6\x1e", 100_001), "\x1e"), http.StatusBadRequest, []realtime.Limit{realtime.LimitPacketsPerBody}},
		"a megabyte":            {`42/drivers,["x","` + strings.Repeat("x", 1e6-len(`42/drivers,["x",""]`)) + `"]`, http.StatusOK, nil},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				l := &limitRecorder{}
				srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
					o.Rates.Event.PerSecond, o.Rates.User.PerSecond = -1, -1
				})
				a := originClient{srv: srv}
				_, sid := a.session(t, true)
				a.request(t, true, http.MethodPost, overPolling+sid, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver)))
				require.Contains(t, a.poll(t, sid), "hello")
				res, _ := a.request(t, true, http.MethodPost, overPolling+sid, c.body)
				require.Equal(t, c.status, res.StatusCode)
				require.Equal(t, c.limit, l.take())
			})
		})
	}
}

func TestTrace_LimitedPollingBody(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options)
		_, sid := originClient{srv: srv}.session(t, true)
		r, err := http.NewRequestWithContext(t.Context(), http.MethodPost, srv.URL()+realtime.Path+"?EIO=4&transport=polling"+sid,
			strings.NewReader(strings.Repeat("x", 1e6+1)))
		require.NoError(t, err)
		if res, err := srv.HTTPClient().Do(r); err == nil { // else the answer overtook the body
			require.Equal(t, http.StatusRequestEntityTooLarge, res.StatusCode)
			require.NoError(t, res.Body.Close())
		}
		require.Equal(t, []realtime.Limit{realtime.LimitMaxPayload}, l.take())
	})
}

func TestTrace_LimitedNamespace(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		conn := openRaw(t, realtimetest.NewServer(t, l.options))
		conn.send(t, "40/"+strings.Repeat("n", 300)+",")
		require.Equal(t, []realtime.Limit{realtime.LimitNamespaceName}, l.take())
		require.True(t, conn.closedSoon())
	})
}

// An event that is whole, but exceeds a limit on what it contains, gets an ack with the name of
// the limit, within the rates of its event. The connection lives.
func TestLimits_OfAnEvent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) {
			o.Limits.Values = 100
			o.Limits.MaxPayload, o.Limits.AttachmentBytes = 1000, 1500
			o.Rates.Events = map[string]realtime.Rate{"photos": {PerSecond: 0.1, Burst: 10}}
		})
		srv.Realtime.Drivers().HandleRaw("photos", func(_ context.Context, _ *realtime.Socket, r realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{Args: []json.RawMessage{json.RawMessage(strconv.Itoa(len(r.Attachments)))}}, nil
		})
		conn := openRaw(t, srv)
		conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver)))
		binary := func(sizes ...int) {
			for _, n := range sizes {
				require.NoError(t, wsutil.WriteClientBinary(conn.body, make([]byte, n)))
			}
		}
		two := `452-/drivers,7["photos",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`
		for _, tc := range []struct {
			limit  realtime.Limit
			packet string
			sizes  []int
		}{
			{"", two, []int{700, 700}},
			{realtime.LimitAttachmentBytes, two, []int{800, 800}},
			{realtime.LimitAttachments, `4511-/drivers,7["photos"]`, []int{1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1}},
			{realtime.LimitValues, `42/drivers,7["photos"` + strings.Repeat(",1", 200) + `]`, nil},
			{realtime.LimitDepth, `42/drivers,7["photos",` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`, nil},
			{realtime.LimitDepth, `42/drivers,7["driver:location:ping",` + strings.Repeat("[", 40) + strings.Repeat("]", 40) + `]`, nil},
			{realtime.LimitEventName, `42/drivers,7["` + strings.Repeat("n", 200) + `"]`, nil},
			{"", two, []int{700, 700}},
		} {
			got := conn.send(t, tc.packet)
			binary(tc.sizes...)
			got = append(got, conn.received()...)
			want, limits := `43/drivers,7[2]`, []realtime.Limit(nil)
			if tc.limit != "" {
				want = `43/drivers,7[{"ok":false,"error":{"code":"invalid_payload","message":"exceeds Limits.` + string(tc.limit) + `"}}]`
				limits = []realtime.Limit{tc.limit}
			}
			require.Equal(t, []string{want}, got)
			require.Equal(t, limits, l.take())
		}
		for range 4 {
			require.Contains(t, conn.send(t, `42/drivers,7["photos"`+strings.Repeat(",1", 200)+`]`)[0], "invalid_payload")
		}
		require.Contains(t, conn.send(t, `42/drivers,7["photos"`+strings.Repeat(",1", 200)+`]`)[0], "rate_limited")
		require.False(t, conn.closed())
	})
}

// By default an app may send a track of 4000 points, and two photos of 600 kB.
func TestLimits_LargeEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		srv.Realtime.Drivers().HandleRaw("echo", func(_ context.Context, _ *realtime.Socket, r realtime.Raw) (realtime.Raw, error) { return r, nil })
		d := srv.Driver(t, "d1")
		track := `[` + strings.TrimSuffix(strings.Repeat(`{"lat":23.1,"lng":-82.4,"t":1},`, 4000), ",") + `]`
		require.JSONEq(t, track, rawAck(t, d, "echo", track))
		photo := make([]byte, 600_000)
		ack, err := d.CallRaw(t.Context(), "echo", realtime.Raw{
			Args:        []json.RawMessage{json.RawMessage(`{"_placeholder":true,"num":0}`), json.RawMessage(`{"_placeholder":true,"num":1}`)},
			Attachments: [][]byte{photo, photo},
		})
		require.NoError(t, err)
		require.Equal(t, [][]byte{photo, photo}, ack.Attachments)
	})
}

func TestTrace_LimitedAttachments(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.MaxPayload, o.Limits.AttachmentBytes = 1000, 1000 })
		conn := openRaw(t, srv)
		conn.send(t, connectPacket(realtime.NamespaceDrivers, srv.Login("d1", realtime.UserDriver)))
		conn.send(t, `452-/drivers,["x",{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)
		for range 2 {
			require.False(t, conn.closed())
			require.NoError(t, wsutil.WriteClientBinary(conn.body, make([]byte, 600)))
		}
		require.Equal(t, []realtime.Limit{realtime.LimitAttachmentBytes}, l.take())
		require.False(t, conn.closed())
	})
}

func TestTrace_LimitedRooms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.RoomsPerSocket = 1 })
		admin := srv.Admin(t, "a1")
		require.Contains(t, ackOf(t, admin, "admin:trip:join", `{"tripId":"t1"}`), `"ok":true`)
		require.Contains(t, ackOf(t, admin, "admin:trip:join", `{"tripId":"t2"}`), `"code":"rate_limited"`)
		require.Equal(t, []realtime.Limit{realtime.LimitRoomsPerSocket}, l.take())
	})
}

func TestTrace_LimitedSlowConsumer(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		l := &limitRecorder{}
		srv := realtimetest.NewServer(t, l.options, func(o *realtime.Options) { o.Limits.OutboxMessages = 20 })
		admin := srv.Admin(t, "a1")
		admin.Stall()
		room := srv.Realtime.Admin().To(realtime.AdminUserRoom("a1"))
		for range 2000 { // what the connection takes, and more
			require.NoError(t, memo.Emit(room, strings.Repeat("x", 10_000)))
		}
		require.Equal(t, []realtime.Limit{realtime.LimitOutbox}, l.take())
		admin.Resume()
		admin.Disconnected(t)
	})
}

// countingUsers is a UserRepo that counts the calls for each user, and how many run at
// once.
type countingUsers struct {
	*realtimetest.Users
	mu       sync.Mutex // guards the fields below
	asked    map[string]int
	now, max int
}

func (g *countingUsers) FindUser(ctx context.Context, id string) (realtime.User, error) {
	g.mu.Lock()
	g.asked[id]++
	g.now++
	g.max = max(g.max, g.now)
	g.mu.Unlock()
	time.Sleep(100 * time.Millisecond)
	g.mu.Lock()
	g.now--
	g.mu.Unlock()
	return g.Users.FindUser(ctx, id)
}

// When all clients reconnect at once, the server reads each user once, with at most
// Limits.RepoConcurrency calls at a time.
func TestLookup_ReconnectStorm(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		repo := &countingUsers{Users: &realtimetest.Users{}, asked: map[string]int{}}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Users, o.Limits.RepoConcurrency, o.Timeouts.RepoCache, o.Timeouts.Repo = repo, 5, 0, time.Minute
		})
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
		var coming sync.WaitGroup
		for i := range 20 {
			id := fmt.Sprint("d", i)
			repo.Set(realtime.User{ID: id, Type: realtime.UserDriver, Active: true})
			token := realtimetest.Token(srv.Login(id, realtime.UserDriver))
			for _, namespace := range []string{realtime.NamespaceDrivers, "/support", realtime.NamespaceDrivers} {
				coming.Go(func() {
					_, err := srv.Dial(t.Context(), namespace, token)
					require.NoError(t, err)
				})
			}
		}
		coming.Wait()
		require.Len(t, repo.asked, 20)
		for id, n := range repo.asked {
			require.Equal(t, 1, n, id)
		}
		require.Equal(t, 5, repo.max)
	})
}

// A revocation takes effect at once, although a row from before it is cached.
func TestRevocation_EmptiesTheCache(t *testing.T) {
	for name, revoke := range map[string]func(srv *realtimetest.Server) (realtime.DomainEvent, realtime.Code){
		"session": func(srv *realtimetest.Server) (realtime.DomainEvent, realtime.Code) {
			srv.Sessions.Revoke(realtimetest.SessionID("d1"))
			return realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1")}, realtime.CodeInvalidSession
		},
		"user": func(srv *realtimetest.Server) (realtime.DomainEvent, realtime.Code) {
			srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver})
			return realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessBanned}, realtime.CodeUserInactive
		},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				nodes := realtimetest.NewCluster(t, 2, func(o *realtime.Options) { o.Timeouts.RepoCache = time.Hour })
				token := realtimetest.Token(nodes[0].Login("d1", realtime.UserDriver))
				for _, srv := range nodes {
					srv.Driver(t, "d1")
				}
				event, code := revoke(nodes[0])
				publish(t, nodes[0], event)
				for _, srv := range nodes {
					_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, token)
					var refused *realtimetest.ConnectError
					require.ErrorAs(t, err, &refused)
					require.Equal(t, code, refused.Code)
				}
			})
		})
	}
}

// A user whose ban is lifted connects at once, and auth:refresh reads the new session.
func TestLookup_RefusalsAreNotCached(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Timeouts.RepoCache = time.Hour })
		token := realtimetest.Token(srv.Login("d1", realtime.UserDriver))
		session := realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1"}
		ended := session
		ended.AccessTokenExpiresAt = time.Now()
		revoked := session
		revoked.Revoked = true
		for code, bad := range map[realtime.Code]func(){
			realtime.CodeUserInactive:   func() { srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver}) },
			realtime.CodeInvalidSession: func() { srv.Sessions.Set(revoked) },
			realtime.CodeAccessExpired:  func() { srv.Sessions.Set(ended) },
		} {
			bad()
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, token)
			var refused *realtimetest.ConnectError
			require.ErrorAs(t, err, &refused)
			require.Equal(t, code, refused.Code)
			srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
			srv.Sessions.Set(session)
			driver, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, token)
			require.NoError(t, err, code)

			longer := session
			longer.AccessTokenExpiresAt = time.Now().Add(time.Minute)
			srv.Sessions.Set(longer)
			got, err := realtimetest.Call(t.Context(), driver, realtime.AuthRefresh,
				realtime.TokenRefresh{Token: srv.Tokens.Mint("d1", session.ID, time.Hour)})
			require.NoError(t, err)
			require.WithinDuration(t, longer.AccessTokenExpiresAt, got.ExpiresAt.Time, time.Millisecond)
			srv.Sessions.Set(session)
			require.NoError(t, srv.Realtime.DisconnectUser(t.Context(), "d1", "the next round")) // which empties what is remembered
			synctest.Wait()
		}
	})
}

// Where one is asked for at a time there are eight at once, and the time between
// two rounds is never quite the same.
func TestSweep_AsksSoManyAtOnce(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		repo := &countingUsers{Users: &realtimetest.Users{}, asked: map[string]int{}}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Users, o.Timeouts.Repo = repo, time.Minute })
		for i := range 20 {
			id := fmt.Sprint("d", i)
			repo.Set(realtime.User{ID: id, Type: realtime.UserDriver, Active: true})
			_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(srv.Login(id, realtime.UserDriver)))
			require.NoError(t, err)
		}
		repo.mu.Lock()
		repo.max = 0
		repo.mu.Unlock()
		waitForSweep()
		repo.mu.Lock()
		defer repo.mu.Unlock()
		require.Equal(t, 8, repo.max)
	})
}

func TestSweep_IsJittered(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var last atomic.Int64
		var mu sync.Mutex
		gaps := map[time.Duration]bool{}
		repo := &batchUsers{Users: &realtimetest.Users{}, answer: func([]string) ([]realtime.User, error) {
			now := time.Now().UnixNano()
			mu.Lock()
			defer mu.Unlock()
			if before := last.Swap(now); before != 0 {
				gaps[time.Duration(now-before).Round(time.Second)] = true
			}
			return nil, errors.New("not now")
		}}
		srv := realtimetest.NewServer(t, func(o *realtime.Options) { o.Users, o.Timeouts.SweepInterval = repo, 100*time.Second })
		repo.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
		token := srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), 1000*time.Hour)
		srv.Login("d1", realtime.UserDriver)
		_, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token))
		require.NoError(t, err)
		time.Sleep(2 * time.Hour)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		require.Greater(t, len(gaps), 10)
		for gap := range gaps { // a round of two batches pauses for half of the interval
			require.GreaterOrEqual(t, gap, 80*time.Second)
			require.LessOrEqual(t, gap, 171*time.Second)
		}
	})
}
