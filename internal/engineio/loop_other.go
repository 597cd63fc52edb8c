//go:build !linux

package engineio

import "net"

// eventLoop is what waits for readiness on Linux; elsewhere goroutines do.
type eventLoop struct{}

func (*eventLoop) close() {}

func (s *Server) newLink(conn net.Conn, c *wsConn) link { return newConnLink(conn, c) }
