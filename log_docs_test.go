// docs/log.md has every line that the library logs, with its level.

package realtime_test

import (
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// loggedLines returns the levels of the messages that the library's code passes to a logger.
func loggedLines(t *testing.T) map[string]string {
	t.Helper()
	lines := map[string]string{"realtime: log lines were suppressed": "that of `line`"} // internal/logsample
	levels := map[string]string{"Info": "INFO", "Warn": "WARN", "Error": "ERROR", "Log": "ERROR", "Debug": "DEBUG", "logRemedy": "varies"}
	message := regexp.MustCompile(`^(realtime|realtimeadmin|redisadapter|redisbus|engineio|socketio): `)
	read := func(path string) {
		file, err := parser.ParseFile(token.NewFileSet(), path, nil, 0)
		require.NoError(t, err)
		ast.Inspect(file, func(n ast.Node) bool {
			call, ok := n.(*ast.CallExpr)
			if !ok {
				return true
			}
			method, ok := call.Fun.(*ast.SelectorExpr)
			if !ok || levels[method.Sel.Name] == "" {
				return true
			}
			for _, arg := range call.Args[:min(len(call.Args), 3)] {
				text, ok := arg.(*ast.BasicLit)
				if !ok || text.Kind != token.STRING {
					continue
				}
				if s, err := strconv.Unquote(text.Value); err == nil && message.MatchString(s) {
					lines[s] = levels[method.Sel.Name]
				}
				break
			}
			return true
		})
	}
	for _, dir := range []string{".", "realtimeadmin", "redisadapter", "redisbus", "internal"} {
		require.NoError(t, filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
			switch {
			case err != nil:
				return err
			case d.IsDir() && (dir == "." && path != "." || path == filepath.Join("internal", "cmd")):
				return filepath.SkipDir
			case strings.HasSuffix(path, ".go") && !strings.HasSuffix(path, "_test.go"):
				read(path)
			}
			return nil
		}))
	}
	return lines
}

func TestLog_DocsExplainEveryLine(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/log.md")
	require.NoError(t, err)
	explained := map[string]string{}
	for _, row := range regexp.MustCompile("(?m)^\\| `([a-z]+: [^|]+?)` \\| ([^|]+?) \\| [^|]+ \\| [^|]+ \\|$").FindAllStringSubmatch(string(doc), -1) {
		require.NotContains(t, explained, row[1], "explained twice")
		explained[row[1]] = row[2]
	}
	lines := loggedLines(t)
	require.Greater(t, len(lines), 50, "the test does not find the lines")
	require.Equal(t, lines, explained)
}

// The lines, reasons and codes that docs/troubleshooting.md names exist.
func TestLog_TroubleshootingNamesLines(t *testing.T) {
	t.Parallel()
	doc, err := os.ReadFile("docs/troubleshooting.md")
	require.NoError(t, err)
	lines, found := loggedLines(t), 0
	for _, m := range regexp.MustCompile("`((?:realtime|redisadapter|redisbus): [^`]+)`").FindAllStringSubmatch(string(doc), -1) {
		require.Contains(t, lines, m[1])
		found++
	}
	require.Greater(t, found, 10)
	log, err := os.ReadFile("docs/log.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("reason `([a-z ]+)`").FindAllStringSubmatch(string(doc), -1) {
		require.Contains(t, string(log), "\n| `"+m[1]+"` |")
	}
	_, refused, _ := strings.Cut(string(doc), "## The client is refused")
	refused, _, _ = strings.Cut(refused, "## ")
	events, err := os.ReadFile("docs/events.md")
	require.NoError(t, err)
	for _, m := range regexp.MustCompile("(?m)^\\| `([a-z_]+)`").FindAllStringSubmatch(refused, -1) {
		require.Contains(t, string(events), "\n| `"+m[1]+"` |")
	}
}
