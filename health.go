// Health: whether this node works and receives from the other nodes.

package realtime

import (
	"context"

	"github.com/rodando/realtime/internal/hostcall"
)

// AdapterChecker is implemented by adapters that know whether they receive from the other
// nodes.
type AdapterChecker interface {
	// Check returns nil while the adapter receives, and otherwise why it does not. It must
	// not wait for the network. It may be called concurrently.
	Check(ctx context.Context) error
}

// Check returns nil while the server takes clients and, if its adapter is an
// AdapterChecker, receives from the other nodes. Otherwise it returns the reason: the
// adapter's error, or ErrClosed from the beginning of Shutdown. A node whose Check fails
// still serves its own clients; what other nodes emit does not reach them. Check is meant
// for a health endpoint. It waits at most a second for the adapter, within ctx.
func (rt *Server) Check(ctx context.Context) error {
	if rt.stopping.Load() {
		return ErrClosed
	}
	if checker, ok := rt.adapter.(AdapterChecker); ok {
		return prefixed(hostcall.Run(ctx, rt.host.check, checker.Check))
	}
	return nil
}
