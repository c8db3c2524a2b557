package plane

import (
	"maps"
	"net/http"
	"slices"
	"sync"
	"sync/atomic"

	"github.com/fettle-dev/fettle/router/internal/wire"
)

const (
	other    = wire.Categories - 1 // the category of all routes for which there is no label left
	pathMost = 120                 // bytes of a templated path; the rest is folded
)

// labels names the routes that requests take: "GET /users/{n}". They are found in order, never change, and are one less
// than the categories at most; what comes later is the last category. Reading takes no lock.
//
// A route's name says nothing of how the request is answered, so that an instance that begins to fail does not look
// like other work. That includes 404: a path that the application once answered otherwise keeps its route. Only paths
// that were never known to it are folded into one: scanners would otherwise use the labels up.
type labels struct {
	known atomic.Pointer[map[string]int]
	mu    sync.Mutex
	list  []string
}

func (l *labels) init(names []string) {
	l.list = slices.Clone(names)
	m := make(map[string]int, len(names))
	for i, n := range names {
		m[n] = i
	}
	l.known.Store(&m)
}

func (l *labels) names() []string {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.list)
}

// know is the category of a request before it is answered; false where its route has not been seen yet. The key is the
// path segment that is the routing key, counted from 1; 0 is none.
func (l *labels) know(method, path string, key int) (int, bool) {
	var room [pathMost + 40]byte
	b := appendLabel(room[:0], method, path, key)
	i, ok := (*l.known.Load())[string(b)]
	return i, ok
}

// find is the category of an answered request.
func (l *labels) find(method, path string, status, key int) int {
	var room [pathMost + 40]byte
	b := appendLabel(room[:0], method, path, key)
	known := *l.known.Load()
	if i, ok := known[string(b)]; ok {
		return i
	}
	if status == http.StatusNotFound || status == http.StatusMethodNotAllowed {
		b = append(appendMethod(room[:0], method), '*')
		if i, ok := known[string(b)]; ok {
			return i
		}
	}
	if len(known) >= other {
		return other
	}
	return l.add(string(b))
}

func (l *labels) add(name string) int {
	l.mu.Lock()
	defer l.mu.Unlock()
	old := *l.known.Load()
	if i, ok := old[name]; ok {
		return i
	}
	if len(l.list) >= other {
		return other
	}
	next := make(map[string]int, len(old)+1)
	maps.Copy(next, old)
	next[name] = len(l.list)
	l.list = append(l.list, name)
	l.known.Store(&next)
	return next[name]
}

// appendLabel writes method and templated path.
func appendLabel(b []byte, method, path string, key int) []byte {
	return appendTemplate(appendMethod(b, method), path, key)
}

func appendMethod(b []byte, method string) []byte {
	switch method {
	case http.MethodGet, http.MethodHead, http.MethodPost, http.MethodPut, http.MethodPatch, http.MethodDelete, http.MethodOptions:
		b = append(b, method...)
	default:
		b = append(b, "OTHER"...)
	}
	return append(b, ' ')
}

// appendTemplate folds what varies in a path: numbers to {n}, UUIDs to {uuid}, hexadecimal strings to {hex}, other
// long tokens to {id}, and the segment that is the routing key to {key}.
func appendTemplate(b []byte, path string, key int) []byte {
	if path == "" || path[0] != '/' {
		return append(b, '/') // OPTIONS *, absolute URLs without a path
	}
	begin := len(b)
	for nth := 1; len(path) > 0; nth++ {
		path = path[1:]
		n := 0
		for n < len(path) && path[n] != '/' {
			n++
		}
		seg := fold(path[:n])
		if nth == key && n > 0 {
			seg = "{key}"
		}
		if len(b)-begin+1+len(seg) > pathMost {
			return append(b, "/..."...)
		}
		b = append(b, '/')
		for _, c := range []byte(seg) {
			if c <= ' ' || c >= 0x7f {
				c = '?'
			}
			b = append(b, c)
		}
		path = path[n:]
	}
	return b
}

func fold(s string) string {
	digits, hexes, dashes, others := 0, 0, 0, 0
	for i := range len(s) {
		switch c := s[i]; {
		case c >= '0' && c <= '9':
			digits++
		case c >= 'a' && c <= 'f' || c >= 'A' && c <= 'F':
			hexes++
		case c == '-':
			dashes++
		default:
			others++
		}
	}
	switch {
	case digits > 0 && hexes+others == 0:
		return "{n}"
	case len(s) == 36 && dashes == 4 && others == 0 && s[8] == '-' && s[13] == '-' && s[18] == '-' && s[23] == '-':
		return "{uuid}"
	case len(s) >= 8 && digits > 0 && dashes == 0 && others == 0:
		return "{hex}"
	case len(s) >= 24, len(s) >= 12 && digits >= 4:
		return "{id}"
	default:
		return s
	}
}
