// The town of the demo: corners and streets, on which the simulated cars drive and which the page
// draws. Both read page/town.json.

package main

import (
	"encoding/json"
	"fmt"
	"math"
	"math/rand/v2"
	"slices"

	"github.com/rodando/realtime"
)

// town is a graph of streets. It does not change.
type town struct {
	origin  realtime.Position
	corners []point2
	next    [][]int // the neighbors of each corner
}

// point2 is a point in meters east and north of the origin.
type point2 struct{ x, y float64 }

func (p point2) distance(q point2) float64 { return math.Hypot(p.x-q.x, p.y-q.y) }

// toward returns the point that is part of the way from p to q.
func (p point2) toward(q point2, part float64) point2 {
	return point2{p.x + part*(q.x-p.x), p.y + part*(q.y-p.y)}
}

// heading returns the direction from p to q in degrees, clockwise from north.
func (p point2) heading(q point2) float64 {
	return math.Mod(math.Atan2(q.x-p.x, q.y-p.y)*180/math.Pi+360, 360)
}

// meterDegrees is how many meters a degree of latitude has, in the page as well.
const meterDegrees = 6_371_000 * math.Pi / 180

// puertoClaro is the town.
var puertoClaro = mustTown()

func mustTown() *town {
	data, err := pageFiles.ReadFile("page/town.json")
	if err == nil {
		var t *town
		if t, err = readTown(data); err == nil {
			return t
		}
	}
	panic(err) // the file is embedded, and tested
}

func readTown(data []byte) (*town, error) {
	var file struct {
		Origin  realtime.Position `json:"origin"`
		Corners [][2]float64      `json:"corners"`
		Streets []struct {
			Name    string `json:"name"`
			Corners []int  `json:"corners"`
		} `json:"streets"`
	}
	if err := json.Unmarshal(data, &file); err != nil {
		return nil, fmt.Errorf("town: %w", err)
	}
	t := &town{origin: file.Origin, next: make([][]int, len(file.Corners))}
	for _, c := range file.Corners {
		t.corners = append(t.corners, point2{c[0], c[1]})
	}
	for _, s := range file.Streets {
		for i, c := range s.Corners {
			if c < 0 || c >= len(t.corners) {
				return nil, fmt.Errorf("town: %s has no corner %d", s.Name, c)
			}
			if i > 0 {
				before := s.Corners[i-1]
				t.next[before] = append(t.next[before], c)
				t.next[c] = append(t.next[c], before)
			}
		}
	}
	return t, nil
}

// point returns where a position is in the town.
func (t *town) point(p realtime.Position) point2 {
	return point2{(p.Lng - t.origin.Lng) * t.lngDegree(), (p.Lat - t.origin.Lat) * meterDegrees}
}

// position is the opposite of point.
func (t *town) position(p point2) realtime.Position {
	return realtime.Position{Lat: t.origin.Lat + p.y/meterDegrees, Lng: t.origin.Lng + p.x/t.lngDegree()}
}

func (t *town) lngDegree() float64 { return meterDegrees * math.Cos(t.origin.Lat*math.Pi/180) }

// someCorner returns a corner, any one.
func (t *town) someCorner() point2 { return t.corners[rand.IntN(len(t.corners))] }

// nearest returns the corner that is nearest to a point.
func (t *town) nearest(p point2) (corner int) {
	for i, c := range t.corners {
		if p.distance(c) < p.distance(t.corners[corner]) {
			corner = i
		}
	}
	return corner
}

// route returns the points of the shortest way along streets, from the corner nearest to one point
// to the one nearest to the other, and then that point.
func (t *town) route(from, to point2) []point2 {
	way := []point2{to}
	start, at := t.nearest(from), t.nearest(to)
	left := t.distances(at)
	for at = start; left[at] > 0; {
		way = slices.Insert(way, len(way)-1, t.corners[at])
		here := at
		for _, n := range t.next[here] {
			if left[n]+t.corners[here].distance(t.corners[n]) <= left[here]+1e-6 && left[n] < left[at] {
				at = n
			}
		}
		if at == here { // unreachable: as the crow flies
			return way
		}
	}
	return slices.Insert(way, len(way)-1, t.corners[at])
}

// distances returns how far each corner is from one of them, along streets.
func (t *town) distances(from int) []float64 {
	d := make([]float64, len(t.corners))
	for i := range d {
		d[i] = math.Inf(1)
	}
	d[from] = 0
	for pending := []int{from}; len(pending) > 0; pending = pending[1:] {
		at := pending[0]
		for _, n := range t.next[at] {
			if far := d[at] + t.corners[at].distance(t.corners[n]); far < d[n]-1e-6 {
				d[n] = far
				pending = append(pending, n)
			}
		}
	}
	return d
}
