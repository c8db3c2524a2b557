package plane

import (
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/fettle-dev/fettle/router/internal/wire"
)

func TestWhatVariesInAPathIsFolded(t *testing.T) {
	for _, c := range []struct{ method, path, want string }{
		{"GET", "/", "GET /"},
		{"GET", "/users/42", "GET /users/{n}"},
		{"POST", "/users/42/orders/2024-05-01", "POST /users/{n}/orders/{n}"},
		{"GET", "/o/123e4567-e89b-12d3-a456-426614174000", "GET /o/{uuid}"},
		{"GET", "/blob/9f86d081884c7d65", "GET /blob/{hex}"},
		{"GET", "/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", "GET /t/{id}"},
		{"GET", "/v1/cafe", "GET /v1/cafe"},
		{"PROPFIND", "/x", "OTHER /x"},
		{"OPTIONS", "*", "OPTIONS /"},
		{"GET", "/a b\n\"", "GET /a?b?\""},
		{"GET", "/" + strings.Repeat("a/", 200), "GET " + strings.Repeat("/a", 60) + "/..."},
	} {
		if got := string(appendLabel(nil, c.method, c.path, 0)); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.method, c.path, got, c.want)
		}
	}
}

// A route keeps its name whatever the answer is, once the application knew it: an instance that loses its data, or
// fails, is asked for the same work. Paths that were never known are one route for each method.
func TestRoutesDoNotDependOnTheAnswer(t *testing.T) {
	var l labels
	l.init(nil)
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/users/1", 200, "GET /users/{n}"},
		{"GET", "/users/2", 404, "GET /users/{n}"},
		{"GET", "/users/3", 500, "GET /users/{n}"},
		{"GET", "/users/4", 405, "GET /users/{n}"},
		{"POST", "/users/4", 405, "POST *"},
		{"GET", "/wp-admin/setup.php", 404, "GET *"},
		{"GET", "/.git/config", 404, "GET *"},
		{"GET", "/login", 403, "GET /login"},
		{"GET", "/late", 404, "GET *"},
		{"GET", "/late", 200, "GET /late"},
		{"GET", "/late", 404, "GET /late"},
	} {
		at := l.find(c.method, c.path, c.status, 0)
		if got := l.names()[at]; got != c.want {
			t.Errorf("%s %s answered with %d is %q, want %q", c.method, c.path, c.status, got, c.want)
		}
	}
	for range 2 {
		for i := range 3 * wire.Categories {
			l.find("GET", fmt.Sprintf("/scan/%c%c", 'g'+i%20, 'g'+i/20), 404, 0)
		}
	}
	if n := len(l.names()); n != 5 {
		t.Errorf("a scanner made routes: %q", l.names())
	}
	if _, known := l.know("GET", "/users/7", 0); !known {
		t.Error("a route that was seen is not known before the answer")
	}
	if _, known := l.know("GET", "/new", 0); known {
		t.Error("a route that was never seen is known")
	}
}

// TestTheRoutingKeyIsNoRoute: whatever keys look like, they use up no labels.
func TestTheRoutingKeyIsNoRoute(t *testing.T) {
	var l labels
	l.init(nil)
	for _, key := range []string{"k0001", "blue-shoe", "42", "x"} {
		l.find("GET", "/item/"+key, 200, 2)
		l.find("GET", "/item/"+key+"/reviews", 200, 2)
		l.find("GET", "/items", 200, 2)
		l.find("GET", "/item/", 200, 2)
	}
	want := []string{"GET /item/{key}", "GET /item/{key}/reviews", "GET /items", "GET /item/"}
	if got := l.names(); !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

func TestLabelsStayAsTheyWereFound(t *testing.T) {
	var l labels
	l.init([]string{"GET /first"})
	var wg sync.WaitGroup
	for w := range 4 {
		wg.Go(func() {
			for i := range 100 {
				l.find("GET", fmt.Sprintf("/%c%c", 'a'+(i+w)%26, 'a'+i%26), 200, 0)
			}
		})
	}
	wg.Wait()
	names := l.names()
	if len(names) != wire.Categories-1 || names[0] != "GET /first" {
		t.Fatalf("%d labels: %v", len(names), names)
	}
	for i, n := range names[1:] {
		if got := l.find("GET", strings.Fields(n)[1], 200, 0); got != i+1 {
			t.Errorf("%s is %d, was %d", n, got, i+1)
		}
	}
	if got := l.find("GET", "/new", 200, 0); got != other {
		t.Errorf("a route too many is %d", got)
	}
}

func FuzzTemplate(f *testing.F) {
	f.Add("GET", "/users/42/x")
	f.Add("X", "")
	f.Fuzz(func(t *testing.T, method, path string) {
		got := string(appendLabel(nil, method, path, 0))
		if len(got) > pathMost+40 || len(strings.Fields(got)) != 2 {
			t.Fatalf("%q", got)
		}
		for _, c := range []byte(got) {
			if c < ' ' || c >= 0x7f {
				t.Fatalf("%q", got)
			}
		}
		// Folding what is folded changes nothing.
		tpl := string(appendTemplate(nil, path, 0))
		if again := string(appendTemplate(nil, tpl, 0)); again != tpl && !strings.Contains(tpl, "...") {
			t.Fatalf("%q becomes %q", tpl, again)
		}
	})
}
