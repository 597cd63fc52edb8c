//go:build e2e

// Helpers of the tests with a real redis-server. e2e/run sets the build tag; the tests need
// redis-server, node and e2e/node_modules.

package redisadapter_test

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// nodeServer is a process of e2e/lib/redispeer.js.
type nodeServer struct {
	t   *testing.T
	cmd *exec.Cmd
	in  io.WriteCloser
	end func() // ends the process

	mu       sync.Mutex // guards the rest
	next     int
	answers  map[int]chan nodeOutput
	received map[string][]string // by client, or "server"
	dead     bool
}

// nodeOutput is a line of that process's output.
type nodeOutput struct {
	ID     int
	Result json.RawMessage
	Error  string

	Ready  bool
	Client string
	Args   json.RawMessage
	Server json.RawMessage
}

const socketioKey = "socket.io"

func startNode(t *testing.T, url, protocol string, env ...string) *nodeServer {
	t.Helper()
	e2e, err := filepath.Abs("../e2e")
	require.NoError(t, err)
	require.DirExists(t, filepath.Join(e2e, "node_modules", "@socket.io", "redis-adapter"), "run npm ci in e2e")
	n := &nodeServer{t: t, answers: map[int]chan nodeOutput{}, received: map[string][]string{}}
	n.cmd = exec.Command("node", filepath.Join(e2e, "lib", "redispeer.js"), url, protocol, socketioKey)
	n.cmd.Dir, n.cmd.Stderr, n.cmd.Env = e2e, os.Stderr, append(os.Environ(), env...)
	n.in, err = n.cmd.StdinPipe()
	require.NoError(t, err)
	out, err := n.cmd.StdoutPipe()
	require.NoError(t, err)
	require.NoError(t, n.cmd.Start())
	ready := make(chan struct{})
	done := make(chan struct{})
	go func() {
		defer close(done)
		n.read(out, ready)
	}()
	n.end = sync.OnceFunc(func() {
		_ = n.in.Close()
		<-done
		_ = n.cmd.Wait()
	})
	t.Cleanup(n.end)
	select {
	case <-ready:
	case <-done:
		t.Fatal("the Node server has ended")
	case <-time.After(patience):
		t.Fatal("the Node server is not ready")
	}
	return n
}

func (n *nodeServer) read(out io.Reader, ready chan struct{}) {
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var said nodeOutput
		if err := json.Unmarshal(lines.Bytes(), &said); err != nil {
			n.t.Errorf("Node says %q", lines.Text())
			continue
		}
		n.mu.Lock()
		switch {
		case said.Ready:
			close(ready)
		case said.Client != "":
			n.received[said.Client] = append(n.received[said.Client], string(said.Args))
		case said.Server != nil:
			n.received["server"] = append(n.received["server"], string(said.Server))
		default:
			n.answers[said.ID] <- said
		}
		n.mu.Unlock()
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.dead = true
	for _, c := range n.answers {
		close(c)
	}
}

// fields are the parameters of a command.
type fields map[string]any

// try sends a command and returns the answer, or Node's error.
func (n *nodeServer) try(command string, f fields) (json.RawMessage, error) {
	n.t.Helper()
	all := fields{"command": command}
	maps.Copy(all, f)
	answer := make(chan nodeOutput, 1)
	n.mu.Lock()
	require.False(n.t, n.dead, "the Node server has ended")
	n.next++
	all["id"] = n.next
	n.answers[n.next] = answer
	n.mu.Unlock()
	line, err := json.Marshal(all)
	require.NoError(n.t, err)
	_, err = n.in.Write(append(line, '\n'))
	require.NoError(n.t, err)
	select {
	case said, ok := <-answer:
		require.True(n.t, ok, "the Node server has ended")
		if said.Error != "" {
			return nil, fmt.Errorf("node: %s", said.Error)
		}
		return said.Result, nil
	case <-time.After(patience):
		n.t.Fatalf("Node does not answer to %s", line)
		return nil, nil
	}
}

func (n *nodeServer) do(command string, f fields) json.RawMessage {
	n.t.Helper()
	result, err := n.try(command, f)
	require.NoError(n.t, err)
	return result
}

// receivedBy returns what a client of the Node server, or the server itself, has received.
func (n *nodeServer) receivedBy(who string) []string {
	n.mu.Lock()
	defer n.mu.Unlock()
	return append([]string(nil), n.received[who]...)
}

// wants waits until a client has received exactly these events; JSON may differ in form.
func (n *nodeServer) wants(who string, want ...string) {
	n.t.Helper()
	for deadline := time.Now().Add(patience / 4); len(n.receivedBy(who)) < len(want) && time.Now().Before(deadline); {
		time.Sleep(2 * time.Millisecond)
	}
	got := n.receivedBy(who)
	require.Len(n.t, got, len(want), "%v", got)
	for i := range want {
		require.JSONEq(n.t, want[i], got[i])
	}
}
