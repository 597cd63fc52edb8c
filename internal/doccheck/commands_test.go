// Every command of the documentation is run by CI or by a test, or it is listed here why not.

package doccheck_test

import (
	"maps"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// proof says what runs a command: the file that has the text. Without a file, why is the reason for
// which nothing runs it.
type proof struct{ file, text, why string }

func ranBy(file, text string) proof { return proof{file: file, text: text} }
func notRun(why string) proof       { return proof{why: why} }

var (
	benchmark    = notRun("it measures, for minutes, and needs an idle machine; .ci/run vets and tests the program")
	byHand       = notRun("the same by hand as make cluster, which e2e/test/makecluster.test.js runs")
	dispatchREST = notRun("examples/dispatch/api_test.go makes these requests, on a port that is free")
	operator     = notRun("for an operator, on their own Redis; redisbus/keys_docs_test.go holds the names of the keys")
)

// commands has every command of the documentation.
var commands = map[string]proof{
	"go get github.com/rodando/realtime":                 notRun("the module must be published first"),
	"go run ./examples/quickstart":                       ranBy("e2e/test/quickstart.test.js", "'./examples/quickstart'"),
	"cd examples/quickstart":                             notRun("a step of the next line"),
	"npm install socket.io-client@4":                     ranBy("e2e/package.json", `npm:socket.io-client@4`),
	"node client.mjs":                                    ranBy("e2e/test/quickstart.test.js", "client.mjs"),
	"go run ./examples/dispatch":                         ranBy("e2e/run", "go build ${E2E_RACE:+-race} -o \"$tmp/dispatch\" ./examples/dispatch"),
	"go run ./examples/dispatch -h":                      ranBy("examples/dispatch/usage_test.go", `"-h"`),
	"go run ./examples/dispatch -metrics 127.0.0.1:9100": ranBy("e2e/test/dashboard.test.js", "'-metrics', `127.0.0.1:"),
	"go test ./...":                                      ranBy("Makefile", "\tgo test ./...\n"),
	"make cluster":                                       ranBy("e2e/test/makecluster.test.js", "make"),

	"go build -o /tmp/dispatch ./examples/dispatch":                                                        byHand,
	"export REDIS_URL=redis://localhost:6379 JWT_SECRET=$(openssl rand -hex 32) TRUSTED_PROXIES=127.0.0.1": byHand,
	"for port in 3001 3002 3003; do PORT=$port /tmp/dispatch & done":                                       byHand,
	"haproxy -f examples/dispatch/deploy/haproxy.cfg &":                                                    ranBy("e2e/lib/cluster.js", "haproxy.cfg"),
	"/tmp/dispatch -simulate http://localhost:8080 -cars 10":                                               byHand,

	"url=http://localhost:3000": notRun("a step of the next lines"),
	`token=$(curl -s $url/api/login -d '{"userId":"passenger-1"}' | sed 's/.*"token":"\([^"]*\)".*/\1/')`: dispatchREST,
	`curl -s $url/api/trips -H "Authorization: Bearer $token" -d '{"pickup":{"lat":23.12,"lng":-82.38}}'`: dispatchREST,
	`curl -s $url/api/trips/current -H "Authorization: Bearer $token"`:                                    dispatchREST,

	"cd bench":                notRun("a step of the next line"),
	"go run ./compare":        benchmark,
	"go run ./compare -quick": benchmark,
	"go run ./compare -h":     benchmark,
	"go run ./compare -peers node,realtime -modes pings,fanout":                                                         benchmark,
	"go run ./compare -peers node,realtime -modes cluster,cluster-pings,scale,scale-spread -scaling ../docs/scaling.md": benchmark,
	"go run ./compare -modes drops,drops-faults,drops-nodes,storm,storm-spread -drops ../docs/benchmarks.md":            benchmark,
	"go build -o out/bin/ ./loadgen ./server":                                                                           benchmark,
	"PORT=3000 JWT_SECRET=bench-secret taskset -c 0 out/bin/server &":                                                   benchmark,
	"taskset -c 1 out/bin/loadgen pings -c 500 -t 4s -server http://127.0.0.1:3000 -pid $!":                             benchmark,

	"redis-cli ZRANGE '{realtime}:members:realtime' 0 -1":          operator,
	"redis-cli GET '{realtime:0}:owner:realtime'":                  operator,
	"redis-cli XINFO GROUPS '{realtime:0}:events'":                 operator,
	"redis-cli XLEN '{realtime}:aside:realtime'":                   operator,
	"redis-cli XREVRANGE '{realtime}:aside:realtime' + - COUNT 10": operator,
	"redis-cli XADD '{realtime:3}:events' '*' id 5f0c4ad6-5c1c-4f8e-9a51-0d6b3f0d8f11 name trip.started key trip-1 " +
		`at 2026-05-04T10:20:30.123Z data '{"tripId":"trip-1","passengerId":"ana","driverId":"bob"}'`: operator,
}

var (
	continued = regexp.MustCompile(`\\\n\s*`)
	comment   = regexp.MustCompile(`(?m)(^|\s+)# .*$`)
)

// commandsOf returns the commands of the sh blocks of a page, without comments.
func commandsOf(page string) []string {
	var found []string
	for _, block := range blocks(page, "sh") {
		block = comment.ReplaceAllString(continued.ReplaceAllString(block, ""), "")
		for line := range strings.Lines(block) {
			if line = strings.TrimSpace(line); line != "" {
				found = append(found, line)
			}
		}
	}
	return found
}

func TestCommands_AreRun(t *testing.T) {
	t.Parallel()
	files, seen := tree(t, "run", "Makefile", ".yml", ".js", ".json", ".go"), map[string]bool{}
	for name, page := range pages(t) {
		for _, command := range commandsOf(page) {
			seen[command] = true
			p, listed := commands[command]
			switch {
			case !listed:
				t.Errorf("%s: which test runs this, or why does none? %s", name, command)
			case p.file != "":
				if !strings.Contains(files[p.file], p.text) {
					t.Errorf("%s: %s does not run %s", name, p.file, command)
				}
			default:
				require.NotEmpty(t, p.why, command)
			}
		}
	}
	require.Equal(t, slices.Sorted(maps.Keys(commands)), slices.Sorted(maps.Keys(seen)), "the list has commands that no page has")
}

// The targets of make that the documentation names exist.
func TestCommands_TargetsExist(t *testing.T) {
	t.Parallel()
	makefile := tree(t, "Makefile")["Makefile"]
	target, found := regexp.MustCompile("`make ([a-z][a-z0-9 -]*)"), 0
	for name, page := range pages(t) {
		for _, m := range target.FindAllStringSubmatch(page, -1) {
			for t1 := range strings.FieldsSeq(m[1]) {
				found++
				if !strings.Contains(makefile, "\n"+t1+":") {
					t.Errorf("%s names make %s, which does not exist", name, t1)
				}
			}
		}
	}
	require.Greater(t, found, 5)
}

// The tools of the checks are listed once, in .ci/tools: a second list would lack some.
func TestTools_AreListedOnce(t *testing.T) {
	t.Parallel()
	files := tree(t, "run", "tools", ".yml")
	for _, name := range []string{".ci/run", ".github/workflows/ci.yml"} {
		require.Contains(t, files[name], ".ci/tools\n", name)
	}
	for name, text := range files {
		if strings.Contains(text, "apt-get install") && name != ".ci/tools" {
			t.Errorf("%s has a list of its own", name)
		}
	}
}

func TestCommandsOf(t *testing.T) {
	t.Parallel()
	require.Equal(t, []string{"a b", "c '#1' d"}, commandsOf("```sh\n# all\na b   # why\n\nc '#1' \\\n\td\n```\n```go\nx()\n```\n"))
}
