// Golden conversations: the packets of each handshake and each ending, byte for byte, in
// testdata/conversations. go test -run TestServer_Conversations -update writes them.

package realtime_test

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/gobwas/ws/wsutil"
	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

var update = flag.Bool("update", false, "write testdata/conversations as they are now")

// conversation records the packets of a client and a server. Lines that begin with > are
// the client's, with < the server's; lines that begin with # are notes.
type conversation struct {
	t   *testing.T
	srv *realtimetest.Server

	mu    sync.Mutex // guards what follows
	lines []string
	stall chan struct{} // if not nil, clients stop reading behind hello until it is closed
	names []string      // pairs of an id or a token and what stands for it
}

// Parts of packets that differ between runs.
var variable = []struct {
	pattern *regexp.Regexp
	name    string
}{
	{regexp.MustCompile(`"sid":"[\w-]{20,}"`), `"sid":"ID"`},
	{regexp.MustCompile(`"eventId":"[0-9a-f-]{36}"`), `"eventId":"UUID"`},
	{regexp.MustCompile(`\d{4}-\d\d-\d\dT[\d:.]+Z`), "TIME"},
	{regexp.MustCompile(`"reconnectAfterMs":\d+`), `"reconnectAfterMs":MS`},
}

// notef records a line.
func (c *conversation) notef(format string, args ...any) {
	c.mu.Lock()
	defer c.mu.Unlock()
	line := strings.NewReplacer(c.names...).Replace(fmt.Sprintf(format, args...))
	for _, v := range variable {
		line = v.pattern.ReplaceAllString(line, v.name)
	}
	c.lines = append(c.lines, strings.ReplaceAll(line, "\x1e", "<RS>"))
}

// name returns value, and replaces it by name in all lines.
func (c *conversation) name(value, name string) string {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.names = append(c.names, value, name)
	return value
}

// token logs a driver in.
func (c *conversation) token() string {
	return c.name(c.srv.Login("d1", realtime.UserDriver), "TOKEN")
}

// request makes a request and returns its response, with the body unless that is a
// websocket.
func (c *conversation) request(method, query, body string, header http.Header) (*http.Response, string) {
	line := "> " + method + " " + query
	for name, values := range header {
		line += " [" + name + ": " + values[0] + "]"
	}
	if body != "" {
		line += " " + body
	}
	c.notef("%s", line)
	r, err := http.NewRequestWithContext(c.t.Context(), method, c.srv.URL()+realtime.Path+"?"+query, strings.NewReader(body))
	require.NoError(c.t, err)
	maps.Copy(r.Header, header)
	if strings.Contains(query, "websocket") {
		r.Header.Set("Connection", "Upgrade")
		r.Header.Set("Upgrade", "websocket")
		r.Header.Set("Sec-WebSocket-Version", "13")
		r.Header.Set("Sec-WebSocket-Key", "AAAAAAAAAAAAAAAAAAAAAA==")
	}
	res, err := c.srv.HTTPClient().Do(r)
	require.NoError(c.t, err)
	if res.StatusCode == http.StatusSwitchingProtocols {
		c.notef("< 101")
		return res, ""
	}
	b, err := io.ReadAll(res.Body)
	require.NoError(c.t, err)
	require.NoError(c.t, res.Body.Close())
	c.notef("< %d %s", res.StatusCode, b)
	return res, string(b)
}

// recordedConn is a websocket whose packets are recorded.
type recordedConn struct {
	c    *conversation
	body io.ReadWriteCloser
	done chan struct{}
}

// websocket opens a websocket and records the server's packets until it ends.
func (c *conversation) websocket(query string, header http.Header) *recordedConn {
	res, _ := c.request(http.MethodGet, query, "", header)
	require.Equal(c.t, http.StatusSwitchingProtocols, res.StatusCode)
	k := &recordedConn{c: c, body: res.Body.(io.ReadWriteCloser), done: make(chan struct{})}
	go k.read()
	synctest.Wait()
	return k
}

func (k *recordedConn) read() {
	defer close(k.done)
	for n := 0; ; n++ {
		if n == 3 && k.c.stall != nil {
			<-k.c.stall
		}
		b, err := wsutil.ReadServerText(k.body)
		var closed wsutil.ClosedError
		switch {
		case errors.As(err, &closed):
			k.c.notef("< close frame %d", closed.Code)
			return
		case err != nil:
			k.c.notef("< end of the connection")
			return
		case strings.Contains(string(b), wireNote.Name()):
			continue // as many as the connection holds
		}
		k.c.notef("< %s", b)
	}
}

// send sends packets, one at a time, and records the answers that arrive before time
// passes.
func (k *recordedConn) send(packets ...string) {
	for _, p := range packets {
		k.c.notef("> %s", p)
		require.NoError(k.c.t, wsutil.WriteClientText(k.body, []byte(p)))
		synctest.Wait()
	}
}

// waitForEnd waits until the server has closed the connection.
func (k *recordedConn) waitForEnd() {
	<-k.done
	_ = k.body.Close() // the server may have closed it
	synctest.Wait()
}

const (
	openWebSocket = "EIO=4&transport=websocket"
	openPolling   = "EIO=4&transport=polling"
)

// enter opens a websocket and connects a driver.
func (c *conversation) enter() *recordedConn {
	k := c.websocket(openWebSocket, nil)
	k.send(connectPacket(realtime.NamespaceDrivers, c.token()))
	return k
}

// enterByPolling opens a polling session, connects a driver and returns the query.
func (c *conversation) enterByPolling() string {
	_, body := c.request(http.MethodGet, openPolling, "", nil)
	query := openPolling + "&sid=" + c.name(strings.Split(body, `"`)[3], "SID")
	c.request(http.MethodPost, query, connectPacket(realtime.NamespaceDrivers, c.token()), nil)
	synctest.Wait()
	c.request(http.MethodGet, query, "", nil)
	return query
}

// leave disconnects the socket and closes the connection, from the client's side.
func (k *recordedConn) leave() {
	k.send("41/drivers,", "1")
	k.waitForEnd()
}

// closeUnused closes a connection that has no socket.
func (k *recordedConn) closeUnused() {
	k.send("1")
	k.waitForEnd()
}

func (c *conversation) refused(change func()) func() {
	return func() {
		token := c.token()
		change()
		k := c.websocket(openWebSocket, nil)
		k.send(connectPacket(realtime.NamespaceDrivers, token))
		k.closeUnused()
	}
}

type scenario struct {
	configure func(o *realtime.Options)
	talk      func(c *conversation)
}

// refusedAfter is a scenario in which the server refuses d1's CONNECT, because of what
// change has done.
func refusedAfter(change func(srv *realtimetest.Server)) scenario {
	return scenario{talk: func(c *conversation) { c.refused(func() { change(c.srv) })() }}
}

func publishing(e realtime.DomainEvent) func(c *conversation) {
	return func(c *conversation) {
		k := c.enter()
		c.notef("# %s is published", e.EventName())
		publish(c.t, c.srv, e)
		k.waitForEnd()
	}
}

var conversations = map[string]scenario{
	"handshake-websocket": {talk: func(c *conversation) { c.enter().leave() }},
	"handshake-polling": {talk: func(c *conversation) {
		query := c.enterByPolling()
		c.request(http.MethodPost, query, "41/drivers,\x1e1", nil)
	}},
	"handshake-upgrade": {talk: func(c *conversation) {
		query := c.enterByPolling()
		k := c.websocket(strings.Replace(query, "polling", "websocket", 1), nil)
		k.send("2probe", "5", `42/drivers,1["driver:status:update",{"isOnline":true}]`)
		k.leave()
	}},
	"handshake-eio3": {
		configure: func(o *realtime.Options) { o.Compat.AllowEIO3 = true },
		talk: func(c *conversation) {
			k := c.websocket("EIO=3&transport=websocket", http.Header{"Authorization": {"Bearer " + c.token()}})
			k.send("40/drivers,", "2")
			k.leave()
		},
	},
	"refused-missing_token": {talk: func(c *conversation) {
		k := c.websocket(openWebSocket, nil)
		k.send("40/drivers,")
		k.closeUnused()
	}},
	"refused-invalid_token": {talk: func(c *conversation) {
		k := c.websocket(openWebSocket, nil)
		k.send(`40/drivers,{"token":"nobody's"}`)
		k.closeUnused()
	}},
	"refused-namespace": {talk: func(c *conversation) {
		k := c.websocket(openWebSocket, nil)
		k.send("40/nowhere,")
		k.closeUnused()
	}},
	"refused-token_expired": {talk: func(c *conversation) {
		c.srv.Login("d1", realtime.UserDriver)
		k := c.websocket(openWebSocket, nil)
		k.send(connectPacket(realtime.NamespaceDrivers, c.name(c.srv.Tokens.Mint("d1", realtimetest.SessionID("d1"), -time.Minute), "TOKEN")))
		k.closeUnused()
	}},
	"refused-missing_claims": {talk: func(c *conversation) {
		c.srv.Tokens.Set("TOKEN", realtime.Claims{Subject: "d1", ExpiresAt: time.Now().Add(time.Hour)})
		k := c.websocket(openWebSocket, nil)
		k.send(connectPacket(realtime.NamespaceDrivers, "TOKEN"))
		k.closeUnused()
	}},
	"refused-user_not_found": refusedAfter(func(srv *realtimetest.Server) { srv.Users.Delete("d1") }),
	"refused-wrong_user_type": refusedAfter(func(srv *realtimetest.Server) {
		srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserPassenger, Active: true})
	}),
	"refused-user_inactive":   refusedAfter(func(srv *realtimetest.Server) { srv.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver}) }),
	"refused-invalid_session": refusedAfter(func(srv *realtimetest.Server) { srv.Sessions.Delete(realtimetest.SessionID("d1")) }),
	"refused-access_expired": refusedAfter(func(srv *realtimetest.Server) {
		past := time.Now().Add(-time.Minute)
		srv.Sessions.Set(realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1", AccessTokenExpiresAt: past})
	}),
	"refused-rate_limited": {
		configure: func(o *realtime.Options) {
			o.Unlimited, o.Rates.Connect = false, realtime.Rate{PerSecond: 1, Burst: 1}
		},
		talk: func(c *conversation) {
			k := c.websocket(openWebSocket, nil)
			k.send("40/drivers,", "40/drivers,")
			k.closeUnused()
		},
	},
	"refused-sockets-per-user": {
		configure: func(o *realtime.Options) {
			o.Unlimited, o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = false, 1, true
		},
		talk: func(c *conversation) {
			c.srv.Driver(c.t, "d1")
			k := c.websocket(openWebSocket, nil)
			k.send(connectPacket(realtime.NamespaceDrivers, c.token()))
			k.closeUnused()
		},
	},
	"refused-after-connect": {
		configure: func(o *realtime.Options) { o.Compat.RefuseAfterConnect = true },
		talk: func(c *conversation) {
			k := c.websocket(openWebSocket, nil)
			k.send("40/drivers,")
			k.closeUnused()
		},
	},
	"refused-with-disconnect": {
		configure: func(o *realtime.Options) { o.Compat.DisconnectRefused = true },
		talk: func(c *conversation) {
			k := c.websocket(openWebSocket, nil)
			k.send("40/drivers,")
			k.closeUnused()
		},
	},
	"ending-unavailable": {talk: func(c *conversation) {
		token := c.token()
		c.srv.Users.Fail(errors.New("the database is down"))
		k := c.websocket(openWebSocket, nil)
		k.send(connectPacket(realtime.NamespaceDrivers, token))
		k.waitForEnd()
	}},
	"ending-session-revoked": {talk: publishing(realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})},
	"ending-user-banned": {talk: publishing(realtime.UserAccessChanged{
		UserID: "d1", Change: realtime.AccessBanned, Reason: "three complaints",
	})},
	"ending-user-deactivated": {talk: publishing(realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessDeactivated})},
	"ending-role-changed":     {talk: publishing(realtime.UserAccessChanged{UserID: "d1", Change: realtime.AccessRoleChanged})},
	"ending-session-missing": {
		configure: func(o *realtime.Options) { o.Timeouts.SweepInterval = time.Minute },
		talk: func(c *conversation) {
			k := c.enter()
			c.notef("# the session's row is deleted, and the sweep does not find it")
			c.srv.Sessions.Delete(realtimetest.SessionID("d1"))
			k.waitForEnd()
		},
	},
	"ending-session-replaced": {talk: publishing(realtime.SessionRefreshed{
		UserID: "d1", OldSessionID: realtimetest.SessionID("d1"), NewSessionID: "new",
	})},
	"ending-expired": {talk: func(c *conversation) { c.enter().waitForEnd() }},
	"ending-drained": {talk: func(c *conversation) {
		k := c.enter()
		c.notef("# the server shuts down")
		require.NoError(c.t, c.srv.Realtime.Shutdown(c.t.Context()))
		k.waitForEnd()
	}},
	"ending-drained-polling": {talk: func(c *conversation) {
		query := c.enterByPolling()
		c.notef("# the server shuts down")
		done := make(chan error, 1)
		go func() { done <- c.srv.Realtime.Shutdown(c.t.Context()) }()
		synctest.Wait()
		c.request(http.MethodGet, query, "", nil)
		c.request(http.MethodGet, query, "", nil)
		require.NoError(c.t, <-done)
	}},
	"ending-heartbeat-timeout": {
		configure: func(o *realtime.Options) { o.Timeouts.PingInterval = 25 * time.Second },
		talk:      func(c *conversation) { c.enter().waitForEnd() },
	},
	"ending-protocol-error": {talk: func(c *conversation) {
		k := c.enter()
		k.send("47")
		k.waitForEnd()
	}},
	"ending-oversized-message": {
		configure: func(o *realtime.Options) { o.Limits.MaxPayload = 1000 },
		talk: func(c *conversation) {
			k := c.enter()
			k.send("4" + strings.Repeat("x", 1000))
			k.waitForEnd()
		},
	},
	"ending-slow-consumer": {talk: func(c *conversation) {
		c.stall = make(chan struct{})
		k := c.enter()
		c.notef("# the client stops reading, and more is queued for it than Limits.OutboxBytes")
		for range 100 {
			require.NoError(c.t, wireNote.Emit(c.srv.Realtime.Drivers().All(), strings.Repeat("x", 100_000)))
		}
		synctest.Wait()
		c.notef("# it reads what has arrived")
		close(c.stall)
		k.waitForEnd()
	}},
	"ending-rate-limit-breach": {
		configure: func(o *realtime.Options) {
			o.Unlimited = false
			o.Rates.Event, o.Rates.Breach = realtime.Rate{PerSecond: 1, Burst: 1}, realtime.Rate{PerSecond: 1, Burst: 2}
		},
		talk: func(c *conversation) {
			flood := func() {
				k := c.enter()
				k.send(`42/drivers,0["driver:trip:set",{}]`)
				c.notef("# ten seconds later: the following is no burst that the client has kept while it was offline")
				time.Sleep(10 * time.Second)
				for id := range 4 {
					k.send(fmt.Sprintf(`42/drivers,%d["driver:trip:set",{}]`, id+1))
				}
				k.waitForEnd()
			}
			flood()
			c.notef("# the client is back, and goes on")
			flood()
		},
	},
	"ending-sockets-per-user": {
		configure: func(o *realtime.Options) { o.Unlimited, o.Limits.SocketsPerUser = false, 1 },
		talk: func(c *conversation) {
			k := c.enter()
			c.notef("# the same user opens another connection")
			c.srv.Driver(c.t, "d1")
			k.waitForEnd()
		},
	},
	"ending-disconnect": {talk: func(c *conversation) {
		k := c.enter()
		c.notef("# Broadcast.Disconnect")
		c.srv.Realtime.Drivers().All().Disconnect()
		k.waitForEnd()
	}},
}

func TestServer_Conversations(t *testing.T) {
	for name, c := range conversations {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				configure := []func(o *realtime.Options){func(o *realtime.Options) {
					o.Timeouts.PingInterval, o.Timeouts.SweepInterval = 24*time.Hour, 24*time.Hour
				}}
				if c.configure != nil {
					configure = append(configure, c.configure)
				}
				k := &conversation{t: t, srv: realtimetest.NewServer(t, configure...)}
				c.talk(k)
				got := strings.Join(k.lines, "\n") + "\n"
				file := filepath.Join("testdata", "conversations", name+".txt")
				if *update {
					require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o755))
					require.NoError(t, os.WriteFile(file, []byte(got), 0o644))
				}
				want, err := os.ReadFile(file)
				require.NoError(t, err, "run with -update")
				require.Equal(t, string(want), got)
			})
		})
	}
}

// Each file belongs to a conversation, and each conversation has a file.
func TestServer_ConversationsAreComplete(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob("testdata/conversations/*.txt")
	require.NoError(t, err)
	for _, f := range files {
		require.Contains(t, conversations, strings.TrimSuffix(filepath.Base(f), ".txt"))
	}
	require.Len(t, files, len(conversations))
}
