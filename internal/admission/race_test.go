// Concurrent use of a Control.

package admission

import (
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
)

// However the calls interleave, every connection is counted exactly once.
func TestControl_Concurrency(t *testing.T) {
	t.Parallel()
	c := defaults()
	c.Connections, c.Unauthenticated, c.UnauthenticatedPerIP, c.ConnectionsPerIP, c.Handshake.PerSecond = 24, 16, 4, 8, -1
	a := New(c)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 3000 {
				g := &struct {
					Conn
					once sync.Once
				}{}
				if status, _ := a.Admit(&g.Conn, from([]string{v4(rand.N(8) << 7), "10.0.0.1:1"}[rand.N(8)/7])); status != 0 {
					continue
				}
				end := func() { g.once.Do(func() { a.Release(&g.Conn) }) }
				a.Opened(&g.Conn, end)
				for range rand.N(3) {
					if a.Begin(&g.Conn) != Pass {
						continue
					}
					if user := rand.N(2) == 0; rand.N(2) == 0 {
						a.Joined(&g.Conn, user)
						if rand.N(2) == 0 {
							defer a.Left(&g.Conn, user, end) // after Release too
						} else {
							all.Go(func() { a.Left(&g.Conn, user, end) })
						}
					}
					a.Decided(&g.Conn)
				}
				end()
			}
		})
	}
	all.Wait()
	require.Zero(t, a.connections)
	require.Equal(t, group{}, a.unauthenticated)
	require.Empty(t, a.sites)
	require.Equal(t, [states]queue{}, a.unknown.queues)
	for _, r := range a.busiest {
		require.Zero(t, r.top)
	}
	require.Equal(t, len(a.addresses), a.idle.n)
	for _, from := range a.addresses {
		require.Zero(t, from.connections)
		require.Equal(t, group{}, from.unauthenticated)
	}
}
