// The breaches that are kept, and the counts.

package stresskit

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestBreaches_KeepsTheFirstOfEachKind(t *testing.T) {
	t.Parallel()
	var b Breaches
	for i := range maxAlike + 5 {
		b.Add(fmt.Sprintf("p%d in /passengers: x/%d was lost", i, i), nil)
	}
	b.Add("something else", strings.ToUpper)
	require.Equal(t, maxAlike+6, b.Count)
	require.Len(t, b.First, maxAlike+1)
	require.Equal(t, "SOMETHING ELSE", b.First[maxAlike])
	for i := range 2 * maxBreaches {
		b.Add(strings.Repeat("x", i+1), nil)
	}
	require.Equal(t, maxAlike+6+2*maxBreaches, b.Count)
	require.Len(t, b.First, maxBreaches)
}

func TestCounts(t *testing.T) {
	t.Parallel()
	var c Counts
	require.Equal(t, 2, c.Add("b", 2))
	require.Equal(t, 5, c.Add("b", 3))
	c.Most("a", 7)
	c.Most("a", 4)
	require.Equal(t, 7, c.Of("a"))
	require.Zero(t, c.Of("c"))
	var out strings.Builder
	c.Print(&out)
	require.Equal(t, []string{"a", "7", "b", "5"}, strings.Fields(out.String()))
}
