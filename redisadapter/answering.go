// The requests of other nodes that this node answers: how many at the same time, and how many wait
// for that.

package redisadapter

import (
	"context"
	"sync"

	"github.com/rodando/realtime/redisadapter/internal/wire"
)

const (
	// maxAnswering is the maximum number of requests for sockets, and of those for an answer of the
	// host, that are answered at the same time.
	maxAnswering = 256
	// maxAsking is the maximum number of requests that wait for clients' acks at the same time. One for
	// one client takes about 11 KB besides its event, one that waits 6 KB.
	maxAsking = 4096
	// maxWaiting is the maximum number of requests of each of these three kinds that wait to be
	// answered.
	maxWaiting = 4096
)

// answering holds the requests of other nodes. Requests for sockets are answered at once, those for
// an answer of the host wait for its handler, and those for acks for clients, for minutes perhaps.
// Each has slots of its own, so that none waits for what another kind waits for.
type answering struct {
	sockets, server, acks *slots

	mu      sync.Mutex // guards cancels
	cancels map[string]context.CancelFunc
}

// init sets the maxima: of requests at the same time, of those for acks, of waiting ones, and of the
// bytes of each kind.
func (s *answering) init(answered, asking, waiting, bytes int) {
	s.sockets = newSlots("sockets", answered, waiting, bytes)
	s.server = newSlots("OnServerAsk", answered, waiting, bytes)
	s.acks = newSlots("acks", asking, waiting, bytes)
}

func (s *answering) slotsOf(kind wire.Kind) *slots {
	switch kind {
	case wire.Ask:
		return s.acks
	case wire.ServerEmit:
		return s.server
	default: // Fetch, ListIDs, ListRooms
		return s.sockets
	}
}

// begin registers a request. It returns false if the id is in use.
func (s *answering) begin(id string, cancel context.CancelFunc) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if _, twice := s.cancels[id]; twice {
		return false
	}
	if s.cancels == nil {
		s.cancels = map[string]context.CancelFunc{}
	}
	s.cancels[id] = cancel
	return true
}

func (s *answering) end(id string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.cancels, id)
}

// cancel ends a request whose node no longer waits for the answer.
func (s *answering) cancel(id string) {
	s.mu.Lock()
	cancel := s.cancels[id]
	s.mu.Unlock()
	if cancel != nil {
		cancel()
	}
}

// slots bounds the requests of one kind: how many are answered at the same time, how many more wait
// for that, each in a goroutine, and the size of all of them.
type slots struct {
	kind              string        // for the log: what other nodes ask for
	taken             chan struct{} // holds one element for each request that is answered now
	maxHeld, maxBytes int

	mu          sync.Mutex // guards the rest
	held, bytes int        // of the requests that are answered now or wait
}

func newSlots(kind string, answered, waiting, bytes int) *slots {
	return &slots{kind: kind, taken: make(chan struct{}, answered), maxHeld: answered + waiting, maxBytes: bytes}
}

// enter admits a request of that size, unless there are too many.
func (s *slots) enter(size int) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.held >= s.maxHeld || s.bytes+size > s.maxBytes && s.held > 0 {
		return false
	}
	s.held++
	s.bytes += size
	return true
}

func (s *slots) leave(size int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.held--
	s.bytes -= size
}

// take waits for a slot. It returns ctx's error if that ends first.
func (s *slots) take(ctx context.Context) error {
	select {
	case s.taken <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *slots) release() { <-s.taken }
