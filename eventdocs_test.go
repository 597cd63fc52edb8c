// The catalog of events, and the files that are generated from it.

package realtime_test

import (
	"bytes"
	"context"
	"encoding/json"
	"os"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
	"github.com/rodando/realtime/realtimetest"
)

func catalogOf(t *testing.T) realtime.Catalog { return realtimetest.NewServer(t).Realtime.Catalog() }

// The files that go generate writes are what it would write now.
func TestGeneratedFiles_AreCurrent(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		source, err := os.ReadFile("catalog.go")
		require.NoError(t, err)
		_, line, _ := strings.Cut(string(source), "\n//go:generate go run ./internal/cmd/generate ")
		line, _, _ = strings.Cut(line, "\n")
		files := strings.Fields(line)
		require.Contains(t, files, "docs/events.md")
		require.Contains(t, files, "docs/asyncapi.yaml")
		for _, client := range []string{"dart/events.dart", "kotlin/Events.kt", "swift/Events.swift", "typescript/events.ts"} {
			require.Contains(t, files, "clients/"+client)
		}
		require.NoError(t, realtimegen.CheckFiles(catalogOf(t), files...))
	})
}

// The client that the page shows connects again on the codes for which the table says so.
func TestEventsDoc_ClientFollowsTheTable(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		var page strings.Builder
		require.NoError(t, realtimegen.Markdown(&page, catalogOf(t)))
		for _, r := range catalogOf(t).Refusals {
			require.Equal(t, strings.Contains(r.Do, "connect again"), strings.Contains(page.String(), "case '"+string(r.Code)+"':"), r.Code)
		}
	})
}

// Every number in the documentation has a unit, and every value that can be null says when.
func TestCatalog_SaysUnitsAndNulls(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		counts := map[string]bool{"ratingCount": true}
		seen := map[string]bool{}
		var walk func(where string, fields []realtimegen.Field)
		walk = func(where string, fields []realtimegen.Field) {
			for _, f := range fields {
				seen[f.Name] = true
				if f.Type == "number" || f.Type == "integer" {
					require.True(t, f.Doc != "" || counts[f.Name], "%s.%s has no unit", where, f.Name)
				}
				if f.Nullable {
					require.NotEmpty(t, f.Null, "%s.%s: when is it null?", where, f.Name)
				}
				if f.Struct != nil {
					walk(where+"."+f.Name, realtimegen.Fields(f.Struct))
				}
			}
		}
		for _, d := range catalogOf(t).Events {
			require.NotEmpty(t, d.Doc, d.Event)
			require.Equal(t, d.FromClient, d.Audience == "", d.Event)
			if d.Payload != nil {
				walk(d.Event, realtimegen.Fields(d.Payload))
			}
			if d.AckData != nil {
				walk(d.Event, realtimegen.Fields(d.AckData))
			}
		}
		require.True(t, seen["ratingAvg"] && seen["token"] && seen["expiresAt"])
	})
}

// The examples have exactly the fields of their types.
func TestCatalog_ExamplesFitTheirTypes(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		check := func(event string, fields []realtimegen.Field, example json.RawMessage) {
			var got map[string]json.RawMessage
			require.NoError(t, json.Unmarshal(example, &got), event)
			for _, f := range fields {
				value, ok := got[f.Name]
				require.True(t, ok || f.Optional, "%s lacks %s", event, f.Name)
				require.True(t, f.Nullable || string(value) != "null", "%s has null as %s", event, f.Name)
				delete(got, f.Name)
			}
			require.Empty(t, got, event)
		}
		for _, d := range catalogOf(t).Events {
			if d.Payload != nil {
				check(d.Event, realtimegen.Fields(d.Payload), d.Example)
			}
			if d.AckData != nil {
				check(d.Event, realtimegen.Fields(d.AckData), d.AckExample)
			}
		}
	})
}

// The catalog has the host's own calls and the events that it emits itself.
func TestCatalog_OfAHost(t *testing.T) {
	inBubble(t, func(t *testing.T) {
		srv := realtimetest.NewServer(t)
		support, err := srv.Realtime.Namespace("/support", realtime.NamespaceOptions{})
		require.NoError(t, err)
		type question struct {
			Text string `json:"text" doc:"at most 500 characters"`
		}
		ask := realtime.NewCall[question, realtime.None]("support:ask").Documented(realtime.CallDoc[question, realtime.None]{
			Does: "Asks the support team.", Codes: []realtime.Code{realtime.CodeConflict}, In: question{"Where is my driver?"},
		})
		ask.Handle(support, func(context.Context, *realtime.Socket, question) (realtime.None, error) { return realtime.None{}, nil })
		support.HandleRaw("support:raw", func(context.Context, *realtime.Socket, realtime.Raw) (realtime.Raw, error) {
			return realtime.Raw{}, nil
		})
		c := srv.Realtime.Catalog()
		where := realtime.NewQuery[realtime.None, question]("support:where")
		c.Events = append(c.Events, realtime.DescribeQuery(where, "/support", "the passenger", "Asks where they are.", realtime.None{}, question{"Here."}))
		here := realtime.NewQuery[question, realtime.None]("support:here")
		c.Events = append(c.Events, realtime.DescribeQuery(here, "/support", "the passenger", "Asks whether they are there.", question{"Hello?"}, realtime.None{}))
		c.Events = append(c.Events, realtime.DescribeEvent(realtime.NewEvent[question]("support:said"), "/support", "the passenger", "An answer.", question{"Soon."}))

		found := map[string]realtime.EventDoc{}
		for _, d := range c.Events {
			if d.Namespace == "/support" {
				found[d.Event] = d
			}
		}
		require.Equal(t, "Asks the support team.", found["support:ask"].Doc)
		require.Equal(t, []realtime.Code{"invalid_payload", "conflict", "rate_limited", "unavailable", "internal"}, found["support:ask"].Codes)
		require.JSONEq(t, `{"text":"Where is my driver?"}`, string(found["support:ask"].Example))
		require.Nil(t, found["support:ask"].AckData)
		for _, event := range []string{"auth:refresh", "hello", "auth:session_revoked", "support:raw", "support:said"} {
			require.Contains(t, found, event)
		}
		require.NotContains(t, found, "trip:started")

		var page bytes.Buffer
		require.NoError(t, realtimegen.Markdown(&page, c))
		require.Contains(t, page.String(), "## `/support`\n\n### The app sends\n\n#### `support:ask`\n\nAsks the support team.\n\n"+
			"| field | type | |\n|---|---|---|\n| `text` | string | at most 500 characters |\n\n```json\n{\"text\": \"Where is my driver?\"}\n```\n")
		require.Contains(t, page.String(), "#### `support:where`\n\nAsks where they are.\n\nTo: the passenger.\n\nAn empty object.\n\n```json\n{}\n```\n\n"+
			"The app answers: the argument of its ack is\n\n| field | type | |\n|---|---|---|\n| `text` | string | at most 500 characters |\n\n```json\n{\"text\": \"Here.\"}\n```\n")
		require.Contains(t, page.String(), "{\"text\": \"Hello?\"}\n```\n\nThe app acknowledges it, without an argument.\n")
	})
}
