// Goroutines that read bursts and run the handlers of what they read.

package engineio

import (
	"runtime"
	"sync"
	"time"
)

const (
	// lookEvery is how often a queue that does not drain is looked at.
	lookEvery = 2 * time.Millisecond
	// busyJobs is what a worker gets done between two looks when its handlers
	// compute; one that does less waits for something.
	busyJobs = 8
	// keepJobs is the capacity up to which a drained queue is kept.
	keepJobs = 1024
)

// workers does the reading of all connections: one worker for each core while
// handlers compute, and as many as it takes while they wait, for a database or a
// lock. A goroutine for each burst would do the same, but would have to grow its
// stack each time, which costs more than most handlers do.
//
// Reading never waits, handlers may for ever. A job that is under way for longer
// than a look takes therefore waits in a handler: its worker is counted apart, and
// does not stand in the way of another one that reads. How many handlers may wait at
// once is for the layers above to bound.
//
// workers.mu guards everything below it; a worker holds it only between jobs.
type workers struct {
	cores int

	mu     sync.Mutex
	wake   sync.Cond
	queue  []job
	head   int         // jobs before it are taken
	taken  int         // jobs taken since the last look
	active int         // workers, idle ones included, without those that wait
	idle   int         // of them, those that nobody has woken
	look   uint64      // number of the last look
	now    int         // jobs under way that were taken since the last look
	before int         // and between it and the one before
	step   int         // how many workers the next look adds at most
	watch  *time.Timer // nil unless the queue is being looked at
	closed bool
}

// job is one burst on one connection.
type job struct {
	l     *pollLink
	early []byte
}

func (w *workers) init() {
	w.cores = runtime.GOMAXPROCS(0)
	w.step = w.cores
	w.wake.L = &w.mu
}

// run has a job done, by a worker that is idle if there is one.
func (w *workers) run(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushLocked(j)
	switch {
	case w.idle > 0:
		w.idle-- // here, or the next job would count on the same one
		w.wake.Signal()
	case w.active < w.cores:
		w.startLocked(1)
	case w.watch == nil:
		w.turnLocked()
		w.watch = time.AfterFunc(lookEvery, w.watched)
	}
}

func (w *workers) pushLocked(j job) {
	// A queue that is never quite empty would grow by what has been taken.
	if len(w.queue) == cap(w.queue) && w.head > len(w.queue)/2 {
		n := copy(w.queue, w.queue[w.head:])
		clear(w.queue[n:])
		w.queue, w.head = w.queue[:n], 0
	}
	w.queue = append(w.queue, j)
}

func (w *workers) startLocked(n int) {
	w.active += n
	for range n {
		go w.work()
	}
}

func (w *workers) work() {
	w.mu.Lock()
	defer w.mu.Unlock()
	for {
		for w.head == len(w.queue) {
			if w.closed || w.active > w.cores {
				w.active--
				return
			}
			w.idle++
			w.wake.Wait()
		}
		w.doLocked(w.takeLocked())
	}
}

// doLocked does a job, which was taken after that look, without the lock. Another
// worker takes the place of one whose goroutine was ended by a handler.
func (w *workers) doLocked(j job, look uint64) {
	returned := false
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.doneLocked(look)
		if returned {
			return
		}
		w.active--
		if w.head < len(w.queue) {
			w.startLocked(1)
		}
	}()
	j.l.read(j.early)
	returned = true
}

// takeLocked takes the first job, and says since which look it is under way.
func (w *workers) takeLocked() (job, uint64) {
	j := w.queue[w.head]
	w.queue[w.head] = job{}
	w.taken++
	w.now++
	if w.head++; w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
		if cap(w.queue) > keepJobs {
			w.queue = nil
		}
	}
	return j, w.look
}

// doneLocked ends a job that was taken after that look.
func (w *workers) doneLocked(look uint64) {
	switch look {
	case w.look:
		w.now--
	case w.look - 1:
		w.before--
	default:
		w.active++ // it had been counted out
	}
}

// turnLocked begins the time until the next look. Whose job was under way when the
// last one began waits.
func (w *workers) turnLocked() {
	w.active -= w.before
	w.before, w.now = w.now, 0
	w.look++
	w.taken = 0
}

// watched adds workers when the queue does not drain because handlers wait: more
// each time, as those before may wait by now as well.
func (w *workers) watched() {
	w.mu.Lock()
	defer w.mu.Unlock()
	left, taken := len(w.queue)-w.head, w.taken
	w.turnLocked()
	switch {
	case left == 0:
		w.watch = nil
		w.step = max(w.cores, w.step/2)
		return
	case w.active < w.cores || taken < busyJobs*w.active:
		n := min(left, w.step)
		w.startLocked(n)
		w.step = max(w.cores, 2*n)
	default:
		w.step = w.cores
	}
	w.watch.Reset(lookEvery)
}

// close lets the idle workers go; the others go when they are done.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.wake.L != nil {
		w.wake.Broadcast()
	}
}
