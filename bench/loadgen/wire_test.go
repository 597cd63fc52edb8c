package main

import (
	"bytes"
	"strings"
	"testing"
)

func TestParseFrame(t *testing.T) {
	long := strings.Repeat("x", 300)
	for _, p := range []string{"", "2", strings.Repeat("a", 125), strings.Repeat("b", 126), long, strings.Repeat("c", 1<<16)} {
		b := serverFrame(p)
		for cut := range min(len(b), 12) {
			if _, n := parseFrame(b[:cut]); n != 0 && cut < len(b) {
				t.Fatalf("%d bytes of %d are a whole frame", cut, len(b))
			}
		}
		f, n := parseFrame(append(bytes.Clone(b), "rest"...))
		if n != len(b) || string(f.payload) != p || !f.fin || f.bad || f.op != opText {
			t.Errorf("frame of %d bytes: length %d of %d, %+v", len(p), n, len(b), f.op)
		}
	}
	if f, _ := parseFrame(appendFrame(nil, opText, "masked")); !f.bad {
		t.Error("a masked frame of a server passed")
	}
}

// serverFrame is a frame of ours without its mask.
func serverFrame(p string) []byte {
	b := appendFrame(nil, opText, p)
	head := len(b) - len(p) - 4
	b[1] &= 0x7f
	return append(b[:head:head], p...)
}

func TestParseResponse(t *testing.T) {
	whole := "HTTP/1.1 200 OK\r\ncontent-length: 2\r\nX: y\r\n\r\nok"
	for cut := range len(whole) {
		if _, _, n, err := parseResponse([]byte(whole[:cut])); n != 0 || err != nil {
			t.Fatalf("%q: %d, %v", whole[:cut], n, err)
		}
	}
	status, body, n, err := parseResponse([]byte(whole))
	if status != 200 || string(body) != "ok" || n != len(whole) || err != nil {
		t.Errorf("got %d %q %d %v", status, body, n, err)
	}
	if status, _, n, err := parseResponse([]byte("HTTP/1.1 204 No Content\r\n\r\n")); status != 204 || n != 27 || err != nil {
		t.Errorf("204: got %d %d %v", status, n, err)
	}
	for _, bad := range []string{"HTTP/1.1\r\n\r\n", "HTTP/1.1 abc\r\n\r\n", "HTTP/1.1 200 OK\r\n\r\n", "HTTP/1.1 200 OK\r\nContent-Length: -1\r\n\r\n"} {
		if _, _, _, err := parseResponse([]byte(bad)); err == nil {
			t.Errorf("%q passed", bad)
		}
	}
}

func TestQuantile(t *testing.T) {
	ns := []int64{5e6, 1e6, 3e6, 2e6, 4e6}
	for _, c := range []struct{ q, want float64 }{{0, 1}, {.5, 3}, {.99, 5}, {1, 5}} {
		if got := quantile(ns, c.q); got != c.want {
			t.Errorf("quantile %v: %v ms, want %v", c.q, got, c.want)
		}
	}
	if quantile(nil, .5) != 0 {
		t.Error("of nothing")
	}
}
