// The events as a whole: nothing declared that is never sent, nothing sent that is
// not declared, and nothing in a payload that must not leave the server.

package realtime

import (
	"encoding/json"
	"go/ast"
	"go/parser"
	"go/token"
	"path/filepath"
	"reflect"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// No payload, however deep, has a field of the name.
func TestCatalog_NoPayloadHasAPhoneKey(t *testing.T) {
	t.Parallel()
	seen := map[reflect.Type]bool{}
	var walk func(reflect.Type)
	walk = func(typ reflect.Type) {
		if seen[typ] {
			return
		}
		seen[typ] = true
		switch typ.Kind() {
		case reflect.Pointer, reflect.Slice, reflect.Array, reflect.Map:
			walk(typ.Elem())
		case reflect.Struct:
			for f := range typ.Fields() {
				key, _, _ := strings.Cut(f.Tag.Get("json"), ",")
				if !f.Anonymous && f.IsExported() {
					require.False(t, strings.EqualFold(key, "phone") || strings.EqualFold(f.Name, "phone"), "%s.%s", typ, f.Name)
				}
				walk(f.Type)
			}
		}
	}
	for _, d := range everyDelivery() {
		walk(reflect.TypeOf(d.payload))
	}
	require.True(t, seen[reflect.TypeFor[DriverCard]()], "the walk goes deep")
}

func everyDelivery() []emitted {
	out := flat(locationDeliveries(testLocation(), "e1", []string{"t1"}), nil)
	for _, r := range rows() {
		out = append(out, deliveries(r.event, "e1", enveloped, TripParties{}, false, builtInNSPs)...)
	}
	return out
}

// Every descriptor is sent by some row, with its own payload, or belongs to the
// connection; and nothing else is sent.
func TestEvents_AreDeclaredAndSent(t *testing.T) {
	t.Parallel()
	type kind struct{ event, payload string }
	want := map[kind]string{}
	for _, d := range everyDelivery() {
		k := kind{d.event, reflect.TypeOf(d.payload).Name()}
		want[k] = "some row"
	}
	for _, k := range []kind{
		{"hello", "HelloPayload"},
		{"trip:sync", "TripSyncPayload"},
		{"auth:expired", "AuthExpiredPayload"},
		{"server:drain", "ServerDrainPayload"},
		{"exception", "Exception"},
	} {
		want[k] = "the connection"
	}

	files, err := filepath.Glob("events_*.go")
	require.NoError(t, err)
	declared := map[kind]string{}
	for _, file := range files {
		parsed, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments|parser.SkipObjectResolution)
		require.NoError(t, err)
		ast.Inspect(parsed, func(n ast.Node) bool {
			decl, ok := n.(*ast.GenDecl)
			if !ok || decl.Tok != token.VAR {
				return true
			}
			spec := decl.Specs[0].(*ast.ValueSpec)
			if len(spec.Values) != 1 {
				return true
			}
			call, ok := spec.Values[0].(*ast.CallExpr)
			if !ok {
				return true
			}
			if fun, ok := call.Fun.(*ast.IndexExpr); !ok || fun.X.(*ast.Ident).Name != "NewEvent" {
				return true
			}
			name, err := strconv.Unquote(call.Args[0].(*ast.BasicLit).Value)
			require.NoError(t, err)
			k := kind{name, call.Fun.(*ast.IndexExpr).Index.(*ast.Ident).Name}
			require.NotContains(t, declared, k, "declared twice")
			declared[k] = spec.Names[0].Name
			require.NotNil(t, decl.Doc, "%s says who receives it", spec.Names[0].Name)
			return true
		})
	}
	require.NotEmpty(t, declared)
	for k, variable := range declared {
		require.Contains(t, want, k, "%s is never sent", variable)
	}
	for k, who := range want {
		require.Contains(t, declared, k, "sent by %s", who)
	}
}

func TestHelloPayload_JSON(t *testing.T) {
	t.Parallel()
	for want, v := range map[string]any{
		`{"ok":true,"nsp":"/drivers","sid":"s1","userId":"u1","serverTime":"2026-05-04T10:20:30.123Z"}`: HelloPayload{true, "/drivers", "s1", "u1", Time{happened}, nil, nil},
		`{"at":"2026-05-04T10:20:30.123Z"}`: AuthExpiredPayload{Time{happened}},
		`{"reconnectAfterMs":1500}`:         ServerDrainPayload{1500},
	} {
		got, err := json.Marshal(v)
		require.NoError(t, err)
		require.JSONEq(t, want, string(got))
	}
}
