package redistest

import (
	"io"
	"net"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// overPath returns a path, and both ends of a connection over it that has carried something.
func overPath(t *testing.T) (p *Path, client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	t.Cleanup(func() { _ = l.Close() })
	p = StartPath(t, l.Addr().String())
	c, err := net.Dial("tcp", p.listener.Addr().String())
	require.NoError(t, err)
	t.Cleanup(func() { _ = c.Close() })
	s, err := l.Accept()
	require.NoError(t, err)
	t.Cleanup(func() { _ = s.Close() })
	_, err = c.Write([]byte("first"))
	require.NoError(t, err)
	_, err = io.ReadFull(s, make([]byte, len("first")))
	require.NoError(t, err)
	return p, c.(*net.TCPConn), s.(*net.TCPConn)
}

func TestPath_DelayIsNoLimit(t *testing.T) {
	t.Parallel()
	const delay, much = 200 * time.Millisecond, 8 << 20
	p, client, server := overPath(t)
	p.Delay(delay)
	began := time.Now()
	go func() { _, _ = client.Write(make([]byte, much)) }()
	_, err := io.ReadFull(server, make([]byte, much))
	require.NoError(t, err)
	require.GreaterOrEqual(t, time.Since(began), delay)
	require.Less(t, time.Since(began), 100*delay, "one delay for each chunk would take longer")
}

func TestPath_Reset(t *testing.T) {
	t.Parallel()
	for _, way := range []string{"client", "server"} {
		t.Run(way, func(t *testing.T) {
			t.Parallel()
			p, client, server := overPath(t)
			sends, hears := client, server
			if way == "server" {
				sends, hears = server, client
			}
			p.Delay(time.Hour)
			_, err := sends.Write([]byte("held"))
			require.NoError(t, err)
			require.NoError(t, sends.SetLinger(0))
			require.NoError(t, sends.Close())
			n, err := hears.Read(make([]byte, 10))
			require.ErrorIs(t, err, syscall.ECONNRESET)
			require.Zero(t, n)
		})
	}
}

func TestPath_EndWhileSilent(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		held  string
		reset bool
		want  error
	}{
		"reset, and something is under way": {"held", true, syscall.ECONNRESET},
		"reset":                             {"", true, syscall.ECONNRESET},
		"close, and something is under way": {"held", false, nil},
		"close":                             {"", false, nil},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			p, client, server := overPath(t)
			p.Silence(true)
			_, err := client.Write([]byte(c.held))
			require.NoError(t, err)
			if c.reset {
				require.NoError(t, client.SetLinger(0))
			}
			require.NoError(t, client.Close())
			require.NoError(t, server.SetReadDeadline(time.Now().Add(100*time.Millisecond)))
			_, err = server.Read(make([]byte, 10))
			require.ErrorIs(t, err, os.ErrDeadlineExceeded, "nothing arrives, not even the end")
			p.Silence(false)
			require.NoError(t, server.SetReadDeadline(time.Time{}))
			got, err := io.ReadAll(server)
			require.ErrorIs(t, err, c.want)
			if c.reset {
				require.Empty(t, got)
			} else {
				require.Equal(t, c.held, string(got))
			}
		})
	}
}

func TestPath_CloseDelivers(t *testing.T) {
	t.Parallel()
	p, client, server := overPath(t)
	p.Delay(50 * time.Millisecond)
	_, err := client.Write([]byte("held"))
	require.NoError(t, err)
	require.NoError(t, client.Close())
	got, err := io.ReadAll(server)
	require.NoError(t, err)
	require.Equal(t, "held", string(got))
}

func TestPath_ClosesAtOnce(t *testing.T) {
	t.Parallel()
	p, client, server := overPath(t)
	p.Delay(time.Hour)
	_, err := client.Write([]byte("held"))
	require.NoError(t, err)
	p.Close()
	_, err = server.Read(make([]byte, 10))
	require.Error(t, err)
}
