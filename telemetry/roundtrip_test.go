package telemetry

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
)

// byHand is a server that answers each request with the parts, one after the other, and then closes the connection, or
// keeps it open until the client closes.
func byHand(t *testing.T, keeps bool, pause time.Duration, parts ...string) ft.Endpoint {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				in := bufio.NewReader(c)
				for line := ""; line != "\r\n"; {
					if line, err = in.ReadString('\n'); err != nil {
						return
					}
				}
				for _, p := range parts {
					answer(c, p)
					time.Sleep(pause)
				}
				if keeps {
					_, _ = io.Copy(io.Discard, in) // until the client has enough
				}
			}()
		}
	}()
	return ft.Endpoint{Network: "tcp", Address: l.Addr().String()}
}

// Whatever way a server cuts and ends its answer, it is read; one that keeps the connection open is not waited for.
func TestScrapeOfAnswersInAllForms(t *testing.T) {
	const ok = "HTTP/1.1 200 OK\r\n"
	chunk := func(s string) string { return fmt.Sprintf("%x\r\n%s\r\n", len(s), s) }
	for name, c := range map[string]struct {
		keeps bool
		parts []string
		want  string // why there is no value
	}{
		"length, kept open":       {true, []string{ok + "Content-Length: 5\r\n\r\nup 3\n"}, ""},
		"length, more than it":    {true, []string{ok + "Content-Length: 5\r\n\r\nup 3\nup 4\n"}, ""},
		"chunks, kept open":       {true, []string{ok + "Transfer-Encoding: chunked\r\n\r\n", chunk("up"), chunk(" 3\n"), "0\r\n\r\n"}, ""},
		"a chunk like an end":     {true, []string{ok + "Transfer-Encoding: chunked\r\n\r\n", chunk("x 1\r\n"), chunk("up 3\n"), "0\r\n\r\n"}, ""},
		"trailers":                {true, []string{ok + "Transfer-Encoding: chunked\r\n\r\n", chunk("up 3\n"), "0\r\nx: y\r\n\r\n"}, ""},
		"until the end":           {false, []string{"HTTP/1.0 200 OK\r\n\r\nup ", "3\n"}, ""},
		"byte by byte":            {false, strings.Split(ok+"Content-Length: 5\r\n\r\nup 3\n", ""), ""},
		"lines without \\r":       {true, []string{"HTTP/1.1 200 OK\nContent-Length: 5\n\nup 3\n"}, ""},
		"a hint before":           {true, []string{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", ok + "Content-Length: 5\r\n\r\nup 3\n"}, ""},
		"another protocol":        {true, []string{"220 mail.example.org ESMTP\r\n"}, "malformed HTTP"},
		"nothing":                 {false, nil, "EOF"},
		"broken off in headers":   {false, []string{ok + "Content-"}, "malformed MIME header"},
		"broken off in a chunk":   {false, []string{ok + "Transfer-Encoding: chunked\r\n\r\n10\r\nup 3\n"}, "unexpected EOF"},
		"headers without an end":  {true, []string{ok, strings.Repeat("x: y\r\n", mostHeader/6)}, ""},
		"the last chunk is amiss": {true, []string{ok + "Transfer-Encoding: chunked\r\n\r\n", chunk("up 3\n")}, "no whole answer within"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			m := series("up")
			m.Timeout = ft.Duration(10 * time.Second)
			if strings.HasPrefix(c.want, "no whole answer") {
				m.Timeout = ft.Duration(300 * time.Millisecond)
			}
			pause := 100 * time.Millisecond // so that it is looked for in between
			if len(c.parts) > 9 {
				pause = time.Millisecond
			}
			s := scrapes(t, m, byHand(t, c.keeps, pause, c.parts...))
			switch {
			case c.want != "":
				s.told("up", c.want)
			case name == "headers without an end":
				s.until("it is refused", func() bool { return s.missing()["up"] != "" })
			default:
				s.until("the value", func() bool { return s.v[0] == 3 })
			}
		})
	}
}

// Many that stall keep nobody waiting: another one is scraped in its interval.
func TestScrapeAmongMany(t *testing.T) {
	stalled := byHand(t, true, 0, "HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n")
	quick := byHand(t, true, 0, "HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nup 3\n")
	m := series("up")
	m.Path, m.Every, m.Timeout = "/metrics", ft.Duration(20*time.Millisecond), ft.Duration(time.Hour)
	src := Scrape(&m)
	attach := func(id string, at ft.Endpoint) ft.Reader {
		r, _, err := src.Attach(ft.Instance{Ref: ft.Ref{ID: ft.InstanceID(id), Generation: 1}, Endpoint: at})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = r.Close() })
		return r
	}
	for range 50 {
		attach("web-1", stalled)
	}
	r := attach("web-2", quick)
	for end, n := time.Now().Add(20*time.Second), 0; n < 3; time.Sleep(time.Millisecond) {
		row := []float64{0}
		if err := r.Read(time.Now(), row, nil); err != nil || time.Now().After(end) {
			t.Fatalf("%d values, %v, %v", n, err, r.(Reporter).Missing())
		}
		if row[0] == 3 {
			n++
		}
	}
}
