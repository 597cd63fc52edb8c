// HTTP/1.1 over kept connections: one request at a time on each.

package main

import (
	"bytes"
	"errors"
	"fmt"
	"strconv"
)

// request sends req on *c, which it opens to a server or reopens as needed; fn gets the
// answer, or statusLost. The answer's body is valid during the call.
func (l *loop) request(c **conn, to *target, req []byte, fn func(status int, body []byte)) error {
	if k := *c; k != nil && k.state != stClosed {
		if k.answer != nil {
			return errors.New("a request is already under way")
		}
		// A connection that the server has just closed fails here; then a new
		// one is opened.
		l.write(k, req)
		if k.state != stClosed {
			k.answer = fn
			return nil
		}
	}
	*c = &conn{kind: kindRequest, to: to, request: bytes.Clone(req), answer: fn}
	return l.open(*c)
}

// postTo sends a POST to the first server.
func (l *loop) postTo(c **conn, path string, body []byte, fn func(status int, body []byte)) error {
	return l.request(c, nil, appendPost(nil, l.first, path, body), fn)
}

func appendPost(b []byte, to *target, path string, body []byte) []byte {
	b = fmt.Appendf(b, "POST %s HTTP/1.1\r\nHost: %s\r\nContent-Type: text/plain;charset=UTF-8\r\nContent-Length: %d\r\n\r\n", path, to.host, len(body))
	return append(b, body...)
}

// consumeHTTP takes one answer off b; nothing follows it, since nothing more was
// asked.
func (l *loop) consumeHTTP(c *conn, b []byte) int {
	status, body, size, err := parseResponse(b)
	switch {
	case err != nil:
		l.drop(c, err.Error())
		return 0
	case size == 0:
		return 0
	case size < len(b):
		l.drop(c, "more than one answer")
		return 0
	}
	if c.kind == kindPoll {
		l.polled(c, status, body)
	} else if fn := c.answer; fn != nil {
		c.answer = nil
		fn(status, body)
	}
	return size
}

// parseResponse returns the response at the start of b and its length, 0 when it
// is not complete. A body without Content-Length is an error: the contract's
// servers all say how long their short answers are.
func parseResponse(b []byte) (status int, body []byte, size int, err error) {
	head := headerEnd(b)
	if head == 0 {
		return 0, nil, 0, nil
	}
	line, rest, _ := bytes.Cut(b[:head], []byte("\r\n"))
	if len(line) < 12 {
		return 0, nil, 0, fmt.Errorf("bad status line %q", line)
	}
	if status, err = strconv.Atoi(string(line[9:12])); err != nil {
		return 0, nil, 0, fmt.Errorf("bad status line %q", line)
	}
	if status == 204 || status == 304 {
		return status, nil, head, nil
	}
	for len(rest) > 0 {
		line, rest, _ = bytes.Cut(rest, []byte("\r\n"))
		name, value, _ := bytes.Cut(line, []byte(":"))
		if !bytes.EqualFold(name, []byte("content-length")) {
			continue
		}
		n, err := strconv.Atoi(string(bytes.TrimSpace(value)))
		if err != nil || n < 0 {
			return 0, nil, 0, fmt.Errorf("bad content length %q", value)
		}
		if len(b)-head < n {
			return 0, nil, 0, nil
		}
		return status, b[head : head+n], head + n, nil
	}
	return 0, nil, 0, errors.New("an answer without Content-Length")
}

// headerEnd returns where the body begins, 0 when the header is not complete.
func headerEnd(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + 4
	}
	return 0
}
