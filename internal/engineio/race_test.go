//go:build race

package engineio_test

// waitingHandlers is how many handlers a test lets wait: the race detector takes no
// more than 8,128 goroutines.
const waitingHandlers = 6_000
