package engineio

import (
	"strconv"
	"testing"

	"github.com/stretchr/testify/require"
)

func textOf(s string) *Message { return TextMessage(append(TextBuffer(len(s)), s...)) }

// However many messages pass through, an outbox is not larger than the messages in it,
// and an empty one holds no memory.
func TestOutbox_HoldsOnlyUnsentMessages(t *testing.T) {
	t.Parallel()
	var o outbox
	next := 0
	for i := range 100_000 {
		o.push(textOf(strconv.Itoa(i)))
		if i%1000 < 3 {
			continue // a few more messages wait
		}
		require.Equal(t, strconv.Itoa(next), string(o.first().payload()[1:]))
		o.shift()
		next++
	}
	require.Equal(t, 300, o.len())
	require.Less(t, cap(o.q.ms), 2048)
	for ; o.len() > 0; next++ {
		require.Equal(t, strconv.Itoa(next), string(o.first().payload()[1:]))
		o.shift()
	}
	require.Equal(t, 100_000, next)
	require.Nil(t, o.first())
	require.Equal(t, outbox{}, o)

	o.push(textOf("a"))
	o.clear()
	require.Equal(t, outbox{}, o)
	o.clear()
}

// A message that is put in front comes first, and those with keys are still replaced where they are.
func TestOutbox_PushFirst(t *testing.T) {
	t.Parallel()
	keyed := func(key, data string) *Message {
		m := textOf(data)
		m.Key = key
		return m
	}
	for taken := range 3 {
		var o outbox
		o.pushFirst(textOf("taken"))
		for range taken {
			o.push(textOf("taken"))
		}
		o.push(keyed("a", "old a"))
		o.push(textOf("x"))
		o.push(keyed("b", "old b"))
		for range taken + 1 {
			o.shift()
		}
		require.True(t, o.replace(keyed("a", "a")))
		o.pushFirst(textOf("2"))
		o.pushFirst(textOf("1"))
		require.True(t, o.replace(keyed("b", "b")))
		require.True(t, o.replace(keyed("a", "newer a")))
		o.push(keyed("c", "c"))
		require.True(t, o.replace(keyed("c", "newer c")))
		bytes := 0
		for _, want := range []string{"1", "2", "newer a", "x", "b", "newer c"} {
			bytes += len(textOf(want).frame)
		}
		require.Equal(t, bytes, o.bytes)
		for _, want := range []string{"1", "2", "newer a", "x", "b", "newer c"} {
			require.Equal(t, want, string(o.first().payload()[1:]))
			o.shift()
		}
		require.Equal(t, outbox{}, o)
	}
}

// A queue that goes back to the pool no longer refers to its messages.
func TestQueue_Reset(t *testing.T) {
	t.Parallel()
	var o outbox
	o.q = new(queue) // not the pool's, which another session may take
	for range 100 {
		o.push(textOf("a"))
	}
	for range 50 {
		o.shift()
	}
	o.q.reset()
	require.Zero(t, o.len())
	for _, m := range o.q.ms[:cap(o.q.ms)] {
		require.Nil(t, m)
	}
}

func TestOutbox_Replaces(t *testing.T) {
	t.Parallel()
	var o outbox
	keyed := func(key, data string) *Message {
		m := textOf(data)
		m.Key = key
		return m
	}
	require.False(t, o.replace(keyed("a", "1")))
	for _, m := range []*Message{keyed("a", "1"), textOf("2"), keyed("b", "3")} {
		require.False(t, o.replace(m))
		o.push(m)
	}
	require.True(t, o.replace(keyed("a", "longer")))
	require.True(t, o.replace(keyed("b", "")))
	require.False(t, o.replace(textOf("no key")))
	var got []string
	bytes := 0
	for m := o.first(); m != nil; m = o.first() {
		got = append(got, string(m.payload()))
		bytes += len(m.frame)
		require.Positive(t, o.bytes)
		o.shift()
	}
	require.Equal(t, []string{"4longer", "42", "4"}, got)
	require.Equal(t, 9+4+3, bytes)
	require.Zero(t, o.bytes)
}

// A message that was taken is not replaced, even if the index of keys knew it.
func TestOutbox_ReplacesNoTakenMessage(t *testing.T) {
	t.Parallel()
	keyed := func(key, data string) *Message {
		m := textOf(data)
		m.Key = key
		return m
	}
	var o outbox
	o.push(keyed("taken", "1"))
	o.push(keyed("waiting", "2"))
	require.True(t, o.replace(keyed("waiting", "3"))) // builds the index
	o.shift()
	require.False(t, o.replace(keyed("taken", "4")))
	o.push(keyed("taken", "5"))
	require.True(t, o.replace(keyed("taken", "6")))
	o.shift()
	require.Equal(t, "46", string(o.first().payload()))
}
