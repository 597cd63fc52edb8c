// Which calls are repeats, what is forgotten when, and that the table holds no more than it may.

package repeats_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"
	"go.uber.org/goleak"

	"github.com/rodando/realtime/internal/repeats"
	"github.com/rodando/realtime/internal/timingwheel"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// bubble runs f with a table in a synctest bubble.
func bubble(t *testing.T, c repeats.Config, f func(t *testing.T, table *repeats.Table)) {
	t.Parallel()
	synctest.Test(t, func(t *testing.T) {
		c.Wheel = timingwheel.New(10 * time.Millisecond)
		defer c.Wheel.Close()
		f(t, repeats.New(c))
	})
}

func idOf(key string) repeats.ID {
	return repeats.ID{Namespace: "/drivers", Event: "buy", Key: key}
}

func answered(text string) repeats.Answer { return repeats.Answer{Args: [][]byte{[]byte(text)}} }

// call makes a call, or returns what it was answered with before.
func call(t *testing.T, table *repeats.Table, user, key, answer string) string {
	t.Helper()
	c, first, same := table.Begin(user, idOf(key), 1)
	require.True(t, same)
	if first {
		c.End(answered(answer), true)
	}
	a, ok := c.Wait(t.Context())
	require.True(t, ok)
	return string(a.Args[0])
}

var roomy = repeats.Config{PerUser: 100, Bytes: 1 << 20, Share: 1 << 16, Keep: time.Minute}

func TestTable_Repeats(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, table *repeats.Table) {
		require.Equal(t, "one", call(t, table, "u1", "k", "one"))
		require.Equal(t, "one", call(t, table, "u1", "k", "two"))
		require.Equal(t, "two", call(t, table, "u1", "k2", "two"))
		require.Equal(t, "other", call(t, table, "u2", "k", "other"))
		_, first, same := table.Begin("u1", idOf("k"), 2)
		require.False(t, first)
		require.False(t, same, "another body")
	})
}

// What is answered belongs to the table: the host may use its memory again.
func TestTable_CopiesTheAnswer(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, table *repeats.Table) {
		a := answered("one")
		c, _, _ := table.Begin("u1", idOf("k"), 1)
		c.End(a, true)
		copy(a.Args[0], "two")
		a.Args[0] = nil
		require.Equal(t, "one", call(t, table, "u1", "k", ""))
	})
}

func TestCall_Wait(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, table *repeats.Table) {
		c, first, _ := table.Begin("u1", idOf("k"), 1)
		require.True(t, first)
		again, first, same := table.Begin("u1", idOf("k"), 1)
		require.True(t, !first && same)
		soon, cancel := context.WithTimeout(t.Context(), time.Hour) // a call that runs is not forgotten
		defer cancel()
		_, ok := again.Wait(soon)
		require.False(t, ok)
		var waiting sync.WaitGroup
		waiting.Go(func() {
			a, ok := again.Wait(context.Background())
			if !ok || string(a.Args[0]) != "one" {
				t.Error(a, ok)
			}
		})
		synctest.Wait()
		c.End(answered("one"), false)
		waiting.Wait()
		require.Equal(t, "two", call(t, table, "u1", "k", "two"), "it was not kept")
	})
}

func TestTable_ForgetsInTime(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, table *repeats.Table) {
		call(t, table, "u1", "k", "one")
		time.Sleep(40 * time.Second)
		call(t, table, "u2", "k", "one")
		require.NotZero(t, table.Bytes())
		time.Sleep(19 * time.Second)
		require.Equal(t, "one", call(t, table, "u1", "k", "two"))
		time.Sleep(time.Second)
		require.Equal(t, "two", call(t, table, "u1", "k", "two"))
		time.Sleep(61 * time.Second)
		require.Zero(t, table.Bytes(), "though nobody has called")
		call(t, table, "u1", "k", "three")
		time.Sleep(61 * time.Second)
		require.Zero(t, table.Bytes(), "the timer was armed again")
	})
}

// Of one user the oldest makes room, by number and by size, and nobody else's.
func TestTable_SharesOfUsers(t *testing.T) {
	c := roomy
	c.PerUser = 3
	bubble(t, c, func(t *testing.T, table *repeats.Table) {
		call(t, table, "u1", "k", "one")
		for i := range 10_000 {
			call(t, table, "u2", fmt.Sprint(i), "x")
		}
		require.Equal(t, "one", call(t, table, "u1", "k", "two"))
		require.Equal(t, "x", call(t, table, "u2", "9997", "y"))
		require.Equal(t, "y", call(t, table, "u2", "9996", "y"))
		require.Less(t, table.Bytes(), 4*500)
	})
}

func TestTable_LargeAnswers(t *testing.T) {
	bubble(t, roomy, func(t *testing.T, table *repeats.Table) {
		call(t, table, "u1", "k", "one")
		for i := range 10 {
			call(t, table, "u2", fmt.Sprint(i), strings.Repeat("x", 30_000))
		}
		require.Equal(t, "one", call(t, table, "u1", "k", "two"))
		require.Less(t, table.Bytes(), 70_000)
		call(t, table, "u3", "k", strings.Repeat("x", 1<<16))
		require.Equal(t, "small", call(t, table, "u3", "k", "small"), "larger than a share")
	})
}

// Many users together: the oldest of all makes room.
func TestTable_BytesOfAll(t *testing.T) {
	c := roomy
	c.Bytes, c.Share = 10_000, 5_000
	bubble(t, c, func(t *testing.T, table *repeats.Table) {
		for i := range 1000 {
			call(t, table, fmt.Sprint("u", i), "k", "x")
			require.LessOrEqual(t, table.Bytes(), 10_000)
		}
		require.Equal(t, "x", call(t, table, "u999", "k", "y"))
		require.Equal(t, "y", call(t, table, "u1", "k", "y"))
	})
}

// The keys of the calls that make room are returned, those of a call that ends for another reason not.
func TestCall_EndReturnsKeys(t *testing.T) {
	c := roomy
	c.PerUser = 2
	bubble(t, c, func(t *testing.T, table *repeats.Table) {
		end := func(user, key, name, answer string, keep bool) []string {
			c, first, _ := table.Begin(user, idOf(key), 1)
			require.True(t, first)
			c.Key = name
			return c.End(answered(answer), keep)
		}
		require.Empty(t, end("u1", "a", "key a", "x", true))
		require.Empty(t, end("u1", "b", "", "x", true), "it has none")
		require.Empty(t, end("u1", "c", "key c", "x", false))
		require.Equal(t, []string{"key a"}, end("u1", "d", "key d", "x", true))
		require.Empty(t, end("u1", "e", "key e", "x", true))
		require.Equal(t, []string{"key d", "key e"}, end("u1", "f", "key f", strings.Repeat("x", 1<<16-500), true))
		require.Equal(t, []string{"key g"}, end("u1", "g", "key g", strings.Repeat("x", 1<<16), true), "it is too large")
		time.Sleep(2 * time.Minute)
		require.Empty(t, end("u1", "h", "key h", "x", true), "what is too old has made no room")
	})
}

// Any order of calls, by many at once: each call is made once at a time, and in the end nothing is left.
func TestTable_AnyOrder(t *testing.T) {
	c := roomy
	c.PerUser, c.Bytes, c.Share = 4, 20_000, 3_000
	bubble(t, c, func(t *testing.T, table *repeats.Table) {
		var mu sync.Mutex // guards running
		running := map[string]bool{}
		var all sync.WaitGroup
		for seed := range 20 {
			all.Go(func() {
				r := rand.New(rand.NewPCG(1, uint64(seed)))
				for range 500 {
					user, key := fmt.Sprint(r.IntN(5)), fmt.Sprint(r.IntN(8))
					c, first, _ := table.Begin(user, idOf(key), 1)
					if !first {
						if a, ok := c.Wait(context.Background()); !ok || string(a.Args[0][:3]) != user+" "+key {
							t.Error(user, key, a)
						}
						continue
					}
					mu.Lock()
					if running[user+key] {
						t.Error("twice at once")
					}
					running[user+key] = true
					mu.Unlock()
					time.Sleep(time.Duration(r.IntN(1000)) * time.Millisecond)
					mu.Lock()
					delete(running, user+key)
					mu.Unlock()
					c.End(answered(user+" "+key+strings.Repeat("x", r.IntN(2000))), r.IntN(3) > 0)
					if table.Bytes() > 20_000 {
						t.Error(table.Bytes())
					}
				}
			})
		}
		all.Wait()
		time.Sleep(2 * time.Minute)
		require.Zero(t, table.Bytes())
	})
}
