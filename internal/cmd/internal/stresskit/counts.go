// Package stresskit has what the stress programs count, find wrong and wait for.
//
// Counts: what happened in a run.
package stresskit

import (
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"
)

// Counts holds numbers by name. Its zero value has none. All methods may be called concurrently.
type Counts struct {
	mu sync.Mutex // guards n
	n  map[string]int
}

// Add adds n to a number and returns the sum.
func (c *Counts) Add(name string, n int) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setLocked(name, c.n[name]+n)
	return c.n[name]
}

// Most keeps the largest number.
func (c *Counts) Most(name string, n int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.setLocked(name, max(c.n[name], n))
}

func (c *Counts) setLocked(name string, n int) {
	if c.n == nil {
		c.n = map[string]int{}
	}
	c.n[name] = n
}

// Of returns a number.
func (c *Counts) Of(name string) int {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.n[name]
}

// Print writes them in alphabetical order, so that two runs compare.
func (c *Counts) Print(w io.Writer) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, name := range slices.Sorted(maps.Keys(c.n)) {
		fmt.Fprintf(w, "%-60s %8d\n", name, c.n[name])
	}
}
