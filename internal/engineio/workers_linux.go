// Goroutines that read bursts and run the handlers of what they read.

package engineio

import (
	"runtime"
	"sync"
	"time"
)

const (
	// stuckCheck is how often a queue that does not drain is looked at.
	stuckCheck = 2 * time.Millisecond
	// busyJobs is what a worker gets done between two looks when its handlers
	// compute; one that does less waits for something.
	busyJobs = 8
	// maxWorkers bounds how many may wait at once.
	maxWorkers = 4096
)

// workers does the reading of all connections: one worker for each core while
// handlers compute, and as many as it takes while they wait, for a database or a
// lock. A goroutine for each burst would do the same, but would have to grow its
// stack each time, which costs more than most handlers do.
//
// workers.mu guards everything below it; a worker holds it only between jobs.
type workers struct {
	cores int

	mu     sync.Mutex
	wake   sync.Cond
	queue  []job
	head   int         // jobs before it are taken
	taken  int         // jobs taken since the last look
	active int         // workers, idle ones included
	idle   int         // of them, those that nobody has woken
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
	w.wake.L = &w.mu
}

// run has a job done, by a worker that is idle if there is one.
func (w *workers) run(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.queue = append(w.queue, j)
	switch {
	case w.idle > 0:
		w.idle-- // here, or the next job would count on the same one
		w.wake.Signal()
	case w.active < w.cores:
		w.startLocked(1)
	case w.watch == nil:
		w.taken = 0
		w.watch = time.AfterFunc(stuckCheck, w.look)
	}
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
		j := w.takeLocked()
		w.mu.Unlock()
		j.l.read(j.early)
		w.mu.Lock()
	}
}

func (w *workers) takeLocked() job {
	j := w.queue[w.head]
	w.queue[w.head] = job{}
	w.taken++
	if w.head++; w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
	}
	return j
}

// look adds workers when the queue does not drain because handlers wait.
func (w *workers) look() {
	w.mu.Lock()
	defer w.mu.Unlock()
	left := len(w.queue) - w.head
	if left == 0 {
		w.watch = nil
		return
	}
	if w.taken < busyJobs*w.active {
		w.startLocked(min(left, w.active, maxWorkers-w.active))
	}
	w.taken = 0
	w.watch.Reset(stuckCheck)
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
