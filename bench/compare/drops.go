// drops: clients that come and go while events are published, on one server and on two that share
// a Redis; where the mode says so, a server is restarted in order, and later one is killed. Servers
// that can make offers meanwhile.

package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// restartLimit is how long a server may take to shut down in order.
const restartLimit = 20 * time.Second

// drops runs the generator and does to the servers what it asks for.
func (r *runner) drops(ctx context.Context, p peer, m mode) (run, error) {
	found := r.path("out/run.jsonl")
	if err := os.RemoveAll(found); err != nil {
		return run{}, err
	}
	if p.offer {
		store := r.path("out/store")
		if err := errors.Join(os.RemoveAll(store), os.MkdirAll(store, 0o755)); err != nil {
			return run{}, err
		}
		p.env = append(slices.Clone(p.env), "STORE="+store)
		p.gen = append(slices.Clone(p.gen), "-offers", offersASecond, "-store", store)
	}
	ctx, cancel := context.WithCancel(ctx)
	ns, end, err := r.startNodes(ctx, p, m, max(m.nodes, 1))
	defer func() {
		cancel()
		end()
	}()
	if err != nil {
		return run{}, err
	}
	args := append(r.generatorArgs(p, m, ns, found), "-seed", strconv.FormatUint(r.seed, 10))
	if r.time > 0 {
		args = append(args, "-t", r.time.String())
	}
	cmd := r.command(ctx, "1", r.path("out/bin/loadgen"), args...)
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	var said strings.Builder
	cmd.Stderr = &said
	out, err := cmd.StdoutPipe()
	if err != nil {
		return run{}, err
	}
	if err := cmd.Start(); err != nil {
		return run{}, err
	}
	for lines := bufio.NewScanner(out); lines.Scan(); {
		var h heard
		if json.Unmarshal(lines.Bytes(), &h) != nil || err != nil {
			continue // the result in words; or what comes after a fault that failed
		}
		switch h.What {
		case "restart":
			err = ns.servers[0].again(syscall.SIGTERM)
		case "kill":
			err = ns.servers[len(ns.servers)-1].again(syscall.SIGKILL)
		}
		if err != nil {
			cancel()
		}
	}
	if e := cmd.Wait(); err == nil {
		err = e
	}
	if list, e := load(found); e == nil && len(list) == 1 {
		return list[0], nil
	}
	return run{}, fmt.Errorf("no result: %v: %s", err, strings.Join(strings.Fields(said.String()), " "))
}

// again ends a server by a signal and starts it anew, as a supervisor does.
func (m *member) again(by syscall.Signal) error {
	if err := m.cmd.Process.Signal(by); err != nil {
		return err
	}
	kill := time.AfterFunc(restartLimit, func() { _ = m.cmd.Process.Kill() })
	err := m.cmd.Wait()
	if in := kill.Stop(); by == syscall.SIGTERM && (err != nil || !in) {
		return fmt.Errorf("the server did not shut down in order: %v", err)
	}
	time.Sleep(downTime)
	cmd, err := m.start()
	if err != nil {
		return err
	}
	m.cmd = cmd
	return nil
}
