// Package client speaks Fettle's API to a daemon on its unix socket.
package client

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
)

// Client asks one daemon. It is safe for concurrent use.
//
// Errors are of the kinds of package api: errors.Is with fettle.ErrNotFound, api.ErrNoDaemon and so on.
type Client struct {
	socket string
	http   *http.Client
}

// New makes a client for the daemon that listens on the socket. It does not connect yet.
func New(socket string) *Client {
	t := &http.Transport{
		DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
			return (&net.Dialer{}).DialContext(ctx, "unix", socket)
		},
		MaxIdleConns:    4,
		IdleConnTimeout: 30 * time.Second,
	}
	return &Client{socket: socket, http: &http.Client{Transport: t}}
}

// Socket is the path that it was made with.
func (c *Client) Socket() string { return c.socket }

// Close gives idle connections back.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// Version says who answers.
func (c *Client) Version(ctx context.Context) (v api.Version, err error) {
	return v, c.get(ctx, "/v1/version", &v)
}

// Pools are all pools with their instances, by name.
func (c *Client) Pools(ctx context.Context) (p []api.PoolStatus, err error) {
	return p, c.get(ctx, "/v1/pools", &p)
}

// Pool is one pool with its instances.
func (c *Client) Pool(ctx context.Context, name fettle.PoolName) (p api.PoolStatus, err error) {
	return p, c.get(ctx, "/v1/pools/"+url.PathEscape(string(name)), &p)
}

// Instance is one instance.
func (c *Client) Instance(ctx context.Context, id fettle.InstanceID) (in api.InstanceStatus, err error) {
	return in, c.get(ctx, instancePath(id), &in)
}

// Destinations are the addresses that an instance calls, most calls first; none where that is not measured.
func (c *Client) Destinations(ctx context.Context, id fettle.InstanceID) (d []api.Destination, err error) {
	return d, c.get(ctx, instancePath(id)+"/destinations", &d)
}

// Syscalls counts an instance's system calls for a moment, most frequent first. All programs on the machine are a little
// slower meanwhile, so it may wait for some seconds where that was just done.
func (c *Client) Syscalls(ctx context.Context, id fettle.InstanceID) (s []api.SystemCall, err error) {
	return s, c.send(ctx, http.MethodPost, instancePath(id)+"/syscalls", nil, nil, &s)
}

func instancePath(id fettle.InstanceID) string {
	return "/v1/pools/" + url.PathEscape(string(id.Pool())) + "/instances/" + url.PathEscape(string(id))
}

// Plan is what mode heal would do now.
func (c *Client) Plan(ctx context.Context, pool fettle.PoolName) (p api.Plan, err error) {
	return p, c.get(ctx, "/v1/pools/"+url.PathEscape(string(pool))+"/plan", &p)
}

// Command asks a pool for something. It returns when that is accepted or refused; with wait when it is done.
func (c *Client) Command(ctx context.Context, pool fettle.PoolName, cmd fettle.Command, wait bool) (o api.Outcome, err error) {
	q := url.Values{}
	if wait {
		q.Set("wait", "1")
	}
	return o, c.send(ctx, http.MethodPost, "/v1/pools/"+url.PathEscape(string(pool))+"/commands", q, cmd, &o)
}

// Apply makes pools the desired state of the daemon: others are stopped and removed.
func (c *Client) Apply(ctx context.Context, pools []fettle.Pool) (a api.Applied, err error) {
	return a, c.send(ctx, http.MethodPut, "/v1/pools", nil, api.Desired{Pools: pools}, &a)
}

// Remove drains, stops and forgets a pool; it returns when its last instance has ended.
func (c *Client) Remove(ctx context.Context, pool fettle.PoolName) error {
	return c.send(ctx, http.MethodDelete, "/v1/pools/"+url.PathEscape(string(pool)), nil, nil, nil)
}

// Doctor is what the machine gives.
func (c *Client) Doctor(ctx context.Context) (f []api.Fact, err error) {
	return f, c.get(ctx, "/v1/doctor", &f)
}

// Shutdown ends the daemon; it returns when the daemon has begun to.
func (c *Client) Shutdown(ctx context.Context, s api.Shutdown) error {
	return c.send(ctx, http.MethodPost, "/v1/shutdown", nil, s, nil)
}

// Metrics is the Prometheus text.
func (c *Client) Metrics(ctx context.Context) ([]byte, error) {
	resp, err := c.do(ctx, http.MethodGet, "/metrics", nil, nil)
	if err != nil {
		return nil, err
	}
	defer resp.Body.Close()
	return io.ReadAll(resp.Body)
}

// Log calls f with the entries that the filter selects, oldest first; with Follow until ctx ends, f fails or the daemon
// ends. It returns nil at the end of the history or of the daemon, and the error of f otherwise.
func (c *Client) Log(ctx context.Context, filter api.LogFilter, f func(api.LogEntry) error) error {
	resp, err := c.do(ctx, http.MethodGet, "/v1/log", filter.Query(), nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	d := json.NewDecoder(resp.Body)
	for {
		var e api.LogEntry
		switch err := d.Decode(&e); {
		case errors.Is(err, io.EOF):
			return nil
		case err != nil:
			return fmt.Errorf("log of the daemon: %w", err)
		}
		if err := f(e); err != nil {
			return err
		}
	}
}

// Record calls f with each line of a recording of a pool, as package recording describes them, until ctx ends, f fails or the
// daemon ends: io.EOF then says that it did so in order, io.ErrUnexpectedEOF that it broke off. f also gets an empty line
// now and then. Lines are good until f returns.
func (c *Client) Record(ctx context.Context, pool fettle.PoolName, secrets bool, f func(line []byte) error) error {
	q := url.Values{}
	if secrets {
		q.Set("secrets", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/pools/"+url.PathEscape(string(pool))+"/recording", q, nil)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	in := bufio.NewReaderSize(resp.Body, 64<<10)
	var line []byte
	for {
		part, err := in.ReadSlice('\n')
		line = append(line, part...)
		switch {
		case errors.Is(err, bufio.ErrBufferFull):
			continue
		case err != nil && ctx.Err() != nil:
			return ctx.Err()
		case err != nil:
			return err
		}
		if err := f(bytes.TrimRight(line, "\n")); err != nil {
			return err
		}
		line = line[:0]
	}
}

// Output is what an instance wrote: the last lines (0: all that is kept), and with follow what it writes from now on. The
// caller closes it.
func (c *Client) Output(ctx context.Context, id fettle.InstanceID, lines int, follow bool) (io.ReadCloser, error) {
	q := url.Values{}
	if lines > 0 {
		q.Set("lines", strconv.Itoa(lines))
	}
	if follow {
		q.Set("follow", "1")
	}
	resp, err := c.do(ctx, http.MethodGet, "/v1/logs/"+url.PathEscape(string(id)), q, nil)
	if err != nil {
		return nil, err
	}
	return resp.Body, nil
}

func (c *Client) get(ctx context.Context, path string, to any) error {
	return c.send(ctx, http.MethodGet, path, nil, nil, to)
}

func (c *Client) send(ctx context.Context, method, path string, q url.Values, body, to any) error {
	resp, err := c.do(ctx, method, path, q, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if to == nil {
		_, err = io.Copy(io.Discard, resp.Body)
		return err
	}
	if err := json.NewDecoder(resp.Body).Decode(to); err != nil {
		return fmt.Errorf("%s %s: answer: %w", method, path, err)
	}
	return nil
}

func (c *Client) do(ctx context.Context, method, path string, q url.Values, body any) (*http.Response, error) {
	var r io.Reader
	if body != nil {
		b, err := json.Marshal(body)
		if err != nil {
			return nil, fmt.Errorf("%s %s: %w", method, path, err)
		}
		r = bytes.NewReader(b)
	}
	u := "http://fettle" + path
	if len(q) > 0 {
		u += "?" + q.Encode()
	}
	req, err := http.NewRequestWithContext(ctx, method, u, r)
	if err != nil {
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	resp, err := c.http.Do(req)
	if err != nil {
		if ctx.Err() != nil {
			return nil, ctx.Err()
		}
		var op *net.OpError
		if errors.As(err, &op) && op.Op == "dial" {
			return nil, fmt.Errorf("%s: %w", c.socket, api.ErrNoDaemon)
		}
		return nil, fmt.Errorf("%s %s: %w", method, path, err)
	}
	if resp.StatusCode/100 == 2 {
		return resp, nil
	}
	defer resp.Body.Close()
	return nil, readError(method+" "+path, resp)
}

func readError(what string, resp *http.Response) error {
	b, _ := io.ReadAll(io.LimitReader(resp.Body, 1<<20))
	e, err := api.DecodeError(b)
	if err != nil {
		return fmt.Errorf("%s: %s: %s", what, resp.Status, strings.TrimSpace(string(b)))
	}
	return e
}
