//go:build e2e

// The generated code in the hands of the languages' own tools: Debian's Kotlin compiles and runs it; Debian has
// no Dart and no Swift, so their files are parsed. Run by e2e/run, after it has installed the packages from npm.

package realtimegen_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

// clientJava has the signatures of socket.io-client-java 2.1.2 that docs/clients.md uses. Kotlin reads sources of Java.
var clientJava = map[string]string{
	"io/socket/emitter/Emitter.java": `package io.socket.emitter;
public class Emitter {
	public interface Listener { void call(Object... args); }
	public Emitter on(String event, Listener fn) { return this; }
	public Emitter emit(String event, Object... args) { return this; }
}`,
	"io/socket/client/Ack.java": `package io.socket.client;
public interface Ack { void call(Object... args); }`,
	"io/socket/client/AckWithTimeout.java": `package io.socket.client;
public abstract class AckWithTimeout implements Ack {
	public AckWithTimeout(long timeout) {}
	public final void call(Object... args) {}
	public abstract void onSuccess(Object... args);
	public abstract void onTimeout();
}`,
	"io/socket/client/Socket.java": `package io.socket.client;
public class Socket extends io.socket.emitter.Emitter {
	public static final String EVENT_CONNECT = "connect", EVENT_DISCONNECT = "disconnect", EVENT_CONNECT_ERROR = "connect_error";
	public io.socket.emitter.Emitter emit(String event, Object[] args, Ack ack) { return this; }
	public Socket connect() { return this; }
	public Socket disconnect() { return this; }
	public boolean connected() { return false; }
	public Manager io() { return null; }
}`,
	"io/socket/client/Manager.java": `package io.socket.client;
public class Manager extends io.socket.emitter.Emitter {
	public static class Options extends io.socket.engineio.client.Socket.Options { public java.util.Map<String, String> auth; }
	public Manager reconnectionDelay(long v) { return this; }
	public Manager reconnectionDelayMax(long v) { return this; }
}`,
	"io/socket/client/IO.java": `package io.socket.client;
public class IO {
	public static class Options extends Manager.Options {}
	public static Socket socket(String uri, Options opts) throws java.net.URISyntaxException { return null; }
}`,
	"io/socket/engineio/client/Socket.java": `package io.socket.engineio.client;
public class Socket extends io.socket.emitter.Emitter {
	public static class Options { public String[] transports; }
}`,
	"io/socket/engineio/client/transports/WebSocket.java": `package io.socket.engineio.client.transports;
public class WebSocket { public static final String NAME = "websocket"; }`,
}

// appKt is what is an app's own in docs/clients.md.
const appKt = `class App {
    fun freshToken(): String = "token"
    fun renewIn(): Long = 60_000
    fun loadState() = Unit
    fun logOut() = Unit
}
`

const (
	orgJSON      = "/usr/share/java/com.android.json.jar" // Debian's libandroid-json-java
	kotlinStdlib = "/usr/share/java/kotlin-stdlib.jar"
)

func run(t *testing.T, stdin string, name string, args ...string) string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), name, args...)
	var out, errs bytes.Buffer
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(stdin), &out, &errs
	require.NoError(t, cmd.Run(), "%s: %s%s", name, &out, &errs)
	return out.String()
}

// mainKt writes what each type makes of a JSON text. %s are its cases.
const mainKt = `package check

import org.json.JSONObject

fun main() {
    for (line in generateSequence(::readLine)) {
        val json = JSONObject(line.substringAfter('\t'))
        println(when (line.substringBefore('\t')) {
%s            else -> "no such type"
        })
    }
}
`

// The code compiles without a warning, and what it reads it writes again: every example of
// docs/events.md, and the types of a host. So does the code in docs/clients.md.
func TestKotlin_ReadsAndWritesTheExamples(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	library, err := realtimegen.Catalog(realtime.Options{})
	require.NoError(t, err)
	kotlin := natives[1]
	events := kotlin.text(t, library)

	var types, texts []string
	add := func(typ, text string) { types, texts = append(types, typ), append(texts, text) }
	read := kotlin.read(events, library)
	for _, d := range library.Events {
		carried := read.payloads[[2]string{d.Namespace, d.Event}]
		for typ, example := range map[string]json.RawMessage{carried[0]: d.Example, carried[1]: d.AckExample} {
			if len(example) > 0 {
				add("realtime."+typ, string(example))
			}
		}
	}
	require.Greater(t, len(types), 80)
	for _, text := range []string{`{}`, `{"availabilityReason":null}`, `{"availabilityReason":"OFFLINE","isOnline":false}`} {
		add("realtime.StatusUpdate", text)
	}
	place := `{"street":"Calle 23"}`
	for _, text := range []string{
		`{"in":"a","default":null,"json":"b","e":null,"a$b":true,"time":null,"value":null,"list":null}`,
		`{"in":"a","default":9007199254740993,"json":"b","e":["red","blue"],"this":null,"self":[[` + place + `],[]],"a$b":false,"time":"2026-05-04T10:20:30.123Z","value":{},"map":{"x":[1]},"list":[1,"x",true]}`,
	} {
		add("lab.Odd", text)
	}
	add("lab.PagePlace", `{"items":[`+place+`],"next":3}`)

	cases := map[string]string{}
	for _, typ := range types {
		cases[typ] = fmt.Sprintf("            %q -> %s.fromJson(json).toJson()\n", typ, typ)
	}
	files := map[string]string{
		"Events.kt": events,
		"Lab.kt":    strings.Replace(kotlin.text(t, lab), "\npackage realtime\n", "\npackage lab\n", 1),
		"Page.kt":   snippet(t, "kotlin") + appKt,
		"Main.kt":   fmt.Sprintf(mainKt, strings.Join(slices.Sorted(maps.Values(cases)), "")),
	}
	for name, text := range clientJava {
		file := filepath.Join(dir, "java", filepath.FromSlash(name))
		require.NoError(t, os.MkdirAll(filepath.Dir(file), 0o700))
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
	}
	args := []string{"-Werror", "-cp", orgJSON, "-d", filepath.Join(dir, "check.jar"), filepath.Join(dir, "java")}
	for name, text := range files {
		file := filepath.Join(dir, name)
		require.NoError(t, os.WriteFile(file, []byte(text), 0o600))
		args = append(args, file)
	}
	run(t, "", "kotlinc", args...)

	var stdin strings.Builder
	for i := range types {
		stdin.WriteString(types[i] + "\t" + texts[i] + "\n")
	}
	classes := strings.Join([]string{filepath.Join(dir, "check.jar"), kotlinStdlib, orgJSON}, string(filepath.ListSeparator))
	lines := strings.Split(strings.TrimSpace(run(t, stdin.String(), "java", "-cp", classes, "check.MainKt")), "\n")
	require.Len(t, lines, len(types))
	for i, line := range lines {
		require.JSONEq(t, texts[i], line, types[i])
	}
}

// The files for Dart and Swift are valid in their languages' grammars, in which broken ones are not.
func TestDartAndSwift_Parse(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	library, err := realtimegen.Catalog(realtime.Options{})
	require.NoError(t, err)
	var files, broken []string
	write := func(name, text string) {
		files = append(files, filepath.Join(dir, name))
		require.NoError(t, os.WriteFile(files[len(files)-1], []byte(text), 0o600))
	}
	for n, faults := range map[*native][][2]string{
		&natives[0]: {{"Color(", "Color[("}, {"final class Odd {", "final class Odd "}, {"'/lab'", "'/lab"}, {"fromJson(dynamic json)", "fromJson(dynamic json"}},
		&natives[2]: {{"Color(", "Color[("}, {"struct Odd: ", "struct Odd: :"}, {"\"/lab\"", "\"/lab"}, {"enum LabEvents {", "enum LabEvents "}},
	} {
		host := n.text(t, lab)
		write("library"+n.extension, n.text(t, library))
		write("host"+n.extension, host)
		write("page"+n.extension, snippet(t, strings.TrimPrefix(n.extension, ".")))
		for i, f := range faults {
			require.Contains(t, host, f[0])
			write(fmt.Sprint("broken", i, n.extension), strings.Replace(host, f[0], f[1], 1))
			broken = append(broken, files[len(files)-1])
		}
	}
	out, err := exec.CommandContext(t.Context(), "node", append([]string{filepath.Join("..", "e2e", "lib", "parse.js")}, files...)...).CombinedOutput()
	require.Error(t, err)
	for _, file := range files {
		require.Equal(t, slices.Contains(broken, file), strings.Contains(string(out), file+":"), "%s\n%s", file, out)
	}
}
