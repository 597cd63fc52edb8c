//go:build unix

// A master with a replica, and a Sentinel that watches them.

package redistest

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

// Sentinel is a Sentinel process that watches a master and its replica.
type Sentinel struct {
	Master, Replica *Process // as they began
	watcher         *Process
}

// StartSentinel starts the three processes, and waits until the Sentinel knows the replica.
func StartSentinel(t testing.TB) *Sentinel {
	t.Helper()
	s := &Sentinel{Master: StartProcess(t, "--repl-diskless-sync-delay", "0")}
	port := strings.TrimPrefix(s.Master.Addr(), "127.0.0.1:")
	s.Replica = StartProcess(t, "--replicaof", "127.0.0.1 "+port)
	config := filepath.Join(t.TempDir(), "sentinel.conf")
	text := strings.ReplaceAll(`sentinel monitor main 127.0.0.1 PORT 1
sentinel down-after-milliseconds main 2000
sentinel failover-timeout main 5000
`, "PORT", port)
	if err := os.WriteFile(config, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	watcher, err := newProcess(t.TempDir(), config, "--sentinel")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(watcher.Kill)
	s.watcher = watcher
	Await(t, "the Sentinel knows the replica", func() bool {
		return strings.Contains(s.watcher.ask("SENTINEL", "REPLICAS", "main"), s.Replica.Addr())
	})
	awaitReplica(t, s.Master, s.Replica)
	return s
}

// URL returns the URL by which clients find the master.
func (s *Sentinel) URL() string { return s.watcher.URL() + "?master_set=main" }

// AwaitSynced waits until the replica has what the master has now.
func (s *Sentinel) AwaitSynced(t testing.TB) {
	t.Helper()
	awaitSynced(t, s.Master, s.Replica)
}

// AwaitFailover waits until the replica is the master.
func (s *Sentinel) AwaitFailover(t testing.TB) {
	t.Helper()
	Await(t, "the replica takes over", func() bool {
		return strings.Contains(s.Replica.ask("INFO", "replication"), "role:master") &&
			strings.HasSuffix(s.Replica.Addr(), lastLine(s.watcher.ask("SENTINEL", "GET-MASTER-ADDR-BY-NAME", "main")))
	})
}

// AwaitDemoted waits until the former master, which is back, follows the new one.
func (s *Sentinel) AwaitDemoted(t testing.TB) {
	t.Helper()
	Await(t, "the former master follows", func() bool { return strings.Contains(s.Master.ask("INFO", "replication"), "role:slave") })
}

func lastLine(s string) string { return s[strings.LastIndexByte(s, '\n')+1:] }
