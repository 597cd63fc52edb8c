//go:build !race

package engineio_test

// waitingHandlers is the number of handlers that wait in a test.
const waitingHandlers = 20_000
