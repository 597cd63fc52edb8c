// Command go is a client of zishang520's for Go, which obeys lib/foreign.js: commands come as
// lines of JSON, and what happens goes out as such.
package main

import (
	"bufio"
	"encoding/json"
	"errors"
	"os"
	"reflect"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/zishang520/socket.io/clients/engine/v3"
	"github.com/zishang520/socket.io/clients/socket/v3"
	"github.com/zishang520/socket.io/v3/pkg/types"
)

// command is a line of the input.
type command struct {
	Do         string   `json:"do"`
	URL        string   `json:"url"`
	Namespace  string   `json:"namespace"`
	Token      string   `json:"token"`
	Transports []string `json:"transports"`
	Delay      float64  `json:"delay"` // in seconds, of a reconnection
	Event      string   `json:"event"`
	Args       []any    `json:"args"`
	Ack        *int     `json:"ack"`
}

// report is a line of the output.
type report struct {
	Kind string `json:"kind"`
	Name string `json:"name,omitempty"`
	Args []any  `json:"args,omitempty"`
	ID   *int   `json:"id,omitempty"`
}

var out sync.Mutex

func say(r report) {
	out.Lock()
	defer out.Unlock()
	_ = json.NewEncoder(os.Stdout).Encode(r)
}

// client is a socket that has its token where the next attempt to connect reads it.
type client struct {
	*socket.Socket
	auth map[string]any
}

func newClient(c command) (*client, error) {
	auth := map[string]any{"token": c.Token}
	transports := types.NewSet[engine.TransportCtor]()
	for _, name := range c.Transports {
		switch name {
		case "polling":
			transports.Add(socket.Polling)
		case "websocket":
			transports.Add(socket.WebSocket)
		}
	}
	opts := socket.DefaultOptions()
	opts.SetAuth(auth)
	opts.SetTransports(transports)
	opts.SetForceNew(true)
	opts.SetAutoConnect(false)
	opts.SetReconnectionDelay(1000 * c.Delay)
	opts.SetReconnectionDelayMax(1000 * c.Delay)
	// The client begins to open before it listens for the end of that, which it may miss on a
	// fast line. Then it sends nothing, and tries again after this time.
	opts.SetTimeout(4 * time.Second)
	s, err := socket.Connect(c.URL+c.Namespace, opts)
	if err != nil {
		return nil, err
	}
	s.OnAny(func(args ...any) {
		name, _ := args[0].(string)
		args = slices.DeleteFunc(args[1:], func(a any) bool { return reflect.TypeOf(a) != nil && reflect.TypeOf(a).Kind() == reflect.Func }) // the last one may be that of an ack
		say(report{Kind: "event", Name: name, Args: args})
	})
	var connected atomic.Bool
	_ = s.On("connect", func(...any) {
		connected.Store(true)
		say(report{Kind: "connect"})
	})
	_ = s.On("disconnect", func(args ...any) {
		reason, _ := args[0].(string)
		if connected.Swap(false) { // attempts that failed end with a disconnect too
			say(report{Kind: "disconnect", Name: reason})
		}
	})
	_ = s.On("connect_error", func(args ...any) {
		var refused *types.ExtendedError
		if err, ok := args[0].(error); ok && errors.As(err, &refused) {
			say(report{Kind: "refused", Args: []any{map[string]any{"message": refused.Error(), "data": refused.Data}}})
		} else {
			say(report{Kind: "failed"})
		}
	})
	return &client{s, auth}, nil
}

func (c *client) obey(do command) error {
	switch do.Do {
	case "token":
		c.auth["token"] = do.Token
	case "connect":
		// Connect opens the connection, and may send a second CONNECT when that is open at once. The
		// server ends such a connection, as Node's does.
		_ = c.Io().Once("open", func(...any) { c.Connect() })
		c.Io().Open(nil)
	case "disconnect":
		c.Disconnect()
	case "transport":
		say(report{Kind: "transport", Name: c.Io().Engine().Transport().Name()})
	case "emit":
		args := do.Args
		if do.Ack != nil {
			args = append(args, func(answer []any, err error) {
				if err == nil {
					say(report{Kind: "ack", ID: do.Ack, Args: answer})
				}
			})
		}
		return c.Emit(do.Event, args...)
	}
	return nil
}

func main() {
	var c *client
	in := bufio.NewScanner(os.Stdin)
	in.Buffer(nil, 4<<20)
	for in.Scan() {
		var do command
		err := json.Unmarshal(in.Bytes(), &do)
		if err == nil {
			if do.Do == "create" {
				c, err = newClient(do)
			} else {
				err = c.obey(do)
			}
		}
		if err != nil {
			say(report{Kind: "failed", Name: err.Error()})
		}
	}
}
