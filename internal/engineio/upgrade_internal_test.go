package engineio

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// A session that closes gives up a probe that was not answered, so that its client
// goes on polling and hears why. The probe's reader may be about to answer it.
func TestProbeThatWasGivenUp(t *testing.T) {
	t.Parallel()
	ss, c, l := newLogged(newServer(t), false, true)
	ss.Close(ReasonForcedClose)
	require.False(t, c.upgrading([]byte("2probe")))
	require.Equal(t, []string{"link closed", "closed: forced close"}, l.lines, "and nothing is written")
	ss.abort(ReasonForcedClose)
}
