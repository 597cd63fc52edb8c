// HTTP requests: the handshakes of both transports, and long-polling.

package realtimetest

import (
	"bytes"
	"context"
	"encoding/base64"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"net/http"
)

// HandshakeError is the HTTP response with which a server refused an Engine.IO
// handshake.
type HandshakeError struct {
	Status  int    // HTTP status, such as 403
	Code    int    // Engine.IO error code, such as 4; -1 if the response has none
	Message string // message of the error, such as "Forbidden", or the response's body
}

// Error implements error.
func (e *HandshakeError) Error() string {
	return fmt.Sprintf("handshake refused: %d %s: %s", e.Status, http.StatusText(e.Status), e.Message)
}

func handshakeError(status int, body []byte) error {
	e := &HandshakeError{Status: status, Code: -1, Message: string(bytes.TrimSpace(body))}
	var p struct {
		Code    *int   `json:"code"`
		Message string `json:"message"`
	}
	if json.Unmarshal(body, &p) == nil && p.Code != nil {
		e.Code, e.Message = *p.Code, p.Message
	}
	return e
}

// request returns a request for a transport.
func (e *engine) request(ctx context.Context, method, transport string, body io.Reader) (*http.Request, error) {
	u := e.url
	q := u.Query()
	q.Set("EIO", "4")
	q.Set("transport", transport)
	if e.sid != "" {
		q.Set("sid", e.sid)
	}
	u.RawQuery = q.Encode()
	r, err := http.NewRequestWithContext(ctx, method, u.String(), body)
	if err != nil {
		return nil, err
	}
	maps.Copy(r.Header, e.header)
	if host := r.Header.Get("Host"); host != "" {
		r.Host = host
	}
	return r, nil
}

// poll makes one polling request and returns its packets, at least one.
func (e *engine) poll(ctx context.Context) ([]packet, error) {
	body, err := e.exchange(ctx, http.MethodGet, nil)
	if err != nil {
		return nil, err
	}
	var packets []packet
	for part := range bytes.SplitSeq(body, []byte{separator}) {
		p := packet{data: part}
		switch {
		case len(part) == 0:
			return nil, errors.New("empty packet")
		case part[0] == 'b':
			p.binary = true
			if p.data, err = base64.StdEncoding.DecodeString(string(part[1:])); err != nil {
				return nil, err
			}
		}
		packets = append(packets, p)
	}
	return packets, nil
}

// post sends packets in one POST request.
func (e *engine) post(ps ...packet) error {
	var b []byte
	for i, p := range ps {
		if i > 0 {
			b = append(b, separator)
		}
		if p.binary {
			b = base64.StdEncoding.AppendEncode(append(b, 'b'), p.data)
		} else {
			b = append(b, p.data...)
		}
	}
	_, err := e.exchange(e.ctx, http.MethodPost, b)
	return err
}

func (e *engine) exchange(ctx context.Context, method string, body []byte) ([]byte, error) {
	r, err := e.request(ctx, method, "polling", bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	if method == http.MethodPost {
		r.Header.Set("Content-Type", "text/plain;charset=UTF-8")
	}
	res, err := e.client.Do(r)
	if err != nil {
		return nil, err
	}
	defer func() { _ = res.Body.Close() }() // the body has been read to its end
	b, err := io.ReadAll(res.Body)
	if err == nil && res.StatusCode != http.StatusOK {
		err = handshakeError(res.StatusCode, b)
	}
	return b, err
}
