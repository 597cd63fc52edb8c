// One server, or several that are nodes of a cluster, with the Redis that they share.

package main

import (
	"context"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
)

// A member is a server that runs.
type member struct {
	cmd   *exec.Cmd
	port  int
	start func() (*exec.Cmd, error)
}

func (m *member) url() string { return "http://127.0.0.1:" + strconv.Itoa(m.port) }

// nodes are the servers of a run; where they are several, Redis' process is the last one.
type nodes struct {
	servers []*member
	redis   *exec.Cmd
}

// flags says to the generator where the servers are.
func (ns nodes) flags() (args []string) {
	var urls, pids []string
	for _, n := range ns.servers {
		urls = append(urls, n.url())
		pids = append(pids, strconv.Itoa(n.cmd.Process.Pid))
	}
	if ns.redis != nil {
		pids = append(pids, strconv.Itoa(ns.redis.Process.Pid))
	}
	args = f("-server", urls[0], "-pid", strings.Join(pids, ","))
	if len(urls) > 1 {
		args = append(args, "-others", strings.Join(urls[1:], ","))
	}
	return args
}

// startNodes starts count servers, and Redis first if they are several. end waits for
// whatever was started; it is to be called after ctx has ended, also upon an error.
func (r *runner) startNodes(ctx context.Context, p peer, m mode, count int) (ns nodes, end func(), err error) {
	end = func() {
		for _, n := range ns.servers {
			_ = n.cmd.Wait()
		}
		if ns.redis != nil {
			_ = ns.redis.Wait()
		}
	}
	url := ""
	if count > 1 {
		if ns.redis, url, err = r.startRedis(ctx); err != nil {
			return ns, end, err
		}
	}
	for i := range count {
		name := p.name
		if count > 1 {
			name += "-" + strconv.Itoa(i+1)
		}
		port, err := r.freePort()
		if err != nil {
			return ns, end, err
		}
		start := func() (*exec.Cmd, error) { return r.start(ctx, p, m, name, url, port) }
		cmd, err := start()
		if err != nil {
			return ns, end, err
		}
		ns.servers = append(ns.servers, &member{cmd, port, start})
	}
	return ns, end, nil
}

// startRedis starts a redis-server that keeps nothing, on the generator's core.
func (r *runner) startRedis(ctx context.Context) (*exec.Cmd, string, error) {
	if _, err := exec.LookPath("redis-server"); err != nil {
		return nil, "", fmt.Errorf("several nodes need redis-server: %w", err)
	}
	port, err := r.freePort()
	if err != nil {
		return nil, "", err
	}
	cmd := r.command(ctx, "1", "redis-server", "--bind", "127.0.0.1", "--port", strconv.Itoa(port), "--save", "", "--appendonly", "no", "--dir", r.path("out"))
	if err := r.listening(cmd, "redis", port); err != nil {
		return nil, "", err
	}
	return cmd, "redis://127.0.0.1:" + strconv.Itoa(port), nil
}
