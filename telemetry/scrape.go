package telemetry

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"maps"
	"math"
	"math/rand/v2"
	"net"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"time"

	"golang.org/x/sys/unix"

	ft "github.com/fettle-dev/fettle"
)

// longScrape is how many intervals may lie between two scrapes before a counter's rate over them tells nothing.
const longScrape = 5

// scrape is the source over an application's own metrics.
type scrape struct {
	m    ft.Metrics
	sel  *selection
	dims []ft.Dimension
	ends holders[string, ft.InstanceID] // who is scraped where

	rounds rounds
	epoch  time.Time
	spare  [][]byte // memory for answers; of the rounds' goroutine
}

const (
	// scrapesBegin is how far apart scrapes begin, several at once: waking up for each would cost more than the scrape.
	scrapesBegin = 250 * time.Millisecond
	// firstLook is when an answer is looked for; then after twice as long again, up to lastLook.
	firstLook = 4 * time.Millisecond
	lastLook  = 64 * time.Millisecond
	// spareAnswer is how large an answer may be for its memory to be kept for the next one.
	spareAnswer = 64 << 10
	// mostSpare answers have their memory kept.
	mostSpare = 32
)

// Scrape is the source that makes columns of what the application says of itself at a Prometheus endpoint. All instances
// are scraped by one goroutine that waits for none of them, so that a slow endpoint keeps nobody waiting; an answer of more than
// 1 MiB, one that takes longer than the timeout, a redirect, and anything but the text format are refused, and
// [Sampler.Unavailable] says so. No credentials are sent, and no connection is kept open: a server that answers one at
// a time is not held up between scrapes. An endpoint that several instances would be scraped at, such as one fixed port
// of servers on one address, speaks for one of them at most: it is left alone, and Unavailable says so.
//
// Rates are made here, over the time between the scrapes, so that its dimensions are all gauges to the sampler: whether
// a metric counts is only known from the endpoint. A counter that ran backwards, as after a restart, or was not scraped
// for long, has no rate until the next scrape.
func Scrape(m *ft.Metrics) ft.Source {
	s := &scrape{m: *m, sel: newSelection(m.Series), epoch: time.Now(), rounds: rounds{slack: firstLook / 2}}
	for i := range m.Series {
		s.dims = append(s.dims, dimensionOf(&m.Series[i], m.Every.D()))
	}
	return s
}

func dimensionOf(s *ft.Series, every time.Duration) ft.Dimension {
	d := ft.Dimension{
		Name: s.Column, Unit: s.Unit, Role: ft.Response, Transform: ft.Log1p, Kind: ft.Gauge,
		Unbounded: s.Unbounded, Every: every,
	}
	if d.Name == "" {
		d.Name = s.Metric
	}
	if s.Role != nil {
		d.Role = *s.Role
	}
	if d.Unit == "" {
		d.Unit = unitOf(s)
	}
	if d.Unit == "share" {
		d.Transform = ft.Logit
	}
	return d
}

// unitOf is the unit of a metric's column by Prometheus' conventions for names,
// https://prometheus.io/docs/practices/naming.
func unitOf(s *ft.Series) string {
	counts := kindOf(s, nil) == ft.Counter
	base, suffix := cutSuffix(s.Metric)
	if base == "" || suffix == "_count" || suffix == "_bucket" {
		base = s.Metric
	}
	switch {
	case strings.HasSuffix(base, "_bytes") && counts:
		return "B/s"
	case strings.HasSuffix(base, "_bytes"):
		return "B"
	case strings.HasSuffix(base, "_seconds") && counts:
		return "s/s"
	case strings.HasSuffix(base, "_seconds"):
		return "s"
	case counts:
		return "1/s"
	case strings.HasSuffix(base, "_ratio"):
		return "share"
	default:
		return ""
	}
}

func (s *scrape) Dimensions() []ft.Dimension { return s.dims }

func (s *scrape) Categories() []ft.CategorySet { return nil }

// Attach begins to scrape the instance.
func (s *scrape) Attach(in ft.Instance) (ft.Reader, ft.Unavailable, error) {
	network, address, err := s.where(&in)
	if err != nil {
		return nil, nil, fmt.Errorf("scrape %s: %w", in.Ref, err)
	}
	r := &scraper{s: s, name: "http://" + address + s.m.Path, points: make([]points, len(s.dims)), id: in.Ref.ID}
	target := r.name
	if network == "unix" {
		target, r.name = "http://localhost"+s.m.Path, s.m.Path+" at "+address
	}
	if r.request, err = http.NewRequest(http.MethodGet, target, http.NoBody); err != nil {
		return nil, nil, fmt.Errorf("scrape %s: %w: %w", in.Ref, err, ft.ErrUnavailable)
	}
	r.request.Close = true
	r.request.Header.Set("Accept", "text/plain;version=0.0.4")
	r.request.Header.Set("User-Agent", "fettle")
	var text bytes.Buffer
	_ = r.request.Write(&text) // a buffer takes all
	to, err := socketAddress(network, address)
	if err != nil {
		return nil, nil, fmt.Errorf("scrape %s: %w", in.Ref, err)
	}
	r.trip = roundTrip{to: to, text: text.Bytes(), socket: closed}
	s.ends.add(r.name, r.id)
	r.seat = s.rounds.join(r)
	return r, nil, nil
}

// where is the endpoint of an instance's metrics.
func (s *scrape) where(in *ft.Instance) (network, address string, err error) {
	host, serves, _ := net.SplitHostPort(in.Endpoint.Address)
	if in.Endpoint.Network != "tcp" {
		host, serves = "127.0.0.1", ""
	}
	tail, relative := strings.CutPrefix(s.m.Port, "$PORT")
	switch {
	case s.m.Port == "" && in.Endpoint.Network == "":
		return "", "", fmt.Errorf("it serves nothing, and metrics.port is not set: %w", ft.ErrUnavailable)
	case s.m.Port == "":
		return in.Endpoint.Network, in.Endpoint.Address, nil
	case !relative:
		return "tcp", net.JoinHostPort(host, s.m.Port), nil
	}
	port := in.Port
	if port == 0 {
		port, _ = strconv.Atoi(serves) // 0 where it is none
	}
	add, _ := strconv.Atoi(strings.TrimPrefix(tail, "+")) // 0 where there is none; config checked it
	if port == 0 {
		return "", "", fmt.Errorf("metrics.port is %s, and it was given no port: %w", s.m.Port, ft.ErrUnavailable)
	}
	return "tcp", net.JoinHostPort(host, strconv.Itoa(port+add)), nil
}

// scraper scrapes one instance, by turns: it begins, and looks for the answer until it is there. It is the reader of what
// it got.
type scraper struct {
	s       *scrape
	name    string // of the endpoint, for people
	id      ft.InstanceID
	request *http.Request
	seat    *seat

	// Of the rounds' goroutine.
	trip roundTrip
	open bool          // it is under way
	due  time.Time     // of the next scrape
	wait time.Duration // until the next look

	mu      sync.Mutex
	points  []points          // guarded by mu; by dimension
	missing map[string]string // guarded by mu; replaced as a whole
}

// points are the scrapes of one column that its value is made of.
type points struct {
	at    time.Time // of the last good one; zero before
	value float64
	kind  ft.Kind
	since time.Time // a counter's rate is over the time from here
	from  float64
	fresh bool // not read yet
}

// turn implements [taker]. The first scrape is at once and the others in the interval, with a random shift: instances that
// start together are not scraped together for ever.
func (r *scraper) turn(now time.Time) time.Time {
	if !r.open {
		every := max(r.s.m.Every.D(), time.Millisecond)
		switch {
		case r.due.IsZero():
			r.due = now.Add(every/2 + rand.N(every/2))
		case now.Sub(r.due) > every: // the machine was suspended
			r.due = now.Add(every)
		default:
			r.due = r.due.Add(every)
		}
		if r.s.ends.count(r.name) > 1 {
			r.mu.Lock()
			clear(r.points)
			r.mu.Unlock()
			return r.s.begin(r.due)
		}
		r.open, r.wait = true, firstLook
		if err := r.trip.begin(r.s.memory(), now.Add(r.s.m.Timeout.D())); err != nil {
			return r.end(nil, now, err)
		}
		return now.Add(r.wait)
	}
	x := &r.trip
	done, err := x.look(now, r.request)
	var sums []sum
	if done && err == nil {
		sums, err = r.s.sel.read(x.body())
		done = !errors.Is(err, io.ErrUnexpectedEOF) || x.ended
	}
	if done {
		return r.end(sums, x.at, err)
	}
	r.wait = min(2*r.wait, lastLook)
	return now.Add(min(r.wait, max(x.deadline.Sub(now), firstLook)))
}

// begin is when the scrape that is due then begins.
func (s *scrape) begin(due time.Time) time.Time {
	step := max(min(scrapesBegin, s.m.Every.D()/8), time.Millisecond)
	return s.epoch.Add((due.Sub(s.epoch) + step).Truncate(step)) // time's own Truncate would lose the monotonic clock
}

// memory is some for an answer.
func (s *scrape) memory() []byte {
	n := len(s.spare)
	if n == 0 {
		return nil
	}
	b := s.spare[n-1]
	s.spare = s.spare[:n-1]
	return b
}

// end takes what the scrape brought and gives when the next one begins.
func (r *scraper) end(sums []sum, at time.Time, err error) time.Time {
	r.close()
	if b := r.trip.answer; cap(b) > 0 && cap(b) <= spareAnswer && len(r.s.spare) < mostSpare {
		r.s.spare = append(r.s.spare, b)
	}
	r.trip.answer, r.open = nil, false
	missing := map[string]string{}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i, d := range r.s.dims {
		switch {
		case err != nil:
			missing[d.Name] = r.name + ": " + r.say(err)
		case sums[i].why != "":
			missing[d.Name] = r.name + ": " + sums[i].why
		default:
			if why := r.points[i].take(sums[i], at, longScrape*r.s.m.Every.D()); why != "" {
				missing[d.Name] = fmt.Sprintf("%s: its %s %s", r.name, r.s.m.Series[i].Metric, why)
			}
		}
	}
	r.missing = missing
	return r.s.begin(r.due)
}

// close implements [taker].
func (r *scraper) close() { r.trip.close() }

// say is the reason in few words.
func (r *scraper) say(err error) string {
	var timeout net.Error
	var errno unix.Errno
	switch {
	case errors.As(err, &timeout) && timeout.Timeout():
		return fmt.Sprintf("no whole answer within %s", r.s.m.Timeout)
	case errors.As(err, &errno):
		return errno.Error()
	}
	return err.Error()
}

// take adds a scrape, and says why nothing can be told from it.
func (p *points) take(s sum, at time.Time, longest time.Duration) (why string) {
	begins := p.at.IsZero() || p.kind != s.kind || at.Sub(p.at) > longest
	if s.kind == ft.Counter && !begins && s.value < p.value {
		begins, why = true, "ran backwards"
	}
	p.at, p.value, p.kind = at, s.value, s.kind
	if begins {
		p.since, p.from = at, s.value
	}
	p.fresh = s.kind == ft.Gauge || at.After(p.since)
	return why
}

// Read gives what was scraped since the last call; NaN where nothing was, and the sampler then repeats the last value
// for a while.
func (r *scraper) Read(_ time.Time, row []float64, _ []uint64) error {
	fill(row, math.NaN())
	if r.s.ends.count(r.name) > 1 {
		return nil
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	for i := range r.points {
		p := &r.points[i]
		switch {
		case !p.fresh:
			continue
		case p.kind == ft.Gauge:
			row[i] = p.value
		default:
			row[i] = (p.value - p.from) / p.at.Sub(p.since).Seconds()
			p.since, p.from = p.at, p.value
		}
		p.fresh = false
	}
	return nil
}

// Missing says what the last scrape did not bring, and why.
func (r *scraper) Missing() ft.Unavailable {
	if n := r.s.ends.count(r.name); n > 1 {
		u := ft.Unavailable{}
		for _, d := range r.s.dims {
			u[d.Name] = fmt.Sprintf("%s: %d instances have this one address, and nothing tells whose metrics these are: "+
				"each needs a port of its own (metrics.port: $PORT, or $PORT+N), or a pool of its own", r.name, n)
		}
		return u
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	return maps.Clone(r.missing)
}

// Close ends the scraping.
func (r *scraper) Close() error {
	r.s.rounds.leave(r.seat)
	r.s.ends.remove(r.name, r.id)
	return nil
}
