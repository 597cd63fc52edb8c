// The host's own data on a socket.

package realtime

// SocketKey is where the host keeps something of its own on sockets, of one type. Most
// are package variables:
//
//	var device = realtime.NewSocketKey[Device]()
//
// A value belongs to its socket and is forgotten with it: a client that comes back is a
// new Socket. All methods may be called concurrently, and after the socket has closed,
// so that OnDisconnect finds what OnConnect has set; a value that points to something
// shared has to look after that itself.
type SocketKey[T any] struct {
	_ byte // two keys are two, though the type is the same
}

// NewSocketKey returns a new key, which shares its values with no other one.
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

// Delete forgets the value of a socket.
func (k *SocketKey[T]) Delete(s *Socket) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.data, k)
}
