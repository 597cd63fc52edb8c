// The module that TypeScript writes. e2e compiles and runs the one of the library's events.

package realtimegen_test

import (
	"os"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

type (
	page[T any] struct {
		Items []T  `json:"items"`
		Next  *int `json:"next,omitempty"`
	}
	// Ack has the name of one of the module's own types.
	Ack struct {
		Place   Place            `json:"place" doc:"ends */ here"`
		Ours    []realtime.Place `json:"ours,omitempty"`
		Inside  struct{ Floor int }
		Color   *color         `json:"color" null:"none"`
		Extra   map[string]any `json:"extra-data"` //nolint:tagliatelle // as a host may have it
		Raw     any            `json:"raw"`
		At      realtime.Time  `json:"at"`
		Numbers [][]float64    `json:"numbers,omitempty"`
	}
	// odd has fields whose names are words of a language, or of the generated code.
	odd struct {
		In      string         `json:"in"`
		Default *int           `json:"default"`
		JSON    string         `json:"json"`
		E       []color        `json:"e"`
		This    *color         `json:"this,omitempty" null:"none"`
		Self    [][]Place      `json:"self,omitempty"`
		Cost    bool           `json:"a$b"`
		Time    *realtime.Time `json:"time"`
		Value   *struct{}      `json:"value"`
		Map     map[string]any `json:"map,omitempty"`
		List    []any          `json:"list"`
	}
)

// lab is the catalog of a host with all sorts of types.
var lab = realtime.Catalog{
	Namespaces: []string{"/lab", "/lab-2", "/"},
	Refusals:   []realtime.RefusalDoc{{Code: "closed_today", Message: "Closed", Means: "It is Sunday.", Do: "wait"}},
	Events: []realtime.EventDoc{
		{Namespace: "/lab", Event: "lab:list", FromClient: true, Doc: "Lists.", Payload: reflect.TypeFor[string](), AckData: reflect.TypeFor[page[Place]](), Codes: []realtime.Code{"internal"}},
		{Namespace: "/lab", Event: "lab:raw", FromClient: true, Untyped: true},
		{Namespace: "/lab", Event: "lab:close", FromClient: true, Codes: []realtime.Code{"internal"}},
		{Namespace: "/lab", Event: "it's", Payload: reflect.TypeFor[Ack](), Doc: "One.\nOf two."},
		{Namespace: "/lab", Event: "it's", Payload: reflect.TypeFor[[]Place]()},
		{Namespace: "/lab", Event: "1st:color", Payload: reflect.TypeFor[struct{ Color color }]()},
		{Namespace: "/lab-2", Event: "nothing"},
		realtime.DescribeQuery(realtime.NewQuery[Place, page[Place]]("lab:where"), "/lab-2", "the assistant", "Where is it?", Place{"Calle 23"}, page[Place]{}),
		realtime.DescribeQuery(realtime.NewQuery[realtime.None, realtime.None]("lab:still"), "/lab-2", "the assistant", "Are you there?", realtime.None{}, realtime.None{}),
		{Namespace: "/lab-2", Event: "class", Payload: reflect.TypeFor[odd]()},
		{Namespace: "/lab-2", Event: "cost:\"$5\u0007", Payload: reflect.TypeFor[[]string]()},
	},
}

func TestTypeScript_OfAHost(t *testing.T) {
	t.Parallel()
	var b strings.Builder
	require.NoError(t, realtimegen.TypeScript(&b, lab))
	module := b.String()
	for _, want := range []string{
		"export type RefusalCode =\n  /** It is Sunday. The app is to wait. */\n  | 'closed_today';\n",
		"\nexport interface PagePlace {\n  items: Place[] | null;\n  next?: number;\n}\n",
		"\nexport interface ItSPayload {\n  /** ends * / here */\n  place: Place;\n  ours?: Place2[];\n  Inside: ItSPayloadInside;\n  /** null: none */\n  color: Color | null;\n" +
			"  'extra-data': Record<string, unknown> | null;\n  raw: unknown;\n  at: ISOTime;\n  numbers?: number[][];\n}\n",
		"\nexport interface ItSPayloadInside {\n  Floor: number;\n}\n",
		"\nexport type Color = 'red' | 'blue';\n",
		"\nexport interface N1stColorPayload {\n  Color: Color;\n}\n",
		"\nexport interface Place {\n  street: string;\n}\n",
		"export interface LabServerToClientEvents {\n  /** One. Of two. */\n",
		"  'it\\'s': (payload: ItSPayload | Place[]) => void;\n",
		"  'lab:list': (body: string, ack: (ack: Ack<PagePlace>) => void) => void;\n",
		"  'lab:raw': (...args: any[]) => void;\n",
		"  'lab:close': (ack: (ack: Ack) => void) => void;\n",
		"export interface Lab2ServerToClientEvents {\n  nothing: () => void;\n" +
			"  /**\n   * Where is it?\n   * To: the assistant.\n   */\n  'lab:where': (payload: Place, ack: (answer: PagePlace) => void) => void;\n" +
			"  /**\n   * Are you there?\n   * To: the assistant.\n   */\n  'lab:still': (payload: None, ack: () => void) => void;\n  class: (payload: Odd) => void;\n  'cost:\"$5\\u0007': (payload: string[]) => void;\n}\n",
		"  '/lab-2': Lab2ServerToClientEvents;\n  '/': RootServerToClientEvents;\n",
	} {
		require.Contains(t, module, want)
	}
	require.Equal(t, 1, strings.Count(module, "export interface Place2 {"))
}

// The helper connects again on the codes for which the table in docs/events.md says so.
func TestTypeScript_ConnectFollowsTheTable(t *testing.T) {
	t.Parallel()
	helper, err := os.ReadFile("connect.ts")
	require.NoError(t, err)
	_, body, _ := strings.Cut(string(helper), "switch (code) {")
	again, rest, _ := strings.Cut(body, "later(")
	out, refused, _ := strings.Cut(rest, "'logged_out'")
	require.Contains(t, refused, "'refused'")
	cases := func(text string) (codes []string) {
		for _, m := range regexp.MustCompile(`case '(\w+)'`).FindAllStringSubmatch(text, -1) {
			codes = append(codes, m[1])
		}
		return codes
	}
	c, err := realtimegen.Catalog(realtime.Options{})
	require.NoError(t, err)
	var wantAgain, wantOut []string
	for _, r := range c.Refusals {
		switch {
		case strings.Contains(r.Do, "connect again"):
			wantAgain = append(wantAgain, string(r.Code))
		case r.Do == "log in" || r.Do == "log out":
			wantOut = append(wantOut, string(r.Code))
		}
	}
	require.Equal(t, wantAgain, cases(again))
	require.Equal(t, wantOut, cases(out))
}
