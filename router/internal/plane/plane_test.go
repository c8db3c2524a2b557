package plane

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/url"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// quiet logs nothing.
var quiet = slog.New(slog.DiscardHandler)

// rig is a pool that serves on loopback, with instances that are servers of this process.
type rig struct {
	*Pool
	t      *testing.T
	url    string
	addr   string
	client *http.Client
	mu     sync.Mutex
	table  *wire.Table
	events []wire.Event
	serial uint32
}

func newRig(t *testing.T, edit func(*wire.Table)) *rig {
	t.Helper()
	r := &rig{t: t}
	p := ft.Pool{Name: "web", Listen: "127.0.0.1:0", Detect: ft.Detect{Interval: ft.Duration(50 * time.Millisecond)}}
	p.Defaults()
	p.Probes.Readiness.Every = ft.Duration(50 * time.Millisecond)
	p.Route.SlowStart = ft.Duration(time.Nanosecond)
	r.table = &wire.Table{
		Pool: p.Name, Epoch: 1, Listen: p.Listen, Route: p.Route, Readiness: p.Probes.Readiness, Silence: p.Limits.Silence,
		Interval: p.Detect.Interval,
	}
	if edit != nil {
		edit(r.table)
	}
	r.Pool = New(r.table.Clone(), slog.New(slog.NewTextHandler(t.Output(), nil)), func(e wire.Event) {
		r.mu.Lock()
		r.events = append(r.events, e)
		r.mu.Unlock()
	})
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	s := r.Server()
	go s.Serve(l)
	r.addr = l.Addr().String()
	r.url = "http://" + r.addr
	r.client = &http.Client{Transport: &http.Transport{MaxIdleConnsPerHost: 100, DisableCompression: true}, Timeout: 20 * time.Second}
	t.Cleanup(func() {
		r.client.CloseIdleConnections()
		s.Close()
		r.Close()
	})
	return r
}

// change applies an edited table.
func (r *rig) change(edit func(*wire.Table)) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.table = r.table.Clone()
	r.table.Epoch++
	edit(r.table)
	if !r.Apply(r.table.Clone()) {
		r.t.Error("table was refused")
	}
}

// admit adds a member for the endpoint and waits until it is ready.
func (r *rig) admit(ep ft.Endpoint) ft.Ref {
	r.t.Helper()
	var ref ft.Ref
	r.change(func(t *wire.Table) {
		r.serial++
		ref = ft.Ref{ID: ft.NewInstanceID("web", r.serial), Generation: 1}
		t.Members = append(t.Members, wire.Member{Ref: ref, Endpoint: ep, Weight: 1, Since: time.Now()})
	})
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	if err := r.Ready(ctx, ref); err != nil {
		r.t.Fatal(err)
	}
	return ref
}

func (r *rig) remove(ref ft.Ref) {
	r.change(func(t *wire.Table) {
		i := t.Find(ref)
		t.Members = append(t.Members[:i], t.Members[i+1:]...)
	})
}

func (r *rig) drain(ref ft.Ref) error {
	r.change(func(t *wire.Table) { t.Members[t.Find(ref)].Draining = true })
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	return r.Drain(ctx, ref)
}

func (r *rig) stateOf(ref ft.Ref) string {
	for _, m := range r.Stats().Members {
		if m.Ref == ref {
			return m.State
		}
	}
	return "gone"
}

func (r *rig) seen() []wire.Event {
	r.mu.Lock()
	defer r.mu.Unlock()
	return append([]wire.Event(nil), r.events...)
}

// eventually waits for a condition of real servers.
func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	for end := time.Now().Add(20 * time.Second); time.Now().Before(end); time.Sleep(2 * time.Millisecond) {
		if ok() {
			return
		}
	}
	t.Fatalf("never: %s", what)
}

// instance starts a server and gives its endpoint.
func instance(t *testing.T, h http.HandlerFunc) (ft.Endpoint, *httptest.Server) {
	t.Helper()
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	u, err := url.Parse(s.URL)
	if err != nil {
		t.Fatal(err)
	}
	return ft.Endpoint{Network: "tcp", Address: u.Host}, s
}

func (r *rig) get(path string, header ...string) *http.Response {
	r.t.Helper()
	q, err := http.NewRequest(http.MethodGet, r.url+path, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	for i := 0; i < len(header); i += 2 {
		q.Header.Set(header[i], header[i+1])
	}
	resp, err := r.client.Do(q)
	if err != nil {
		r.t.Fatal(err)
	}
	return resp
}

func text(t *testing.T, resp *http.Response) string {
	t.Helper()
	defer resp.Body.Close()
	b, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return string(b)
}

func TestRequestAndAnswerPassUnchanged(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		w.Header().Set("X-Custom", q.Header.Get("X-Custom"))
		w.Header().Set("X-Fettle-Error", "reset")
		w.WriteHeader(http.StatusTeapot)
		fmt.Fprintf(w, "%s %s %s %q", q.Method, q.RequestURI, q.Host, b)
	})
	ref := r.admit(ep)
	for _, body := range []string{"", "short", strings.Repeat("long", 100_000)} {
		q, _ := http.NewRequest(http.MethodPost, r.url+"/a%2Fb/..;x?q=1;2&%zz", strings.NewReader(body))
		q.Host = "shop.example"
		q.Header.Set("X-Custom", "kept")
		resp, err := r.client.Do(q)
		if err != nil {
			t.Fatal(err)
		}
		want := fmt.Sprintf("POST /a%%2Fb/..;x?q=1;2&%%zz shop.example %q", body)
		if got := text(t, resp); got != want {
			t.Fatalf("got %.200s, want %.200s", got, want)
		}
		if resp.StatusCode != http.StatusTeapot || resp.Header.Get("X-Custom") != "kept" {
			t.Fatalf("got %s %v", resp.Status, resp.Header)
		}
		if resp.Header.Get("X-Fettle-Instance") != string(ref.ID)+"/1" || resp.Header.Get("X-Fettle-Error") != "" {
			t.Fatalf("got %v", resp.Header)
		}
	}
}

func TestChunkedBothWaysWithTrailers(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		http.NewResponseController(w).EnableFullDuplex()
		w.Header().Set("Trailer", "X-Sum")
		w.WriteHeader(http.StatusOK)
		http.NewResponseController(w).Flush()
		b := make([]byte, 100)
		for {
			n, err := q.Body.Read(b)
			w.Write(bytes.ToUpper(b[:n]))
			http.NewResponseController(w).Flush()
			if err != nil {
				break
			}
		}
		w.Header().Set("X-Sum", "of "+q.Trailer.Get("X-Note"))
		w.Header().Set(http.TrailerPrefix+"X-Late", "yes")
	})
	r.admit(ep)
	in, out := io.Pipe()
	q, _ := http.NewRequest(http.MethodPost, r.url+"/echo", in)
	q.Trailer = http.Header{"X-Note": nil}
	got := make(chan *http.Response, 1)
	go func() {
		resp, err := r.client.Do(q)
		if err != nil {
			t.Error(err)
		}
		got <- resp
	}()
	resp := <-got // the header comes before the body has begun
	if resp == nil {
		t.FailNow()
	}
	defer resp.Body.Close()
	b := make([]byte, 5)
	for _, word := range []string{"hello", "world"} {
		io.WriteString(out, word)
		if _, err := io.ReadFull(resp.Body, b); err != nil || string(b) != strings.ToUpper(word) {
			t.Fatalf("got %q, %v", b, err)
		}
	}
	q.Trailer.Set("X-Note", "note")
	out.Close()
	if rest, err := io.ReadAll(resp.Body); err != nil || len(rest) > 0 {
		t.Fatalf("got %q, %v", rest, err)
	}
	if resp.Trailer.Get("X-Sum") != "of note" || resp.Trailer.Get("X-Late") != "yes" {
		t.Fatalf("trailers: %v", resp.Trailer)
	}
}

func TestEventsAreFlushedAsTheyCome(t *testing.T) {
	r := newRig(t, nil)
	next := make(chan string)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Content-Type", "text/event-stream")
		http.NewResponseController(w).Flush()
		for s := range next {
			fmt.Fprintf(w, "data: %s\n\n", s)
			http.NewResponseController(w).Flush()
		}
	})
	r.admit(ep)
	resp := r.get("/events")
	defer resp.Body.Close()
	br := bufio.NewReader(resp.Body)
	for i := range 5 {
		next <- fmt.Sprint(i)
		line, err := br.ReadString('\n')
		if want := fmt.Sprintf("data: %d\n", i); err != nil || line != want {
			t.Fatalf("got %q, %v", line, err)
		}
		br.ReadString('\n')
	}
	close(next)
	if _, err := br.ReadString('\n'); !errors.Is(err, io.EOF) {
		t.Fatal(err)
	}
}

// raw sends bytes and reads what comes until the other side closes or a pause ends it.
func (r *rig) raw(send string) net.Conn {
	r.t.Helper()
	c, err := net.Dial("tcp", r.addr)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(c, send); err != nil {
		r.t.Fatal(err)
	}
	return c
}

func TestExpectContinueWaitsForTheInstance(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		if q.URL.Path == "/no" {
			w.Header().Set("Connection", "close")
			w.WriteHeader(http.StatusForbidden)
			return
		}
		b, _ := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%d bytes", len(b))
	})
	r.admit(ep)
	head := func(path string) string {
		return "POST " + path + " HTTP/1.1\r\nHost: x\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n"
	}
	br := bufio.NewReader(r.raw(head("/no")))
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusForbidden {
		t.Fatalf("got %v, %v", resp, err)
	}
	c := r.raw(head("/yes"))
	br = bufio.NewReader(c)
	if line, err := br.ReadString('\n'); err != nil || line != "HTTP/1.1 100 Continue\r\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	br.ReadString('\n')
	io.WriteString(c, "12345")
	if resp, err = http.ReadResponse(br, nil); err != nil || text(t, resp) != "5 bytes" {
		t.Fatalf("got %v, %v", resp, err)
	}
}

func TestInformationalResponsesPass(t *testing.T) {
	r := newRig(t, nil)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		w.Header().Set("Link", "</style.css>; rel=preload")
		w.WriteHeader(http.StatusEarlyHints)
		w.Header().Del("Link")
		io.WriteString(w, "body")
	})
	r.admit(ep)
	br := bufio.NewReader(r.raw("GET / HTTP/1.1\r\nHost: x\r\n\r\n"))
	resp, err := http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != http.StatusEarlyHints || resp.Header.Get("Link") == "" {
		t.Fatalf("got %v, %v", resp, err)
	}
	resp, err = http.ReadResponse(br, nil)
	if err != nil || resp.StatusCode != 200 || resp.Header.Get("Link") != "" || text(t, resp) != "body" {
		t.Fatalf("got %v, %v", resp, err)
	}
}

func TestOldClientsAndOldServers(t *testing.T) {
	r := newRig(t, nil)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer c.Close()
				if q, err := http.ReadRequest(bufio.NewReader(c)); err == nil {
					fmt.Fprintf(c, "HTTP/1.0 200 OK\r\n\r\n%s ends with the connection", q.Proto)
				}
			}()
		}
	}()
	r.admit(ft.Endpoint{Network: "tcp", Address: l.Addr().String()})
	b, err := io.ReadAll(r.raw("GET / HTTP/1.0\r\n\r\n"))
	if err != nil || !strings.HasPrefix(string(b), "HTTP/1.0 200 OK\r\n") ||
		!strings.HasSuffix(string(b), "\r\n\r\nHTTP/1.1 ends with the connection") || strings.Contains(string(b), "chunked") {
		t.Fatalf("got %q, %v", b, err)
	}
	if got := text(t, r.get("/")); got != "HTTP/1.1 ends with the connection" {
		t.Fatalf("got %q", got)
	}
}

func TestForwardedFieldsAreReplacedUnlessTrusted(t *testing.T) {
	for _, trust := range []bool{false, true} {
		r := newRig(t, func(t *wire.Table) { t.Route.TrustForwarded = trust })
		var seen http.Header
		ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) { seen = q.Header.Clone() })
		r.admit(ep)
		c := r.raw("GET / HTTP/1.1\r\nHost: shop.example\r\nX-Forwarded-For: 6.6.6.6\r\nX-Forwarded-Proto: https\r\n" +
			"X_Forwarded_For: 6.6.6.6\r\nX-Forwarded-Prefix: /evil\r\nForwarded: for=6.6.6.6\r\nX-Hop: secret\r\n" +
			"Connection: X-Hop, X-Forwarded-For\r\nKeep-Alive: 5\r\nProxy-Authorization: x\r\n\r\n")
		if _, err := http.ReadResponse(bufio.NewReader(c), nil); err != nil {
			t.Fatal(err)
		}
		want := map[string]string{
			"X-Forwarded-For": "127.0.0.1", "X-Forwarded-Proto": "http", "X-Forwarded-Host": "shop.example",
			"Forwarded": `for=127.0.0.1;host="shop.example";proto=http`, "X-Forwarded-Prefix": "", "X_forwarded_for": "",
			"X-Hop": "", "Keep-Alive": "", "Proxy-Authorization": "", "Connection": "",
		}
		if trust {
			want["X-Forwarded-For"] = "6.6.6.6, 127.0.0.1"
			want["X-Forwarded-Proto"] = "https"
			want["Forwarded"] = "for=6.6.6.6, " + want["Forwarded"]
			want["X-Forwarded-Prefix"] = "/evil"
		}
		for name, v := range want {
			if got := strings.Join(seen[name], "|"); got != v {
				t.Errorf("trust %v: %s is %q, want %q", trust, name, got, v)
			}
		}
	}
}

func TestSmuggledRequestsAreRefusedOrReframed(t *testing.T) {
	r := newRig(t, nil)
	var requests atomic.Int32
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		requests.Add(1)
		b, err := io.ReadAll(q.Body)
		fmt.Fprintf(w, "%q %v", b, err)
	})
	r.admit(ep)
	for _, c := range []struct{ name, send, want string }{
		{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab", "400"},
		{"bad chunked", "POST / HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: xchunked\r\n\r\n0\r\n\r\n", "501"},
		{"space before colon", "GET / HTTP/1.1\r\nHost: x\r\nX-A : b\r\n\r\n", "400"},
		{"no host", "GET / HTTP/1.1\r\n\r\n", "400"},
		{"huge header", "GET / HTTP/1.1\r\nHost: x\r\nX-A: " + strings.Repeat("a", 100_000) + "\r\n\r\n", "431"},
		{"connect", "CONNECT x:1 HTTP/1.1\r\nHost: x:1\r\n\r\n", "501"},
	} {
		conn := r.raw(c.send)
		resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
		if err != nil || !strings.HasPrefix(resp.Status, c.want) {
			t.Errorf("%s: got %v, %v", c.name, resp, err)
		}
	}
	if n := requests.Load(); n != 0 {
		t.Errorf("%d of them reached the instance", n)
	}
	// Both framings: chunked wins, and the instance sees one request with one framing.
	conn := r.raw("POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nTransfer-Encoding: chunked\r\nConnection: close\r\n\r\n2\r\nab\r\n0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n")
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil || text(t, resp) != `"ab" <nil>` {
		t.Fatalf("got %v, %v", resp, err)
	}
}
