// Health: whether this node accepts clients, can decide on their handshakes, and receives messages
// from the other nodes.

package realtime

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime/internal/hostcall"
)

// AdapterChecker may be implemented by an Adapter that knows whether it receives messages from
// the other nodes.
type AdapterChecker interface {
	// Check returns nil while the adapter receives messages, otherwise an error that says
	// why it does not. It must not wait for the network. It is called concurrently.
	Check(ctx context.Context) error
}

// Check returns nil while the server accepts clients, can decide on their handshakes, and, if its
// adapter is an AdapterChecker, receives messages from the other nodes. Otherwise it returns ErrClosed
// once Shutdown has begun, the adapter's error, or an error that wraps ErrUnavailable: the last
// handshakes, of five users or more, could not be decided, because the token verifier or a repository
// failed, and the latest of them is less than 15 s old. A handshake that is decided ends that at once.
//
// A node whose adapter fails still serves its own clients, but they do not receive what other nodes
// emit. Check is meant for a health endpoint. It waits for the adapter within ctx, at most one second.
func (rt *Server) Check(ctx context.Context) error {
	if rt.stopping.Load() {
		return ErrClosed
	}
	if checker, ok := rt.adapter.(AdapterChecker); ok {
		if err := hostcall.Run(ctx, rt.host.check, checker.Check); err != nil {
			return prefixed(err)
		}
	}
	if rt.undecided.many() {
		return errorf("handshakes can't be decided: %w", ErrUnavailable)
	}
	return nil
}

const (
	// undecidedUsers is how many users' handshakes must be undecided, with none decided between
	// them: the row of one user may fail alone, and its app tries again and again.
	undecidedUsers = 5
	// undecidedMemory is how long the last one counts: a node to which no client is sent any more
	// would otherwise never be asked again.
	undecidedMemory = 15 * time.Second
)

// undecidedHandshakes counts the handshakes since the last one that was decided. Its methods may be
// called concurrently.
type undecidedHandshakes struct {
	some atomic.Bool // there are any, so that a handshake that is decided takes no lock

	mu   sync.Mutex // guards the fields below
	who  []string   // the users, or the addresses of those who are not known, at most undecidedUsers
	last time.Time
}

// refused records a handshake that was refused, or that could not be decided. A refusal for which no
// repository was asked says nothing.
func (u *undecidedHandshakes) refused(code Code, user string, s *Socket) {
	switch code { //nolint:exhaustive // the others say nothing
	case CodeUnavailable:
		u.add(cmp.Or(user, s.RemoteAddr().String()))
	case CodeUserNotFound, CodeWrongUserType, CodeUserInactive, CodeInvalidSession, CodeAccessExpired:
		u.decided()
	}
}

func (u *undecidedHandshakes) add(who string) {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.some.Store(true)
	u.last = time.Now()
	if len(u.who) < undecidedUsers && !slices.Contains(u.who, who) {
		u.who = append(u.who, who)
	}
}

// decided records that a handshake was decided.
func (u *undecidedHandshakes) decided() {
	if !u.some.Load() {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	u.some.Store(false)
	u.who = nil
}

func (u *undecidedHandshakes) many() bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	return len(u.who) >= undecidedUsers && time.Since(u.last) < undecidedMemory
}
