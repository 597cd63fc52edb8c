// The client's side of a websocket, as much of it as Engine.IO needs.

package realtimetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"sync"
	"time"

	"github.com/gobwas/ws"
)

// closeTimeout is how long the server has to answer a close frame.
const closeTimeout = time.Second

// websocket is one connection. Reading belongs to one goroutine; writing to who
// holds the token, since a reader writes too, to answer a ping. It is no mutex
// because a goroutine that waits for one is not durably blocked.
type websocket struct {
	rwc   io.ReadWriteCloser
	buf   *bufio.Reader
	cut   func()        // closes rwc, once
	token chan struct{} // in it while nobody writes
	over  *time.Timer   // when the server's answer to a close frame is overdue
}

// dialWebSocket opens a websocket: a new connection, or with a sid one that
// takes over.
func (e *engine) dialWebSocket(ctx context.Context, sid string) (*websocket, error) {
	r, err := e.request(ctx, http.MethodGet, "websocket", nil)
	if err != nil {
		return nil, err
	}
	key := make([]byte, 16)
	_, _ = rand.Read(key) // never fails
	r.Header.Set("Connection", "Upgrade")
	r.Header.Set("Upgrade", "websocket")
	r.Header.Set("Sec-WebSocket-Version", "13")
	r.Header.Set("Sec-WebSocket-Key", base64.StdEncoding.EncodeToString(key))
	res, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	rwc, ok := res.Body.(io.ReadWriteCloser)
	if res.StatusCode != http.StatusSwitchingProtocols || !ok {
		defer func() { _ = res.Body.Close() }() // it is of no use any more
		b, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		return nil, errors.Join(handshakeError(res.StatusCode, b), err)
	}
	w := &websocket{rwc: rwc, buf: bufio.NewReader(rwc), token: make(chan struct{}, 1)}
	w.cut = sync.OnceFunc(func() { _ = rwc.Close() })
	w.token <- struct{}{}
	return w, nil
}

var errClosed = errors.New("websocket closed by the server")

// read returns the next message. It answers pings, and a close frame.
func (w *websocket) read() (packet, error) {
	var p packet
	for {
		h, err := ws.ReadHeader(w.buf)
		if err != nil {
			return p, err
		}
		data := make([]byte, h.Length)
		if _, err := io.ReadFull(w.buf, data); err != nil {
			return p, err
		}
		switch h.OpCode {
		case ws.OpPing:
			if err := w.frame(ws.OpPong, data); err != nil {
				return p, err
			}
			continue
		case ws.OpPong:
			continue
		case ws.OpClose:
			_ = w.frame(ws.OpClose, data) // the connection ends in any case
			return p, errClosed
		case ws.OpText, ws.OpBinary:
			p = packet{data: data, binary: h.OpCode == ws.OpBinary}
		case ws.OpContinuation:
			p.data = append(p.data, data...)
		}
		if !h.Fin {
			continue
		}
		if !p.binary && len(p.data) == 0 {
			return p, fmt.Errorf("empty packet")
		}
		return p, nil
	}
}

// write sends messages.
func (w *websocket) write(ps ...packet) error {
	for _, p := range ps {
		op := ws.OpText
		if p.binary {
			op = ws.OpBinary
		}
		if err := w.frame(op, p.data); err != nil {
			return err
		}
	}
	return nil
}

func (w *websocket) frame(op ws.OpCode, data []byte) error {
	b, err := ws.CompileFrame(ws.MaskFrame(ws.NewFrame(op, true, data)))
	if err != nil {
		return err
	}
	<-w.token
	defer func() { w.token <- struct{}{} }()
	_, err = w.rwc.Write(b)
	return err
}

// close says that the connection ends. The reader sees the server's answer, or
// the end of its patience.
func (w *websocket) close() error {
	err := w.frame(ws.OpClose, ws.NewCloseFrameBody(ws.StatusNormalClosure, ""))
	<-w.token
	w.over = time.AfterFunc(closeTimeout, w.cut)
	w.token <- struct{}{}
	return err
}

// drop cuts the connection.
func (w *websocket) drop() {
	w.cut()
	<-w.token
	if w.over != nil {
		w.over.Stop()
	}
	w.token <- struct{}{}
}
