// Command eventdocs writes docs/events.md.
package main

import (
	"bytes"
	"context"
	"log"
	"os"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimegen"
)

func main() {
	if len(os.Args) != 2 {
		log.Fatal("usage: eventdocs FILE")
	}
	var page bytes.Buffer
	if err := write(&page); err != nil {
		log.Fatal(err)
	}
	if err := os.WriteFile(os.Args[1], page.Bytes(), 0o644); err != nil {
		log.Fatal(err)
	}
}

// write makes a server that nobody connects to, for the sake of its catalog.
func write(page *bytes.Buffer) error {
	rt, err := realtime.New(realtime.Options{Tokens: nothing{}, Users: nothing{}, Sessions: nothing{}})
	if err != nil {
		return err
	}
	if err := realtimegen.Markdown(page, rt.Catalog()); err != nil {
		return err
	}
	return rt.Shutdown(context.Background())
}

// nothing is a host without tokens, users and sessions.
type nothing struct{}

func (nothing) VerifyToken(context.Context, string, string) (realtime.Claims, error) {
	return realtime.Claims{}, realtime.ErrTokenInvalid
}

func (nothing) FindUser(context.Context, string) (realtime.User, error) {
	return realtime.User{}, realtime.ErrNotFound
}

func (nothing) FindSession(context.Context, string) (realtime.Session, error) {
	return realtime.Session{}, realtime.ErrNotFound
}
