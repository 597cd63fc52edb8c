//go:build unix

// Counts: what happened in a run.

package main

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// counts holds numbers by name. All methods may be called concurrently.
type counts struct {
	mu sync.Mutex
	n  map[string]int
}

func newCounts() *counts { return &counts{n: map[string]int{}} }

// add adds n to a number and returns the sum.
func (c *counts) add(name string, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] += n
	return c.n[name]
}

// most keeps the largest number.
func (c *counts) most(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.n[name] = max(c.n[name], n)
}

// print writes them in alphabetical order, so that two runs compare.
func (c *counts) print(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(w, "%-44s %8d\n", name, c.n[name])
	}
}
