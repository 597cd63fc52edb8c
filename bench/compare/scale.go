// scale: five nodes with as many sockets as a process may have files. What a socket takes in
// the process and in the kernel, how long it takes to take all in, what they cost at rest, a
// broadcast to all of them, and who is back when after a node was killed.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"time"
	"unsafe"
)

const (
	atRest      = 20 * time.Second // over which CPU at rest is measured
	atRestQuick = time.Second
	downTime    = time.Second // until a supervisor starts the killed node again
)

// scale starts the killed node again after a second; its sockets come back to it.
func (r *runner) scale(ctx context.Context, p peer, m mode) (run, error) {
	s := &scaling{victim: 1, again: true}
	return r.scaled(ctx, p, m, s, s.takeIn, s.rest, s.broadcast, s.kill, s.broadcast)
}

// scaleSpread does not; its sockets go to the other nodes.
func (r *runner) scaleSpread(ctx context.Context, p peer, m mode) (run, error) {
	s := &scaling{victim: 1}
	return r.scaled(ctx, p, m, s, s.takeIn, s.rest, s.broadcast, s.kill, s.broadcast)
}

// A generator is a process of loadgen hold.
type generator struct {
	cmd   *exec.Cmd
	in    io.Closer
	lines *bufio.Scanner
}

// A heard is a line of a generator.
type heard struct {
	What          string
	Count, Failed int
	P50, P99, Max float64
}

// next waits for a line of some kind.
func (g *generator) next(what string) (h heard, err error) {
	if !g.lines.Scan() {
		return h, fmt.Errorf("a generator ended: %w", errors.Join(io.ErrUnexpectedEOF, g.lines.Err()))
	}
	if err := json.Unmarshal(g.lines.Bytes(), &h); err != nil {
		return h, err
	}
	if h.What != what {
		return h, fmt.Errorf("%q of %d sockets where %q was expected", h.What, h.Count, what)
	}
	return h, nil
}

// scaled starts the servers and takes the steps.
func (r *runner) scaled(ctx context.Context, p peer, m mode, s *scaling, steps ...func(context.Context) error) (run, error) {
	ctx, cancel := context.WithCancel(ctx)
	ns, end, err := r.startNodes(ctx, p, m, max(m.nodes, 1))
	defer func() {
		cancel()
		end()
	}()
	if err != nil {
		return run{}, err
	}
	s.r, s.p, s.m, s.ns, s.found = r, p, m, ns, run{Name: p.name, Label: m.label, OK: true, V: map[string]float64{}}
	defer func() {
		for _, g := range s.generators {
			_ = g.in.Close()
			_ = g.cmd.Wait()
		}
	}()
	for _, step := range steps {
		if err := step(ctx); err != nil {
			return s.found, err
		}
	}
	return s.found, nil
}

// scaling is a run of scale or storm.
type scaling struct {
	victim     int  // which node is killed; the first one broadcasts
	again      bool // it is started again
	r          *runner
	p          peer
	m          mode
	ns         nodes
	generators []*generator
	sockets    float64
	killed     bool
	at         time.Time // of the kill
	found      run
}

func (s *scaling) add(key string, v float64) { s.found.V[key] = v }

// all waits for a line of each generator.
func (s *scaling) all(what string, f func(heard)) error {
	for _, g := range s.generators {
		h, err := g.next(what)
		if err != nil {
			return err
		}
		f(h)
	}
	return nil
}

func (s *scaling) takeIn(ctx context.Context) error {
	user, kernel := s.pss(), kernelMemory()
	cpu := s.cpu()
	began := time.Now()
	for i, node := range s.ns.servers {
		// Without -again the sockets of the killed node come back to the others.
		var others []string
		for j, other := range s.ns.servers {
			if j != s.victim && !s.again {
				others = append(others, other.url())
			}
		}
		args := append(f(s.m.args), "-server", node.url(), "-others", strings.Join(others, ","), "-secret", secret)
		args = append(args, s.p.gen...)
		if s.r.quick {
			args = append(args, s.m.quick...)
		}
		cmd := s.r.command(ctx, "1", s.r.path("out/bin/loadgen"), args...)
		cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
		cmd.Stderr = os.Stderr
		in, err := cmd.StdinPipe()
		if err != nil {
			return err
		}
		out, err := cmd.StdoutPipe()
		if err != nil {
			return err
		}
		if err := cmd.Start(); err != nil {
			return fmt.Errorf("generator %d: %w", i, err)
		}
		s.generators = append(s.generators, &generator{cmd, in, bufio.NewScanner(out)})
	}
	failed := 0
	if err := s.all("in", func(h heard) {
		s.sockets += float64(h.Count)
		failed += h.Failed
	}); err != nil {
		return err
	}
	if failed > 0 {
		return fmt.Errorf("%d sockets could not connect at the start", failed)
	}
	s.add("sockets", s.sockets)
	s.add("take_in_s", time.Since(began).Seconds())
	s.add("cpu_ms_per_handshake", (s.cpu()-cpu)*1e3/s.sockets)
	s.add("pss_per_socket_at_once", (s.pss()-user)/s.sockets)
	time.Sleep(2 * time.Second)
	s.add("kernel_per_socket_both_ends", (kernelMemory()-kernel)/s.sockets)
	return nil
}

func (s *scaling) rest(context.Context) error {
	d := atRest
	if s.r.quick {
		d = atRestQuick
	}
	cpu := s.cpu()
	time.Sleep(d)
	s.add("rest_cores_per_100k", (s.cpu()-cpu)/d.Seconds()/s.sockets*1e5)
	user := s.pss()
	s.add("pss_per_socket", user/s.sockets) // the process' own included
	for _, n := range s.ns.servers {
		resp, err := http.Get(n.url() + "/bench/stats?gc=1")
		if err != nil {
			return err
		}
		_ = resp.Body.Close()
	}
	s.add("pss_per_socket_after_gc", s.pss()/s.sockets)
	return nil
}

// broadcast sends an event to every socket of the cluster.
func (s *scaling) broadcast(context.Context) error {
	prefix := "broadcast_"
	if s.killed {
		prefix = "broadcast_after_"
	}
	cpu := s.cpu()
	resp, err := http.Post(s.ns.servers[0].url()+"/bench/stream?ns=/drivers&room=&event=trip:started&n=1&rate=1", "text/plain", nil)
	if err != nil {
		return err
	}
	_ = resp.Body.Close()
	var got, p50, p99, most float64
	if err := s.all("broadcast", func(h heard) {
		got += float64(h.Count)
		p50, p99, most = max(p50, h.P50), max(p99, h.P99), max(most, h.Max)
	}); err != nil {
		return err
	}
	s.add(prefix+"cpu_us_per_delivery", (s.cpu()-cpu)*1e6/got)
	s.add(prefix+"p50_ms", p50)
	s.add(prefix+"p99_ms", p99)
	s.add(prefix+"last_ms", most)
	if got != s.sockets {
		s.found.OK = false
		s.found.Notes = append(s.found.Notes, fmt.Sprintf("%sgot %.0f of %.0f", prefix, got, s.sockets))
	}
	return nil
}

// kill ends a node without a word and waits until its sockets are back.
func (s *scaling) kill(context.Context) error {
	if err := s.end(); err != nil {
		return err
	}
	return s.wait()
}

// end kills a node, and starts it again if that is wanted.
func (s *scaling) end() error {
	s.killed, s.at = true, time.Now()
	dead := s.ns.servers[s.victim]
	if s.again {
		return dead.again(syscall.SIGKILL)
	}
	if err := dead.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = dead.cmd.Wait()
	return nil
}

// wait waits until the sockets of the killed node are back.
func (s *scaling) wait() error {
	h, err := s.generators[s.victim].next("back")
	if err != nil {
		return err
	}
	if h.Failed > 0 {
		return fmt.Errorf("of %d sockets %d are not back after %.0f s, half of the others are after %.1f s", h.Count, h.Failed, time.Since(s.at).Seconds(), h.P50/1e3)
	}
	s.add("killed_sockets", float64(h.Count))
	s.add("back_p50_s", h.P50/1e3)
	s.add("back_p99_s", h.P99/1e3)
	s.add("back_last_s", h.Max/1e3)
	return nil
}

// living are the ids of the servers' processes.
func (s *scaling) living() (pids []int) {
	for i, n := range s.ns.servers {
		if i != s.victim || !s.killed || s.again {
			pids = append(pids, n.cmd.Process.Pid)
		}
	}
	return pids
}

// cpu is the servers' CPU time in seconds.
func (s *scaling) cpu() float64 { return cpuOf(s.living()) }

func cpuOf(pids []int) (sum float64) {
	for _, pid := range pids {
		const schedClock = 2 // the precise one of a process's clocks
		clock := int32(^pid<<3 | schedClock)
		var ts syscall.Timespec
		if _, _, e := syscall.RawSyscall(syscall.SYS_CLOCK_GETTIME, uintptr(clock), uintptr(unsafe.Pointer(&ts)), 0); e == 0 {
			sum += float64(ts.Nano()) / 1e9
		}
	}
	return sum
}

// pss is the memory of the servers' processes in bytes.
func (s *scaling) pss() (sum float64) {
	for _, pid := range s.living() {
		sum += fieldKiB("/proc/"+strconv.Itoa(pid)+"/smaps_rollup", "Pss:")
	}
	return sum
}

// kernelMemory is what the kernel has allocated in its slabs and for sockets' data, in bytes.
func kernelMemory() float64 {
	const pageSize = 4096
	sum := fieldKiB("/proc/meminfo", "Slab:")
	b, _ := os.ReadFile("/proc/net/sockstat")
	for line := range strings.Lines(string(b)) {
		w := strings.Fields(line)
		for i := 1; i+1 < len(w); i++ {
			if w[0] == "TCP:" && w[i] == "mem" {
				pages, _ := strconv.ParseFloat(w[i+1], 64)
				sum += pages * pageSize
			}
		}
	}
	return sum
}

// fieldKiB reads a line such as "Slab: 1234 kB" of a file in /proc, in bytes.
func fieldKiB(file, name string) float64 {
	b, _ := os.ReadFile(file)
	for line := range strings.Lines(string(b)) {
		if w := strings.Fields(line); len(w) > 1 && w[0] == name {
			kib, _ := strconv.ParseFloat(w[1], 64)
			return kib * 1024
		}
	}
	return 0
}
