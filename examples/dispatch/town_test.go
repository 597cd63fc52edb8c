// The town, and how cars drive in it.

package main

import (
	"math"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestTown_EveryCornerIsReached(t *testing.T) {
	t.Parallel()
	for i, far := range puertoClaro.distances(0) {
		require.False(t, math.IsInf(far, 1), "corner %d", i)
	}
}

func TestTown_PositionIsTheOppositeOfPoint(t *testing.T) {
	t.Parallel()
	for _, corner := range puertoClaro.corners {
		got := puertoClaro.point(puertoClaro.position(corner))
		require.InDelta(t, corner.x, got.x, 0.01)
		require.InDelta(t, corner.y, got.y, 0.01)
	}
	east := puertoClaro.position(point2{100, 0})
	require.InDelta(t, 100, meters(east, puertoClaro.position(point2{})), 0.1)
}

func TestReadTown_RefusesStreetsWithoutCorners(t *testing.T) {
	t.Parallel()
	_, err := readTown([]byte(`{"corners": [[0,0],[1,1]], "streets": [{"name": "Nowhere", "corners": [0, 2]}]}`))
	require.ErrorContains(t, err, "Nowhere has no corner 2")
	_, err = readTown([]byte(`{`))
	require.Error(t, err)
}

// A way leads from corner to corner, each next to the one before, and is not longer than needed.
func TestTown_RouteFollowsStreets(t *testing.T) {
	t.Parallel()
	start, end := puertoClaro.corners[0], puertoClaro.corners[len(puertoClaro.corners)-1]
	to := point2{end.x + 20, end.y + 5}
	way := puertoClaro.route(point2{start.x - 3, start.y + 4}, to)
	require.Equal(t, start, way[0])
	require.Equal(t, []point2{end, to}, way[len(way)-2:])
	length := 0.0
	for i, p := range way[1 : len(way)-1] {
		before, at := puertoClaro.nearest(way[i]), puertoClaro.nearest(p)
		require.Contains(t, puertoClaro.next[before], at, "step %d", i)
		length += way[i].distance(p)
	}
	require.InDelta(t, puertoClaro.distances(0)[len(puertoClaro.corners)-1], length, 0.01)
	require.Equal(t, []point2{start, start}, puertoClaro.route(start, start), "there already")
}

func TestPoint2_Heading(t *testing.T) {
	t.Parallel()
	for want, to := range map[float64]point2{0: {0, 9}, 90: {9, 0}, 180: {0, -9}, 270: {-9, 0}} {
		require.InDelta(t, want, point2{}.heading(to), 1e-9)
	}
}

// A car drives as far as its speed says, along its way, and says so.
func TestCar_MoveDrivesAlongTheWay(t *testing.T) {
	t.Parallel()
	c := &car{tick: time.Second, way: []point2{{0, 10}, {10, 10}, {10, 10}, {10, 2000}}}
	destination := func() point2 { require.Fail(t, "the car has a way"); return point2{} }
	c.move(12, destination)
	require.Equal(t, point2{2, 10}, c.at, "around the corner")
	require.InDelta(t, 90, c.heading, 1e-9)
	require.InDelta(t, math.Hypot(2, 10), c.speed, 1e-9)
	c.move(12, destination)
	require.Greater(t, c.at.y, 300.0, "out of the town it drives further")
	require.InDelta(t, 0, c.heading, 1e-9)

	c = &car{tick: time.Second, at: puertoClaro.corners[5]}
	c.move(1, func() point2 { return puertoClaro.corners[7] })
	require.NotEmpty(t, c.way)
	require.Equal(t, puertoClaro.corners[7], c.way[len(c.way)-1])
}
