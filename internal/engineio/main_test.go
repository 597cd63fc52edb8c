package engineio_test

import (
	"fmt"
	"os"
	"testing"
	"time"

	"go.uber.org/goleak"
)

// TestMain fails if a test leaves a goroutine or a descriptor open.
func TestMain(m *testing.M) {
	before := descriptors()
	code := m.Run()
	if code == 0 {
		err := goleak.Find()
		if err != nil {
			time.Sleep(time.Second) // net/http keeps a connection whose request it did not read for half a second
			err = goleak.Find()
		}
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	if code == 0 {
		// spare is the number of descriptors that Go itself opens, once: those of the
		// netpoller.
		const spare = 3
		for range 500 {
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

// descriptors counts the open files of the process; 0 where the system cannot tell.
func descriptors() int {
	entries, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		return 0
	}
	return len(entries)
}
