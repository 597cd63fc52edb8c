// Package walls_test holds the layers: which package may import which.
package walls_test

import (
	"go/parser"
	"go/token"
	"io/fs"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const module = "github.com/rodando/realtime"

// allowed lists, for each package of the library, what it imports besides the standard
// library. A new package needs a line here, and so does a new import: each is a
// decision about the layers.
var allowed = map[string][]string{
	".": {
		"github.com/golang-jwt/jwt/v5", "github.com/google/uuid",
		"./internal/admission", "./internal/chain", "./internal/comebacks", "./internal/hostcall", "./internal/jsonscan", "./internal/logsample", "./internal/origin",
		"./internal/peerrooms", "./internal/ratelimit", "./internal/receipts", "./internal/repeats", "./internal/roster", "./internal/socketio", "./internal/timingwheel", "./internal/triptable",
	},
	"./internal/admission":         {"./internal/ratelimit"},
	"./internal/chain":             {},
	"./internal/comebacks":         {"./internal/chain"},
	"./internal/engineio":          {"github.com/gobwas/ws", "./internal/hostcall", "./internal/rawsocket", "./internal/stackroom", "./internal/timingwheel"},
	"./internal/eventlog":          {"./internal/chain"},
	"./internal/faulttest":         {},
	"./internal/hostcall":          {"./internal/chain", "./internal/stackroom", "./internal/timingwheel"},
	"./internal/jsonscan":          {},
	"./internal/lockcheck":         {},
	"./internal/logsample":         {"./internal/ratelimit"},
	"./internal/origin":            {},
	"./internal/peerrooms":         {},
	"./internal/ratelimit":         {},
	"./internal/rawsocket":         {},
	"./internal/receipts":          {"./internal/chain", "./internal/timingwheel"},
	"./internal/redisclient":       {"github.com/redis/rueidis", "./internal/rawsocket"},
	"./internal/redistest":         {},
	"./internal/repeats":           {"./internal/chain", "./internal/timingwheel"},
	"./internal/roster":            {},
	"./internal/socketio":          {"./internal/engineio", "./internal/eventlog", "./internal/jsonscan", "./internal/stackroom", "./internal/timingwheel"},
	"./internal/stackroom":         {},
	"./internal/testkit":           {},
	"./internal/timingwheel":       {},
	"./internal/triptable":         {},
	"./realtimeadmin":              {".", "./internal/admission", "./internal/logsample", "./internal/ratelimit"},
	"./realtimegen":                {"."},
	"./realtimeotel":               {"go.opentelemetry.io/otel", "go.opentelemetry.io/otel/attribute", "go.opentelemetry.io/otel/codes", "go.opentelemetry.io/otel/metric", "go.opentelemetry.io/otel/propagation", "go.opentelemetry.io/otel/trace", "."},
	"./realtimeprom":               {"github.com/prometheus/client_golang/prometheus", "."},
	"./realtimetest":               {"."},
	"./redisadapter":               {"github.com/redis/rueidis", ".", "./internal/hostcall", "./internal/logsample", "./internal/redisclient", "./internal/stackroom", "./redisadapter/internal/sift", "./redisadapter/internal/wire"},
	"./redisadapter/internal/sift": {},
	"./redisadapter/internal/wire": {"./internal/jsonscan"},
	"./redisbus":                   {"github.com/redis/rueidis", ".", "./internal/hostcall", "./internal/logsample", "./internal/redisclient"},
	// Programs import the public packages, and what they are the test of.
	"./examples/dispatch": {
		"github.com/gobwas/ws", "github.com/gobwas/ws/wsutil", "github.com/golang-jwt/jwt/v5", "github.com/google/uuid", "github.com/redis/rueidis",
		"github.com/prometheus/client_golang/prometheus", "github.com/prometheus/client_golang/prometheus/collectors", "github.com/prometheus/client_golang/prometheus/promhttp",
		".", "./realtimeadmin", "./realtimeprom", "./redisadapter", "./redisbus",
	},
	"./examples/jwks":                   {"github.com/golang-jwt/jwt/v5", "."},
	"./examples/production":             {"."},
	"./examples/quickstart":             {"github.com/golang-jwt/jwt/v5", "."},
	"./internal/cmd/generate":           {".", "./realtimegen"},
	"./internal/cmd/protocolserver":     {"./internal/engineio", "./internal/socketio", "./internal/timingwheel"},
	"./internal/cmd/internal/comeback":  {".", "./internal/cmd/internal/stresskit", "./realtimetest"},
	"./internal/cmd/internal/offerbook": {".", "./internal/cmd/internal/comeback", "./internal/cmd/internal/stresskit", "./realtimetest"},
	"./internal/cmd/internal/rides":     {".", "./internal/cmd/internal/stresskit"},
	"./internal/cmd/internal/stresskit": {},
	"./internal/cmd/stresscluster":      {".", "./internal/cmd/internal/comeback", "./internal/cmd/internal/offerbook", "./internal/cmd/internal/rides", "./internal/cmd/internal/stresskit", "./internal/redistest", "./realtimetest", "./redisadapter", "./redisbus"},
	"./internal/cmd/stress":             {"github.com/gobwas/ws", "github.com/gobwas/ws/wsutil", "./internal/cmd/internal/comeback", "./internal/cmd/internal/offerbook", "./internal/cmd/internal/rides", "./internal/cmd/internal/stresskit", ".", "./realtimetest"},
}

// TestImports_PointDownwards compares the imports of every file that is no test with
// the table above.
func TestImports_PointDownwards(t *testing.T) {
	t.Parallel()
	found := imports(t, "../..")
	require.Equal(t, slices.Sorted(maps.Keys(allowed)), slices.Sorted(maps.Keys(found)), "every package has a line, and every line a package")
	for pkg, list := range found {
		for path, file := range list {
			require.Contains(t, allowed[pkg], path, "%s imports %s: is that its layer's business? Then it needs a place in the table", file, path)
		}
		for _, path := range allowed[pkg] {
			require.Contains(t, list, path, "the table lets %s import %s, which it does not", pkg, path)
		}
	}
}

// TestImports_InternalKnowsNothingOfTheRoot holds that no line of the table above lets a
// package under internal/ import the packages that hosts import.
func TestImports_InternalKnowsNothingOfTheRoot(t *testing.T) {
	t.Parallel()
	for pkg, list := range allowed {
		if !strings.Contains(pkg, "/internal/") || strings.HasPrefix(pkg, "./internal/cmd/") {
			continue
		}
		for _, path := range list {
			public := path == "." || strings.HasPrefix(path, "./") && !strings.Contains(path, "/internal/")
			require.False(t, public, "%s must not import %s", pkg, path)
		}
	}
}

// TestImports_UnderTheRootAreLight holds which modules every host links.
func TestImports_UnderTheRootAreLight(t *testing.T) {
	t.Parallel()
	modules, seen := map[string]bool{}, map[string]bool{}
	var visit func(pkg string)
	visit = func(pkg string) {
		if seen[pkg] {
			return
		}
		seen[pkg] = true
		for _, path := range allowed[pkg] {
			if strings.HasPrefix(path, ".") {
				visit(path)
			} else {
				modules[path] = true
			}
		}
	}
	visit(".")
	require.Equal(t, []string{"github.com/gobwas/ws", "github.com/golang-jwt/jwt/v5", "github.com/google/uuid"}, slices.Sorted(maps.Keys(modules)))
}

// imports returns, by package, what its files import from outside of the standard
// library, and one file that does.
func imports(t *testing.T, root string) map[string]map[string]string {
	t.Helper()
	found := map[string]map[string]string{}
	require.NoError(t, filepath.WalkDir(root, func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		name := d.Name()
		if d.IsDir() {
			if _, err := os.Stat(filepath.Join(path, "go.mod")); err == nil && path != root {
				return filepath.SkipDir // a module of its own
			}
			if skipped := name == "testdata" || name == "node_modules" || name == "bench" || name == "e2e" || name == "docs" || strings.HasPrefix(name, ".") && len(name) > 2; skipped {
				return filepath.SkipDir
			}
			return nil
		}
		if !strings.HasSuffix(name, ".go") || strings.HasSuffix(name, "_test.go") {
			return nil
		}
		parsed, err := parser.ParseFile(token.NewFileSet(), path, nil, parser.ImportsOnly)
		if err != nil {
			return err
		}
		dir, err := filepath.Rel(root, filepath.Dir(path))
		if err != nil {
			return err
		}
		pkg := "."
		if dir != "." {
			pkg = "./" + filepath.ToSlash(dir)
		}
		if found[pkg] == nil {
			found[pkg] = map[string]string{}
		}
		for _, spec := range parsed.Imports {
			imported, err := strconv.Unquote(spec.Path.Value)
			if err != nil {
				return err
			}
			if first, _, _ := strings.Cut(imported, "/"); !strings.Contains(first, ".") {
				continue // the standard library's
			}
			switch rest, ours := strings.CutPrefix(imported, module); {
			case ours && rest == "":
				imported = "."
			case ours:
				imported = "." + rest
			}
			found[pkg][imported] = path
		}
		return nil
	}))
	return found
}
