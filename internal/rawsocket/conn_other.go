//go:build !linux

package rawsocket

import "net"

// Conn returns c: what this package is for is Linux'.
func Conn(c *net.TCPConn) net.Conn { return c }
