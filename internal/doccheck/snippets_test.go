// Every Go snippet of the documentation is a part of code that is compiled.

package doccheck_test

import (
	"go/scanner"
	"go/token"
	"path"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// tokens returns the tokens of a piece of Go, its comments among them, each on a line of its own:
// how it is indented and wrapped makes no difference.
func tokens(t *testing.T, name, source string) string {
	t.Helper()
	var s scanner.Scanner
	file := token.NewFileSet().AddFile(name, -1, len(source))
	s.Init(file, []byte(source), func(at token.Position, message string) { t.Errorf("%v: %s", at, message) }, scanner.ScanComments)
	var out strings.Builder
	out.WriteByte('\n')
	for {
		_, tok, literal := s.Scan()
		switch {
		case tok == token.EOF:
			return out.String()
		case tok == token.SEMICOLON && literal == "\n": // a line's end, which a snippet has also where the file goes on
			continue
		case tok.IsLiteral() || tok == token.COMMENT:
			out.WriteString(strings.Join(strings.Fields(literal), " "))
		default:
			out.WriteString(tok.String())
		}
		out.WriteByte('\n')
	}
}

// isExample reports whether a file is meant to be read: it has an Example, or belongs to one, or is a
// program under examples/.
func isExample(name, source string) bool {
	return strings.HasPrefix(path.Base(name), "example") || strings.HasPrefix(name, "examples/") || strings.Contains(source, "\nfunc Example")
}

func TestSnippets_AreCompiled(t *testing.T) {
	t.Parallel()
	compiled := map[string]string{}
	for name, source := range tree(t, ".go") {
		if isExample(name, source) {
			compiled[name] = tokens(t, name, source)
		}
	}
	require.Greater(t, len(compiled), 20)
	found := 0
	for name, page := range pages(t) {
		for _, snippet := range blocks(page, "go") {
			found++
			wanted, in := tokens(t, name, snippet), ""
			for file, source := range compiled {
				if strings.Contains(source, wanted) {
					in = file
					break
				}
			}
			if in == "" {
				t.Errorf("%s: no Example and no program under examples/ has this:\n%s", name, snippet)
			}
		}
	}
	require.Greater(t, found, 10)
}

// README's JavaScript is a part of the client of the quickstart.
func TestSnippets_JavaScriptOfReadme(t *testing.T) {
	t.Parallel()
	words := func(source string) string { return strings.Join(strings.Fields(source), " ") }
	client := words(tree(t, ".mjs")["examples/quickstart/client.mjs"])
	snippets := blocks(pages(t)["README.md"], "js")
	require.NotEmpty(t, snippets)
	for _, snippet := range snippets {
		require.Contains(t, client, words(snippet))
	}
}

// The lines of the snippets for nginx and HAProxy are those of the files that the end-to-end tests run,
// but for addresses and for what is left out.
func TestSnippets_OfProxies(t *testing.T) {
	t.Parallel()
	var files strings.Builder
	for name, text := range tree(t, ".conf", ".cfg") {
		if strings.HasPrefix(name, "examples/dispatch/deploy/") {
			files.WriteString(text)
		}
	}
	known, found := strings.Join(strings.Fields(files.String()), " "), 0
	for name, page := range pages(t) {
		for _, snippet := range append(blocks(page, "nginx"), blocks(page, "haproxy")...) {
			for line := range strings.Lines(snippet) {
				line = strings.Join(strings.Fields(line), " ")
				if strings.Contains(line, "...") || strings.Contains(line, "10.0.0.") || strings.Contains(line, "allbackups") || strings.HasSuffix(line, "}") && len(line) > 1 {
					continue
				}
				found++
				require.True(t, strings.Contains(known, line), "%s: no file has the line %q", name, line) //nolint:testifylint // its message would be the files
			}
		}
	}
	require.Greater(t, found, 10)
}

// README is what convinces and starts a reader. Everything else has a page.
func TestReadme_IsShort(t *testing.T) {
	t.Parallel()
	require.LessOrEqual(t, strings.Count(pages(t)["README.md"], "\n"), 200)
}

// A snippet is found however it is indented, and only as a whole.
func TestTokens(t *testing.T) {
	t.Parallel()
	file := tokens(t, "", "func f() {\n\tx := 1 // one\n\tg(x,\n\t\t2)\n}\n")
	require.Contains(t, file, tokens(t, "", "x := 1 // one\ng(x, 2)\n"))
	require.NotContains(t, file, tokens(t, "", "x := 1 // another\ng(x, 2)\n"))
	require.NotContains(t, file, tokens(t, "", "x := 12\n"))
	require.NotContains(t, tokens(t, "", "// x := 1\n"), tokens(t, "", "x := 1\n"))
}
