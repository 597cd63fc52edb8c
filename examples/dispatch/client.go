// A Socket.IO client in a hundred lines, for simulated drivers: one namespace
// over one websocket, text only, without acks. An app uses socket.io-client.

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
	"sync"
	"time"

	"github.com/gobwas/ws"
	"github.com/gobwas/ws/wsutil"
)

// errDisconnected says that the server disconnected the client from its namespace. A
// client does not reconnect by itself then.
var errDisconnected = errors.New("io server disconnect")

// client is connected once dial returns. emit may be called concurrently; next
// may not.
type client struct {
	namespace string
	conn      net.Conn
	in        io.ReadWriter // conn, after bytes that arrived with the handshake's answer
	silence   time.Duration // maximum time between two packets of the server

	mu sync.Mutex // held while a frame is written
}

// dial connects to a server such as "http://localhost:3000". The error of a
// refused CONNECT holds the server's payload.
func dial(ctx context.Context, server, namespace, token string) (*client, error) {
	url := "ws" + strings.TrimPrefix(server, "http") + "/socket.io/?EIO=4&transport=websocket"
	conn, early, _, err := ws.Dial(ctx, url)
	if err != nil {
		return nil, fmt.Errorf("dialing: %w", err)
	}
	c := &client{namespace: namespace, conn: conn, in: conn, silence: time.Minute}
	if early != nil {
		c.in = struct {
			io.Reader
			io.Writer
		}{early, conn}
	}
	defer context.AfterFunc(ctx, func() { _ = conn.Close() })() // ends the reads below
	if err := c.connect(token); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *client) connect(token string) error {
	open, err := c.read()
	if err != nil {
		return err
	}
	var heartbeat struct {
		PingInterval int64 `json:"pingInterval"`
		PingTimeout  int64 `json:"pingTimeout"`
	}
	if err := json.Unmarshal(bytes.TrimPrefix(open, []byte("0")), &heartbeat); err != nil {
		return fmt.Errorf("open packet: %w", err)
	}
	c.silence = time.Duration(heartbeat.PingInterval+heartbeat.PingTimeout) * time.Millisecond
	auth, err := json.Marshal(map[string]string{"token": token})
	if err != nil {
		return err
	}
	if err := c.write("40" + c.namespace + "," + string(auth)); err != nil {
		return err
	}
	answer, err := c.read()
	if err != nil {
		return err
	}
	if refused, ok := bytes.CutPrefix(answer, []byte("44"+c.namespace+",")); ok {
		return fmt.Errorf("refused: %s", refused)
	}
	return nil
}

// emit sends an event with one argument.
func (c *client) emit(event string, arg any) error {
	packet, err := json.Marshal([]any{event, arg})
	if err != nil {
		return err
	}
	return c.write("42" + c.namespace + "," + string(packet))
}

// next waits for an event and returns its name and first argument. It answers
// the heartbeat, so it must be called again and again.
func (c *client) next() (event string, arg json.RawMessage, err error) {
	for {
		packet, err := c.read()
		if err != nil {
			return "", nil, err
		}
		if bytes.HasPrefix(packet, []byte("41"+c.namespace)) {
			return "", nil, errDisconnected
		}
		body, ok := bytes.CutPrefix(packet, []byte("42"+c.namespace+","))
		if !ok {
			continue
		}
		body = bytes.TrimLeft(body, "0123456789") // an ack id: the server would like to know that it has arrived
		var args []json.RawMessage
		if err := json.Unmarshal(body, &args); err != nil || len(args) == 0 || json.Unmarshal(args[0], &event) != nil {
			return "", nil, fmt.Errorf("not an event: %.80s", body)
		}
		return event, append(args, nil)[1], nil
	}
}

// read returns the next packet. It answers pings.
func (c *client) read() ([]byte, error) {
	for {
		if err := c.conn.SetReadDeadline(time.Now().Add(c.silence)); err != nil {
			return nil, err
		}
		packet, err := wsutil.ReadServerText(c.in)
		if err != nil {
			return nil, err
		}
		if string(packet) != "2" {
			return packet, nil
		}
		if err := c.write("3"); err != nil {
			return nil, err
		}
	}
}

func (c *client) write(packet string) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if err := c.conn.SetWriteDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return err
	}
	return wsutil.WriteClientText(c.conn, []byte(packet))
}

func (c *client) close() error { return c.conn.Close() }
