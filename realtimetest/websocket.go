// The client's side of a websocket, as far as Engine.IO needs it.

package realtimetest

import (
	"bufio"
	"context"
	"crypto/rand"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"io"
	"net/http"
	"sync"
	"time"
)

// Frames, RFC 6455, section 5.2.
const (
	opContinuation = 0x0
	opText         = 0x1
	opBinary       = 0x2
	opClose        = 0x8
	opPing         = 0x9
	opPong         = 0xa
	finBit         = 0x80
	maskBit        = 0x80
)

// closeTimeout is the time that the server has to answer a close frame.
const closeTimeout = time.Second

// websocket is one connection. Only one goroutine reads. Several write: the reader, which
// answers pings, and others. A goroutine takes the element out of token, writes, and puts it
// back. token is not a mutex because a goroutine that waits for a mutex is not durably
// blocked, in the terms of testing/synctest.
type websocket struct {
	rwc   io.ReadWriteCloser
	buf   *bufio.Reader
	cut   func()        // closes rwc, once
	token chan struct{} // holds one element while no goroutine writes; guards over
	over  *time.Timer   // cuts the connection if the server does not answer a close frame
}

// dialWebSocket opens a websocket: a new connection, or the upgrade of the session that
// the engine has already.
func (e *engine) dialWebSocket(ctx context.Context) (*websocket, error) {
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
		defer func() { _ = res.Body.Close() }() // the connection has failed already
		b, err := io.ReadAll(io.LimitReader(res.Body, 1<<16))
		return nil, errors.Join(handshakeError(res.StatusCode, b), err)
	}
	w := &websocket{rwc: rwc, buf: bufio.NewReader(rwc), token: make(chan struct{}, 1)}
	w.cut = sync.OnceFunc(func() { _ = rwc.Close() })
	w.token <- struct{}{}
	return w, nil
}

var (
	errClosed = errors.New("websocket closed by the server")
	errFrame  = errors.New("not a frame that a server may send")
)

// read returns the next message. It answers pings, and a close frame.
func (w *websocket) read() (packet, error) {
	var p packet
	for {
		op, fin, data, err := w.readFrame()
		if err != nil {
			return p, err
		}
		switch op {
		case opPing:
			if err := w.frame(opPong, data); err != nil {
				return p, err
			}
			continue
		case opPong:
			continue
		case opClose:
			_ = w.frame(opClose, data) // the connection ends whether or not this succeeds
			return p, errClosed
		case opText, opBinary:
			p = packet{data: data, binary: op == opBinary}
		case opContinuation:
			p.data = append(p.data, data...)
		default:
			return p, errFrame
		}
		if !fin {
			continue
		}
		if !p.binary && len(p.data) == 0 {
			return p, errFrame // Engine.IO has no packet without a type
		}
		return p, nil
	}
}

func (w *websocket) readFrame() (op byte, fin bool, data []byte, err error) {
	var head [8]byte
	if _, err := io.ReadFull(w.buf, head[:2]); err != nil {
		return 0, false, nil, err
	}
	op, fin = head[0]&0x0f, head[0]&finBit != 0
	if head[0]&0x70 != 0 || head[1]&maskBit != 0 { // no extension was agreed on, and servers do not mask
		return 0, false, nil, errFrame
	}
	n := uint64(head[1])
	if size := map[uint64]int{126: 2, 127: 8}[n]; size > 0 {
		clear(head[:])
		if _, err := io.ReadFull(w.buf, head[8-size:]); err != nil {
			return 0, false, nil, err
		}
		n = binary.BigEndian.Uint64(head[:])
	}
	// Read in steps, since the announced length may be wrong.
	data, err = io.ReadAll(io.LimitReader(w.buf, int64(min(n, 1<<40))))
	if err == nil && uint64(len(data)) < n {
		err = io.ErrUnexpectedEOF
	}
	return op, fin, data, err
}

// write sends messages.
func (w *websocket) write(ps ...packet) error {
	for _, p := range ps {
		op := byte(opText)
		if p.binary {
			op = opBinary
		}
		if err := w.frame(op, p.data); err != nil {
			return err
		}
	}
	return nil
}

// frame sends one frame, masked as a client's must be.
func (w *websocket) frame(op byte, data []byte) error {
	b := make([]byte, 0, 14+len(data))
	switch n := len(data); {
	case n < 126:
		b = append(b, finBit|op, maskBit|byte(n))
	case n < 1<<16:
		b = binary.BigEndian.AppendUint16(append(b, finBit|op, maskBit|126), uint16(n))
	default:
		b = binary.BigEndian.AppendUint64(append(b, finBit|op, maskBit|127), uint64(n))
	}
	var mask [4]byte
	_, _ = rand.Read(mask[:]) // never fails
	b = append(b, mask[:]...)
	for i, c := range data {
		b = append(b, c^mask[i%4])
	}
	<-w.token
	defer func() { w.token <- struct{}{} }()
	_, err := w.rwc.Write(b)
	return err
}

// close sends a close frame. The reader sees the server's answer, or after closeTimeout
// the end of the connection.
func (w *websocket) close() error {
	err := w.frame(opClose, []byte{1000 >> 8, 1000 & 0xff}) // normal
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
