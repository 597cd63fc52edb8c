// The documentation of Options says what the code does.

package realtime

import (
	"go/ast"
	"go/parser"
	"go/token"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// optionComments returns the comment of every field of the groups of Options, by group and
// field.
func optionComments(t *testing.T) map[string]string {
	t.Helper()
	comments := map[string]string{}
	for _, file := range []string{"options.go", "options_limits.go"} {
		f, err := parser.ParseFile(token.NewFileSet(), file, nil, parser.ParseComments)
		require.NoError(t, err)
		addOptionComments(t, f, comments)
	}
	return comments
}

func addOptionComments(t *testing.T, f *ast.File, comments map[string]string) {
	t.Helper()
	ast.Inspect(f, func(n ast.Node) bool {
		spec, ok := n.(*ast.TypeSpec)
		if !ok {
			return true
		}
		if s, ok := spec.Type.(*ast.StructType); ok && spec.Name.Name != "Rate" {
			for _, field := range s.Fields.List {
				require.Len(t, field.Names, 1, "%s: each field has a comment of its own", spec.Name)
				comments[spec.Name.Name+"."+field.Names[0].Name] = strings.Join(strings.Fields(field.Doc.Text()), " ")
			}
		}
		return true
	})
}

// grouped writes a number with commas from 10,000 on, as the documentation does.
func grouped(n int) string {
	if n < 0 {
		return "no limit"
	}
	s := strconv.Itoa(n)
	if n < 10_000 {
		return s
	}
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}

func seconds(d time.Duration) string { return strconv.Itoa(int(d.Seconds())) + " s" }

func perSecond(r Rate) string {
	if r.PerSecond < 0 {
		return "no limit"
	}
	return strconv.FormatFloat(r.PerSecond, 'g', -1, 64) + " a second, " + strconv.Itoa(r.Burst) + " at once"
}

// limitUnits is what each number of Limits counts; a size is in bytes.
var limitUnits = map[string]string{
	"MaxPayload": "bytes", "AttachmentBytes": "bytes",
	"PacketsPerBody":       "packets",
	"Attachments":          "attachments",
	"EventName":            "bytes",
	"Depth":                "levels",
	"Values":               "values",
	"QueuedEvents":         "events",
	"OutboxBytes":          "bytes",
	"OutboxMessages":       "messages",
	"RoomsPerSocket":       "rooms",
	"Namespaces":           "namespaces",
	"PendingAcks":          "emits",
	"Handlers":             "calls",
	"HandlersPerEvent":     "calls",
	"RememberedEvents":     "ids",
	"RememberedCalls":      "acks",
	"RememberedCallBytes":  "bytes",
	"RepoConcurrency":      "calls",
	"DrainRate":            "connections a second",
	"Connections":          "connections",
	"ConnectionsPerIP":     "connections",
	"Unauthenticated":      "connections",
	"UnauthenticatedPerIP": "connections",
	"SocketsPerUser":       "sockets",
}

// Every comment ends with the default, that of the table, and says what else the table
// says: the least value, and that a negative one has a meaning.
func TestOptions_CommentsSayTheDefaults(t *testing.T) {
	t.Parallel()
	comments, o := optionComments(t), &Options{}
	seen := 0
	says := func(name, fallback string, least int, negative bool) {
		comment := comments[name]
		require.True(t, strings.HasSuffix(comment, " Defaults to "+fallback+"."), "%s: %q does not end with the default, %s", name, comment, fallback)
		require.Equal(t, least > 1, strings.Contains(comment, "at least"), "%s: %q", name, comment)
		if least > 1 {
			require.Contains(t, comment, grouped(least), name)
		}
		require.Equal(t, negative, strings.Contains(comment, "Negative: "), "%s: %q", name, comment)
		seen++
	}
	for _, s := range o.Timeouts.settings() {
		require.Equal(t, time.Millisecond, s.least, s.name)
		says("Timeouts."+s.name, seconds(s.fallback), 1, s.negative)
	}
	for _, s := range o.Limits.settings() {
		unit := limitUnits[s.name]
		require.NotEmpty(t, unit, s.name)
		fallback := grouped(s.fallback)
		if s.fallback > 0 {
			fallback += " " + unit
		}
		says("Limits."+s.name, fallback, s.least, s.negative)
		if s.least > 1 {
			require.Contains(t, comments["Limits."+s.name], "at least "+grouped(s.least)+" "+unit, s.name)
		}
	}
	for _, s := range o.Rates.settings() {
		says("Rates."+s.name, perSecond(s.fallback), 1, false)
	}
	for name, comment := range comments {
		if strings.HasSuffix(comment, "Required.") || strings.HasPrefix(name, "Options.") && strings.Contains(comment, "Required; ") {
			continue
		}
		last := comment[strings.LastIndex(comment, ". ")+1:]
		require.Regexp(t, "Defaults to |Each field has its own default|^$", last, "%s: the default is the last sentence of %q", name, comment)
	}
	rates, timeouts := 7, 17
	require.Equal(t, timeouts+len(o.Limits.settings())+rates, seen)
	for group, n := range map[string]int{"Timeouts": timeouts, "Limits": len(o.Limits.settings()) + 1, "Rates": rates + 1} { // RefuseExtraSockets, Events
		fields := 0
		for name := range comments {
			if strings.HasPrefix(name, group+".") {
				fields++
			}
		}
		require.Equal(t, n, fields, "a field of %s is not in its table", group)
	}
}

// The table of docs/limits.md says what a server does that is configured with nothing.
func TestOptions_PageSaysTheDefaults(t *testing.T) {
	t.Parallel()
	page, err := os.ReadFile("docs/limits.md")
	require.NoError(t, err)
	o := Options{}.defaults()
	l, r := o.Limits, o.Rates
	for what, is := range map[string]string{
		"a message or a polling body": strconv.Itoa(l.MaxPayload/1e6) + " MB",
		"packets in a polling body":   grouped(l.PacketsPerBody),
		"values, depth, name, number of attachments and their bytes together, of an event": grouped(l.Values) + ", " + grouped(l.Depth) + ", " +
			grouped(l.EventName) + " bytes, " + grouped(l.Attachments) + ", " + strconv.Itoa(l.AttachmentBytes/1e6) + " MB",
		"a driver's positions":                     perSecond(r.Location),
		"every other event, each event separately": perSecond(r.Event),
		"`admin:trip:join`, `admin:trip:leave`":    perSecond(Rate{r.Event.PerSecond, l.RoomsPerSocket}) + ", for up to " + grouped(l.RoomsPerSocket) + " trips of a socket",
		"`auth:refresh`":                           "one in " + strconv.Itoa(int(1/refreshRate.PerSecond)) + " seconds, " + strconv.Itoa(refreshRate.Burst) + " at once",
		"all events of a user on a node":           perSecond(r.User),
		"refused events":                           perSecond(r.Breach),
		"a handler, or `OnConnect`":                seconds(o.Timeouts.Handler) + " until its `ctx` ends",
		"acks that are remembered for an `idempotencyKey`, for 2 minutes": grouped(l.RememberedCalls) + " of a user, " + strconv.Itoa(l.RememberedCallBytes>>20) + " MiB of all, " +
			strconv.Itoa(l.RememberedCallBytes/shareOfUser>>20) + " MiB of a user",
		"unsent messages to a client":                    strconv.Itoa(l.OutboxBytes>>20) + " MiB, " + grouped(l.OutboxMessages) + " messages",
		"sockets of a user in a namespace, on all nodes": grouped(l.SocketsPerUser),
		"CONNECTs of a connection":                       perSecond(r.Connect),
		"connections of one address":                     grouped(l.ConnectionsPerIP) + "; " + grouped(l.UnauthenticatedPerIP) + " not logged in",
		"new connections of one address":                 perSecond(r.Handshake) + "; " + perSecond(r.Unauthenticated) + ", that do not log in",
		"all connections":                                grouped(l.Connections) + "; " + grouped(l.Unauthenticated) + " not logged in",
	} {
		require.Contains(t, string(page), "| "+what+" | "+is+" |")
	}
}

// The least name is that of the longest event that a client of the contract sends.
func TestOptions_LeastEventName(t *testing.T) {
	t.Parallel()
	rt, err := New(Options{Tokens: &startupBus{}, Users: &startupBus{}, Sessions: &startupBus{}})
	require.NoError(t, err)
	defer func() { require.NoError(t, rt.Shutdown(t.Context())) }()
	longest := 0
	for _, e := range rt.Catalog().Events {
		if e.FromClient {
			longest = max(longest, len(e.Event))
		}
	}
	for _, s := range (&Limits{}).settings() {
		if s.name == "EventName" {
			require.Equal(t, longest, s.least)
		}
	}
}
