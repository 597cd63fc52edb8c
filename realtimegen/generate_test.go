// The files that a go:generate program writes.

package realtimegen_test

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

// The program of a host, for instance in internal/cmd/generate/main.go. A line in another file
// runs it with the files to write:
//
//	//go:generate go run ./internal/cmd/generate docs/events.md clients/events.ts clients/Events.kt clients/Events.swift
func ExampleMain() {
	saveNote := realtime.NewCall[string, string]("driver:note:save")
	register := func(rt *realtime.Server) { // what the host calls after realtime.New, too
		saveNote.Handle(rt.Drivers(), func(_ context.Context, _ *realtime.Socket, note string) (string, error) { return note, nil })
	}
	main := func() { realtimegen.Main(realtimegen.Catalog(realtime.Options{}, register)) }
	_ = main
	// Output:
}

// A test of a host that fails when its generated files are stale.
func ExampleCheckFiles() {
	catalog, err := realtimegen.Catalog(realtime.Options{})
	if err != nil {
		fmt.Println(err)
	}
	fmt.Println(realtimegen.CheckFiles(catalog, "../docs/events.md", "../clients/typescript/events.ts"))
	// Output: <nil>
}

func TestCatalog_OfAHost(t *testing.T) {
	t.Parallel()
	note := realtime.NewCall[string, string]("note")
	bus := realtime.NewMemoryBus()
	t.Cleanup(func() { _ = bus.Close(context.Background()) })
	c, err := realtimegen.Catalog(realtime.Options{Bus: bus}, func(rt *realtime.Server) {
		note.Handle(rt.Drivers(), func(_ context.Context, _ *realtime.Socket, note string) (string, error) { return note, nil })
	})
	require.NoError(t, err)
	var found []string
	for _, d := range c.Events {
		if d.Event == note.Name() {
			found = append(found, d.Namespace)
		}
	}
	require.Equal(t, []string{realtime.NamespaceDrivers}, found)

	_, err = realtimegen.Catalog(realtime.Options{Origins: realtime.Origins{Allowed: []string{"no origin"}}})
	require.ErrorContains(t, err, "realtime: ")
}

func TestFiles_AreWrittenAndChecked(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	files := []string{filepath.Join(dir, "docs", "events.md"), filepath.Join(dir, "clients", "events.ts")}
	require.ErrorContains(t, realtimegen.CheckFiles(lab, files...), "events.ts")
	require.NoError(t, realtimegen.WriteFiles(lab, files...))
	require.NoError(t, realtimegen.CheckFiles(lab, files...))

	text, err := os.ReadFile(files[1])
	require.NoError(t, err)
	require.NoError(t, os.WriteFile(files[1], []byte(strings.ReplaceAll(string(text), "\n", "\r\n")), 0o600))
	require.NoError(t, realtimegen.CheckFiles(lab, files...), "as git checks it out on Windows")
	require.NoError(t, os.WriteFile(files[1], []byte(strings.Replace(string(text), "// The events", "// All events", 1)), 0o600))
	err = realtimegen.CheckFiles(lab, files...)
	require.EqualError(t, err, "realtimegen: "+files[1]+" is not current from line 3 on: run go generate")
	require.NoError(t, os.WriteFile(files[1], append(text, "more\n"...), 0o600))
	require.ErrorContains(t, realtimegen.CheckFiles(lab, files...), "is not current from line")

	for _, err := range []error{realtimegen.WriteFiles(lab, "events.doc"), realtimegen.CheckFiles(lab, "events.doc")} {
		require.ErrorContains(t, err, "realtimegen: events.doc: the extension must be one of .dart, .kt, .md, .swift, .ts, .yaml")
	}
}
