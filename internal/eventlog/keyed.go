// Events with a key: of those with the same one only the newest is kept.

package eventlog

import "slices"

// keyed is the newest event of its key. It is in a list, in the order of the positions.
type keyed[M any] struct {
	entry[M]

	older, newer *keyed[M]
}

// keyedEvents are the newest events of their keys. One that takes the place of another costs nothing more, however
// many there are. Log.mu guards it.
type keyedEvents[M any] struct {
	all            map[string]*keyed[M]            // by key
	rooms          map[string]map[string]*keyed[M] // by room and key; "": those for every socket
	oldest, newest *keyed[M]
}

func newKeyedEvents[M any]() keyedEvents[M] {
	return keyedEvents[M]{all: map[string]*keyed[M]{}, rooms: map[string]map[string]*keyed[M]{}}
}

// add adds an event that is newer than all others, in the place of that with its key, if there is one.
func (k *keyedEvents[M]) add(e entry[M]) {
	one := k.all[e.Key]
	if one != nil && !slices.Equal(one.To.rooms(), e.To.rooms()) {
		k.remove(one)
		one = nil
	}
	if one == nil {
		one = &keyed[M]{}
		k.index(one, e)
	} else {
		k.unlink(one)
	}
	one.entry = e
	k.link(one)
}

// index adds an event to the maps.
func (k *keyedEvents[M]) index(one *keyed[M], e entry[M]) {
	k.all[e.Key] = one
	for _, r := range e.To.rooms() {
		if k.rooms[r] == nil {
			k.rooms[r] = map[string]*keyed[M]{}
		}
		k.rooms[r][e.Key] = one
	}
}

// remove removes an event.
func (k *keyedEvents[M]) remove(one *keyed[M]) {
	k.unlink(one)
	delete(k.all, one.Key)
	for _, r := range one.To.rooms() {
		if delete(k.rooms[r], one.Key); len(k.rooms[r]) == 0 {
			delete(k.rooms, r)
		}
	}
}

// link makes an event the newest one.
func (k *keyedEvents[M]) link(one *keyed[M]) {
	if one.older = k.newest; one.older == nil {
		k.oldest = one
	} else {
		one.older.newer = one
	}
	k.newest = one
}

// unlink takes an event out of the list.
func (k *keyedEvents[M]) unlink(one *keyed[M]) {
	if one.older == nil {
		k.oldest = one.newer
	} else {
		one.older.newer = one.newer
	}
	if one.newer == nil {
		k.newest = one.older
	} else {
		one.newer.older = one.older
	}
	one.older, one.newer = nil, nil
}
