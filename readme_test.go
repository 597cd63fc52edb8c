package realtime_test

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// TestReadme_Compiles keeps the programs in the documentation the same as the files
// that they are copies of.
func TestReadme_Compiles(t *testing.T) {
	t.Parallel()
	for doc, programs := range map[string]int{"docs/events-in.md": 3, "docs/testing.md": 1} {
		text, err := os.ReadFile(doc)
		require.NoError(t, err)
		blocks := regexp.MustCompile("(?s)<!-- ([a-z/_.]+) -->\n```[a-z]+\n(.*?)```\n<!-- end -->").FindAllStringSubmatch(string(text), -1)
		require.Len(t, blocks, programs, doc)
		for _, b := range blocks {
			file, err := os.ReadFile(b[1])
			require.NoError(t, err)
			require.Equal(t, strings.TrimSpace(string(file)), strings.TrimSpace(b[2]), "%s shows another %s", doc, b[1])
		}
	}
}
