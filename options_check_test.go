// The mistakes that New, Namespace and the declarations report, and the texts of their errors.

package realtime_test

import (
	"context"
	"encoding/json"
	"log/slog"
	"math"
	"net/netip"
	"reflect"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

// validOptions returns options of which nothing is wrong.
func validOptions() realtime.Options {
	return realtime.Options{Tokens: emptyHost{}, Users: emptyHost{}, Sessions: emptyHost{}}
}

// mistakesOf returns the lines of New's error.
func mistakesOf(t *testing.T, o realtime.Options) []string {
	t.Helper()
	rt, err := realtime.New(o)
	if err == nil {
		require.NoError(t, rt.Shutdown(t.Context()))
		require.Fail(t, "New took it")
	}
	return strings.Split(err.Error(), "\n")
}

func TestNew_Mistakes(t *testing.T) {
	t.Parallel()
	var bus *realtime.MemoryBus
	tests := map[string]struct {
		change func(o *realtime.Options)
		want   string // all of the error, without its prefix
	}{
		"no tokens":   {func(o *realtime.Options) { o.Tokens = nil }, "Options.Tokens is required; NewJWTVerifier returns one"},
		"no users":    {func(o *realtime.Options) { o.Users = nil }, "Options.Users is required"},
		"no sessions": {func(o *realtime.Options) { o.Sessions = nil }, "Options.Sessions is required; set TokenSessions if there are no login sessions"},
		"both kinds of sessions": {
			func(o *realtime.Options) { o.TokenSessions = true },
			"Options.TokenSessions is set and does not use Sessions; leave out one of the two",
		},
		"typed nil": {func(o *realtime.Options) { o.Bus = bus }, "Options.Bus is a nil *realtime.MemoryBus; leave it out or set it"},
		"the error of NewJWTVerifier was ignored": {
			func(o *realtime.Options) { o.Tokens = (*realtime.JWTVerifier)(nil) },
			"Options.Tokens is a nil *realtime.JWTVerifier; leave it out or set it",
		},
		"typed nil adapter": {
			func(o *realtime.Options) { o.Cluster.Adapter = (*realtimetest.HubNode)(nil) },
			"Options.Cluster.Adapter is a nil *realtimetest.HubNode; leave it out or set it",
		},
		"fan-out of no bus": {func(o *realtime.Options) { o.Cluster.BusFanOut = true }, "Options.Cluster.BusFanOut requires Options.Bus, which is not set"},

		"namespace's name": {
			func(o *realtime.Options) { o.Namespaces = map[string]realtime.NamespaceOptions{"lab": {}} },
			`namespace "lab": a name must be UTF-8, begin with a slash, contain no comma or question mark, and have at most 256 bytes`,
		},
		"namespace twice": {
			func(o *realtime.Options) { o.Namespaces = map[string]realtime.NamespaceOptions{"/admin": {}} },
			`Options.Namespaces: "/admin" is a built-in namespace; Options.UserTypes admits further user types to it`,
		},
		"anonymous users": {
			func(o *realtime.Options) {
				o.Namespaces = map[string]realtime.NamespaceOptions{"/lab": {Anonymous: true, UserTypes: []realtime.UserType{"agent"}}}
			},
			`namespace "/lab": UserTypes needs an identity, and clients have none if Anonymous is set; leave out one of the two`,
		},
		"empty type": {
			func(o *realtime.Options) {
				o.Namespaces = map[string]realtime.NamespaceOptions{"/lab": {UserTypes: []realtime.UserType{""}}}
			},
			`namespace "/lab": UserTypes has an empty type`,
		},
		"types of no namespace": {
			func(o *realtime.Options) { o.UserTypes = map[string][]realtime.UserType{"/driver": {"courier"}} },
			`Options.UserTypes: "/driver" is not one of /drivers, /passengers, /admin; set NamespaceOptions.UserTypes of other namespaces`,
		},
		"an empty further type": {
			func(o *realtime.Options) { o.UserTypes = map[string][]realtime.UserType{"/drivers": {"courier", ""}} },
			`Options.UserTypes: "/drivers" has an empty type`,
		},
		"a type that is too long": {
			func(o *realtime.Options) {
				long := realtime.UserType(strings.Repeat("x", 65))
				o.UserTypes = map[string][]realtime.UserType{"/drivers": {long[:64], long}}
			},
			`Options.UserTypes: "/drivers" has a type that is longer than 64 bytes, or contains NUL or invalid UTF-8`,
		},
		"a type that is no text": {
			func(o *realtime.Options) {
				o.Namespaces = map[string]realtime.NamespaceOptions{"/lab": {UserTypes: []realtime.UserType{"\xff"}}}
			},
			`namespace "/lab": UserTypes has a type that is longer than 64 bytes, or contains NUL or invalid UTF-8`,
		},

		"path": {
			func(o *realtime.Options) { o.Origins.Allowed = []string{"https://app.example.com/map"} },
			`Options.Origins.Allowed: no page has the origin "https://app.example.com/map": it must be scheme://host or scheme://host:port, in ASCII, without a path`,
		},
		"pattern": {
			func(o *realtime.Options) { o.Origins.Allowed = []string{"https://*.com"} },
			`Options.Origins.Allowed: no page has the origin "https://*.com": two labels must follow a *, or anybody's domain would match`,
		},
		"an address that browsers write in another way": {
			func(o *realtime.Options) { o.Origins.Allowed = []string{"http://127.1:3000"} },
			`Options.Origins.Allowed: no page has the origin "http://127.1:3000": browsers write an IP address in its short form, such as 192.0.2.1 or [2001:db8::1]`,
		},
		"credentials for all": {
			func(o *realtime.Options) { o.Origins = realtime.Origins{Allowed: []string{"*"}, Credentials: true} },
			`Options.Origins.Allowed "*" can't go with Credentials: browsers refuse it; list the origins`,
		},
		"credentials for files": {
			func(o *realtime.Options) {
				o.Origins = realtime.Origins{Allowed: realtime.WebViewOrigins(), Credentials: true}
			},
			`Options.Origins.Allowed: "file://" can't go with Credentials: any file, or any page in a sandbox, has that origin`,
		},
		"credentials for none": {
			func(o *realtime.Options) { o.Origins.Credentials = true },
			"Options.Origins.Credentials is for the origins in Allowed, which is empty",
		},
		"no proxy": {
			func(o *realtime.Options) { o.TrustedProxies = make([]netip.Prefix, 1) },
			"Options.TrustedProxies: invalid Prefix contains no address; netip.MustParsePrefix returns a valid one",
		},
		"IPv4 proxy in IPv6": {
			func(o *realtime.Options) {
				o.TrustedProxies = []netip.Prefix{netip.PrefixFrom(netip.MustParseAddr("::ffff:10.0.0.0"), 104)}
			},
			"Options.TrustedProxies: ::ffff:10.0.0.0/104 contains no address; write an IPv4 address as such",
		},
		"zero logger": {func(o *realtime.Options) { o.Logger = &slog.Logger{} }, "Options.Logger is the zero value; slog.New returns a logger"},
		"namespace of no text": {
			func(o *realtime.Options) { o.Namespaces = map[string]realtime.NamespaceOptions{"/\xff": {}} },
			`namespace "/\xff": a name must be UTF-8, begin with a slash, contain no comma or question mark, and have at most 256 bytes`,
		},
		"transport": {
			func(o *realtime.Options) { o.Transports = []realtime.Transport{"Polling"} },
			`Options.Transports: "Polling" is neither "polling" nor "websocket"`,
		},
		"transport twice": {
			func(o *realtime.Options) {
				o.Transports = []realtime.Transport{realtime.TransportPolling, realtime.TransportPolling}
			},
			`Options.Transports: "polling" is listed twice`,
		},
		"token of whom": {
			func(o *realtime.Options) { o.Compat.LegacyQueryToken = true },
			"Options.Compat.LegacyQueryToken requires AllowEIO3; only EIO3 clients use it",
		},

		"seconds without a unit": {
			func(o *realtime.Options) { o.Timeouts.PingInterval = 25 },
			"Options.Timeouts.PingInterval is 25ns; write 25 * time.Second if seconds are meant",
		},
		"the same where negative means off": {
			func(o *realtime.Options) { o.Timeouts.SweepInterval = time.Millisecond - 1 },
			"Options.Timeouts.SweepInterval is 999.999µs; it must be 1ms or more, and a number without a unit is in nanoseconds",
		},
		"negative": {
			func(o *realtime.Options) { o.Timeouts.Handler = -1 },
			"Options.Timeouts.Handler is negative; leave it out for 10s",
		},

		"an overflow": {
			func(o *realtime.Options) { o.Timeouts.PingTimeout = math.MaxInt64 },
			"Options.Timeouts.PingTimeout is 2562047h47m16.854775807s; it must be 8760h0m0s or less",
		},
		"a delay that nothing has": {
			func(o *realtime.Options) {
				o.Compat.RefuseUnavailable, o.Timeouts.UnavailableDelay = true, time.Second
			},
			"Options.Timeouts.UnavailableDelay is set and Compat.RefuseUnavailable closes no transport after it; leave out one of the two",
		},

		"no room for a CONNECT": {
			func(o *realtime.Options) { o.Limits.MaxPayload = 999 },
			"Options.Limits.MaxPayload is 999, which is too small for any client; it must be 1000 or more",
		},
		"no room for a name": {
			func(o *realtime.Options) { o.Limits.EventName = 19 },
			"Options.Limits.EventName is 19, which is too small for any client; it must be 20 or more",
		},
		"no room for hello": {
			func(o *realtime.Options) { o.Limits.OutboxMessages = 2 },
			"Options.Limits.OutboxMessages is 2, which is too small for any client; it must be 16 or more",
		},
		"no namespace": {func(o *realtime.Options) { o.Limits.Namespaces = -1 }, "Options.Limits.Namespaces is negative; leave it out for 8"},
		"no draining":  {func(o *realtime.Options) { o.Limits.DrainRate = -1 }, "Options.Limits.DrainRate is negative; leave it out for 2500"},

		"more than memory": {
			func(o *realtime.Options) { o.Limits.RepoConcurrency = math.MaxInt },
			"Options.Limits.RepoConcurrency is 9223372036854775807; it must be 1073741824 or less",
		},
		"extra sockets of no limit": {
			func(o *realtime.Options) { o.Limits.SocketsPerUser, o.Limits.RefuseExtraSockets = -1, true },
			"Options.Limits.RefuseExtraSockets is set and SocketsPerUser is no limit; leave out one of the two",
		},

		"no burst": {
			func(o *realtime.Options) { o.Rates.Connect = realtime.Rate{PerSecond: 1} },
			"Options.Rates.Connect is {PerSecond:1 Burst:0}; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit",
		},
		"a burst and nothing after it": {
			func(o *realtime.Options) { o.Rates.User = realtime.Rate{Burst: 5} },
			"Options.Rates.User is {PerSecond:0 Burst:5}; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit",
		},
		"no number": {
			func(o *realtime.Options) { o.Rates.Event = realtime.Rate{PerSecond: math.NaN(), Burst: 5} },
			"Options.Rates.Event is {PerSecond:NaN Burst:5}; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit",
		},
		"of an event": {
			func(o *realtime.Options) { o.Rates.Events = map[string]realtime.Rate{"chat": {}} },
			`Options.Rates.Events: "chat" is {PerSecond:0 Burst:0}; PerSecond and Burst must both be positive and finite, or PerSecond negative for no limit`,
		},
		"a burst without end": {
			func(o *realtime.Options) { o.Rates.Handshake = realtime.Rate{PerSecond: 1, Burst: math.MaxInt} },
			"Options.Rates.Handshake is {PerSecond:1 Burst:9223372036854775807}; Burst must be 1073741824 or less",
		},
		"of an event whose burst has no end": {
			func(o *realtime.Options) {
				o.Rates.Events = map[string]realtime.Rate{"chat": {PerSecond: 1, Burst: math.MaxInt}}
			},
			`Options.Rates.Events: "chat" is {PerSecond:1 Burst:9223372036854775807}; Burst must be 1073741824 or less`,
		},
		"of a name that no client may send": {
			func(o *realtime.Options) {
				o.Limits.EventName, o.Rates.Events = 20, map[string]realtime.Rate{"twenty-one characters": {PerSecond: 1, Burst: 1}}
			},
			`Options.Rates.Events: "twenty-one characters" has 21 bytes, and Limits.EventName is 20`,
		},
		"of no event": {
			func(o *realtime.Options) {
				o.Rates.Events = map[string]realtime.Rate{"disconnect": {PerSecond: 1, Burst: 1}}
			},
			`Options.Rates.Events: an event cannot be called "disconnect": Socket.IO reserves that name; choose another`,
		},
		"a part of the handlers above all": {
			func(o *realtime.Options) { o.Limits.Handlers, o.Limits.HandlersPerEvent = 10, 11 },
			"Options.Limits.HandlersPerEvent is 11 and has no effect, because Handlers is 10; leave it out, or set 10 or less",
		},
		"an address above all connections": {
			func(o *realtime.Options) { o.Limits.Connections, o.Limits.ConnectionsPerIP = 10, 11 },
			"Options.Limits.ConnectionsPerIP is 11 and has no effect, because Connections is 10; leave it out, or set 10 or less",
		},
		"an address above all that have no socket": {
			func(o *realtime.Options) { o.Limits.Unauthenticated, o.Limits.UnauthenticatedPerIP = 10, 11 },
			"Options.Limits.UnauthenticatedPerIP is 11 and has no effect, because Unauthenticated is 10; leave it out, or set 10 or less",
		},
		"unlimited number": {
			func(o *realtime.Options) { o.Unlimited, o.Limits.SocketsPerUser = true, 3 },
			"Options.Limits.SocketsPerUser is set and Unlimited switches it off; leave out one of the two",
		},
		"unlimited sockets": {
			func(o *realtime.Options) { o.Unlimited, o.Limits.RefuseExtraSockets = true, true },
			"Options.Limits.RefuseExtraSockets is set and Unlimited switches it off; leave out one of the two",
		},
		"unlimited rate": {
			func(o *realtime.Options) {
				o.Unlimited, o.Rates.User = true, realtime.Rate{PerSecond: 1, Burst: 1}
			},
			"Options.Rates.User is set and Unlimited switches it off; leave out one of the two",
		},
		"unlimited events": {
			func(o *realtime.Options) {
				o.Unlimited, o.Rates.Events = true, map[string]realtime.Rate{"chat": {PerSecond: 1, Burst: 1}}
			},
			"Options.Rates.Events is set and Unlimited switches it off; leave out one of the two",
		},
	}
	for name, tt := range tests {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			o := validOptions()
			tt.change(&o)
			require.Equal(t, []string{"realtime: " + tt.want}, mistakesOf(t, o))
		})
	}
}

// A host that lowers one limit need not know the defaults of the others.
func TestNew_LimitOfTheWholeAlone(t *testing.T) {
	t.Parallel()
	for name, change := range map[string]func(l *realtime.Limits){
		"handlers":                 func(l *realtime.Limits) { l.Handlers = 1 },
		"handlers of an event":     func(l *realtime.Limits) { l.HandlersPerEvent = 100_000 },
		"connections":              func(l *realtime.Limits) { l.Connections = 1 },
		"of an address":            func(l *realtime.Limits) { l.ConnectionsPerIP = 1 },
		"without a socket":         func(l *realtime.Limits) { l.Unauthenticated = 1 },
		"as much as the whole":     func(l *realtime.Limits) { l.Connections, l.ConnectionsPerIP = 10, 10 },
		"the whole without limit":  func(l *realtime.Limits) { l.Handlers, l.HandlersPerEvent = -1, 10 },
		"the part without limit":   func(l *realtime.Limits) { l.Connections, l.ConnectionsPerIP = 10, -1 },
		"which raises that of /24": func(l *realtime.Limits) { l.ConnectionsPerIP, l.UnauthenticatedPerIP = 10, 5000 },
	} {
		o := validOptions()
		change(&o.Limits)
		rt, err := realtime.New(o)
		require.NoError(t, err, name)
		require.NoError(t, rt.Shutdown(t.Context()), name)
	}
}

// The mistakes of one configuration have one order, and none hides another.
func TestNew_MistakesInOrder(t *testing.T) {
	t.Parallel()
	o := realtime.Options{
		Namespaces: map[string]realtime.NamespaceOptions{"a": {}, "b": {}, "c": {Anonymous: true, Authorize: func(context.Context, realtime.AuthorizeRequest) error { return nil }}},
		UserTypes:  map[string][]realtime.UserType{"/x": nil, "/y": nil, "/z": nil},
		Origins:    realtime.Origins{Allowed: []string{"NULL", "wss://*.com"}},
		Timeouts:   realtime.Timeouts{PingInterval: 1, PingTimeout: -1, Upgrade: 1, Connect: -1, Ack: 1, PresenceGrace: 1},
		Limits:     realtime.Limits{MaxPayload: 1, Depth: -1, Values: 1, QueuedEvents: -1},
		Rates: realtime.Rates{
			Location: realtime.Rate{Burst: 1}, Handshake: realtime.Rate{Burst: 1},
			Events: map[string]realtime.Rate{"a": {}, "b": {}, "connect": {}},
		},
	}
	first := mistakesOf(t, o)
	for range 20 {
		require.Equal(t, first, mistakesOf(t, o))
	}
	require.Len(t, first, 3+4+3+2+6+4+2+4)
	var at int
	for _, part := range []string{"Tokens", "Users", `"a"`, `"b"`, `"c"`, `"/x"`, `"/y"`, `"/z"`, "NULL", "wss:", "PingInterval", "Upgrade", "Ack", "MaxPayload", "Values", "Location", "Handshake", `"a"`, `"b"`, `"connect"`} {
		for at < len(first) && !strings.Contains(first[at], part) {
			at++
		}
		require.Less(t, at, len(first), "%s is not in its place in\n%s", part, strings.Join(first, "\n"))
	}
}

// The least of every limit is enough to log in and to use the longest event.
func TestNew_LeastLimitsLetClientsIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			o.Limits = realtime.Limits{
				MaxPayload: 1000, PacketsPerBody: 1, Attachments: 1, EventName: 20, Depth: 4, Values: 32, QueuedEvents: 1,
				OutboxBytes: 16 << 10, OutboxMessages: 16, RoomsPerSocket: 1, Namespaces: 1, PendingAcks: 1,
				Handlers: 1, HandlersPerEvent: 1, RememberedEvents: 1, RememberedCalls: 1, RememberedCallBytes: 1 << 20, RepoConcurrency: 1, DrainRate: 1,
				Connections: 1, ConnectionsPerIP: 1, Unauthenticated: 1, UnauthenticatedPerIP: 1, SocketsPerUser: 1,
			}
			o.Unlimited = false
		})
		driver := srv.Driver(t, "d1")
		require.Contains(t, ackOf(t, driver, "driver:location:ping",
			`{"lat":1,"lng":2,"accuracyMeters":3,"speedMps":4,"headingDeg":5,"reportedAt":"`+time.Now().UTC().Format(time.RFC3339)+`"}`), `"ok":true`)
		driver.Close()
		polling := srv.Driver(t, "d2", realtimetest.Polling())
		require.Contains(t, ackOf(t, polling, "driver:status:update", `{"isOnline":true}`), `"ok":true`)
	})
}

// With the greatest values nothing overflows.
func TestNew_GreatestValuesLetClientsIn(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		const longest, most = 365 * 24 * time.Hour, 1 << 30
		srv := realtimetest.NewServer(t, func(o *realtime.Options) {
			for _, group := range []any{&o.Timeouts, &o.Limits, &o.Rates} {
				for _, field := range reflect.ValueOf(group).Elem().Fields() {
					switch v := field.Addr().Interface().(type) {
					case *time.Duration:
						*v = longest
					case *int:
						*v = most
					case *realtime.Rate:
						*v = realtime.Rate{PerSecond: most, Burst: most}
					}
				}
			}
			o.Timeouts.Close = 0 // Shutdown waits for it
			o.Unlimited = false
		})
		srv.Realtime.Drivers().OnDisconnect(func(ctx context.Context, _ *realtime.Socket, _ realtime.DisconnectReason) {
			require.NoError(t, ctx.Err())
		})
		for _, opts := range [][]realtimetest.Option{nil, {realtimetest.Polling()}} {
			driver := srv.Driver(t, "d1", opts...)
			require.Contains(t, ackOf(t, driver, "driver:status:update", `{"isOnline":true}`), `"ok":true`)
			driver.Close()
		}
	})
}

func TestNamespace_Mistakes(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(validOptions())
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	_, err = rt.Namespace("x?", realtime.NamespaceOptions{
		Anonymous: true, UserTypes: []realtime.UserType{""}, Authorize: func(context.Context, realtime.AuthorizeRequest) error { return nil },
	})
	require.Error(t, err)
	require.Len(t, strings.Split(err.Error(), "\n"), 4, "all at once")
	_, err = rt.Namespace("/"+strings.Repeat("x", 256), realtime.NamespaceOptions{})
	require.ErrorContains(t, err, "at most 256 bytes", "no client could name it")
}

// A declaration has nobody to return an error to.
func TestDeclarations_PanicWithTheRemedy(t *testing.T) {
	t.Parallel()
	names := map[string]string{
		"":                       "an event's name is empty",
		strings.Repeat("x", 257): "an event's name has 257 bytes; the longest has 256",
		"x\xff":                  `an event cannot be called "x\xff": the name must be UTF-8`,
	}
	for _, reserved := range []string{"connect", "connect_error", "disconnect", "disconnecting", "newListener", "removeListener"} {
		names[reserved] = `an event cannot be called "` + reserved + `": Socket.IO reserves that name; choose another`
	}
	for name, why := range names {
		require.PanicsWithValue(t, "realtime: NewEvent: "+why, func() { realtime.NewEvent[string](name) })
		require.PanicsWithValue(t, "realtime: NewCall: "+why, func() { realtime.NewCall[string, string](name) })
		require.PanicsWithValue(t, "realtime: NewQuery: "+why, func() { realtime.NewQuery[string, string](name) })
	}
	require.NotPanics(t, func() { realtime.NewEvent[string](strings.Repeat("x", 256)) })
}

func TestHandle_PanicsWhenNothingCanBeHandled(t *testing.T) {
	t.Parallel()
	rt, err := realtime.New(validOptions())
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	drivers := rt.Drivers()
	chat := realtime.NewCall[string, string]("chat")
	long := strings.Repeat("x", 129)
	handle := func(context.Context, *realtime.Socket, string) (string, error) { return "", nil }
	raw := func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
		return realtime.Raw{}, nil
	}
	for why, f := range map[string]func(){
		`realtime: Handle of "chat": the handler is nil`:                                                                      func() { chat.Handle(drivers, nil) },
		`realtime: Handle of "chat": the namespace is nil; Server.Of returns nil for one that does not exist`:                 func() { chat.Handle(rt.Of("/lab"), handle) },
		`realtime: Handle of "` + long + `": the name has 129 bytes, and Limits.EventName is 128`:                             func() { realtime.NewCall[string, string](long).Handle(drivers, handle) },
		`realtime: Handle of "": an event's name is empty`:                                                                    func() { (realtime.Call[string, string]{}).Handle(drivers, handle) },
		`realtime: HandleRaw of "chat": the handler is nil`:                                                                   func() { drivers.HandleRaw("chat", nil) },
		`realtime: HandleRaw of "connect": an event cannot be called "connect": Socket.IO reserves that name; choose another`: func() { drivers.HandleRaw("connect", raw) },
		`realtime: HandleRaw of "chat": the namespace is nil; Server.Of returns nil for one that does not exist`:              func() { rt.Of("/lab").HandleRaw("chat", raw) },
		`realtime: OnServerEmit: the function is nil`:                                                                         func() { drivers.OnServerEmit("chat", nil) },
		`realtime: OnServerEmit: the namespace is nil; Server.Of returns nil for one that does not exist`:                     func() { rt.Of("/lab").OnServerEmit("chat", func(realtime.Raw) {}) },
		`realtime: OnConnect: the namespace is nil; Server.Of returns nil for one that does not exist`:                        func() { rt.Of("/lab").OnConnect(nil) },
		`realtime: OnDisconnect: the namespace is nil; Server.Of returns nil for one that does not exist`:                     func() { rt.Of("/lab").OnDisconnect(nil) },
		`realtime: Use: the namespace is nil; Server.Of returns nil for one that does not exist`:                              func() { rt.Of("/lab").Use() },
		`realtime: ServerEmit: the namespace is nil; Server.Of returns nil for one that does not exist`:                       func() { _ = rt.Of("/lab").ServerEmit(t.Context(), "chat") },
		`realtime: OnServerEmit: an event's name is empty`:                                                                    func() { drivers.OnServerEmit("", func(realtime.Raw) {}) },
		`realtime: OnServerEmit: an event between nodes cannot be called "connection": Socket.IO reserves that name; choose another`: func() {
			drivers.OnServerEmit("connection", func(realtime.Raw) {})
		},
	} {
		require.PanicsWithValue(t, why, f)
	}
}

func TestEmit_PanicsWithoutASocket(t *testing.T) {
	t.Parallel()
	event, query := realtime.NewEvent[int]("note"), realtime.NewQuery[int, int]("question")
	var none *realtime.Socket
	for why, f := range map[string]func(){
		"realtime: Emit of note: the socket is nil":    func() { _ = event.Emit(none, 1) },
		"realtime: Ask of question: the socket is nil": func() { _, _ = query.Ask(t.Context(), none, 1) },
		"realtime: ExceptSocket: the socket is nil":    func() { realtime.Broadcast{}.ExceptSocket(none) },
	} {
		require.PanicsWithValue(t, why, f)
	}
	require.PanicsWithValue(t, "realtime: Emit of note: the socket is nil", func() { _ = event.Emit(nil, 1) })
}

// badRaws are arguments that no client could decode.
var badRaws = []realtime.Raw{
	{Args: []json.RawMessage{nil}},
	{Args: []json.RawMessage{[]byte(`1`), []byte(`{"a":`)}},
	{Args: []json.RawMessage{[]byte(`1,2`)}},
	{Args: []json.RawMessage{[]byte("\"\xff\"")}},
	{Args: []json.RawMessage{[]byte(`{"_placeholder":true,"num":1}`)}, Attachments: [][]byte{{1}}},
	{Args: []json.RawMessage{[]byte(`[{"_placeholder":true}]`)}, Attachments: [][]byte{{1}}},
}

// An emit has an error to return.
func TestEmit_RefusesWhatNobodyDeclared(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		sockets := make(chan *realtime.Socket, 1)
		srv.Realtime.Drivers().OnConnect(func(_ context.Context, s *realtime.Socket) error { sockets <- s; return nil })
		driver := srv.Driver(t, "d1")
		s, all := <-sockets, srv.Realtime.Drivers().All()
		for name, why := range map[string]string{
			"":        "realtime: EmitRaw: an event's name is empty",
			"connect": `realtime: EmitRaw: an event cannot be called "connect": Socket.IO reserves that name; choose another`,
		} {
			require.EqualError(t, s.EmitRaw(name, realtime.Raw{}), why)
			require.EqualError(t, all.EmitRaw(name, realtime.Raw{}), why)
		}
		for _, bad := range badRaws {
			require.ErrorContains(t, s.EmitRaw("note", bad), "realtime: EmitRaw of note: argument ")
			require.ErrorContains(t, all.EmitRaw("note", bad), "realtime: EmitRaw of note: argument ")
		}
		require.NoError(t, all.EmitRaw("note", realtime.Raw{Args: []json.RawMessage{[]byte(`{"_placeholder":true,"num":7}`)}}), "an ordinary object")
		_, err := driver.NextRaw(t.Context(), "note")
		require.NoError(t, err)
		realtimetest.ExpectNone(t, driver)
		require.EqualError(t, srv.Realtime.Drivers().ServerEmit(t.Context(), ""), "realtime: ServerEmit: an event's name is empty")
		require.ErrorContains(t, srv.Realtime.Drivers().ServerEmit(t.Context(), "new_namespace"), "realtime: ServerEmit: an event between nodes cannot be called")

		const undeclared = "realtime: the event has no name; declare it with NewEvent or NewQuery"
		var event realtime.Event[string]
		var query realtime.Query[string, string]
		require.EqualError(t, event.Emit(s, "x"), undeclared)
		require.EqualError(t, event.Emit(all, "x"), undeclared)
		_, err = query.Ask(t.Context(), s, "x")
		require.EqualError(t, err, undeclared)
		_, err = query.AskAll(t.Context(), all, "x")
		require.EqualError(t, err, undeclared)
		synctest.Wait()
		realtimetest.ExpectNone(t, driver)
	})
}
