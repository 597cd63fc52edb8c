package peerrooms_test

import (
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/peerrooms"
)

// sender is another node, and what it has sent.
type sender struct {
	id     string
	rooms  map[string]bool
	number uint64
	onWay  []sentUpdate
	wants  int             // the last request that it has received
	floor  map[string]bool // the rooms of which the table must know, or not know at all
	here   bool            // the node has joined
	missed map[string]bool // the rooms at the last update that was lost; nil: that is reported
}

// sentUpdate is an update on its way.
type sentUpdate struct {
	peerrooms.Update
	answers int             // a request
	rooms   map[string]bool // of the sender at that time
	reaches bool            // otherwise it is lost
}

func (s *sender) send(u peerrooms.Update, answers int) {
	u.Number = s.number
	s.number++
	s.onWay = append(s.onWay, sentUpdate{u, answers, maps.Clone(s.rooms), true})
}

// change begins and ends some rooms.
func (s *sender) change(r *rand.Rand, names []string) {
	var u peerrooms.Update
	for _, name := range names {
		if r.IntN(6) > 0 {
			continue
		}
		if s.rooms[name] {
			delete(s.rooms, name)
			u.Removed = append(u.Removed, peerrooms.Hash("/n", name))
		} else {
			s.rooms[name] = true
			u.Added = append(u.Added, peerrooms.Hash("/n", name))
		}
	}
	s.send(u, 0)
}

// list sends all rooms, in one to three updates.
func (s *sender) list(r *rand.Rand, answers int) {
	parts := make([]peerrooms.Update, 1+r.IntN(3))
	for _, name := range slices.Sorted(maps.Keys(s.rooms)) {
		i := r.IntN(len(parts))
		parts[i].Added = append(parts[i].Added, peerrooms.Hash("/n", name))
	}
	parts[0].First, parts[len(parts)-1].Last = true, true
	if r.IntN(10) == 0 {
		parts = []peerrooms.Update{{First: true, Last: true, Every: true}}
	}
	for i, u := range parts {
		if i > 0 {
			answers = 0
		}
		s.send(u, answers)
	}
}

// TestTable_AgreesWithDelayedMessages: nodes join, leave and die; their updates are delayed for
// long, or lost, which is reported at any time afterwards, also before older updates have arrived;
// lists are sent for other reasons than a request of this node; a node of another system comes
// and goes. A room that a node had
// when it sent the last update that has arrived, or that was reported as lost, is never taken for
// nobody's. And when all is quiet and was asked for, the table knows exactly.
func TestTable_AgreesWithDelayedMessages(t *testing.T) {
	var names []string
	for n := range 12 {
		names = append(names, fmt.Sprint("room", n))
	}
	precise := 0
	for seed := range uint64(200) {
		r := rand.New(rand.NewPCG(seed, 3))
		table := peerrooms.New(25 + r.IntN(100))
		only, request := true, 0
		table.SetOnly(only)
		var all []*sender
		for i := range 3 {
			all = append(all, &sender{id: fmt.Sprint(i), rooms: map[string]bool{}, floor: map[string]bool{}})
		}
		join := func(s *sender) {
			table.Joined(s.id)
			s.here = true
			s.list(r, 0)
		}
		deliver := func(s *sender) {
			u := s.onWay[0]
			s.onWay = s.onWay[1:]
			if !u.reaches {
				s.missed = u.rooms
				return
			}
			u.Fresh = u.answers > 0 && u.answers == request
			table.Apply(s.id, u.Update)
			s.floor = u.rooms
		}
		report := func(s *sender) { // everything that was lost was sent before now
			table.Missed(s.id)
			request++
			if s.missed != nil {
				s.floor, s.missed = s.missed, nil
			}
			for _, u := range s.onWay {
				if !u.reaches {
					s.floor = u.rooms
				}
			}
		}
		check := func(step int) {
			for _, name := range names {
				has := false
				for _, s := range all {
					has = has || s.here && s.floor[name]
				}
				got := table.Elsewhere("/n", []string{name})
				if has || !only {
					require.True(t, got, "seed %d, step %d: %s", seed, step, name)
				} else if !got {
					precise++
				}
			}
		}
		for step := range 400 {
			s := all[r.IntN(len(all))]
			switch r.IntN(14) {
			case 0, 1, 2:
				s.change(r, names)
			case 3:
				s.list(r, s.wants)
				s.wants = 0
			case 4:
				s.list(r, 0) // another node has asked
			case 5:
				s.wants = request
			case 6:
				if s.here = !s.here; s.here {
					join(s)
				} else {
					table.Left(s.id)
				}
			case 7:
				if r.IntN(3) == 0 { // what is sent now is lost
					from := len(s.onWay)
					s.change(r, names)
					s.list(r, 0)
					for i := range s.onWay[from:] {
						s.onWay[from+i].reaches = false
					}
					if r.IntN(2) == 0 {
						report(s) // before what was sent earlier arrives
					}
				}
			case 8:
				if r.IntN(5) == 0 {
					only = !only
					table.SetOnly(only)
				}
			default:
				if len(s.onWay) > 0 {
					deliver(s)
					if s.missed != nil && r.IntN(3) == 0 {
						report(s)
					}
				}
			}
			check(step)
		}
		only = true
		table.SetOnly(only)
		table.Missed("")
		request++
		for _, s := range all {
			if !s.here {
				join(s)
			}
			for len(s.onWay) > 0 {
				deliver(s)
			}
			s.list(r, request)
			s.change(r, names)
			for len(s.onWay) > 0 {
				deliver(s)
			}
		}
		require.True(t, table.Complete(), "seed %d", seed)
		check(-1)
	}
	require.Greater(t, precise, 50_000)
}
