package telemetry

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestInheritance: what a parent's counters grew by, less what its ended children did as members.
func TestInheritance(t *testing.T) {
	type growth struct {
		Waited        usage
		Read, Written uint64
	}
	parent := func(waited usage, written uint64) *process {
		p := &process{pid: 1}
		p.now.waited, p.now.written = waited, written
		return p
	}
	gone := func(pid, parent int, own, waited usage, written uint64) *process {
		q := &process{pid: pid}
		q.now.gone = true
		q.last.parent, q.last.own, q.last.waited, q.last.written = parent, own, waited, written
		return q
	}
	use := func(n uint64) usage { return usage{minor: 10 * n, user: n} }
	for _, test := range []struct {
		name    string
		members []*process
		want    growth
	}{
		{"nothing ended", []*process{parent(usage{}, 7)}, growth{Written: 7}},
		{"a child that was never seen", []*process{parent(use(5), 7)}, growth{use(5), 0, 7}},
		{"a child did a little more before it ended", []*process{parent(use(52), 107), gone(2, 1, use(50), usage{}, 100)}, growth{use(2), 0, 7}},
		{"a child and its own", []*process{parent(use(90), 100), gone(2, 1, use(50), use(30), 100)}, growth{use(10), 0, 0}},
		{"a grandchild too", []*process{parent(use(90), 100), gone(2, 1, use(50), usage{}, 60), gone(3, 2, use(40), usage{}, 40)}, growth{}},
		{"nobody waited: the parent's own writing is its own", []*process{parent(usage{}, 30), gone(2, 1, use(50), usage{}, 100)}, growth{Written: 30}},
		{"one waited for, one not", []*process{parent(use(50), 130), gone(2, 1, use(50), usage{}, 100), gone(3, 1, use(50), usage{}, 20)}, growth{Written: 30}},
		{"a child of another", []*process{parent(use(50), 0), gone(2, 99, use(50), usage{}, 0)}, growth{Waited: use(50)}},
	} {
		t.Run(test.name, func(t *testing.T) {
			tree := &tree{members: test.members}
			var got growth
			got.Waited, got.Read, got.Written = tree.inherited(test.members[0])
			if diff := cmp.Diff(test.want, got, cmp.AllowUnexported(usage{})); diff != "" {
				t.Error(diff)
			}
		})
	}
}
