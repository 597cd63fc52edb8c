// What the runs found: every value of every key, by mode and peer.

package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strings"
)

// A run is a line of the results: what loadgen found.
type run struct {
	Name  string             `json:"name"`
	Label string             `json:"label"`
	OK    bool               `json:"ok"`
	Notes []string           `json:"notes"`
	V     map[string]float64 `json:"v"`
}

type results []run

func load(file string) (results, error) {
	f, err := os.Open(file)
	if err != nil {
		return nil, fmt.Errorf("no results yet: %w", err)
	}
	defer f.Close()
	var all results
	lines := bufio.NewScanner(f)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var r run
		if err := json.Unmarshal(lines.Bytes(), &r); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, r)
	}
	return all, lines.Err()
}

// failed lists the runs in which something went wrong.
func (rs results) failed() error {
	var errs []error
	for _, x := range rs {
		if !x.OK {
			errs = append(errs, fmt.Errorf("%s with %s: %s", x.Label, x.Name, strings.Join(x.Notes, "; ")))
		}
	}
	return errors.Join(errs...)
}

// noise is the greatest share of the machine that others used in a part of the run,
// in percent.
func (x run) noise() (most float64) {
	for key, v := range x.V {
		if strings.HasSuffix(key, "noise_pct") {
			most = max(most, v)
		}
	}
	return most
}

// of returns all values of a key that a peer's runs in a mode gave, of those in
// which nothing went wrong.
func (rs results) of(label, peer, key string) (values sample) {
	for _, r := range rs {
		if v, ok := r.V[key]; ok && r.OK && r.Label == label && r.Name == peer {
			values = append(values, v)
		}
	}
	return values
}

// A sample is the values that repeats gave for one thing.
type sample []float64

// median is NaN for no values.
func (s sample) median() float64 {
	if len(s) == 0 {
		return math.NaN()
	}
	sorted := slices.Sorted(slices.Values(s))
	n := len(sorted)
	return (sorted[(n-1)/2] + sorted[n/2]) / 2
}

// String shows the median and, of several values, the least and the greatest.
func (s sample) String() string {
	switch len(s) {
	case 0:
		return ""
	case 1:
		return short3(s[0])
	}
	return fmt.Sprintf("%s [%s–%s]", short3(s.median()), short3(slices.Min(s)), short3(slices.Max(s)))
}

// times are the values, each times f.
func (s sample) times(f float64) (scaled sample) {
	for _, v := range s {
		scaled = append(scaled, v*f)
	}
	return scaled
}

// over is the ratio of two medians, NaN where one is missing.
func (s sample) over(base sample) float64 {
	if base.median() == 0 {
		return math.NaN()
	}
	return s.median() / base.median()
}

// short3 shows about three digits.
func short3(v float64) string {
	switch a := math.Abs(v); {
	case a >= 10_000:
		return group(v)
	case a >= 100:
		return fmt.Sprintf("%.0f", v)
	case a >= 10:
		return fmt.Sprintf("%.1f", v)
	}
	return fmt.Sprintf("%.2f", v)
}

// group puts commas between thousands.
func group(v float64) string {
	s := fmt.Sprintf("%.0f", v)
	for i := len(s) - 3; i > 0 && s[i-1] != '-'; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
