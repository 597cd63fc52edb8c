// docs/clients.md. e2e compiles or parses its code.

package realtimegen_test

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

// snippet returns the code of a language in docs/clients.md.
func snippet(t *testing.T, language string) string {
	t.Helper()
	page, err := os.ReadFile(filepath.Join("..", "docs", "clients.md"))
	require.NoError(t, err)
	_, text, found := strings.Cut(strings.ReplaceAll(string(page), "\r\n", "\n"), "\n```"+language+"\n")
	require.True(t, found, language)
	text, _, _ = strings.Cut(text, "\n```\n")
	return text + "\n"
}

// The code in docs/clients.md uses names that are generated, and connects again after the codes for which
// the table in docs/events.md says so.
func TestClientsDoc_FollowsTheCatalog(t *testing.T) {
	t.Parallel()
	c, err := realtimegen.Catalog(realtime.Options{})
	require.NoError(t, err)
	var again []string
	for _, r := range c.Refusals {
		if strings.Contains(r.Do, "connect again") {
			again = append(again, string(r.Code))
		}
	}
	member := regexp.MustCompile(`\b(DriversEvents|RefusalCode)\.(\w+)`)
	class := regexp.MustCompile(`\b(\w+Payload|TokenRefresh|Refreshed|Ack)\b[.(<]`)
	for language, n := range map[string]native{"dart": natives[0], "kotlin": natives[1], "swift": natives[2]} {
		text, page := n.text(t, c), snippet(t, language)
		var codes []string
		for _, m := range member.FindAllStringSubmatch(page, -1) {
			_, space, found := strings.Cut(text, m[1]+" {")
			require.True(t, found)
			space, _, _ = strings.Cut(space, "\n}")
			value := regexp.MustCompile(`\b` + m[2] + ` = ["'](.*)["']`).FindStringSubmatch(space)
			require.NotNil(t, value, "%s: %s", language, m[0])
			if m[1] == "RefusalCode" {
				codes = append(codes, value[1])
			}
		}
		require.Equal(t, again, codes, language)
		classes := class.FindAllStringSubmatch(page, -1)
		require.Greater(t, len(classes), 5)
		for _, m := range classes {
			require.Regexp(t, `(?m)^(public |final |data )*(class|struct) `+m[1]+`\b`, text, language)
		}
	}
}
