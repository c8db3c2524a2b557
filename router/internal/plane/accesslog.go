package plane

import (
	"log/slog"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"time"
	"unicode/utf8"
)

// logMost bounds the lines that wait for the disk: what does not fit is dropped and counted.
const logMost = 1 << 20

// accessLog writes one JSON object a line for each request, each second.
type accessLog struct {
	on      atomic.Bool
	dropped atomic.Uint64
	log     *slog.Logger

	mu   sync.Mutex
	buf  []byte
	path string
	file *os.File
	quit chan struct{}
	done chan struct{}
}

func (a *accessLog) init(log *slog.Logger) { a.log = log }

// open writes to path from now on: "-" is the standard output, none if empty. A file that cannot be opened is said
// once and does without.
func (a *accessLog) open(path string) {
	a.mu.Lock()
	same := path == a.path
	a.mu.Unlock()
	if same {
		return
	}
	a.close()
	if path == "" {
		return
	}
	file := os.Stdout
	if path != "-" {
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_CREATE|os.O_APPEND, 0o640)
		if err != nil {
			a.log.Error("no access log", "err", err)
			return
		}
		file = f
	}
	a.mu.Lock()
	a.path, a.file = path, file
	a.quit, a.done = make(chan struct{}), make(chan struct{})
	go a.run(file, a.quit, a.done)
	a.mu.Unlock()
	a.on.Store(true)
}

func (a *accessLog) run(file *os.File, quit, done chan struct{}) {
	defer close(done)
	t := time.NewTicker(time.Second)
	defer t.Stop()
	failing := false
	var out []byte
	flush := func() {
		a.mu.Lock()
		out, a.buf = a.buf, out[:0]
		a.mu.Unlock()
		if len(out) == 0 {
			return
		}
		_, err := file.Write(out)
		if err != nil && !failing {
			a.log.Error("access log is not written", "err", err)
		}
		failing = err != nil
	}
	for {
		select {
		case <-t.C:
			flush()
		case <-quit:
			flush()
			return
		}
	}
}

func (a *accessLog) close() {
	a.on.Store(false)
	a.mu.Lock()
	quit, done, file := a.quit, a.done, a.file
	a.quit, a.done, a.file, a.path = nil, nil, nil, ""
	a.mu.Unlock()
	if quit == nil {
		return
	}
	close(quit)
	<-done
	if file != os.Stdout {
		file.Close()
	}
}

func (a *accessLog) line(x *exchange) {
	if !a.on.Load() {
		return
	}
	now := time.Now()
	a.mu.Lock()
	defer a.mu.Unlock()
	if len(a.buf) > logMost-4096 {
		a.dropped.Add(1)
		return
	}
	b := append(a.buf, `{"time":"`...)
	b = x.start.UTC().AppendFormat(b, `2006-01-02T15:04:05.000Z"`)
	b = appendField(b, "pool", string(x.p.name))
	b = appendField(b, "client", x.r.RemoteAddr)
	b = appendField(b, "method", x.r.Method)
	b = appendField(b, "host", x.r.Host)
	b = appendField(b, "uri", x.r.RequestURI)
	b = append(b, `,"status":`...)
	b = strconv.AppendInt(b, int64(x.status), 10)
	b = append(b, `,"bytes":`...)
	b = strconv.AppendInt(b, x.sent, 10)
	b = append(b, `,"seconds":`...)
	b = strconv.AppendFloat(b, now.Sub(x.start).Seconds(), 'f', 6, 64)
	b = appendField(b, "instance", x.instance)
	if x.retried > 0 {
		b = append(b, `,"retried":`...)
		b = strconv.AppendInt(b, int64(x.retried), 10)
	}
	if x.end != answered {
		b = appendField(b, "error", x.end.String())
	}
	a.buf = append(b, "}\n"...)
}

// fieldMost bounds the bytes of one field in the log.
const fieldMost = 1024

func appendField(b []byte, name, value string) []byte {
	b = append(b, `,"`...)
	b = append(b, name...)
	b = append(b, `":"`...)
	if len(value) > fieldMost {
		value = value[:fieldMost]
	}
	const hex = "0123456789abcdef"
	for i := 0; i < len(value); {
		c := value[i]
		r, n := utf8.DecodeRuneInString(value[i:])
		switch {
		case c == '"' || c == '\\':
			b = append(b, '\\', c)
		case c < ' ' || c == 0x7f:
			b = append(b, `\u00`...)
			b = append(b, hex[c>>4], hex[c&15])
		case r == utf8.RuneError && n == 1:
			b = append(b, `\ufffd`...)
		default:
			b = append(b, value[i:i+n]...)
		}
		i += n
	}
	return append(b, '"')
}
