// Fuzzing of entries: decoding any fields does not panic, and encoding the result again changes
// nothing.

package redisbus_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/redisbus"
)

func FuzzEntry(f *testing.F) {
	f.Add(strings.Join(redisbus.FieldsOf(event("a", 1)), "\n"))
	f.Add("name\ntest\nat\n2026-05-04T10:20:30.5+02:00\nname")
	f.Add("at\n\nname")
	f.Add("name\ntest\nat\n2026-05-04T10:20:30Z\nheader.traceparent\n00-1-2-01\nheader.\nx")
	f.Fuzz(func(t *testing.T, text string) {
		e, err := redisbus.EventOf(strings.Split(text, "\n"))
		if err != nil {
			return
		}
		again, err := redisbus.EventOf(redisbus.FieldsOf(e))
		require.NoError(t, err)
		require.True(t, again.At.Equal(e.At))
		require.Equal(t, string(e.Data), string(again.Data))
		again.At, again.Data = e.At, e.Data
		require.Equal(t, e, again)
	})
}
