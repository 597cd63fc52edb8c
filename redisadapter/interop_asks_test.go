//go:build e2e

package redisadapter_test

import (
	"context"
	"encoding/json"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/testkit"
	"github.com/rodando/realtime/redisadapter"
)

// Nodes ask each other: Go asks Go and Node, and Node asks Go. A Node server without a listener
// never answers, so the error says that a server is silent, and the others' answers are there.
func TestInterop_ServerAsks(t *testing.T) {
	eachProtocol(t, func(t *testing.T, m *mixed) {
		m.two.Realtime.Drivers().OnServerAsk("hello", func(_ context.Context, args realtime.Raw) (any, error) {
			return map[string]any{"go": args.Args}, nil
		})
		var answers []json.RawMessage
		require.NoError(t, json.Unmarshal(m.node.do("serverEmitWithAck", fields{"args": []any{"hello", 1, "ñ"}}), &answers))
		require.Equal(t, []string{"null", `{"go":[1,"ñ"]}`}, sortedTexts(answers), "of both Go nodes")

		ask := func(ctx context.Context, event string) ([]string, error) {
			got, err := m.one.Realtime.Drivers().ServerAsk(ctx, event, 2)
			var texts []json.RawMessage
			for _, a := range got {
				require.Len(t, a.Args, 1)
				texts = append(texts, a.Args[0])
			}
			return sortedTexts(texts), err
		}
		got, err := ask(t.Context(), "hello")
		require.NoError(t, err)
		require.Equal(t, []string{`"from node"`, `{"go":[2]}`}, got)
		testkit.Eventually(t, "Node's listener has the argument", func() bool { return slices.Contains(m.node.receivedBy("server"), `["hello",2]`) })

		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		got, err = ask(ctx, "unheard")
		var silent *redisadapter.SilentError
		require.ErrorAs(t, err, &silent)
		require.Equal(t, 1, silent.Others)
		require.Empty(t, silent.Nodes)
		require.Equal(t, []string{"null"}, got)
	})
}

func sortedTexts(values []json.RawMessage) []string {
	texts := make([]string, len(values))
	for i, v := range values {
		texts[i] = string(v)
	}
	slices.Sort(texts)
	return texts
}
