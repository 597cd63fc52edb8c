// Helpers of the tests, and tests of the whole program: flags, seed, printed tokens.

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"io"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/golang-jwt/jwt/v5"
	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime"
)

func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m,
		// rueidis sleeps for seconds after it has looked at a cluster, closed or not.
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*clusterClient)._refresh.func2"),
		goleak.IgnoreAnyFunction("github.com/redis/rueidis.(*call).DelayDo.func1"))
}

const secret = "a secret of more than thirty-two bytes"

// server is a running app with the demo's users.
type server struct {
	*app
	url    string
	client *http.Client
}

func start(t *testing.T, change ...func(*config)) *server {
	t.Helper()
	cfg, err := configure(nil, func(name string) string { return map[string]string{"JWT_SECRET": secret}[name] })
	require.NoError(t, err)
	cfg.cars = 0
	for _, f := range change {
		f(&cfg)
	}
	a, err := newApp(cfg, quiet)
	require.NoError(t, err)
	h := httptest.NewServer(a.mux)
	s := &server{app: a, url: h.URL, client: h.Client()}
	t.Cleanup(func() {
		require.NoError(t, a.shutdown(context.Background(), h.Config))
		h.Close()
		a.close()
	})
	return s
}

// do makes a REST request and returns its status and body.
func (s *server) do(t *testing.T, method, path, token string, body any) (int, map[string]any) {
	t.Helper()
	data, err := json.Marshal(body)
	require.NoError(t, err)
	if body == nil {
		data = nil
	}
	req, err := http.NewRequest(method, s.url+path, bytes.NewReader(data))
	require.NoError(t, err)
	if token != "" {
		req.Header.Set("Authorization", "Bearer "+token)
	}
	resp, err := s.client.Do(req)
	require.NoError(t, err)
	defer resp.Body.Close()
	require.Equal(t, "application/json", resp.Header.Get("Content-Type"))
	var answer map[string]any
	require.NoError(t, json.NewDecoder(resp.Body).Decode(&answer))
	return resp.StatusCode, answer
}

// post makes a request that must succeed.
func (s *server) post(t *testing.T, path, token string, body any) map[string]any {
	t.Helper()
	status, answer := s.do(t, "POST", path, token, body)
	require.Less(t, status, 300, "%s: %v", path, answer)
	return answer
}

// refused makes a request that must fail, and returns status and code.
func (s *server) refused(t *testing.T, method, path, token string, body any) (int, string) {
	t.Helper()
	status, answer := s.do(t, method, path, token, body)
	e, ok := answer["error"].(map[string]any)
	require.True(t, ok, "%s %s: %v", method, path, answer)
	require.NotEmpty(t, e["message"])
	return status, e["code"].(string)
}

func (s *server) login(t *testing.T, userID string) string {
	t.Helper()
	return s.post(t, "/api/login", "", map[string]any{"userId": userID})["token"].(string)
}

// socket is a client and the events it received.
type socket struct {
	t *testing.T
	*client
}

func (s *server) connect(t *testing.T, namespace, token string) socket {
	t.Helper()
	c, err := dial(t.Context(), s.url, namespace, token)
	require.NoError(t, err)
	c.silence = 10 * time.Second
	t.Cleanup(func() { _ = c.close() })
	sock := socket{t, c}
	sock.expect("hello")
	if namespace != realtime.NamespaceAdmin {
		sock.expect("trip:sync")
	}
	if namespace == realtime.NamespaceDrivers {
		sock.expect("driver:availability:update")
	}
	return sock
}

// expect skips to the next event of that name and returns its payload.
func (s socket) expect(name string) map[string]any {
	s.t.Helper()
	for {
		event, arg, err := s.next()
		require.NoError(s.t, err, "waiting for %s", name)
		if event == name {
			var payload map[string]any
			require.NoError(s.t, json.Unmarshal(arg, &payload))
			return payload
		}
	}
}

// end skips to the end of the socket, and returns its error. What happened a moment before may still be told.
func (s socket) end() error {
	for {
		if _, _, err := s.next(); err != nil {
			return err
		}
	}
}

// goOnline makes a driver available at a position.
func (s socket) goOnline(lat, lng float64) {
	s.t.Helper()
	require.NoError(s.t, s.emit("driver:location:ping", realtime.Position{Lat: lat, Lng: lng}))
	require.NoError(s.t, s.emit("driver:status:update", map[string]bool{"isOnline": true, "isAvailableForTrips": true}))
	s.expect("driver:availability:update")
}

func TestConfigure(t *testing.T) {
	t.Parallel()
	env := func(values map[string]string) func(string) string {
		return func(name string) string { return values[name] }
	}

	c, err := configure(nil, env(nil))
	require.NoError(t, err)
	require.Equal(t, config{port: "3000", origins: []string{"*"}, cars: 12, offerTTL: 20 * time.Second, tokenTTL: time.Hour, radius: defaultRadius, maxAge: defaultMaxAge, recovery: true}, c)

	c, err = configure(
		strings.Fields("-seed f -ping-interval 1500ms -ping-timeout 1s -connect-timeout 2s -offer-ttl 300ms -token-ttl 1m -echo -no-rate-limit -allow-eio3 -legacy-query-token -retry-expired -carry-sessions -recovery=false"),
		env(map[string]string{"PORT": "0", "JWT_SECRET": "s", "JWT_ISSUER": "i", "WS_CORS_ORIGIN": "https://a.test, https://b.test,"}),
	)
	require.NoError(t, err)
	require.Equal(t, config{
		port: "0", secret: "s", issuer: "i", origins: []string{"https://a.test", "https://b.test"}, seedFile: "f", cars: -1, echo: true,
		pingInterval: 1500 * time.Millisecond, pingTimeout: time.Second, connectTimeout: 2 * time.Second,
		offerTTL: 300 * time.Millisecond, tokenTTL: time.Minute, radius: defaultRadius, maxAge: defaultMaxAge, noRateLimit: true, allowEIO3: true, legacyQueryToken: true, retryExpired: true, carrySessions: true,
	}, c)

	c, err = configure(nil, env(map[string]string{"HOST": "0.0.0.0", "LOGIN_PASSWORD": "p"}))
	require.NoError(t, err)
	require.Equal(t, config{host: "0.0.0.0", port: "3000", password: "p", origins: []string{"*"}, cars: 12, offerTTL: 20 * time.Second, tokenTTL: time.Hour, radius: defaultRadius, maxAge: defaultMaxAge, recovery: true}, c)

	c, err = configure([]string{"-shutdown-delay", "2s"}, env(map[string]string{
		"REDIS_URL": "redis://r", "JWT_SECRET": "s", "TRUSTED_PROXIES": "127.0.0.1, 10.0.0.0/8, ::1",
	}))
	require.NoError(t, err)
	require.Equal(t, config{
		port: "3000", secret: "s", redisURL: "redis://r", origins: []string{"*"}, cars: -1, shutdownDelay: 2 * time.Second, offerTTL: 20 * time.Second, tokenTTL: time.Hour, radius: defaultRadius, maxAge: defaultMaxAge, recovery: true,
		proxies: []netip.Prefix{netip.MustParsePrefix("127.0.0.1/32"), netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("::1/128")},
	}, c)

	for name, mistake := range map[string]map[string]string{
		"JWT_SECRET":      {"REDIS_URL": "redis://r"},
		"TRUSTED_PROXIES": {"TRUSTED_PROXIES": "nginx"},
	} {
		_, err = configure(nil, env(mistake))
		require.ErrorContains(t, err, name)
	}
	_, err = configure([]string{"-simulate", "http://localhost", "-cars", "2"}, env(nil))
	require.ErrorContains(t, err, "REDIS_URL")
	_, err = configure([]string{"-offer-ttl", "0"}, env(nil))
	require.Error(t, err)
	_, err = configure([]string{"what"}, env(nil))
	require.Error(t, err)
}

// Without a password only this machine can log in.
func TestLogin_PasswordWhereOthersCanConnect(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		host, password, given string
		status                int
	}{
		"by default":                  {"", "", "", http.StatusOK},
		"loopback":                    {"127.0.0.1", "", "", http.StatusOK},
		"IPv6 loopback":               {"::1", "", "", http.StatusOK},
		"localhost":                   {"localhost", "", "anything", http.StatusOK},
		"loopback, with a password":   {"127.0.0.1", "secret", "", http.StatusForbidden},
		"everywhere, none set":        {"0.0.0.0", "", "", http.StatusForbidden},
		"everywhere, IPv6, none set":  {"::", "", "", http.StatusForbidden},
		"a name, none set":            {"dispatch.example", "", "", http.StatusForbidden},
		"everywhere, none set, given": {"0.0.0.0", "", "secret", http.StatusForbidden},
		"everywhere, wrong":           {"0.0.0.0", "secret", "secre", http.StatusForbidden},
		"everywhere, right":           {"0.0.0.0", "secret", "secret", http.StatusOK},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := start(t, func(cfg *config) { cfg.host, cfg.password = c.host, c.password })
			status, _ := s.do(t, "POST", "/api/login", "", map[string]any{"userId": "driver-1", "password": c.given})
			require.Equal(t, c.status, status)
		})
	}
}

func TestConfig_Address(t *testing.T) {
	t.Parallel()
	require.Equal(t, "127.0.0.1:0", config{port: "0"}.address())
	require.Equal(t, "0.0.0.0:3000", config{host: "0.0.0.0", port: "3000"}.address())
	require.Equal(t, "[::1]:3000", config{host: "::1", port: "3000"}.address())
}

func TestNewServer_ClosesSilentConnections(t *testing.T) {
	t.Parallel()
	s := newServer(http.NotFoundHandler())
	require.Positive(t, s.ReadHeaderTimeout)
	require.Positive(t, s.IdleTimeout)
}

const seedFile = `{
	"users": [
		{"id":"d","type":"driver","status":"active","name":"Diego"},
		{"id":"p","type":"passenger","status":"banned","name":"Paula"},
		{"id":"q","type":"passenger","status":"inactive","name":"Pedro"}
	],
	"sessions": [
		{"sid":"d-revoked","userId":"d","revoked":true,"accessTokenExpiresAt":null},
		{"sid":"d-past","userId":"d","revoked":false,"accessTokenExpiresAt":"2020-01-02T03:04:05.678Z"},
		{"sid":"d-good","userId":"d","revoked":false,"accessTokenExpiresAt":null},
		{"sid":"p-1","userId":"p","revoked":false,"accessTokenExpiresAt":null}
	]
}`

func writeSeed(t *testing.T, text string) string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "seed.json")
	require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	return file
}

// mint signs claims with the secret, as another service could.
func mint(t *testing.T, claims jwt.MapClaims) string {
	t.Helper()
	if claims["exp"] == nil {
		claims["exp"] = time.Now().Add(time.Hour).Unix()
	}
	token, err := jwt.NewWithClaims(jwt.SigningMethodHS256, claims).SignedString([]byte(secret))
	require.NoError(t, err)
	return token
}

func TestSeedFile(t *testing.T) {
	t.Parallel()
	s := start(t, func(c *config) { c.seedFile, c.cars = writeSeed(t, seedFile), -1 })

	status, _ := s.do(t, "GET", "/api/trips/current", mint(t, jwt.MapClaims{"sub": "d", "sid": "d-good"}), nil)
	require.Equal(t, http.StatusOK, status)
	for code, claims := range map[string]jwt.MapClaims{
		"invalid_session": {"sub": "d", "sid": "d-revoked"},
		"access_expired":  {"sub": "d", "sid": "d-past"},
		"user_inactive":   {"sub": "p", "sid": "p-1"},
		"user_not_found":  {"sub": "driver-1", "sid": "d-good"},
		"missing_claims":  {"sub": "d"},
		"token_expired":   {"sub": "d", "sid": "d-good", "exp": time.Now().Add(-time.Second).Unix()},
	} {
		token := mint(t, claims)
		_, got := s.refused(t, "GET", "/api/trips/current", token, nil)
		require.Equal(t, code, got)
		namespace := "/drivers"
		if claims["sub"] == "p" {
			namespace = "/passengers"
		}
		_, err := dial(t.Context(), s.url, namespace, token)
		require.ErrorContains(t, err, code, "the socket's check")
	}
	cars, err := s.createCars(t.Context())
	require.NoError(t, err)
	require.Empty(t, cars)
}

func TestSeedFileMistakes(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]string{
		`{`:                                     "unexpected end",
		`{"users":[{"id":"","type":"driver"}]}`: "empty",
		`{"users":[{"id":"a","type":"driver"},{"id":"a","type":"admin"}]}`:          "duplicate",
		`{"users":[{"id":"a","type":"pilot"}]}`:                                     "pilot",
		`{"users":[{"id":"a","type":"driver","status":"asleep"}]}`:                  "asleep",
		`{"sessions":[{"sid":"s","userId":"a"},{"sid":"s","userId":"a"}]}`:          "duplicate",
		`{"sessions":[{"sid":"s","userId":"a","accessTokenExpiresAt":"tomorrow"}]}`: "tomorrow",
	} {
		_, err := readSeed(writeSeed(t, text))
		require.ErrorContains(t, err, want)
	}
}

// The whole program, from start to shutdown.
func TestRun(t *testing.T) {
	t.Parallel()
	ctx, stop := context.WithCancel(t.Context())
	out, stdout := io.Pipe()
	ended := make(chan error, 1)
	file := writeSeed(t, seedFile)
	go func() {
		ended <- run(ctx, config{
			port: "0", secret: secret, issuer: "dispatch", seedFile: file, cars: 1, offerTTL: time.Second, tokenTTL: time.Minute, recovery: true,
		}, stdout)
	}()
	lines := bufio.NewScanner(out)
	require.True(t, lines.Scan())
	url, ok := strings.CutPrefix(lines.Text(), "listening on ")
	require.True(t, ok, lines.Text())
	tokens := map[string]string{}
	for range 3 {
		require.True(t, lines.Scan())
		words := strings.Fields(lines.Text())
		require.Len(t, words, 4)
		require.Equal(t, "user", words[0])
		tokens[words[1]+" "+words[2]] = words[3]
	}
	require.Len(t, tokens, 3)

	c, err := dial(ctx, url, "/drivers", tokens["d driver"])
	require.NoError(t, err)
	defer c.close()
	_, err = dial(ctx, url, "/passengers", tokens["p passenger"])
	require.ErrorContains(t, err, "user_inactive")
	_, err = dial(ctx, url, "/drivers", mint(t, jwt.MapClaims{"sub": "d", "sid": "d-good"}))
	require.ErrorContains(t, err, "invalid_token", "the issuer is missing")

	stop()
	require.NoError(t, <-ended)
	socket{t, c}.expect("server:drain")
}
