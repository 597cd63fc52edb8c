// Goroutines that read bursts from connections and run their handlers.

package engineio

import (
	"runtime"
	"sync"
	"time"
)

const (
	// checkInterval is the time between two checks of a queue that does not drain.
	checkInterval = 2 * time.Millisecond
	// busyJobs is how many jobs a worker finishes between two checks if its handlers
	// compute. A worker that finishes fewer waits for something.
	busyJobs = 8
	// maxKeptJobs is the capacity up to which an empty queue is kept.
	maxKeptJobs = 1024
)

// workers runs the readers of all epollLinks. While handlers compute it has one worker
// per core. While handlers wait, for a database or a lock, it starts as many more as are
// needed. A goroutine for each burst would do the same, but would have to grow its stack
// each time, which costs more than most handlers do.
//
// Reading never waits, but a handler may, for any time. So a job that runs longer than a
// check interval waits in a handler: its worker no longer counts as active, and another
// worker may take its place. The layers above limit how many handlers may wait at once.
type workers struct {
	cores int

	mu           sync.Mutex // guards the fields below; a worker holds it only between jobs
	wake         sync.Cond
	queue        []job
	head         int         // number of jobs in queue that were taken
	takenJobs    int         // jobs taken in this check interval
	active       int         // workers, idle ones included, without those whose jobs wait
	idle         int         // workers that wait for a job and were not woken
	interval     uint64      // number of the current check interval
	currentJobs  int         // running jobs that were taken in this interval
	previousJobs int         // running jobs that were taken in the interval before
	growth       int         // maximum number of workers that the next check adds
	checkTimer   *time.Timer // nil unless the queue is being checked
	closed       bool
}

// job is one burst on one connection.
type job struct {
	l     *epollLink
	early []byte
}

func (w *workers) init() {
	w.cores = runtime.GOMAXPROCS(0)
	w.growth = w.cores
	w.wake.L = &w.mu
}

// run queues a job and, if possible, wakes or starts a worker for it.
func (w *workers) run(j job) {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.pushLocked(j)
	switch {
	case w.idle > 0:
		w.idle-- // here and not in the worker, so that the next job does not count on the same worker
		w.wake.Signal()
	case w.active < w.cores:
		w.startLocked(1)
	case w.checkTimer == nil:
		w.nextIntervalLocked()
		w.checkTimer = time.AfterFunc(checkInterval, w.check)
	}
}

func (w *workers) pushLocked(j job) {
	// A queue that is never quite empty would grow by the jobs that were taken.
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
		go w.runWorker()
	}
}

func (w *workers) runWorker() {
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

// doLocked runs a job that was taken in an interval. It unlocks w.mu meanwhile. If a
// handler ends the goroutine, another worker takes its place.
func (w *workers) doLocked(j job, interval uint64) {
	returned := false
	w.mu.Unlock()
	defer func() {
		w.mu.Lock()
		w.doneLocked(interval)
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

// takeLocked takes the first job. It also returns the current interval.
func (w *workers) takeLocked() (job, uint64) {
	j := w.queue[w.head]
	w.queue[w.head] = job{}
	w.takenJobs++
	w.currentJobs++
	if w.head++; w.head == len(w.queue) {
		w.queue, w.head = w.queue[:0], 0
		if cap(w.queue) > maxKeptJobs {
			w.queue = nil
		}
	}
	return j, w.interval
}

// doneLocked counts out a job that was taken in an interval.
func (w *workers) doneLocked(interval uint64) {
	switch interval {
	case w.interval:
		w.currentJobs--
	case w.interval - 1:
		w.previousJobs--
	default:
		w.active++ // nextIntervalLocked had counted this worker out
	}
}

// nextIntervalLocked begins the next check interval. Jobs that were taken before the
// interval that ends have run for longer than an interval: their workers no longer
// count as active.
func (w *workers) nextIntervalLocked() {
	w.active -= w.previousJobs
	w.previousJobs, w.currentJobs = w.currentJobs, 0
	w.interval++
	w.takenJobs = 0
}

// check starts workers if the queue does not drain because handlers wait. It starts more
// each time, as the handlers of the workers started last may wait by now too.
func (w *workers) check() {
	w.mu.Lock()
	defer w.mu.Unlock()
	waiting, taken := len(w.queue)-w.head, w.takenJobs
	w.nextIntervalLocked()
	switch {
	case waiting == 0:
		w.checkTimer = nil
		w.growth = max(w.cores, w.growth/2)
		return
	case w.active < w.cores || taken < busyJobs*w.active:
		n := min(waiting, w.growth)
		w.startLocked(n)
		w.growth = max(w.cores, 2*n)
	default:
		w.growth = w.cores
	}
	w.checkTimer.Reset(checkInterval)
}

// close ends the idle workers. Busy ones end after their job.
func (w *workers) close() {
	w.mu.Lock()
	defer w.mu.Unlock()
	w.closed = true
	if w.wake.L != nil {
		w.wake.Broadcast()
	}
}
