package main

import (
	"context"
	"embed"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	ft "github.com/fettle-dev/fettle"
	"github.com/fettle-dev/fettle/internal/demo/app"
)

//go:embed apps
var sources embed.FS

// application is a program whose instances the bench spoils.
type application struct {
	name    string
	program string // that must be installed; none if empty
	lacks   []kind // scenarios that it has not
	rate    float64
	image   func(r *run) (ft.Image, error)
	plant   func(ctx context.Context, r *run, in instance, f kind, size float64) error
	mend    func(ctx context.Context, r *run, in instance, f kind) error // makes it as if f had not been
}

// instance is one of the pool's.
type instance struct {
	id         ft.InstanceID
	generation uint32
	addr       string
}

func applications() []application {
	return []application{
		{name: "demo", rate: 20, image: demoImage, plant: plantDemo, mend: mendDemo},
		{name: "gunicorn", program: "gunicorn", rate: 20, image: wsgiImage, plant: plantHTTP, mend: mendHTTP},
		{name: "node", program: "node", rate: 20, image: nodeImage, plant: plantHTTP, mend: mendHTTP},
		{name: "redis", program: "redis-server", rate: 50, lacks: []kind{lock, dependency}, image: redisImage, plant: plantRedis, mend: mendRedis},
	}
}

func (a *application) isHTTP() bool { return a.name != "redis" }

// The faults' usual sizes. A seed makes them up to a quarter smaller or larger.
const (
	leakRate = 1.5e6 // bytes a second
	lockHeld = 0.03  // seconds for each request
	spinning = 0.4   // cores, of one
	spinAll  = 0.12  // cores, of each of all: the machine has few
	opening  = 8.0   // descriptors a second
	busier   = 2.2   // times the usual load
	calmer   = 0.4
	slower   = 0.04 // seconds until the backend answers
	heavier  = 24e3 // bytes of a request's body
)

func (s scenario) usual() float64 {
	switch s.kind {
	case leak:
		return leakRate
	case lock:
		return lockHeld
	case spin:
		if s.all {
			return spinAll
		}
		return spinning
	case descriptors:
		return opening
	case loadUp:
		return busier
	case loadDown:
		return calmer
	case dependency:
		return slower
	case payloads:
		return heavier
	case control, routes, forget:
	}
	return 1
}

func demoImage(r *run) (ft.Image, error) {
	dir := filepath.Join(r.temp, "image")
	if err := os.Mkdir(dir, 0o750); err != nil {
		return ft.Image{}, err
	}
	if err := app.WriteImage(dir, r.seed); err != nil {
		return ft.Image{}, err
	}
	var err error
	if r.console, err = app.Listen(filepath.Join(r.temp, "console.sock")); err != nil {
		return ft.Image{}, err
	}
	return ft.Image{Dir: dir, Command: []string{
		r.exe, "internal-demo-app", "--control", filepath.Join(r.temp, "console.sock"), "--backend", "http://" + r.backend.addr,
	}}, nil
}

func plantDemo(ctx context.Context, r *run, in instance, f kind, size float64) error {
	p := r.console.Process(string(in.id))
	if p == nil {
		return fmt.Errorf("%s has no process", in.id)
	}
	c := app.Command{Rate: size}
	switch f {
	case leak:
		c.Do = app.Leak
	case lock:
		c.Do, c.Delay = app.SlowLock, time.Duration(size*float64(time.Second))
	case spin:
		c.Do = app.Spin
	case descriptors:
		c.Do = app.Files
	case forget:
		c.Do = app.Forget
	default:
		c.Do = app.Mend
	}
	_, err := p.Do(ctx, c)
	return err
}

func mendDemo(ctx context.Context, r *run, in instance, _ kind) error {
	return plantDemo(ctx, r, in, control, 0)
}

// embedded copies an application's files out.
func embedded(r *run, name string) (string, error) {
	from, err := fs.Sub(sources, "apps/"+name)
	if err != nil {
		return "", err
	}
	dir := filepath.Join(r.temp, "image")
	return dir, os.CopyFS(dir, from)
}

func wsgiImage(r *run) (ft.Image, error) {
	dir, err := embedded(r, "wsgi")
	return ft.Image{
		Dir: dir, Env: map[string]string{"BACKEND": r.backend.addr},
		Command: []string{
			"gunicorn", "--workers", "1", "--worker-class", "gthread", "--threads", "4", "--keep-alive", "75", "--timeout", "300",
			"--bind", "127.0.0.1:$PORT", "--chdir", "$FETTLE_DATA", "app:app",
		},
	}, err
}

func nodeImage(r *run) (ft.Image, error) {
	dir, err := embedded(r, "node")
	return ft.Image{
		Dir: dir, Env: map[string]string{"BACKEND": r.backend.addr}, Command: []string{"node", "--expose-gc", "server.js"},
	}, err
}

// words of the fault routes.
var words = map[kind]string{control: "mend", leak: "leak", lock: "lock", spin: "spin", descriptors: "files", forget: "forget"}

// plantHTTP asks the instance itself, past the router.
func plantHTTP(ctx context.Context, _ *run, in instance, f kind, size float64) error {
	q := url.Values{"do": {words[f]}, "rate": {strconv.FormatFloat(size, 'g', -1, 64)}}
	req, err := http.NewRequestWithContext(ctx, http.MethodPost, "http://"+in.addr+"/fault?"+q.Encode(), http.NoBody)
	if err != nil {
		return err
	}
	req.Close = true
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("fault %s: %s", f, res.Status)
	}
	return nil
}

func mendHTTP(ctx context.Context, r *run, in instance, _ kind) error {
	return plantHTTP(ctx, r, in, control, 0)
}

func redisImage(*run) (ft.Image, error) {
	return ft.Image{Command: strings.Fields(
		`redis-server --port $PORT --bind 127.0.0.1 --dir $FETTLE_DATA --maxclients 4000 --save "" --appendonly no`,
	)}, nil
}

// plantRedis begins what goes on until it is mended: all of it by commands of a client, as an operator's mistake would be.
func plantRedis(ctx context.Context, r *run, in instance, f kind, size float64) error {
	step, every := redisFault(f, size)
	running, cancel := context.WithCancel(ctx)
	c, err := dialRedis(ctx, in.addr)
	if err != nil {
		cancel()
		return err
	}
	if f == forget {
		defer cancel()
		defer c.close()
		return c.do("FLUSHALL")
	}
	done := make(chan struct{})
	r.ends[in.id] = func() { cancel(); <-done }
	go func() {
		defer close(done)
		defer c.close()
		var idle []*redisConn
		defer func() {
			for _, c := range idle {
				c.close()
			}
		}()
		tick := time.NewTicker(every)
		defer tick.Stop()
		for {
			select {
			case <-running.Done():
				return
			case <-tick.C:
			}
			if step == nil {
				if c, err := dialRedis(running, in.addr); err == nil {
					idle = append(idle, c)
				}
				continue
			}
			_ = c.do(step...) // a fault that fails is one that the judge does not find
		}
	}()
	return nil
}

// mendRedis ends what goes on, and gives the instance its usual data where it has others.
func mendRedis(ctx context.Context, r *run, in instance, f kind) error {
	if end := r.ends[in.id]; end != nil {
		end()
		delete(r.ends, in.id)
	}
	switch f {
	case leak, forget, payloads:
		return fillRedis(ctx, in.addr)
	default:
		return nil
	}
}

// redisFault is a command and how often it is given; none opens a connection instead.
func redisFault(f kind, size float64) ([]string, time.Duration) {
	const once, often = time.Second, 200 * time.Millisecond
	switch f {
	case leak:
		return []string{"EVAL", "for i=1,tonumber(ARGV[1]) do redis.call('SET','leak:'..redis.call('INCR','leaks'),string.rep('x',4000)) end", "0", fmt.Sprint(int(size / 4000))}, once
	case spin: // two hundred million rounds take about a second
		rounds := int(size * 2e8 * often.Seconds())
		return []string{"EVAL", "local x=0 for i=1,tonumber(ARGV[1]) do x=x+i end", "0", fmt.Sprint(rounds)}, often
	default:
		return nil, time.Duration(float64(time.Second) / size)
	}
}
