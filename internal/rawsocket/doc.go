// Package rawsocket reads from and writes to sockets on Linux with system calls that never
// block, of which the scheduler does not know.
//
// Around a normal system call the scheduler takes the processor away whenever the call takes
// 20 µs, as a write on the loopback interface can, and starts another thread: in a broadcast to
// 10,000 clients that costs a third of the writes again. And the first one after a time in which
// the process waited wakes the scheduler's monitor, a thread that then sleeps and wakes up each 20 µs
// until the process waits again: for a node that handles a message each millisecond it took a third of the CPU.
//
// The garbage collector waits for a raw call to return. Therefore a call that can block must not
// be raw. A non-blocking descriptor is not enough: other holders of the connection, by
// net.TCPConn.File, can make it blocking at any time.
package rawsocket
