// The checks of the handshake: who is admitted, who is refused, and what the client receives.

package realtime_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// attempt is a CONNECT to /drivers; a test makes one or two of its parts invalid.
type attempt struct {
	noToken bool
	secret  []byte
	claims  map[string]any
	user    *realtime.User
	session *realtime.Session
}

// refusalRows are the rows of the contract's table, in its order, each with the ways
// in which an attempt can fail.
var refusalRows = []struct {
	code    realtime.Code
	message string
	ways    map[string]func(a *attempt)
}{
	{realtime.CodeMissingToken, "Missing token", map[string]func(*attempt){
		"no token": func(a *attempt) { a.noToken = true },
	}},
	{realtime.CodeInvalidToken, "Invalid token", map[string]func(*attempt){
		"signature":     func(a *attempt) { a.secret = []byte("another secret, thirty-two bytes") },
		"issuer":        func(a *attempt) { a.claims["iss"] = "another" },
		"no issuer":     func(a *attempt) { delete(a.claims, "iss") },
		"audience":      func(a *attempt) { a.claims["aud"] = "passengers" },
		"not yet valid": func(a *attempt) { a.claims["nbf"] = time.Now().Add(time.Minute) },
		"too long":      func(a *attempt) { a.claims["x"] = strings.Repeat("x", 8<<10) },
		"no exp":        func(a *attempt) { delete(a.claims, "exp") },
	}},
	{realtime.CodeTokenExpired, "Access token expired", map[string]func(*attempt){
		"expired":     func(a *attempt) { changeExp(a, time.Now().Add(-time.Second)) },
		"expires now": func(a *attempt) { changeExp(a, time.Now()) },
	}},
	{realtime.CodeMissingClaims, "Missing sub/sid", map[string]func(*attempt){
		"no sub":       func(a *attempt) { delete(a.claims, "sub") },
		"no sid":       func(a *attempt) { delete(a.claims, "sid") },
		"empty sub":    func(a *attempt) { a.claims["sub"] = "" },
		"empty sid":    func(a *attempt) { a.claims["sid"] = "" },
		"sub a number": func(a *attempt) { a.claims["sub"] = 1 },
		"sid a list":   func(a *attempt) { a.claims["sid"] = []string{"s1"} },
		"Sub":          func(a *attempt) { a.claims["Sub"] = a.claims["sub"]; delete(a.claims, "sub") },
		"SID":          func(a *attempt) { a.claims["SID"] = a.claims["sid"]; delete(a.claims, "sid") },
	}},
	{realtime.CodeUserNotFound, "User not found", map[string]func(*attempt){
		"no user": func(a *attempt) { a.user = nil },
	}},
	{realtime.CodeWrongUserType, "Wrong userType", map[string]func(*attempt){
		"passenger": changeUser(func(u *realtime.User) { u.Type = realtime.UserPassenger }),
		"admin":     changeUser(func(u *realtime.User) { u.Type = realtime.UserAdmin }),
		"no type":   changeUser(func(u *realtime.User) { u.Type = "" }),
		"a claim says otherwise": func(a *attempt) {
			a.claims["userType"], a.claims["type"], a.claims["role"] = "driver", "driver", "driver"
			changeUser(func(u *realtime.User) { u.Type = realtime.UserPassenger })(a)
		},
	}},
	{realtime.CodeUserInactive, "User inactive", map[string]func(*attempt){
		"inactive": changeUser(func(u *realtime.User) { u.Active = false }),
	}},
	{realtime.CodeInvalidSession, "Invalid session", map[string]func(*attempt){
		"no session": func(a *attempt) { a.session = nil },
		"another's":  changeSession(func(s *realtime.Session) { s.UserID = "u2" }),
		"nobody's":   changeSession(func(s *realtime.Session) { s.UserID = "" }),
		"revoked":    changeSession(func(s *realtime.Session) { s.Revoked = true }),
	}},
	{realtime.CodeAccessExpired, "Access expired", map[string]func(*attempt){
		"access expired":     changeSession(func(s *realtime.Session) { s.AccessTokenExpiresAt = time.Now().Add(-time.Second) }),
		"access expires now": changeSession(func(s *realtime.Session) { s.AccessTokenExpiresAt = time.Now() }),
	}},
}

// changeExp leaves a token without exp as it is.
func changeExp(a *attempt, at time.Time) {
	if _, ok := a.claims["exp"]; ok {
		a.claims["exp"] = at
	}
}

func changeUser(f func(u *realtime.User)) func(*attempt) {
	return func(a *attempt) {
		if a.user != nil {
			f(a.user)
		}
	}
}

func changeSession(f func(s *realtime.Session)) func(*attempt) {
	return func(a *attempt) {
		if a.session != nil {
			f(a.session)
		}
	}
}

// TestHandshake_Refusals breaks an attempt in every way, and in every two ways of
// different rows: the client gets the code of the earlier row. The connection
// outlives all of them, and in the end the same user gets in on it.
func TestHandshake_Refusals(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		secret := []byte("a secret of thirty-two bytes, ok")
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) {
			o.Timeouts.PingInterval, o.Timeouts.Connect = time.Hour, time.Hour // the client only tries
			o.Tokens = newVerifier(t, secret, realtime.JWTOptions{
				Methods: []string{"HS256"}, Issuer: "rodando", Audiences: map[string]string{realtime.NamespaceDrivers: "drivers"},
			})
		})
		conn := openRaw(t, srv)
		bystander := openRaw(t, srv)
		prepare := func(breaks ...func(*attempt)) (packet string) {
			a := &attempt{
				secret: secret,
				claims: map[string]any{
					"sub": "u1", "sid": "s1", "exp": time.Now().Add(time.Hour), "iss": "rodando", "aud": []string{"web", "drivers"},
				},
				user:    &realtime.User{ID: "u1", Type: realtime.UserDriver, Active: true},
				session: &realtime.Session{ID: "s1", UserID: "u1"},
			}
			for _, b := range breaks {
				b(a)
			}
			srv.Users.Delete("u1")
			srv.Sessions.Delete("s1")
			if a.user != nil {
				srv.Users.Set(*a.user)
			}
			if a.session != nil {
				srv.Sessions.Set(*a.session)
			}
			if a.noToken {
				return "40/drivers,"
			}
			return connectPacket(realtime.NamespaceDrivers, logs.secret(realtimetest.MintJWT(a.secret, a.claims)))
		}
		refused := 0
		check := func(about string, code realtime.Code, message, packet string) {
			t.Helper()
			require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, code, message)}, conn.send(t, packet), about)
			refused++
			lines := logs.lines(t, logRefused)
			require.Len(t, lines, refused, about)
			last := lines[refused-1]
			require.Equal(t, string(code), last["code"], about)
			require.Equal(t, realtime.NamespaceDrivers, last["namespace"])
			require.NotEmpty(t, last["socket"])
			known := !slices.Contains([]realtime.Code{
				realtime.CodeMissingToken, realtime.CodeInvalidToken, realtime.CodeTokenExpired, realtime.CodeMissingClaims,
			}, code)
			require.Equal(t, known, last["user"] == "u1", "%s: user %v", about, last["user"])
			require.Equal(t, realtime.NamespaceDrivers+" "+string(code), logs.refusals()[refused-1])
			if refused%20 == 0 {
				time.Sleep(time.Second) // the log passes so many lines of a kind in a time
			}
		}
		for i, first := range refusalRows {
			for name, breakFirst := range first.ways {
				check(name, first.code, first.message, prepare(breakFirst))
				for _, second := range refusalRows[i+1:] {
					for also, breakSecond := range second.ways {
						check(name+" and "+also, first.code, first.message, prepare(breakSecond, breakFirst))
					}
				}
			}
		}
		require.False(t, conn.closed())
		require.Empty(t, logs.entered)
		require.Empty(t, logs.lines(t, logUndecided))
		requireEntered(t, conn.send(t, prepare()), realtime.NamespaceDrivers, "u1", "s1")
		require.Empty(t, bystander.received(), "no other client receives anything")
	})
}

func TestHandshake_TokenSources(t *testing.T) {
	const missing, invalid = "missing_token Missing token", "invalid_token Invalid token"
	long := func(n int) string { return strings.Repeat("L", n) }
	tests := []struct {
		name          string
		payload       string // of CONNECT
		authorization string
		want          string // the user, or code and message
	}{
		{name: "payload", payload: `{"token":"A"}`, want: "a"},
		{name: "payload, with others beside it", payload: `{"device":{"token":"B"},"token":"A","x":null}`, want: "a"},
		{name: "payload, Bearer", payload: `{"token":"Bearer A"}`, want: "a"},
		{name: "payload, bearer", payload: `{"token":"bearer A"}`, want: "a"},
		{name: "payload, bEARER and spaces", payload: `{"token":"bEARER   A "}`, want: "a"},
		{name: "payload before header", payload: `{"token":"A"}`, authorization: "Bearer B", want: "a"},
		{name: "payload before header, bad", payload: `{"token":"nobody's"}`, authorization: "Bearer B", want: invalid},
		{name: "payload escaped", payload: `{"token":"\u0041"}`, want: "a"},

		{name: "header", authorization: "Bearer B", want: "b"},
		{name: "header, bearer", authorization: "bearer B", want: "b"},
		{name: "header, BEARER", authorization: "BEARER B", want: "b"},
		{name: "header, spaces", authorization: "Bearer   B", want: "b"},
		{name: "header, without scheme", authorization: "B", want: missing},
		{name: "header, another scheme", authorization: "Basic B", want: missing},
		{name: "header, scheme only", authorization: "Bearer", want: missing},
		{name: "header, scheme and space", authorization: "Bearer ", want: missing},
		{name: "header, scheme run together", authorization: "BearerB", want: missing},
		{name: "header, bad", authorization: "Bearer nobody's", want: invalid},

		{name: "empty object falls to the header", payload: `{}`, authorization: "Bearer B", want: "b"},
		{name: "null falls to the header", payload: `{"token":null}`, authorization: "Bearer B", want: "b"},
		{name: "empty falls to the header", payload: `{"token":""}`, authorization: "Bearer B", want: "b"},
		{name: "only a scheme falls to the header", payload: `{"token":"Bearer "}`, authorization: "Bearer B", want: "b"},
		{name: "another case falls to the header", payload: `{"Token":"A","TOKEN":"A"}`, authorization: "Bearer B", want: "b"},
		{name: "nested falls to the header", payload: `{"auth":{"token":"A"}}`, authorization: "Bearer B", want: "b"},

		{name: "none", want: missing},
		{name: "empty object", payload: `{}`, want: missing},
		{name: "null", payload: `{"token":null}`, want: missing},
		{name: "empty", payload: `{"token":""}`, want: missing},
		{name: "another case", payload: `{"Token":"A"}`, want: missing},

		{name: "number", payload: `{"token":1}`, authorization: "Bearer B", want: invalid},
		{name: "true", payload: `{"token":true}`, authorization: "Bearer B", want: invalid},
		{name: "false", payload: `{"token":false}`, want: invalid},
		{name: "zero", payload: `{"token":0}`, want: invalid},
		{name: "list", payload: `{"token":["A"]}`, authorization: "Bearer B", want: invalid},
		{name: "object", payload: `{"token":{"token":"A"}}`, authorization: "Bearer B", want: invalid},

		{name: "8 KiB", payload: `{"token":"` + long(8192) + `"}`, want: "long"},
		{name: "over 8 KiB", payload: `{"token":"` + long(8193) + `"}`, want: invalid},
		{name: "8 KiB behind the scheme", payload: `{"token":"Bearer ` + long(8192) + `"}`, want: "long"},
		{name: "header, 8 KiB", authorization: "Bearer " + long(8192), want: "long"},
		{name: "header, over 8 KiB", authorization: "Bearer " + long(8193), want: invalid},
		{name: "header, far over 8 KiB", authorization: "Bearer " + long(500_000), want: invalid},
	}
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		for user, tokens := range map[string][]string{"a": {"A"}, "b": {"B"}, "long": {long(8192), long(8193)}} {
			srv.Login(user, realtime.UserDriver)
			for _, token := range tokens {
				srv.Tokens.Set(token, realtime.Claims{
					Subject: user, SessionID: realtimetest.SessionID(user), ExpiresAt: time.Now().Add(time.Hour),
				})
			}
		}
		logs.secret(long(100))
		logs.secret("nobody's")
		for _, test := range tests {
			var header []string
			if test.authorization != "" {
				header = []string{"Authorization", test.authorization}
			}
			conn := openRaw(t, srv, header...)
			got := conn.send(t, "40/drivers,"+test.payload)
			if code, message, refused := strings.Cut(test.want, " "); refused {
				require.Equal(t, []string{refusalPacket(realtime.NamespaceDrivers, realtime.Code(code), message)}, got, test.name)
				require.False(t, conn.closed(), test.name)
				continue
			}
			requireEntered(t, got, realtime.NamespaceDrivers, test.want, realtimetest.SessionID(test.want))
		}
	})
}

// TestHandshake_TokenOfTheRequest: the header counts on the request that opens
// the session, over polling and through an upgrade too.
func TestHandshake_TokenOfTheRequest(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		header := realtimetest.Header("Authorization", "bearer "+srv.Login("d1", realtime.UserDriver))
		for _, over := range []realtimetest.Option{realtimetest.Polling(), realtimetest.Upgrade()} {
			c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, over, header)
			require.NoError(t, err)
			require.Equal(t, "d1", realtimetest.Expect(t, c, realtime.EventHello).UserID)
		}
	})
}

// TestEventHello: it is the first event and there is one, whatever is emitted as soon
// as the socket can be reached.
func TestEventHello(t *testing.T) {
	over := map[string][]realtimetest.Option{
		"websocket": nil, "polling": {realtimetest.Polling()}, "upgrade": {realtimetest.Upgrade()},
	}
	greeting := realtime.NewEvent[string]("greeting")
	for name, opts := range over {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error {
					return greeting.Emit(s, "hello, "+s.Identity().UserID)
				})
				start := time.Now()
				c, err := srv.Dial(t.Context(), realtime.NamespaceDrivers,
					append(opts, realtimetest.Token(srv.Login("d1", realtime.UserDriver)))...)
				require.NoError(t, err)
				require.Equal(t, "hello, d1", realtimetest.Expect(t, c, greeting))
				hello := realtimetest.Expect(t, c, realtime.EventHello)
				require.True(t, hello.OK)
				require.Equal(t, realtime.NamespaceDrivers, hello.Namespace)
				require.Equal(t, "d1", hello.UserID)
				require.Equal(t, realtimetest.SessionID("d1"), hello.SessionID)
				require.WithinDuration(t, start, hello.ServerTime.Time, time.Second)
				require.Equal(t, "hello", c.Received()[0].Event)
				require.Len(t, c.Received(), 2)
			})
		})
	}
}

// TestHandshake_Rooms: the contract's table of rooms, and those of a namespace of
// the host's.
func TestHandshake_Rooms(t *testing.T) {
	tests := []struct {
		namespace string
		typ       realtime.UserType
		rooms     []string
	}{
		{"/drivers", realtime.UserDriver, []string{"driver:u1", "session:session-of-u1"}},
		{"/passengers", realtime.UserPassenger, []string{"passenger:u1", "session:session-of-u1"}},
		{"/admin", realtime.UserAdmin, []string{"admin:all", "admin:drivers", "admin:user:u1", "session:session-of-u1"}},
		{"/support", "agent", []string{"user:u1", "session:session-of-u1"}},
		{"/news", "", nil},
	}
	for _, test := range tests {
		t.Run(test.namespace, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				srv := realtimetest.NewServer(t)
				support := addNamespace(t, srv, "/support", realtime.NamespaceOptions{})
				news := addNamespace(t, srv, "/news", realtime.NamespaceOptions{Anonymous: true})
				var got []string
				whoami := realtime.NewCall[realtime.None, realtime.Identity]("whoami")
				for _, ns := range []*realtime.Namespace{
					srv.Realtime.Drivers(), srv.Realtime.Passengers(), srv.Realtime.Admin(), support, news,
				} {
					whoami.Handle(ns, func(_ context.Context, s *realtime.Socket, _ realtime.None) (realtime.Identity, error) {
						for _, r := range s.Rooms() {
							got = append(got, r.String())
						}
						return s.Identity(), nil
					})
				}
				var opts []realtimetest.Option
				want := realtime.Identity{}
				if test.typ != "" {
					opts = append(opts, realtimetest.Token(srv.Login("u1", test.typ)))
					want = realtime.Identity{UserID: "u1", UserType: test.typ, SessionID: realtimetest.SessionID("u1")}
				}
				c, err := srv.Dial(t.Context(), test.namespace, opts...)
				require.NoError(t, err)
				id, err := realtimetest.Call(t.Context(), c, whoami, realtime.None{})
				require.NoError(t, err)
				require.Equal(t, want, id)
				require.ElementsMatch(t, test.rooms, got)
			})
		})
	}
}

func addNamespace(t *testing.T, srv *realtimetest.Server, name string, o realtime.NamespaceOptions) *realtime.Namespace {
	t.Helper()
	ns, err := srv.Realtime.Namespace(name, o)
	require.NoError(t, err)
	return ns
}

// TestOptions_UserTypes: who may enter which namespace, by default, by Options.UserTypes
// and by NamespaceOptions.
func TestOptions_UserTypes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) {
			o.UserTypes = map[string][]realtime.UserType{realtime.NamespaceAdmin: {"dispatcher", "auditor"}}
		})
		addNamespace(t, srv, "/everybody", realtime.NamespaceOptions{})
		addNamespace(t, srv, "/fleet", realtime.NamespaceOptions{UserTypes: []realtime.UserType{realtime.UserDriver, "dispatcher"}})
		may := map[string][]realtime.UserType{
			realtime.NamespaceDrivers:    {realtime.UserDriver},
			realtime.NamespacePassengers: {realtime.UserPassenger},
			realtime.NamespaceAdmin:      {realtime.UserAdmin, "dispatcher", "auditor"},
			"/everybody":                 {realtime.UserDriver, realtime.UserPassenger, realtime.UserAdmin, "dispatcher", "auditor", "Driver", ""},
			"/fleet":                     {realtime.UserDriver, "dispatcher"},
		}
		conn := openRaw(t, srv)
		for namespace, types := range may {
			for _, typ := range []realtime.UserType{
				realtime.UserDriver, realtime.UserPassenger, realtime.UserAdmin, "dispatcher", "auditor", "Driver", "",
			} {
				user := "the " + string(typ)
				got := conn.send(t, connectPacket(namespace, logs.secret(srv.Login(user, typ))))
				if slices.Contains(types, typ) {
					requireEntered(t, got, namespace, user, realtimetest.SessionID(user))
					require.Empty(t, conn.send(t, "41"+namespace+","))
				} else {
					require.Equal(t, []string{refusalPacket(namespace, realtime.CodeWrongUserType, "Wrong userType")}, got, "%q to %s", typ, namespace)
				}
			}
		}
	})
}

// TestNamespaceOptions_Authorize: the last word of a namespace of the host's.
func TestNamespaceOptions_Authorize(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs, func(o *realtime.Options) { o.Compat.RefuseUnavailable = true })
		var asked []realtime.Identity
		var answer func() error
		addNamespace(t, srv, "/support", realtime.NamespaceOptions{
			UserTypes: []realtime.UserType{"agent"},
			Authorize: func(ctx context.Context, r realtime.AuthorizeRequest) error {
				asked = append(asked, r.Identity)
				deadline, ok := ctx.Deadline()
				require.True(t, ok)
				require.Equal(t, 5*time.Second, time.Until(deadline))
				return answer()
			},
		})
		conn := openRaw(t, srv)
		connect := connectPacket("/support", logs.secret(srv.Login("u1", "agent")))

		offDuty := realtime.Errorf("off_duty", "Come back at nine")
		for _, err := range []error{offDuty, fmt.Errorf("wrapped: %w", offDuty)} {
			answer = func() error { return err }
			require.Equal(t, []string{refusalPacket("/support", "off_duty", "Come back at nine")}, conn.send(t, connect))
		}
		for i, f := range []func() error{
			func() error { return errors.New("the roster does not answer") },
			func() error { panic("in Authorize") },
			func() error { return realtime.ErrClosed },
			func() error { var e *realtime.Error; return e }, // no nil error
		} {
			answer = f
			require.Equal(t, []string{refusalPacket("/support", realtime.CodeUnavailable, "Service unavailable")}, conn.send(t, connect), i)
		}
		lines := logs.lines(t, logUndecided)
		require.Len(t, lines, 4)
		require.Contains(t, lines[0]["error"], "the roster does not answer")
		require.Contains(t, lines[1]["error"], "in Authorize")
		require.Contains(t, lines[1]["stack"], "TestNamespaceOptions_Authorize")

		before := len(asked)
		require.Equal(t, []string{refusalPacket("/support", realtime.CodeWrongUserType, "Wrong userType")},
			conn.send(t, connectPacket("/support", logs.secret(srv.Login("d1", realtime.UserDriver)))))
		require.Len(t, asked, before, "it has the last word, and is not asked before")

		answer = func() error { return nil }
		requireEntered(t, conn.send(t, connect), "/support", "u1", realtimetest.SessionID("u1"))
		for _, id := range asked {
			require.Equal(t, realtime.Identity{UserID: "u1", UserType: "agent", SessionID: realtimetest.SessionID("u1")}, id)
		}
	})
}

func TestNamespaceOptions_Anonymous(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, withLogs := recordLogs(t)
		srv := realtimetest.NewServer(t, withLogs)
		addNamespace(t, srv, "/news", realtime.NamespaceOptions{Anonymous: true})
		srv.Tokens.Fail(errors.New("asked"))
		srv.Users.Fail(errors.New("asked"))
		srv.Sessions.Fail(errors.New("asked"))
		for _, packet := range []string{"40/news,", "40/news,{}", connectPacket("/news", logs.secret("whatever")), `40/news,{"token":1}`} {
			conn := openRaw(t, srv, "Authorization", "Bearer "+logs.secret("a header"))
			requireEntered(t, conn.send(t, packet), "/news", "", "")
			require.Equal(t, []string{`43/news,1[{"ok":false,"error":{"code":"not_found","message":"no such event"}}]`},
				conn.send(t, `42/news,1["auth:refresh",{"token":"x"}]`), "there is nothing to renew")
		}
		require.Empty(t, logs.refusals())
	})
}

// TestNamespace_AuthenticatedEachOnItsOwn: one connection, several users. One
// refusal or departure does not touch the others.
func TestNamespace_AuthenticatedEachOnItsOwn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		d, p, a := srv.Login("d1", realtime.UserDriver), srv.Login("p1", realtime.UserPassenger), srv.Login("a1", realtime.UserAdmin)
		driver, err := srv.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(d))
		require.NoError(t, err)
		realtimetest.Expect(t, driver, realtime.EventHello)

		_, err = driver.Join(t.Context(), realtime.NamespacePassengers)
		requireRefused(t, err, realtime.CodeMissingToken, "Missing token")
		_, err = driver.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(d))
		requireRefused(t, err, realtime.CodeWrongUserType, "Wrong userType")
		_, err = driver.Join(t.Context(), "/nowhere", realtimetest.Token(d))
		requireRefused(t, err, "", "Invalid namespace")

		passenger, err := driver.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(p))
		require.NoError(t, err)
		require.Equal(t, "p1", realtimetest.Expect(t, passenger, realtime.EventHello).UserID)
		admin, err := driver.Join(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(a))
		require.NoError(t, err)
		require.Equal(t, "a1", realtimetest.Expect(t, admin, realtime.EventHello).UserID)

		srv.Publish(t, realtime.TripRequested{TripID: "t1", PassengerID: "p1"})
		realtimetest.Expect(t, passenger, realtime.EventTripRequested)
		realtimetest.Expect(t, admin, realtime.EventTripRequested)
		realtimetest.ExpectNone(t, driver)

		passenger.Close()
		require.True(t, driver.Connected())
		srv.Publish(t, realtime.TripRequested{TripID: "t2", PassengerID: "p1"})
		require.Equal(t, "t2", realtimetest.Expect(t, admin, realtime.EventTripRequested).TripID)
		again, err := driver.Join(t.Context(), realtime.NamespacePassengers, realtimetest.Token(p))
		require.NoError(t, err)
		realtimetest.Expect(t, again, realtime.EventHello)
		realtimetest.ExpectNone(t, driver)
	})
}
