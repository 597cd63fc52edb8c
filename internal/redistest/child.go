// A child process, for tests in which a node is killed.

package redistest

import (
	"io"
	"os"
	"os/exec"
	"testing"
)

// Child is the test binary, run once more as another program.
type Child struct {
	cmd *exec.Cmd
	out io.Reader
}

// StartChild runs the test binary with an environment variable, in which an init function finds what
// to do. The child is killed when the test ends.
func StartChild(t testing.TB, env string) *Child {
	t.Helper()
	c := &Child{cmd: exec.Command(os.Args[0])} //nolint:gosec,noctx // it runs until Kill
	c.cmd.Env = append(os.Environ(), env)
	out, err := c.cmd.StdoutPipe()
	if err == nil {
		err = c.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	c.out = out
	t.Cleanup(c.Kill)
	return c
}

// Expect reads that much of the child's output and fails the test if it is another text.
func (c *Child) Expect(t testing.TB, text string) {
	t.Helper()
	b := make([]byte, len(text))
	if n, err := io.ReadFull(c.out, b); err != nil || string(b) != text {
		t.Fatalf("the child wrote %q, not %q: %v", b[:n], text, err)
	}
}

// Kill ends the child at once.
func (c *Child) Kill() {
	_ = c.cmd.Process.Kill()
	_ = c.cmd.Wait()
}
