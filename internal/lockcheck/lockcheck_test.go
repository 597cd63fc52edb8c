// Tests of the checker, and its run over this module.

package lockcheck

import (
	"bufio"
	"fmt"
	"maps"
	"os"
	"runtime"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

const (
	module  = "github.com/rodando/realtime"
	session = "(*" + module + "/internal/engineio.Session)."
)

var rules = Rules{
	Wheel: module + "/internal/timingwheel.Timer",
	Outward: []string{
		"net.*", "net/http.*", "syscall.*", module + "/internal/rawsocket.*", "os.*", "(*log/slog.Logger).*", "time.Sleep", "(*sync.WaitGroup).Wait", "github.com/redis/rueidis.*",
		session + "Send", session + "SendThrough", session + "SendReceipted", session + "OpenGate", session + "CloseGate", session + "Close", session + "Pause", session + "Resume", session + "Cork", session + "Uncork",
	},
	Harmless: []string{"error", "context.Context", "context.CancelFunc", "func() time.Time", "slices.*", "maps.*", "sort.*", "strings.*"},
	// recv serializes the messages of a session, and only the reader takes it.
	Serial: []string{"engineio.Session.recv"},
	Reviewed: map[string]string{
		"engineio.eventLoop.ensureStarted: engineio.eventLoop.mu: syscall.EpollCreate1":         "does not block",
		"engineio.eventLoop.ensureStarted: engineio.eventLoop.mu: syscall.SetNonblock":          "does not block",
		"engineio.eventLoop.ensureStarted: engineio.eventLoop.mu: os.NewFile":                   "does not block",
		"engineio.eventLoop.ensureStarted: engineio.eventLoop.mu: os.File.SyscallConn":          "does not block",
		"engineio.eventLoop.ensureStarted: engineio.eventLoop.mu: os.File.Close":                "does not block: no goroutine reads it yet",
		"engineio.post.stopRequest: engineio.post.mu: http.ResponseController.SetReadDeadline":  "only the POST and a goroutine of cancel take this lock",
		"engineio.post.startReading: engineio.post.mu: http.ResponseController.SetReadDeadline": "only the POST and a goroutine of cancel take this lock",
		"hostcall.Lookup[T].end: hostcall.Lookup.mu: func Cacheable":                            "only compares fields",
		// While an event is queued on its receivers and handed to the other nodes, no other event of the namespace
		// is: so everybody gets the events in one order.
		"socketio.Socket.Send: eventlog.Log.mu: engineio.Session.SendThrough": "only queues the event",
		"socketio.Outgoing.share: eventlog.Log.mu: func Share":                "only queues the event for the adapter, or calls a DirectPublisher, which does",
		"socketio.Namespace.AtHead: eventlog.Log.mu: func f":                  "the same with a message",
		"eventlog.Log[M].relabelLocked: eventlog.Log.mu: func relabel":        "only encodes an event",
		"hostcall.Guard.func: eventlog.Log.mu: func exited":                   "only records that a DirectPublisher has ended its goroutine",
		"hostcall.caught: eventlog.Log.mu: func f":                            "only records the panic of a DirectPublisher",
		"hostcall.text: eventlog.Log.mu: func f":                              "only after such a panic",
		"realtime.Namespace.callDocs: realtime.Namespace.mu: func describe":   "only describes types",
		"realtime.Server.clusterRequest.func: realtime.mu: func answer":       "only collects answers, under a lock of this request alone",
		"triptable.facts.drop: triptable.Table.mu: func needed":               "only compares facts",
	},
}

// No call leaves a layer while a lock is held, and no callback of the wheel takes a lock
// under which that happens. A call that is right nevertheless goes into Reviewed above,
// with its reason.
func TestCheck_ThisModule(t *testing.T) {
	t.Parallel()
	rules := rules
	rules.Reviewed = maps.Clone(rules.Reviewed)
	maps.DeleteFunc(rules.Reviewed, func(key, _ string) bool {
		return runtime.GOOS != "linux" && strings.HasPrefix(key, "engineio.eventLoop.") // exists on Linux only
	})
	found, err := Check("../..", rules, layers(t)...)
	require.NoError(t, err)
	for _, f := range found {
		t.Error(f)
	}
}

// layers returns the patterns of the root, redisbus and the internal packages, without
// commands and without redistest, which only tests link.
func layers(t *testing.T) []string {
	t.Helper()
	entries, err := os.ReadDir("..")
	require.NoError(t, err)
	all := []string{".", "./redisbus"}
	for _, e := range entries {
		if e.IsDir() && e.Name() != "cmd" && e.Name() != "redistest" {
			all = append(all, "./internal/"+e.Name())
		}
	}
	return all
}

// The checker finds what the "want" comments in testdata name, and nothing else.
func TestCheck_Planted(t *testing.T) {
	t.Parallel()
	planted := rules
	planted.Reviewed = map[string]string{
		"planted.box.reviewed: planted.box.mu: func f": "it is in the list",
		"planted.box.former: planted.box.mu: func f":   "it is not there any more",
	}
	planted.Serial = []string{"planted.box.serial"}
	found, err := Check(".", planted, "./testdata/planted")
	require.NoError(t, err)
	var got []string
	for _, f := range found {
		got = append(got, strings.TrimPrefix(f.Pos, "planted.go:")+" "+f.Lock+" "+f.Call)
	}
	want := []string{"rules:0  not found any more"}
	file, err := os.Open("testdata/planted/planted.go")
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	lines := bufio.NewScanner(file)
	for n := 1; lines.Scan(); n++ {
		if _, expected, ok := strings.Cut(lines.Text(), "// want "); ok {
			for one := range strings.SplitSeq(expected, ", ") {
				want = append(want, fmt.Sprintf("%d planted.box.%s", n, one))
			}
		}
	}
	slices.Sort(got)
	slices.Sort(want)
	require.Equal(t, want, got)
}
