// Package chain is a doubly linked list whose elements are part of what they hold. Unlike that of
// container/list, it allocates nothing.
package chain

// Node is the place of a value in a List. It must not be copied while it is in one.
type Node[T any] struct {
	Value        T
	listed       bool
	older, newer *Node[T]
}

// List is a list in the order of Push. The zero List is empty. Its user guards it, and all of its
// nodes, with a lock.
type List[T any] struct{ oldest, newest *Node[T] }

// Oldest returns the first node, or nil if the list is empty.
func (l *List[T]) Oldest() *Node[T] { return l.oldest }

// Push adds a node, which is in no list, at the end.
func (l *List[T]) Push(n *Node[T]) {
	n.listed, n.older = true, l.newest
	if l.newest == nil {
		l.oldest = n
	} else {
		l.newest.newer = n
	}
	l.newest = n
}

// Remove removes a node, and reports whether it was in the list.
func (l *List[T]) Remove(n *Node[T]) bool {
	if !n.listed {
		return false
	}
	if n.older == nil {
		l.oldest = n.newer
	} else {
		n.older.newer = n.newer
	}
	if n.newer == nil {
		l.newest = n.older
	} else {
		n.newer.older = n.older
	}
	n.listed, n.older, n.newer = false, nil, nil
	return true
}
