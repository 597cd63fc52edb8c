//go:build unix

// Package pgtest runs a Postgres for tests: Debian's package postgresql, or what is in PATH.
package pgtest

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgxpool"
)

// server is the Postgres of the test process. It listens on a socket in its directory only, and
// keeps nothing.
type server struct {
	dir   string
	cmd   *exec.Cmd
	alive io.Closer // when it is closed, or the test process is killed, the Postgres ends
}

var (
	mu        sync.Mutex // guards the variables below
	running   *server
	databases int
)

// Stop ends the Postgres, if there is one. TestMain calls it.
func Stop() {
	mu.Lock()
	defer mu.Unlock()
	if running != nil {
		running.stop()
		running = nil
	}
}

// NewDatabase returns the URL of an empty database. The first call starts the Postgres.
func NewDatabase(t testing.TB) (url string) {
	t.Helper()
	mu.Lock()
	defer mu.Unlock()
	if running == nil {
		s, err := start()
		if err != nil {
			t.Fatal(err)
		}
		running = s
	}
	databases++
	name := "test" + strconv.Itoa(databases)
	if err := running.exec("CREATE DATABASE " + name); err != nil {
		t.Fatal(err)
	}
	return running.url(name)
}

// NewPool returns a pool of connections to a database, and a function that cuts them for good, as
// when the process is killed. The pool is closed when the test ends.
func NewPool(t testing.TB, url string, maxConns int32) (pool *pgxpool.Pool, cut func()) {
	t.Helper()
	config, err := pgxpool.ParseConfig(url)
	if err != nil {
		t.Fatal(err)
	}
	config.MaxConns = maxConns
	var d dialer
	config.ConnConfig.DialFunc = d.dial
	pool, err = pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool, d.cut
}

// dialer makes connections that can be cut.
type dialer struct {
	mu    sync.Mutex // guards the fields below
	conns []net.Conn
	isCut bool
}

func (d *dialer) dial(ctx context.Context, network, addr string) (net.Conn, error) {
	c, err := (&net.Dialer{}).DialContext(ctx, network, addr)
	if err != nil {
		return nil, err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.isCut {
		_ = c.Close()
		return nil, errCut
	}
	d.conns = append(d.conns, c)
	return &cuttable{Conn: c, d: d}, nil
}

// cuttable sends nothing once its dialer has cut: no connection works a little longer than another.
type cuttable struct {
	net.Conn

	d *dialer
}

func (c *cuttable) Write(b []byte) (int, error) {
	c.d.mu.Lock()
	defer c.d.mu.Unlock()
	if c.d.isCut {
		return 0, errCut
	}
	return c.Conn.Write(b)
}

var errCut = errors.New("the connection is cut")

func (d *dialer) cut() {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.isCut = true
	for _, c := range d.conns {
		_ = c.Close()
	}
}

// start makes a cluster in a temporary directory and starts a Postgres on it.
func start() (*server, error) {
	bin, err := binaries()
	if err != nil {
		return nil, err
	}
	attr, uid, gid, err := unprivileged()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "pgtest")
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	if err := errors.Join(os.Chmod(dir, 0o700), os.Chown(dir, uid, gid)); err != nil {
		s.stop()
		return nil, err
	}
	data := filepath.Join(dir, "data")
	initdb := exec.Command(filepath.Join(bin, "initdb"), "-D", data, "-U", "test", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = dir, attr
	if out, err := initdb.CombinedOutput(); err != nil {
		s.stop()
		return nil, fmt.Errorf("initdb: %w\n%s", err, out)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		s.stop()
		return nil, err
	}
	defer func() { _ = log.Close() }()
	s.cmd = exec.Command("sh", "-c", `"$@" & read -r _; kill -QUIT $!; wait $!; rm -rf "$0"`, dir,
		filepath.Join(bin, "postgres"), "-D", data, "-k", dir,
		"-c", "listen_addresses=", "-c", "fsync=off", "-c", "full_page_writes=off", "-c", "max_connections=200")
	s.cmd.Dir, s.cmd.SysProcAttr, s.cmd.Stdout, s.cmd.Stderr = dir, attr, log, log
	if s.alive, err = s.cmd.StdinPipe(); err == nil {
		err = s.cmd.Start()
	}
	if err != nil {
		s.alive = nil
		s.stop()
		return nil, err
	}
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		err := s.exec("SELECT 1")
		if err == nil {
			return s, nil
		}
		if time.Now().After(deadline) {
			text, _ := os.ReadFile(log.Name())
			s.stop()
			return nil, fmt.Errorf("postgres does not answer: %w\n%s", err, text)
		}
	}
}

// stop ends the Postgres at once and removes its directory.
func (s *server) stop() {
	if s.alive != nil {
		_ = s.alive.Close()
		_ = s.cmd.Wait()
	}
	_ = os.RemoveAll(s.dir)
}

// url returns the URL of a database.
func (s *server) url(database string) string {
	q := url.Values{"host": {s.dir}, "user": {"test"}}
	return "postgres:///" + database + "?" + q.Encode()
}

// exec executes a statement.
func (s *server) exec(statement string) error {
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	conn, err := pgx.Connect(ctx, s.url("postgres"))
	if err != nil {
		return err
	}
	defer func() { _ = conn.Close(ctx) }()
	_, err = conn.Exec(ctx, statement)
	return err
}

// binaries returns the directory of initdb and postgres. Debian's are not in PATH.
func binaries() (dir string, err error) {
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/initdb")
	if len(found) > 0 {
		return filepath.Dir(found[len(found)-1]), nil
	}
	initdb, err := exec.LookPath("initdb")
	if err != nil {
		return "", fmt.Errorf("postgres, which these tests need (on Debian: apt-get install postgresql): %w", err)
	}
	return filepath.Dir(initdb), nil
}

// unprivileged returns how a process runs as another user than root, whom postgres refuses, and
// the owner of its files.
func unprivileged() (attr *syscall.SysProcAttr, uid, gid int, err error) {
	if os.Getuid() != 0 {
		return nil, os.Getuid(), os.Getgid(), nil
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		if u, err = user.Lookup("nobody"); err != nil {
			return nil, 0, 0, err
		}
	}
	uid, err1 := strconv.Atoi(u.Uid)
	gid, err2 := strconv.Atoi(u.Gid)
	if err := errors.Join(err1, err2); err != nil {
		return nil, 0, 0, err
	}
	return &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}}, uid, gid, nil
}
