// The facts of a trip, and who its people are by them. Facts have a total order, by
// time, kind and ids, and what is known is the newest of each: whatever the order in
// which two tables learn the same facts, and however often, they know the same.

package triptable

import (
	"cmp"
	"slices"
	"time"
)

const (
	maxAssigns  = 4  // facts that are kept of a trip, at most
	maxReleases = 32 // likewise: an offer may go to many drivers, and ends for each
)

// Fact says that a driver was assigned, or released.
type Fact struct {
	At         int64  `json:"at"` // microseconds since 1970
	Driver     string `json:"driverId,omitempty"`
	Assignment string `json:"assignmentId,omitempty"`
}

func (f Fact) compare(g Fact) int {
	return cmp.Or(cmp.Compare(f.At, g.At), cmp.Compare(f.Driver, g.Driver), cmp.Compare(f.Assignment, g.Assignment))
}

func (f Fact) same(g Fact) bool { return f.Driver == g.Driver && f.Assignment == g.Assignment }

// facts are those of one kind, the oldest first, and of each driver and assignment the
// newest.
type facts []Fact //nolint:recvcheck // put and drop change the slice, the others read it

// put records a fact and reports whether it is news.
func (fs *facts) put(f Fact) bool {
	old := *fs
	if i := slices.IndexFunc(old, f.same); i >= 0 {
		if f.At <= old[i].At {
			return false
		}
		old = slices.Delete(old, i, i+1)
	}
	i, _ := slices.BinarySearchFunc(old, f, Fact.compare)
	*fs = slices.Insert(old, i, f)
	return true
}

// include reports whether they hold all others, or newer ones.
func (fs facts) include(others facts) bool {
	return !slices.ContainsFunc(others, func(f Fact) bool {
		return !slices.ContainsFunc(fs, func(g Fact) bool { return g.same(f) && g.At >= f.At })
	})
}

func (fs facts) contain(f Fact) bool { return slices.Contains(fs, f) }

// drop drops the oldest facts beyond n, but for those that are needed.
func (fs *facts) drop(n int, needed func(Fact) bool) {
	for i := 0; len(*fs) > n && i < len(*fs); {
		if needed((*fs)[i]) {
			i++
		} else {
			*fs = slices.Delete(*fs, i, i+1)
		}
	}
}

// newest returns the time of the newest; 0: there is none.
func (fs facts) newest() int64 {
	if len(fs) == 0 {
		return 0
	}
	return fs[len(fs)-1].At
}

// know records a fact and reports whether it is news that is kept.
func (r *trip) know(fs *facts, f Fact) bool {
	if f.At <= r.suspended || !fs.put(f) {
		return false
	}
	r.trim()
	return fs.contain(f)
}

// trim drops facts: those from before no driver was found, and the oldest when there
// are many, but for those on which hangs who is on the trip.
func (r *trip) trim() {
	older := func(f Fact) bool { return f.At <= r.suspended }
	r.assigns, r.releases = slices.DeleteFunc(r.assigns, older), slices.DeleteFunc(r.releases, older)
	last := r.lastDriver()
	r.assigns.drop(maxAssigns, func(f Fact) bool { return f == last })
	r.releases.drop(maxReleases, func(f Fact) bool {
		return slices.ContainsFunc(r.assigns, func(a Fact) bool { return f.At >= a.At && f.ends(a.Driver, a.Assignment) })
	})
}

// lastDriver returns the newest assignment that names its driver.
func (r *trip) lastDriver() Fact {
	for _, f := range slices.Backward(r.assigns) {
		if f.Driver != "" {
			return f
		}
	}
	return Fact{}
}

// ends reports whether a release is of an assignment. Where one of the two has no id,
// it is if it is of the same driver.
func (f Fact) ends(driver, assignment string) bool {
	if f.Assignment != "" && assignment != "" {
		return f.Assignment == assignment
	}
	return f.Driver == driver && driver != ""
}

// derive finds who is on the trip: those whom the facts, one after the other, leave.
// At the same time an assignment comes before a release, and that before the
// news that no driver was found.
func (r *trip) derive() {
	r.trim()
	was := r.driver
	r.driver, r.assignment = "", ""
	releases := r.releases
	for i, f := range r.assigns {
		switch {
		case f.Driver != "":
			if f.Driver != r.driver {
				r.driver, r.assignment = f.Driver, ""
			}
			r.assignment = cmp.Or(f.Assignment, r.assignment)
		case f.Assignment == "" || r.driver == "":
		case r.assignment != "" && r.assignment != f.Assignment:
			r.driver, r.assignment = "", "" // another driver's, who is not named
		default:
			r.assignment = f.Assignment
		}
		for len(releases) > 0 && (i+1 == len(r.assigns) || releases[0].At < r.assigns[i+1].At) {
			if releases[0].At >= f.At && releases[0].ends(r.driver, r.assignment) {
				r.driver, r.assignment = "", ""
			}
			releases = releases[1:]
		}
	}
	r.assigned = len(r.assigns) > 0
	r.idle = r.suspended > 0 && r.suspended >= max(r.opened, r.assigns.newest())
	if r.driver != was {
		r.hint, r.aside = "", time.Time{}
	}
}

// ride records who the passenger is, and reports whether it is news.
func (r *trip) ride(passenger string, at int64) bool {
	if passenger == "" || r.passenger != "" && cmp.Or(cmp.Compare(at, r.passengerAt), cmp.Compare(passenger, r.passenger)) <= 0 {
		return false
	}
	news := passenger != r.passenger
	r.passenger, r.passengerAt = passenger, at
	return news
}

// view is what others see of a trip.
type view struct {
	passenger, driver string
	assigned, idle    bool
}

func (r *trip) view() view { return view{r.passenger, r.driver, r.assigned, r.idle} }

// moved keeps when the people changed. A driver whom only a lookup knows may have left
// too.
func (r *trip) moved(was view, left bool, now time.Time) {
	if left || r.view() != was {
		r.changed = now
	}
}

// outdates reports whether what is known, with the event itself, is newer than it.
func (r *trip) outdates(kind Kind, f Fact) bool {
	switch kind { //nolint:exhaustive // the other kinds are never outdated by facts
	case Opens:
		return f.At <= r.suspended
	case Suspends:
		return f.At < max(r.opened, r.assigns.newest())
	case Assigns:
		if f.At <= r.suspended {
			return true
		}
		if f.Driver != "" {
			return f.Driver != r.driver || f.Assignment != "" && r.assignment != "" && f.Assignment != r.assignment
		}
		return f.Assignment != "" && slices.ContainsFunc(r.releases, func(g Fact) bool { return g.Assignment == f.Assignment && g.At >= f.At }) ||
			f.At < r.assigns.newest() && (f.Assignment == "" || f.Assignment != r.assignment)
	}
	return false
}

// former reports whether the driver of an event is known to have left the trip later.
func (r *trip) former(f Fact) bool {
	return f.Driver != "" && f.Driver != r.driver && (f.At < r.lastDriver().At ||
		slices.ContainsFunc(r.releases, func(g Fact) bool { return g.Driver == f.Driver && g.At > f.At }))
}

// moves says where the people of an assigned trip are.
func (r *trip) moves() (m Moves) {
	if r.assigned {
		m.Passenger = r.passenger
	}
	if m.Leaves = r.leavers(""); r.aside.IsZero() && r.driver != "" {
		m.Driver, m.Leaves = r.driver, nil
	}
	return m
}

// allMoves says where the people of any trip are.
func (r *trip) allMoves() Moves {
	if !r.assigned && r.suspended > 0 { // and nothing has said since who is on it
		return Moves{People: true}
	}
	return r.moves()
}

// leavers returns those who are known to have been on the trip, and one more, without
// the driver.
func (r *trip) leavers(one string) (drivers []string) {
	add := func(id string) {
		if id != "" && id != r.driver && !slices.Contains(drivers, id) {
			drivers = append(drivers, id)
		}
	}
	add(one)
	for _, f := range r.assigns {
		add(f.Driver)
	}
	for _, f := range r.releases {
		add(f.Driver)
	}
	return drivers
}
