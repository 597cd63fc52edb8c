// The operators' view at /operators/, with -admin-view.

package main

import (
	"crypto/rand"
	"net/http"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/realtimeadmin"
)

// operators is the view and the token that opens it, which greet prints once.
type operators struct {
	*realtimeadmin.View
	token string
}

// newOperators returns the view, and adds its Trace to the options.
func (a *app) newOperators(o *realtime.Options) (*operators, error) {
	token := rand.Text() + rand.Text()
	view, err := realtimeadmin.New(realtimeadmin.Options{Token: token, Logger: a.log})
	if err != nil {
		return nil, err
	}
	o.Trace = realtime.JoinTraces(o.Trace, view.Trace())
	return &operators{view, token}, nil
}

// mount makes the view that of the server.
func (v *operators) mount(mux *http.ServeMux, rt *realtime.Server) {
	v.Watch(rt)
	mux.Handle("/operators/", http.StripPrefix("/operators", v))
}
