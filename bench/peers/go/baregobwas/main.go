// Command baregobwas is the contract on gobwas/ws alone: it upgrades on the TCP
// connection without net/http, and one goroutine per connection takes a buffer
// only while it reads a frame.
package main

import (
	"bufio"
	"bytes"
	"io"
	"log"
	"net"
	"net/http"
	"strings"
	"sync"

	"github.com/gobwas/ws"

	"github.com/rodando/realtime/bench/peers/bare"
	"github.com/rodando/realtime/bench/peers/contract"
)

const maxMessage = 4096

var buffers = sync.Pool{New: func() any { return new([maxMessage]byte) }}

// A relay is a listener for connections that are not for Socket.IO.
type relay struct {
	net.Listener
	conns chan net.Conn
}

func (r *relay) Accept() (net.Conn, error) { return <-r.conns, nil }

// A peeked connection is read through what has read its beginning.
type peeked struct {
	net.Conn
	r io.Reader
}

func (p *peeked) Read(b []byte) (int, error) { return p.r.Read(b) }

func main() {
	hub := bare.NewHub(true)
	l, err := net.Listen("tcp", contract.Addr())
	if err != nil {
		log.Fatal(err)
	}
	rest := &relay{l, make(chan net.Conn, 16)}
	go func() { log.Fatal(http.Serve(rest, hub.Handle(nil))) }()
	for {
		conn, err := l.Accept()
		if err != nil {
			log.Fatal(err)
		}
		go func() {
			if upgrade(conn, rest) {
				go read(hub, conn) // a fresh goroutine has a fresh, small stack
			}
		}()
	}
}

// upgrade reports whether conn is a websocket now.
func upgrade(conn net.Conn, rest *relay) bool {
	br := bufio.NewReaderSize(conn, 1024)
	head, err := br.Peek(len("GET /socket.io/"))
	if err != nil {
		_ = conn.Close()
		return false
	}
	if !strings.HasPrefix(string(head), "GET /socket.io/") {
		rest.conns <- &peeked{conn, br}
		return false
	}
	var out bytes.Buffer
	_, err = (&ws.Upgrader{}).Upgrade(struct {
		io.Reader
		io.Writer
	}{br, &out})
	if err == nil {
		_, err = conn.Write(out.Bytes())
	}
	if err != nil {
		_ = conn.Close()
	}
	return err == nil
}

func read(hub *bare.Hub, conn net.Conn) {
	c := &bare.Client{
		Write: func(b []byte) { _, _ = conn.Write(b) }, // the reader learns of errors
		Close: func() { _ = conn.Close() },
	}
	hub.Open(c)
	for message(hub, c, conn) {
	}
	_ = conn.Close()
	hub.Gone(c)
}

// message reads one and reports whether there may be another.
func message(hub *bare.Hub, c *bare.Client, conn net.Conn) bool {
	h, err := ws.ReadHeader(conn)
	if err != nil || h.Length > maxMessage {
		return false
	}
	buf := buffers.Get().(*[maxMessage]byte)
	defer buffers.Put(buf)
	p := buf[:h.Length]
	if _, err := io.ReadFull(conn, p); err != nil {
		return false
	}
	if h.Masked {
		ws.Cipher(p, h.Mask, 0)
	}
	if h.OpCode == ws.OpClose {
		_, _ = conn.Write(ws.CompiledCloseNormalClosure)
		return false
	}
	hub.HandleText(c, p)
	return true
}
