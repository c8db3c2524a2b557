package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"net/http"
	"strings"
	"sync"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/fettle-dev/fettle/internal/demo/app"
)

// arrivals are those of a span.
func arrivals(s *Schedule, span time.Duration) []Request {
	var out []Request
	for {
		r := s.Next()
		if r.At >= span {
			return out
		}
		out = append(out, r)
	}
}

func TestScheduleIsSeeded(t *testing.T) {
	a := arrivals(NewSchedule(7, 200), 20*time.Second)
	if d := cmp.Diff(a, arrivals(NewSchedule(7, 200), 20*time.Second)); d != "" {
		t.Errorf("the same seed gives other arrivals:\n%s", d)
	}
	if cmp.Equal(a, arrivals(NewSchedule(8, 200), 20*time.Second)) {
		t.Error("another seed gives the same arrivals")
	}
}

// TestScheduleRate counts: over whole waves the mean rate is the stated one and what the bursts add, about 6 %.
func TestScheduleRate(t *testing.T) {
	const rate, span = 200, 1800 * time.Second
	s := NewSchedule(3, rate)
	n := float64(len(arrivals(s, span)))
	if mean := n / span.Seconds(); mean < rate || mean > 1.12*rate {
		t.Errorf("mean rate %.1f/s, want %d/s and up to 12 %% of bursts", mean, rate)
	}
	s.Scale(2)
	from := s.now
	n = 0
	for s.now < from+900 {
		s.Next()
		n++
	}
	if mean := n / 900; mean < 2*rate || mean > 2.24*rate {
		t.Errorf("mean rate %.1f/s when doubled", mean)
	}
}

// TestScheduleIsUnsteady: seconds differ more than Poisson noise alone would make them, and the mix is the stated one.
func TestScheduleIsUnsteady(t *testing.T) {
	perSecond := make([]float64, 900)
	routes, cold, top := map[Route]float64{}, 0.0, map[string]float64{}
	all := arrivals(NewSchedule(11, 200), 900*time.Second)
	for _, r := range all {
		perSecond[int(r.At.Seconds())]++
		routes[r.Route]++
		top[r.Key]++
		if r.Route != Search && Cold(r.Key) {
			cold++
		}
	}
	mean, variance := moments(perSecond)
	if ratio := variance / mean; ratio < 3 {
		t.Errorf("variance is %.1f times the mean: hardly more than Poisson's 1", ratio)
	}
	n := float64(len(all))
	for _, c := range []struct {
		name      string
		got, want float64
	}{
		{"notes", routes[Note] / n, noteShare},
		{"searches", routes[Search] / n, searchShare},
		{"reports", routes[Report] / n, reportShare},
		{"cold keys", cold / (n - routes[Search]), coldShare},
	} {
		if math.Abs(c.got-c.want) > 0.01 {
			t.Errorf("%s: share %.3f, want %.3f", c.name, c.got, c.want)
		}
	}
	if share := top[app.Key(0)] / n; share < 0.005 || share > 0.04 {
		t.Errorf("the most wanted key has %.1f %% of the requests: no Zipf law that four instances can share", 100*share)
	}
}

func moments(v []float64) (mean, variance float64) {
	for _, x := range v {
		mean += x / float64(len(v))
	}
	for _, x := range v {
		variance += (x - mean) * (x - mean) / float64(len(v))
	}
	return mean, variance
}

func TestArrivalsAscend(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		s := NewSchedule(rapid.Uint64().Draw(t, "seed"), rapid.Float64Range(1, 5000).Draw(t, "rate"))
		last := time.Duration(0)
		for range 300 {
			if rapid.IntRange(0, 20).Draw(t, "scale?") == 0 {
				s.Scale(rapid.Float64Range(0.1, 10).Draw(t, "factor"))
			}
			r := s.Next()
			if r.At < last || r.Key == "" {
				t.Fatalf("arrival %+v after %v", r, last)
			}
			last = r.At
		}
	})
}

// TestGivesUp: once the demo is interrupted nobody waits for a hung instance.
func TestGivesUp(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		g := NewGenerator("pool", time.Now(), NewSchedule(5, 100), transport(func(r *http.Request) (*http.Response, error) {
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		g.Run(ctx, nil)
		if took := time.Since(g.began); took != time.Second {
			t.Errorf("gave up after %v of virtual time", took)
		}
	})
}

// transport answers as the test says.
type transport func(*http.Request) (*http.Response, error)

func (f transport) RoundTrip(r *http.Request) (*http.Response, error) { return f(r) }

func respond(status int, header ...string) *http.Response {
	h := http.Header{}
	for i := 0; i+1 < len(header); i += 2 {
		h.Set(header[i], header[i+1])
	}
	return &http.Response{StatusCode: status, Header: h, Body: io.NopCloser(strings.NewReader("{}"))}
}

// TestOpenLoop: requests go out by the schedule although nothing answers.
func TestOpenLoop(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		var mu sync.Mutex
		var sent []time.Duration
		g := NewGenerator("pool", time.Now(), NewSchedule(5, 100), transport(func(r *http.Request) (*http.Response, error) {
			mu.Lock()
			sent = append(sent, time.Since(began))
			mu.Unlock()
			<-r.Context().Done()
			return nil, r.Context().Err()
		}))
		halt := make(chan struct{})
		time.AfterFunc(10*time.Second, func() { close(halt) })
		g.Run(t.Context(), halt)
		var want []time.Duration
		for _, r := range arrivals(NewSchedule(5, 100), 10*time.Second) {
			want = append(want, r.At)
		}
		if d := cmp.Diff(want, sent); d != "" {
			t.Errorf("sent (-want +got):\n%s", d)
		}
		requests, lost := g.Ledger.Count(nil)
		if requests != len(want) || lost.Planned != requests {
			t.Errorf("%d requests, %d lost: all time out", requests, lost.Planned)
		}
		if w := g.Ledger.Window(0, 10*time.Second); w.Lost != requests || w.P99 != 0 {
			t.Errorf("window %+v", w)
		}
	})
}

func TestOutcomes(t *testing.T) {
	fail := func(err error) transport {
		return func(*http.Request) (*http.Response, error) { return nil, err }
	}
	answer := func(status int, header ...string) transport {
		return func(*http.Request) (*http.Response, error) { return respond(status, header...), nil }
	}
	for _, c := range []struct {
		name string
		rt   http.RoundTripper
		want Record
		lost bool
	}{
		{"ok", answer(200, "X-Fettle-Instance", "web-3/1"), Record{Outcome: Answered, Instance: "web-3"}, false},
		{"the instance's own 500", answer(500, "X-Fettle-Instance", "web-3/2"), Record{Outcome: Failed, Instance: "web-3"}, false},
		{"not found", answer(404, "X-Fettle-Instance", "web-3/2"), Record{Outcome: Failed, Instance: "web-3"}, false},
		{"made by the router", answer(502, "X-Fettle-Instance", "web-3/1", "X-Fettle-Error", "reset"), Record{Outcome: Made, Error: "reset", Instance: "web-3"}, true},
		{"queue full", answer(503, "X-Fettle-Error", "queue-full"), Record{Outcome: Made, Error: "queue-full"}, true},
		{"refused", fail(&net.OpError{Op: "dial", Err: syscall.ECONNREFUSED}), Record{Outcome: Refused}, true},
		{"reset", fail(&net.OpError{Op: "read", Err: syscall.ECONNRESET}), Record{Outcome: Reset}, true},
		{"cut", fail(io.ErrUnexpectedEOF), Record{Outcome: Reset}, true},
		{"timed out", fail(context.DeadlineExceeded), Record{Outcome: Timeout}, true},
		{"body cut", transport(func(*http.Request) (*http.Response, error) {
			r := respond(200)
			r.Body = io.NopCloser(&broken{})
			return r, nil
		}), Record{Outcome: Reset}, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			g := NewGenerator("pool", time.Now(), NewSchedule(1, 100), c.rt)
			g.send(t.Context(), Request{Route: Item, Key: "k0001"}, "")
			got := g.Ledger.records[0]
			got.Sent, got.Took = 0, 0
			if d := cmp.Diff(c.want, got); d != "" {
				t.Error(d)
			}
			if got.Lost() != c.lost {
				t.Errorf("lost: %v", got.Lost())
			}
		})
	}
}

type broken struct{}

func (*broken) Read([]byte) (int, error) { return 0, io.ErrUnexpectedEOF }

// TestSilentRepeatIsALoss: a real transport sends a GET again on its own when the connection is cut; users do not see
// it, the books must.
func TestSilentRepeatIsALoss(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	go func() {
		for n := 0; ; n++ {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer conn.Close()
				buf := make([]byte, 4096)
				for k := 0; ; k++ {
					if _, err := conn.Read(buf); err != nil || (n == 0 && k == 1) {
						return // the first connection is cut at its second request
					}
					fmt.Fprint(conn, "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}")
				}
			}()
		}
	}()
	g := NewGenerator(l.Addr().String(), time.Now(), NewSchedule(1, 100), nil)
	for range 3 {
		g.send(t.Context(), Request{Route: Item, Key: "k0001"}, "")
	}
	var got []Outcome
	for _, r := range g.Ledger.records {
		got = append(got, r.Outcome)
	}
	if d := cmp.Diff([]Outcome{Answered, Reset, Answered}, got); d != "" {
		t.Error(d)
	}
}

func TestRequests(t *testing.T) {
	for _, c := range []struct {
		r    Request
		want string
	}{
		{Request{Route: Item, Key: "k0001"}, "GET http://h/item/k0001 "},
		{Request{Route: Report, Key: "k0001"}, "GET http://h/report/k0001 "},
		{Request{Route: Search, Key: "amber"}, "GET http://h/search?q=amber "},
		{Request{Route: Note, Key: "k0001", At: time.Second}, `POST http://h/item/k0001 {"note":"seen at 1s"}`},
	} {
		req := c.r.http("h")
		body := ""
		if req.Body != nil {
			b, err := io.ReadAll(req.Body)
			if err != nil {
				t.Fatal(err)
			}
			body = string(b)
		}
		if got := req.Method + " " + req.URL.String() + " " + body; got != c.want || int(req.ContentLength) != len(body) {
			t.Errorf("%s, want %s", got, c.want)
		}
	}
}

// TestAccounting is the rule of the books: what a hung process itself took with it is not lost to a planned action, all
// else is.
func TestAccounting(t *testing.T) {
	hang := Outage{Instance: "web-2", From: 100 * time.Second, To: 110 * time.Second}
	for _, c := range []struct {
		name           string
		r              Record
		planned, fault int
	}{
		{"answered", Record{Sent: 105e9, Instance: "web-2"}, 0, 0},
		{"the instance's own error", Record{Sent: 105e9, Instance: "web-2", Outcome: Failed}, 0, 0},
		{"sent to the hung process", Record{Sent: 105e9, Took: 6e9, Instance: "web-2", Outcome: Made, Error: "timeout"}, 0, 1},
		{"in flight when it hung", Record{Sent: 99e9, Took: 11e9, Instance: "web-2", Outcome: Made, Error: "reset"}, 0, 1},
		{"ended before it hung", Record{Sent: 98e9, Took: 1e9, Instance: "web-2", Outcome: Made, Error: "reset"}, 1, 0},
		{"sent to its next life", Record{Sent: 111e9, Took: 1e9, Instance: "web-2", Outcome: Made, Error: "refused"}, 1, 0},
		{"another instance meanwhile", Record{Sent: 105e9, Took: 1e9, Instance: "web-3", Outcome: Made, Error: "reset"}, 1, 0},
		{"another instance, although the key was the victim's", Record{Sent: 105e9, Took: 1e9, Instance: "web-3", Owner: "web-2", Outcome: Made, Error: "reset"}, 1, 0},
		{"client's timeout, key of the victim", Record{Sent: 101e9, Took: 15e9, Owner: "web-2", Outcome: Timeout}, 0, 1},
		{"client's timeout, key of another", Record{Sent: 101e9, Took: 15e9, Owner: "web-1", Outcome: Timeout}, 1, 0},
		{"client's timeout, no key", Record{Sent: 101e9, Took: 15e9, Outcome: Timeout}, 1, 0},
		{"nobody to serve it", Record{Sent: 105e9, Outcome: Made, Error: "queue-full"}, 1, 0},
		{"refused by the router", Record{Sent: 105e9, Owner: "web-1", Outcome: Refused}, 1, 0},
	} {
		t.Run(c.name, func(t *testing.T) {
			var l Ledger
			l.Add(c.r)
			n, lost := l.Count([]Outage{{Instance: "web-9", To: 1e12}, hang})
			if n != 1 || lost.Planned != c.planned || lost.Fault != c.fault {
				t.Errorf("%d requests, lost %+v; want planned %d, fault %d", n, lost, c.planned, c.fault)
			}
			if got := len(l.Lost([]Outage{hang}, 9)); got != c.planned {
				t.Errorf("%d listed as lost to planned actions", got)
			}
			if sent, ok := l.LastFor(hang); ok != (c.fault == 1) || (ok && sent != c.r.Sent) {
				t.Errorf("last sent to the hung process: %v %v", sent, ok)
			}
			if _, lost := l.Count(nil); lost.Fault != 0 || lost.Planned != c.planned+c.fault {
				t.Errorf("without an outage: lost %+v", lost)
			}
		})
	}
}

func TestWindow(t *testing.T) {
	var l Ledger
	for i := range 100 {
		l.Add(Record{Sent: time.Duration(i) * 100 * time.Millisecond, Took: time.Duration(i+1) * time.Millisecond, Instance: []string{"a", "b"}[i%2]})
	}
	l.Add(Record{Sent: 5 * time.Second, Took: time.Hour, Outcome: Timeout})
	got := l.Window(0, 10*time.Second)
	want := Window{Requests: 101, Rate: 10.1, Lost: 1, P50: 51 * time.Millisecond, P99: 100 * time.Millisecond}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if rate := l.RateOf("b", 0, 5*time.Second); rate != 5 {
		t.Errorf("rate of b %g/s", rate)
	}
	if got := l.Window(20*time.Second, 20*time.Second); got != (Window{}) {
		t.Errorf("an empty window: %+v", got)
	}
}

// TestTwist: the victim's keys get heavier routes and rarer keys of its own, the others and the rate stay.
func TestTwist(t *testing.T) {
	draw := func(twisted bool) []Request {
		g := NewGenerator("pool", time.Now(), NewSchedule(4, 100), transport(func(*http.Request) (*http.Response, error) { return nil, errors.ErrUnsupported }))
		if g.Twist("web-1", 1) != 0 || g.twist != nil {
			t.Fatal("a twist without a known key of the instance")
		}
		for i := range app.Items {
			g.owners[app.Key(i)] = fmt.Sprintf("web-%d", i%2)
		}
		if twisted {
			if n := g.Twist("web-1", 1); n != app.Items/4 {
				t.Fatalf("%d fresh keys", n)
			}
		}
		var out []Request
		for range 20000 {
			r, owner := g.next()
			if r.Route != Search && owner != g.owners[r.Key] {
				t.Fatalf("%s is served by %s, not %s: the new mix is another instance's", r.Key, g.owners[r.Key], owner)
			}
			out = append(out, r)
		}
		if twisted {
			g.Untwist()
			if g.twist != nil {
				t.Error("still twisted")
			}
		}
		return out
	}
	usual, twisted := draw(false), draw(true)
	reports := map[string]float64{}
	total := map[string]float64{}
	for i, r := range twisted {
		u := usual[i]
		if r.At != u.At {
			t.Fatal("the arrival times changed")
		}
		victim := u.Route != Search && (u.Key[4]-'0')%2 == 1
		if !victim && r != u {
			t.Fatalf("%+v of another instance became %+v", u, r)
		}
		who := fmt.Sprint(victim)
		total[who]++
		if r.Route == Report {
			reports[who]++
		}
	}
	if share := reports["true"] / total["true"]; share < 0.45 {
		t.Errorf("reports are %.0f %% of the victim's mix", 100*share)
	}
}
