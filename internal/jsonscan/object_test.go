package jsonscan_test

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/internal/jsonscan"
)

// word is a NullSetter for strings.
type word struct{ to *string }

func (w word) SetNull() { *w.to = "null" }

func (w word) SetJSON(value []byte) bool {
	text, ok := jsonscan.String(value)
	*w.to = string(text)
	return ok
}

type object struct {
	f    float64
	pf   *float64
	pb   *bool
	s    string
	ps   *string
	word string
}

func decode(b string) (o object, err error) {
	err = jsonscan.Decode([]byte(b),
		jsonscan.Field{Name: "f", To: &o.f}, jsonscan.Field{Name: "pf", To: &o.pf}, jsonscan.Field{Name: "pb", To: &o.pb},
		jsonscan.Field{Name: "s", To: &o.s}, jsonscan.Field{Name: "ps", To: &o.ps}, jsonscan.Field{Name: "word", To: word{&o.word}})
	return o, err
}

func TestDecode(t *testing.T) {
	t.Parallel()
	for in, want := range map[string]object{
		`null`:                  {},
		` { } `:                 {},
		`{"other":{"f":[1,2]}}`: {},
		"\t{ \"f\" : 1.5e1 ,\n\"pf\":-2 , \"pb\" : true, \"s\":\"a\\\"b\", \"ps\":\"\", \"word\":\"w\" } ": {15, new(-2.0), new(true), `a"b`, new(""), "w"},
		`{"f":1,"f":2}`:            {f: 2},
		`{"F":1,"Pf":2,"ps ":"x"}`: {},
		`{"pb":false,"\u0077\u006frd":"escaped","p\u0073":"x"}`:         {pb: new(false), ps: new("x"), word: "escaped"},
		`{"f":null,"pf":null,"pb":null,"s":null,"ps":null,"word":null}`: {word: "null"},
		`{"x":"}","y":["{",{"s":"no"}],"s":"yes"}`:                      {s: "yes"},
	} {
		got, err := decode(in)
		require.NoError(t, err, in)
		require.Equal(t, want, got, in)
	}
}

func TestDecode_WrongType(t *testing.T) {
	t.Parallel()
	for in, field := range map[string]string{
		`[]`: "", `"s"`: "", `1`: "", `true`: "",
		`{"f":"1"}`: "f", `{"f":{}}`: "f", `{"f":1e999}`: "f", `{"pf":true}`: "pf", `{"pb":1}`: "pb", `{"pb":"true"}`: "pb",
		`{"s":1}`: "s", `{"s":["a"]}`: "s", `{"ps":{}}`: "ps", `{"word":1}`: "word", `{"s":1,"s":"a"}`: "s",
	} {
		_, err := decode(in)
		var wrong *json.UnmarshalTypeError
		require.ErrorAs(t, err, &wrong, in)
		require.Equal(t, field, wrong.Field, in)
		require.NotEmpty(t, err.Error())
	}
}

func TestDecode_Invalid(t *testing.T) {
	t.Parallel()
	for _, in := range []string{`{`, `{"`, `{"f`, `{"f"`, `{"f":`, `{"f":1`, `{"f":1,`, `{"f":1,}`, `{f:1}`, `{"f" 1}`, `{"x":tru}`, `{"f":1 "s":""}`, `{"x":"\q"}`} {
		_, err := decode(in)
		require.ErrorIs(t, err, jsonscan.ErrSyntax, in)
	}
}

func TestDecode_AllocatesNothing(t *testing.T) {
	body := []byte(`{"lat":23.1,"lng":-82.3,"speed":1,"more":["x"]}`)
	var lat, lng float64
	require.Zero(t, testing.AllocsPerRun(100, func() {
		if jsonscan.Decode(body, jsonscan.Field{Name: "lat", To: &lat}, jsonscan.Field{Name: "lng", To: &lng}) != nil {
			panic("not decoded")
		}
	}))
}

func TestCrowded(t *testing.T) {
	t.Parallel()
	for in, values := range map[string]int{`[1,2,3]`: 3, `{"a":1,"b":[1,2]}`: 3, `["a,b\",c",2]`: 2, `[",,,,,`: 1} {
		require.True(t, jsonscan.Crowded([]byte(in), values-1), in)
		require.False(t, jsonscan.Crowded([]byte(in), values), in)
	}
}
