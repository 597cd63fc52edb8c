// Every link of the documentation leads to a file that exists, and to a heading in it.

package doccheck_test

import (
	"os"
	"path"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"unicode"

	"github.com/stretchr/testify/require"
)

var (
	inlineCode = regexp.MustCompile("`[^`\n]*`")
	link       = regexp.MustCompile(`\]\(([^)\s]+)\)|(?:src|href)="([^"]+)"`)
	heading    = regexp.MustCompile(`(?m)^#{1,6} +(.+?) *$`)
	named      = regexp.MustCompile(`\[([^\]]*)\]\([^)]*\)`)
)

// anchors returns the anchors that GitHub gives to the headings of a page.
func anchors(page string) map[string]bool {
	all := map[string]bool{}
	for _, m := range heading.FindAllStringSubmatch(prose(page), -1) {
		var slug strings.Builder
		for _, r := range strings.ToLower(named.ReplaceAllString(m[1], "$1")) {
			switch {
			case r == ' ':
				slug.WriteByte('-')
			case r == '-' || r == '_' || unicode.IsLetter(r) || unicode.IsDigit(r):
				slug.WriteRune(r)
			}
		}
		name := slug.String()
		for n := 1; all[name]; n++ {
			name = slug.String() + "-" + string(rune('0'+n))
		}
		all[name] = true
	}
	return all
}

func TestLinks_LeadSomewhere(t *testing.T) {
	t.Parallel()
	all, found := pages(t), 0
	for name, page := range all {
		for _, m := range link.FindAllStringSubmatch(inlineCode.ReplaceAllString(prose(page), ""), -1) {
			target := m[1] + m[2]
			if strings.Contains(target, "://") || strings.HasPrefix(target, "mailto:") {
				continue
			}
			found++
			file, anchor, _ := strings.Cut(target, "#")
			to := name
			if file != "" {
				to = path.Join(path.Dir(name), file)
			}
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s: the link %s leads nowhere", name, target)
				continue
			}
			if anchor != "" && !anchors(all[to])[anchor] {
				t.Errorf("%s: %s has no heading #%s", name, to, anchor)
			}
		}
	}
	require.Greater(t, found, 50)
}

// The pages that code, scripts and log lines name exist.
func TestPages_ThatCodeNamesExist(t *testing.T) {
	t.Parallel()
	page, found := regexp.MustCompile(`\bdocs/[\w/-]+\.(md|json|yaml)\b`), 0
	for name, text := range tree(t, ".go", ".js", ".mjs", ".sh", ".cfg", ".conf", "Makefile", "run") {
		for _, to := range page.FindAllString(text, -1) {
			found++
			if _, err := os.Stat(filepath.Join(root, filepath.FromSlash(to))); err != nil {
				t.Errorf("%s names %s, which does not exist", name, to)
			}
		}
	}
	require.Greater(t, found, 10)
}

func TestAnchors(t *testing.T) {
	t.Parallel()
	page := "# A node, `that` goes\n```sh\n# no heading\n```\n## [Linked](x.md) one\n## Same\n## Same\n"
	require.Equal(t, map[string]bool{"a-node-that-goes": true, "linked-one": true, "same": true, "same-1": true}, anchors(page))
}
