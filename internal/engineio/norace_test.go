//go:build !race

package engineio_test

// waitingHandlers is how many handlers a test lets wait.
const waitingHandlers = 20_000
