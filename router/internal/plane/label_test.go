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
	for _, c := range []struct {
		method, path string
		status       int
		want         string
	}{
		{"GET", "/", 200, "GET / 2xx"},
		{"GET", "/users/42", 200, "GET /users/{n} 2xx"},
		{"POST", "/users/42/orders/2024-05-01", 201, "POST /users/{n}/orders/{n} 2xx"},
		{"GET", "/o/123e4567-e89b-12d3-a456-426614174000", 500, "GET /o/{uuid} 5xx"},
		{"GET", "/blob/9f86d081884c7d65", 304, "GET /blob/{hex} 3xx"},
		{"GET", "/t/eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9", 200, "GET /t/{id} 2xx"},
		{"GET", "/v1/cafe", 200, "GET /v1/cafe 2xx"},
		{"PROPFIND", "/x", 200, "OTHER /x 2xx"},
		{"GET", "/wp-admin/setup.php", 404, "GET * 4xx"},
		{"GET", "/login", 403, "GET /login 4xx"},
		{"OPTIONS", "*", 200, "OPTIONS / 2xx"},
		{"GET", "/a b\n\"", 200, "GET /a?b?\" 2xx"},
		{"GET", "/" + strings.Repeat("a/", 200), 200, "GET " + strings.Repeat("/a", 60) + "/... 2xx"},
	} {
		if got := string(appendLabel(nil, c.method, c.path, c.status, 0)); got != c.want {
			t.Errorf("%s %s: got %q, want %q", c.method, c.path, got, c.want)
		}
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
	want := []string{"GET /item/{key} 2xx", "GET /item/{key}/reviews 2xx", "GET /items 2xx", "GET /item/ 2xx"}
	if got := l.names(); !slices.Equal(got, want) {
		t.Errorf("labels %q, want %q", got, want)
	}
}

func TestLabelsStayAsTheyWereFound(t *testing.T) {
	var l labels
	l.init([]string{"GET /first 2xx"})
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
	if len(names) != wire.Categories-1 || names[0] != "GET /first 2xx" {
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
	f.Add("GET", "/users/42/x", 200)
	f.Add("X", "", 999)
	f.Fuzz(func(t *testing.T, method, path string, status int) {
		if status < 100 || status > 999 {
			return
		}
		got := string(appendLabel(nil, method, path, status, 0))
		if len(got) > pathMost+40 || len(strings.Fields(got)) != 3 {
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
