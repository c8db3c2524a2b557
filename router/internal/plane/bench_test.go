package plane

import (
	"io"
	"net/http"
	"net/http/httptest"
	"net/http/httputil"
	"net/url"
	"syscall"
	"testing"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/router/internal/wire"
)

// BenchmarkProxy compares the router with net/http's reverse proxy, before the same instance, in the same run. Compare
// the ratios; the numbers are the machine's.
func BenchmarkProxy(b *testing.B) {
	app := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		io.WriteString(w, "a short answer of the application")
	}))
	defer app.Close()
	u, err := url.Parse(app.URL)
	if err != nil {
		b.Fatal(err)
	}
	plain := &httputil.ReverseProxy{
		Rewrite:   func(r *httputil.ProxyRequest) { r.SetURL(u); r.SetXForwarded(); r.Out.Host = r.In.Host },
		Transport: &http.Transport{MaxIdleConnsPerHost: 256, DisableCompression: true},
	}
	for _, c := range []struct {
		name    string
		handler func(b *testing.B) http.Handler
	}{
		{"router", func(b *testing.B) http.Handler { return benchPool(b, u.Host, nil) }},
		{"router-key", func(b *testing.B) http.Handler { return benchPool(b, u.Host, &ft.RouteKey{Query: "k"}) }},
		{"httputil", func(*testing.B) http.Handler { return plain }},
	} {
		b.Run(c.name, func(b *testing.B) {
			front := httptest.NewServer(c.handler(b))
			defer front.Close()
			b.ReportAllocs()
			var before, after syscall.Rusage
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &before)
			b.RunParallel(func(pb *testing.PB) {
				client := &http.Client{Transport: &http.Transport{DisableCompression: true}}
				defer client.CloseIdleConnections()
				for pb.Next() {
					resp, err := client.Get(front.URL + "/users/1?k=17")
					if err != nil || resp.StatusCode != 200 {
						b.Error(resp, err)
						return
					}
					io.Copy(io.Discard, resp.Body)
					resp.Body.Close()
				}
			})
			_ = syscall.Getrusage(syscall.RUSAGE_SELF, &after)
			cpu := after.Utime.Nano() + after.Stime.Nano() - before.Utime.Nano() - before.Stime.Nano()
			b.ReportMetric(float64(cpu)/float64(b.N)/1e3, "cpu-us/op") // client and instance included
			b.ReportMetric(float64(b.N)/b.Elapsed().Seconds(), "requests/s")
		})
	}
}

func benchPool(b *testing.B, address string, key *ft.RouteKey) *Pool {
	cfg := ft.Pool{Name: "web"}
	cfg.Defaults()
	cfg.Route.Key = key
	t := &wire.Table{Pool: "web", Route: cfg.Route, Readiness: cfg.Probes.Readiness, Interval: cfg.Detect.Interval}
	for i := range uint32(4) {
		t.Members = append(t.Members, wire.Member{
			Ref: ft.Ref{ID: ft.NewInstanceID("web", i+1), Generation: 1}, Weight: 1,
			Endpoint: ft.Endpoint{Network: "tcp", Address: address},
		})
	}
	p := New(t, quiet, func(wire.Event) {})
	b.Cleanup(p.Close)
	return p
}
