//go:build unix

// A Redis Cluster of several processes, in which slots move and masters fail.

package redistest

import (
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
)

// Cluster is a cluster of three masters and perhaps one replica.
type Cluster struct {
	nodes   []*Process // the replica is the last one
	replica *Process
}

// StartCluster starts a cluster of three masters, and waits until it works.
func StartCluster(t testing.TB) *Cluster {
	t.Helper()
	c := &Cluster{}
	create := []string{"--cluster", "create", "--cluster-yes"}
	for range 3 {
		create = append(create, c.add(t).Addr())
	}
	cli(t, create...)
	c.await(t)
	return c
}

// add starts a server that is no member yet.
func (c *Cluster) add(t testing.TB) *Process {
	t.Helper()
	bus, claim, err := freePort()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = claim.Close() })
	p := StartProcess(t, "--cluster-enabled", "yes", "--cluster-port", strconv.Itoa(bus), "--cluster-node-timeout", "3000")
	c.nodes = append(c.nodes, p)
	return p
}

func cli(t testing.TB, args ...string) {
	t.Helper()
	out, err := exec.Command(program("cli"), args...).CombinedOutput() //nolint:gosec,noctx // it ends by itself
	if err != nil {
		t.Fatalf("%s %s: %v: %s", program("cli"), strings.Join(args[:2], " "), err, out)
	}
}

// AddReplica gives the master of a slot a replica, which takes over when that master fails.
func (c *Cluster) AddReplica(t testing.TB, slot uint16) {
	t.Helper()
	master := c.MasterOf(t, slot)
	c.replica = c.add(t)
	cli(t, "--cluster", "add-node", c.replica.Addr(), master.Addr(), "--cluster-slave", "--cluster-master-id", id(t, master))
	c.await(t)
	awaitReplica(t, master, c.replica)
}

// acked is in a master's answer to INFO when a replica has acknowledged something. Only then the
// master sends on what it is sent.
var acked = regexp.MustCompile(`state=online,offset=[1-9]`)

// awaitReplica waits until a replica has what its master has, and is sent what comes.
func awaitReplica(t testing.TB, master, replica *Process) {
	t.Helper()
	Await(t, "the replica follows", func() bool {
		return strings.Contains(replica.ask("INFO", "replication"), "master_link_status:up") && acked.MatchString(master.ask("INFO", "replication"))
	})
}

// await waits until all servers know the cluster.
func (c *Cluster) await(t testing.TB) {
	t.Helper()
	for _, p := range c.nodes {
		Await(t, "the cluster works", func() bool {
			info := p.ask("CLUSTER", "INFO")
			return strings.Contains(info, "cluster_state:ok") && strings.Contains(info, "cluster_known_nodes:"+strconv.Itoa(len(c.nodes))+"\r")
		})
	}
}

// URL returns the URL of one server; the others are found by it.
func (c *Cluster) URL() string { return c.nodes[0].URL() }

// SlotOf returns the slot of a key.
func (c *Cluster) SlotOf(t testing.TB, key string) uint16 {
	t.Helper()
	n, err := strconv.ParseUint(c.nodes[len(c.nodes)-1].Do(t, "CLUSTER", "KEYSLOT", key), 10, 16)
	if err != nil {
		t.Fatal(err)
	}
	return uint16(n)
}

// MasterOf returns the master that has a slot.
func (c *Cluster) MasterOf(t testing.TB, slot uint16) (found *Process) {
	t.Helper()
	Await(t, "the slot has a master", func() bool {
		for _, p := range c.nodes {
			if p.has(slot) {
				found = p
				return true
			}
		}
		return false
	})
	return found
}

// has reports whether this server says that it has a slot as a master.
func (p *Process) has(slot uint16) bool {
	for line := range strings.SplitSeq(p.ask("CLUSTER", "NODES"), "\n") {
		f := strings.Fields(line)
		if len(f) < 8 || !strings.Contains(f[2], "myself,master") {
			continue
		}
		for _, slots := range f[8:] {
			from, to, ok := strings.Cut(slots, "-")
			if !ok {
				to = from
			}
			a, err1 := strconv.Atoi(from)
			b, err2 := strconv.Atoi(to)
			if err1 == nil && err2 == nil && a <= int(slot) && int(slot) <= b {
				return true
			}
		}
	}
	return false
}

// Move moves a slot with its keys to another master, while clients use it.
func (c *Cluster) Move(t testing.TB, slot uint16) {
	t.Helper()
	from := c.MasterOf(t, slot)
	to := c.nodes[0]
	if to == from {
		to = c.nodes[1]
	}
	number := strconv.Itoa(int(slot))
	to.Do(t, "CLUSTER", "SETSLOT", number, "IMPORTING", id(t, from))
	from.Do(t, "CLUSTER", "SETSLOT", number, "MIGRATING", id(t, to))
	for {
		keys := from.Do(t, "CLUSTER", "GETKEYSINSLOT", number, "100")
		if keys == "" {
			break
		}
		from.Do(t, append([]string{"MIGRATE", "127.0.0.1", strconv.Itoa(to.port), "", "0", "5000", "KEYS"}, strings.Split(keys, "\n")...)...)
	}
	for _, p := range []*Process{to, from} {
		p.Do(t, "CLUSTER", "SETSLOT", number, "NODE", id(t, to))
	}
}

// KillMaster kills a slot's master when its replica has what the master has now.
func (c *Cluster) KillMaster(t testing.TB, slot uint16) {
	t.Helper()
	master := c.MasterOf(t, slot)
	awaitSynced(t, master, c.replica)
	master.Kill()
}

// AwaitTakeover waits until the replica has a slot.
func (c *Cluster) AwaitTakeover(t testing.TB, slot uint16) {
	t.Helper()
	Await(t, "the replica takes over", func() bool {
		return c.replica.has(slot) && strings.Contains(c.replica.ask("CLUSTER", "INFO"), "cluster_state:ok")
	})
}

// awaitSynced waits until a replica has what its master has now.
func awaitSynced(t testing.TB, master, replica *Process) {
	t.Helper()
	has := offset(master, "master_repl_offset")
	Await(t, "the replica has everything", func() bool { return has > 0 && offset(replica, "slave_repl_offset") >= has })
}

func offset(p *Process, field string) (n int) {
	for line := range strings.SplitSeq(p.ask("INFO", "replication"), "\r\n") {
		if value, ok := strings.CutPrefix(line, field+":"); ok {
			n, _ = strconv.Atoi(value)
		}
	}
	return n
}

func id(t testing.TB, p *Process) string { return p.Do(t, "CLUSTER", "MYID") }

// Await waits until a server has come to a state. After a minute it fails the test.
func Await(t testing.TB, what string, holds func() bool) {
	t.Helper()
	for end := time.Now().Add(time.Minute); !holds(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			t.Fatalf("timed out: %s", what)
		}
	}
}
