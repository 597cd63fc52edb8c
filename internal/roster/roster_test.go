// The users of other nodes, and who speaks for those of a node that has died.

package roster_test

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/roster"
)

// now is when everything happens.
var now = time.Unix(1_000_000, 0)

func user(n int) roster.User { return roster.User{Namespace: "/drivers", ID: fmt.Sprint("d", n)} }

// Of the users of a node that has died each is taken by exactly one of the others, and
// those of one that fails by the next.
func TestRoster_OneSpeaksForEachOrphan(t *testing.T) {
	t.Parallel()
	const users = 3000
	names := []string{"a", "b", "c", "d"}
	rosters := map[string]*roster.Roster{}
	for _, self := range names {
		r := roster.New(1 << 20)
		for _, other := range names {
			if other != self {
				r.Joined(other)
				r.Named(other, other)
			}
		}
		for n := range users {
			r.Add("dead", user(n), "driver")
		}
		require.True(t, r.Lost("dead", now))
		rosters[self] = r
	}
	taken := map[roster.User]int{}
	for _, self := range names {
		orphans, more := rosters[self].Orphans("dead", self, 0)
		require.Equal(t, self != "d", more)
		require.InDelta(t, users/len(names), len(orphans), users/10, "each takes its part")
		for _, o := range orphans {
			require.Equal(t, "driver", o.Type)
			taken[o.User]++
			if self != "d" { // whose messages nobody hears
				for _, r := range rosters {
					r.Disconnected(o.User, now)
				}
			}
		}
	}
	require.Len(t, taken, users)
	again := 0
	for place := 1; place < len(names); place++ {
		for _, self := range names[:3] {
			orphans, _ := rosters[self].Orphans("dead", self, place)
			again += len(orphans)
			for _, o := range orphans {
				taken[o.User]++
				for _, r := range rosters {
					r.Disconnected(o.User, now)
				}
			}
		}
	}
	require.InDelta(t, users/len(names), again, users/10)
	for _, self := range names[:3] {
		require.Zero(t, rosters[self].Len())
	}
}

func TestRoster_OrphansWhoAreElsewhere(t *testing.T) {
	t.Parallel()
	r := roster.New(100)
	r.Add("b", user(1), "driver")
	r.Add("b", user(2), "driver")
	r.Add("c", user(2), "driver")
	require.True(t, r.Elsewhere(user(1)))
	require.True(t, r.Lost("b", now))
	require.False(t, r.Elsewhere(user(1)))
	require.True(t, r.Elsewhere(user(2)))
	orphans, more := r.Orphans("b", "a", 1)
	require.Equal(t, []roster.Orphan{{User: user(1), Type: "driver"}}, orphans)
	require.False(t, more)
	require.Equal(t, 1, r.Len(), "that of c")
	require.False(t, r.Lost("b", now), "it is forgotten")

	// A node that was lost and is found again has its users still.
	require.True(t, r.Lost("c", now))
	r.Joined("c")
	require.True(t, r.Elsewhere(user(2)))
	orphans, more = r.Orphans("c", "a", 9)
	require.Empty(t, orphans)
	require.False(t, more)
	r.Clear("c", "/other")
	require.True(t, r.Elsewhere(user(2)))
	r.Clear("c", "/drivers")
	require.Zero(t, r.Len())
}

func TestRoster_IsBounded(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	for n := range 100 {
		r.Add("b", user(n), "driver")
	}
	require.Equal(t, 10, r.Len())
	r.Remove("b", user(0))
	r.Remove("b", user(0))
	r.Add("b", user(50), "driver")
	require.Equal(t, 10, r.Len())
}

// Whoever sends messages in the names of nodes that do not exist fills no memory, and makes the
// roster forget no node that does.
func TestRoster_InventedNodes(t *testing.T) {
	t.Parallel()
	r := roster.New(1 << 20)
	r.Joined("b")
	r.Named("b", "b")
	r.Add("b", user(1), "driver")
	r.Add("early", user(2), "driver")
	for n := range 10000 {
		id := fmt.Sprint("invented ", n)
		r.Named(id, id)
		r.Add(id, user(n+10), "driver")
	}
	require.LessOrEqual(t, r.Len(), 100)
	require.True(t, r.Elsewhere(user(1)))
	require.True(t, r.Joined("early"), "it is asked for its users again")
	require.False(t, r.Joined("early"))
	require.False(t, r.Elsewhere(user(2)))
	r.Add("early", user(2), "driver")
	require.True(t, r.Elsewhere(user(2)))
}

// A message of a node that arrives after the node was forgotten does not bring it back.
func TestRoster_ForgottenNode(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	r.Joined("b")
	r.Forget("b")
	r.Named("b", "b")
	r.Clear("b", "/drivers")
	r.Add("b", user(1), "driver")
	require.Zero(t, r.Len())
	require.False(t, r.Elsewhere(user(1)))
	require.True(t, r.Joined("b"), "it was there all the time")
	require.False(t, r.Joined("b"))
	r.Add("b", user(1), "driver")
	require.True(t, r.Elsewhere(user(1)))
	r.Forget("b")
	require.Zero(t, r.Len())
	require.False(t, r.Elsewhere(user(1)))
	for n := range 5000 {
		require.False(t, r.Lost(fmt.Sprint("other", n), now))
	}
}

// Of a node that was lost and is found again, the users that were taken meanwhile are missing.
func TestRoster_JoinedAgain(t *testing.T) {
	t.Parallel()
	r := roster.New(1000)
	require.False(t, r.Joined("b"))
	r.Joined("c")
	r.Named("c", "c")
	for n := range 100 {
		r.Add("b", user(n), "driver")
	}
	require.False(t, r.Joined("b"), "nothing is missing")
	require.True(t, r.Lost("b", now))
	_, more := r.Orphans("b", "a", 0)
	require.True(t, more)
	require.True(t, r.Joined("b"))
	require.False(t, r.Joined("b"))
}

// The last message with the users of a node may arrive after the message that the node has left.
func TestRoster_LateUsersOfALostNode(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	r.Joined("b")
	require.True(t, r.Lost("b", now))
	r.Named("b", "b")
	r.Clear("b", "/drivers")
	r.Add("b", user(1), "driver")
	require.False(t, r.Elsewhere(user(1)))
	orphans, more := r.Orphans("b", "a", 0)
	require.Equal(t, []roster.Orphan{{User: user(1), Type: "driver"}}, orphans)
	require.False(t, more)
	r.Add("b", user(1), "driver")
	require.Zero(t, r.Len(), "it is forgotten")
}

// A user who was published as disconnected before a node was lost may have come to that node later.
func TestRoster_DisconnectedBefore(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	r.Add("b", user(1), "driver")
	r.Add("b", user(2), "driver")
	require.True(t, r.Lost("b", now))
	r.Disconnected(user(1), now.Add(-time.Second))
	r.Disconnected(user(2), now)
	orphans, _ := r.Orphans("b", "a", 0)
	require.Equal(t, []roster.Orphan{{User: user(1), Type: "driver"}}, orphans)
}

// A node that has joined after the lost node last said something may know none of its users: nobody
// waits for it.
func TestRoster_NewNodesHaveNoPlace(t *testing.T) {
	t.Parallel()
	const users = 100
	r := roster.New(1000)
	join := func(name string) {
		r.Joined(name)
		r.Named(name, name)
	}
	join("b")
	for n := range users {
		r.Add("b", user(n), "driver")
	}
	for n := range 10 {
		join(fmt.Sprint("new", n))
	}
	require.True(t, r.Lost("b", now))
	orphans, more := r.Orphans("b", "a", 0)
	require.Len(t, orphans, users)
	require.False(t, more)

	join("c")
	join("later")
	for n := range users {
		r.Add("c", user(n), "driver") // as c does when another node joins
	}
	require.True(t, r.Lost("c", now))
	orphans, _ = r.Orphans("c", "a", 0)
	require.Less(t, len(orphans), users, "the others know them too")
}

// A user of two lost nodes is taken once.
func TestRoster_AllOrphans(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	for _, peer := range []string{"b", "c"} {
		r.Add(peer, user(1), "driver")
		r.Add(peer, user(2), "driver")
		require.Empty(t, r.AllOrphans())
	}
	r.Add("d", user(2), "driver")
	require.True(t, r.Lost("b", now))
	require.Empty(t, r.AllOrphans(), "c has them")
	require.True(t, r.Lost("c", now))
	all := r.AllOrphans()
	require.Contains(t, all, roster.Orphan{User: user(1), Type: "driver"})
	require.NotContains(t, all, roster.Orphan{User: user(2), Type: "driver"}, "d has them")
	orphans, _ := r.Orphans("b", "a", 9)
	require.Len(t, orphans, 1)
	orphans, _ = r.Orphans("c", "a", 9)
	require.Empty(t, orphans)
	require.Empty(t, r.AllOrphans())
}

// A node that shuts down has sent its users for the last time: another one publishes them.
func TestRoster_Leaves(t *testing.T) {
	t.Parallel()
	r := roster.New(10)
	require.False(t, r.Others())
	r.Named("early", "early")
	require.False(t, r.Others(), "it has not joined")
	r.Joined("b")
	r.Named("b", "b")
	r.Add("b", user(1), "driver")
	require.True(t, r.Others())
	require.Empty(t, r.AllOrphans())
	r.Leaves("b")
	require.False(t, r.Others())
	require.False(t, r.Elsewhere(user(1)))
	require.Equal(t, []roster.Orphan{{User: user(1), Type: "driver"}}, r.AllOrphans())

	r.Joined("c")
	for n := range 10 {
		r.Add("c", user(n), "driver")
	}
	require.True(t, r.Lost("c", now))
	_, more := r.Orphans("c", "a", 0)
	require.False(t, more, "b takes none of them")
	r.Joined("b")
	require.True(t, r.Others(), "it is there after all")
}

// The nodes that stay have the same order for a user, each another place.
func TestRoster_Place(t *testing.T) {
	t.Parallel()
	names := []string{"a", "b", "c"}
	u := roster.User{Namespace: "/drivers", ID: "o1"}
	places := map[int]bool{}
	for _, self := range names {
		r := roster.New(10)
		for _, other := range names {
			if other != self {
				r.Joined("peer of " + other)
				r.Named("peer of "+other, other)
			}
		}
		place := r.Place(self, "", u)
		places[place] = true
		for _, other := range names { // a node has at most one place less without another
			if other != self {
				require.Contains(t, []int{place, place - 1}, r.Place(self, "peer of "+other, u))
			}
		}
		for _, other := range names {
			if other != self {
				r.Lost("peer of "+other, time.Now())
			}
		}
		require.Zero(t, r.Place(self, "", u), "alone")
	}
	require.Equal(t, map[int]bool{0: true, 1: true, 2: true}, places)
}
