package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"flag"
	"math/big"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const patience = 30 * time.Second

// certificate writes a certificate for 127.0.0.1 and its key.
func certificate(t *testing.T) (cert, key string, pool *x509.CertPool) {
	t.Helper()
	private, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	require.NoError(t, err)
	template := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign,
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &private.PublicKey, private)
	require.NoError(t, err)
	secret, err := x509.MarshalPKCS8PrivateKey(private)
	require.NoError(t, err)
	dir := t.TempDir()
	cert, key = filepath.Join(dir, "cert.pem"), filepath.Join(dir, "key.pem")
	require.NoError(t, os.WriteFile(cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o600))
	require.NoError(t, os.WriteFile(key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: secret}), 0o600))
	parsed, err := x509.ParseCertificate(der)
	require.NoError(t, err)
	pool = x509.NewCertPool()
	pool.AddCert(parsed)
	return cert, key, pool
}

func testOptions() (o realtime.Options, tokens *realtimetest.Tokens) {
	tokens = &realtimetest.Tokens{}
	return realtime.Options{Tokens: tokens, Users: users{"ana": {ID: "ana", Type: realtime.UserDriver, Active: true}}, TokenSessions: true}, tokens
}

// A client connects over TLS; when the process is asked to end, it is told so.
func TestServe_OverTLS(t *testing.T) {
	t.Parallel()
	cert, key, pool := certificate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	o, tokens := testOptions()
	ctx, end := context.WithCancel(t.Context())
	defer end()
	served := make(chan error, 1)
	go func() {
		served <- serve(ctx, l, o, config{cert: cert, key: key, delay: time.Millisecond, drain: patience})
	}()

	dialer := &tls.Dialer{Config: &tls.Config{RootCAs: pool}}
	over := func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dialer.DialContext(ctx, "tcp", l.Addr().String())
	}
	wait, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	ana, err := realtimetest.Dial(wait, "http://host", realtime.NamespaceDrivers, realtimetest.Token(tokens.Mint("ana", "", time.Hour)), realtimetest.Over(over))
	require.NoError(t, err)
	_, err = realtimetest.Next(wait, ana, realtime.EventHello)
	require.NoError(t, err)

	end()
	_, err = realtimetest.Next(wait, ana, realtime.EventServerDrain)
	require.NoError(t, err)
	require.NoError(t, <-served)
}

func TestServe_AListenerThatFails(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	require.NoError(t, l.Close())
	o, _ := testOptions()
	require.ErrorIs(t, serve(t.Context(), l, o, config{}), net.ErrClosed)
}

func TestRoutes_Health(t *testing.T) {
	t.Parallel()
	o, _ := testOptions()
	rt, err := realtime.New(o)
	require.NoError(t, err)
	var draining atomic.Bool
	mux := routes(rt, &draining)
	status := func(path string) int {
		w := httptest.NewRecorder()
		mux.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil))
		return w.Code
	}
	require.Equal(t, http.StatusOK, status("/readyz"))
	draining.Store(true)
	require.Equal(t, http.StatusServiceUnavailable, status("/readyz"))
	draining.Store(false)
	require.NoError(t, rt.Shutdown(t.Context()))
	require.Equal(t, http.StatusServiceUnavailable, status("/readyz"))
	require.Equal(t, http.StatusOK, status("/healthz"))
}

// It sets the environment, so it is not parallel.
func TestOptions(t *testing.T) {
	t.Setenv("JWT_SECRET", "thirty-two bytes or more, and secret")
	o, err := options(config{proxy: "10.0.0.0/8"})
	require.NoError(t, err)
	require.Len(t, o.TrustedProxies, 1)
	_, err = options(config{proxy: "nginx"})
	require.Error(t, err)
	t.Setenv("JWT_SECRET", "short")
	_, err = options(config{})
	require.ErrorContains(t, err, "guessed")
}

// The manifest's arguments are flags of the program, its probes are routes, and Kubernetes waits as
// long as the program takes to end.
func TestKubernetes(t *testing.T) {
	t.Parallel()
	b, err := os.ReadFile("kubernetes.yaml")
	require.NoError(t, err)
	manifest := string(b)
	part := func(pattern string) string {
		m := regexp.MustCompile(pattern).FindStringSubmatch(manifest)
		require.NotNil(t, m, pattern)
		return m[1]
	}
	seconds := func(pattern string) time.Duration {
		n, err := strconv.Atoi(part(pattern))
		require.NoError(t, err)
		return time.Duration(n) * time.Second
	}

	var c config
	f := flag.NewFlagSet("production", flag.ContinueOnError)
	c.flags(f)
	require.NoError(t, f.Parse(strings.Split(strings.ReplaceAll(part(`args: \[(.*)\]`), `"`, ""), ", ")))
	require.Empty(t, f.Args())
	stop := seconds(`sleep: \{seconds: (\d+)\}`)
	require.Less(t, stop+c.delay+c.drain, seconds(`terminationGracePeriodSeconds: (\d+)`), "Kubernetes kills the process before it is through")
	require.Greater(t, c.drain, 20*time.Second+2*time.Second, "shorter than PingTimeout and what the other steps of Shutdown need")
	require.LessOrEqual(t, 2*seconds(`periodSeconds: (\d+)`), c.delay, "the readiness probe does not see red in time")
	require.GreaterOrEqual(t, seconds(`minReadySeconds: (\d+)`), 5*time.Second, "the last node that knows what clients missed may end too soon")
	require.Greater(t, seconds(`proxy-read-timeout: "(\d+)"`), 45*time.Second, "shorter than PingInterval and PingTimeout")

	o, _ := testOptions()
	rt, err := realtime.New(o)
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	for _, m := range regexp.MustCompile(`httpGet: \{path: (\S+), port: (\d+)\}`).FindAllStringSubmatch(manifest, -1) {
		w := httptest.NewRecorder()
		routes(rt, new(atomic.Bool)).ServeHTTP(w, httptest.NewRequest(http.MethodGet, m[1], nil))
		require.Equal(t, http.StatusOK, w.Code, m[1])
		require.True(t, strings.HasSuffix(c.addr, ":"+m[2]))
	}
}
