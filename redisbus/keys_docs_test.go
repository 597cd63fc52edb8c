// docs/redis.md names the keys that the bus has.

package redisbus

import (
	"os"
	"regexp"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestKeys_DocsNameThem: each key in a redis-cli command of the page is one of a bus with the
// default options.
func TestKeys_DocsNameThem(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("../docs/redis.md")
	require.NoError(t, err)
	b, err := New(Options{URL: "redis://127.0.0.1:1"})
	require.NoError(t, err)
	known := map[string]bool{b.keys.members: true, b.keys.aside: true}
	for _, p := range b.keys.all {
		known[p.stream], known[p.owner] = true, true
	}
	named := regexp.MustCompile(`(?m)^redis-cli [A-Z]+(?: GROUPS)? '([^']+)'`).FindAllStringSubmatch(string(doc), -1)
	require.GreaterOrEqual(t, len(named), 5)
	for _, m := range named {
		require.True(t, known[m[1]], "the bus has no key %s", m[1])
	}
}
