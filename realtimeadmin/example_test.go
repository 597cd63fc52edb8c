package realtimeadmin_test

import (
	"context"
	"fmt"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeadmin"
	"github.com/rodando/realtime/realtimetest"
)

// A host serves the view next to the server, for whoever has the token.
func Example() {
	adminToken := "from the host's secrets, 32 bytes or more"
	view, err := realtimeadmin.New(realtimeadmin.Options{Token: adminToken})
	if err != nil {
		fmt.Println(err)
		return
	}
	rt, err := realtime.New(realtime.Options{
		Tokens: &realtimetest.Tokens{}, Users: &realtimetest.Users{}, Sessions: &realtimetest.Sessions{}, // a host's are real
		Trace: view.Trace(), // with another one: realtime.JoinTraces(view.Trace(), own)
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	view.Watch(rt)
	mux := http.NewServeMux()
	mux.Handle(realtime.Path, rt)
	mux.Handle("/operators/", http.StripPrefix("/operators", view))

	ctx := context.Background()
	r := httptest.NewRequestWithContext(ctx, http.MethodGet, "/operators/api/overview", nil)
	r.Header.Set("Authorization", "Bearer "+adminToken) // as the page sends it
	r.Header.Set("X-Realtime-Admin", "1")
	w := httptest.NewRecorder()
	mux.ServeHTTP(w, r)
	fmt.Println(w.Code, strings.Contains(w.Body.String(), `"ready":true`), rt.Shutdown(ctx))
	// Output: 200 true <nil>
}

// A host with a login of its own says who is an operator.
func ExampleOptions_operator() {
	currentUser := func(r *http.Request) (name string, admin bool) { // the host's own
		return "eva", r.Header.Get("Cookie") == "session=of-eva"
	}
	view, err := realtimeadmin.New(realtimeadmin.Options{
		Operator: currentUser,
		Logger:   slog.New(slog.DiscardHandler),
	})
	if err != nil {
		fmt.Println(err)
		return
	}
	w := httptest.NewRecorder()
	view.ServeHTTP(w, httptest.NewRequestWithContext(context.Background(), http.MethodGet, "/", nil))
	fmt.Println(w.Code)
	// Output: 403
}
