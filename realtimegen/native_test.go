// The files for Dart, Kotlin and Swift. native_e2e_test.go compiles Kotlin's and parses the others.

package realtimegen_test

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

// native is a language, and how to read the text that is generated in it.
type native struct {
	extension string
	write     func(*bytes.Buffer, realtime.Catalog) error
	scalars   map[string]string // its names for JSON's types
	space     string            // begins a namespace's names of events, with %s for the identifier
	constant  *regexp.Regexp    // documentation, string literal
	enum      *regexp.Regexp    // name, body
	value     *regexp.Regexp    // a string literal in it
	object    *regexp.Regexp    // name, body
	member    *regexp.Regexp    // in that: identifier or type, in the order of idFirst
	idFirst   bool
	key       *regexp.Regexp // in that: condition, string literal; no match if the identifiers are the keys
	faults    map[string]string
}

var natives = []native{
	{
		extension: ".dart",
		write:     func(b *bytes.Buffer, c realtime.Catalog) error { return realtimegen.Dart(b, c) },
		scalars:   map[string]string{"String": "string", "DateTime": "time", "double": "number", "int": "integer", "bool": "boolean", "Map<String, dynamic>": "object", "Object?": "any"},
		space:     "abstract final class %sEvents {",
		constant:  regexp.MustCompile(`((?:  /// .*\n)+)  static const \w+ = '(.*)';`),
		enum:      regexp.MustCompile(`(?ms)^extension type const (\w+)\(String value\) \{\n(.*?)^\}`),
		value:     regexp.MustCompile(`\('(.*)'\);`),
		object:    regexp.MustCompile(`(?ms)^final class (\w+) \{\n(.*?)^\}`),
		member:    regexp.MustCompile(`(?m)^  final (.+) (\w+);$`),
		key:       regexp.MustCompile(`(?m)^        (if .* != null\) )?'([^']*)': `),
		faults: map[string]string{
			"  final String? currentTripId;": "  final String currentTripId;", "  final DateTime? lastLocationTimestamp;": "  final int? lastLocationTimestamp;",
			"        'etaMinutes': etaMinutes": "        'eta': etaMinutes", "AvailabilityReason('ON_TRIP')": "AvailabilityReason('TRIP')",
			"Payload: TripStatusPayload.": "Payload: TripTransitionPayload.", "'trip:started'": "'trip:start'",
		},
	},
	{
		extension: ".kt",
		write:     func(b *bytes.Buffer, c realtime.Catalog) error { return realtimegen.Kotlin(b, c) },
		scalars:   map[string]string{"String": "string", "ISOTime": "time", "Double": "number", "Long": "integer", "Boolean": "boolean", "JSONObject": "object", "Any": "any"},
		space:     "object %sEvents {",
		constant:  regexp.MustCompile(`    /\*\*((?s:[^/]|[^*]/)*)\*/\n    const val \w+ = "(.*)"`),
		enum:      regexp.MustCompile(`(?ms)^data class (\w+)\(val value: String\) \{\n(.*?)^\}`),
		value:     regexp.MustCompile(`\("(.*)"\)`),
		object:    regexp.MustCompile(`(?ms)^data class (\w+)\(\n(.*?)^\}`),
		member:    regexp.MustCompile("(?m)^    val (`?\\w+`?): (.+?)(?: = null)?,?$"),
		idFirst:   true,
		key:       regexp.MustCompile(`(?m)^        (if .*)?json\.put\("([^"]*)", `),
		faults: map[string]string{
			"    val currentTripId: String? = null": "    val currentTripId: String", "    val lastLocationTimestamp: ISOTime?": "    val lastLocationTimestamp: Long?",
			"json.put(\"etaMinutes\"": "json.put(\"eta\"", "AvailabilityReason(\"ON_TRIP\")": "AvailabilityReason(\"TRIP\")",
			"Payload: TripStatusPayload.": "Payload: TripTransitionPayload.", "\"trip:started\"": "\"trip:start\"",
		},
	},
	{
		extension: ".swift",
		write:     func(b *bytes.Buffer, c realtime.Catalog) error { return realtimegen.Swift(b, c) },
		scalars:   map[string]string{"String": "string", "ISOTime": "time", "Double": "number", "Int": "integer", "Bool": "boolean", "[String: JSONValue]": "object", "JSONValue": "any"},
		space:     "public enum %sEvents {",
		constant:  regexp.MustCompile("((?:    /// .*\n)+)    public static let `?\\w+`? = \"(.*)\""),
		enum:      regexp.MustCompile(`(?ms)^public struct (\w+): RawRepresentable, Codable, Hashable, Sendable \{\n(.*?)^\}`),
		value:     regexp.MustCompile(`\(rawValue: "(.*)"\)`),
		object:    regexp.MustCompile(`(?ms)^public struct (\w+): Codable, Hashable, Sendable \{\n(.*?)^\}`),
		member:    regexp.MustCompile("(?m)^    public var (`?\\w+`?): (.+)$"),
		idFirst:   true,
		key:       regexp.MustCompile("(?m)^        case ()`?\\w+`? = \"(.*)\""),
		faults: map[string]string{
			"    public var currentTripId: String?": "    public var currentTripId: String", "    public var lastLocationTimestamp: ISOTime?": "    public var lastLocationTimestamp: Int?",
			"    public var etaMinutes": "    public var eta", "AvailabilityReason(rawValue: \"ON_TRIP\")": "AvailabilityReason(rawValue: \"TRIP\")",
			"Payload: TripStatusPayload.": "Payload: TripTransitionPayload.", "\"trip:started\"": "\"trip:start\"",
		},
	},
}

// code is what a generated text says of the events.
type code struct {
	native
	payloads map[[2]string][2]string // by namespace and event: the types of the payload and of the ack's data
	enums    map[string][]string
	objects  map[string][]attribute
}

type attribute struct {
	key, typ string
	nullable bool
}

var carried = regexp.MustCompile(`Payload: ([^.]+)\.(?: The ack's data: ([^.]+)\.)?`)

// read reads a generated text.
func (n native) read(text string, c realtime.Catalog) code {
	r := code{native: n, payloads: map[[2]string][2]string{}, enums: map[string][]string{}, objects: map[string][]attribute{}}
	for _, ns := range c.Namespaces {
		ident := strings.ToUpper(ns[1:2]) + ns[2:]
		_, space, _ := strings.Cut(text, fmt.Sprintf(n.space, ident))
		space, _, _ = strings.Cut(space, "\n}")
		for _, m := range n.constant.FindAllStringSubmatch(space, -1) {
			types := carried.FindStringSubmatch(m[1])
			r.payloads[[2]string{ns, m[2]}] = [2]string{types[1], types[2]}
		}
	}
	for _, m := range n.enum.FindAllStringSubmatch(text, -1) {
		for _, v := range n.value.FindAllStringSubmatch(m[2], -1) {
			r.enums[m[1]] = append(r.enums[m[1]], v[1])
		}
	}
	for _, m := range n.object.FindAllStringSubmatch(text, -1) {
		keys := n.key.FindAllStringSubmatch(m[2], -1)
		for i, f := range n.member.FindAllStringSubmatch(m[2], -1) {
			ident, typ := f[2], f[1]
			if n.idFirst {
				ident, typ = f[1], f[2]
			}
			a := attribute{key: ident, typ: typ}
			if len(keys) > 0 {
				a.key = keys[i][2]
			}
			if n.scalars[typ] == "" {
				a.typ, a.nullable = strings.CutSuffix(typ, "?")
			}
			if inner, twice := strings.CutPrefix(a.typ, "OrNull<"); twice {
				a.typ = strings.TrimSuffix(inner, ">")
			}
			r.objects[m[1]] = append(r.objects[m[1]], a)
		}
	}
	return r
}

// check returns an error if the type's code does not read a value of an example.
func (r code) check(at, typ string, v any) error {
	for _, list := range [][2]string{{"List<", ">"}, {"[", "]"}} {
		element, isList := strings.CutPrefix(typ, list[0])
		if !isList || r.scalars[typ] != "" {
			continue
		}
		all, ok := v.([]any)
		if !ok {
			return fmt.Errorf("%s: %v is no list", at, v)
		}
		var errs []error
		for _, e := range all {
			errs = append(errs, r.check(at, strings.TrimSuffix(element, list[1]), e))
		}
		return errors.Join(errs...)
	}
	ok := false
	switch r.scalars[typ] {
	case "":
		if values, isEnum := r.enums[typ]; isEnum {
			text, isText := v.(string)
			ok = isText && slices.Contains(values, text)
			break
		}
		return r.checkObject(at, typ, v)
	case "string":
		_, ok = v.(string)
	case "time":
		text, _ := v.(string)
		_, err := time.Parse(time.RFC3339, text)
		ok = err == nil
	case "number":
		_, ok = v.(float64)
	case "integer":
		number, isNumber := v.(float64)
		ok = isNumber && number == float64(int64(number))
	case "boolean":
		_, ok = v.(bool)
	case "object":
		_, ok = v.(map[string]any)
	case "any":
		ok = true
	}
	if !ok {
		return fmt.Errorf("%s: %v is no %s", at, v, typ)
	}
	return nil
}

func (r code) checkObject(at, typ string, v any) error {
	attributes, known := r.objects[typ]
	if !known {
		return fmt.Errorf("%s: no type %s", at, typ)
	}
	members, ok := v.(map[string]any)
	if !ok {
		return fmt.Errorf("%s: %v is no object", at, v)
	}
	var errs []error
	left := len(members)
	for _, a := range attributes {
		switch value, there := members[a.key]; {
		case !there && !a.nullable:
			errs = append(errs, fmt.Errorf("%s.%s: must be there", at, a.key))
		case !there:
		case value == nil && !a.nullable:
			errs = append(errs, fmt.Errorf("%s.%s: is never null", at, a.key))
		default:
			left--
			if value != nil {
				errs = append(errs, r.check(at+"."+a.key, a.typ, value))
			}
		}
	}
	if left > 0 {
		errs = append(errs, fmt.Errorf("%s: %s lacks some of %v", at, typ, v))
	}
	return errors.Join(errs...)
}

// checkCatalog returns an error if the code does not know an event or does not read its example, or if a
// field may be null in one of them only.
func (r code) checkCatalog(c realtime.Catalog) error {
	var errs []error
	example := func(at, typ string, text json.RawMessage) {
		var v any
		switch err := json.Unmarshal(text, &v); {
		case len(text) == 0 && typ != "none":
			errs = append(errs, fmt.Errorf("%s: a %s, but no example", at, typ))
		case len(text) == 0:
		case err != nil:
			errs = append(errs, err)
		default:
			errs = append(errs, r.check(at, typ, v))
		}
	}
	for _, d := range c.Events {
		types, known := r.payloads[[2]string{d.Namespace, d.Event}]
		if !known {
			errs = append(errs, fmt.Errorf("%s %s: no such event", d.Namespace, d.Event))
			continue
		}
		example(d.Namespace+" "+d.Event, types[0], d.Example)
		errs = append(errs, r.checkFields(d.Event, types[0], fieldsOf(d.Payload)))
		if d.FromClient {
			example(d.Namespace+" "+d.Event+" ack", types[1], d.AckExample)
			errs = append(errs, r.checkFields(d.Event, types[1], fieldsOf(d.AckData)))
		}
	}
	return errors.Join(errs...)
}

func (r code) checkFields(at, typ string, fields []realtimegen.Field) error {
	var errs []error
	if len(fields) != len(r.objects[typ]) {
		return fmt.Errorf("%s: %s has %d fields, not %d", at, typ, len(r.objects[typ]), len(fields))
	}
	for i, f := range fields {
		a := r.objects[typ][i]
		if a.key != f.Name || a.nullable != (f.Nullable || f.Optional) {
			errs = append(errs, fmt.Errorf("%s: %+v is not %+v", at, a, f))
		}
		if f.Values != nil && !slices.Equal(r.enums[a.typ], f.Values) {
			errs = append(errs, fmt.Errorf("%s: %s has other values", at, a.typ))
		}
		if f.Struct != nil && !strings.HasSuffix(f.Type, "[]") {
			errs = append(errs, r.checkFields(at+"."+f.Name, a.typ, realtimegen.Fields(f.Struct)))
		}
	}
	return errors.Join(errs...)
}

func fieldsOf(t reflect.Type) []realtimegen.Field {
	if t == nil {
		return nil
	}
	return realtimegen.Fields(t)
}

// Every payload in docs/events.md is one that the clients' code reads.
func TestNative_PayloadsAreThoseOfTheRegistry(t *testing.T) {
	t.Parallel()
	c, err := realtimegen.Catalog(realtime.Options{})
	require.NoError(t, err)
	for _, n := range natives {
		text := n.text(t, c)
		require.NoError(t, n.read(text, c).checkCatalog(c), n.extension)

		// The same check finds a change of a name, of a type, of nullability, of a value.
		for old, change := range n.faults {
			require.Contains(t, text, old, n.extension)
			require.Error(t, n.read(strings.Replace(text, old, change, 1), c).checkCatalog(c), "%s: %s", n.extension, change)
		}
	}
}

func (n native) text(t *testing.T, c realtime.Catalog) string {
	t.Helper()
	var b bytes.Buffer
	require.NoError(t, n.write(&b, c))
	return b.String()
}

// A host's types may have any names, and be of any kind.
func TestNative_OfAHost(t *testing.T) {
	t.Parallel()
	want := map[string][]string{
		".dart": {
			"/// The names of the events in `/lab-2`.\nabstract final class Lab2Events {\n  static const namespace = '/lab-2';\n",
			"  /// The app sends it. Payload: String. The ack's data: PagePlace.\n  /// Lists.\n  /// May fail with internal.\n  static const labList = 'lab:list';\n",
			"  /// The app sends it.\n  static const labRaw = 'lab:raw';\n",
			"  /// The server sends it. Payload: ItSPayload or List<Place>.\n  /// One. Of two.\n  static const itS = 'it\\'s';\n",
			"  static const class_ = 'class';\n", "  static const cost5 = 'cost:\"\\$5\\u{7}';\n", "  static const n1stColor = '1st:color';\n",
			"  /// It is Sunday.\n  /// The app is to wait.\n  static const closedToday = 'closed_today';\n",
			"  /// The server sends it. Payload: Place. The app answers; its ack's argument: PagePlace.\n  /// Where is it?\n  /// To: the assistant.\n  static const labWhere = 'lab:where';\n",
			"  /// The server sends it. Payload: None. The app answers; its ack's argument: none.\n",
			"extension type const Color(String value) {\n  static const red = Color('red');\n  static const blue = Color('blue');\n}\n",
			"        in_: json['in'] as String,\n        default_: json['default'] == null ? null : (json['default'] as num).toInt(),\n        json: json['json'] as String,\n" +
				"        e_: json['e'] == null ? null : [for (final e in json['e'] as List) Color(e as String)],\n" +
				"        this_: !json.containsKey('this') ? null : OrNull(json['this'] == null ? null : Color(json['this'] as String)),\n" +
				"        self: json['self'] == null ? null : [for (final e in json['self'] as List) [for (final ee in e as List) Place.fromJson(ee)]],\n",
			"        'in': in_,\n        'default': default_,\n        'json': json,\n        'e': e_ == null ? null : [for (final e in e_!) e.value],\n" +
				"        if (this_ != null) 'this': this_!.value == null ? null : this_!.value!.value,\n" +
				"        if (self != null) 'self': [for (final e in self!) [for (final ee in e) ee.toJson()]],\n        'a\\$b': aB,\n" +
				"        'time': time == null ? null : time!.toUtc().toIso8601String(),\n",
			"  final OrNull<Color>? this_;\n", "  final List<Object?>? list;\n", "final class OddValue {\n  const OddValue();\n",
		},
		".kt": {
			"/** The names of the events in `/`. */\nobject RootEvents {\n    const val NAMESPACE = \"/\"\n}\n",
			"    /**\n     * The server sends it. Payload: ItSPayload or List<Place>.\n     * One. Of two.\n     */\n    const val IT_S = \"it's\"\n",
			"    const val N1ST_COLOR = \"1st:color\"\n", "    const val CLASS = \"class\"\n", "    const val COST_5 = \"cost:\\\"\\$5\\u0007\"\n",
			"    /** ends * / here */\n    val place: Place,\n    val ours: List<Place2>? = null,\n",
			"data class Color(val value: String) {\n    companion object {\n        val RED = Color(\"red\")\n        val BLUE = Color(\"blue\")\n    }\n}\n",
			"    val `in`: String,\n    val default: Long? = null,\n    val json: String,\n    val e: List<Color>? = null,\n    /** null: none */\n    val `this`: OrNull<Color>? = null,\n",
			"        if (this.`this` != null) json.put(\"this\", if (this.`this`.value == null) JSONObject.NULL else this.`this`.value.value)\n",
			"        if (this.self != null) json.put(\"self\", JSONArray(this.self.map { e -> JSONArray(e.map { ee -> ee.toJson() }) }))\n        json.put(\"a\\$b\", this.aB)\n",
			"            `this` = if (!json.has(\"this\")) null else OrNull(if (json.isNull(\"this\")) null else Color(json.getString(\"this\"))),\n",
			"json.getJSONArray(\"self\").let { a -> List(a.length()) { i -> a.getJSONArray(i).let { aa -> List(aa.length()) { ii -> Place.fromJson(aa.getJSONObject(ii)) } } } },\n",
			"class OddValue {\n    fun toJson(): JSONObject = JSONObject()\n",
		},
		".swift": {
			"/// The names of the events in `/lab`.\npublic enum LabEvents {\n    public static let namespace = \"/lab\"\n",
			"    /// The app sends it. Payload: none. The ack's data: none.\n    /// May fail with internal.\n    public static let labClose = \"lab:close\"\n",
			"    public static let `class` = \"class\"\n", "    public static let cost5 = \"cost:\\\"$5\\u{7}\"\n",
			"    public static let red = Color(rawValue: \"red\")\n",
			"    public var `in`: String\n    public var `default`: Int?\n    public var json: String\n    public var e: [Color]?\n    /// null: none\n    public var this: OrNull<Color>?\n    public var self_: [[Place]]?\n",
			"    public var map: [String: JSONValue]?\n    public var list: [JSONValue]?\n", "        self.`in` = `in`\n", "        case `in` = \"in\"\n", "        case self_ = \"self\"\n        case aB = \"a$b\"\n",
		},
	}
	for _, n := range natives {
		text := n.text(t, lab)
		for _, w := range want[n.extension] {
			require.Contains(t, text, w)
		}
		require.NotContains(t, text, "class Color2")
	}
}

// A type does not get a name of the language, or of the generated code.
func TestNative_NamesThatAreTaken(t *testing.T) {
	t.Parallel()
	type (
		Error     struct{ Text string }
		LabEvents struct{ Count int }
	)
	c := realtime.Catalog{Namespaces: []string{"/lab"}, Events: []realtime.EventDoc{
		{Namespace: "/lab", Event: "lab:failed", Payload: reflect.TypeFor[Error]()},
		{Namespace: "/lab", Event: "lab:counted", Payload: reflect.TypeFor[LabEvents]()},
	}}
	for _, n := range natives {
		objects := n.read(n.text(t, c), c).objects
		require.Equal(t, "Text", objects["LabFailedPayload"][0].key)
		require.Equal(t, "Count", objects["LabCountedPayload"][0].key)
		require.NotContains(t, objects, "Error")
		require.NotContains(t, objects, "LabEvents")
	}
}
