// The page at /: the town with its cars, a passenger's and a driver's phone, and what each of them
// receives, in plain HTML, CSS and JavaScript. All files, socket.io-client included, are embedded.

package main

import (
	"cmp"
	"embed"
	"io/fs"
	"net/http"

	"github.com/rodando/realtime"
)

//go:embed page
var pageFiles embed.FS

// pagePolicy lets the page load from its own host only, and be in no other page.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'"

func (a *app) page() http.Handler {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil { // cannot happen: the name is a constant
		panic(err)
	}
	static := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", pagePolicy)
		w.Header().Set("X-Content-Type-Options", "nosniff")
		w.Header().Set("Referrer-Policy", "no-referrer")
		static.ServeHTTP(w, r)
	})
}

// person is a user that the page can play.
type person struct {
	ID   string            `json:"id"`
	Type realtime.UserType `json:"type"`
	Name string            `json:"name"`
}

// people answers with the users that the page can play: the seed's active ones, without the cars'.
func (a *app) people(*http.Request) (any, error) {
	found := []person{}
	for _, u := range a.seed.Users {
		if u.Status == active {
			found = append(found, person{u.ID, u.Type, cmp.Or(u.Name, u.ID)})
		}
	}
	return map[string]any{"people": found}, nil
}
