// Events with a key: of those with the same one only the newest is kept.

package eventlog

import (
	"slices"

	"github.com/rodando/realtime/internal/chain"
)

// keyed is the newest event of its key.
type keyed[M any] = chain.Node[entry[M]]

// keyedEvents are the newest events of their keys. One that takes the place of another costs nothing more, however
// many there are. Log.mu guards it.
type keyedEvents[M any] struct {
	all   map[string]*keyed[M]            // by key
	rooms map[string]map[string]*keyed[M] // by room and key; "": those for every socket
	order chain.List[entry[M]]            // of the positions
}

func newKeyedEvents[M any]() keyedEvents[M] {
	return keyedEvents[M]{all: map[string]*keyed[M]{}, rooms: map[string]map[string]*keyed[M]{}}
}

// add adds an event that is newer than all others, in the place of that with its key, if there is one.
func (k *keyedEvents[M]) add(e entry[M]) {
	one := k.all[e.Key]
	switch {
	case one == nil:
		one = k.index(e)
	case !slices.Equal(one.Value.To.rooms(), e.To.rooms()):
		k.remove(one)
		one = k.index(e)
	default:
		k.order.Remove(one)
	}
	one.Value = e
	k.order.Push(one)
}

// index adds the place of an event to the maps.
func (k *keyedEvents[M]) index(e entry[M]) *keyed[M] {
	one := &keyed[M]{}
	k.all[e.Key] = one
	for _, r := range e.To.rooms() {
		if k.rooms[r] == nil {
			k.rooms[r] = map[string]*keyed[M]{}
		}
		k.rooms[r][e.Key] = one
	}
	return one
}

// remove removes an event.
func (k *keyedEvents[M]) remove(one *keyed[M]) {
	k.order.Remove(one)
	key := one.Value.Key
	delete(k.all, key)
	for _, r := range one.Value.To.rooms() {
		if delete(k.rooms[r], key); len(k.rooms[r]) == 0 {
			delete(k.rooms, r)
		}
	}
}
