//go:build race

package engineio_test

// waitingHandlers is the number of handlers that wait in a test. The race detector
// supports at most 8,128 goroutines.
const waitingHandlers = 6_000
