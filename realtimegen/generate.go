// Generate: the program for go:generate, and the files that it writes.

package realtimegen

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log"
	"log/slog"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/rodando/realtime"
)

// writers are the forms in which a catalog is written, by a file's extension.
var writers = map[string]func(io.Writer, realtime.Catalog) error{
	".dart":  Dart,
	".kt":    Kotlin,
	".md":    Markdown,
	".swift": Swift,
	".ts":    TypeScript,
	".yaml":  AsyncAPI,
}

// Main is the main function of a program for go:generate. It writes the files that the
// arguments name, each in the form that its extension stands for: .dart is Dart, .kt Kotlin, .md
// Markdown, .swift Swift, .ts TypeScript, .yaml AsyncAPI. When something fails it prints the error and
// ends the process with status 1.
//
// The parameters are the results of Catalog, so that the program of a host is one line:
//
//	func main() { realtimegen.Main(realtimegen.Catalog(realtime.Options{Events: app.Events}, app.Register)) }
func Main(c realtime.Catalog, err error) {
	switch {
	case err != nil:
	case len(os.Args) < 2:
		err = errors.New("realtimegen: name the files to write")
	default:
		err = WriteFiles(c, os.Args[1:]...)
	}
	if err != nil {
		log.SetFlags(0)
		log.Fatal(err)
	}
}

// Catalog returns the catalog of a server with these options, without running it: nobody
// connects, and Tokens, Users, Sessions, TokenSessions, Bus, Cluster, Trace and Logger are not
// used. Each function of register is called with the server, to handle the host's calls and to
// add its namespaces.
func Catalog(o realtime.Options, register ...func(*realtime.Server)) (realtime.Catalog, error) {
	o.Tokens, o.Users, o.Sessions = nobody{}, nobody{}, nobody{}
	o.TokenSessions, o.Bus, o.Cluster, o.Trace = false, nil, realtime.Cluster{}, nil
	o.Logger = slog.New(slog.DiscardHandler)
	rt, err := realtime.New(o)
	if err != nil {
		return realtime.Catalog{}, err
	}
	for _, f := range register {
		f(rt)
	}
	return rt.Catalog(), rt.Shutdown(context.Background())
}

// WriteFiles writes each file in the form that its extension stands for (see Main), and creates
// the folders that it needs.
func WriteFiles(c realtime.Catalog, files ...string) error {
	for _, file := range files {
		text, err := render(c, file)
		if err != nil {
			return err
		}
		if err := os.MkdirAll(filepath.Dir(file), 0o755); err != nil { //nolint:gosec // as the rest of a source tree
			return fmt.Errorf("realtimegen: %w", err)
		}
		if err := os.WriteFile(file, text, 0o644); err != nil { //nolint:gosec // likewise
			return fmt.Errorf("realtimegen: %w", err)
		}
	}
	return nil
}

// CheckFiles returns an error that names every file that is not what WriteFiles would write,
// with the first line that differs. It is for a test, so that generated files stay current.
func CheckFiles(c realtime.Catalog, files ...string) error {
	var all []error
	for _, file := range files {
		want, err := render(c, file)
		if err != nil {
			all = append(all, err)
			continue
		}
		got, err := os.ReadFile(file) //nolint:gosec // a file of the host's own
		if err != nil {
			all = append(all, fmt.Errorf("realtimegen: %w", err))
			continue
		}
		got = bytes.ReplaceAll(got, []byte("\r\n"), []byte("\n")) // as git may check it out
		if n := firstDifference(got, want); n > 0 {
			all = append(all, fmt.Errorf("realtimegen: %s is not current from line %d on: run go generate", file, n))
		}
	}
	return errors.Join(all...)
}

// firstDifference returns the number of the first line that differs, or 0.
func firstDifference(a, b []byte) int {
	if bytes.Equal(a, b) {
		return 0
	}
	as, bs := bytes.Split(a, []byte("\n")), bytes.Split(b, []byte("\n"))
	for n := range min(len(as), len(bs)) {
		if !bytes.Equal(as[n], bs[n]) {
			return n + 1
		}
	}
	return min(len(as), len(bs)) + 1
}

func render(c realtime.Catalog, file string) ([]byte, error) {
	write := writers[filepath.Ext(file)]
	if write == nil {
		var known []string
		for ext := range writers {
			known = append(known, ext)
		}
		slices.Sort(known)
		return nil, fmt.Errorf("realtimegen: %s: the extension must be one of %s", file, strings.Join(known, ", "))
	}
	var text bytes.Buffer
	if err := write(&text, c); err != nil {
		return nil, err
	}
	return text.Bytes(), nil
}

// nobody is a host without tokens, users and sessions.
type nobody struct{}

func (nobody) VerifyToken(context.Context, string, string) (realtime.Claims, error) {
	return realtime.Claims{}, realtime.ErrTokenInvalid
}

func (nobody) FindUser(context.Context, string) (realtime.User, error) {
	return realtime.User{}, realtime.ErrNotFound
}

func (nobody) FindSession(context.Context, string) (realtime.Session, error) {
	return realtime.Session{}, realtime.ErrNotFound
}
