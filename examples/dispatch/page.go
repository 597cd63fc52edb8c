// The page at /: driver, passenger and admin side by side, in plain HTML and JavaScript.
// All files, socket.io-client included, are embedded.

package main

import (
	"embed"
	"html/template"
	"io/fs"
	"net/http"
)

//go:embed page
var pageFiles embed.FS

var pageTemplate = template.Must(template.ParseFS(pageFiles, "page/index.html"))

func (a *app) page() http.Handler {
	files, err := fs.Sub(pageFiles, "page")
	if err != nil { // cannot happen: the name is a constant
		panic(err)
	}
	static := http.FileServerFS(files)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set("Content-Security-Policy", "default-src 'self'; img-src data:")
		if r.URL.Path != "/" {
			static.ServeHTTP(w, r)
			return
		}
		w.Header().Set("Content-Type", "text/html; charset=utf-8")
		if err := pageTemplate.Execute(w, a.seededByType()); err != nil {
			a.log.Info("page not written", "error", err) // the client has left
		}
	})
}

// seededByType returns the users of the page: the seed's, without the cars'.
func (a *app) seededByType() map[string][]userRow {
	users := map[string][]userRow{} // the template needs string keys
	for _, u := range a.seed.Users {
		users[string(u.Type)] = append(users[string(u.Type)], u)
	}
	return users
}
