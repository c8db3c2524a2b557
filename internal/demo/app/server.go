package app

import (
	"encoding/json"
	"io"
	"net/http"
	"runtime"
	"sync/atomic"
	"time"
)

// server is one running application.
type server struct {
	dir        string
	store      atomic.Pointer[store]
	posts      counts
	leak       leak
	waste      waste
	backend    string      // asked before each item is answered; none if empty
	hung       atomic.Bool // the fault: nothing is answered any more
	softResets atomic.Int64
	reloads    atomic.Int64
}

func newServer(dir string) (*server, error) {
	d, err := load(dir, nil)
	if err != nil {
		return nil, err
	}
	s := &server{dir: dir}
	s.store.Store(newStore(d))
	return s, nil
}

// warm does in advance what would make the first minute differ from the others.
func (s *server) warm() {
	st := s.store.Load()
	d := st.data()
	for i := range min(d.conf.Cache, len(d.items)) {
		st.cache.put(d.items[i].Key, render(d.items[i], 1))
	}
	breathe(d)
}

// breathe lets the heap grow to the size that it has between two collections.
func breathe(d *dataset) {
	const collections, most = 4, 50000
	var m runtime.MemStats
	runtime.ReadMemStats(&m)
	until := m.NumGC + collections
	for i := 0; i < most && m.NumGC < until; i++ {
		render(d.items[i%len(d.items)], 1)
		if i%500 == 0 {
			runtime.ReadMemStats(&m)
		}
	}
}

// handler serves all routes; while the application hangs they accept and never answer.
func (s *server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /item/{key}", func(w http.ResponseWriter, r *http.Request) {
		s.ask(r.PathValue("key"))
		b, ok := s.store.Load().item(r.PathValue("key"))
		answer(w, b, ok)
	})
	mux.HandleFunc("POST /item/{key}", s.note)
	mux.HandleFunc("GET /search", func(w http.ResponseWriter, r *http.Request) {
		answer(w, s.store.Load().search(r.FormValue("q")), true)
	})
	mux.HandleFunc("GET /report/{key}", func(w http.ResponseWriter, r *http.Request) {
		b, ok := s.store.Load().report(r.PathValue("key"))
		answer(w, b, ok)
	})
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusNoContent) })
	mux.HandleFunc("POST /admin/reload", s.reload)
	mux.HandleFunc("POST /admin/soft-reset", s.softReset)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if s.hung.Load() {
			select {}
		}
		mux.ServeHTTP(w, r)
	})
}

// ask waits for the backend's answer. What it says does not matter.
func (s *server) ask(key string) {
	if s.backend == "" {
		return
	}
	res, err := http.Get(s.backend + "/" + key)
	if err != nil {
		return
	}
	_, _ = io.Copy(io.Discard, res.Body) // so that the connection is used again
	_ = res.Body.Close()
}

func answer(w http.ResponseWriter, b []byte, found bool) {
	w.Header().Set("Content-Type", "application/json")
	if !found {
		w.WriteHeader(http.StatusNotFound)
		b = []byte(`{"error":"no such item"}`)
	}
	_, _ = w.Write(b) // the client went away: nobody to tell
}

// note counts a POST on an item.
func (s *server) note(w http.ResponseWriter, r *http.Request) {
	var body struct {
		Note string `json:"note"`
	}
	if err := json.NewDecoder(io.LimitReader(r.Body, 64<<10)).Decode(&body); err != nil {
		http.Error(w, "the body is no note: "+err.Error(), http.StatusBadRequest)
		return
	}
	st := s.store.Load()
	d := st.data()
	key := r.PathValue("key")
	if _, ok := d.index[key]; !ok {
		answer(w, nil, false)
		return
	}
	hash(body.Note, 4*d.conf.Rounds)
	st.locked(func() { st.cache.drop(key) })
	answer(w, encode(map[string]any{"key": key, "notes": s.posts.add(key)}), true)
}

// reload takes data and configuration from the data directory again and keeps lock and cache.
func (s *server) reload(w http.ResponseWriter, _ *http.Request) {
	d, err := load(s.dir, s.store.Load().data())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.store.Load().loaded.Store(d)
	s.reloads.Add(1)
	w.WriteHeader(http.StatusNoContent)
}

// softReset makes everything anew but the state: requests in flight finish on the old store.
func (s *server) softReset(w http.ResponseWriter, _ *http.Request) {
	d, err := load(s.dir, s.store.Load().data())
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	s.store.Store(newStore(d))
	s.softResets.Add(1)
	w.WriteHeader(http.StatusNoContent)
}

// plant carries a command out.
func (s *server) plant(c Command) {
	switch c.Do {
	case Leak:
		s.leak.start(c.Rate)
	case SlowLock:
		s.store.Load().slow.Store(int64(c.Delay))
	case Spin:
		s.waste.spin(c.Rate)
	case Files:
		s.waste.open(c.Rate)
	case Forget:
		s.store.Load().forgets.Store(true)
	case Hang:
		s.hung.Store(true)
	case Mend:
		if s.leak.mend() {
			breathe(s.store.Load().data())
		}
		s.waste.mend()
		s.store.Load().slow.Store(0)
		s.store.Load().forgets.Store(false)
		s.hung.Store(false)
	case Ask:
	}
}

func (s *server) state() State {
	return State{
		Posts: s.posts.all(), SoftResets: int(s.softResets.Load()), Reloads: int(s.reloads.Load()),
		Leaked: s.leak.total(), Slow: time.Duration(s.store.Load().slow.Load()), Hung: s.hung.Load(),
	}
}
