// The link where epoll does not exist: every connection has a goroutine that reads.

//go:build !linux

package engineio

import "net"

// eventLoop exists on Linux only; elsewhere goroutines wait for connections.
type eventLoop struct{}

func (*eventLoop) close() {}

func (s *Server) newLink(conn net.Conn, c *wsConn) link { return newNetLink(conn, c) }
