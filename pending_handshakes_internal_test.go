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

// Several handshakes of one user, some of them with the same session: a revocation finds those
// that are still in progress, in whatever order the others have ended.
func TestPendingHandshakes_OfOneUser(t *testing.T) {
	t.Parallel()
	p := &pendingHandshakes{}
	list := func(sid string) *handshake {
		h := &handshake{}
		p.begin(h)
		require.True(t, p.identify(h, "/drivers", Claims{Subject: "d1", SessionID: sid}))
		return h
	}
	first, second, third, fourth := list("s1"), list("s2"), list("s1"), list("s1")
	other := &handshake{}
	p.begin(other)
	require.True(t, p.identify(other, "/drivers", Claims{Subject: "d2", SessionID: "s3"}))

	user, session := DriverRoom("d1").name, SessionRoom("s1").name
	require.ElementsMatch(t, []*handshake{first, second, third, fourth}, p.markRevoked("/drivers", user))
	require.ElementsMatch(t, []*handshake{first, third, fourth}, p.markRevoked("/drivers", session))
	require.Empty(t, p.markRevoked("/passengers", session))
	p.done(third) // in the middle of both lists
	require.ElementsMatch(t, []*handshake{first, second, fourth}, p.markRevoked("/drivers", user))
	p.done(fourth)
	p.done(fourth)
	p.done(first) // the ends
	require.ElementsMatch(t, []*handshake{second}, p.markRevoked("/drivers", user))
	require.Empty(t, p.markRevoked("/drivers", session))
	p.done(second)
	require.False(t, other.revoked.Load())
	p.done(other)
	require.Empty(t, p.byRoom)
	require.Nil(t, p.verifying.Oldest())
}
