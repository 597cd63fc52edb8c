// A device whose handshake can't be decided in time.

package main

import (
	"context"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/testkit"
)

// On a busy machine a handshake may be undecided. The client tries again.
func TestActor_ConnectUndecided(t *testing.T) {
	w, err := newWorld(config{seed: 1})
	require.NoError(t, err)
	defer w.lag.close()
	a := w.newActors(4)[1]
	a.login()
	entered, release := w.users.Block()
	connected := make(chan *connection)
	go func() { connected <- a.connect(context.Background()) }()
	<-entered
	w.lag.add(time.Now(), repoTimeout)
	testkit.Eventually(t, "the handshake is not given up", func() bool { return w.count.Of("refused: unavailable") > 0 })
	release()
	c := <-connected
	_, breaches := w.oracle.verdict()
	require.Empty(t, breaches)
	require.NotNil(t, c)
	c.Close()
	w.oracle.drain()
	w.shutDown()
}
