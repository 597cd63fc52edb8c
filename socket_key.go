// SocketKey: the host's own data on a socket.

package realtime

// SocketKey is a key under which the host stores its own values of type T on sockets. Most
// keys are package variables:
//
//	var device = realtime.NewSocketKey[Device]()
//
// A value is stored with its socket and ends with it: a client that reconnects gets a new
// Socket without values. All methods may be called concurrently, and after the socket has
// closed, so that OnDisconnect can read what OnConnect has set. If a value is a pointer,
// the host synchronizes the access to what it points to.
type SocketKey[T any] struct {
	_ byte // gives the type a size, so that two keys have different addresses
}

// NewSocketKey returns a new key. Different keys never share values.
func NewSocketKey[T any]() *SocketKey[T] { return &SocketKey[T]{} }

// Set sets the value of a socket.
func (k *SocketKey[T]) Set(s *Socket, v T) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.data == nil {
		s.data = map[any]any{}
	}
	s.data[k] = &v
}

// Get returns the value of a socket, and whether it has one.
func (k *SocketKey[T]) Get(s *Socket) (v T, ok bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	p, ok := s.data[k].(*T)
	if ok {
		v = *p
	}
	return v, ok
}

// Delete removes the value of a socket.
func (k *SocketKey[T]) Delete(s *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, k)
}
