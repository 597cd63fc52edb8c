package realtime_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme_Compiles keeps the README's programs the same as the files
// that they are copies of.
func TestReadme_Compiles(t *testing.T) {
	t.Parallel()
	readme, err := os.ReadFile("README.md")
	require.NoError(t, err)
	blocks := regexp.MustCompile("(?s)<!-- ([a-z/_.]+) -->\n```[a-z]+\n(.*?)```\n<!-- end -->").FindAllStringSubmatch(string(readme), -1)
	require.Len(t, blocks, 3)
	for _, b := range blocks {
		file, err := os.ReadFile(b[1])
		require.NoError(t, err)
		require.Equal(t, strings.TrimSpace(string(file)), strings.TrimSpace(b[2]), "README.md shows another %s", b[1])
	}
}
