// Connections over TLS: they verify the server as tls.Dialer does.

package redisclient

import (
	"crypto/tls"
	"crypto/x509"
	"io"
	"net"
	"net/http/httptest"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// echo is a server over TLS that sends back what it receives. It returns its address, and the
// certificates with which a client verifies it.
func echo(t *testing.T) (address string, roots *x509.CertPool) {
	t.Helper()
	pattern := httptest.NewTLSServer(nil) // only for its certificate, which is for 127.0.0.1
	defer pattern.Close()
	l, err := tls.Listen("tcp", "127.0.0.1:0", &tls.Config{Certificates: pattern.TLS.Certificates, MinVersion: tls.VersionTLS12})
	require.NoError(t, err)
	done := make(chan struct{})
	go func() {
		defer close(done)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = io.Copy(c, c)
			_ = c.Close()
		}
	}()
	t.Cleanup(func() {
		_ = l.Close()
		<-done
	})
	roots = x509.NewCertPool()
	roots.AddCert(pattern.Certificate())
	return l.Addr().String(), roots
}

func TestDialAbrupt_TLS(t *testing.T) {
	t.Parallel()
	address, roots := echo(t)
	for _, tc := range []struct {
		name  string
		tls   *tls.Config
		fails string
	}{
		{"the name is the address'", &tls.Config{RootCAs: roots, MinVersion: tls.VersionTLS12}, ""},
		{"a name of the host's", &tls.Config{RootCAs: roots, ServerName: "example.com", MinVersion: tls.VersionTLS12}, ""},
		{"another name", &tls.Config{RootCAs: roots, ServerName: "redis.invalid", MinVersion: tls.VersionTLS12}, "redis.invalid"},
		{"an unknown authority", &tls.Config{RootCAs: x509.NewCertPool(), MinVersion: tls.VersionTLS12}, "unknown authority"},
	} {
		name := tc.tls.ServerName
		c, err := dialAbrupt(t.Context(), address, &net.Dialer{Timeout: WriteTimeout}, tc.tls)
		require.Equal(t, name, tc.tls.ServerName, "%s: the options' configuration is not changed", tc.name)
		if tc.fails != "" {
			require.ErrorContains(t, err, tc.fails, tc.name)
			continue
		}
		require.NoError(t, err, tc.name)
		require.NoError(t, c.SetDeadline(time.Now().Add(20*time.Second)))
		_, err = c.Write([]byte("PING\r\n"))
		require.NoError(t, err, tc.name)
		got := make([]byte, 6)
		_, err = io.ReadFull(c, got)
		require.NoError(t, err, tc.name)
		require.Equal(t, "PING\r\n", string(got), tc.name)
		require.NoError(t, c.Close())
	}
}

// A server that accepts connections and says nothing is given up.
func TestDialAbrupt_SilentServer(t *testing.T) {
	t.Parallel()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = l.Close() }()
	failed := make(chan error, 1)
	go func() {
		_, err := dialAbrupt(t.Context(), l.Addr().String(), &net.Dialer{Timeout: WriteTimeout}, &tls.Config{MinVersion: tls.VersionTLS12})
		failed <- err
	}()
	select {
	case err := <-failed:
		require.Error(t, err)
	case <-time.After(20 * time.Second):
		require.Fail(t, "it waits forever")
	}
}
