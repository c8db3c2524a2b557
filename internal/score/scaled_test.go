package score

import (
	"slices"
	"testing"

	ft "github.com/fettle-dev/fettle"
)

// What Scaled gives is what the judge of Run sees, row by row.
func TestScaledIsWhatIsJudged(t *testing.T) {
	m := Member{Name: "a", Columns: []string{"c1", "c2"}}
	for i := range 200 {
		row := []float64{1e6 + float64(i%17), float64(i % 5)}
		if i%20 == 0 {
			row[1] = 4000 // a long tail: its logarithm is judged
		}
		m.Train, m.Test = append(m.Train, row), append(m.Test, []float64{row[0] + 3, row[1]})
	}
	members := []Member{m}
	scaled, err := Scaled(members)
	if err != nil {
		t.Fatal(err)
	}
	cols, err := fit(nil, members)
	if err != nil {
		t.Fatal(err)
	}
	schema, err := cols.schema()
	if err != nil {
		t.Fatal(err)
	}
	f := &ft.Frame{Schema: schema}
	for _, at := range []int{-200, -1, 0, 199} {
		cols.frame(f, members, at, Every)
		if want := scaled[0].row(at); !slices.Equal(f.X, want) || want[0] == m.row(at)[0] {
			t.Errorf("row %d: judged is %v, scaled %v", at, f.X, want)
		}
	}
	for i := range schema.Len() {
		if d := schema.At(i); d.Role != ft.Response || d.Transform != ft.Identity {
			t.Errorf("column %s is %s, taken as %s", d.Name, d.Role, d.Transform)
		}
	}
}
