package main

import (
	"bufio"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/alicebob/miniredis/v2"
)

// TestServer runs each mode, as small as it gets, against the library's server: the
// two must not drift apart. What it costs is of no interest here.
func TestServer(t *testing.T) {
	program := build(t)
	url := "http://" + serve(t, program)
	base := config{
		server: url, secret: "bench-secret", proto: "sio", transport: "websocket", ns: "/drivers", eio: 4, srcIPs: 4,
		conns: 20, conc: 8, n: 2, burst: 5, bursts: 2, admins: 1, abrupt: .5, handshake: 10 * time.Second,
		dur: 90 * time.Millisecond, warm: time.Millisecond, settle: time.Millisecond, hold: time.Millisecond,
	}
	for _, name := range []string{"check", "connect", "idle", "pings", "fanout", "unicast", "slow", "churn"} {
		for _, transport := range []string{"websocket", "polling"} {
			if transport == "polling" && name == "slow" {
				continue // polling has no connection to stall
			}
			t.Run(name+" over "+transport, func(t *testing.T) {
				cfg := base
				cfg.transport = transport
				b, err := newBench(cfg, nil)
				if err != nil {
					t.Fatal(err)
				}
				modes[name].run(b)
				if !b.res.ok {
					t.Error(b.res.notes)
				}
			})
		}
	}
}

// TestServer_AsNodesOfACluster runs cluster, as small as it gets, against three nodes of
// the library.
func TestServer_AsNodesOfACluster(t *testing.T) {
	program := build(t)
	redis := "REDIS_URL=redis://" + miniredis.RunT(t).Addr()
	cfg := config{
		server: "http://" + serve(t, program, redis), others: "http://" + serve(t, program, redis) + ",http://" + serve(t, program, redis),
		secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4,
		conns: 2, conc: 8, burst: 5, rate: 1000, handshake: 10 * time.Second, dur: 90 * time.Millisecond, warm: 20 * time.Millisecond,
	}
	b, err := newBench(cfg, nil)
	if err != nil {
		t.Fatal(err)
	}
	b.cluster()
	if !b.res.ok {
		t.Error(b.res.notes)
	}
	for _, m := range b.res.metrics {
		if strings.HasSuffix(m.key, "_ms") && (m.val <= 0 || m.val > 60_000) {
			t.Errorf("%s is %v: the clocks of server and generator differ", m.key, m.val)
		}
	}
}

// TestServer_KilledAndStartedAgain runs hold: a broadcast reaches all sockets, and all come back
// after the server was killed.
func TestServer_KilledAndStartedAgain(t *testing.T) {
	program := build(t)
	addr := freeAddress(t)
	kill := start(t, program, addr)
	b, err := newBench(config{
		server: "http://" + addr, secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4,
		conns: 10, conc: 8, returns: 8, within: time.Minute, handshake: 10 * time.Second,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, end := io.Pipe()
	lines, out := io.Pipe()
	go func() {
		b.holdUntil(in, out)
		_ = out.Close()
	}()
	said := bufio.NewScanner(lines)
	next := func(what string) {
		t.Helper()
		want := fmt.Sprintf(`{"what":%q,"count":10`, what)
		if !said.Scan() || !strings.HasPrefix(said.Text(), want) {
			t.Fatalf("got %q, want %s", said.Text(), want)
		}
	}
	next("in")
	for range 2 {
		resp, err := http.Post("http://"+addr+"/bench/stream?ns=/drivers&room=&event=trip:started&n=1&rate=1", "text/plain", nil)
		if err != nil {
			t.Fatal(err)
		}
		_ = resp.Body.Close()
		next("broadcast")
		kill()
		kill = start(t, program, addr)
		next("back")
	}
	_ = end.Close()
	if said.Scan() {
		t.Errorf("then %q", said.Text())
	}
}

// TestServer_KilledForGood runs hold against a server that does not come back: it says so.
func TestServer_KilledForGood(t *testing.T) {
	addr := freeAddress(t)
	kill := start(t, build(t), addr)
	b, err := newBench(config{
		server: "http://" + addr, secret: "bench-secret", proto: "sio", transport: "websocket", eio: 4, srcIPs: 4,
		conns: 5, conc: 8, returns: 8, within: 100 * time.Millisecond, handshake: 10 * time.Second,
	}, nil)
	if err != nil {
		t.Fatal(err)
	}
	in, end := io.Pipe()
	lines, out := io.Pipe()
	go func() {
		b.holdUntil(in, out)
		_ = out.Close()
	}()
	said := bufio.NewScanner(lines)
	for _, want := range []string{`{"what":"in","count":5,"max"`, `{"what":"back","count":5,"failed":5`} {
		if !said.Scan() || !strings.HasPrefix(said.Text(), want) {
			t.Fatalf("got %q, want %s", said.Text(), want)
		}
		kill()
	}
	_ = end.Close()
}

func build(t *testing.T) (program string) {
	program = filepath.Join(t.TempDir(), "server")
	if out, err := exec.Command("go", "build", "-o", program, "../server").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return program
}

// serve starts the server on a free port and returns its address.
func serve(t *testing.T, program string, env ...string) string {
	addr := freeAddress(t)
	start(t, program, addr, env...)
	return addr
}

// freeAddress returns an address whose port nobody uses, below those that the system gives to connections: a server
// that starts, or starts again, finds it free.
func freeAddress(t *testing.T) string {
	for range 1000 {
		l, err := net.Listen("tcp", "127.0.0.1:"+strconv.Itoa(10_000+rand.IntN(10_000)))
		if err != nil {
			continue
		}
		defer l.Close()
		return l.Addr().String()
	}
	t.Fatal("no port is free")
	return ""
}

// start starts the server and waits until it listens.
func start(t *testing.T, program, addr string, env ...string) (kill func()) {
	_, port, _ := net.SplitHostPort(addr)
	cmd := exec.Command(program)
	cmd.Env = append(append(os.Environ(), "PORT="+port, "JWT_SECRET=bench-secret"), env...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	kill = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait() // an error, from the second time on too
	}
	t.Cleanup(kill)
	for range 400 {
		if c, err := net.Dial("tcp", addr); err == nil {
			_ = c.Close()
			return kill
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("the server does not listen on " + strconv.Quote(addr))
	return nil
}

func TestLoopbackOnly(t *testing.T) {
	for _, addr := range []string{"http://192.0.2.1:80", "http://0.0.0.0:80"} {
		if _, err := newBench(config{server: addr, proto: "sio", transport: "websocket", eio: 4}, nil); err == nil {
			t.Errorf("%s passed", addr)
		}
	}
}
