// The page that Markdown writes.

package realtimegen_test

import (
	"reflect"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

// Place has the name of one of the library's types.
type Place struct {
	Street string `json:"street"`
}

type address struct {
	Ours   realtime.Place      `json:"ours"`
	Mine   []Place             `json:"mine"`
	Inside struct{ Floor int } `json:"inside"`
	Above  struct{ Roof bool } `json:"above"`
	Room   realtime.Room       `json:"room"`
}

func TestMarkdown_StructsWithOneName(t *testing.T) {
	t.Parallel()
	var page strings.Builder
	require.NoError(t, realtimegen.Markdown(&page, realtime.Catalog{
		Namespaces: []string{"/lab"}, Events: []realtime.EventDoc{{Namespace: "/lab", Event: "moved", Payload: reflect.TypeFor[address]()}},
	}))
	for _, want := range []string{
		"| `ours` | [Place](#place) |", "| `mine` | [Place2](#place2)[] or null |", "| `inside` | [Object](#object) |", "| `above` | [Object2](#object2) |",
		"| `room` | string |",
		"### Place\n\n| field | type | |\n|---|---|---|\n| `lat` |", "### Place2\n\n| field | type | |\n|---|---|---|\n| `street` |",
		"### Object\n\n| field | type | |\n|---|---|---|\n| `Floor` |", "### Object2\n\n| field | type | |\n|---|---|---|\n| `Roof` |",
	} {
		require.Contains(t, page.String(), want)
	}
	require.NotContains(t, page.String(), "### Room")
}

// The host's texts may have line breaks, as raw strings do.
func TestMarkdown_TextsWithLineBreaks(t *testing.T) {
	t.Parallel()
	type moved struct {
		Floor int `json:"floor" doc:"the number\nof the floor" null:"it is\nin the lift"`
	}
	var page strings.Builder
	require.NoError(t, realtimegen.Markdown(&page, realtime.Catalog{
		Namespaces: []string{"/lab"}, Events: []realtime.EventDoc{{
			Namespace: "/lab", Event: "moved", Payload: reflect.TypeFor[moved](), Doc: "It moved.\n# Up\n", Audience: "the people\n- inside",
		}},
	}))
	require.Contains(t, page.String(), "\nIt moved. # Up\n\nTo: the people - inside.\n")
	require.Contains(t, page.String(), "| `floor` | integer or null | the number of the floor; null: it is in the lift |\n")
}
