// Exports for the external tests.

package triptable

// SetMaxLearned sets what is MaxLearned otherwise.
func (t *Table) SetMaxLearned(n int) { t.maxLearned = n }
