// The client's packet codec.

package realtimetest

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
)

func TestParse(t *testing.T) {
	t.Parallel()
	for text, want := range map[string]incoming{
		`0{"sid":"x"}`:              {kind: '0', namespace: "/", id: noID, data: json.RawMessage(`{"sid":"x"}`)},
		`0/drivers,{"sid":"x"}`:     {kind: '0', namespace: "/drivers", id: noID, data: json.RawMessage(`{"sid":"x"}`)},
		`1/drivers,`:                {kind: '1', namespace: "/drivers", id: noID},
		`1`:                         {kind: '1', namespace: "/", id: noID},
		`4/a,{"message":"no"}`:      {kind: '4', namespace: "/a", id: noID, data: json.RawMessage(`{"message":"no"}`)},
		`2/a,12["e",1]`:             {kind: '2', namespace: "/a", id: 12, event: "e", args: raw(`1`), data: json.RawMessage(`["e",1]`)},
		`33[]`:                      {kind: '3', namespace: "/", id: 3, args: raw(), data: json.RawMessage(`[]`)},
		`51-/a,["e",{"num":0}]`:     {kind: '2', namespace: "/a", id: noID, event: "e", args: raw(`{"num":0}`), attachments: 1, data: json.RawMessage(`["e",{"num":0}]`)},
		`62-/a,7[{"num":0},[true]]`: {kind: '3', namespace: "/a", id: 7, args: raw(`{"num":0}`, `[true]`), attachments: 2, data: json.RawMessage(`[{"num":0},[true]]`)},
	} {
		got, err := parse([]byte(text))
		require.NoError(t, err, text)
		require.Equal(t, want, *got, text)
	}
	for _, text := range []string{
		"", "7", "x", `2`, `2[]`, `2[1]`, `2{}`, `2["e"`, `3{}`, `5["e"]`, `5x-["e"]`, `5-["e"]`, `2["e"]x`,
		`299999999999999999999["e"]`,
	} {
		_, err := parse([]byte(text))
		require.ErrorIs(t, err, errPacket, text)
	}
}

func raw(args ...string) realtime.Raw {
	r := realtime.Raw{Args: []json.RawMessage{}}
	for _, a := range args {
		r.Args = append(r.Args, json.RawMessage(a))
	}
	return r
}

// FuzzParse checks that what parses is what it is written as again.
func FuzzParse(f *testing.F) {
	for _, text := range []string{`0{"sid":"x"}`, `2/a,12["e",1]`, `51-/a,["e",{"num":0}]`, `33[]`, `1/a,`} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		in, err := parse(b)
		if err != nil {
			return
		}
		p := message(in.kind, in.namespace, in.id, in.data, in.attachments)
		again, err := parse(p.data[1:])
		require.NoError(t, err)
		require.Equal(t, in, again)
	})
}
