package engineio_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain sees to it that no test leaves a goroutine or a descriptor behind.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		if err != nil {
			time.Sleep(time.Second) // net/http stays for half of one with a connection whose request it did not read
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		// What Go itself opens, once: the netpoller's own descriptors.
		const spare = 3
		for range 50 {
			if descriptors() <= before+spare {
				break
			}
			time.Sleep(20 * time.Millisecond)
		}
		if n := descriptors(); n > before+spare {
			fmt.Fprintf(os.Stderr, "descriptors: %d before, %d after the tests\n", before, n)
			code = 1
		}
	}
	os.Exit(code)
}

// descriptors counts the process's open files, 0 where the system does not say.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
