// Tests that no lock is held while another layer is called.

package socketio

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/engineio"
)

// The refusal of a CONNECT may be the message that overflows the outbox.
func TestConn_RefusedConnectThatOverflows(t *testing.T) {
	t.Parallel()
	for _, what := range []string{"0/b,", "0/unknown,"} {
		ended := make(chan struct{})
		s := serve(t, func(c *Config, ec *engineio.Config) {
			c.Closed = func(any) { close(ended) }
			c.Namespaces = 1
			ec.MaxOutboxMessages = 10
		})
		s.namespace("/a", Hooks{})
		s.namespace("/b", Hooks{})
		c, _ := s.join("polling", "/a")
		<-c.read // the answer to the open poll still arrives
		answered := make(chan struct{})
		go func() {
			defer close(answered)
			c.post("4" + strings.Repeat(what+"\x1e4", 99) + what)
		}()
		select {
		case <-answered:
		case <-time.After(20 * time.Second):
			require.FailNow(t, "the POST hangs")
		}
		c.read <- struct{}{}
		<-c.closed
		<-ended
		require.Eventually(t, func() bool { return s.live.Load() == 0 }, 20*time.Second, time.Millisecond)
	}
}
