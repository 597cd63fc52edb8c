package realtimegen_test

import (
	"encoding/json"
	"reflect"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

type color string

func (color) Values() []string { return []string{"red", "blue"} }

type inner struct {
	Deep  int `json:"deep" doc:"meters"`
	Taken int `json:"taken"`
}

type outer struct {
	inner
	*realtime.Position
	Named  inner           `json:"named"`
	Taken  string          `json:"taken"`
	Color  color           `json:"color"`
	Colors []color         `json:"colors,omitempty"`
	Wire   realtime.Time   `json:"wire" null:"never"`
	Go     *time.Time      `json:"go"`
	Any    any             `json:"any"`
	Raw    json.RawMessage `json:"raw,omitempty"`
	Map    map[string]any  `json:"map"`
	Bytes  []byte          `json:"bytes"`
	Yes    *bool           `json:"yes,omitempty"`
	Plain  float32
	Hidden string `json:"-"`
	secret string
}

func TestFields(t *testing.T) {
	t.Parallel()
	deep := reflect.TypeFor[inner]()
	require.Equal(t, []realtimegen.Field{
		{Name: "deep", Type: "integer", Doc: "meters"},
		{Name: "lat", Type: "number", Doc: "degrees, -90 to 90"},
		{Name: "lng", Type: "number", Doc: "degrees, -180 to 180"},
		{Name: "named", Type: "inner", Struct: deep},
		{Name: "taken", Type: "string"},
		{Name: "color", Type: "string", Values: []string{"red", "blue"}, Enum: reflect.TypeFor[color]()},
		{Name: "colors", Type: "string[]", Values: []string{"red", "blue"}, Enum: reflect.TypeFor[color](), Optional: true},
		{Name: "wire", Type: "time", Nullable: true, Null: "never"},
		{Name: "go", Type: "time", Nullable: true},
		{Name: "any", Type: "any", Nullable: true},
		{Name: "raw", Type: "any", Optional: true},
		{Name: "map", Type: "object", Nullable: true},
		{Name: "bytes", Type: "string", Nullable: true},
		{Name: "yes", Type: "boolean", Optional: true},
		{Name: "Plain", Type: "number"},
	}, realtimegen.Fields(reflect.TypeFor[*outer]()))
	require.Empty(t, realtimegen.Fields(reflect.TypeFor[string]()))
	_ = outer{}.secret
}
