// Recovery: a client that reconnects gets its socket back, and what it has missed.

package realtime_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimetest"
)

var note = realtime.NewEvent[int]("note")

// Which clients get offsets as a further argument, and that no other gets one.
func TestRecovery_WhoGetsOffsets(t *testing.T) {
	t.Parallel()
	query := realtimetest.Query
	for name, c := range map[string]struct {
		opts   []realtimetest.Option
		inside bool
	}{
		"4.8 by polling":    {[]realtimetest.Option{realtimetest.Polling(), query("t=mf3k9x1a")}, true},
		"3.1 by polling":    {[]realtimetest.Option{realtimetest.Polling(), query("t=PdGk3Xy")}, false},
		"JavaScript":        {nil, true},
		"Python":            {[]realtimetest.Option{query("t=1764236000.5")}, false},
		"Python by aiohttp": {[]realtimetest.Option{realtimetest.Header("User-Agent", "Python/3.11 aiohttp/3.8")}, false},
		"Dart":              {[]realtimetest.Option{realtimetest.Header("User-Agent", "Dart/3.5 (dart:io)")}, false},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := recoverySite(t)
				c0, err := s.Dial(t.Context(), realtime.NamespaceDrivers, append(c.opts, realtimetest.Token(s.Login(name, realtime.UserDriver)))...)
				require.NoError(t, err)
				hello, err := c0.NextRaw(t.Context(), realtime.EventHello.Name())
				require.NoError(t, err)
				notes(t, s, realtime.DriverRoom(name), 1)
				r, err := c0.NextRaw(t.Context(), note.Name())
				require.NoError(t, err)
				args := 1
				if c.inside {
					args = 2
				}
				require.Len(t, hello.Args, args)
				require.Len(t, r.Args, args)
				require.NotEmpty(t, c0.PID())
				require.NotEmpty(t, c0.Offset())
			})
		})
	}
}

// recoverySite is a server with recovery on.
func recoverySite(t *testing.T, change ...func(o *realtime.Options)) *realtimetest.Server {
	t.Helper()
	return realtimetest.NewServer(t, func(o *realtime.Options) {
		o.Recovery.Enabled = true
		for _, f := range change {
			f(o)
		}
	})
}

// notes emits numbers to a room of /drivers.
func notes(t *testing.T, s *realtimetest.Server, room realtime.Room, numbers ...int) {
	t.Helper()
	for _, n := range numbers {
		require.NoError(t, note.Emit(s.Realtime.Drivers().To(room), n))
	}
}

// received returns the numbers that a client received, up to and with its hello.
func receivedNotes(t *testing.T, c *realtimetest.Client) (numbers []int) {
	t.Helper()
	for _, r := range c.Received() {
		if r.Event == note.Name() {
			var n int
			require.NoError(t, json.Unmarshal(r.Args[0], &n))
			numbers = append(numbers, n)
		}
	}
	return numbers
}

// back reconnects a driver.
func back(t *testing.T, s *realtimetest.Server, former *realtimetest.Client, user string, opts ...realtimetest.Option) (*realtimetest.Client, realtime.HelloPayload) {
	t.Helper()
	opts = append([]realtimetest.Option{realtimetest.Token(s.Login(user, realtime.UserDriver)), realtimetest.Recover(former)}, opts...)
	c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, opts...)
	require.NoError(t, err)
	hello := realtimetest.Expect(t, c, realtime.EventHello)
	require.NotNil(t, hello.Recovered)
	require.Equal(t, c.Recovered(), *hello.Recovered)
	return c, hello
}

func recovers(t *testing.T, c *realtimetest.Client, hello realtime.HelloPayload, former *realtimetest.Client, missed ...int) {
	t.Helper()
	require.True(t, *hello.Recovered)
	require.Equal(t, len(missed), *hello.Missed)
	require.Equal(t, former.ID(), c.ID())
	require.Equal(t, missed, receivedNotes(t, c))
}

func isNew(t *testing.T, c *realtimetest.Client, hello realtime.HelloPayload, former *realtimetest.Client) {
	t.Helper()
	isNewAfterAll(t, c, hello)
	require.NotEqual(t, former.ID(), c.ID())
}

// isNewAfterAll is isNew for a client whose socket was found, and then not all of its events.
func isNewAfterAll(t *testing.T, c *realtimetest.Client, hello realtime.HelloPayload) {
	t.Helper()
	require.False(t, *hello.Recovered, "got %v", receivedNotes(t, c))
	require.Nil(t, hello.Missed)
	require.Empty(t, receivedNotes(t, c))
}

func TestRecovery_MissedEvents(t *testing.T) {
	t.Parallel()
	for _, transport := range []struct {
		name string
		opts []realtimetest.Option
	}{{"websocket", nil}, {"polling", []realtimetest.Option{realtimetest.Polling()}}, {"both", []realtimetest.Option{realtimetest.Upgrade()}}} {
		t.Run(transport.name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := recoverySite(t)
				room := realtime.DriverRoom("d1")
				former := s.Driver(t, "d1", transport.opts...)
				other := s.Driver(t, "d2")
				offset := former.Offset()
				notes(t, s, room, 1)
				require.Equal(t, 1, realtimetest.Expect(t, former, note))
				require.Eventually(t, func() bool { return former.Offset() != offset }, realtimetest.Timeout, time.Millisecond) // it may follow
				cut(t, s, former)
				notes(t, s, room, 2, 3)
				notes(t, s, realtime.DriverRoom("d2"), 100)
				c, hello := back(t, s, former, "d1", transport.opts...)
				recovers(t, c, hello, former, 2, 3)
				notes(t, s, room, 4)
				require.Eventually(t, func() bool { return len(receivedNotes(t, c)) == 3 }, realtimetest.Timeout, time.Millisecond)
				require.Equal(t, []int{2, 3, 4}, receivedNotes(t, c))
				require.Equal(t, 100, realtimetest.Expect(t, other, note))

				// Again, without an event in between, and with one.
				cut(t, s, c)
				again, hello := back(t, s, c, "d1", transport.opts...)
				recovers(t, again, hello, former)
				cut(t, s, again)
				notes(t, s, room, 5)
				again, hello = back(t, s, again, "d1", transport.opts...)
				recovers(t, again, hello, former, 5)
				realtimetest.ExpectNone(t, other, note)
			})
		})
	}
}

// cut drops a client's connection, and waits until the server has noticed it.
func cut(t *testing.T, s *realtimetest.Server, c *realtimetest.Client) {
	t.Helper()
	id, polling := c.ID(), c.Transport() == "polling"
	c.Drop()
	require.Eventually(t, func() bool {
		all, err := s.Realtime.Drivers().All().Sockets(t.Context())
		require.NoError(t, err)
		return polling || !slices.ContainsFunc(all, func(r realtime.RemoteSocket) bool { return r.ID == id })
	}, realtimetest.Timeout, time.Millisecond)
}

// Emitters, clients that lose their connection, and nothing is lost, doubled or out of order.
func TestRecovery_UnderLoad(t *testing.T) {
	t.Parallel()
	s := recoverySite(t, func(o *realtime.Options) { o.Recovery.AllClients = true })
	const emitters, events = 4, 400
	for i, opts := range [][]realtimetest.Option{nil, nil, {realtimetest.Polling()}, {realtimetest.Upgrade()}} {
		user := fmt.Sprintf("d%d", i)
		t.Run(user, func(t *testing.T) {
			t.Parallel()
			random := rand.New(rand.NewPCG(1, uint64(i)))
			c := s.Driver(t, user, opts...)
			var emitting sync.WaitGroup
			done := make(chan struct{})
			for e := range emitters {
				emitting.Go(func() {
					rooms := []realtime.Room{realtime.DriverRoom(user), realtime.SessionRoom(realtimetest.SessionID(user))}
					for n := range events {
						_ = note.Emit(s.Realtime.Drivers().To(rooms[:1+n%2]...), e*events+n)
						if n%8 == 0 {
							time.Sleep(time.Millisecond)
						}
					}
				})
			}
			go func() { emitting.Wait(); close(done) }()
			var got []int
			for over := false; !over; {
				select {
				case <-done:
					over = true
				case <-time.After(time.Duration(random.IntN(30)) * time.Millisecond):
				}
				former := c
				former.Drop()
				got = append(got, receivedNotes(t, former)...)
				next, hello := back(t, s, former, user, opts...)
				require.True(t, *hello.Recovered)
				c = next
			}
			require.NoError(t, note.Emit(s.Realtime.Drivers().To(realtime.DriverRoom(user)), emitters*events))
			require.Eventually(t, func() bool {
				last := receivedNotes(t, c)
				return len(last) > 0 && last[len(last)-1] == emitters*events
			}, 4*realtimetest.Timeout, time.Millisecond)
			got = append(got, receivedNotes(t, c)...)
			next := map[int]int{}
			for at, n := range got {
				e, k := n/events, n%events
				require.Equal(t, next[e], k, "lost, doubled or out of order, in %v", got[max(0, at-20):min(at+20, len(got))])
				next[e]++
			}
			for e := range emitters {
				require.Equal(t, events, next[e], "lost")
			}
		})
	}
}

// Whoever may not connect gets nothing of what was missed, and a claim that fails ends nobody else's.
func TestRecovery_WhoMayNot(t *testing.T) {
	t.Parallel()
	room := realtime.DriverRoom("d1")
	away := func(t *testing.T) (*realtimetest.Server, *realtimetest.Client) {
		t.Helper()
		s := recoverySite(t)
		former := s.Driver(t, "d1")
		cut(t, s, former)
		notes(t, s, room, 1)
		return s, former
	}
	t.Run("a banned user", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			token := s.Login("d1", realtime.UserDriver)
			s.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: false})
			s.Publish(t, realtime.UserAccessChanged{UserID: "d1"})
			for range 3 {
				_, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
				require.ErrorContains(t, err, string(realtime.CodeUserInactive))
			}
		})
	})
	t.Run("a revoked session", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			token := s.Login("d1", realtime.UserDriver)
			s.Sessions.Set(realtime.Session{ID: realtimetest.SessionID("d1"), UserID: "d1", Revoked: true})
			s.Publish(t, realtime.SessionRevoked{SessionID: realtimetest.SessionID("d1"), UserID: "d1"})
			_, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
			require.ErrorContains(t, err, string(realtime.CodeInvalidSession))
		})
	})
	t.Run("another user", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			c, hello := back(t, s, former, "d2")
			isNew(t, c, hello, former)
			c, hello = back(t, s, former, "d1")
			recovers(t, c, hello, former, 1)
		})
	})
	t.Run("another session", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			other := s.Driver(t, "d1", realtimetest.Session("other"))
			other.Close()
			c, hello := back(t, s, former, "d1", realtimetest.Token(s.Tokens.Mint("d1", "other", time.Hour)))
			isNew(t, c, hello, former)
			c, hello = back(t, s, former, "d1")
			recovers(t, c, hello, former, 1)
		})
	})
	t.Run("another namespace", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			s.Users.Set(realtime.User{ID: "d1", Type: realtime.UserPassenger, Active: true})
			c, err := s.Dial(t.Context(), realtime.NamespacePassengers, realtimetest.Token(s.Login("d1", realtime.UserPassenger)), realtimetest.Recover(former))
			require.NoError(t, err)
			isNew(t, c, realtimetest.Expect(t, c, realtime.EventHello), former)
			s.Users.Set(realtime.User{ID: "d1", Type: realtime.UserDriver, Active: true})
			c, hello := back(t, s, former, "d1")
			recovers(t, c, hello, former, 1)
		})
	})
	t.Run("a second one", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			c, hello := back(t, s, former, "d1")
			recovers(t, c, hello, former, 1)
			again, hello := back(t, s, former, "d1")
			isNew(t, again, hello, former)
			require.True(t, c.Connected())
			notes(t, s, room, 2)
			require.Equal(t, 1, realtimetest.Expect(t, c, note))
			require.Equal(t, 2, realtimetest.Expect(t, c, note))
			require.Equal(t, 2, realtimetest.Expect(t, again, note))
		})
	})
	t.Run("two at once", func(t *testing.T) {
		inBubble(t, func(t *testing.T) {
			s, former := away(t)
			won := make([]bool, 8)
			var all sync.WaitGroup
			token := s.Login("d1", realtime.UserDriver)
			for i := range won {
				all.Go(func() {
					c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Token(token), realtimetest.Recover(former))
					if err == nil {
						won[i] = c.Recovered()
					}
				})
			}
			all.Wait()
			require.Len(t, slices.DeleteFunc(won, func(w bool) bool { return !w }), 1)
		})
	})
}

// photos emits events of three messages to a room of /drivers.
func photos(t *testing.T, s *realtimetest.Server, room realtime.Room, n int) {
	t.Helper()
	args := []json.RawMessage{json.RawMessage(`[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`)}
	for range n {
		require.NoError(t, s.Realtime.Drivers().To(room).EmitRaw("photo", realtime.Raw{Args: args, Attachments: [][]byte{{1}, {2}}}))
	}
}

// Without its events there is no recovery, and never a part of them.
func TestRecovery_Incomplete(t *testing.T) {
	t.Parallel()
	room := realtime.DriverRoom("d1")
	for name, c := range map[string]struct {
		change  func(o *realtime.Options)
		between func(t *testing.T, s *realtimetest.Server)
		offset  string
	}{
		"too many events":                 {change: func(o *realtime.Options) { o.Recovery.Events = 4 }, between: func(t *testing.T, s *realtimetest.Server) { notes(t, s, room, 1, 2, 3, 4, 5) }},
		"too many bytes":                  {change: func(o *realtime.Options) { o.Recovery.Bytes = 1 << 16 }, between: func(t *testing.T, s *realtimetest.Server) { long(t, s, room, 80_000) }},
		"too many at once":                {change: func(o *realtime.Options) { o.Limits.OutboxMessages = 16 }, between: func(t *testing.T, s *realtimetest.Server) { notes(t, s, room, 1, 2, 3, 4, 5, 6, 7, 8, 9) }},
		"too many with their attachments": {change: func(o *realtime.Options) { o.Limits.OutboxMessages = 16 }, between: func(t *testing.T, s *realtimetest.Server) { photos(t, s, room, 3) }},
		"too many are away":               {change: func(o *realtime.Options) { o.Recovery.Sockets = 1 }, between: func(t *testing.T, s *realtimetest.Server) { cut(t, s, s.Driver(t, "d2")) }},
		"a made up offset":                {offset: "something"},
	} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := recoverySite(t, func(o *realtime.Options) {
					if c.change != nil {
						c.change(o)
					}
				})
				former := s.Driver(t, "d1")
				cut(t, s, former)
				if c.between != nil {
					c.between(t, s)
				}
				auth := map[string]any{"token": s.Login("d1", realtime.UserDriver), "pid": former.PID(), "offset": former.Offset()}
				if c.offset != "" {
					auth["offset"] = c.offset
				}
				next, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
				require.NoError(t, err)
				isNew(t, next, realtimetest.Expect(t, next, realtime.EventHello), former)
				notes(t, s, room, 77)
				require.Equal(t, 77, realtimetest.Expect(t, next, note))
			})
		})
	}
}

func long(t *testing.T, s *realtimetest.Server, room realtime.Room, size int) {
	t.Helper()
	require.NoError(t, realtime.NewEvent[string]("long").Emit(s.Realtime.Drivers().To(room), strings.Repeat("x", size)))
}

// A client that has not received hello has no offset, or one of an earlier socket.
func TestRecovery_BeforeHello(t *testing.T) {
	t.Parallel()
	for _, snapshots := range []bool{false, true} {
		t.Run(fmt.Sprint("snapshots: ", snapshots), func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				s := recoverySite(t, func(o *realtime.Options) {
					if snapshots {
						o.Snapshots = noSnapshot{}
					}
				})
				earlier := s.Driver(t, "d1")
				cut(t, s, earlier)
				former := s.Driver(t, "d1")
				cut(t, s, former)
				notes(t, s, realtime.DriverRoom("d1"), 1)
				for _, auth := range []map[string]any{{"offset": earlier.Offset()}, {}} {
					auth["token"], auth["pid"] = s.Login("d1", realtime.UserDriver), former.PID()
					c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(auth))
					require.NoError(t, err)
					hello := realtimetest.Expect(t, c, realtime.EventHello)
					if snapshots { // the client has not received it either
						isNew(t, c, hello, former)
						realtimetest.Expect(t, c, realtime.EventTripSync)
						continue
					}
					recovers(t, c, hello, former, 1)
					cut(t, s, c)
				}
			})
		})
	}
}

type noSnapshot struct{}

func (noSnapshot) FindSnapshot(context.Context, string, realtime.Identity) (realtime.Snapshot, error) {
	return realtime.Snapshot{}, nil
}

// Payloads that are or end in a string are no offsets.
func TestRecovery_PayloadsThatAreStrings(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		d := s.Realtime.Drivers()
		room := realtime.DriverRoom("d1")
		text := realtime.NewEvent[string]("text")
		former := s.Driver(t, "d1")
		notes(t, s, room, 1)
		require.NoError(t, text.Emit(d.To(room).Volatile(), "volatile"))
		require.NoError(t, text.Emit(d.To(room).Latest("key"), "latest"))
		require.Equal(t, "volatile", realtimetest.Expect(t, former, text))
		require.Equal(t, "latest", realtimetest.Expect(t, former, text))
		for range 2 {
			cut(t, s, former)
			require.NoError(t, text.Emit(d.To(room), "kept"))
			require.NoError(t, text.Emit(d.To(room).Volatile(), "dropped"))
			next, hello := back(t, s, former, "d1")
			require.True(t, *hello.Recovered)
			require.Equal(t, 1, *hello.Missed)
			require.Equal(t, "kept", realtimetest.Expect(t, next, text))
			require.NoError(t, text.Emit(d.To(room).Volatile(), "volatile"))
			require.Equal(t, "volatile", realtimetest.Expect(t, next, text))
			former = next
		}
	})
}

// Of events with a key only the newest one is kept, and only while the client is away.
func TestRecovery_Positions(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		d := s.Realtime.Drivers()
		room := realtime.DriverRoom("d1")
		former := s.Driver(t, "d1")
		require.NoError(t, note.Emit(d.To(room).Latest("car 1"), 1))
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		cut(t, s, former)
		for n := range 5 {
			require.NoError(t, note.Emit(d.To(room).Latest("car 1"), 10+n))
			require.NoError(t, note.Emit(d.To(room).Latest("car 2"), 20+n))
		}
		notes(t, s, room, 3)
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 14, 24, 3)
	})
}

// Events of rooms in which the client was and is not, and the other way round, are not sent.
func TestRecovery_Rooms(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		vip, club, gone := realtime.NewRoom("vip", "1"), realtime.NewRoom("club", "1"), realtime.NewRoom("gone", "1")
		s := recoverySite(t, func(o *realtime.Options) {
			o.Recovery.Rooms = func(_ context.Context, _ *realtime.Socket, then []realtime.Room) ([]realtime.Room, error) {
				if !slices.Contains(then, vip) || !slices.Contains(then, gone) || len(then) != 2 {
					return nil, fmt.Errorf("then: %v", then)
				}
				return []realtime.Room{vip, club}, nil
			}
		})
		former := s.Driver(t, "d1")
		s.Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(vip, gone)
		notes(t, s, gone, 1) // received or not, it is for the client
		require.Equal(t, 1, realtimetest.Expect(t, former, note))
		cut(t, s, former)
		notes(t, s, vip, 2)
		notes(t, s, club, 3)
		notes(t, s, gone, 4)
		require.NoError(t, note.Emit(s.Realtime.Drivers().All().Except(vip), 5))
		require.NoError(t, note.Emit(s.Realtime.Drivers().All(), 6))
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 2, 6)
		notes(t, s, club, 7)
		require.Eventually(t, func() bool { return slices.Contains(receivedNotes(t, c), 7) }, realtimetest.Timeout, time.Millisecond)
	})
}

// Without Recovery.Rooms the events of the host's rooms are missing, and the log says what to do.
func TestRecovery_RoomsWithoutFunction(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		logs, log := recordLogs(t)
		const message = "realtime: events of the host's rooms are not recovered"
		s := recoverySite(t, log)
		quiet := s.Driver(t, "d2")
		cut(t, s, quiet)
		notes(t, s, realtime.DriverRoom("d2"), 1)
		c, hello := back(t, s, quiet, "d2")
		recovers(t, c, hello, quiet, 1)
		require.Empty(t, logs.lines(t, message), "the socket was in no room of the host")

		former := s.Driver(t, "d1")
		vip := realtime.NewRoom("vip", "1")
		s.Realtime.Drivers().To(realtime.DriverRoom("d1")).Join(vip)
		cut(t, s, former)
		notes(t, s, vip, 2)
		notes(t, s, realtime.DriverRoom("d1"), 3)
		c, hello = back(t, s, former, "d1")
		recovers(t, c, hello, former, 3)
		lines := logs.lines(t, message)
		require.Len(t, lines, 1)
		require.Equal(t, "/drivers", lines[0]["namespace"])
		require.Contains(t, lines[0]["remedy"], "Options.Recovery.Rooms")
	})
}

// A session that was replaced while the client was away may have the socket.
func TestRecovery_ReplacedSession(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Driver(t, "d1")
		cut(t, s, former)
		notes(t, s, realtime.DriverRoom("d1"), 1)
		for i, sid := range []string{"second", "third"} {
			s.Sessions.Set(realtime.Session{ID: sid, UserID: "d1"})
			s.Publish(t, realtime.SessionRefreshed{UserID: "d1", OldSessionID: []string{realtimetest.SessionID("d1"), "second"}[i], NewSessionID: sid})
		}
		c, hello := back(t, s, former, "d1", realtimetest.Token(s.Tokens.Mint("d1", "third", time.Hour)))
		require.True(t, *hello.Recovered)
		require.Equal(t, 3, *hello.Missed, "the note, and auth:session_refreshed twice")
		require.Equal(t, []int{1}, receivedNotes(t, c))
	})
}

// A handshake that fails after its checks of the user leaves the claim to the next one.
func TestRecovery_TriesAgain(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var fail atomic.Bool
		s := recoverySite(t, func(o *realtime.Options) {
			o.Trips = tripsFunc(func() error {
				if fail.Load() {
					return errors.New("away")
				}
				return nil
			})
			o.Compat.RefuseUnavailable = true
		})
		former := s.Driver(t, "d1")
		cut(t, s, former)
		notes(t, s, realtime.DriverRoom("d1"), 1)
		fail.Store(true)
		token := realtimetest.Token(s.Login("d1", realtime.UserDriver))
		_, err := s.Dial(t.Context(), realtime.NamespaceDrivers, token, realtimetest.Recover(former))
		require.ErrorContains(t, err, string(realtime.CodeUnavailable))
		fail.Store(false)
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 1)
	})
}

type tripsFunc func() error

func (f tripsFunc) ActiveTrips(context.Context, string) ([]string, error) { return nil, f() }

// An admin keeps the trips that they watch, and stays away from the positions that they left.
func TestRecovery_Admin(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Admin(t, "a1")
		_, err := realtimetest.Call(t.Context(), former, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
		require.NoError(t, err)
		_, err = realtimetest.Call(t.Context(), former, realtime.AdminDriversLeave, realtime.None{})
		require.NoError(t, err)
		former.Drop()
		admin := s.Realtime.Admin()
		require.Eventually(t, func() bool { n, _ := admin.All().Count(t.Context()); return n == 0 }, realtimetest.Timeout, time.Millisecond)
		require.NoError(t, note.Emit(admin.To(realtime.TripRoom("t1")), 1))
		require.NoError(t, note.Emit(admin.To(realtime.AdminDriversRoom), 2))
		c, err := s.Dial(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(s.Login("a1", realtime.UserAdmin)), realtimetest.Recover(former))
		require.NoError(t, err)
		require.True(t, c.Recovered())
		require.NoError(t, note.Emit(admin.To(realtime.TripRoom("t1")), 3))
		require.NoError(t, note.Emit(admin.To(realtime.AdminDriversRoom), 4))
		require.Equal(t, 1, realtimetest.Expect(t, c, note))
		require.Equal(t, 3, realtimetest.Expect(t, c, note))
		realtimetest.ExpectNone(t, c, note)
	})
}

// An admin who was away when a trip ended receives that, and is not in its room any more.
func TestRecovery_AdminOfATripThatEnded(t *testing.T) {
	t.Parallel()
	s := recoverySite(t)
	s.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", VehicleID: "v", At: time.Now()})
	former := s.Admin(t, "a1")
	_, err := realtimetest.Call(t.Context(), former, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
	require.NoError(t, err)
	former.Drop()
	admin := s.Realtime.Admin()
	require.Eventually(t, func() bool { n, _ := admin.All().Count(t.Context()); return n == 0 }, realtimetest.Timeout, time.Millisecond)
	s.Publish(t, realtime.TripCompleted{TripID: "t1", PassengerID: "p1", DriverID: "d1", Currency: "USD", At: time.Now()})
	require.NoError(t, note.Emit(admin.To(realtime.AdminDriversRoom), 1))
	c, err := s.Dial(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(s.Login("a1", realtime.UserAdmin)), realtimetest.Recover(former))
	require.NoError(t, err)
	require.True(t, c.Recovered())
	require.Equal(t, "t1", realtimetest.Expect(t, c, realtime.EventTripCompleted).TripID)
	realtimetest.Expect(t, c, realtime.EventHello)
	require.Eventually(t, func() bool { n, _ := admin.To(realtime.TripRoom("t1")).Count(t.Context()); return n == 0 }, realtimetest.Timeout, time.Millisecond)
}

// A driver whose trip another driver had while they were away does not get what was sent to that one: the client
// connects as a new one. If the trip was theirs all the time, it recovers.
func TestRecovery_TripOfAnotherDriverMeanwhile(t *testing.T) {
	t.Parallel()
	assign := func(t *testing.T, s *realtimetest.Server, driver string) {
		s.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: driver, VehicleID: "v", At: time.Now()})
	}
	for name, c := range map[string]struct {
		meanwhile []string
		recovers  bool
	}{
		"the same driver":           {nil, true},
		"the same driver, again":    {[]string{"d1"}, true},
		"another driver, and again": {[]string{"d2", "d1"}, false},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := recoverySite(t)
			former := s.Driver(t, "d1")
			assign(t, s, "d2")
			assign(t, s, "d1")
			realtimetest.Expect(t, former, realtime.EventDriverAssigned)
			cut(t, s, former)
			for _, driver := range c.meanwhile {
				assign(t, s, driver)
			}
			notes(t, s, realtime.TripRoom("t1"), 7)
			client, hello := back(t, s, former, "d1")
			require.Equal(t, c.recovers, *hello.Recovered)
			if !c.recovers {
				realtimetest.ExpectNone(t, client, note)
			}
		})
	}
}

// A client that was ended on purpose does not get its socket back.
func TestRecovery_EndedOnPurpose(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Driver(t, "d1")
		s.Realtime.Drivers().To(realtime.DriverRoom("d1")).Disconnect()
		former.Disconnected(t)
		notes(t, s, realtime.DriverRoom("d1"), 1)
		c, hello := back(t, s, former, "d1")
		isNew(t, c, hello, former)

		c.Close()
		again, hello := back(t, s, c, "d1")
		isNew(t, again, hello, c)
	})
}

// What tells a client that its authorization ends does not come again after it was renewed.
func TestRecovery_Expired(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Driver(t, "d1", realtimetest.Token(s.Tokens.Mint("d1", realtimetest.SessionID("d1"), time.Second)))
		former.Stall()
		require.Eventually(t, func() bool { n, _ := s.Realtime.Drivers().All().Count(t.Context()); return n == 0 }, realtimetest.Timeout, time.Millisecond)
		notes(t, s, realtime.DriverRoom("d1"), 1)
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 1)
		realtimetest.ExpectNone(t, c, realtime.EventAuthExpired)
	})
}

// A gap between the nodes ends what can be recovered.
func TestRecovery_Gap(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		hub := realtimetest.NewHub()
		adapter := hub.Node()
		s := recoverySite(t, func(o *realtime.Options) { o.Cluster.Adapter = adapter })
		other := realtimetest.NewServer(t, func(o *realtime.Options) { o.Cluster.Adapter = hub.Node() })
		room := realtime.DriverRoom("d1")
		former := s.Driver(t, "d1")
		cut(t, s, former)
		require.NoError(t, note.Emit(other.Realtime.Drivers().To(room), 1))
		require.NoError(t, s.Settle(t.Context()))
		c, hello := back(t, s, former, "d1")
		recovers(t, c, hello, former, 1)

		for _, healed := range []bool{true, false} {
			cut(t, s, c)
			adapter.Cut()
			require.NoError(t, note.Emit(other.Realtime.Drivers().To(room), 2))
			if healed {
				adapter.Heal()
			}
			require.NoError(t, s.Settle(t.Context()))
			again, hello := back(t, s, c, "d1")
			isNewAfterAll(t, again, hello)
			c = again
		}
	})
}

// Domain events are kept too, in the order of their trip.
func TestRecovery_DomainEvents(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := recoverySite(t)
		former := s.Driver(t, "d1")
		passenger := s.Passenger(t, "p1")
		cut(t, s, former)
		s.Publish(t, realtime.DriverAssigned{TripID: "t1", PassengerID: "p1", DriverID: "d1", VehicleID: "v1", At: time.Now()})
		s.Publish(t, realtime.TripStarted{TripID: "t1", PassengerID: "p1", DriverID: "d1", At: time.Now()})
		c, hello := back(t, s, former, "d1")
		require.True(t, *hello.Recovered)
		require.Equal(t, 2, *hello.Missed)
		var names []string
		for _, r := range c.Received() {
			names = append(names, r.Event)
		}
		require.Equal(t, []string{realtime.EventDriverAssigned.Name(), realtime.EventTripStarted.Name(), realtime.EventHello.Name()}, names)
		for _, e := range []realtimetest.Named{realtime.EventDriverAssigned, realtime.EventTripStarted} {
			_, err := passenger.NextRaw(t.Context(), e.Name())
			require.NoError(t, err)
		}
		realtimetest.ExpectNone(t, passenger)
	})
}

// Without the option nothing of it is on the wire.
func TestRecovery_Off(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		s := realtimetest.NewServer(t)
		c, err := s.Dial(t.Context(), realtime.NamespaceDrivers, realtimetest.Auth(map[string]any{
			"token": s.Login("d1", realtime.UserDriver), "pid": strings.Repeat("x", 47), "offset": 7,
		}))
		require.NoError(t, err)
		hello := realtimetest.Expect(t, c, realtime.EventHello)
		require.Nil(t, hello.Recovered)
		require.Empty(t, c.PID())
		notes(t, s, realtime.DriverRoom("d1"), 1)
		r, err := c.NextRaw(t.Context(), note.Name())
		require.NoError(t, err)
		require.Len(t, r.Args, 1)
	})
}

// A client that connects as a new one after all, because the host fails to say its rooms or a missed event is gone, is in no room of
// its former socket.
func TestRecovery_NewAfterAll(t *testing.T) {
	t.Parallel()
	for name, o := range map[string]struct {
		fails bool
		lost  int // events
	}{"the host fails": {true, 0}, "too much was missed": {false, 100}} {
		t.Run(name, func(t *testing.T) {
			inBubble(t, func(t *testing.T) {
				team := realtime.NewRoom("team", "a")
				var s *realtimetest.Server
				s = recoverySite(t, func(opts *realtime.Options) {
					opts.Recovery.Events = 50
					opts.Recovery.Rooms = func(context.Context, *realtime.Socket, []realtime.Room) ([]realtime.Room, error) {
						if o.fails {
							return nil, errors.New("down")
						}
						for n := range o.lost { // while it connects
							_ = note.Emit(s.Realtime.Admin().To(team), n)
						}
						return []realtime.Room{team}, nil
					}
				})
				former := s.Admin(t, "a1")
				_, err := realtimetest.Call(t.Context(), former, realtime.AdminTripJoin, realtime.TripRef{TripID: "t1"})
				require.NoError(t, err)
				_, err = realtimetest.Call(t.Context(), former, realtime.AdminDriversLeave, realtime.None{})
				require.NoError(t, err)
				s.Realtime.Admin().All().Join(team)
				require.NoError(t, note.Emit(s.Realtime.Admin().To(team), 0))
				require.Equal(t, 0, realtimetest.Expect(t, former, note))
				cut(t, s, former)
				client, err := s.Dial(t.Context(), realtime.NamespaceAdmin, realtimetest.Token(s.Login("a1", realtime.UserAdmin)), realtimetest.Recover(former))
				require.NoError(t, err)
				require.False(t, *realtimetest.Expect(t, client, realtime.EventHello).Recovered)
				require.NoError(t, note.Emit(s.Realtime.Admin().To(realtime.TripRoom("t1"), team), 1000))
				require.NoError(t, note.Emit(s.Realtime.Admin().To(realtime.AdminDriversRoom), 1001))
				require.Eventually(t, func() bool { return slices.Contains(receivedNotes(t, client), 1001) }, realtimetest.Timeout, time.Millisecond)
				require.NotContains(t, receivedNotes(t, client), 1000)
			})
		})
	}
}
