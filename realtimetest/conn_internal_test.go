// Packets that a server must not send are counted.

package realtimetest

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestClient_Strays(t *testing.T) {
	t.Parallel()
	c := newConn(&dial{})
	s := &socket{
		conn: c, namespace: "/a", changed: make(chan struct{}),
		acks: map[int]chan realtime.Raw{1: make(chan realtime.Raw, 1)},
	}
	client := &Client{s, Timeout}
	c.sockets["/a"] = s
	for i, p := range []struct {
		text   string
		strays int
	}{
		{`0/a,{"sid":"x"}`, 0},
		{`3/a,1[]`, 0},
		{`3/a,1[]`, 1}, // a second time
		{`3/a,9[]`, 2}, // no such call
		{`2/b,["e"]`, 2},
		{`2/a,["e"]`, 2},
		{`1/a,`, 2},
		{`2/a,["e"]`, 3}, // after the DISCONNECT
	} {
		c.receive(text(p.text))
		require.Equal(t, p.strays, client.Strays(), i)
	}
	require.Len(t, client.Received(), 1)
}
