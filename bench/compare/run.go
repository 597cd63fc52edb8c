// Building the servers, and running each of them against the generator.

package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

const (
	firstPort = 21000
	runLimit  = 5 * time.Minute // for one run
	startTime = 15 * time.Second
	secret    = "bench-secret"
	noiseMost = 15.0 // percent of the machine that others may use in a run
	tries     = 3    // for a run that they disturb
)

type runner struct {
	root    string // bench/
	peers   []peer
	modes   []mode
	repeats int
	quick   bool
	pin     bool
	seed    uint64        // of drops
	time    time.Duration // of drops; 0: the mode's own
	log     io.Writer
	port    int
	broken  map[string]error // by what they are built with: the peers that cannot be
	logs    []string         // of the servers of the last run
}

// An order is one run that is to be made.
type order struct {
	repeat int
	mode   mode
	peer   peer
}

// orders are all runs: repeat by repeat and mode by mode, with the peers one after the other and each
// time another one first.
func (r *runner) orders() (list []order) {
	for repeat := range r.repeats {
		for _, m := range r.modes {
			if m.once && repeat > 0 {
				continue
			}
			for i := range r.peers {
				p := r.peers[(i+repeat)%len(r.peers)]
				if slices.Contains(p.modes, m.label) && (!p.many || runtime.NumCPU() > 2) {
					list = append(list, order{repeat, m, p})
				}
			}
		}
	}
	return list
}

func (r *runner) path(p string) string { return filepath.Join(r.root, filepath.FromSlash(p)) }

func (r *runner) resultsFile() string { return r.path("out/results.jsonl") }

// lock keeps a second comparison from building over the programs of this one and
// from disturbing its figures; it holds until the command ends.
func (r *runner) lock() (*os.File, error) {
	if err := os.MkdirAll(r.path("out/logs"), 0o755); err != nil {
		return nil, err
	}
	f, err := os.OpenFile(r.path("out/lock"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("another comparison is running here: %w", err)
	}
	return f, nil
}

// Parts of the peers that are built by themselves: bench/ itself, without which nothing works, and
// two that may fail alone.
const (
	ownPart  = "."
	goPart   = "peers/go"
	nodePart = "peers/node"
)

// part says with what a peer is built.
func (p peer) part() string {
	switch {
	case p.cmd[0] == "node":
		return nodePart
	case strings.HasPrefix(p.cmd[0], "out/bin/peers/"):
		return goPart
	}
	return ownPart
}

// build leaves all programs in out/, and Node's packages where npm wants them. What cannot be built is
// noted in r.broken; an error is that nothing can be measured.
func (r *runner) build(ctx context.Context) error {
	r.broken = map[string]error{}
	for _, s := range []struct {
		part string
		cmd  []string
	}{
		{ownPart, []string{"go", "build", "-o", "out/bin/", "./loadgen", "./server"}},
		{goPart, []string{"go", "build", "-o", "../../out/bin/peers/", "./..."}},
		{nodePart, []string{"npm", "ci", "--no-audit", "--no-fund", "--loglevel=error"}},
	} {
		if s.part != ownPart && !slices.ContainsFunc(r.peers, func(p peer) bool { return p.part() == s.part }) {
			continue
		}
		r.say("%s", strings.Join(s.cmd, " "))
		cmd := exec.CommandContext(ctx, s.cmd[0], s.cmd[1:]...)
		cmd.Dir = r.path(s.part)
		cmd.Stdout, cmd.Stderr = r.log, r.log
		if err := cmd.Run(); err != nil {
			err = fmt.Errorf("%s: %w", strings.Join(s.cmd, " "), err)
			if s.part == ownPart || ctx.Err() != nil {
				return err
			}
			r.say("%v: its servers are left out", err)
			r.broken[s.part] = err
		}
	}
	return nil
}

// say prints a line of progress.
func (r *runner) say(format string, args ...any) {
	fmt.Fprintf(r.log, time.Now().Format(time.TimeOnly)+" "+format+"\n", args...)
}

// keepWell leaves in the results of an earlier comparison the runs in which nothing went wrong, and
// returns how many there are by mode and peer.
func (r *runner) keepWell() (map[[2]string]int, error) {
	old, err := load(r.resultsFile())
	if err != nil {
		return nil, err
	}
	if err := os.Remove(r.resultsFile()); err != nil {
		return nil, err
	}
	have := map[[2]string]int{}
	for _, x := range old {
		if x.OK {
			have[[2]string{x.Label, x.Name}]++
			if err := r.record(x); err != nil {
				return nil, err
			}
		}
	}
	return have, nil
}

// run takes every figure. A run that fails is recorded, with the reason, and the others go on. keep
// adds to the results that are there, resume makes those runs only which they lack.
func (r *runner) run(ctx context.Context, keep, resume bool) error {
	var have map[[2]string]int
	var err error
	switch {
	case resume:
		have, err = r.keepWell()
	case !keep:
		err = os.RemoveAll(r.resultsFile())
	}
	if err != nil {
		return err
	}
	list := slices.DeleteFunc(r.orders(), func(o order) bool { return o.repeat < have[[2]string{o.mode.label, o.peer.name}] })
	began := time.Now()
	for i, o := range list {
		what := fmt.Sprintf("%d of %d: %-15s %-21s", i+1, len(list), o.mode.label, o.peer.name)
		r.say("%s begins", what)
		since := time.Now()
		x := r.quietest(ctx, o.peer, o.mode)
		if ctx.Err() != nil {
			return fmt.Errorf("%w; with -resume it goes on, with -render it writes what there is", ctx.Err())
		}
		if err := r.record(x); err != nil {
			return err
		}
		outcome := "ok"
		if !x.OK {
			outcome = "FAILED: " + strings.Join(x.Notes, "; ")
		}
		left := time.Since(began) / time.Duration(i+1) * time.Duration(len(list)-i-1)
		r.say("%s %5.1f s, %s; about %.0f min left", what, time.Since(since).Seconds(), outcome, left.Minutes())
		if !x.OK {
			r.showLogs()
		}
	}
	return nil
}

// showLogs prints the last lines that the servers of a run said.
func (r *runner) showLogs() {
	const lines = 10
	for _, file := range r.logs {
		data, _ := os.ReadFile(file)
		said := strings.Split(strings.TrimSpace(string(data)), "\n")
		for _, line := range said[max(0, len(said)-lines):] {
			if line != "" {
				fmt.Fprintf(r.log, "    %s: %s\n", filepath.Base(file), line)
			}
		}
	}
}

// quietest measures one server in one mode, again if the machine was busy with
// something else, and returns the run with the least of that.
func (r *runner) quietest(ctx context.Context, p peer, m mode) (best run) {
	for try := range tries {
		x, err := r.one(ctx, p, m)
		switch {
		case err != nil:
			return run{Name: p.name, Label: m.label, Notes: []string{err.Error()}}
		case !x.OK:
			return x
		}
		if try == 0 || x.noise() < best.noise() {
			best = x
		}
		if !m.calm || r.quick || best.noise() <= noiseMost {
			break
		}
	}
	return best
}

// record adds a run to the results.
func (r *runner) record(x run) error {
	f, err := os.OpenFile(r.resultsFile(), os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	err = json.NewEncoder(f).Encode(x)
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}

// one measures one server in one mode. The generator says what it found, also when
// it found fault; an error is that it found nothing.
func (r *runner) one(ctx context.Context, p peer, m mode) (run, error) {
	r.logs = nil
	if err := r.broken[p.part()]; err != nil {
		return run{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, runLimit)
	defer cancel()
	if m.run != nil {
		return m.run(r, ctx, p, m)
	}
	found := r.path("out/run.jsonl")
	if err := os.RemoveAll(found); err != nil {
		return run{}, err
	}
	nodes, end, err := r.startNodes(ctx, p, m, max(m.nodes, 1))
	defer func() {
		cancel() // ends them
		end()
	}()
	if err != nil {
		return run{}, err
	}
	args := r.generatorArgs(p, m, nodes, found)
	out, err := r.command(ctx, "1", r.path("out/bin/loadgen"), args...).CombinedOutput()
	if list, e := load(found); e == nil && len(list) == 1 {
		return list[0], nil
	}
	return run{}, fmt.Errorf("no result: %v: %s", err, strings.Join(strings.Fields(string(out[max(0, len(out)-300):])), " "))
}

// generatorArgs are the arguments of the generator for a run.
func (r *runner) generatorArgs(p peer, m mode, ns nodes, found string) []string {
	args := append(slices.Clone(m.args), ns.flags()...)
	args = append(args, "-secret", secret, "-json", found, "-name", p.name, "-label", m.label)
	args = append(args, p.gen...)
	if r.quick {
		args = append(args, m.quick...)
	}
	return args
}

// start starts a server and waits until it listens. redis is the address of what several
// of them share, or "".
func (r *runner) start(ctx context.Context, p peer, m mode, name, redis string, port int) (*exec.Cmd, error) {
	program := p.cmd[0]
	if strings.Contains(program, "/") {
		program = r.path(program)
	}
	cores := "0"
	if n := runtime.NumCPU(); p.wide && n > 2 {
		cores = "0,2-" + strconv.Itoa(n-1)
	} else if p.wide {
		cores = "0,1"
	}
	// taskset becomes the server, so that its process id is the server's.
	cmd := r.command(ctx, cores, program, p.cmd[1:]...)
	cmd.Dir = r.path(p.dir)
	cmd.Env = append(os.Environ(), "PORT="+strconv.Itoa(port), "JWT_SECRET="+secret, "NODE_ENV=production")
	cmd.Env = append(append(cmd.Env, p.env...), m.env...)
	if redis != "" {
		cmd.Env = append(cmd.Env, "REDIS_URL="+redis)
	}
	return cmd, r.listening(cmd, name, port)
}

// listening starts a program with a log of its own, and waits until it listens.
func (r *runner) listening(cmd *exec.Cmd, name string, port int) error {
	file, flags := r.path("out/logs/"+name+".log"), os.O_APPEND|os.O_CREATE|os.O_WRONLY
	if !slices.Contains(r.logs, file) { // otherwise it is started again, and goes on in its log
		r.logs = append(r.logs, file)
		flags |= os.O_TRUNC
	}
	logFile, err := os.OpenFile(file, flags, 0o644)
	if err != nil {
		return err
	}
	defer logFile.Close() // the server has its own copy
	cmd.Stdout, cmd.Stderr = logFile, logFile
	// It ends with this program, however that ends.
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return err
	}
	for end := time.Now().Add(startTime); time.Now().Before(end); time.Sleep(50 * time.Millisecond) {
		if c, err := net.Dial("tcp", "127.0.0.1:"+strconv.Itoa(port)); err == nil {
			_ = c.Close()
			time.Sleep(300 * time.Millisecond) // for whatever it still does
			return nil
		}
	}
	_ = cmd.Process.Kill()
	_ = cmd.Wait()
	return fmt.Errorf("it did not come up, see out/logs/%s.log", name)
}

// command runs a program on some cores, on all unless pinned.
func (r *runner) command(ctx context.Context, cores, program string, args ...string) *exec.Cmd {
	if !r.pin {
		return exec.CommandContext(ctx, program, args...)
	}
	return exec.CommandContext(ctx, "taskset", append([]string{"-c", cores, program}, args...)...)
}

// freePort returns another one each time, so that no run meets what is left of the
// one before.
func (r *runner) freePort() (int, error) {
	for range 1000 {
		r.port++
		port := firstPort + r.port%2000
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(port))
		if err != nil {
			continue
		}
		return port, l.Close()
	}
	return 0, fmt.Errorf("no free port from %d on", firstPort)
}
