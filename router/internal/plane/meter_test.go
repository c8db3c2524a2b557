package plane

import (
	"io"
	"net/http"
	"slices"
	"sync/atomic"
	"testing"

	"github.com/fettle-dev/fettle/router/internal/wire"
)

// mix is what one member was asked for and how it answered, since last.
func (r *rig) mix(i int, last *wire.Counters) (routes map[string]uint64, status [wire.Statuses]uint64) {
	r.t.Helper()
	var c wire.Counters
	r.Counters(&c)
	m := &c.Members[i]
	was := wire.MemberCounters{}
	if len(last.Members) > i {
		was = last.Members[i]
	}
	routes = map[string]uint64{}
	for j, n := range m.Routes {
		if n -= was.Routes[j]; n > 0 {
			routes[c.Labels[j]] = n
		}
	}
	for j := range status {
		status[j] = m.Status[j] - was.Status[j]
	}
	*last = c
	return routes, status
}

// TestAFailingInstanceIsAskedForTheSameWork: errors, missing pages, broken connections and hanging requests change how
// it answers, not what it is asked for.
func TestAFailingInstanceIsAskedForTheSameWork(t *testing.T) {
	r := newRig(t, nil)
	var mode atomic.Value
	mode.Store("well")
	gate, arrived := make(chan struct{}), make(chan struct{}, 1)
	ep, _ := instance(t, func(w http.ResponseWriter, q *http.Request) {
		switch mode.Load() {
		case "well":
		case "lost":
			http.NotFound(w, q)
			return
		case "broken":
			http.Error(w, "no", http.StatusInternalServerError)
			return
		case "dead":
			panic(http.ErrAbortHandler)
		case "cut":
			w.Header().Set("Content-Length", "1000")
			_, _ = io.WriteString(w, "half")
			_ = http.NewResponseController(w).Flush()
			panic(http.ErrAbortHandler)
		case "hangs":
			arrived <- struct{}{}
			<-gate
		}
		_, _ = io.WriteString(w, "ok")
	})
	r.admit(ep)
	// POST, so that nothing is sent twice.
	ask := func(path string) {
		resp, err := r.client.Post(r.url+path, "text/plain", nil)
		if err != nil {
			return // broken off
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
	}
	round := func() {
		for range 3 {
			ask("/users/1")
		}
		ask("/orders")
	}
	var last wire.Counters
	same := func(what string, want [wire.Statuses]uint64) {
		t.Helper()
		routes, status := r.mix(0, &last)
		if len(routes) != 2 || routes["POST /users/{n}"] != 3 || routes["POST /orders"] != 1 || status != want {
			t.Errorf("%s: routes %v, status %v, want %v", what, routes, status, want)
		}
	}
	for _, c := range []struct {
		mode string
		want [wire.Statuses]uint64
	}{
		{"well", [wire.Statuses]uint64{2: 4}},
		{"broken", [wire.Statuses]uint64{5: 4}},
		{"lost", [wire.Statuses]uint64{4: 4}},
		{"dead", [wire.Statuses]uint64{0: 4}},
		{"cut", [wire.Statuses]uint64{0: 4}},
		{"well", [wire.Statuses]uint64{2: 4}},
	} {
		mode.Store(c.mode)
		round()
		same(c.mode, c.want)
	}
	mode.Store("hangs")
	done := make(chan struct{})
	go func() { defer close(done); ask("/users/9") }()
	<-arrived
	if routes, status := r.mix(0, &last); routes["POST /users/{n}"] != 1 || status != [wire.Statuses]uint64{} {
		t.Errorf("while it hangs: routes %v, status %v", routes, status)
	}
	close(gate)
	<-done
	s := r.Stats().Members[0]
	if s.Status["2xx"] != 9 || s.Status["5xx"] != 4 || s.Status["4xx"] != 4 || s.Status["none"] != 8 {
		t.Errorf("in all %v", s.Status)
	}
}

// TestARetryIsNoWorkOfTheOther: what one member could not do and another did counts as asked of the first.
func TestARetryIsNoWorkOfTheOther(t *testing.T) {
	r := newRig(t, nil)
	var dead atomic.Bool
	bad, _ := instance(t, func(w http.ResponseWriter, _ *http.Request) {
		if dead.Load() {
			panic(http.ErrAbortHandler)
		}
		_, _ = io.WriteString(w, "ok")
	})
	good, _ := instance(t, ok)
	r.admit(bad)
	for range 4 {
		text(t, r.get("/x")) // the route is known from here
	}
	r.admit(good)
	var a, b wire.Counters
	r.mix(0, &a)
	r.mix(1, &b)
	dead.Store(true)
	for range 6 {
		text(t, r.get("/x"))
	}
	of, lost := r.mix(0, &a)
	other, _ := r.mix(1, &b)
	if of["GET /x"]+other["GET /x"] != 6 || of["GET /x"] == 0 || lost[0] == 0 {
		t.Errorf("six requests count as %v of one, lost %v, and %v of the other", of, lost, other)
	}
	if labels := a.Labels; !slices.Equal(labels, []string{"GET /x"}) {
		t.Errorf("routes %q", labels)
	}
}
