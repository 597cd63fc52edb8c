// Tests of connections, of a type of the host's, whose methods block for ever.

package engineio_test

import (
	"context"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/testkit"
)

// stuckListener makes connections whose methods can be made to block.
type stuckListener struct {
	net.Listener
	conns chan *stuckConn
}

func (l *stuckListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	s := &stuckConn{TCPConn: c.(*net.TCPConn), release: make(chan struct{})}
	l.conns <- s
	return s, nil
}

type stuckConn struct {
	*net.TCPConn
	fault   atomic.Pointer[fault]
	result  atomic.Pointer[result]
	release chan struct{}
	once    sync.Once
}

// fault is what a method does, or each one with "all".
type fault struct {
	method string
	do     func()
}

// result is what Read and Write return, which may be what no connection may.
type result struct {
	count int
	err   error
}

func (c *stuckConn) let() { c.once.Do(func() { close(c.release) }) }

func (c *stuckConn) block(method string) { c.fault.Store(&fault{method, func() { <-c.release }}) }

func (c *stuckConn) pass(method string) {
	if f := c.fault.Load(); f != nil && (f.method == method || f.method == "all") {
		f.do()
	}
}

func (c *stuckConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	c.pass("Read")
	if r := c.result.Load(); r != nil {
		return r.count, r.err
	}
	return n, err
}

func (c *stuckConn) Write(b []byte) (int, error) {
	c.pass("Write")
	if r := c.result.Load(); r != nil {
		return r.count, r.err
	}
	return c.TCPConn.Write(b)
}

func (c *stuckConn) Close() error      { c.pass("Close"); return c.TCPConn.Close() }
func (c *stuckConn) CloseWrite() error { c.pass("CloseWrite"); return c.TCPConn.CloseWrite() }

func (c *stuckConn) SetDeadline(t time.Time) error {
	c.pass("SetDeadline")
	return c.TCPConn.SetDeadline(t)
}

func (c *stuckConn) SetReadDeadline(t time.Time) error {
	c.pass("SetReadDeadline")
	return c.TCPConn.SetReadDeadline(t)
}

func (c *stuckConn) SetWriteDeadline(t time.Time) error {
	c.pass("SetWriteDeadline")
	return c.TCPConn.SetWriteDeadline(t)
}

// A connection that blocks affects its own session only: that session still ends, the
// heartbeats of others continue, and Shutdown returns with its ctx.
func TestNetLink_MethodsThatBlock(t *testing.T) {
	t.Parallel()
	for _, method := range []string{"Read", "Write", "Close", "CloseWrite", "SetReadDeadline", "SetWriteDeadline", "all"} {
		t.Run(method, func(t *testing.T) {
			t.Parallel()
			conns := make(chan *stuckConn, 10)
			c := carrier{"stuck", func(l net.Listener) net.Listener { return &stuckListener{l, conns} }}
			s := start(t, c, shortClose, func(set *setup) {
				set.engine.PingInterval, set.engine.PingTimeout = 50*time.Millisecond, patience
			})
			t.Cleanup(func() {
				for len(conns) > 0 {
					(<-conns).let()
				}
			})
			silent, closed, probing := s.websocket(), s.websocket(), s.polling()
			_, _ = s.dialWebSocket("EIO=4&transport=websocket&sid=" + probing.sid)
			stuck := make([]*stuckConn, 4)
			for i := range stuck {
				stuck[i] = <-conns
				t.Cleanup(stuck[i].let)
				stuck[i].block(method)
			}
			other := s.websocket()
			silent.h.PingNow()
			silent.h.PingNow() // the first ping was not answered
			closed.h.Close(engineio.ReasonForcedClose)
			probing.h.PingNow()
			probing.h.PingNow()
			for range 20 {
				other.expect("2")
				other.send("3")
			}
			require.Equal(t, engineio.ReasonPingTimeout, silent.h.ended(t))
			require.Equal(t, engineio.ReasonForcedClose, closed.h.ended(t))
			require.Equal(t, engineio.ReasonPingTimeout, probing.h.ended(t))
			testkit.Eventually(t, "sessions are left", func() bool { return s.Len() == 1 })

			require.ErrorIs(t, receive(t, s.shutdown(over(t))), context.DeadlineExceeded)
			for _, c := range stuck {
				c.let()
			}
			require.NoError(t, s.Shutdown(t.Context()))
		})
	}
}

// A callback that does not return does not keep Shutdown from returning either.
func TestServer_ShutdownWithACallbackThatBlocks(t *testing.T) {
	t.Parallel()
	held, release := context.WithCancel(context.Background())
	s := start(t, tcp, shortClose, func(set *setup) {
		set.engine.MaxPayload = 10
		set.engine.Limited = func(engineio.Handler, engineio.Exceeded) { <-held.Done() }
	})
	t.Cleanup(release)
	ws := s.websocket()
	ws.send("4" + large(100))
	ws.expectClose(1009)
	require.NoError(t, ws.conn.Close())
	testkit.Eventually(t, "the session is still known", func() bool { return s.Len() == 0 })
	ctx, cancel := context.WithTimeout(t.Context(), 50*time.Millisecond)
	defer cancel()
	require.ErrorIs(t, receive(t, s.shutdown(ctx)), context.DeadlineExceeded)
	release()
	require.NoError(t, s.Shutdown(t.Context()))
}

// lingerListener makes connections for which closing waits for the client.
type lingerListener struct{ net.Listener }

func (l lingerListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err == nil {
		err = c.(*net.TCPConn).SetLinger(10)
	}
	return c, err
}

// Closing never waits for a client, whatever the host has set.
func TestSession_CloseOfALingeringConnection(t *testing.T) {
	t.Parallel()
	for _, below := range []carrier{tcp, secure} {
		t.Run(below.name, func(t *testing.T) {
			t.Parallel()
			c := carrier{below.name, func(l net.Listener) net.Listener { return below.wrap(lingerListener{l}) }}
			s := start(t, c, smallBuffers)
			ws, _ := s.stall()
			began := time.Now()
			ws.h.PingNow()
			ws.h.PingNow() // the first ping was not answered
			require.Equal(t, engineio.ReasonPingTimeout, ws.h.ended(t))
			require.NoError(t, s.Shutdown(t.Context()))
			require.Less(t, time.Since(began), 5*time.Second)
		})
	}
}
