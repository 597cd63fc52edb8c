// View: what a host configures and mounts.

package realtimeadmin

import (
	"crypto/sha256"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/rodando/realtime"
	"github.com/rodando/realtime/internal/logsample"
)

// Options configures a View. Exactly one of Token and Operator must be set.
type Options struct {
	// Token is what an operator enters on the page: 32 bytes or more, up to 256, which nobody can
	// guess. The page then sends it with each request, as a bearer token. Wrong ones are limited to
	// 5 at once from one address and one in 10 seconds.
	Token string
	// Operator returns the name of the operator who sends a request, for the log, and false for
	// everybody else. It is called for each request, concurrently. Use it behind the host's own
	// login.
	Operator func(r *http.Request) (name string, ok bool)

	// Logger gets a line for each session that was disconnected, and for wrong tokens. Defaults to
	// slog.Default().
	Logger *slog.Logger
	// Memory is the size of what the node remembers for timelines, about, in bytes. Defaults to 8 MiB.
	Memory int
	// Timeout is how long a request waits for the other nodes. Defaults to 2 s.
	Timeout time.Duration
	// HostRooms shows the names of all rooms. Defaults to false: of rooms that the library does not
	// name itself, such as those of realtime.NewRoom, only the number is shown.
	HostRooms bool
	// TrustedProxies are the addresses of proxies, as in realtime.Options. Without them, clients behind
	// a proxy share the limit of wrong tokens.
	TrustedProxies []netip.Prefix
}

// View is an http.Handler with the operator's view of one server. New returns one; the zero value is
// not usable. All methods may be called concurrently.
type View struct {
	opts    Options
	token   [sha256.Size]byte // of Options.Token
	guesses guesses
	log     *slog.Logger // of what anybody can cause
	records *records
	cluster cluster
	server  atomic.Pointer[realtime.Server] // nil before Watch
	serving chan struct{}                   // has an element for each request that reads the server

	sampling sync.Mutex // guards the fields below, and is held while the server is sampled
	sampled  time.Time
	sample   nodeReport
}

const (
	minToken, maxToken = 32, 256
	servingAtOnce      = 32
)

// New returns a view without a server. Pass its Trace to realtime.New, and the server to Watch. The
// error reports every mistake in o at once.
func New(o Options) (*View, error) {
	var errs []error
	switch {
	case o.Token == "" && o.Operator == nil:
		errs = append(errs, errors.New("set Token or Operator: the view is for operators only"))
	case o.Token != "" && o.Operator != nil:
		errs = append(errs, errors.New("set either Token or Operator"))
	case o.Operator == nil && (len(o.Token) < minToken || len(o.Token) > maxToken):
		errs = append(errs, fmt.Errorf("the token has %d bytes; it must have %d to %d", len(o.Token), minToken, maxToken))
	}
	if o.Memory < 0 {
		errs = append(errs, errors.New("negative Memory"))
	}
	if o.Timeout < 0 {
		errs = append(errs, errors.New("negative Timeout"))
	}
	if len(errs) > 0 {
		return nil, fmt.Errorf("realtimeadmin: %w", errors.Join(errs...))
	}
	if o.Logger == nil {
		o.Logger = slog.Default()
	}
	if o.Memory == 0 {
		o.Memory = 8 << 20
	}
	if o.Timeout == 0 {
		o.Timeout = 2 * time.Second
	}
	o.TrustedProxies = slices.Clone(o.TrustedProxies)
	v := &View{opts: o, log: slog.New(logsample.New(o.Logger.Handler())), records: newRecords(o), serving: make(chan struct{}, servingAtOnce)}
	v.token = sha256.Sum256([]byte(o.Token))
	v.opts.Token = ""
	v.guesses.start = time.Now()
	v.cluster.init(v)
	return v, nil
}

// Watch makes the view that of rt. Call it once, after New and before the view is mounted. It panics
// if rt is nil, and when it is called again.
func (v *View) Watch(rt *realtime.Server) {
	if rt == nil {
		panic("realtimeadmin: Watch: the server is nil")
	}
	if !v.server.CompareAndSwap(nil, rt) {
		panic("realtimeadmin: Watch was called before")
	}
	v.cluster.listen(rt)
}
