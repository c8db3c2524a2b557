package telemetry

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"math"
	"net"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	ft "github.com/fettle-dev/fettle"
)

// scraped is an instance whose metrics are scraped often.
type scraped struct {
	t  *testing.T
	r  ft.Reader
	at ft.Instance
	v  []float64 // the last values that were read, NaN before
}

func scrapes(t *testing.T, m ft.Metrics, at ft.Endpoint) *scraped {
	t.Helper()
	p := ft.Pool{Metrics: &m}
	p.Defaults()
	m.Every = ft.Duration(20 * time.Millisecond)
	s := &scraped{t: t, at: ft.Instance{Ref: ft.Ref{ID: "web-1", Generation: 1}, Endpoint: at}}
	src := Scrape(&m)
	var err error
	if s.r, _, err = src.Attach(s.at); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := s.r.Close(); err != nil {
			t.Error(err)
		}
	})
	for range src.Dimensions() {
		s.v = append(s.v, math.NaN())
	}
	return s
}

// until reads until f holds, and fails when that takes too long.
func (s *scraped) until(what string, f func() bool) {
	s.t.Helper()
	row := make([]float64, len(s.v))
	for end := time.Now().Add(20 * time.Second); ; time.Sleep(5 * time.Millisecond) {
		if err := s.r.Read(time.Now(), row, nil); err != nil {
			s.t.Fatal(err)
		}
		for i, v := range row {
			if !math.IsNaN(v) {
				s.v[i] = v
			}
		}
		if f() {
			return
		}
		if time.Now().After(end) {
			s.t.Fatalf("not within 20 s: %s; values %v, missing %v", what, s.v, s.missing())
		}
	}
}

func (s *scraped) missing() ft.Unavailable { return s.r.(Reporter).Missing() }

// told waits until the reason for the column says what it should.
func (s *scraped) told(column, want string) {
	s.t.Helper()
	s.until(column+": "+want, func() bool { return strings.Contains(s.missing()[column], want) })
}

func tcp(s *httptest.Server) ft.Endpoint {
	return ft.Endpoint{Network: "tcp", Address: s.Listener.Addr().String()}
}

func serve(t *testing.T, h http.HandlerFunc) ft.Endpoint {
	s := httptest.NewServer(h)
	t.Cleanup(s.Close)
	return tcp(s)
}

func series(names ...string) ft.Metrics {
	m := ft.Metrics{}
	for _, n := range names {
		m.Series = append(m.Series, ft.Series{Metric: n})
	}
	return m
}

func answer(w io.Writer, text string) { _, _ = io.WriteString(w, text) } // the scraper may be gone

// An application with Prometheus' own client: counters and parts of histograms become rates, gauges stay, series with
// the labels are added up.
func TestScrapeOfPrometheusClient(t *testing.T) {
	reg := prometheus.NewRegistry()
	jobs := prometheus.NewCounterVec(prometheus.CounterOpts{Name: "jobs_total", Help: "x"}, []string{"queue", "result"})
	depth := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: "queue_depth", Help: "x"}, []string{"queue"})
	took := prometheus.NewHistogram(prometheus.HistogramOpts{Name: "job_seconds", Help: "x", Buckets: []float64{0.5, 2}})
	reg.MustRegister(jobs, depth, took)
	srv := httptest.NewServer(promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	defer srv.Close()
	depth.WithLabelValues("mail").Set(7)
	depth.WithLabelValues("video").Set(5)
	stop := make(chan struct{})
	var work sync.WaitGroup
	work.Go(func() {
		for {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				jobs.WithLabelValues("mail", "ok").Add(2)
				jobs.WithLabelValues("mail", "failed").Add(4)
				jobs.WithLabelValues("video", "ok").Add(100)
				took.Observe(0.25)
				took.Observe(1)
			}
		}
	})
	defer work.Wait()
	defer close(stop)

	m := series("jobs_total", "queue_depth", "job_seconds_count", "job_seconds_sum", "job_seconds_bucket", "job_seconds", "absent")
	m.Series[0].Labels = map[string]string{"queue": "mail"}
	m.Series[4].Labels = map[string]string{"le": "0.5"}
	s := scrapes(t, m, tcp(srv))
	s.until("rates", func() bool { return s.v[0] > 0 && s.v[2] > 0 && s.v[3] > 0 && s.v[4] > 0 })
	if s.v[1] != 12 {
		t.Errorf("depth is %g, want the sum 12", s.v[1])
	}
	s.told("job_seconds", "is a histogram: choose job_seconds_sum")
	s.told("absent", "http://"+srv.Listener.Addr().String()+"/metrics: it has no metric absent")
	// Read at once, so over the same time: six of the mail queue for two observations, which took 1.25 s, one at most 0.5 s.
	row := make([]float64, len(s.v))
	s.until("a reading of all", func() bool { copy(row, s.v); return true })
	near := func(what string, got, want float64) {
		t.Helper()
		if math.Abs(got-want) > 0.2*want {
			t.Errorf("%s: %g, want about %g", what, got, want)
		}
	}
	near("mail jobs to observations", row[0]/row[2], 3)
	near("time to observations", row[3]/row[2], 0.625)
	near("quick ones to all", row[4]/row[2], 0.5)
}

// A server with metrics written by hand, in another language, that counts its scrapes.
func TestScrapeOfPythonServer(t *testing.T) {
	python, err := exec.LookPath("python3")
	if err != nil {
		t.Skip("python3 is not installed: a server written in Python is not scraped")
	}
	sock := filepath.Join(t.TempDir(), "s")
	cmd := exec.Command(python, "-c", `
import http.server, socketserver, sys
n = 0
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def address_string(self): return "unix"
    def do_GET(self):
        global n
        n += 1
        body = ('# a comment\r\n\n  scrapes_total  %d  1700000000000\njobs{queue="a\\"b",x="{"} +1.5e1\nbig{} +Inf\n' % n).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)
class S(socketserver.UnixStreamServer):
    pass
S(sys.argv[1], H).serve_forever()
`, sock)
	var out bytes.Buffer
	cmd.Stderr = &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer func() { _ = cmd.Process.Kill(); _ = cmd.Wait() }()
	m := series("scrapes_total", "jobs", "big")
	m.Series[1].Labels = map[string]string{"queue": `a"b`}
	s := scrapes(t, m, ft.Endpoint{Network: "unix", Address: sock})
	s.until("values", func() bool { return s.v[0] > 0 && s.v[1] == 15 })
	s.told("big", "/metrics at "+sock+": its big is +Inf")
	// It serves one connection at a time: a scraper that kept its own would be the only one served.
	c, err := net.Dial("unix", sock)
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	answer(c, "GET /metrics HTTP/1.0\r\n\r\n")
	if b, err := io.ReadAll(c); err != nil || !strings.Contains(string(b), "scrapes_total") {
		t.Errorf("another client got %q, %v", b, err)
	}
}

// Whatever an endpoint does, its columns are missing and the reason names the URL; what it does right later is taken.
func TestScrapeOfBadServers(t *testing.T) {
	hang := make(chan struct{})
	t.Cleanup(func() { close(hang) })
	for name, c := range map[string]struct {
		h    http.HandlerFunc
		want string
	}{
		"404":      {http.NotFound, "it answers 404 Not Found"},
		"redirect": {func(w http.ResponseWriter, r *http.Request) { http.Redirect(w, r, "/elsewhere", http.StatusFound) }, "it answers 302 Found; redirects are not followed"},
		"HTML":     {func(w http.ResponseWriter, _ *http.Request) { answer(w, "\n<!doctype html>") }, "it is HTML, not Prometheus' text format"},
		"JSON":     {func(w http.ResponseWriter, _ *http.Request) { answer(w, `{"up": 1}`) }, "it has no metric up"},
		"nonsense": {func(w http.ResponseWriter, _ *http.Request) { answer(w, "up{a=\"b} 1\nup x\n") }, "not in Prometheus' text format: "},
		"NaN":      {func(w http.ResponseWriter, _ *http.Request) { answer(w, "up NaN\n") }, "its up is NaN"},
		"stalls": {func(w http.ResponseWriter, r *http.Request) {
			answer(w, "up 1\n")
			_ = http.NewResponseController(w).Flush()
			select {
			case <-hang:
			case <-r.Context().Done():
			}
		}, "no whole answer within 200ms"},
		"lies about its length": {func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Length", "1000")
			answer(w, "up 1\n")
		}, "unexpected EOF"},
		"grows without bound": {func(w http.ResponseWriter, r *http.Request) {
			for i := 0; r.Context().Err() == nil; i++ {
				if _, err := fmt.Fprintf(w, "other{i=\"%d\"} 1\nup 1\n\n", i%100); err != nil {
					return
				}
				if i == 100 {
					answer(w, strings.Repeat("# nothing\n", mostBody/10))
				}
			}
		}, "it is larger than 1MiB"},
		"too many series": {func(w http.ResponseWriter, _ *http.Request) {
			for i := range mostLines + 1 {
				fmt.Fprintf(w, "up{i=\"%d\"} 1\n", i)
			}
		}, "more than 2048 series"},
		"a long line": {func(w http.ResponseWriter, _ *http.Request) {
			answer(w, "x{a=\""+strings.Repeat("y", mostLine)+"\"} 1\nup 1\n")
		}, "it has a line longer than 64KiB"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			var well atomic.Bool
			at := serve(t, func(w http.ResponseWriter, r *http.Request) {
				if r.URL.Path != "/metrics" || r.Header.Get("Authorization") != "" {
					t.Errorf("asked %s with %v", r.URL, r.Header)
				}
				if well.Load() {
					answer(w, "up 3\n")
					return
				}
				c.h(w, r)
			})
			m := series("up")
			m.Timeout = ft.Duration(200 * time.Millisecond)
			if name != "stalls" {
				m.Timeout = ft.Duration(10 * time.Second)
			}
			s := scrapes(t, m, at)
			s.told("up", "http://"+at.Address+"/metrics: "+c.want)
			if !math.IsNaN(s.v[0]) {
				t.Errorf("it has the value %g", s.v[0])
			}
			well.Store(true)
			s.until("up again", func() bool { return s.v[0] == 3 && len(s.missing()) == 0 })
		})
	}
}

func TestScrapeOfNobody(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	at := l.Addr().String()
	l.Close()
	scrapes(t, series("up"), ft.Endpoint{Network: "tcp", Address: at}).told("up", "http://"+at+"/metrics: connection refused")
}

// A counter that runs backwards says so and gives no rate over the fall.
func TestScrapeOfCounterReset(t *testing.T) {
	var n, rises atomic.Int64
	n.Store(1e9)
	at := serve(t, func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "n_total %d\n", n.Add(2000*rises.Load()-1000))
	})
	s := scrapes(t, series("n_total"), at)
	s.told("n_total", "its n_total ran backwards")
	if !math.IsNaN(s.v[0]) {
		t.Errorf("a rate of %g while it only falls", s.v[0])
	}
	rises.Store(1)
	s.until("it rises", func() bool { return !math.IsNaN(s.v[0]) })
	if s.v[0] <= 0 {
		t.Errorf("a rate of %g after the fall", s.v[0])
	}
}

// Columns have the unit that the name says by convention, and may be of any role.
func TestScrapeDimensions(t *testing.T) {
	load := ft.Load
	got := ""
	for _, d := range Scrape(&ft.Metrics{Every: ft.Duration(5 * time.Second), Series: []ft.Series{
		{Metric: "jobs_total", Column: "jobs", Role: &load},
		{Metric: "heap_bytes", Unbounded: true},
		{Metric: "sent_bytes_total"},
		{Metric: "gc_seconds_sum"},
		{Metric: "job_seconds_count"},
		{Metric: "age_seconds"},
		{Metric: "hit_ratio"},
		{Metric: "depth"},
		{Metric: "hits", Unit: "share"},
	}}).Dimensions() {
		got += fmt.Sprintln(d.Name, d.Role, d.Unit, d.Transform, d.Kind, d.Unbounded, d.Every)
	}
	want := `jobs load 1/s log1p gauge false 5s
heap_bytes response B log1p gauge true 5s
sent_bytes_total response B/s log1p gauge false 5s
gc_seconds_sum response s/s log1p gauge false 5s
job_seconds_count response 1/s log1p gauge false 5s
age_seconds response s log1p gauge false 5s
hit_ratio response share logit gauge false 5s
depth response  log1p gauge false 5s
hits response share logit gauge false 5s
`
	if got != want {
		t.Errorf("got\n%swant\n%s", got, want)
	}
}

func TestScrapePorts(t *testing.T) {
	served := ft.Instance{Port: 7000, Endpoint: ft.Endpoint{Network: "tcp", Address: "[::1]:7000"}}
	silent := ft.Instance{Port: 7000}
	unix := ft.Instance{Port: 7000, Endpoint: ft.Endpoint{Network: "unix", Address: "/run/s"}}
	other := ft.Instance{Endpoint: ft.Endpoint{Network: "tcp", Address: "10.0.0.2:80"}}
	for _, c := range []struct {
		port string
		in   ft.Instance
		want string
	}{
		{"", served, "tcp [::1]:7000"},
		{"", unix, "unix /run/s"},
		{"", silent, "it serves nothing, and metrics.port is not set"},
		{"9100", served, "tcp [::1]:9100"},
		{"9100", silent, "tcp 127.0.0.1:9100"},
		{"9100", unix, "tcp 127.0.0.1:9100"},
		{"$PORT", silent, "tcp 127.0.0.1:7000"},
		{"$PORT+1", served, "tcp [::1]:7001"},
		{"$PORT+1", unix, "tcp 127.0.0.1:7001"},
		{"$PORT+10", other, "tcp 10.0.0.2:90"},
		{"$PORT+1", ft.Instance{}, "metrics.port is $PORT+1, and it was given no port"},
	} {
		s := &scrape{m: ft.Metrics{Port: c.port}}
		network, address, err := s.where(&c.in)
		got := network + " " + address
		if err != nil {
			got = err.Error()
		}
		if !strings.HasPrefix(got, c.want) {
			t.Errorf("%q of %v: %s, want %s", c.port, c.in.Endpoint, got, c.want)
		}
	}
}

// A slow endpoint keeps neither the sampler nor other instances waiting, and its column is held and then missing.
func TestSlowEndpointHoldsNobodyUp(t *testing.T) {
	var stall atomic.Bool
	slow := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if stall.Load() {
			<-r.Context().Done()
		}
		answer(w, "up 1\n")
	})
	quick := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, "up 2\n") })
	m := series("up")
	m.Path, m.Every, m.Timeout = "/metrics", ft.Duration(20*time.Millisecond), ft.Duration(time.Hour)
	s, err := New(slog.New(slog.DiscardHandler), Scrape(&m))
	if err != nil {
		t.Fatal(err)
	}
	in := instances(2)
	in[0].Endpoint, in[1].Endpoint = slow, quick
	f := &ft.Frame{Schema: s.Schema()}
	frame := func() (a, b float64) {
		f.Rows = make([]ft.Row, 2)
		f.Reset(2)
		if err := s.Sample(t.Context(), time.Now(), in, f); err != nil {
			t.Fatal(err)
		}
		return f.Value(0, 0), f.Value(1, 0)
	}
	wait := func(what string, ok func(a, b float64) bool) {
		t.Helper()
		for end := time.Now().Add(20 * time.Second); ; time.Sleep(10 * time.Millisecond) {
			if a, b := frame(); ok(a, b) {
				return
			}
			if time.Now().After(end) {
				t.Fatal(what)
			}
		}
	}
	wait("both have no values", func(a, b float64) bool { return a == 1 && b == 2 })
	stall.Store(true)
	wait("the slow one does not go missing", func(a, b float64) bool { return math.IsNaN(a) && b == 2 })
	if err := s.Close(); err != nil { // while it stalls
		t.Error(err)
	}
}

// Several servers and one fixed port: its numbers are of one of them at most, so they are nobody's.
func TestOneEndpointOfSeveralInstances(t *testing.T) {
	end := serve(t, func(w http.ResponseWriter, _ *http.Request) { answer(w, "depth 7\n") })
	_, port, _ := net.SplitHostPort(end.Address)
	m := series("depth")
	m.Path, m.Port, m.Every, m.Timeout = "/metrics", port, ft.Duration(10*time.Millisecond), ft.Duration(10*time.Second)
	source := Scrape(&m)
	attach := func(id string) ft.Reader {
		r, _, err := source.Attach(ft.Instance{Ref: ft.Ref{ID: ft.InstanceID(id), Generation: 1}})
		if err != nil {
			t.Fatal(err)
		}
		return r
	}
	one, again, two := attach("web-1"), attach("web-1"), attach("web-2")
	defer one.Close()
	defer again.Close()
	for _, r := range []ft.Reader{one, again, two} {
		row := []float64{0}
		if err := r.Read(time.Now(), row, nil); err != nil || !math.IsNaN(row[0]) {
			t.Errorf("read %v, %v", row, err)
		}
		if why := r.(Reporter).Missing()["depth"]; !strings.Contains(why, "2 instances have this one address") || !strings.Contains(why, "$PORT") {
			t.Errorf("the reason is %q", why)
		}
	}
	_ = two.Close()
	for end, row := time.Now().Add(20*time.Second), []float64{0}; row[0] != 7; time.Sleep(time.Millisecond) {
		if err := one.Read(time.Now(), row, nil); err != nil || time.Now().After(end) {
			t.Fatal("alone again it reads", row, err, one.(Reporter).Missing())
		}
	}
}
