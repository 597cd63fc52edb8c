// Conversion of arguments, compared with notepack.io's.

package wire_test

import (
	"encoding/base64"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime/redisadapter/internal/wire"
)

var limits = wire.Limits{Bytes: 1 << 20, Depth: 64, Attachments: 16}

type golden struct {
	Values, Old []struct {
		Name, Hex, JSON string
		Attachments     []string
	}
	Heads []struct {
		Unit, Hex string
		N         int
	}
	Messages []struct{ Name, Channel, Hex string }
}

func readGolden(t testing.TB) (g golden) {
	b, err := os.ReadFile("testdata/golden.json")
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal(b, &g))
	require.NotEmpty(t, g.Values)
	require.NotEmpty(t, g.Messages)
	return g
}

func unhex(t testing.TB, s string) string {
	b, err := hex.DecodeString(s)
	require.NoError(t, err)
	return string(b)
}

// one returns one argument.
func one(text string, attachments ...[]byte) wire.Args {
	return wire.Args{Values: []json.RawMessage{json.RawMessage(text)}, Attachments: attachments}
}

// packOne encodes one argument and returns it without the array head.
func packOne(t testing.TB, text string, attachments ...[]byte) string {
	b, err := wire.AppendArgs(nil, one(text, attachments...), limits)
	require.NoError(t, err)
	require.Equal(t, byte(0x91), b[0])
	return string(b[1:])
}

func TestDecodeArg_IsJSONStringifyOfNotepack(t *testing.T) {
	g := readGolden(t)
	for _, v := range append(g.Values, g.Old...) {
		t.Run(v.Name, func(t *testing.T) {
			a, err := wire.DecodeArg(unhex(t, v.Hex), limits)
			require.NoError(t, err)
			require.Len(t, a.Values, 1)
			require.JSONEq(t, v.JSON, string(a.Values[0]))
			if !strings.ContainsRune(v.JSON, '\\') { // byte for byte, numbers and the order of members included
				require.Equal(t, v.JSON, string(a.Values[0]))
			}
			require.Len(t, a.Attachments, len(v.Attachments))
			for i, text := range v.Attachments {
				b, err := base64.StdEncoding.DecodeString(text)
				require.NoError(t, err)
				require.Equal(t, b, a.Attachments[i])
			}
		})
	}
}

func TestAppendArgs_IsNotepackToTheByte(t *testing.T) {
	// Values that JSON does not have change on the way.
	lossy := regexp.MustCompile(`^(date|year|undefined|function|NaN|Infinity)`)
	for _, v := range readGolden(t).Values {
		t.Run(v.Name, func(t *testing.T) {
			var attachments [][]byte
			for _, text := range v.Attachments {
				b, err := base64.StdEncoding.DecodeString(text)
				require.NoError(t, err)
				attachments = append(attachments, b)
			}
			packed := packOne(t, v.JSON, attachments...)
			if !lossy.MatchString(v.Name) {
				require.Equal(t, v.Hex, hex.EncodeToString([]byte(packed)))
			}
			again, err := wire.DecodeArg(packed, limits)
			require.NoError(t, err)
			require.JSONEq(t, v.JSON, string(again.Values[0]))
			require.Len(t, again.Attachments, len(attachments))
			for i := range attachments {
				require.Equal(t, attachments[i], again.Attachments[i])
			}
		})
	}
}

func TestAppendArgs_LongValues(t *testing.T) {
	for _, h := range readGolden(t).Heads {
		t.Run(fmt.Sprint(h.Unit, h.N), func(t *testing.T) {
			var text string
			var attachments [][]byte
			switch h.Unit {
			case "string":
				text = `"` + strings.Repeat("x", h.N) + `"`
			case "array":
				text = "[" + strings.Repeat("1,", h.N-1) + "1]"
			case "binary":
				text, attachments = `{"_placeholder":true,"num":0}`, [][]byte{make([]byte, h.N)}
			case "object":
				var b strings.Builder
				for i := range h.N {
					fmt.Fprintf(&b, `,"k%d":1`, i)
				}
				text = "{" + b.String()[1:] + "}"
			}
			packed := packOne(t, text, attachments...)
			require.Equal(t, h.Hex, hex.EncodeToString([]byte(packed[:5])))
			a, err := wire.DecodeArg(packed, limits)
			require.NoError(t, err)
			require.Equal(t, text, string(a.Values[0]))
			require.Equal(t, attachments, a.Attachments)
		})
	}
}

func TestAppendArgs_SpellingsOfJSON(t *testing.T) {
	for text, want := range map[string]string{
		" [ 1 , { \"a\" : [ ] , \"b\" : { } } ] ": `[1,{"a":[],"b":{}}]`, //nolint:gocritic // the spaces are under test
		`1e3`:                           `1000`,
		`1.0`:                           `1`,
		`-0`:                            `0`,
		`1e-7`:                          `1e-7`,
		`1e999`:                         `null`,
		`18446744073709551615`:          `18446744073709551615`,
		`18446744073709551616`:          `18446744073709552000`,
		`-9223372036854775808`:          `-9223372036854775808`,
		`-9223372036854775809`:          `-9223372036854775808`,
		`"\u00f1\ud83d\ude95\/"`:        `"ñ🚕/"`,
		`"\ud83d"`:                      `"` + "\ufffd" + `"`,
		`{"_placeholder":true,"num":0}`: `{"_placeholder":true,"num":0}`, // without an attachment it is a plain object
		`{"b":1,"a":2,"b":3}`:           `{"b":1,"a":2,"b":3}`,
	} {
		a, err := wire.DecodeArg(packOne(t, text), limits)
		require.NoError(t, err, text)
		require.Equal(t, want, string(a.Values[0]), text)
	}
}

func TestAppendArgs_Placeholders(t *testing.T) {
	x, y := []byte("x"), []byte("y")
	a, err := wire.DecodeArg(packOne(t, `[{"num":1,"_placeholder":true},{"_placeholder":false,"num":7},{"\u005fplaceholder":true,"num":0}]`, x, y), limits)
	require.ErrorIs(t, err, wire.ErrPlaceholder) // the second stays a map with a member _placeholder
	require.Empty(t, a.Values)

	a, err = wire.DecodeArg(packOne(t, `[{"num":1,"_placeholder":true},{"\u005fplaceholder":true,"num":0}]`, x, y), limits)
	require.NoError(t, err)
	require.Equal(t, `[{"_placeholder":true,"num":0},{"_placeholder":true,"num":1}]`, string(a.Values[0]))
	require.Equal(t, [][]byte{y, x}, a.Attachments)

	for _, bad := range []string{`{"_placeholder":true,"num":2}`, `{"_placeholder":true}`, `{"_placeholder":true,"num":"0"}`, `{"_placeholder":true,"num":-1}`} {
		_, err := wire.AppendArgs(nil, one(bad, x, y), limits)
		require.ErrorIs(t, err, wire.ErrPlaceholder, bad)
	}
}

func TestAppendArgs_RefusesWhatIsNoJSON(t *testing.T) {
	for _, text := range []string{"", "{", "[1", `"`, "01", "nul", "1 2", "{1:2}", "\"\xff\""} {
		_, err := wire.AppendArgs(nil, one(text), limits)
		require.ErrorIs(t, err, wire.ErrMalformed, "%q", text)
	}
	_, err := wire.AppendArgs(nil, one(strings.Repeat("[", 65)+strings.Repeat("]", 65)), limits)
	require.ErrorIs(t, err, wire.ErrTooDeep)
}

func TestDecodeArg_RefusesTheHostile(t *testing.T) {
	for name, packed := range map[string]string{
		"nothing":                        "",
		"the byte without a meaning":     "\xc1",
		"trailing bytes":                 "\x01\x02",
		"an array that is cut":           "\x92\x01",
		"a map that is cut":              "\x81\xa1a",
		"a string that is cut":           "\xa5abc",
		"a number that is cut":           "\xcf\x00",
		"four billion elements":          "\xdd\xff\xff\xff\xff",
		"two billion pairs":              "\xdf\x7f\xff\xff\xff\x01",
		"four gigabytes":                 "\xc6\xff\xff\xff\xff",
		"an extension of four gigabytes": "\xc9\xff\xff\xff\xff\x00",
		"a key that is an array":         "\x81\x90\x01",
		"a timestamp of one byte":        "\xc7\x01\xff\x00",
	} {
		_, err := wire.DecodeArg(packed, limits)
		require.ErrorIs(t, err, wire.ErrMalformed, name)
	}
	_, err := wire.DecodeArg(strings.Repeat("\x91", 65)+"\x01", limits)
	require.ErrorIs(t, err, wire.ErrTooDeep)
	_, err = wire.DecodeArg(strings.Repeat("\x81\xa1a", 65)+"\x01", limits)
	require.ErrorIs(t, err, wire.ErrTooDeep)
	_, err = wire.DecodeArg(strings.Repeat("\x91", 1<<20), limits)
	require.ErrorIs(t, err, wire.ErrTooDeep)
	_, err = wire.DecodeArg("\xdc\x00\x11"+strings.Repeat("\xc4\x00", 17), limits)
	require.ErrorIs(t, err, wire.ErrTooLarge)
	// A map that the client would take for a placeholder.
	_, err = wire.DecodeArg("\x92\xc4\x01x\x82\xac_placeholder\xc3\xa3num\x09", limits)
	require.ErrorIs(t, err, wire.ErrPlaceholder)
}

func TestDecodeArg_RepairsText(t *testing.T) {
	a, err := wire.DecodeArg("\x81\xa2a\xff\xa3\xffb\xc3", limits)
	require.NoError(t, err)
	require.Equal(t, "{\"a\ufffd\":\"\ufffdb\ufffd\"}", string(a.Values[0]))
}

func TestDecodeArgs_TextsAreApart(t *testing.T) {
	a, err := wire.DecodeArgs("\x93\x01\x02\x03", limits)
	require.NoError(t, err)
	_ = append(a.Values[0], 'X')
	require.Equal(t, "2", string(a.Values[1]))
	empty, err := wire.DecodeArgs("\x90", limits)
	require.NoError(t, err)
	require.Empty(t, empty.Values)
}

func FuzzDecodeArgs(f *testing.F) {
	g := readGolden(f)
	for _, v := range append(g.Values, g.Old...) {
		f.Add("\x91" + unhex(f, v.Hex))
	}
	f.Fuzz(func(t *testing.T, packed string) {
		a, err := wire.DecodeArgs(packed, limits)
		if err != nil {
			return
		}
		// What was decoded can be encoded and decoded again.
		b, err := wire.AppendArgs(nil, a, wire.Limits{Bytes: 1 << 30, Depth: limits.Depth + 1, Attachments: 16})
		require.NoError(t, err)
		again, err := wire.DecodeArgs(string(b), wire.Limits{Bytes: 1 << 30, Depth: limits.Depth + 1, Attachments: 1 << 20})
		require.NoError(t, err)
		require.Equal(t, a.Attachments, again.Attachments)
		require.Len(t, again.Values, len(a.Values))
		for i := range a.Values {
			if string(a.Values[i]) == string(again.Values[i]) {
				continue
			}
			// The text of -2^63 as a float is that of no int64, but it is sent as one.
			var once, twice any
			require.NoError(t, json.Unmarshal(a.Values[i], &once))
			require.NoError(t, json.Unmarshal(again.Values[i], &twice))
			require.Equal(t, once, twice, "%s and %s", a.Values[i], again.Values[i])
		}
	})
}

func FuzzAppendArgs(f *testing.F) {
	for _, v := range readGolden(f).Values {
		f.Add([]byte(v.JSON), []byte("x"))
	}
	f.Fuzz(func(t *testing.T, text, attachment []byte) {
		b, err := wire.AppendArgs(nil, one(string(text), attachment), limits)
		if err != nil {
			return
		}
		_, err = wire.DecodeArgs(string(b), wire.Limits{Bytes: 1 << 30, Depth: limits.Depth, Attachments: 1 << 20})
		if err != nil {
			require.ErrorIs(t, err, wire.ErrPlaceholder)
		}
	})
}
