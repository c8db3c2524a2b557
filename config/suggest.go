package config

import (
	"reflect"
	"strings"

	ft "github.com/fettle-dev/fettle"
)

// nearest is the candidate that a person most likely meant; "" when none is near. Letter case, dashes and underscores
// do not count.
func nearest(word string, candidates []string) string {
	return Nearest(word, candidates, max(2, len(word)/3))
}

// Nearest is the candidate that a person most likely meant, at most so many slips of the pen away; "" when none is.
// Letter case, dashes and underscores do not count.
func Nearest(word string, candidates []string, most int) string {
	best, least := "", most+1
	plain := squash(word)
	for _, c := range candidates {
		d := distance(plain, squash(c))
		if d < least && d < len(c) {
			best, least = c, d
		}
	}
	return best
}

var squasher = strings.NewReplacer("-", "", "_", "", " ", "")

func squash(s string) string { return squasher.Replace(strings.ToLower(s)) }

// distance is the optimal string alignment distance: insertions, deletions, substitutions, and swaps of neighbours.
// See Boytsov, "Indexing methods for approximate dictionary searching", ACM JEA 16 (2011), section 2.
func distance(a, b string) int {
	x, y := []rune(a), []rune(b)
	if len(x) > 64 || len(y) > 64 {
		return 64 // no key is that long
	}
	older, old, row := make([]int, len(y)+1), make([]int, len(y)+1), make([]int, len(y)+1)
	for j := range old {
		old[j] = j
	}
	for i := range x {
		row[0] = i + 1
		for j := range y {
			cost := 1
			if x[i] == y[j] {
				cost = 0
			}
			row[j+1] = min(old[j+1]+1, row[j]+1, old[j]+cost)
			if i > 0 && j > 0 && x[i] == y[j-1] && x[i-1] == y[j] {
				row[j+1] = min(row[j+1], older[j-1]+1)
			}
		}
		older, old, row = old, row, older
	}
	return old[len(y)]
}

// elsewhere names the places in a pool file that know a key: "size.min", at most three, the shallowest first.
func elsewhere(key string) []string {
	type at struct {
		path string
		t    reflect.Type
	}
	var found []string
	seen := map[reflect.Type]bool{}
	for queue := []at{{"", reflect.TypeFor[ft.Pool]()}}; len(queue) > 0 && len(found) < 3; queue = queue[1:] {
		for _, f := range fieldsOf(queue[0].t) {
			path := strings.TrimPrefix(queue[0].path+"."+f.name, ".")
			if f.name == key {
				found = append(found, path)
			}
			if t := structOf(f.typ); t != nil && !seen[t] {
				seen[t] = true
				queue = append(queue, at{path, t})
			}
		}
	}
	return found[:min(len(found), 3)]
}

// structOf is the struct that a field holds, by itself, a pointer or a list; nil if it holds none.
func structOf(t reflect.Type) reflect.Type {
	for t.Kind() == reflect.Pointer || t.Kind() == reflect.Slice {
		t = t.Elem()
	}
	if t.Kind() == reflect.Struct {
		return t
	}
	return nil
}
