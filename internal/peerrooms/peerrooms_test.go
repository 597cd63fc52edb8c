package peerrooms_test

import (
	"fmt"
	"math/rand/v2"
	"testing"
	"testing/synctest"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/peerrooms"
)

func hashes(rooms ...string) (numbers []uint64) {
	for _, r := range rooms {
		numbers = append(numbers, peerrooms.Hash("/n", r))
	}
	return numbers
}

// list is a complete list of rooms.
func list(number uint64, rooms ...string) peerrooms.Update {
	return peerrooms.Update{Number: number, First: true, Last: true, Added: hashes(rooms...)}
}

// fresh is a list that answers a request made after the last Missed.
func fresh(number uint64, rooms ...string) peerrooms.Update {
	u := list(number, rooms...)
	u.Fresh = true
	return u
}

// known returns a table of two nodes with the rooms a and b.
func known(t *testing.T) *peerrooms.Table {
	t.Helper()
	table := peerrooms.New(100)
	table.SetOnly(true)
	for id, room := range map[string]string{"1": "a", "2": "b"} {
		table.Joined(id)
		require.False(t, table.Apply(id, list(7, room)))
	}
	require.True(t, table.Complete())
	requireRooms(t, table, "ab")
	return table
}

// requireRooms checks which of the rooms a to f other nodes may have.
func requireRooms(t *testing.T, table *peerrooms.Table, want string, why ...any) {
	t.Helper()
	got := ""
	for _, r := range "abcdef" {
		if table.Elsewhere("/n", []string{"x", string(r)}) {
			got += string(r)
		}
	}
	require.Equal(t, want, got, why...)
	require.Equal(t, want == every, table.Elsewhere("/other", []string{"a"}), "the same room in another namespace")
}

const every = "abcdef"

func TestTable_SaysEveryRoomUntilItKnows(t *testing.T) {
	table := peerrooms.New(100)
	requireRooms(t, table, every, "there may be other nodes")
	table.SetOnly(true)
	requireRooms(t, table, "", "this node is alone")
	require.True(t, table.Alone())
	table.Joined("1")
	requireRooms(t, table, every, "a node that has sent nothing")
	require.False(t, table.Alone())
	require.False(t, table.Complete())
	require.False(t, table.Apply("1", peerrooms.Update{Number: 3, Added: hashes("a")}), "a change without a list: it has been asked already")
	requireRooms(t, table, every)
	table.Apply("1", peerrooms.Update{Number: 4, First: true, Added: hashes("a")})
	requireRooms(t, table, every, "half of a list")
	table.Apply("1", peerrooms.Update{Number: 5, Last: true, Added: hashes("b")})
	requireRooms(t, table, "ab")
	require.True(t, table.Complete())
	table.SetOnly(false)
	requireRooms(t, table, every, "a node of another system")
}

func TestTable_Apply(t *testing.T) {
	table := known(t)
	require.False(t, table.Apply("1", peerrooms.Update{Number: 8, Added: hashes("c", "d"), Removed: hashes("a")}))
	requireRooms(t, table, "bcd")
	require.False(t, table.Apply("1", peerrooms.Update{Number: 8, Removed: hashes("c")}), "a repeat")
	requireRooms(t, table, "bcd")
	require.False(t, table.Apply("2", peerrooms.Update{Number: 8, Removed: hashes("c")}), "of another node")
	requireRooms(t, table, "bcd")

	// While a list is under way, the previous one still counts.
	require.False(t, table.Apply("1", peerrooms.Update{Number: 9, First: true, Added: hashes("e")}))
	requireRooms(t, table, "bcde")
	require.False(t, table.Apply("1", peerrooms.Update{Number: 10, Last: true, Added: hashes("f")}))
	requireRooms(t, table, "bef")
}

func TestTable_MissingUpdate(t *testing.T) {
	table := known(t)
	require.True(t, table.Apply("1", peerrooms.Update{Number: 9, Added: hashes("c")}), "8 is missing")
	requireRooms(t, table, every)
	require.False(t, table.Apply("1", peerrooms.Update{Number: 10, Added: hashes("c")}), "only once")
	requireRooms(t, table, every)
	require.False(t, table.Apply("1", list(1, "c")), "its numbers may begin again")
	requireRooms(t, table, "bc")

	// Within a list, too: the list counts only as a whole.
	table.Apply("1", peerrooms.Update{Number: 2, First: true})
	require.True(t, table.Apply("1", peerrooms.Update{Number: 4, Last: true}))
	requireRooms(t, table, every)
}

func TestTable_Missed(t *testing.T) {
	table := known(t)
	table.Missed("1")
	requireRooms(t, table, every)
	require.False(t, table.Complete())
	require.False(t, table.Apply("1", peerrooms.Update{Number: 8, Added: hashes("c")}), "changes do not make it complete")
	requireRooms(t, table, every)
	require.False(t, table.Apply("1", list(9, "c")))
	requireRooms(t, table, every, "the list may be older than what is missing")
	table.Apply("1", fresh(10, "c"))
	requireRooms(t, table, "bc")
	table.Missed("")
	table.Apply("1", fresh(11, "c"))
	requireRooms(t, table, every, "the other one, too")
	table.Apply("2", fresh(11))
	requireRooms(t, table, "c")
	table.Missed("unknown")
	requireRooms(t, table, "c")
	table.Left("1")
	table.Apply("1", list(3, "a"))
	table.Joined("1")
	requireRooms(t, table, every, "what it has sent before it left may be older, too")
	table.Apply("1", fresh(12, "c"))
	requireRooms(t, table, "c")
}

func TestTable_Left(t *testing.T) {
	table := known(t)
	table.Left("1")
	requireRooms(t, table, "b")
	require.False(t, table.Apply("1", peerrooms.Update{Number: 8, Added: hashes("c")}), "a late update")
	requireRooms(t, table, "b")
	table.Joined("1")
	requireRooms(t, table, every, "it has joined again")
	table.Apply("1", list(1, "c"))
	requireRooms(t, table, "bc")
	table.Left("1")
	table.Left("2")
	requireRooms(t, table, "")
	require.True(t, table.Alone())
}

func TestTable_ListBeforeItJoins(t *testing.T) {
	table := known(t)
	table.Apply("3", list(1, "c"))
	requireRooms(t, table, "ab", "it has not joined")
	table.Apply("3", peerrooms.Update{Number: 2, Added: hashes("d")})
	table.Joined("3")
	requireRooms(t, table, "abcd")

	// Nodes that never join take no more memory than a few.
	for n := range 1000 {
		table.Apply(fmt.Sprint("never ", n), list(1, "e"))
	}
	for n := range 90 {
		table.Apply("3", peerrooms.Update{Number: uint64(3 + n), Added: []uint64{uint64(n)}})
	}
	requireRooms(t, table, every, "the table of 100 rooms is full")
	for n := range 1000 {
		table.Apply(fmt.Sprint("never ", n), list(1, "e"))
	}
	table.Apply("3", list(100, "c"))
	requireRooms(t, table, "abc", "there is space again")
}

func TestTable_TooManyRooms(t *testing.T) {
	table := known(t)
	table.Apply("1", peerrooms.Update{Number: 8, First: true, Last: true, Every: true})
	requireRooms(t, table, every)
	require.True(t, table.Complete(), "there is nothing to ask for")
	table.Apply("1", peerrooms.Update{Number: 9, Removed: hashes("a")})
	requireRooms(t, table, every)
	table.Apply("1", list(10, "a"))
	requireRooms(t, table, "ab")

	// The table's own limit.
	var many []string
	for n := range 99 {
		many = append(many, fmt.Sprint(n))
	}
	table.Apply("2", list(8, many...))
	requireRooms(t, table, every)
	require.True(t, table.Complete())
	table.Apply("2", peerrooms.Update{Number: 9, Added: hashes("c")})
	table.Apply("2", peerrooms.Update{Number: 10, Removed: hashes(many...)})
	requireRooms(t, table, every)
	table.Apply("2", list(11, many[:90]...))
	requireRooms(t, table, "a")
}

func TestTable_Expect(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		table := known(t)
		table.Expect(peerrooms.Hash("/n", "c"), time.Now().Add(time.Second))
		requireRooms(t, table, "abc")
		time.Sleep(500 * time.Millisecond)
		table.Expect(peerrooms.Hash("/n", "c"), time.Now().Add(time.Second))
		time.Sleep(900 * time.Millisecond)
		requireRooms(t, table, "abc")
		time.Sleep(200 * time.Millisecond)
		requireRooms(t, table, "ab")

		for n := range 10_000 { // more than it remembers
			table.Expect(uint64(n), time.Now().Add(time.Second))
		}
		table.Expect(peerrooms.Hash("/n", "c"), time.Now().Add(time.Second))
		require.True(t, table.Elsewhere("/other", []string{"a"}))
		time.Sleep(time.Second)
		requireRooms(t, table, "ab")
		table.Expect(peerrooms.Hash("/n", "d"), time.Now().Add(time.Second))
		requireRooms(t, table, "abd", "the old ones are dropped")
	})
}

func TestHash(t *testing.T) {
	// Nodes of different versions must agree.
	require.Equal(t, uint64(0x80a0e9c35a37dfe8), peerrooms.Hash("/admin", "admin:drivers"))
	require.Equal(t, uint64(0x680fdd70475ec43), peerrooms.Hash("/passengers", "trip:1b4e28ba-2fa1-11d2-883f-0016d3cca427"))
	seen := map[uint64]string{}
	add := func(namespace, room string) {
		name := namespace + "|" + room
		h := peerrooms.Hash(namespace, room)
		require.Empty(t, seen[h], name)
		seen[h] = name
	}
	for n := range 50_000 {
		add("/drivers", fmt.Sprint("driver:", n))
		add("/drivers", fmt.Sprintf("driver:%08x-2fa1-11d2-883f-%012x", n, n))
		add("/passengers", fmt.Sprint("driver:", n))
	}
	add("/a", "bc")
	add("/ab", "c")
	add("/ab", "")
	add("", "/ab")
	add("/z", "\x00")
	add("/z", "\x00\x00")
	add("/z", "")
}

// TestTable_AgreesWithAModel: whatever is lost or repeated, a room that another node has
// announced is never taken for nobody's; and while nothing is lost, nothing is sent in vain.
func TestTable_AgreesWithAModel(t *testing.T) {
	var names []string
	for n := range 20 {
		names = append(names, fmt.Sprint("room", n))
	}
	precise := 0
	for seed := range uint64(50) {
		r := rand.New(rand.NewPCG(seed, 1))
		table := peerrooms.New(1000)
		table.SetOnly(true)
		table.Joined("1")
		rooms := map[string]bool{}
		var last peerrooms.Update
		intact, number := false, uint64(0)
		for range 300 {
			u := peerrooms.Update{Number: number}
			number++
			for _, name := range names {
				if r.IntN(10) > 0 {
					continue
				}
				if rooms[name] = !rooms[name]; rooms[name] {
					u.Added = append(u.Added, peerrooms.Hash("/n", name))
				} else {
					u.Removed = append(u.Removed, peerrooms.Hash("/n", name))
				}
			}
			if r.IntN(5) == 0 {
				u.First, u.Last, u.Fresh, u.Added, u.Removed = true, true, true, nil, nil
				for name, has := range rooms {
					if has {
						u.Added = append(u.Added, peerrooms.Hash("/n", name))
					}
				}
			}
			switch r.IntN(12) {
			case 0: // the update is lost, and the next one shows it
				intact = false
				continue
			case 1:
				table.Missed("1")
				intact = false
			case 2:
				if !last.First {
					table.Apply("1", last) // a repeat
				}
			}
			table.Apply("1", u)
			last, intact = u, intact || u.First
			for _, name := range names {
				got := table.Elsewhere("/n", []string{name})
				require.Equal(t, !intact || rooms[name], got, "seed %d: %s", seed, name)
				if !got {
					precise++
				}
			}
		}
	}
	require.Greater(t, precise, 10_000)
}

func BenchmarkTable_Elsewhere(b *testing.B) {
	for _, nodes := range []int{0, 1, 5} {
		b.Run(fmt.Sprint(nodes, " nodes"), func(b *testing.B) {
			table := peerrooms.New(1 << 20)
			table.SetOnly(true)
			for n := range nodes {
				id := fmt.Sprint(n)
				table.Joined(id)
				u := peerrooms.Update{First: true, Last: true}
				for r := range 40_000 {
					u.Added = append(u.Added, peerrooms.Hash("/drivers", fmt.Sprint("driver:", n, " ", r)))
				}
				table.Apply(id, u)
			}
			b.ReportAllocs()
			rooms := []string{"driver:1b4e28ba-2fa1-11d2-883f-0016d3cca427"}
			for b.Loop() {
				if table.Elsewhere("/drivers", rooms) {
					b.Fatal("there is no such room")
				}
			}
		})
	}
}
