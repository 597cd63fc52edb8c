//go:build e2e

// The faults of a real redis-server and of the path to it, under load: two servers emit all the
// time, and one of them reaches Redis over a path. docs/redis.md lists them.

package redisadapter_test

import (
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/redistest"
	"github.com/rodando/realtime/redisadapter"
)

// scene is what a fault can act on: Redis, and the path of the second server to it.
type scene struct {
	redis *redistest.Process
	path  *redistest.Path
	flow  *flow
}

// fault is a fault under load.
type fault struct {
	flags    []string
	begin    func(t *testing.T, s *scene)
	hold     time.Duration // at least
	end      func(t *testing.T, s *scene)
	red      [2]bool // the servers whose Check must say so meanwhile
	green    [2]bool // the servers whose Check must not
	lossless bool
}

var realFaults = map[string]fault{
	"killed and restarted": {
		begin: func(_ *testing.T, s *scene) { s.redis.Kill() },
		hold:  2 * time.Second,
		end:   func(t *testing.T, s *scene) { require.NoError(t, s.redis.Start()) },
		red:   [2]bool{true, true},
	},
	"stopped for 10 s": {
		begin: func(t *testing.T, s *scene) { require.NoError(t, s.redis.Pause()) },
		hold:  10 * time.Second,
		end:   func(t *testing.T, s *scene) { require.NoError(t, s.redis.Resume()) },
		red:   [2]bool{true, true},
	},
	"path goes silent": {
		begin: func(_ *testing.T, s *scene) { s.path.Silence(true) },
		hold:  6 * time.Second,
		end:   func(_ *testing.T, s *scene) { s.path.Silence(false) },
		red:   [2]bool{false, true},
		green: [2]bool{true, false},
	},
	"cut in the middle of a command": {begin: func(_ *testing.T, s *scene) { tear(s, redistest.ToServer) }, green: [2]bool{true, false}},
	"cut in the middle of a message": {begin: func(_ *testing.T, s *scene) { tear(s, redistest.FromServer) }, green: [2]bool{true, false}},
	"slow": {
		begin:    func(_ *testing.T, s *scene) { s.path.Delay(200 * time.Millisecond) },
		hold:     3 * time.Second,
		end:      func(_ *testing.T, s *scene) { s.path.Delay(0) },
		green:    [2]bool{true, true},
		lossless: true,
	},
	"memory full": {
		flags:    []string{"--maxmemory-policy", "noeviction"},
		begin:    func(t *testing.T, s *scene) { s.redis.Do(t, "CONFIG", "SET", "maxmemory", "1") },
		hold:     2 * time.Second,
		end:      func(t *testing.T, s *scene) { s.redis.Do(t, "CONFIG", "SET", "maxmemory", "0") },
		green:    [2]bool{true, true},
		lossless: true,
	},
	"kicked for its buffer": {
		flags: []string{"--client-output-buffer-limit", "pubsub 4mb 0 0"},
		begin: func(t *testing.T, s *scene) {
			s.path.Silence(true)
			kick(t, s.redis)
			s.path.Silence(false)
		},
	},
	"connections are killed": {
		begin: func(t *testing.T, s *scene) { s.redis.Do(t, "CLIENT", "KILL", "TYPE", "pubsub") },
	},
	"garbage on every channel": {
		begin: func(t *testing.T, s *scene) {
			for range 3 {
				for _, channel := range []string{
					"socket.io#/drivers#", "socket.io#/drivers#driver:1#", "socket.io-request#/drivers#", "socket.io-response#/drivers#",
					redisadapter.StateChannel(socketioKey, ns), redisadapter.NodesChannel(socketioKey),
				} {
					for _, garbage := range []string{"", "{", "\xc1", "\x93\x01", "\x93\xa1u\x80\x80", `{"type":3}`, strings.Repeat("[", 1<<16), strings.Repeat("x", 1<<18)} {
						s.redis.Do(t, "PUBLISH", channel, garbage)
						s.redis.Do(t, "SPUBLISH", channel, garbage)
					}
				}
			}
		},
		green:    [2]bool{true, true},
		lossless: true,
	},
}

// tear cuts connections of the path some times.
func tear(s *scene, d redistest.Direction) {
	for range 5 {
		s.path.Tear(d)
		time.Sleep(400 * time.Millisecond)
	}
}

// kick publishes until Redis has closed the connection of a subscriber that does not read.
func kick(t *testing.T, r *redistest.Process) {
	t.Helper()
	subscribers := func() int { return strings.Count(r.Do(t, "CLIENT", "LIST", "TYPE", "pubsub"), "id=") }
	before := subscribers()
	large := strings.Repeat("x", 1<<20)
	wait(t, "Redis closes the connection", func() bool {
		r.Do(t, "PUBLISH", "socket.io#/drivers#nobody#", large)
		r.Do(t, "SPUBLISH", "socket.io#/drivers#", `{"uid":"node","nsp":"/other","type":3,"data":"`+large+`"}`)
		return subscribers() < before
	})
}

func TestRealRedis_Faults(t *testing.T) {
	t.Parallel()
	for name, fault := range realFaults {
		for _, protocol := range protocols {
			t.Run(name+", "+protocol, func(t *testing.T) {
				t.Parallel()
				s := &scene{redis: redistest.StartProcess(t, fault.flags...)}
				s.path = redistest.StartPath(t, s.redis.Addr())
				s.flow = startFlow(t, [2]string{s.redis.URL(), s.path.URL()}, func(o *redisadapter.Options) { o.Sharded = protocol == "sharded" })
				s.flow.crosses(t)
				fault.test(t, s)
			})
		}
	}
}

// test has the fault happen, and checks what the servers and their clients see meanwhile and
// afterwards.
func (f fault) test(t *testing.T, s *scene) {
	t.Helper()
	machine, watches := s.redis.Pulse(t), s.flow.watch(t)
	began := time.Now()
	f.begin(t, s)
	s.flow.goesOnHere(t)
	for i, n := range s.flow.nodes {
		if f.red[i] {
			wait(t, "health is red", func() bool { return !n.healthy(t) })
		}
	}
	time.Sleep(f.hold - time.Since(began))
	if f.lossless {
		s.flow.crosses(t)
	}
	if f.end != nil {
		f.end(t, s)
	}
	s.flow.heals(t)
	lost := s.flow.check(t)
	if f.lossless {
		s.flow.nothingLost(t, lost, machine)
	}
	for i, w := range watches {
		if f.green[i] {
			require.Empty(t, w.Unexcused(machine), "Check of %s was red", s.flow.nodes[i].name)
		}
	}
}
