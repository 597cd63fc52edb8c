// The client's side of Engine.IO 4: one connection over a websocket, over long-polling, or
// first over long-polling and then over a websocket.

package realtimetest

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"time"

	"github.com/rodando/realtime"
)

// Reasons for which a client is disconnected, as the JavaScript client names them. The
// server's reason is a realtime.DisconnectReason.
const (
	ReasonServer         = "io server disconnect"                    // the server disconnected the socket
	ReasonClient         = "io client disconnect"                    // Client.Close
	ReasonTransportClose = string(realtime.DisconnectTransportClose) // the server closed the websocket
	ReasonTransportError = string(realtime.DisconnectTransportError) // the connection broke; Client.Drop; the server closed a polling session
	ReasonPingTimeout    = string(realtime.DisconnectPingTimeout)    // the server sent no ping in time
	ReasonParseError     = string(realtime.DisconnectParseError)     // the server sent an invalid packet
)

// packet is an Engine.IO packet: text that begins with its type, or binary.
type packet struct {
	data   []byte
	binary bool
}

func text(s string) packet { return packet{data: []byte(s)} }

// separator joins the packets of a polling payload.
const separator = '\x1e'

// engine is a connection to an Engine.IO server.
type engine struct {
	client *http.Client
	url    url.URL
	header http.Header
	// receive is called with messages, one at a time and in order; closed is called
	// once. Neither may block.
	receive func(p packet)
	closed  func(reason string)

	ctx     context.Context // of its requests; ends with the connection
	cancel  context.CancelFunc
	sid     string
	silence time.Duration // maximum time between two pings of the server
	running sync.WaitGroup

	mu        sync.Mutex  // guards the fields below
	changed   sync.Cond   // broadcast on any change
	queue     []packet    // not sent yet
	ws        *websocket  // nil while polling is the transport
	ended     bool        // end was called
	closing   bool        // the connection ends when queue is empty
	stalled   bool        // nothing is read
	upgrading bool        // polling and sending must stop
	polling   bool        // a poll may be under way
	writing   bool        // packets are being sent
	watch     *time.Timer // ends the connection after silence
}

func newEngine(d *dial, receive func(packet), closed func(reason string)) *engine {
	e := &engine{
		client: &http.Client{Transport: &http.Transport{DialContext: d.over, DisableCompression: true}},
		url:    d.url, header: d.header, receive: receive, closed: closed,
	}
	e.changed.L = &e.mu
	e.ctx, e.cancel = context.WithCancel(context.Background())
	return e
}

// open makes the handshake, and the upgrade if t is overBoth.
func (e *engine) open(ctx context.Context, t transport) (err error) {
	defer func() {
		if err != nil {
			e.end(ReasonTransportError)
			e.running.Wait()
		}
	}()
	if t == overWebSocket {
		ws, err := e.dialWebSocket(ctx)
		if err != nil {
			return err
		}
		stop := context.AfterFunc(ctx, ws.drop)
		first, err := ws.read()
		if !stop() || err != nil {
			ws.drop()
			return errors.Join(ctx.Err(), err)
		}
		e.ws = ws
		if err := e.opened(first); err != nil {
			return err
		}
		e.running.Go(func() { e.readFrames(ws) })
		e.running.Go(e.write)
		return nil
	}
	packets, err := e.poll(ctx)
	if err != nil {
		return err
	}
	if err := e.opened(packets[0]); err != nil {
		return err
	}
	e.polling = true
	e.running.Go(func() { e.readPolls(packets[1:]) })
	e.running.Go(e.write)
	if t == overBoth {
		return e.upgrade(ctx)
	}
	return nil
}

// opened handles the open packet.
func (e *engine) opened(p packet) error {
	var open struct {
		SID          string `json:"sid"`
		PingInterval int64  `json:"pingInterval"` // milliseconds
		PingTimeout  int64  `json:"pingTimeout"`  // milliseconds
	}
	if p.binary || p.data[0] != '0' {
		return fmt.Errorf("the first packet is %q, not an open packet", p.data)
	}
	if err := json.Unmarshal(p.data[1:], &open); err != nil {
		return fmt.Errorf("open packet: %w", err)
	}
	e.sid = open.SID
	e.silence = time.Duration(open.PingInterval+open.PingTimeout) * time.Millisecond
	e.watch = time.AfterFunc(e.silence, func() { e.end(ReasonPingTimeout) })
	return nil
}

// upgrade moves from polling to a websocket.
func (e *engine) upgrade(ctx context.Context) error {
	ws, err := e.dialWebSocket(ctx)
	if err != nil {
		return err
	}
	stop := context.AfterFunc(ctx, ws.drop)
	defer stop()
	err = ws.write(text("2probe"))
	if err == nil {
		var p packet
		if p, err = ws.read(); err == nil && string(p.data) != "3probe" {
			err = fmt.Errorf("the probe was answered by %q", p.data)
		}
	}
	if err != nil {
		ws.drop()
		return errors.Join(ctx.Err(), err)
	}
	e.mu.Lock()
	defer e.mu.Unlock()
	e.upgrading = true
	e.changed.Broadcast()
	for (e.polling || e.writing) && !e.ended {
		e.changed.Wait()
	}
	if e.ended {
		ws.drop()
		return fmt.Errorf("the connection was closed during the upgrade: %w", realtime.ErrClosed)
	}
	e.queue = append([]packet{text("5")}, e.queue...)
	e.ws, e.upgrading = ws, false
	e.changed.Broadcast()
	e.running.Go(func() { e.readFrames(ws) })
	return nil
}

// transportName returns the current transport.
func (e *engine) transportName() string {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ws != nil {
		return "websocket"
	}
	return "polling"
}

// send queues packets; it does not block. It reports false when the connection
// has ended.
func (e *engine) send(ps ...packet) bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	if e.ended || e.closing {
		return false
	}
	e.queue = append(e.queue, ps...)
	e.changed.Broadcast()
	return true
}

// write sends queued packets until the connection ends.
func (e *engine) write() {
	e.mu.Lock()
	defer e.mu.Unlock()
	for {
		for !e.ended && (e.upgrading || len(e.queue) == 0 && !e.closing) {
			e.changed.Wait()
		}
		if e.ended {
			return
		}
		last := len(e.queue) == 0 // and closing
		batch, ws := e.queue, e.ws
		e.queue, e.writing = nil, true
		e.mu.Unlock()
		var err error
		switch {
		case ws != nil && last:
			err = ws.close()
		case ws != nil:
			err = ws.write(batch...)
		case last:
			err = e.post(text("1"))
		default:
			err = e.post(batch...)
		}
		e.mu.Lock()
		e.writing = false
		e.changed.Broadcast()
		if last || err != nil {
			e.mu.Unlock()
			switch {
			case err != nil:
				e.end(ReasonTransportError)
			case ws == nil:
				e.end(ReasonTransportClose)
			}
			e.mu.Lock()
			return // over a websocket readFrames waits for the server to close
		}
	}
}

// readPolls polls until the connection ends or is upgraded.
func (e *engine) readPolls(packets []packet) {
	defer func() {
		e.mu.Lock()
		defer e.mu.Unlock()
		e.polling = false
		e.changed.Broadcast()
	}()
	for {
		for _, p := range packets {
			if !e.handle(p) {
				return
			}
		}
		e.mu.Lock()
		done := e.upgrading || e.ended
		e.mu.Unlock()
		if done || !e.ready() {
			return
		}
		var err error
		if packets, err = e.poll(e.ctx); err != nil {
			e.end(ReasonTransportError)
			return
		}
	}
}

// readFrames reads a websocket until it ends.
func (e *engine) readFrames(ws *websocket) {
	for {
		p, err := ws.read()
		if err != nil {
			e.end(ReasonTransportClose)
			return
		}
		if !e.handle(p) {
			return
		}
	}
}

// ready waits while the client is stalled, and reports whether the connection is still
// open.
func (e *engine) ready() bool {
	e.mu.Lock()
	defer e.mu.Unlock()
	for e.stalled && !e.ended {
		e.changed.Wait()
	}
	return !e.ended
}

// handle handles a packet and reports whether more may follow.
func (e *engine) handle(p packet) bool {
	if !e.ready() {
		return false
	}
	switch {
	case p.binary:
		e.receive(p)
	case p.data[0] == '4':
		e.receive(packet{data: p.data[1:]})
	case p.data[0] == '2':
		e.alive()
		e.send(packet{data: append([]byte{'3'}, p.data[1:]...)})
	case p.data[0] == '6':
	case p.data[0] == '1':
		e.end(ReasonTransportClose)
		return false
	default:
		e.end(ReasonParseError)
		return false
	}
	return true
}

// alive restarts the timer that watches for pings.
func (e *engine) alive() {
	e.mu.Lock()
	defer e.mu.Unlock()
	if !e.ended && !e.stalled {
		e.watch.Reset(e.silence)
	}
}

// stall stops reading or resumes it. A stalled client does not time out the server,
// whose pings it does not read.
func (e *engine) stall(on bool) {
	e.mu.Lock()
	defer e.mu.Unlock()
	e.stalled = on
	if e.watch != nil && !e.ended {
		if e.watch.Stop(); !on {
			e.watch.Reset(e.silence)
		}
	}
	e.changed.Broadcast()
}

// close closes the connection after the queued packets have been sent.
func (e *engine) close() {
	e.mu.Lock()
	e.closing = true
	e.changed.Broadcast()
	e.mu.Unlock()
}

// finish closes the connection and waits until it has ended. It cuts the connection if
// that takes longer than closeTimeout.
func (e *engine) finish() {
	timeout := time.AfterFunc(closeTimeout, e.drop)
	defer timeout.Stop()
	e.close()
	e.wait()
}

// drop cuts the connection.
func (e *engine) drop() { e.end(ReasonTransportError) }

// end ends the connection at once. A second call does nothing.
func (e *engine) end(reason string) {
	e.mu.Lock()
	if e.ended {
		e.mu.Unlock()
		return
	}
	e.ended = true
	ws := e.ws
	if e.watch != nil {
		e.watch.Stop()
	}
	e.changed.Broadcast()
	e.mu.Unlock()
	e.cancel()
	if ws != nil {
		ws.drop()
	}
	e.client.CloseIdleConnections()
	e.closed(reason)
}

// wait waits until the connection's goroutines have ended, and closes idle HTTP
// connections.
func (e *engine) wait() {
	e.running.Wait()
	e.client.CloseIdleConnections()
}
