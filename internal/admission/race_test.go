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
	c.Unauthenticated, c.UnauthenticatedPerIP, c.ConnectionsPerIP, c.Handshake.PerSecond = 16, 4, 8, -1
	a := New(c)
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			for range 3000 {
				g := &struct {
					Conn
					once sync.Once
				}{}
				if status, _ := a.Admit(&g.Conn, from(v4(rand.N(8)<<7))); status != 0 {
					continue
				}
				end := func() { g.once.Do(func() { a.Release(&g.Conn) }) }
				a.Opened(&g.Conn, end)
				for range rand.N(3) {
					if a.Begin(&g.Conn) != Pass {
						continue
					}
					if rand.N(2) == 0 {
						a.Authenticated(&g.Conn)
					}
					a.Decided(&g.Conn)
				}
				end()
			}
		})
	}
	all.Wait()
	require.Zero(t, a.connections)
	require.Equal(t, group{}, a.strangers)
	require.Empty(t, a.sites)
	require.Equal(t, len(a.addresses), a.idle.n)
	for _, from := range a.addresses {
		require.Zero(t, from.connections)
		require.Equal(t, group{}, from.strangers)
	}
}
