// The configuration: flags and environment.

package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"
)

// config is the configuration from flags and environment.
type config struct {
	host     string // empty: 127.0.0.1
	port     string
	password string // of every user; empty: none is needed on a loopback address, and no login elsewhere
	secret   string // empty: a random one
	issuer   string
	origins  []string
	seedFile string // empty: the demo's users
	cars     int
	simulate string // URL of the server at which the cars drive; empty: this one
	echo     bool
	admin    bool // the operators' view

	redisURL      string // empty: one instance, in memory
	proxies       []netip.Prefix
	shutdownDelay time.Duration
	metrics       string // the address of the metrics; empty: none

	pingInterval, pingTimeout, connectTimeout time.Duration // 0: the library's
	offerTTL, tokenTTL                        time.Duration
	radius                                    float64       // meters from a pickup to the drivers who get an offer
	maxAge                                    time.Duration // of the position of such a driver
	noRateLimit                               bool
	allowEIO3, legacyQueryToken, retryExpired bool
	carrySessions, recovery                   bool
}

// The defaults of the matching. A driver who stands still reports a position all the same, in the
// existing apps every 45 s.
const (
	defaultRadius = 10_000
	defaultMaxAge = 5 * time.Minute
)

// loopback is the default address, because the demo's users are not protected.
const loopback = "127.0.0.1"

// address returns the address to listen on.
func (c config) address() string { return net.JoinHostPort(cmp.Or(c.host, loopback), c.port) }

// isLocal reports whether only this machine can connect.
func (c config) isLocal() bool {
	ip := net.ParseIP(c.host)
	return c.host == "" || c.host == "localhost" || ip != nil && ip.IsLoopback()
}

// anybodys reports whether pages of anybody have an origin, so that they get no credentials.
func anybodys(origin string) bool {
	return origin == "*" || origin == "null" || strings.HasPrefix(origin, "file:")
}

func configure(args []string, env func(string) string) (config, error) {
	c := config{
		host: env("HOST"), port: cmp.Or(env("PORT"), "3000"), password: env("LOGIN_PASSWORD"),
		secret: env("JWT_SECRET"), issuer: env("JWT_ISSUER"), redisURL: env("REDIS_URL"), origins: list(env("WS_CORS_ORIGIN")),
	}
	if len(c.origins) == 0 {
		c.origins = []string{"*"} // as in the NestJS system; the library's default is the server's own host
	}
	for _, proxy := range list(env("TRUSTED_PROXIES")) {
		prefix, err := parsePrefix(proxy)
		if err != nil {
			return c, fmt.Errorf("TRUSTED_PROXIES: %w", err)
		}
		c.proxies = append(c.proxies, prefix)
	}
	f := flag.NewFlagSet("dispatch", flag.ContinueOnError)
	f.StringVar(&c.seedFile, "seed", "", "JSON `file` of the users and sessions; exactly those exist then")
	f.IntVar(&c.cars, "cars", -1, "simulated drivers; -1: 12 of them, or none with -seed or REDIS_URL. With -seed they drive as the file's active drivers")
	f.StringVar(&c.simulate, "simulate", "", "serve nothing; drive the cars at the server, or the load balancer, with this `URL`. It needs REDIS_URL, to create their users")
	f.DurationVar(&c.shutdownDelay, "shutdown-delay", 0, "after SIGTERM, how long /readyz is red before the clients are disconnected; for balancers that only ask from time to time")
	f.StringVar(&c.metrics, "metrics", "", "`address` that serves /metrics for Prometheus, such as 127.0.0.1:9100; it has no login")
	f.BoolVar(&c.echo, "echo", false, "answer conformance:echo on /drivers with its own arguments")
	f.BoolVar(&c.admin, "admin-view", false, "serve the operators' view at /operators/, to this machine only; its token is printed once")
	f.DurationVar(&c.pingInterval, "ping-interval", 0, "heartbeat (default 25s)")
	f.DurationVar(&c.pingTimeout, "ping-timeout", 0, "for the answer to a heartbeat (default 20s)")
	f.DurationVar(&c.connectTimeout, "connect-timeout", 0, "for a connection that enters no namespace (default 15s)")
	f.DurationVar(&c.offerTTL, "offer-ttl", 20*time.Second, "how long an offer is open")
	f.Float64Var(&c.radius, "match-radius", defaultRadius, "`meters` from a pickup within which drivers get an offer")
	f.DurationVar(&c.maxAge, "position-max-age", defaultMaxAge, "a driver whose position is older gets no offer")
	f.DurationVar(&c.tokenTTL, "token-ttl", time.Hour, "lifetime of an access token")
	f.BoolVar(&c.allowEIO3, "allow-eio3", false, "admit socket.io-client 1.x and 2.x")
	f.BoolVar(&c.legacyQueryToken, "legacy-query-token", false, "accept the token of such a client in the URL")
	f.BoolVar(&c.retryExpired, "retry-expired", false, "close the connection of an expired token instead of refusing it, for apps that renew the token when they reconnect")
	f.BoolVar(&c.carrySessions, "carry-sessions", false, "carry the sockets of a session that is refreshed over to the new one, instead of waiting for their auth:refresh")
	f.BoolVar(&c.recovery, "recovery", true, "give clients that lost their connection their socket back, with the events that they missed; -recovery=false: each connects as a new one")
	f.BoolVar(&c.noRateLimit, "no-rate-limit", false, "switch off every rate limit and connection cap")
	f.Usage = func() { usage(f) }
	if err := f.Parse(args); err != nil {
		return c, err
	}
	switch {
	case c.redisURL != "" && c.secret == "":
		return c, errors.New("JWT_SECRET must be set with REDIS_URL, the same for all instances")
	case c.simulate != "" && (c.redisURL == "" || c.cars < 1):
		return c, errors.New("-simulate needs REDIS_URL and -cars")
	case c.admin && !c.isLocal():
		return c, errors.New("-admin-view needs a HOST that is a loopback address")
	case f.NArg() > 0:
		return c, fmt.Errorf("unexpected argument %q", f.Arg(0))
	case c.offerTTL <= 0 || c.tokenTTL <= 0:
		return c, errors.New("-offer-ttl and -token-ttl must be positive")
	case !(c.radius > 0) || c.maxAge <= 0:
		return c, errors.New("-match-radius and -position-max-age must be positive")
	case c.cars < 0 && c.seedFile == "" && c.redisURL == "":
		c.cars = 12
	}
	return c, nil
}

// list returns the parts of a text between commas.
func list(text string) (parts []string) {
	for part := range strings.SplitSeq(text, ",") {
		if part = strings.TrimSpace(part); part != "" {
			parts = append(parts, part)
		}
	}
	return parts
}

// parsePrefix reads an address or a prefix.
func parsePrefix(text string) (netip.Prefix, error) {
	if addr, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(addr, addr.BitLen()), nil
	}
	return netip.ParsePrefix(text)
}

func usage(f *flag.FlagSet) {
	fmt.Fprint(f.Output(), `dispatch is the example of github.com/rodando/realtime: a small ride-hailing backend.

Environment:
  HOST             address to listen on (default 127.0.0.1)
  PORT             port to listen on, 0 for any (default 3000)
  LOGIN_PASSWORD   password of all users; without it they log in from this machine only
  JWT_SECRET       HS256 key of the tokens, 32 bytes or more (default: a random one)
  JWT_ISSUER       claim "iss" of the tokens
  WS_CORS_ORIGIN   origins that may connect, separated by commas; unset: *, any
  REDIS_URL        Redis of several instances that act as one; needs JWT_SECRET (default: one, in memory)
  TRUSTED_PROXIES  addresses or prefixes of load balancers, separated by commas

Flags:
`)
	f.PrintDefaults()
}
