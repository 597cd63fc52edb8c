// Package planted has calls that the checker must find, marked "want", and calls that it
// must not find.
package planted

import (
	"net"
	"slices"
	"sync"
	"time"

	"github.com/rodando/realtime/internal/engineio"
	"github.com/rodando/realtime/internal/timingwheel"
)

type Above interface{ Closed() }

type below interface{ wake() }

type box struct {
	mu, other, serial sync.Mutex
	rw                sync.RWMutex

	session *engineio.Session
	conn    net.Conn
	above   Above
	below   below
	known   func()
	Hook    func()
	timer   timingwheel.Timer
	second  timingwheel.Timer
	third   timingwheel.Timer
}

func newBox(w *timingwheel.Wheel) *box {
	b := &box{known: func() {}}
	b.timer.F = b.due
	b.second.F = func() { b.other.Lock(); b.other.Unlock() }
	b.third.F = func() { b.serial.Lock(); b.serial.Unlock() } // want serial wheel
	return b
}

func (b *box) due() { // want mu wheel
	b.lockedBelow()
}

func (b *box) lockedBelow() {
	b.mu.Lock()
	defer b.mu.Unlock()
}

func (b *box) sends() {
	b.mu.Lock()
	b.session.Send() // want mu engineio.Session.Send
	b.mu.Unlock()
	b.session.Send()
}

func (b *box) defers() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.above.Closed() // want mu planted.Above.Closed
}

func (b *box) defersInOrder() {
	b.mu.Lock()
	defer b.above.Closed()
	defer b.mu.Unlock()
}

func (b *box) defersOutOfOrder() {
	b.mu.Lock()
	defer b.mu.Unlock()
	defer b.above.Closed() // want mu planted.Above.Closed
}

func (b *box) branches(x bool) {
	b.rw.RLock()
	if x {
		b.rw.RUnlock()
		b.Hook()
		return
	}
	b.Hook() // want rw func Hook
	b.rw.RUnlock()
	b.Hook()
}

func (b *box) switches(n int) {
	b.mu.Lock()
	switch n {
	case 1:
		b.mu.Unlock()
	default:
		b.mu.Unlock()
		b.Hook()
		return
	}
	b.Hook()
}

func (b *box) callers() {
	b.mu.Lock()
	b.deepLocked()
	b.mu.Unlock()
	b.deepLocked()
}

func (b *box) deepLocked() { b.deeper() }

func (b *box) deeper() {
	_, _ = b.conn.Write(nil) // want mu net.Conn.Write
}

func (b *box) unlocks() {
	b.mu.Lock()
	b.unlock()
	b.Hook()
}

func (b *box) unlock() { b.mu.Unlock() }

func (b *box) goroutine() {
	b.mu.Lock()
	defer b.mu.Unlock()
	go b.session.Send()
	go func() { b.Hook() }()
}

func (b *box) callback(f func()) {
	b.mu.Lock()
	defer b.mu.Unlock()
	f() // want mu func f
}

func (b *box) literal() {
	b.mu.Lock()
	defer b.mu.Unlock()
	func() {
		b.Hook() // want mu func Hook
	}()
	slices.IndexFunc([]int{1}, func(int) bool {
		b.above.Closed() // want mu planted.Above.Closed
		return true
	})
}

func (b *box) knownOnes() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.known()
	b.below.wake()
}

type below1 struct{ b *box }

func (x below1) wake() {
	time.Sleep(1) // want mu time.Sleep
}

func (b *box) loops() {
	for range 3 {
		b.mu.Lock()
		b.mu.Unlock()
	}
	b.Hook()
	b.mu.Lock()
	for b.session != nil {
		b.mu.Unlock()
		b.Hook()
		b.mu.Lock()
	}
	b.mu.Unlock()
}

func (b *box) two() {
	b.rw.Lock()
	b.mu.Lock()
	b.Hook() // want rw func Hook, mu func Hook
	b.mu.Unlock()
	b.rw.Unlock()
}

func (b *box) serially() {
	b.serial.Lock()
	defer b.serial.Unlock()
	b.Hook()
}

func (b *box) reviewed(f func()) {
	b.mu.Lock()
	f()
	b.mu.Unlock()
}
