// A path to a server, which can go silent or be cut.

package redistest

import (
	"net"
	"sync"
	"testing"
	"time"
)

// Path forwards connections to a server. All methods may be called concurrently.
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

// Delay delays all data by d in each direction.
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
		p.running.Go(func() { p.copy(from, to, FromServer) })
		p.running.Go(func() { p.copy(to, from, ToServer) })
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

// copy carries one direction until either end closes.
func (p *Path) copy(to, from net.Conn, d Direction) {
	defer func() {
		_, _ = to.Close(), from.Close()
		p.mu.Lock()
		defer p.mu.Unlock()
		delete(p.conns, from)
	}()
	b := make([]byte, 32<<10)
	for {
		n, err := from.Read(b)
		p.mu.Lock()
		for p.silent && !p.cut {
			p.loud.Wait()
		}
		delay, torn := p.delay, p.torn[d] && n > 1
		if torn {
			n /= 2
			p.torn[d] = false
		}
		p.mu.Unlock()
		time.Sleep(delay)
		if n > 0 {
			if _, err := to.Write(b[:n]); err != nil {
				return
			}
		}
		if err != nil || torn {
			return
		}
	}
}
