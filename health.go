// Health: whether this node accepts clients and receives messages from the other nodes.

package realtime

import (
	"context"

	"github.com/rodando/realtime/internal/hostcall"
)

// AdapterChecker may be implemented by an Adapter that knows whether it receives messages from
// the other nodes.
type AdapterChecker interface {
	// Check returns nil while the adapter receives messages, otherwise an error that says
	// why it does not. It must not wait for the network. It is called concurrently.
	Check(ctx context.Context) error
}

// Check returns nil while the server accepts clients and, if its adapter is an AdapterChecker,
// receives messages from the other nodes. Otherwise it returns the adapter's error, or
// ErrClosed once Shutdown has begun. A node whose adapter fails still serves its own clients,
// but they do not receive what other nodes emit. Check is meant for a health endpoint. It
// waits for the adapter within ctx, at most one second.
func (rt *Server) Check(ctx context.Context) error {
	if rt.stopping.Load() {
		return ErrClosed
	}
	if checker, ok := rt.adapter.(AdapterChecker); ok {
		return prefixed(hostcall.Run(ctx, rt.host.check, checker.Check))
	}
	return nil
}
