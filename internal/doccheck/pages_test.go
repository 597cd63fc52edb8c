// Package doccheck_test holds the documentation to the tree: snippets compile, commands are run,
// links lead somewhere.
package doccheck_test

import (
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const root = "../.."

// skipped are the folders whose files are not the project's.
var skipped = map[string]bool{".git": true, "node_modules": true, "testdata": true}

// tree returns the contents of the files below the root whose names end in one of the suffixes, by
// path with slashes.
func tree(t *testing.T, suffixes ...string) map[string]string {
	t.Helper()
	files := map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		switch {
		case err != nil:
			return err
		case d.IsDir() && skipped[d.Name()]:
			return filepath.SkipDir
		case d.IsDir():
			return nil
		}
		for _, suffix := range suffixes {
			if strings.HasSuffix(d.Name(), suffix) {
				text, err := os.ReadFile(path)
				if err != nil {
					return err
				}
				name, err := filepath.Rel(root, path)
				files[filepath.ToSlash(name)] = strings.ReplaceAll(string(text), "\r\n", "\n")
				return err
			}
		}
		return nil
	}))
	return files
}

// pages returns all Markdown of the project, by path.
func pages(t *testing.T) map[string]string {
	t.Helper()
	all := tree(t, ".md")
	require.Contains(t, all, "README.md")
	require.Contains(t, all, "docs/scaling.md")
	return all
}

var fence = regexp.MustCompile("(?ms)^( *)```([a-z]*)\n(.*?)^ *```$")

// blocks returns the code blocks of a page in a language.
func blocks(page, language string) []string {
	var found []string
	for _, m := range fence.FindAllStringSubmatch(page, -1) {
		if m[2] == language {
			found = append(found, m[3])
		}
	}
	return found
}

// prose returns a page without its code blocks.
func prose(page string) string { return fence.ReplaceAllString(page, "") }

// What a merge left behind is in no file.
func TestTree_NoConflictMarkers(t *testing.T) {
	t.Parallel()
	marker := regexp.MustCompile(`(?m)^(<{7}|>{7}) .*$`)
	for path, text := range tree(t, ".md", ".go", ".js", ".mjs", ".ts", ".html", ".css", ".yaml", ".yml", ".json", ".dart", ".kt", ".swift") {
		require.Empty(t, marker.FindString(text), path)
	}
}
