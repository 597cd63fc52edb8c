// The memory of revocations during the verification of tokens.

package realtime

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
)

// Under constant load there is always a token being verified; what was revoked before
// the oldest of them began is forgotten all the same.
func TestPendingHandshakes_ForgetsRevocations(t *testing.T) {
	t.Parallel()
	p := &pendingHandshakes{}
	first := &handshake{}
	p.begin(first)
	p.markRevoked("/drivers", SessionRoom("s0").name)
	under := []*handshake{first}
	most := 0
	for n := range 10_000 {
		h := &handshake{}
		p.begin(h)
		under = append(under, h)
		p.markRevoked("/drivers", SessionRoom(fmt.Sprint("s", n)).name)
		p.markRevoked("/drivers", SessionRoom("again and again").name)
		if len(under) > 10 {
			p.done(under[0])
			under = under[1:]
		}
		most = max(most, len(p.revoked), len(p.revocations))
	}
	require.Less(t, most, 50)

	// Those that are younger than a revocation are not refused, the others are.
	old, young := under[0], &handshake{}
	p.markRevoked("/drivers", SessionRoom("s").name)
	p.begin(young)
	claims := Claims{Subject: "d1", SessionID: "s"}
	require.True(t, p.identify(young, "/drivers", claims))
	require.False(t, p.identify(old, "/drivers", claims))
	for _, h := range append(under, young) {
		p.done(h)
	}
	require.Empty(t, p.revoked)
	require.Empty(t, p.revocations)
	require.Empty(t, p.byRoom)
}
