// Buckets of sockets and users, with a fake clock.

package ratelimit

import (
	"fmt"
	"math"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestBucket_AllowsABurstAndThenTheRate(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		rate Rate
		wait time.Duration // until the next token
	}{
		"two a second":      {Rate{2, 10}, time.Second / 2},
		"three a second":    {Rate{3, 10}, 333333334},
		"one in ten":        {Rate{0.1, 5}, 10 * time.Second},
		"one at once":       {Rate{1, 1}, time.Second},
		"burst of millions": {Rate{1e6, 1000}, time.Microsecond},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			q := c.rate.Quota()
			var b Bucket
			for _, now := range []time.Duration{0, time.Hour, 24 * 365 * time.Hour} {
				b = Bucket{}
				for range c.rate.Burst {
					require.True(t, b.Allow(q, now))
				}
				require.False(t, b.Allow(q, now))
				require.False(t, b.Allow(q, now+c.wait-2))
				require.True(t, b.Allow(q, now+c.wait+2))
				require.False(t, b.Allow(q, now+c.wait+2))
				require.False(t, b.Full(now+c.wait))
				require.True(t, b.Full(now+c.wait+2+q.burst))
			}
		})
	}
}

func TestBucket_TinyRateDoesNotOverflow(t *testing.T) {
	t.Parallel()
	const year = 24 * 365 * time.Hour
	q := Rate{1e-300, 3}.Quota()
	var b Bucket
	for range 3 {
		require.True(t, b.Allow(q, year))
	}
	for range 20 {
		require.False(t, b.Allow(q, 20*year))
	}
	b = Bucket{}
	require.True(t, b.Allow(Rate{math.SmallestNonzeroFloat64, math.MaxInt32}.Quota(), year))
}

func TestBucket_WithoutALimitAllowsEverything(t *testing.T) {
	t.Parallel()
	var b Bucket
	for range 1000 {
		require.True(t, b.Allow(Rate{-1, 0}.Quota(), 0))
		require.True(t, b.Allow(Rate{1e12, 1 << 30}.Quota(), 0), "a token returns each nanosecond")
	}
}

// verdict is what becomes of an event.
type verdict string

const (
	Pass   verdict = "handled"
	Refuse verdict = "refused"
	Kept   verdict = "refused, but kept"
	Abuse  verdict = "refused, and the socket is abusive"
)

// tested is a Limiter that keeps the name which Allow returned last.
type tested struct {
	*Limiter
	limit string
}

func (l *tested) allow(s *Socket, user, event string) verdict {
	var ok bool
	switch ok, l.limit = l.Allow(s, user, event); {
	case ok:
		return Pass
	case l.Kept(s, user):
		return Kept
	case l.Breach(s):
		return Abuse
	}
	return Refuse
}

func TestLimiter_Allow(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := tested{Limiter: New(Config{
			Default: Limit{Rate{1, 2}, "other", false},
			Events:  map[string]Limit{"ping": {Rate{1, 1}, "ping", false}},
			User:    Limit{Rate{1, 4}, "user", false},
			Breach:  Rate{1, 2},
		})}
		var s, other Socket
		require.Equal(t, Pass, l.allow(&s, "u", "ping"))
		require.Equal(t, Refuse, l.allow(&s, "u", "ping"))
		require.Equal(t, "ping", l.limit)
		require.Equal(t, Pass, l.allow(&other, "u", "ping"), "another socket has a bucket of its own")
		require.Equal(t, Pass, l.allow(&s, "u", ""))
		require.Equal(t, Pass, l.allow(&s, "u", ""))
		require.Equal(t, Refuse, l.allow(&other, "u", ""), "the user's bucket is shared")
		require.Equal(t, "user", l.limit)
		require.Equal(t, Pass, l.allow(&other, "", ""), "without a user there is no user bucket")
		require.Equal(t, Refuse, l.allow(&s, "u", ""))
		require.Equal(t, Abuse, l.allow(&s, "u", ""), "the third refusal")
		time.Sleep(time.Second)
		require.Equal(t, Pass, l.allow(&s, "u", "ping"))
	})
}

// Events with a budget of their own take nothing from the user's.
func TestLimiter_OwnBudget(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := tested{Limiter: New(Config{
			Default: Limit{Rate: Rate{1, 3}, Name: "other"},
			Events:  map[string]Limit{"join": {Rate{1, 5}, "join", true}},
			User:    Limit{Rate: Rate{1, 2}, Name: "user"},
			Breach:  Rate{1, 10},
		})}
		var s, other Socket
		for _, s := range []*Socket{&s, &other} {
			for range 5 {
				require.Equal(t, Pass, l.allow(s, "u", "join"))
			}
			require.Equal(t, Refuse, l.allow(s, "u", "join"))
			require.Equal(t, "join", l.limit)
		}
		require.Equal(t, Pass, l.allow(&s, "u", "x"))
		require.Equal(t, Pass, l.allow(&s, "u", "x"))
		require.Equal(t, Refuse, l.allow(&s, "u", "x"))
		require.Equal(t, "user", l.limit)
	})
}

// What a client has kept is no breach: the events of a socket's first ten seconds, up to the
// backlog of its user.
func TestLimiter_Kept(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := tested{Limiter: New(Config{
			Default: Limit{Rate{1, 1}, "other", false}, User: Limit{Rate: Rate{PerSecond: -1}}, Breach: Rate{1, 2},
			Burst: 10 * time.Second, Backlog: Rate{10, 500},
		})}
		var s, again, other, nobody Socket
		time.Sleep(time.Minute) // the burst begins with the first event
		require.True(t, l.Begins(&s))
		require.Equal(t, Pass, l.allow(&s, "u", "x"))
		for range 300 {
			require.Equal(t, Kept, l.allow(&s, "u", "x"))
		}
		time.Sleep(10*time.Second - 1)
		require.Equal(t, Pass, l.allow(&s, "u", "x"))
		require.Equal(t, Kept, l.allow(&s, "u", "x"))
		time.Sleep(time.Nanosecond)
		require.False(t, l.Begins(&s))
		for _, want := range []verdict{Refuse, Refuse, Abuse} {
			require.Equal(t, want, l.allow(&s, "u", "x"))
		}
		require.Equal(t, Pass, l.allow(&again, "u", "x"))
		for range 500 - 301 + 100 {
			require.Equal(t, Kept, l.allow(&again, "u", "x"), "the user's backlog is shared by the sockets, and returns")
		}
		for _, want := range []verdict{Refuse, Refuse, Abuse} {
			require.Equal(t, want, l.allow(&again, "u", "x"))
		}
		require.Equal(t, Pass, l.allow(&other, "other", "x"))
		require.Equal(t, Kept, l.allow(&other, "other", "x"))
		require.Equal(t, Pass, l.allow(&nobody, "", "x"))
		require.Equal(t, Refuse, l.allow(&nobody, "", "x"), "without a user each socket would have a backlog of its own")
	})
}

// On a slow line what was kept comes for longer than Config.Burst: as long as it does not pause, and
// not for ever.
func TestLimiter_KeptOnASlowLine(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := tested{Limiter: New(Config{
			Default: Limit{Rate{0.001, 1}, "other", false}, User: Limit{Rate: Rate{PerSecond: -1}}, Breach: Rate{1, 2},
			Burst: 10 * time.Second, Pause: 2 * time.Second, LongBurst: time.Minute, Backlog: Rate{10, 500},
		})}
		var s, pauses Socket
		require.Equal(t, Pass, l.allow(&s, "u", "x"))
		for range 59 {
			time.Sleep(time.Second)
			require.Equal(t, Kept, l.allow(&s, "u", "x"))
		}
		time.Sleep(time.Second)
		require.False(t, l.Begins(&s))
		require.Equal(t, Refuse, l.allow(&s, "u", "x"))

		require.Equal(t, Pass, l.allow(&pauses, "v", "x"))
		time.Sleep(9 * time.Second)
		require.Equal(t, Kept, l.allow(&pauses, "v", "x"))
		time.Sleep(2*time.Second - 1)
		require.True(t, l.Begins(&pauses))
		time.Sleep(time.Nanosecond)
		require.False(t, l.Begins(&pauses))
		require.Equal(t, Refuse, l.allow(&pauses, "v", "x"))
	})
}

func TestLimiter_Repeated(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Repeat: 5 * time.Minute})
		require.False(t, l.Repeated("u"))
		time.Sleep(sameBreach)
		require.False(t, l.Repeated("u"), "another socket, at the same time")
		require.False(t, l.Repeated("other"))
		require.False(t, l.Repeated(""))
		time.Sleep(2 * time.Minute)
		require.True(t, l.Repeated("u"))
		require.False(t, l.Repeated(""))
		time.Sleep(3*time.Minute - sameBreach)
		require.False(t, l.Repeated("u"))
		time.Sleep(5*time.Minute - 1)
		require.True(t, l.Repeated("u"))
	})
}

func TestLimiter_Wait(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := New(Config{Default: Limit{Rate{2, 3}, "other", false}, User: Limit{Rate: Rate{PerSecond: -1}}, Events: map[string]Limit{"free": {Rate: Rate{PerSecond: -1}, Name: "free"}}})
		var s Socket
		for range 3 {
			require.Zero(t, l.Wait(&s, "x"))
			ok, _ := l.Allow(&s, "u", "x")
			require.True(t, ok)
		}
		require.Equal(t, time.Second/2, l.Wait(&s, "x"))
		time.Sleep(time.Second / 4)
		require.Equal(t, time.Second/4, l.Wait(&s, "x"))
		ok, _ := l.Allow(&s, "u", "x")
		require.False(t, ok)
		time.Sleep(l.Wait(&s, "x"))
		ok, _ = l.Allow(&s, "u", "x")
		require.True(t, ok)
		require.Zero(t, l.Wait(&s, "free"))
		name, limits := l.Limits("free")
		require.Equal(t, "free", name)
		require.False(t, limits)
		_, limits = l.Limits("x")
		require.True(t, limits)
	})
}

// Full buckets are dropped, and a bucket that still limits its user is not.
func TestLimiter_ForgetsUsersWhoseBucketIsFull(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := tested{Limiter: New(Config{Default: Limit{Rate: Rate{PerSecond: -1}}, User: Limit{Rate{1, 2}, "user", false}, Repeat: 5 * time.Minute})}
		buckets := func() (n int) {
			for i := range l.users {
				n += len(l.users[i].buckets)
			}
			return n
		}
		var s Socket
		for range 2 {
			require.Equal(t, Pass, l.allow(&s, "busy", "x"))
		}
		for range 100 {
			for i := range 1000 {
				require.Equal(t, Pass, l.allow(&s, fmt.Sprint("user", i, time.Now()), "x"))
			}
			require.NotEqual(t, Pass, l.allow(&s, "busy", "x"))
			time.Sleep(time.Second / 2)
			l.allow(&s, "busy", "x")
			l.allow(&s, "busy", "x")
		}
		require.LessOrEqual(t, buckets(), 5000)
		require.False(t, l.Repeated("abusive"))
		time.Sleep(time.Minute)
		for i := range 5000 {
			l.allow(&s, fmt.Sprint("late", i), "x")
			time.Sleep(time.Millisecond)
		}
		require.LessOrEqual(t, buckets(), 2500, "at most twice those of the last second")
		require.True(t, l.Repeated("abusive"))
	})
}

func BenchmarkAllow(b *testing.B) {
	l := tested{Limiter: New(Config{
		Events: map[string]Limit{"ping": {Rate{1e9, 1e9}, "ping", false}}, User: Limit{Rate{1e9, 1e9}, "user", false},
	})}
	var s Socket
	b.ReportAllocs()
	for b.Loop() {
		l.allow(&s, "user", "ping")
	}
}
