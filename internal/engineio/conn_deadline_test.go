// Tests of a connection whose Read writes, as that of TLS does to answer a KeyUpdate.

package engineio_test

import (
	"net"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// answeringListener makes the connections answeringConns.
type answeringListener struct {
	net.Listener
	errs chan error
}

func (l answeringListener) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	return answeringConn{c.(*net.TCPConn), l.errs}, nil
}

// answeringConn writes within each Read that has received something.
type answeringConn struct {
	*net.TCPConn
	errs chan error // of these writes
}

func (c answeringConn) Read(b []byte) (int, error) {
	n, err := c.TCPConn.Read(b)
	if err == nil {
		_, failed := c.Write(nil) // fails like any other after the deadline
		c.errs <- failed
	}
	return n, err
}

// The deadline of a write does not remain for what the connection itself writes later.
func TestNetLink_WriteDeadlineEnds(t *testing.T) {
	t.Parallel()
	const limit = 200 * time.Millisecond
	errs := make(chan error, 10_000)
	c := carrier{"answering", func(l net.Listener) net.Listener { return answeringListener{l, errs} }}
	s := start(t, c, quiet, func(set *setup) { set.engine.WriteTimeout = limit })
	ws := s.websocket()
	large := make([]byte, 200<<10) // written in several parts
	for i := range large {
		large[i] = 'x'
	}
	for _, message := range []string{"a", string(large)} {
		ws.send("4" + message)
		ws.expect("4" + message)
		time.Sleep(3 * limit / 2)
		for len(errs) > 0 {
			require.NoError(t, <-errs)
		}
		ws.send("4b")
		require.NoError(t, receive(t, errs))
		ws.expect("4b")
	}
	ws.h.Close(engineio.ReasonForcedClose)
	require.Equal(t, engineio.ReasonForcedClose, ws.h.ended(t))
}
