// Breaches: what an oracle has found wrong.

package stresskit

import "strings"

const (
	// maxBreaches is how many breaches are kept in words, and maxAlike how many that
	// begin alike; the others are counted.
	maxBreaches = 60
	maxAlike    = 4
)

// Breaches counts what an oracle has found wrong, and keeps the first of each kind. Its zero value has
// none. It is not for concurrent use.
type Breaches struct {
	Count int
	First []string

	alike map[string]int // how many begin so
}

// Add counts a breach. It keeps its text, and what context returns, unless there are enough.
func (b *Breaches) Add(text string, context func(text string) string) {
	b.Count++
	if b.alike == nil {
		b.alike = map[string]int{}
	}
	kind := beginning(text)
	if b.alike[kind]++; b.alike[kind] > maxAlike || len(b.First) >= maxBreaches {
		return
	}
	if context != nil {
		text = context(text)
	}
	b.First = append(b.First, text)
}

// beginning returns a breach's text without its numbers and ids, to count similar ones.
func beginning(text string) string {
	words := strings.Fields(strings.Map(func(r rune) rune {
		if r >= '0' && r <= '9' {
			return -1
		}
		return r
	}, text))
	return strings.Join(words[:min(8, len(words))], " ")
}
