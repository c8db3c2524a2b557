package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"
)

// redisKeys is how many keys of a usual size an instance holds.
const redisKeys = 2000

// fill is the data that an instance has when it is well.
const fill = `redis.call('FLUSHALL')
for i=0,tonumber(ARGV[1])-1 do redis.call('SET','k'..i,string.rep('x',200)) redis.call('ZADD','board',i,'member'..i) end`

// fillRedis gives an instance its usual data, and no other.
func fillRedis(ctx context.Context, addr string) error {
	c, err := dialRedis(ctx, addr)
	if err != nil {
		return err
	}
	defer c.close()
	return errors.Join(c.do("EVAL", fill, "0", strconv.Itoa(redisKeys)), c.do("MEMORY", "PURGE"))
}

// redisConn is a connection with one command at a time.
type redisConn struct {
	net.Conn
	in *bufio.Reader
}

func dialRedis(ctx context.Context, addr string) (*redisConn, error) {
	var d net.Dialer
	c, err := d.DialContext(ctx, "tcp", addr)
	if err != nil {
		return nil, fmt.Errorf("redis: %w", err)
	}
	return &redisConn{c, bufio.NewReader(c)}, nil
}

func (c *redisConn) close() { _ = c.Close() } // it may be closed already

// do gives a command and drops the answer.
func (c *redisConn) do(args ...string) error {
	_, err := c.ask(args...)
	return err
}

// ask gives a command; found is false where the answer is nil.
func (c *redisConn) ask(args ...string) (found bool, err error) {
	var b strings.Builder
	fmt.Fprintf(&b, "*%d\r\n", len(args))
	for _, a := range args {
		fmt.Fprintf(&b, "$%d\r\n%s\r\n", len(a), a)
	}
	if err := c.SetDeadline(time.Now().Add(patience)); err != nil {
		return false, err
	}
	if _, err := io.WriteString(c, b.String()); err != nil {
		return false, err
	}
	return c.reply()
}

// reply reads an answer of the protocol (RESP 2).
func (c *redisConn) reply() (found bool, err error) {
	line, err := c.in.ReadString('\n')
	if err != nil || len(line) < 3 {
		return false, errors.Join(err, errors.New("redis: an answer broke off"))
	}
	rest := strings.TrimRight(line[1:], "\r\n")
	n, _ := strconv.Atoi(rest) // of a kind that has no number it is not used
	switch line[0] {
	case '-':
		return false, errors.New("redis: " + rest)
	case '$':
		if n < 0 {
			return false, nil
		}
		_, err = c.in.Discard(n + 2)
	case '*':
		for range n {
			if _, err := c.reply(); err != nil {
				return false, err
			}
		}
	}
	return err == nil, err
}

// redisRequest is one arrival: what a client of a cache does.
func redisRequest(rnd *rand.Rand, c *change) func(*redisConn) error {
	key := "k" + strconv.Itoa(int(float64(redisKeys)*rnd.Float64()*rnd.Float64()))
	size := 200
	if c.is(payloads) {
		size = int(c.size)
	}
	value := strings.Repeat("x", size)
	u := rnd.Float64()
	if c.is(routes) && u < 0.6 {
		return func(r *redisConn) error { return r.do("ZRANGE", "board", "0", "400", "WITHSCORES") }
	}
	switch {
	case u < 0.1:
		return func(r *redisConn) error { return r.do("SET", key, value) }
	case u < 0.2:
		return func(r *redisConn) error { return r.do("MGET", key, "k1", "k2", "k3", "k4", "k5", "k6") }
	case u < 0.3:
		return func(r *redisConn) error { return r.do("ZRANGE", "board", "0", "20") }
	}
	return func(r *redisConn) error {
		found, err := r.ask("GET", key)
		if err == nil && !found {
			return r.do("SET", key, value)
		}
		return err
	}
}
