// A path to a server, which can go silent or be cut.

package redistest

import (
	"errors"
	"net"
	"slices"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Path forwards connections to a server, as a network does: an end that resets its connection takes
// with it what is under way. All methods may be called concurrently.
type Path struct {
	listener net.Listener
	target   string
	running  sync.WaitGroup

	mu     sync.Mutex // guards the rest
	silent bool
	cut    bool // closed for good
	refuse bool
	torn   map[Direction]bool
	delay  time.Duration
	loud   *sync.Cond // silent or cut has changed
	conns  map[net.Conn]bool
}

// StartPath starts a path to an address, which is closed when the test ends.
func StartPath(t testing.TB, target string) *Path {
	t.Helper()
	p, err := OpenPath(target)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(p.Close)
	return p
}

// OpenPath is StartPath for programs: the caller closes the path.
func OpenPath(target string) (*Path, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0") //nolint:noctx // it does not block
	if err != nil {
		return nil, err
	}
	p := &Path{listener: l, target: target, conns: map[net.Conn]bool{}, torn: map[Direction]bool{}}
	p.loud = sync.NewCond(&p.mu)
	p.running.Go(p.accept)
	return p, nil
}

// URL returns the URL by which clients reach the server over the path.
func (p *Path) URL() string { return "redis://" + p.listener.Addr().String() }

// Silence makes the path hold all data back, with its connections open, until Silence(false).
func (p *Path) Silence(silent bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.silent = silent
	p.loud.Broadcast()
}

// Reset closes all connections.
func (p *Path) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

// Refuse closes all connections, and new ones until Refuse(false).
func (p *Path) Refuse(refuse bool) {
	p.mu.Lock()
	p.refuse = refuse
	p.loud.Broadcast()
	p.mu.Unlock()
	if refuse {
		p.Reset()
	}
}

// Direction is a direction of a path.
type Direction bool

// The directions of a path.
const (
	ToServer   Direction = true
	FromServer Direction = false
)

// Tear makes the path forward only the first half of what it carries next in a direction, and
// then close that connection: a command, or a message, is cut in the middle.
func (p *Path) Tear(d Direction) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.torn[d] = true
}

// Cut closes all connections, and new ones, for good.
func (p *Path) Cut() {
	p.mu.Lock()
	p.cut = true
	p.loud.Broadcast()
	p.mu.Unlock()
	p.Reset()
}

// Delay delays all data by d in each direction. It does not limit how much is under way.
func (p *Path) Delay(d time.Duration) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.delay = d
}

// Close ends the path.
func (p *Path) Close() {
	_ = p.listener.Close()
	p.Cut()
	p.running.Wait()
}

func (p *Path) accept() {
	for {
		from, err := p.listener.Accept()
		if err != nil {
			return
		}
		to, err := net.Dial("tcp", p.target) //nolint:noctx // it is the loopback interface
		if err != nil {
			_ = from.Close()
			continue
		}
		if !p.keep(from, to) {
			continue
		}
		p.running.Go(func() { p.carry(from, to, FromServer) })
		p.running.Go(func() { p.carry(to, from, ToServer) })
	}
}

// keep remembers connections, so that they can be cut. A path that is cut or refuses closes
// them at once.
func (p *Path) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		if p.cut || p.refuse {
			_ = c.Close()
		} else {
			p.conns[c] = true
		}
	}
	return !p.cut && !p.refuse
}

// parcel is what one read of a connection has brought. It is under way until due.
type parcel struct {
	b   []byte
	due time.Time
}

// maxParcels is how much of a direction is under way at most. Then its sender has to wait.
const maxParcels = 1024

// lane is one direction of a connection.
type lane struct {
	from, to net.Conn
	way      Direction
	parcels  chan parcel   // closed when from has ended, and what is under way still arrives
	reset    chan struct{} // closed when from was reset, or the path has closed it: what is under way is lost
	done     chan struct{} // closed when nothing is carried any more
}

// carry carries one direction until either end closes.
func (p *Path) carry(to, from net.Conn, d Direction) {
	l := &lane{from: from, to: to, way: d, parcels: make(chan parcel, maxParcels), reset: make(chan struct{}), done: make(chan struct{})}
	p.running.Go(func() { p.read(l) })
	p.deliver(l)
	close(l.done)
	_, _ = to.Close(), from.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.conns, from)
}

// read takes what comes, for deliver. A silent path takes no more of the server, whose buffers fill then; of
// a client it does, as only then it learns that the client has closed.
func (p *Path) read(l *lane) {
	b := make([]byte, 32<<10)
	for {
		n, err := l.from.Read(b)
		p.mu.Lock()
		if l.way == FromServer {
			p.awaitLoudLocked()
		}
		due := time.Now().Add(p.delay)
		p.mu.Unlock()
		if n > 0 {
			select {
			case l.parcels <- parcel{slices.Clone(b[:n]), due}:
			case <-l.done:
				return
			}
		}
		switch {
		case errors.Is(err, syscall.ECONNRESET), errors.Is(err, net.ErrClosed):
			close(l.reset)
			return
		case err != nil:
			close(l.parcels)
			return
		}
	}
}

// deliver hands over what is due, until an end closes or is reset. While the path is silent, the other end does not learn
// of that either.
func (p *Path) deliver(l *lane) {
	for {
		select {
		case <-l.reset:
			p.awaitLoud()
			p.abort(l)
			return
		case next, ok := <-l.parcels:
			if !ok {
				p.awaitLoud()
				return
			}
			if !p.handOver(l, next) {
				return
			}
		}
	}
}

// awaitLoud waits until the path is not silent.
func (p *Path) awaitLoud() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.awaitLoudLocked()
}

func (p *Path) awaitLoudLocked() {
	for p.silent && !p.cut {
		p.loud.Wait()
	}
}

// handOver delivers a parcel once it is due. It reports whether the lane goes on.
func (p *Path) handOver(l *lane, next parcel) bool {
	select {
	case <-time.After(time.Until(next.due)):
	case <-l.reset:
	}
	p.mu.Lock()
	p.awaitLoudLocked()
	torn := p.torn[l.way] && len(next.b) > 1
	if torn {
		next.b = next.b[:len(next.b)/2]
		p.torn[l.way] = false
	}
	p.mu.Unlock()
	select {
	case <-l.reset:
		p.abort(l)
		return false
	default:
	}
	_, err := l.to.Write(next.b)
	return err == nil && !torn
}

// abort resets the other end of a connection that was reset.
func (p *Path) abort(l *lane) {
	if t, ok := l.to.(*net.TCPConn); ok {
		_ = t.SetLinger(0)
	}
}
