// Facts: what the events of a trip say about its drivers, and how the state of the trip
// follows from them. Facts have a total order, by time, driver and assignment, and of each
// driver and assignment only the newest counts. Two tables that learn the same facts, in any
// order and any number of times, have the same state.

package triptable

import (
	"cmp"
	"slices"
	"time"
)

const (
	maxAssigns  = 4  // maximum number of assignments kept for a trip
	maxReleases = 32 // the same for releases, which are more: each driver's offer ends with one
)

// Fact says that a driver was assigned to a trip, or released from it.
type Fact struct {
	At         int64  `json:"at"` // when it happened, in microseconds since 1970
	Driver     string `json:"driverId,omitempty"`
	Assignment string `json:"assignmentId,omitempty"`
}

func (f Fact) compare(g Fact) int {
	return cmp.Or(cmp.Compare(f.At, g.At), cmp.Compare(f.Driver, g.Driver), cmp.Compare(f.Assignment, g.Assignment))
}

// same reports whether both facts are about the same driver and assignment.
func (f Fact) same(g Fact) bool { return f.Driver == g.Driver && f.Assignment == g.Assignment }

// facts holds the assignments or the releases of a trip, the oldest first. Each driver and
// assignment has only its newest fact.
type facts []Fact //nolint:recvcheck // put and drop change the slice, the others read it

// put adds a fact, unless an equal or newer one of the same driver and assignment is there.
// It reports whether it did.
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

// cover reports whether fs has each of the others, or a newer fact in its place.
func (fs facts) cover(others facts) bool {
	return !slices.ContainsFunc(others, func(f Fact) bool {
		return !slices.ContainsFunc(fs, func(g Fact) bool { return g.same(f) && g.At >= f.At })
	})
}

func (fs facts) contain(f Fact) bool { return slices.Contains(fs, f) }

// drop drops the oldest facts until n are left. It keeps those that are needed.
func (fs *facts) drop(n int, needed func(Fact) bool) {
	for i := 0; len(*fs) > n && i < len(*fs); {
		if needed((*fs)[i]) {
			i++
		} else {
			*fs = slices.Delete(*fs, i, i+1)
		}
	}
}

// newest returns the time of the newest fact, or 0 if there is none.
func (fs facts) newest() int64 {
	if len(fs) == 0 {
		return 0
	}
	return fs[len(fs)-1].At
}

// record adds a fact to the assignments or the releases. It reports whether the fact is new
// and was kept.
func (r *trip) record(fs *facts, f Fact) bool {
	if f.At <= r.suspended || !fs.put(f) {
		return false
	}
	r.trim()
	return fs.contain(f)
}

// trim drops the facts from before the last time that no driver was found. If there are too
// many, it also drops the oldest ones, except those that decide who the driver is.
func (r *trip) trim() {
	outdated := func(f Fact) bool { return f.At <= r.suspended }
	r.assigns, r.releases = slices.DeleteFunc(r.assigns, outdated), slices.DeleteFunc(r.releases, outdated)
	last := r.lastNamed()
	r.assigns.drop(maxAssigns, func(f Fact) bool { return f == last })
	r.releases.drop(maxReleases, func(f Fact) bool {
		return slices.ContainsFunc(r.assigns, func(a Fact) bool { return f.At >= a.At && f.ends(a.Driver, a.Assignment) })
	})
}

// lastNamed returns the newest assignment that names its driver, or a zero Fact.
func (r *trip) lastNamed() Fact {
	for _, f := range slices.Backward(r.assigns) {
		if f.Driver != "" {
			return f
		}
	}
	return Fact{}
}

// ends reports whether a release ends an assignment: it has the same assignment id or, if
// one of the two has none, the same driver.
func (f Fact) ends(driver, assignment string) bool {
	if f.Assignment != "" && assignment != "" {
		return f.Assignment == assignment
	}
	return f.Driver == driver && driver != ""
}

// derive computes the fields that follow from the facts: it applies the assignments and the
// releases in the order of time. At the same time, an assignment comes before a release, and
// a release before the event that no driver was found.
func (r *trip) derive() {
	r.trim()
	before := r.driver
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
			r.driver, r.assignment = "", "" // an unnamed new driver
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
	if r.driver != before {
		r.hint, r.aside = "", time.Time{}
	}
}

// setPassenger records the passenger that an event at this time names, unless a newer event
// named one. It reports whether the passenger changed.
func (r *trip) setPassenger(passenger string, at int64) (changed bool) {
	if passenger == "" || r.passenger != "" && cmp.Or(cmp.Compare(at, r.passengerAt), cmp.Compare(passenger, r.passenger)) <= 0 {
		return false
	}
	changed = passenger != r.passenger
	r.passenger, r.passengerAt = passenger, at
	return changed
}

// view is the part of a trip's state that decides who is in its room.
type view struct {
	passenger, driver string
	assigned, idle    bool
}

func (r *trip) view() view { return view{r.passenger, r.driver, r.assigned, r.idle} }

// setChanged records when the people have last changed, if the view has changed since
// before. left says that a driver was released whom only a lookup named: the view does not
// show that.
func (r *trip) setChanged(before view, left bool, at time.Time) {
	if left || r.view() != before {
		r.changed = at
	}
}

// isNewerThan reports whether the trip knows something newer than an event that was just
// recorded.
func (r *trip) isNewerThan(kind Kind, f Fact) bool {
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

// leftAfter reports whether the driver of an event is known to have left the trip after it.
func (r *trip) leftAfter(f Fact) bool {
	return f.Driver != "" && f.Driver != r.driver && (f.At < r.lastNamed().At ||
		slices.ContainsFunc(r.releases, func(g Fact) bool { return g.Driver == f.Driver && g.At > f.At }))
}

// moves returns the moves that bring the people of a trip to where they belong. It is not for
// a trip that has found no driver: see allMoves.
func (r *trip) moves() (m Moves) {
	if r.assigned {
		m.Passenger = r.passenger
	}
	if m.Leaves = r.otherDrivers(""); r.aside.IsZero() && r.driver != "" {
		m.Driver, m.Leaves = r.driver, nil
	}
	return m
}

// allMoves returns the moves that bring the people of any trip to where they belong.
func (r *trip) allMoves() Moves {
	if !r.assigned && r.suspended > 0 { // no driver was found, and none was assigned since
		return Moves{People: true}
	}
	return r.moves()
}

// otherDrivers returns the drivers of all facts and one further driver, without the present
// driver.
func (r *trip) otherDrivers(further string) (drivers []string) {
	add := func(id string) {
		if id != "" && id != r.driver && !slices.Contains(drivers, id) {
			drivers = append(drivers, id)
		}
	}
	add(further)
	for _, f := range r.assigns {
		add(f.Driver)
	}
	for _, f := range r.releases {
		add(f.Driver)
	}
	return drivers
}
