package daemon

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/api"
	"github.com/fettle-dev/fettle/client"
	"github.com/fettle-dev/fettle/driver/process"
	"github.com/fettle-dev/fettle/internal/durable"
	"github.com/fettle-dev/fettle/router"
)

// TestMain lets the test binary be the fettle that daemons re-execute, and a worker.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 {
		switch os.Args[1] {
		case "internal-exec":
			os.Exit(process.Shim(os.Args[2:]))
		case "internal-router":
			os.Exit(router.Main(os.Args[2:]))
		case "test-worker":
			os.Exit(worker(os.Args[2]))
		case "test-caller":
			os.Exit(caller(os.Args[2]))
		}
	}
	os.Exit(m.Run())
}

// orders are what a worker is told by a file of its instance's name, or else by the file all.
type orders struct {
	Jobs  float64 // a second
	Depth float64 // of its queue
}

// worker takes no requests: it works jobs, and says at $PORT what it does.
func worker(dir string) int {
	reg := prometheus.NewRegistry()
	jobs := prometheus.NewCounter(prometheus.CounterOpts{Name: "jobs_total", Help: "x"})
	depth := prometheus.NewGauge(prometheus.GaugeOpts{Name: "queue_depth", Help: "x"})
	reg.MustRegister(jobs, depth)
	go func() {
		for i := 0; ; i++ {
			o := orders{Jobs: 20}
			for _, name := range []string{"all", os.Getenv("FETTLE_INSTANCE")} {
				if b, err := os.ReadFile(filepath.Join(dir, name)); err == nil {
					_ = json.Unmarshal(b, &o) // written as a whole
				}
			}
			jobs.Inc()
			depth.Set(o.Depth + float64(i%7)) // no scrape sees the same one again: each is a reading
			time.Sleep(time.Duration(float64(time.Second) / o.Jobs))
		}
	}()
	http.Handle("/metrics", promhttp.HandlerFor(reg, promhttp.HandlerOpts{}))
	if err := http.ListenAndServe("127.0.0.1:"+os.Getenv("PORT"), nil); err != nil {
		fmt.Fprintln(os.Stderr, err)
	}
	return 1
}

// running is a daemon in this process.
type running struct {
	*client.Client
	t *testing.T
}

// runs starts a daemon and waits until all its instances are ready. It ends, with all that it started, with the test.
func runs(t *testing.T, pools ...fettle.Pool) *running {
	t.Helper()
	dir, err := os.MkdirTemp("", "f") // short, for the sockets
	if err != nil {
		t.Fatal(err)
	}
	ready := make(chan *client.Client, 1)
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	var log bytes.Buffer
	go func() {
		done <- Run(ctx, Options{
			StateDir: dir, Exe: os.Args[0], Pools: pools, Log: slog.New(slog.NewTextHandler(&log, nil)),
			Ready: func(c *client.Client) { ready <- c },
		})
	}()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil && !errors.Is(err, fettle.ErrUnavailable) {
			t.Errorf("the daemon ended with %v", err)
		}
		if t.Failed() {
			t.Log(log.String())
		}
		if err := os.RemoveAll(dir); err != nil {
			t.Error(err)
		}
	})
	select {
	case c := <-ready:
		d := &running{c, t}
		d.until("all are ready", func(p api.PoolStatus) bool { return p.Ready == p.Desired })
		return d
	case err := <-done:
		done <- err
		t.Fatalf("the daemon did not start: %v", err)
	}
	return nil
}

// until waits for the first pool to be so.
func (d *running) until(what string, ok func(api.PoolStatus) bool) api.PoolStatus {
	d.t.Helper()
	var ps []api.PoolStatus
	for end := time.Now().Add(2 * time.Minute); ; time.Sleep(100 * time.Millisecond) {
		var err error
		if ps, err = d.Pools(d.t.Context()); err == nil && len(ps) > 0 && ok(ps[0]) {
			return ps[0]
		}
		if time.Now().After(end) {
			break
		}
	}
	d.t.Errorf("not within two minutes: %s", what)
	for _, p := range ps {
		d.t.Logf("%s: %+v", p.Name, p.Verdict)
		for i := range p.Instances {
			d.t.Logf("%s: %+v, not measured: %v", p.Instances[i].ID, p.Instances[i].Verdict, p.Instances[i].Unavailable)
		}
	}
	d.t.FailNow()
	return api.PoolStatus{}
}

// workers is a pool of five that serve nothing, whose metrics say what they are asked to do.
func workers(dir string, series ...fettle.Series) fettle.Pool {
	p := fettle.Pool{
		Name: "jobs", Mode: fettle.Observe, Serve: fettle.None, Size: fettle.Sizing{Min: 5},
		Image:   fettle.Image{Command: []string{os.Args[0], "test-worker", dir}},
		Metrics: &fettle.Metrics{Port: "$PORT", Every: fettle.Duration(time.Second), Series: series},
		Detect: fettle.Detect{
			Interval: fettle.Duration(250 * time.Millisecond), Learn: fettle.Duration(15 * time.Second), // some more than ten readings
			Persist: fettle.Duration(time.Second),
		},
	}
	p.Telemetry.Network = fettle.Off // the worker's own traffic is the scrape
	return p
}

func order(t *testing.T, dir, name string, o orders) {
	t.Helper()
	b, err := json.Marshal(o)
	if err == nil {
		err = durable.Replace(filepath.Join(dir, name), b)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// learn waits until all instances are judged.
func (d *running) learn() api.PoolStatus {
	d.t.Helper()
	return d.until("all have learnt", func(p api.PoolStatus) bool {
		return !slices.ContainsFunc(p.Instances, func(in api.InstanceStatus) bool { return in.Level == fettle.Learning })
	})
}

// What is wrong with one of several workers shows in its own metric; what cannot be measured is told with the reason.
func TestAMetricExplainsTheDriftOfAWorker(t *testing.T) {
	if testing.Short() {
		t.Skip("learns for some ten seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	order(t, dir, "all", orders{Jobs: 20, Depth: 40})
	d := runs(t, workers(dir, fettle.Series{Metric: "queue_depth"}, fettle.Series{Metric: "not_there"}))
	for _, in := range d.learn().Instances {
		u := in.Unavailable
		if !strings.Contains(u["not_there"], "/metrics: it has no metric not_there") || u["queue_depth"] != "" {
			t.Errorf("not measured of %s: %v", in.ID, u)
		}
		if u[fettle.DimRequests] != "serve: none: no requests go through the router" || u[fettle.DimMsgsIn] != "off: telemetry.network" {
			t.Errorf("not measured of %s: %v", in.ID, u)
		}
	}
	order(t, dir, "jobs-1", orders{Jobs: 20, Depth: 4000})
	d.until("the queue of one explains that it drifts", func(p api.PoolStatus) bool {
		i := slices.IndexFunc(p.Instances, func(in api.InstanceStatus) bool { return in.ID == "jobs-1" })
		in := &p.Instances[i]
		return in.Level >= fettle.Low && in.Cause != fettle.WorkloadChanged &&
			slices.ContainsFunc(in.Evidence, func(e fettle.Evidence) bool { return e.Dimension == "queue_depth" })
	})
}

// Of workers that no request goes through, a metric of their own tells that they are asked for more.
func TestAMetricTellsTheWorkOfWorkers(t *testing.T) {
	if testing.Short() {
		t.Skip("learns for some ten seconds")
	}
	t.Parallel()
	dir := t.TempDir()
	load := fettle.Load
	order(t, dir, "all", orders{Jobs: 20, Depth: 40})
	d := runs(t, workers(dir, fettle.Series{Metric: "jobs_total", Column: "jobs", Role: &load}))
	d.learn()
	order(t, dir, "all", orders{Jobs: 200, Depth: 40})
	d.until("more work is seen as more work", func(p api.PoolStatus) bool {
		changed := func(v *api.Verdict) bool { return v.Level >= fettle.Low && v.Cause == fettle.WorkloadChanged }
		return changed(&p.Verdict) || slices.ContainsFunc(p.Instances, func(in api.InstanceStatus) bool { return changed(&in.Verdict) })
	})

	// Other metrics are measured from now on, of the same processes.
	was := d.until("there are all", func(p api.PoolStatus) bool { return p.Ready == 5 })
	if _, err := d.Apply(t.Context(), []fettle.Pool{workers(dir, fettle.Series{Metric: "queue_depth"}, fettle.Series{Metric: "not_there"})}); err != nil {
		t.Fatal(err)
	}
	is := d.until("the other metrics are scraped", func(p api.PoolStatus) bool { return p.Ready == 5 && p.Instances[0].Unavailable["not_there"] != "" })
	for i := range is.Instances {
		if is.Instances[i].PID != was.Instances[i].PID {
			t.Errorf("%s was process %d and is %d", is.Instances[i].ID, was.Instances[i].PID, is.Instances[i].PID)
		}
	}
}
