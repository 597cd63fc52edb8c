// Package redisclient makes the Redis clients of redisadapter and redisbus from a URL.
package redisclient

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/redis/rueidis"

	"github.com/rodando/realtime/internal/rawsocket"
)

// WriteTimeout is how long Redis may take to answer before the connection is closed.
const WriteTimeout = 2 * time.Second

// topologyInterval is the interval of requests to Sentinel for the current master: the
// notification of a new master may be lost, and the old one still answers.
const topologyInterval = 5 * time.Second

// CheckOptions returns an error unless the host has set one of Options.URL and Options.Client, and
// rueidis accepts the URL. The error does not contain the URL.
func CheckOptions(url string, client rueidis.Client) error {
	switch {
	case url == "" && client == nil:
		return errors.New("set Options.URL or Options.Client")
	case url != "" && client != nil:
		return errors.New("set Options.URL or Options.Client, not both")
	case url == "":
		return nil
	}
	if _, err := rueidis.ParseURL(url); err != nil {
		return fmt.Errorf("Options.URL: %w", withoutURL(err))
	}
	return nil
}

// withoutURL keeps a password that is in the URL out of errors.
func withoutURL(err error) error {
	if _, ok := errors.AsType[*net.OpError](err); ok || err == nil {
		return err
	}
	return errors.New("not a URL of Redis, such as redis://host:6379; rueidis.ParseURL says which forms there are")
}

// Dial makes a client from a URL, with one connection for all commands that do not
// block, which keeps their order. adjust, if it is not nil, changes the options.
func Dial(url string, adjust func(*rueidis.ClientOption)) (rueidis.Client, error) {
	c, err := rueidis.ParseURL(url)
	if err != nil {
		return nil, withoutURL(err)
	}
	c.DisableCache = true // nothing is cached, and some servers do not support client-side caching
	c.PipelineMultiplex = -1
	c.ConnWriteTimeout = WriteTimeout
	c.Dialer.Timeout = WriteTimeout
	if c.DialCtxFn == nil { // otherwise it is not TCP, but a Unix socket
		c.DialCtxFn = dialAbrupt
	}
	if c.ClientName == "" {
		c.ClientName = "realtime"
	}
	if c.Sentinel.MasterSet != "" {
		c.Sentinel.TopologyRefreshInterval = topologyInterval
	}
	if adjust != nil {
		adjust(&c)
	}
	return rueidis.NewClient(c)
}

// dialAbrupt makes connections that discard unsent data when they close: once the
// network recovers, it would arrive after what the next connection has sent.
func dialAbrupt(ctx context.Context, address string, d *net.Dialer, secure *tls.Config) (net.Conn, error) {
	c, err := d.DialContext(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	if t, ok := c.(*net.TCPConn); ok {
		if err := t.SetLinger(0); err != nil {
			_ = c.Close()
			return nil, err
		}
		c = rawsocket.Conn(t) // rueidis has one reader and one writer
	}
	if secure == nil {
		return c, nil
	}
	return handshake(ctx, c, address, secure)
}

// handshake does what tls.Dialer does.
func handshake(ctx context.Context, c net.Conn, address string, secure *tls.Config) (net.Conn, error) {
	if secure.ServerName == "" {
		host, _, err := net.SplitHostPort(address)
		if err != nil {
			_ = c.Close()
			return nil, err
		}
		secure = secure.Clone()
		secure.ServerName = host
	}
	ctx, cancel := context.WithTimeout(ctx, WriteTimeout)
	defer cancel()
	s := tls.Client(c, secure)
	if err := s.HandshakeContext(ctx); err != nil {
		_ = c.Close()
		return nil, err
	}
	return s, nil
}
