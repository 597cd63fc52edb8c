// Handler: the page, and what it asks for.

package realtimeadmin

import (
	"context"
	"embed"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"strings"
	"time"

	"github.com/rodando/realtime"
)

//go:embed page
var pageFiles embed.FS

// files are the files of the page, by path, with their types.
var files = map[string]struct{ name, contentType string }{
	"/":          {"page/index.html", "text/html; charset=utf-8"},
	"/view.js":   {"page/view.js", "text/javascript; charset=utf-8"},
	"/style.css": {"page/style.css", "text/css; charset=utf-8"},
}

// pagePolicy lets the page load its own files and nothing else.
const pagePolicy = "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src data:; " +
	"base-uri 'none'; form-action 'none'; frame-ancestors 'none'; require-trusted-types-for 'script'; trusted-types 'none'"

// queries are what the page asks for, by path. Each gets an id, but for the first.
var queries = map[string]func(v *View, ctx context.Context, rt *realtime.Server, id string) any{
	"/api/overview": func(v *View, ctx context.Context, rt *realtime.Server, _ string) any { return v.overview(ctx, rt) },
	"/api/user":     (*View).user,
	"/api/timeline": (*View).timeline,
}

const disconnectPath = "/api/disconnect"

// The maximum size of a query and of a body, in bytes.
const (
	maxQuery = 1 << 10
	maxBody  = 4 << 10
)

// ServeHTTP implements http.Handler. Mount it below a path that ends with a slash, with http.StripPrefix
// without that slash.
func (v *View) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Content-Security-Policy", pagePolicy)
	h.Set("Cache-Control", "no-store")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Cross-Origin-Resource-Policy", "same-origin")
	h.Set("Permissions-Policy", "camera=(), geolocation=(), microphone=()")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("X-Frame-Options", "DENY")
	query := queries[r.URL.Path]
	file, isFile := files[r.URL.Path]
	method := http.MethodGet
	switch {
	case r.URL.Path == disconnectPath:
		method = http.MethodPost
	case query == nil && !isFile:
		refuse(w, http.StatusNotFound, "not found")
		return
	}
	if r.Method != method && (!isFile || r.Method != http.MethodHead) {
		h.Set("Allow", method)
		refuse(w, http.StatusMethodNotAllowed, "use "+method)
		return
	}
	if isFile {
		v.serveFile(w, r, file.name, file.contentType)
		return
	}
	if !sameOrigin(w, r) {
		return
	}
	name, ok := v.operator(w, r)
	if !ok {
		return
	}
	rt := v.server.Load()
	if rt == nil {
		refuse(w, http.StatusServiceUnavailable, "the server has not started")
		return
	}
	select {
	case v.serving <- struct{}{}:
		defer func() { <-v.serving }()
	default:
		h.Set("Retry-After", "1")
		refuse(w, http.StatusServiceUnavailable, "too many requests at once")
		return
	}
	if query == nil {
		v.disconnect(w, r, rt, name)
		return
	}
	id, ok := idOf(r)
	if !ok && r.URL.Path != "/api/overview" {
		refuse(w, http.StatusBadRequest, "id must be one id of up to 256 bytes")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), v.opts.Timeout)
	defer cancel()
	write(w, http.StatusOK, query(v, ctx, rt, id))
}

// serveFile sends a file of the page. With a token it has nothing that is secret: the token is entered
// there.
func (v *View) serveFile(w http.ResponseWriter, r *http.Request, name, contentType string) {
	if v.opts.Operator != nil {
		if _, ok := v.operator(w, r); !ok {
			return
		}
	}
	data, err := pageFiles.ReadFile(name)
	if err != nil { // cannot happen: the names are constants
		refuse(w, http.StatusInternalServerError, "not found")
		return
	}
	w.Header().Set("Content-Type", contentType)
	_, _ = w.Write(data) // the client may have left
}

// idOf returns the id of a query.
func idOf(r *http.Request) (id string, ok bool) {
	if len(r.URL.RawQuery) > maxQuery {
		return "", false
	}
	ids := r.URL.Query()["id"]
	if len(ids) != 1 {
		return "", false
	}
	id = strings.TrimSpace(ids[0])
	return id, validID(id)
}

// reasonOperator is the reason that clients get.
const reasonOperator = "operator"

// disconnect disconnects the sockets of a login session on all nodes.
func (v *View) disconnect(w http.ResponseWriter, r *http.Request, rt *realtime.Server, operator string) {
	var body struct {
		SessionID string `json:"sessionId"`
	}
	data, err := io.ReadAll(http.MaxBytesReader(w, r.Body, maxBody))
	switch {
	case errors.As(err, new(*http.MaxBytesError)):
		refuse(w, http.StatusRequestEntityTooLarge, "the body is too large")
		return
	case err != nil || !strings.HasPrefix(r.Header.Get("Content-Type"), "application/json") || json.Unmarshal(data, &body) != nil || !validID(body.SessionID):
		refuse(w, http.StatusBadRequest, "the body must be {sessionId}, in JSON")
		return
	}
	ctx, cancel := context.WithTimeout(r.Context(), 5*time.Second)
	defer cancel()
	err = rt.DisconnectSession(ctx, body.SessionID, reasonOperator)
	v.opts.Logger.Info("realtimeadmin: an operator disconnected a session", "operator", clip(operator, maxName), "sid", body.SessionID, "error", err)
	if err != nil {
		refuse(w, http.StatusBadGateway, "the bus has not accepted it; the log has the error")
		return
	}
	write(w, http.StatusOK, map[string]string{"sessionId": body.SessionID})
}

// refuse answers with an error. The texts are constants.
func refuse(w http.ResponseWriter, status int, text string) {
	write(w, status, map[string]string{"error": text})
}

func write(w http.ResponseWriter, status int, body any) {
	data, err := json.Marshal(body)
	if err != nil { // cannot happen: strings, numbers and times marshal
		status, data = http.StatusInternalServerError, []byte("{}")
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = w.Write(data) // the client may have left
}
